"""Elementwise functions by the table of formulas, but faster if a function is a maximum or its slope a mask.

NumPy's loops over two arrays are two to eight times as fast as those over an array and one number, so ReLU is the
larger of an array and a row of zeros.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache, partial
from math import prod
from typing import Any

import numpy as np

from im2colnet.backend.activation import FORMULAS, Activation, formula
from im2colnet.backend.kernel import kernel
from im2colnet.types import Call, Spec

Array = np.ndarray
SPREAD = 1 << 15  # a row of at most this many numbers stays in cache while it is combined with others
TILE = 1 << 15  # numbers that a function takes at a time: they and its scratch stay in the second-level cache


def _value_scratch(backend: Any, x: Spec, kind: str) -> list[Spec]:
    return [Spec((min(prod(x.shape), TILE),), x.dtype)] * formula(kind).value_spare


def _slope_scratch(backend: Any, read: Spec, dy: Spec, kind: str) -> list[Spec]:
    row, size = formula(kind), prod(dy.shape)
    tile = size if kind == "relu" else min(size, TILE)
    return [Spec((tile,), "bool" if row.mask else dy.dtype)] + [Spec((tile,), dy.dtype)] * row.slope_spare


def _both_scratch(backend: Any, x: Spec, kind: str, slope: Any = None) -> list[Spec]:
    return [Spec((min(prod(x.shape), TILE),), x.dtype)] * formula(kind).both_spare


class NumpyActivation(Activation):
    """Elementwise functions on the CPU."""

    slopes = frozenset(name for name, row in FORMULAS.items() if row.both)

    @kernel(scratch=_value_scratch)
    def activation(self, x: Array, kind: str, out: Any = None, scratch: Any = None) -> Iterator[Call]:
        if kind == "relu":
            yield activating(x, kind, out)
            return
        for tile, y, *spare in _tiles((x, out), scratch, TILE):
            yield activating(tile, kind, y, *spare)

    @kernel(scratch=_both_scratch)
    def activation_and_slope(
        self, x: Array, kind: str, slope: Any = None, out: Any = None, scratch: Any = None
    ) -> Iterator[Call]:
        both = formula(kind).both
        if both is None:
            yield from super().activation_and_slope.prepare(x, kind, slope, out=out)
            return
        for tile, y, s, *spare in _tiles((x, out, slope), scratch, TILE):
            yield partial(both, np, tile, y, s, *spare)

    @kernel(scratch=_slope_scratch)
    def activation_grad(
        self, read: Array, dy: Array, kind: str, out: Any = None, scratch: Any = None
    ) -> Iterator[Call]:
        row, arrays = formula(kind), (read, dy, out)
        for of_y, of_dy, dx, slope, *spare in _tiles(arrays, scratch, dy.size if kind == "relu" else TILE):
            yield partial(row.slope, np, of_y, slope, *spare)
            if row.mask:
                yield partial(np.multiply, as_bits(of_dy), slope, as_bits(dx))
            else:
                yield partial(np.multiply, of_dy, slope, dx)


def _tiles(arrays: tuple[Array, ...], scratch: Sequence[Array], size: int) -> Iterator[tuple[Array, ...]]:
    """Yield the same ``size`` numbers of each array, and scratch for them, which stays in cache from tile to tile.

    Arrays that are not contiguous, which do not occur in training, are one tile.
    """
    if not all(array.flags.c_contiguous for array in arrays):
        yield (*arrays, *(np.empty(arrays[0].shape, spare.dtype) for spare in scratch))
        return
    flat = [array.reshape(-1) for array in arrays]
    for start in range(0, flat[0].size, max(1, size)):
        tile = [array[start : start + size] for array in flat]
        yield (*tile, *(spare[: tile[0].size] for spare in scratch))


def activating(x: Array, kind: str, out: Array, *spare: Array) -> Call:
    """Return the call that writes f(x) of x (..., W, N) or (..., C, W, N) to ``out``."""
    if kind != "relu":
        return partial(formula(kind).value, np, x, out, *spare)
    shape = x.shape[-3:] if prod(x.shape[-3:]) <= SPREAD else x.shape[-2:]
    return partial(np.maximum, x, zeros(prod(shape), x.dtype).reshape(shape), out=out)


def as_bits(x: Array) -> Array:
    """The same numbers as integers: by 0 and 1 they are multiplied exactly, while infinity times 0 is NaN."""
    return x.view(f"i{x.itemsize}")


def ones(n: int, dtype: np.dtype) -> Array:
    """``n`` ones from one array: a product with them sums faster than ``sum``."""
    return _constant(1, _power(n), dtype)[:n]


def zeros(n: int, dtype: np.dtype) -> Array:
    """``n`` zeros from one array."""
    return _constant(0, _power(n), dtype)[:n]


def _power(n: int) -> int:
    """Return the power of two from ``n`` on."""
    return 1 << max(n - 1, 0).bit_length()


@lru_cache(maxsize=128)
def _constant(value: int, n: int, dtype: np.dtype) -> Array:
    constant = np.full(n, value, dtype)
    constant.flags.writeable = False
    return constant
