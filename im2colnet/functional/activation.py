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
    """Rectified linear unit, ``max(x, 0)``.

    Parameters
    ----------
    input : Array
        Array of any shape.

    Returns
    -------
    Array
        Array with the shape and type of ``input``.

    See Also
    --------
    im2colnet.ReLU : The layer, with references.

    Examples
    --------
    >>> F.relu(np.array([-2.0, 0.0, 3.0]))
    array([0., 0., 3.])
    """
    return apply_to_numbers(layers.ReLU(), input, backend)


@on_arrays("input")
def leaky_relu(backend: Backend, input: Array, negative_slope: float = 0.01) -> Array:
    """Leaky ReLU, ``x`` where x is positive, else ``negative_slope · x``.

    Parameters
    ----------
    input : Array
        Array of any shape.
    negative_slope : float
        The slope for negative x, at least 0.

    Returns
    -------
    Array
        Array with the shape and type of ``input``.

    Raises
    ------
    ShapeError
        If the slope is negative.

    See Also
    --------
    im2colnet.LeakyReLU : The layer, with references.

    Examples
    --------
    >>> F.leaky_relu(np.array([-2.0, 0.0, 3.0]), 0.1)
    array([-0.2,  0. ,  3. ])
    """
    return apply_to_numbers(layers.LeakyReLU(negative_slope), input, backend)


@on_arrays("input")
def sigmoid(backend: Backend, input: Array) -> Array:
    """Sigmoid, the logistic function ``1 / (1 + exp(-x))``.

    Parameters
    ----------
    input : Array
        Array of any shape.

    Returns
    -------
    Array
        Array with the shape and type of ``input``.

    See Also
    --------
    im2colnet.Sigmoid : The layer, with references.

    Examples
    --------
    >>> F.sigmoid(np.array([-2.0, 0.0, 3.0])).round(3)
    array([0.119, 0.5  , 0.953])
    """
    return apply_to_numbers(layers.Sigmoid(), input, backend)


@on_arrays("input")
def tanh(backend: Backend, input: Array) -> Array:
    """Hyperbolic tangent, ``tanh(x)``.

    Parameters
    ----------
    input : Array
        Array of any shape.

    Returns
    -------
    Array
        Array with the shape and type of ``input``.

    See Also
    --------
    im2colnet.Tanh : The layer, with references.

    Examples
    --------
    >>> F.tanh(np.array([-2.0, 0.0, 3.0])).round(3)
    array([-0.964,  0.   ,  0.995])
    """
    return apply_to_numbers(layers.Tanh(), input, backend)


@on_arrays("input")
def silu(backend: Backend, input: Array) -> Array:
    """Sigmoid linear unit (swish), ``x / (1 + exp(-x))``.

    Parameters
    ----------
    input : Array
        Array of any shape.

    Returns
    -------
    Array
        Array with the shape and type of ``input``.

    See Also
    --------
    im2colnet.SiLU : The layer, with references.

    Examples
    --------
    >>> F.silu(np.array([-2.0, 0.0, 3.0])).round(3)
    array([-0.238,  0.   ,  2.858])
    """
    return apply_to_numbers(layers.SiLU(), input, backend)


@on_arrays("input")
def elu(backend: Backend, input: Array, alpha: float = 1.0) -> Array:
    """Exponential linear unit, ``x`` where x is positive, else ``alpha · (exp(x) - 1)``.

    Parameters
    ----------
    input : Array
        Array of any shape.
    alpha : float
        The scale of the negative part, at least 0.

    Returns
    -------
    Array
        Array with the shape and type of ``input``.

    Raises
    ------
    ShapeError
        If alpha is negative.

    See Also
    --------
    im2colnet.ELU : The layer, with references.

    Examples
    --------
    >>> F.elu(np.array([-2.0, 0.0, 3.0])).round(3)
    array([-0.865,  0.   ,  3.   ])
    """
    return apply_to_numbers(layers.ELU(alpha), input, backend)


@on_arrays("input")
def selu(backend: Backend, input: Array) -> Array:
    """Scaled ELU, with constants that keep mean 0 and variance 1 from layer to layer.

    Parameters
    ----------
    input : Array
        Array of any shape.

    Returns
    -------
    Array
        Array with the shape and type of ``input``.

    See Also
    --------
    im2colnet.SELU : The layer, with references.

    Examples
    --------
    >>> F.selu(np.array([-2.0, 0.0, 3.0])).round(3)
    array([-1.52 ,  0.   ,  3.152])
    """
    return apply_to_numbers(layers.SELU(), input, backend)


@on_arrays("input")
def celu(backend: Backend, input: Array, alpha: float = 1.0) -> Array:
    """Continuously differentiable ELU, ``x`` where x is positive, else ``alpha · (exp(x / alpha) - 1)``.

    Parameters
    ----------
    input : Array
        Array of any shape.
    alpha : float
        The scale of the negative part, more than 0.

    Returns
    -------
    Array
        Array with the shape and type of ``input``.

    Raises
    ------
    ShapeError
        If alpha is not positive.

    See Also
    --------
    im2colnet.CELU : The layer, with references.

    Examples
    --------
    >>> F.celu(np.array([-2.0, 0.0, 3.0]), alpha=0.5).round(3)
    array([-0.491,  0.   ,  3.   ])
    """
    return apply_to_numbers(layers.CELU(alpha), input, backend)


@on_arrays("input")
def gelu(backend: Backend, input: Array, approximate: str = "none") -> Array:
    """Gaussian error linear unit, ``x · Φ(x)``, with the distribution function Φ of the normal distribution.

    Parameters
    ----------
    input : Array
        Array of any shape.
    approximate : {"none", "tanh"}
        "tanh" approximates Φ by ``(1 + tanh(√(2/π) · (x + 0.044715 · x³))) / 2``; "none" computes Φ itself.

    Returns
    -------
    Array
        Array with the shape and type of ``input``.

    Raises
    ------
    ShapeError
        If ``approximate`` has another value.

    See Also
    --------
    im2colnet.GELU : The layer, with references.

    Examples
    --------
    >>> F.gelu(np.array([-2.0, 0.0, 3.0])).round(3)
    array([-0.046,  0.   ,  2.996])
    """
    return apply_to_numbers(layers.GELU(approximate), input, backend)


@on_arrays("input")
def mish(backend: Backend, input: Array) -> Array:
    """Mish, ``x · tanh(log(1 + exp(x)))``.

    Parameters
    ----------
    input : Array
        Array of any shape.

    Returns
    -------
    Array
        Array with the shape and type of ``input``.

    See Also
    --------
    im2colnet.Mish : The layer, with references.

    Examples
    --------
    >>> F.mish(np.array([-2.0, 0.0, 3.0])).round(3)
    array([-0.253,  0.   ,  2.987])
    """
    return apply_to_numbers(layers.Mish(), input, backend)


@on_arrays("input")
def softplus(backend: Backend, input: Array, beta: float = 1.0, threshold: float = 20.0) -> Array:
    """Smooth ReLU, ``log(1 + exp(beta · x)) / beta``, and ``x`` where ``beta · x`` is above ``threshold``.

    Parameters
    ----------
    input : Array
        Array of any shape.
    beta : float
        Sharpness, more than 0. The larger it is, the closer the function is to ReLU.
    threshold : float
        Value of ``beta · x``, at least 0, above which the result is x itself.

    Returns
    -------
    Array
        Array with the shape and type of ``input``.

    Raises
    ------
    ShapeError
        If beta is not positive, or the threshold is negative.

    See Also
    --------
    im2colnet.Softplus : The layer, with references.

    Examples
    --------
    >>> F.softplus(np.array([-2.0, 0.0, 3.0])).round(3)
    array([0.127, 0.693, 3.049])
    """
    return apply_to_numbers(layers.Softplus(beta, threshold), input, backend)


@on_arrays("input")
def softsign(backend: Backend, input: Array) -> Array:
    """Softsign, ``x / (1 + |x|)``.

    Parameters
    ----------
    input : Array
        Array of any shape.

    Returns
    -------
    Array
        Array with the shape and type of ``input``.

    See Also
    --------
    im2colnet.Softsign : The layer, with references.

    Examples
    --------
    >>> F.softsign(np.array([-2.0, 0.0, 3.0])).round(3)
    array([-0.667,  0.   ,  0.75 ])
    """
    return apply_to_numbers(layers.Softsign(), input, backend)


@on_arrays("input")
def logsigmoid(backend: Backend, input: Array) -> Array:
    """Logarithm of the sigmoid, ``-log(1 + exp(-x))``.

    Parameters
    ----------
    input : Array
        Array of any shape.

    Returns
    -------
    Array
        Array with the shape and type of ``input``.

    See Also
    --------
    im2colnet.LogSigmoid : The layer, with references.

    Examples
    --------
    >>> F.logsigmoid(np.array([-2.0, 0.0, 3.0])).round(3)
    array([-2.127, -0.693, -0.049])
    """
    return apply_to_numbers(layers.LogSigmoid(), input, backend)


@on_arrays("input")
def hardtanh(backend: Backend, input: Array, min_val: float = -1.0, max_val: float = 1.0) -> Array:
    """Clip to a range: ``x``, but at least ``min_val`` and at most ``max_val``.

    Parameters
    ----------
    input : Array
        Array of any shape.
    min_val, max_val : float
        The smallest and the largest output.

    Returns
    -------
    Array
        Array with the shape and type of ``input``.

    Raises
    ------
    ShapeError
        If min_val is not less than max_val.

    See Also
    --------
    im2colnet.Hardtanh : The layer, with references.

    Examples
    --------
    >>> F.hardtanh(np.array([-2.0, 0.5, 3.0]))
    array([-1. ,  0.5,  1. ])
    """
    return apply_to_numbers(layers.Hardtanh(min_val, max_val), input, backend)


@on_arrays("input")
def relu6(backend: Backend, input: Array) -> Array:
    """ReLU with a maximum of 6: ``x``, but at least 0 and at most 6.

    Parameters
    ----------
    input : Array
        Array of any shape.

    Returns
    -------
    Array
        Array with the shape and type of ``input``.

    See Also
    --------
    im2colnet.ReLU6 : The layer, with references.

    Examples
    --------
    >>> F.relu6(np.array([-2.0, 3.0, 8.0]))
    array([0., 3., 6.])
    """
    return apply_to_numbers(layers.ReLU6(), input, backend)


@on_arrays("input")
def hardsigmoid(backend: Backend, input: Array) -> Array:
    """Piecewise linear sigmoid: ``(x + 3) / 6``, but at least 0 and at most 1.

    Parameters
    ----------
    input : Array
        Array of any shape.

    Returns
    -------
    Array
        Array with the shape and type of ``input``.

    See Also
    --------
    im2colnet.Hardsigmoid : The layer, with references.

    Examples
    --------
    >>> F.hardsigmoid(np.array([-4.0, 0.0, 1.5]))
    array([0.  , 0.5 , 0.75])
    """
    return apply_to_numbers(layers.Hardsigmoid(), input, backend)


@on_arrays("input")
def hardswish(backend: Backend, input: Array) -> Array:
    """Piecewise approximation of swish: ``x · hardsigmoid(x)``.

    Parameters
    ----------
    input : Array
        Array of any shape.

    Returns
    -------
    Array
        Array with the shape and type of ``input``.

    See Also
    --------
    im2colnet.Hardswish : The layer, with references.

    Examples
    --------
    >>> F.hardswish(np.array([-2.0, 0.0, 3.0])).round(3)
    array([-0.333,  0.   ,  3.   ])
    """
    return apply_to_numbers(layers.Hardswish(), input, backend)


@on_arrays("input")
def threshold(backend: Backend, input: Array, threshold: float, value: float) -> Array:
    """``x`` where x is above ``threshold``, else ``value``.

    Parameters
    ----------
    input : Array
        Array of any shape.
    threshold : float
        The result is x if x is above this number.
    value : float
        The result otherwise.

    Returns
    -------
    Array
        Array with the shape and type of ``input``.

    Raises
    ------
    ShapeError
        If threshold or value is not a number.

    See Also
    --------
    im2colnet.Threshold : The layer, with references.

    Examples
    --------
    >>> F.threshold(np.array([-2.0, 1.0, 3.0]), 1.0, -5.0)
    array([-5., -5.,  3.])
    """
    return apply_to_numbers(layers.Threshold(threshold, value), input, backend)


@on_arrays("input", "weight")
def prelu(backend: Backend, input: Array, weight: Array) -> Array:
    """ReLU with a slope for each channel, ``x`` where x is positive, else ``weight · x``.

    Parameters
    ----------
    input : Array, (N, C, ...)
        Array; of any shape if there is only one weight.
    weight : Array, (1,) or (C,)
        The slopes for negative x.

    Returns
    -------
    Array
        Array with the shape and type of ``input``.

    Raises
    ------
    ShapeError
        If the number of weights is neither 1 nor the number of channels.

    See Also
    --------
    im2colnet.PReLU : The layer, with references.

    Examples
    --------
    >>> x = np.array([[-2.0, -2.0], [3.0, 3.0]])
    >>> F.prelu(x, np.array([0.1, 0.5]))
    array([[-0.2, -1. ],
           [ 3. ,  3. ]])
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
    """Softmax, which turns scores into probabilities: ``exp(x)`` divided by its sum along the axis ``dim``.

    Parameters
    ----------
    input : Array
        Scores, of any shape.
    dim : int
        The axis along which the result sums to 1.

    Returns
    -------
    Array
        Array with the shape and type of ``input``.

    Raises
    ------
    ShapeError
        If the input has no such axis.

    Examples
    --------
    >>> x = np.array([[0.0, 1.0, 3.0], [5.0, 5.0, 5.0]])
    >>> F.softmax(x, dim=1).round(3)
    array([[0.042, 0.114, 0.844],
           [0.333, 0.333, 0.333]])
    """
    return _apply_along(layers.Softmax(2), input, dim, backend)


@on_arrays("input")
def log_softmax(backend: Backend, input: Array, dim: int) -> Array:
    """Logarithm of :func:`softmax`, ``x - log Σ exp(x)`` with the sum along the axis ``dim``.

    It stays accurate where the probability itself would be rounded to 0.

    Parameters
    ----------
    input : Array
        Scores, of any shape.
    dim : int
        The axis along which the probabilities sum to 1.

    Returns
    -------
    Array
        Array with the shape and type of ``input``.

    Raises
    ------
    ShapeError
        If the input has no such axis.

    Examples
    --------
    >>> F.log_softmax(np.array([[0.0, 1000.0]]), dim=1)
    array([[-1000.,     0.]])
    """
    return _apply_along(layers.LogSoftmax(2), input, dim, backend)


@on_arrays("input")
def glu(backend: Backend, input: Array, dim: int = -1) -> Array:
    """Gated linear unit, ``a · sigmoid(b)`` of the two halves a and b of the axis ``dim``.

    Parameters
    ----------
    input : Array
        Array of any shape.
    dim : int
        The axis to split; its length must be even.

    Returns
    -------
    Array
        Array with the shape of ``input``, but half as long along ``dim``.

    Raises
    ------
    ShapeError
        If the input has no such axis, or its length is odd.

    See Also
    --------
    im2colnet.GLU : The layer, with references.

    Examples
    --------
    >>> F.glu(np.array([1.0, 2.0, 0.0, 100.0]))
    array([0.5, 2. ])
    """
    axis = axis_of(input, dim)
    if not input.ndim or input.shape[axis] % 2:
        raise ShapeError(f"the axis dim={dim} of input must have an even length, got shape {input.shape}")
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
