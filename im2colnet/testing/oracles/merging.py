"""Functions of several values; axes of length 1 are broadcast, as NumPy's are."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from im2colnet.host import np
from im2colnet.testing.oracles.arrays import floats


def summed(dy: Any, shape: Any) -> Any:
    """``dy`` summed to a shape that was broadcast to dy's."""
    dx = np.zeros(shape)
    for place in np.ndindex(dy.shape):
        dx[tuple(0 if n == 1 else i for i, n in zip(place, shape, strict=True))] += dy[place]
    return dx


def add(x: Any, other: Any) -> Any:
    """``x + other``."""
    x, other = floats(x, other)
    return x + other


def add_grad(x: Any, other: Any, dy: Any) -> Any:
    """Gradients with respect to both: ``dy``, summed where an axis was broadcast."""
    (dy,) = floats(dy)
    return summed(dy, np.shape(x)), summed(dy, np.shape(other))


def mul(x: Any, other: Any) -> Any:
    """``x * other``."""
    x, other = floats(x, other)
    return x * other


def mul_grad(x: Any, other: Any, dy: Any) -> Any:
    """Gradients with respect to both: ``dy`` times the other, summed where an axis was broadcast."""
    x, other, dy = floats(x, other, dy)
    return summed(dy * other, x.shape), summed(dy * x, other.shape)


def sub(x: Any, other: Any) -> Any:
    """``x - other``."""
    x, other = floats(x, other)
    return x - other


def sub_grad(x: Any, other: Any, dy: Any) -> Any:
    """Gradients with respect to both: ``dy`` and ``-dy``, summed where an axis was broadcast."""
    (dy,) = floats(dy)
    return summed(dy, np.shape(x)), summed(-dy, np.shape(other))


def div(x: Any, other: Any) -> Any:
    """``x / other``."""
    x, other = floats(x, other)
    return x / other


def div_grad(x: Any, other: Any, dy: Any) -> Any:
    """Gradients with respect to both: ``dy / other`` and ``-dy · x / other²``, summed where an axis was broadcast."""
    x, other, dy = floats(x, other, dy)
    return summed(dy / other, x.shape), summed(-dy * x / other**2, other.shape)


def _of_pairs(x: Any, other: Any, function: Callable[[float, float], Any]) -> Any:
    """Apply a function to each pair of numbers, after broadcasting."""
    pairs = np.broadcast_arrays(*floats(x, other))
    found = [function(float(a), float(b)) for a, b in zip(*(array.ravel() for array in pairs), strict=True)]
    return np.reshape(found, (*pairs[0].shape, *np.shape(found[0])))


def _of_pairs_grad(x: Any, other: Any, dy: Any, slopes: Callable[[float, float], tuple[float, float]]) -> Any:
    (dy,) = floats(dy)
    found = _of_pairs(x, other, slopes)
    return summed(dy * found[..., 0], np.shape(x)), summed(dy * found[..., 1], np.shape(other))


def power(x: Any, other: Any) -> Any:
    """``x ** other``."""
    return _of_pairs(x, other, math.pow)


def _slopes_of_power(a: float, b: float) -> tuple[float, float]:
    return b * math.pow(a, b - 1) if b else 0.0, math.pow(a, b) * math.log(a) if a else 0.0


def power_grad(x: Any, other: Any, dy: Any) -> Any:
    """Gradients with respect to both: ``dy · b·a^(b-1)`` and ``dy · a^b·log(a)``; nothing for an exponent of 0."""
    return _of_pairs_grad(x, other, dy, _slopes_of_power)


def maximum(x: Any, other: Any) -> Any:
    """The larger of each pair."""
    return _of_pairs(x, other, max)


def maximum_grad(x: Any, other: Any, dy: Any) -> Any:
    """Gradients with respect to both: the larger one gets ``dy``; if they are equal, each gets half of it."""
    return _of_pairs_grad(x, other, dy, lambda a, b: (0.5, 0.5) if a == b else (float(a > b), float(b > a)))


def minimum(x: Any, other: Any) -> Any:
    """The smaller of each pair."""
    return _of_pairs(x, other, min)


def minimum_grad(x: Any, other: Any, dy: Any) -> Any:
    """Gradients with respect to both: the smaller one gets ``dy``; if they are equal, each gets half of it."""
    return _of_pairs_grad(x, other, dy, lambda a, b: (0.5, 0.5) if a == b else (float(a < b), float(b < a)))


def concat(*values: Any, dim: int = 1) -> Any:
    """The concatenation of the values along an axis."""
    values = tuple(np.moveaxis(value, dim, 1) for value in floats(*values))
    y = np.zeros((len(values[0]), sum(value.shape[1] for value in values), *values[0].shape[2:]))
    place = 0
    for value in values:
        for i in range(value.shape[1]):
            y[:, place] = value[:, i]
            place += 1
    return np.moveaxis(y, 1, dim)


def concat_grad(*values: Any, dy: Any, dim: int = 1) -> Any:
    """Gradients with respect to each value: its own places of ``dy``."""
    (dy,) = floats(dy)
    places, gradients = iter(range(dy.shape[dim])), []
    for value in values:
        mine = [next(places) for _ in range(np.shape(value)[dim])]
        gradients.append(np.take(dy, mine, dim))
    return tuple(gradients)
