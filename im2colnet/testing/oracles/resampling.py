"""Layers that change the number of pixels, a pixel at a time."""

from __future__ import annotations

import math
from typing import Any

from im2colnet.host import np
from im2colnet.testing.oracles.arrays import floats
from im2colnet.testing.oracles.windows import pair


def _sources(n: int, out: int, apart: float, mode: str, align_corners: bool) -> list[list[tuple[int, float]]]:
    """Return for each output of an axis the inputs that it is made of, and their weights."""
    found = []
    for i in range(out):
        if mode == "nearest":
            found.append([(min(math.floor(i * apart + 1e-9), n - 1), 1.0)])
            continue
        place = i * (n - 1) / (out - 1) if align_corners and out > 1 else 0.0
        if not align_corners:
            place = max((i + 0.5) * apart - 0.5, 0.0)
        low = min(math.floor(place), n - 1)
        found.append([(low, 1 - (place - low)), (min(low + 1, n - 1), place - low)])
    return found


def _upsampling(x: Any, scale_factor: Any, size: Any, mode: str, align_corners: Any, recompute: Any) -> Any:
    factors = np.broadcast_to(2 if scale_factor is None else scale_factor, 2)
    sizes = (None, None) if size is None else pair(size)
    for n, factor, given in zip(x.shape[2:], factors, sizes, strict=True):
        out = math.floor(n * factor) if given is None else given
        apart = n / out if given is not None or recompute else 1 / factor
        if out == n or (mode == "nearest" and out == 2 * n):  # PyTorch's exceptions
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
    """Gradient with respect to the input: each pixel gets its weight's share of what it has given to."""
    x, dy = floats(x, dy)
    rows, columns = _upsampling(x, scale_factor, size, mode, align_corners, recompute_scale_factor)
    dx = np.zeros(x.shape)
    for n, c, h, w in np.ndindex(dy.shape):
        for i, p in rows[h]:
            for j, q in columns[w]:
                dx[n, c, i, j] += p * q * dy[n, c, h, w]
    return dx
