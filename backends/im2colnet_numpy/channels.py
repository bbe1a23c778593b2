"""Sums and affine maps over the channels of images (H, C, W, N), for batch norm and bias: in tiles that stay in cache.

A number for each channel is spread over a whole row, (C, W, N), before it is combined with the rows: NumPy's loops over
two arrays are two to eight times as fast as those over an array and one number.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache, partial
from math import prod
from operator import setitem

import numpy as np

from im2colnet.types import Call, Shape, Spec
from im2colnet_numpy.lowering import TILE_BYTES

Array = np.ndarray
SPREAD = 1 << 15  # numbers of a row that is combined with others from cache


def blocks(x: Shape, itemsize: int) -> tuple[int, int]:
    """How many rows and channels to work on at a time: what is spread stays in the first-level cache."""
    H, C, W, N = x
    channels = max(1, min(C, TILE_BYTES // 32 // (W * N * itemsize)))
    return max(1, min(H, TILE_BYTES // 4 // (channels * W * N * itemsize))), channels


def workspace(x: Shape, dtype: str, spread: int) -> list[Spec]:
    """Scratch: a tile, and so many numbers for each channel spread over its rows."""
    rows, channels = blocks(x, np.dtype(dtype).itemsize)
    return [Spec((rows, channels, *x[2:]), dtype), Spec((spread, channels, *x[2:]), dtype)]


def sums_workspace(x: Shape, dtype: str) -> list[Spec]:
    """Scratch of the sums: that for one number of each channel, and two sums of each row."""
    return [*workspace(x, dtype, spread=1), Spec((2, *x[:2]), dtype)]


def channel_blocks(C: int, spread: Array, *values: Array) -> Iterator[tuple[slice, list[Array]]]:
    """Yield channels, and their ``values`` (C,) spread over a row of ``spread``."""
    values = tuple(value.astype(spread.dtype) for value in values)  # once: spreading converts each copy
    for c in range(0, C, spread.shape[1]):
        channels = slice(c, min(c + spread.shape[1], C))
        rows = [row[: channels.stop - c] for row in spread]
        for row, value in zip(rows, values, strict=False):
            row[...] = value[channels, None, None]
        yield channels, rows


def sums(x: Array, out: Array, work: Sequence[Array]) -> None:
    """Write Σx and Σ(x - Σx/n)² of each channel to ``out`` (2, C), summed about the mean k of its first row.

    Then float32 is enough for all but the last step, in float64 (Chan, Golub, LeVeque 1983):

        Σx = Σ(x - k) + n·k,     Σ(x - Σx/n)² = Σ(x - k)² - (Σ(x - k))²/n
    """
    tile, spread, sums = work
    H, C, W, N = x.shape
    m = W * N
    k = np.matmul(x[0].reshape(C, m), ones(m, x.dtype)) * x.dtype.type(1 / m)
    for channels, (shift,) in channel_blocks(C, spread, k):
        for r in range(0, H, len(tile)):
            rows = slice(r, r + len(tile)), channels
            centred = _centred(x[rows], shift, tile)
            np.matmul(centred, ones(m, x.dtype), out=sums[0][rows])
            np.vecdot(centred, centred, out=sums[1][rows])
    np.add.reduce(sums, axis=1, dtype="f8", out=out)
    first, second = out
    second -= first * first / (H * m)
    np.maximum(second, 0, out=second)
    first += H * m * k.astype("f8")


def grad_sums(x: Array, mean: Array, dy: Array, out: Array, work: Sequence[Array]) -> None:
    """Write Σdy and Σdy·(x - mean) of each channel to ``out`` (2, C)."""
    tile, spread, sums = work
    H, C, W, N = x.shape
    dy = dy.reshape(H, C, W * N)
    for channels, (shift,) in channel_blocks(C, spread, mean):
        for r in range(0, H, len(tile)):
            rows = slice(r, r + len(tile)), channels
            centred = _centred(x[rows], shift, tile)
            np.matmul(dy[rows], ones(W * N, x.dtype), out=sums[0][rows])
            np.vecdot(centred, dy[rows], out=sums[1][rows])
    np.add.reduce(sums, axis=1, dtype="f8", out=out)
    out[1] -= (mean - mean.astype(x.dtype)) * out[0]  # float32 has rounded the mean


def _centred(rows: Array, shift: Array, tile: Array) -> Array:
    """Some rows of images less what their channels are shifted by, (rows, C, W·N), in a part of ``tile``."""
    centred = tile[: rows.shape[0], : rows.shape[1]]
    np.subtract(rows, shift, out=centred)
    return centred.reshape(*rows.shape[:2], -1)


def affine(
    x: Array,
    scale: Array,
    shift: Array,
    other: Array | None,
    other_scale: Array | None,
    relu: bool,
    y: Array,
    work: Sequence[Array],
) -> None:
    """Write ``x·scale + other·other_scale + shift``, with ReLU if asked for, into y, which may be x."""
    tile, spread = work
    values = (scale, shift) if other_scale is None else (scale, shift, other_scale)
    for channels, (a, c, *b) in channel_blocks(x.shape[1], spread, *values):
        for r in range(0, len(x), len(tile)):
            rows = slice(r, r + len(tile)), channels
            target = y[rows]
            np.multiply(x[rows], a, out=target)
            if other is not None:
                scaled = tile[: target.shape[0], : target.shape[1]]
                np.multiply(other[rows], b[0], out=scaled)
                np.add(target, scaled, out=target)
            np.add(target, c, out=target)
            if relu:
                rectify(target, out=target)


def bias_spec(y: Shape, dtype: str) -> Spec:
    """Scratch for the bias of a convolution with outputs ``y`` (H, C, W, N): a row of them, if it stays in cache."""
    return Spec(y[1:] if prod(y[1:]) <= SPREAD else (y[1], 1, 1), dtype)


def spread(b: Array | None, row: Array) -> Iterator[Call]:
    """Write a bias (C,) to the whole of ``row`` (C, ...), if there is one."""
    if b is not None:
        yield partial(setitem, row, ..., b[:, None, None])


def finish(tile: Array, row: Array | None, relu: bool) -> Iterator[Call]:
    """Add a ``row`` (C, W or 1, N or 1) to a convolution's outputs (..., C, W, N), and apply ReLU if asked for."""
    if row is not None:
        yield partial(np.add, tile, row, tile)
    if relu:
        yield rectifying(tile, tile)


def rectify(x: Array, out: Array) -> Array:
    """Write what is positive in ``x`` (..., C, W, N) to ``out``, else 0: the larger of it and a row of zeros."""
    rectifying(x, out)()
    return out


def rectifying(x: Array, out: Array) -> Call:
    """Return the call that :func:`rectify` makes."""
    shape = x.shape[-3:] if prod(x.shape[-3:]) <= SPREAD else x.shape[-2:]
    return partial(np.maximum, x, zeros(prod(shape), x.dtype).reshape(shape), out=out)


def ones(n: int, dtype: np.dtype) -> Array:
    """``n`` ones from one array: a product with them sums faster than ``sum``."""
    return _constant(1, _power(n), dtype)[:n]


def zeros(n: int, dtype: np.dtype) -> Array:
    """``n`` zeros from one array."""
    return _constant(0, _power(n), dtype)[:n]


def _power(n: int) -> int:
    return 1 << max(n - 1, 0).bit_length()


@lru_cache(maxsize=128)
def _constant(value: int, n: int, dtype: np.dtype) -> Array:
    constant = np.full(n, value, dtype)
    constant.flags.writeable = False
    return constant
