"""Functions of several values; axes of length 1 are broadcast, as NumPy's are."""

from __future__ import annotations

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


def concat(*values: Any) -> Any:
    """The values after each other along the channels, or features."""
    values = tuple(floats(*values))
    y = np.zeros((len(values[0]), sum(value.shape[1] for value in values), *values[0].shape[2:]))
    channel = 0
    for value in values:
        for c in range(value.shape[1]):
            y[:, channel] = value[:, c]
            channel += 1
    return y


def concat_grad(*values: Any, dy: Any) -> Any:
    """Gradients with respect to each value: its own channels of ``dy``."""
    (dy,) = floats(dy)
    channels, gradients = iter(range(dy.shape[1])), []
    for value in values:
        mine = [next(channels) for _ in range(np.shape(value)[1])]
        gradients.append(dy[:, mine])
    return tuple(gradients)
