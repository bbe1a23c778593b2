"""Elementwise functions: by the table of formulas, but faster where a function is a maximum or its slope a mask.

NumPy's loops over two arrays are two to eight times as fast as those over an array and one number, so ReLU is the
larger of an array and a row of zeros.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache, partial
from math import prod
from typing import Any

import numpy as np

from im2colnet.backend.activation import Activation, formula
from im2colnet.backend.kernel import kernel
from im2colnet.types import Call

Array = np.ndarray
SPREAD = 1 << 15  # a row of at most this many numbers stays in cache while it is combined with others


class NumpyActivation(Activation):
    """Elementwise functions on the CPU."""

    @kernel()
    def activation(self, x: Array, kind: str, out: Any = None, scratch: Any = None) -> Iterator[Call]:
        yield activating(x, kind, out, *scratch)

    @kernel()
    def activation_grad(
        self, read: Array, dy: Array, kind: str, out: Any = None, scratch: Any = None
    ) -> Iterator[Call]:
        row, (slope, *spare) = formula(kind), scratch
        yield partial(row.slope, np, read, slope, *spare)
        if row.mask:
            yield partial(np.multiply, as_bits(dy), slope, as_bits(out))
        else:
            yield partial(np.multiply, dy, slope, out)


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
