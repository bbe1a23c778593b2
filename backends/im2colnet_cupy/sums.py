"""Sums over the channels of images, by kernels of their own (``kernels/sums.cu``)."""

from __future__ import annotations

from typing import Any

from im2colnet.types import Call
from im2colnet_cupy.activation import kind_arguments
from im2colnet_cupy.cuda import prepared

Array = Any
SUM_BLOCKS = 32  # blocks for each channel


def channel_sums(kind: int, x: Array, second: Array, mean: Array, parts: Array) -> Call:
    """Return a call that writes what each block adds to ``parts`` (SUM_BLOCKS, 1 or 2, C).

    ``sums.cu`` numbers the kinds of sums.
    """
    H, C, M = matrices(x)
    return prepared("sums.cu", "channel_sums", x, x, second, mean, parts, H, C, M, kind, grid=(C, SUM_BLOCKS))


def slope_sums(dy: Array, x: Array, mean: Array, y: Array, activation: str, dz: Array, parts: Array) -> Call:
    """Return a call that writes the gradient of what an activation was given, and what each block adds to its sums."""
    arguments = *matrices(x), *kind_arguments(activation)
    return prepared("sums.cu", "slope_sums", x, dy, x, mean, y, dz, parts, *arguments, grid=(x.shape[1], SUM_BLOCKS))


def join(parts: Array, out: Array, count: int = 1) -> Call:
    """Return a call that writes the sums of all blocks, divided by ``count``."""
    return prepared("sums.cu", "sum_partial", out, parts, out, parts.shape[0], out.size, float(count))


def matrices(x: Array) -> tuple[int, int, int]:
    """(H, C, W·N) of images (H, C, W, N), (1, C, N) of features (C, N)."""
    return (x.shape[0], x.shape[1], x.shape[2] * x.shape[3]) if x.ndim == 4 else (1, *x.shape)
