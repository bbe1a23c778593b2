"""Functions of each number, and their slopes times ``dy``."""

from __future__ import annotations

from typing import Any

from im2colnet.host import np
from im2colnet.testing.oracles.arrays import floats


def relu(x: Any) -> Any:
    """``max(x, 0)``."""
    (x,) = floats(x)
    return np.where(x > 0, x, 0.0)


def relu_grad(x: Any, dy: Any) -> Any:
    """``dy`` where x > 0; nothing at 0."""
    x, dy = floats(x, dy)
    return np.where(x > 0, dy, 0.0)


def leaky_relu(x: Any, negative_slope: float = 0.01) -> Any:
    """``x`` where x > 0, else ``negative_slope * x``."""
    (x,) = floats(x)
    return np.where(x > 0, x, negative_slope * x)


def leaky_relu_grad(x: Any, dy: Any, negative_slope: float = 0.01) -> Any:
    """``dy`` where x > 0, else ``negative_slope * dy``."""
    x, dy = floats(x, dy)
    return np.where(x > 0, dy, negative_slope * dy)


def sigmoid(x: Any) -> Any:
    """``1 / (1 + exp(-x))``, as ``exp(-log(1 + exp(-x)))``, which neither overflows nor cancels."""
    (x,) = floats(x)
    return np.exp(-np.logaddexp(0, -x))


def sigmoid_grad(x: Any, dy: Any) -> Any:
    """``dy * y * (1 - y)``."""
    x, dy = floats(x, dy)
    return dy * sigmoid(x) * sigmoid(-x)


def tanh(x: Any) -> Any:
    """The hyperbolic tangent."""
    (x,) = floats(x)
    return np.tanh(x)


def tanh_grad(x: Any, dy: Any) -> Any:
    """``dy / cosh(x)**2``."""
    x, dy = floats(x, dy)
    return dy * (1 - np.tanh(x) ** 2)


def silu(x: Any) -> Any:
    """``x * sigmoid(x)`` (Elfwing, Uchibe & Doya 2017, arXiv:1702.03118)."""
    (x,) = floats(x)
    return x * sigmoid(x)


def silu_grad(x: Any, dy: Any) -> Any:
    """``dy * s * (1 + x * (1 - s))`` with s = sigmoid(x)."""
    x, dy = floats(x, dy)
    return dy * sigmoid(x) * (1 + x * sigmoid(-x))
