"""The epilogue of a convolution: a bias and an elementwise function on outputs that are still in cache."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from math import prod
from operator import setitem

import numpy as np

from im2colnet.types import Call, Shape, Spec
from im2colnet_numpy.activation import SPREAD, activating

Array = np.ndarray


def bias_spec(y: Shape, dtype: str) -> Spec:
    """Scratch for the bias of a convolution with outputs ``y`` (H, C, W, N): a row of them, if it stays in cache."""
    return Spec(y[1:] if prod(y[1:]) <= SPREAD else (y[1], 1, 1), dtype)


def spread(b: Array | None, row: Array) -> Iterator[Call]:
    """Write a bias (C,) to the whole of ``row`` (C, ...), if there is one."""
    if b is not None:
        yield partial(setitem, row, ..., b[:, None, None])


def finish(tile: Array, row: Array | None, activation: str | None) -> Iterator[Call]:
    """Add a ``row`` (C, W or 1, N or 1) to a convolution's outputs (..., C, W, N), and apply the activation."""
    if row is not None:
        yield partial(np.add, tile, row, tile)
    if activation:
        yield activating(tile, activation, tile)
