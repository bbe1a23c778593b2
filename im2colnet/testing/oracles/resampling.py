"""Layers that change the number of pixels, a pixel at a time."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from im2colnet.host import np
from im2colnet.testing.oracles.arrays import floats
from im2colnet.testing.oracles.windows import pair


def _cubic(d: float, a: float) -> float:
    """Weight of cubic convolution at a distance (Keys 1981)."""
    d = abs(d)
    if d <= 1:
        return (a + 2) * d**3 - (a + 3) * d**2 + 1
    return a * d**3 - 5 * a * d**2 + 8 * a * d - 4 * a if d < 2 else 0.0


def _around(
    place: float, n: int, reach: float, weight: Callable[[float], float], inside_alone: bool = False, mean: bool = False
) -> list[tuple[int, float]]:
    """Return the pixels around a place and their weights; the outermost pixels stand for all places outside."""
    taps = [j for j in range(math.floor(place - reach) - 1, math.ceil(place + reach) + 2) if abs(j - place) < reach]
    if inside_alone:
        taps = [j for j in taps if 0 <= j < n]
    found = [(min(max(j, 0), n - 1), weight(j - place)) for j in taps]
    total = math.fsum(w for _, w in found) if mean or inside_alone else 1.0
    return [(j, w / total) for j, w in found]


def _sources(n: int, out: int, apart: float, mode: str, align_corners: bool) -> list[list[tuple[int, float]]]:
    """Return for each output along an axis the inputs from which it is computed, and their weights."""
    found = []
    for i in range(out):
        if mode == "nearest":
            found.append([(min(math.floor(i * apart + 1e-9), n - 1), 1.0)])
            continue
        place = i * (n - 1) / (out - 1) if align_corners and out > 1 else 0.0
        if not align_corners:
            place = (i + 0.5) * apart - 0.5
        if mode == "bicubic":
            found.append(_around(place, n, 2.0, lambda d: _cubic(d, -0.75)))
            continue
        place = max(place, 0.0)
        low = min(math.floor(place), n - 1)
        found.append([(low, 1 - (place - low)), (min(low + 1, n - 1), place - low)])
    return found


def _upsampling(x: Any, scale_factor: Any, size: Any, mode: str, align_corners: Any, recompute: Any) -> Any:
    factors = np.broadcast_to(2 if scale_factor is None else scale_factor, 2)
    sizes = (None, None) if size is None else pair(size)
    for n, factor, given in zip(x.shape[2:], factors, sizes, strict=True):
        out = math.floor(n * factor) if given is None else given
        apart = n / out if given is not None or recompute else 1 / factor
        if (out == n and mode != "bicubic") or (mode == "nearest" and out == 2 * n):  # PyTorch's exceptions
            apart = n / out
        yield _sources(n, out, apart, mode, bool(align_corners))


def upsample(
    x: Any,
    scale_factor: Any = None,
    size: Any = None,
    mode: str = "nearest",
    align_corners: Any = None,
    recompute_scale_factor: Any = None,
) -> Any:
    """Each pixel from the nearest one, or between the nearest four."""
    (x,) = floats(x)
    rows, columns = _upsampling(x, scale_factor, size, mode, align_corners, recompute_scale_factor)
    y = np.zeros((*x.shape[:2], len(rows), len(columns)))
    for n, c, h, w in np.ndindex(y.shape):
        y[n, c, h, w] = sum(p * q * x[n, c, i, j] for i, p in rows[h] for j, q in columns[w])
    return y


def upsample_grad(
    x: Any,
    dy: Any,
    scale_factor: Any = None,
    size: Any = None,
    mode: str = "nearest",
    align_corners: Any = None,
    recompute_scale_factor: Any = None,
) -> Any:
    """Gradient with respect to the input: the sum of the output gradients, with the weight of the pixel in each."""
    x, dy = floats(x, dy)
    rows, columns = _upsampling(x, scale_factor, size, mode, align_corners, recompute_scale_factor)
    dx = np.zeros(x.shape)
    for n, c, h, w in np.ndindex(dy.shape):
        for i, p in rows[h]:
            for j, q in columns[w]:
                dx[n, c, i, j] += p * q * dy[n, c, h, w]
    return dx


def _place(i: int, n: int, out: int, factor: float, coordinates: str) -> float:
    """Return where pixel i of the output lies in the input, as ONNX's coordinate_transformation_mode says."""
    if coordinates == "align_corners":
        return i * (n - 1) / (out - 1) if out > 1 else 0.0
    if coordinates == "pytorch_half_pixel" and out == 1:
        return 0.0
    offset = n / 2 * (1 - out / (n * factor)) if coordinates == "half_pixel_symmetric" else 0.0
    half = coordinates != "asymmetric"
    return offset + (i + 0.5 * half) / factor - (0.5 if half and coordinates != "tf_half_pixel_for_nn" else 0.0)


def _nearest(place: float, rounding: str) -> int:
    low, part = math.floor(place + 1e-9), place - math.floor(place + 1e-9)
    up = {"floor": False, "ceil": part > 1e-9, "round_prefer_floor": part > 0.5, "round_prefer_ceil": part >= 0.5}
    return low + up[rounding]


def _resizing(x: Any, config: dict[str, Any]) -> Any:
    """Yield for height and width the sources of each pixel."""
    factors, sizes = np.broadcast_to(config["scale_factor"], 2), np.broadcast_to(config["size"], 2)
    for n, given, size in zip(x.shape[2:], factors, sizes, strict=True):
        out = math.floor(n * given) if size is None else int(size)
        factor = out / n if given is None else float(given)
        squeeze, found = min(factor, 1.0) if config["antialias"] else 1.0, []
        for i in range(out):
            place = _place(i, n, out, factor, config["coordinates"])
            if config["mode"] == "nearest":
                found.append([(min(max(_nearest(place, config["rounding"]), 0), n - 1), 1.0)])
                continue
            linear = config["mode"] == "linear"

            def weight(d: float, linear: bool = linear, squeeze: float = squeeze) -> float:
                return max(0.0, 1 - abs(d) * squeeze) if linear else _cubic(d * squeeze, config["cubic_coeff_a"])

            reach = (1 if linear else 2) / squeeze
            found.append(_around(place, n, reach, weight, config["exclude_outside"], squeeze < 1))
        yield found


def resize(x: Any, **config: Any) -> Any:
    """Resized images, as defined by ONNX's Resize; the arguments are the layer's arguments."""
    (x,) = floats(x)
    rows, columns = _resizing(x, config)
    y = np.zeros((*x.shape[:2], len(rows), len(columns)))
    for n, c, h, w in np.ndindex(y.shape):
        y[n, c, h, w] = sum(p * q * x[n, c, i, j] for i, p in rows[h] for j, q in columns[w])
    return y


def resize_grad(x: Any, dy: Any, **config: Any) -> Any:
    """Gradient with respect to the input: the sum of the output gradients, with the weight of the pixel in each."""
    x, dy = floats(x, dy)
    rows, columns = _resizing(x, config)
    dx = np.zeros(x.shape)
    for n, c, h, w in np.ndindex(dy.shape):
        for i, p in rows[h]:
            for j, q in columns[w]:
                dx[n, c, i, j] += p * q * dy[n, c, h, w]
    return dx
