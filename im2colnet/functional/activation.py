"""Functions of each number of an array, and of the numbers along an axis; the layers have the formulas."""

from __future__ import annotations

from math import prod
from typing import Any

from im2colnet import layers
from im2colnet.backend import Backend
from im2colnet.errors import ShapeError
from im2colnet.functional.applying import apply, apply_to_numbers, beside_channels
from im2colnet.functional.arguments import axis_of, on_arrays
from im2colnet.types import Array

__all__ = [
    "celu",
    "elu",
    "gelu",
    "glu",
    "hardsigmoid",
    "hardswish",
    "hardtanh",
    "leaky_relu",
    "log_softmax",
    "logsigmoid",
    "mish",
    "prelu",
    "relu",
    "relu6",
    "selu",
    "sigmoid",
    "silu",
    "softmax",
    "softplus",
    "softsign",
    "tanh",
    "threshold",
]


# Of each number ------------------------------------------------------------------------------------------------------
@on_arrays("input")
def relu(backend: Backend, input: Array) -> Array:
    """``max(x, 0)``."""
    return apply_to_numbers(layers.ReLU(), input, backend)


@on_arrays("input")
def leaky_relu(backend: Backend, input: Array, negative_slope: float = 0.01) -> Array:
    """``x`` where x is positive, else ``negative_slope · x``; the slope is at least 0."""
    return apply_to_numbers(layers.LeakyReLU(negative_slope), input, backend)


@on_arrays("input")
def sigmoid(backend: Backend, input: Array) -> Array:
    """``1 / (1 + exp(-x))``."""
    return apply_to_numbers(layers.Sigmoid(), input, backend)


@on_arrays("input")
def tanh(backend: Backend, input: Array) -> Array:
    """``tanh(x)``."""
    return apply_to_numbers(layers.Tanh(), input, backend)


@on_arrays("input")
def silu(backend: Backend, input: Array) -> Array:
    """``x / (1 + exp(-x))``."""
    return apply_to_numbers(layers.SiLU(), input, backend)


@on_arrays("input")
def elu(backend: Backend, input: Array, alpha: float = 1.0) -> Array:
    """``x`` where x is positive, else ``alpha · (exp(x) - 1)``."""
    return apply_to_numbers(layers.ELU(alpha), input, backend)


@on_arrays("input")
def selu(backend: Backend, input: Array) -> Array:
    """ELU with the constants of :class:`im2colnet.SELU`, which keep mean 0 and variance 1."""
    return apply_to_numbers(layers.SELU(), input, backend)


@on_arrays("input")
def celu(backend: Backend, input: Array, alpha: float = 1.0) -> Array:
    """``x`` where x is positive, else ``alpha · (exp(x / alpha) - 1)``."""
    return apply_to_numbers(layers.CELU(alpha), input, backend)


@on_arrays("input")
def gelu(backend: Backend, input: Array, approximate: str = "none") -> Array:
    """``x · Φ(x)`` with the normal distribution Φ, or what is near it if ``approximate`` is "tanh"."""
    return apply_to_numbers(layers.GELU(approximate), input, backend)


@on_arrays("input")
def mish(backend: Backend, input: Array) -> Array:
    """``x · tanh(log(1 + exp(x)))``."""
    return apply_to_numbers(layers.Mish(), input, backend)


@on_arrays("input")
def softplus(backend: Backend, input: Array, beta: float = 1.0, threshold: float = 20.0) -> Array:
    """``log(1 + exp(beta · x)) / beta``, and ``x`` where ``beta · x`` is above ``threshold``."""
    return apply_to_numbers(layers.Softplus(beta, threshold), input, backend)


@on_arrays("input")
def softsign(backend: Backend, input: Array) -> Array:
    """``x / (1 + |x|)``."""
    return apply_to_numbers(layers.Softsign(), input, backend)


@on_arrays("input")
def logsigmoid(backend: Backend, input: Array) -> Array:
    """``-log(1 + exp(-x))``."""
    return apply_to_numbers(layers.LogSigmoid(), input, backend)


@on_arrays("input")
def hardtanh(backend: Backend, input: Array, min_val: float = -1.0, max_val: float = 1.0) -> Array:
    """``x``, but at least ``min_val`` and at most ``max_val``."""
    return apply_to_numbers(layers.Hardtanh(min_val, max_val), input, backend)


@on_arrays("input")
def relu6(backend: Backend, input: Array) -> Array:
    """``x``, but at least 0 and at most 6."""
    return apply_to_numbers(layers.ReLU6(), input, backend)


@on_arrays("input")
def hardsigmoid(backend: Backend, input: Array) -> Array:
    """``(x + 3) / 6``, but at least 0 and at most 1."""
    return apply_to_numbers(layers.Hardsigmoid(), input, backend)


@on_arrays("input")
def hardswish(backend: Backend, input: Array) -> Array:
    """``x · hardsigmoid(x)``."""
    return apply_to_numbers(layers.Hardswish(), input, backend)


@on_arrays("input")
def threshold(backend: Backend, input: Array, threshold: float, value: float) -> Array:
    """``x`` where x is above ``threshold``, else ``value``."""
    return apply_to_numbers(layers.Threshold(threshold, value), input, backend)


@on_arrays("input", "weight")
def prelu(backend: Backend, input: Array, weight: Array) -> Array:
    """``x`` where x is positive, else ``weight · x``.

    Parameters
    ----------
    input : (N, C, ...), or any shape if there is one weight
    weight : (1,) or (C,)
    """
    weights = weight.reshape(-1)
    if weight.ndim > 1 or weight.size not in (1, input.shape[1] if input.ndim > 1 else 1):
        raise ShapeError(
            f"weight must be one number, or one for each channel of input of shape {input.shape}, got shape"
            f" {weight.shape}"
        )
    x = beside_channels(backend, input if weight.size > 1 else input.reshape(1, 1, -1))
    return apply(layers.PReLU(weight.size), x, backend, {"weight": weights}).reshape(input.shape)


# Along an axis -------------------------------------------------------------------------------------------------------
@on_arrays("input")
def softmax(backend: Backend, input: Array, dim: int) -> Array:
    """``exp(x)`` divided by its sum along the axis ``dim``."""
    return _apply_along(layers.Softmax(2), input, dim, backend)


@on_arrays("input")
def log_softmax(backend: Backend, input: Array, dim: int) -> Array:
    """``x - log Σ exp(x)``, the sum along the axis ``dim``: the logarithm of :func:`softmax`."""
    return _apply_along(layers.LogSoftmax(2), input, dim, backend)


@on_arrays("input")
def glu(backend: Backend, input: Array, dim: int = -1) -> Array:
    """``a · sigmoid(b)`` of the two halves a and b of the axis ``dim``."""
    axis = axis_of(input, dim)
    if not input.ndim or input.shape[axis] % 2:
        raise ShapeError(f"the axis dim={dim} of input must have two halves, got shape {input.shape}")
    return _apply_along(layers.GLU(2), input, dim, backend)


def _apply_along(layer: layers.Layer, x: Array, dim: Any, backend: Backend) -> Array:
    """Return what a layer with ``dim=2`` makes of the numbers along any axis of an array.

    The library stores a value of three axes as (1, 2, batch), of which 2 lies in the middle: an array with the numbers
    before the axis, on it and behind it is such a value as it is.
    """
    axis = axis_of(x, dim)
    before, n, behind = x.shape[:axis], (x.shape or (1,))[axis], x.shape[axis + 1 :]
    y = apply(layer, backend.xp.ascontiguousarray(x).reshape(prod(before), n, prod(behind)), backend)
    return y.reshape((*before, y.shape[1], *behind) if x.ndim else ())
