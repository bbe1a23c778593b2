"""Batch norm: sums and affine maps over the channels of images (H, C, W, N), in tiles that stay in cache.

A number for each channel is spread over a whole row, (C, W, N), before it is combined with the rows (see
:mod:`im2colnet_numpy.activation` for why).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np

from im2colnet.backend.kernel import kernel
from im2colnet.backend.normalization import Normalization
from im2colnet.types import Call, Spec
from im2colnet_numpy.activation import activating, ones

Array = np.ndarray


def _sums(backend: Any, x: Spec, **others: Any) -> list[Spec]:
    return [*_tile_and_spread(backend, x, spread=1), Spec((2, *x.shape[:2]), x.dtype)]


def _affine(backend: Any, x: Spec, **others: Any) -> list[Spec]:
    return _tile_and_spread(backend, x, spread=3)


class NumpyNormalization(Normalization):
    """Batch norm on the CPU."""

    @kernel(scratch=_sums)
    def batch_norm_sums(self, x: Array, out: Any = None, scratch: Any = None) -> Iterator[Call]:
        yield partial(sums, x, out, scratch)

    @kernel(scratch=_sums)
    def batch_norm_grad_sums(
        self, x: Array, mean: Array, dy: Array, out: Any = None, scratch: Any = None
    ) -> Iterator[Call]:
        yield partial(grad_sums, x, mean, dy, out, scratch)

    @kernel(scratch=_affine)
    def channel_affine(
        self,
        x: Array,
        scale: Array,
        shift: Array,
        other: Array | None = None,
        other_scale: Array | None = None,
        activation: str | None = None,
        out: Any = None,
        scratch: Any = None,
    ) -> Iterator[Call]:
        yield partial(affine, x, scale, shift, other, other_scale, activation, out, scratch)


def _tile_and_spread(backend: Any, x: Spec, spread: int) -> list[Spec]:
    """Scratch: a tile, and ``spread`` rows for numbers of each channel spread over them.

    A tile is as many rows and channels as stay in cache, those that are spread in the first-level cache.
    """
    (H, C, W, N), dtype, most = x.shape, x.dtype, backend.tuning.tile_bytes
    row = W * N * np.dtype(dtype).itemsize  # bytes of one channel
    channels = max(1, min(C, most // 32 // row))
    rows = max(1, min(H, most // 4 // (channels * row)))
    return [Spec((rows, channels, W, N), dtype), Spec((spread, channels, W, N), dtype)]


def channel_blocks(C: int, spread: Array, *values: Array) -> Iterator[tuple[slice, list[Array]]]:
    """Yield channels, and their ``values`` (C,) spread over a row of ``spread``."""
    values = tuple(value.astype(spread.dtype) for value in values)  # once: spreading converts each copy
    for c in range(0, C, spread.shape[1]):
        channels = slice(c, min(c + spread.shape[1], C))
        rows = [row[: channels.stop - c] for row in spread]
        for row, value in zip(rows, values, strict=False):
            row[...] = value[channels, None, None]
        yield channels, rows


def sums(x: Array, out: Array, scratch: Sequence[Array]) -> None:
    """Write Σx and Σ(x - Σx/n)² of each channel to ``out`` (2, C), summed about the mean k of its first row.

    Then float32 is enough for all but the last step, in float64 (Chan, Golub, LeVeque 1983):

        Σx = Σ(x - k) + n·k,     Σ(x - Σx/n)² = Σ(x - k)² - (Σ(x - k))²/n
    """
    tile, spread, sums = scratch
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


def grad_sums(x: Array, mean: Array, dy: Array, out: Array, scratch: Sequence[Array]) -> None:
    """Write Σdy and Σdy·(x - mean) of each channel to ``out`` (2, C)."""
    tile, spread, sums = scratch
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
    activation: str | None,
    y: Array,
    scratch: Sequence[Array],
) -> None:
    """Write ``x·scale + other·other_scale + shift``, with the activation if there is one, into y, which may be x."""
    tile, spread = scratch
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
            if activation:
                activating(target, activation, target)()
