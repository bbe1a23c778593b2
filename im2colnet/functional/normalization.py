"""Normalization; the layers have the formulas."""

from __future__ import annotations

from math import inf, prod
from typing import Any

from im2colnet.backend import Backend
from im2colnet.backend.registry import backend_of
from im2colnet.checks import number, truth_value
from im2colnet.errors import DTypeError, ShapeError
from im2colnet.functional.applying import apply, apply_to_samples, beside_channels
from im2colnet.functional.arguments import FLOATS, axis_of, check_vector, computed, from_rows, on_arrays, to_rows
from im2colnet.layers import BatchNorm2d, GroupNorm, InstanceNorm2d, Layer, LayerNorm, LocalResponseNorm, RMSNorm
from im2colnet.types import Array, Shape

__all__ = [
    "batch_norm",
    "group_norm",
    "instance_norm",
    "layer_norm",
    "local_response_norm",
    "normalize",
    "rms_norm",
]


def _channels(input: Array) -> int:
    if input.ndim < 2:
        raise ShapeError(f"input must have channels, (N, C, ...), got shape {input.shape}")
    channels: int = input.shape[1]
    return channels


def _given(**parameters: Array | None) -> dict[str, Array]:
    return {name: array for name, array in parameters.items() if array is not None}


@on_arrays("input", "weight", "bias")
def batch_norm(
    backend: Backend,
    input: Array,
    running_mean: Array | None,
    running_var: Array | None,
    weight: Array | None = None,
    bias: Array | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Array:
    """Batch normalization: normalize each channel over the batch and all positions.

    ``weight · (x - mean) / √(var + eps) + bias``. With ``training=True`` the mean and (biased) variance of the batch
    are used, and the running statistics, if they are given, are updated in place:
    ``running = (1 - momentum) · running + momentum · batch``, with the unbiased variance. Otherwise the running
    statistics are used.

    Parameters
    ----------
    input : Array, (N, C, ...)
        Images, sequences or features.
    running_mean, running_var : Array, (C,), or None
        The running statistics. None is allowed only with ``training=True``.
    weight, bias : Array, (C,), optional
        Scale and shift, applied after the normalization.
    training : bool
        Whether to use the statistics of the batch.
    momentum, eps : float
        The constants of the formulas.

    Returns
    -------
    Array, (N, C, ...)
        Array with the shape and type of ``input``.

    Raises
    ------
    ShapeError, DTypeError
        If the arguments do not fit together, or if ``training`` is True and each channel has only one number.
    NonFiniteError
        If the mean or the variance of the batch is not finite; only on CPU backends.

    See Also
    --------
    im2colnet.BatchNorm2d : The layer, with references.

    Examples
    --------
    >>> x = np.array([[1.0, 10.0], [3.0, 50.0]])
    >>> F.batch_norm(x, None, None, training=True).round(3)
    array([[-1., -1.],
           [ 1.,  1.]])
    """
    C = _channels(input)
    _check_affine(C, weight, bias)
    running = _running(backend, C, running_mean=running_mean, running_var=running_var)
    training, momentum = truth_value("training", training), number("momentum", momentum)
    if len(running) != 2 and not training:
        raise ShapeError("running_mean and running_var must be given, unless training=True")
    state = _state(backend, C, input.dtype.name, running)
    params = {name: backend.xp.ascontiguousarray(array) for name, array in _given(weight=weight, bias=bias).items()}
    y = apply(BatchNorm2d(C, eps, momentum), beside_channels(backend, input), backend, params, state, training)
    if training:
        _keep(state, running, input)
    return y.reshape(input.shape)


def _check_affine(channels: int, weight: Array | None, bias: Array | None) -> None:
    """Raise a ShapeError unless weight and bias, where they are given, have a number for each channel."""
    check_vector("weight", weight, channels, "channel")
    check_vector("bias", bias, channels, "channel")


def _running(backend: Backend, channels: int, **arrays: Array | None) -> dict[str, Array]:
    """Return the running statistics that are given, or raise an error that says what is wrong with them."""
    given = _given(**arrays)
    for name, array in given.items():
        if backend_of(**{name: array}) is not backend:
            raise ShapeError(f"{name} must be an array of the backend {backend.full_name!r}, as input is")
        check_vector(name, array, channels, "channel")
        if array.dtype.name not in FLOATS:
            raise DTypeError(f"{name} must be float32, float64 or float16, got {array.dtype.name}")
    return given


def _state(backend: Backend, channels: int, dtype: str, running: dict[str, Array]) -> dict[str, Array]:
    """Return copies of the running statistics, zeros of those that are not given."""
    xp = backend.xp
    given = {name: xp.ascontiguousarray(computed(array)).copy() for name, array in running.items()}
    return {name: xp.zeros(channels, dtype=dtype) for name in ("running_mean", "running_var")} | given


def _keep(state: dict[str, Array], running: dict[str, Array], input: Array) -> None:
    """Write the new running statistics over those that are given, unless there was no number to change them."""
    for name, array in running.items() if input.size else ():
        array[...] = state[name]


@on_arrays("input", "weight", "bias")
def instance_norm(
    backend: Backend,
    input: Array,
    running_mean: Array | None = None,
    running_var: Array | None = None,
    weight: Array | None = None,
    bias: Array | None = None,
    use_input_stats: bool = True,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Array:
    """Instance normalization: normalize each channel of each sample.

    ``weight · (x - mean) / √(var + eps) + bias``, with the mean and (biased) variance of one channel of one sample.

    Parameters
    ----------
    input : Array, (N, C, ...)
        Images or sequences. With ``use_input_stats`` each channel must have more than one number.
    running_mean, running_var : Array, (C,), optional
        The running statistics. They are updated in place, as in :func:`batch_norm`, with the mean of the samples'
        statistics.
    weight, bias : Array, (C,), optional
        Scale and shift, applied after the normalization.
    use_input_stats : bool
        Whether to use each sample's statistics; with False the running statistics are used.
    momentum, eps : float
        The constants of the formulas.

    Returns
    -------
    Array, (N, C, ...)
        Array with the shape and type of ``input``.

    Raises
    ------
    ShapeError, DTypeError
        If the arguments do not fit together; the message names them.

    See Also
    --------
    im2colnet.InstanceNorm2d : The layer, with references.

    Examples
    --------
    >>> x = np.array([[[1.0, 3.0], [10.0, 50.0]]])
    >>> F.instance_norm(x).round(3)
    array([[[-1.,  1.],
            [-1.,  1.]]])
    """
    C = _channels(input)
    if not truth_value("use_input_stats", use_input_stats):
        return batch_norm(input, running_mean, running_var, weight, bias, False, momentum, eps)
    momentum = number("momentum", momentum)
    if prod(input.shape[2:]) == 1:
        raise ShapeError(f"input must have more than one value per channel, got shape {input.shape}")
    _check_affine(C, weight, bias)
    running = _running(backend, C, running_mean=running_mean, running_var=running_var)
    params = _given(weight=weight, bias=bias)
    layer = InstanceNorm2d(C, eps, momentum, affine=bool(params), track_running_stats=bool(running))
    state = _state(backend, C, input.dtype.name, running)
    x = to_rows(backend, input.reshape(len(input), C, prod(input.shape[2:]), 1))
    y = from_rows(backend, apply(layer, x, backend, params, state, training=True))
    _keep(state, running, input)
    return y.reshape(input.shape)


@on_arrays("input", "weight", "bias")
def group_norm(
    backend: Backend,
    input: Array,
    num_groups: int,
    weight: Array | None = None,
    bias: Array | None = None,
    eps: float = 1e-5,
) -> Array:
    """Group normalization: normalize each group of channels of each sample over all positions.

    ``weight · (x - mean) / √(var + eps) + bias``.

    Parameters
    ----------
    input : Array, (N, C, ...)
        Images, sequences or features.
    num_groups : int
        Number of groups; it must divide the number of channels.
    weight, bias : Array, (C,), optional
        Scale and shift, applied after the normalization.
    eps : float
        Added to the variance.

    Returns
    -------
    Array, (N, C, ...)
        Array with the shape and type of ``input``.

    Raises
    ------
    ShapeError, DTypeError
        If the arguments do not fit together; the message names them.

    See Also
    --------
    im2colnet.GroupNorm : The layer, with references.

    Examples
    --------
    >>> F.group_norm(np.array([[1.0, 3.0, 10.0, 50.0]]), 2).round(3)
    array([[-1.,  1., -1.,  1.]])
    """
    C = _channels(input)
    _check_affine(C, weight, bias)
    x = input.reshape(len(input), C, prod(input.shape[2:]))
    y = apply_to_samples(GroupNorm(num_groups, C, eps), x, backend, _given(weight=weight, bias=bias))
    return y.reshape(input.shape)


@on_arrays("input", "weight", "bias")
def layer_norm(
    backend: Backend,
    input: Array,
    normalized_shape: Any,
    weight: Array | None = None,
    bias: Array | None = None,
    eps: float = 1e-5,
) -> Array:
    """Layer normalization over the last axes, ``weight · (x - mean) / √(var + eps) + bias``.

    Parameters
    ----------
    input : Array
        Array whose last axes have the shape ``normalized_shape``.
    normalized_shape : int or tuple of int
        The sizes of the axes to normalize over.
    weight, bias : Array, normalized_shape, optional
        Scale and shift, applied after the normalization.
    eps : float
        Added to the variance.

    Returns
    -------
    Array
        Array with the shape and type of ``input``.

    Raises
    ------
    ShapeError, DTypeError
        If the arguments do not fit together; the message names them.

    See Also
    --------
    im2colnet.LayerNorm : The layer, with references.

    Examples
    --------
    >>> x = np.array([[1.0, 2.0, 3.0], [10.0, 30.0, 50.0]])
    >>> F.layer_norm(x, 3).round(3)
    array([[-1.225,  0.   ,  1.225],
           [-1.225,  0.   ,  1.225]])
    """
    return _over_last_axes(LayerNorm(normalized_shape, eps), input, backend, weight=weight, bias=bias)


@on_arrays("input", "weight")
def rms_norm(
    backend: Backend, input: Array, normalized_shape: Any, weight: Array | None = None, eps: float | None = None
) -> Array:
    """Root mean square normalization over the last axes, ``weight · x / √(mean(x²) + eps)``.

    Parameters
    ----------
    input : Array
        Array whose last axes have the shape ``normalized_shape``.
    normalized_shape : int or tuple of int
        The sizes of the axes to normalize over.
    weight : Array, normalized_shape, optional
        Scale, applied after the normalization.
    eps : float, optional
        Added to the mean square. By default the machine epsilon of the type in which the function computes.

    Returns
    -------
    Array
        Array with the shape and type of ``input``.

    Raises
    ------
    ShapeError, DTypeError
        If the arguments do not fit together; the message names them.

    See Also
    --------
    im2colnet.RMSNorm : The layer, with references.

    Examples
    --------
    >>> F.rms_norm(np.array([[1.0, 1.0, 1.0, 3.0]]), 4).round(3)
    array([[0.577, 0.577, 0.577, 1.732]])
    """
    return _over_last_axes(RMSNorm(normalized_shape, eps), input, backend, weight=weight)


def _over_last_axes(layer: Any, input: Array, backend: Backend, **parameters: Array | None) -> Array:
    """Return what LayerNorm or RMSNorm make of an array: its last axes become the features of samples."""
    wanted: Shape = layer.normalized_shape
    if tuple(input.shape[-len(wanted) :]) != wanted:
        raise ShapeError(f"input must have a shape that ends in normalized_shape={wanted}, got {input.shape}")
    params = _given(**parameters)
    for name, array in params.items():
        if tuple(array.shape) != wanted:
            raise ShapeError(f"{name} must have the shape normalized_shape={wanted}, got {array.shape}")
    K = prod(wanted)
    features: Layer = type(layer)(K, layer.eps)
    x = input.reshape(prod(input.shape[: -len(wanted)]), K)
    y = apply_to_samples(features, x, backend, {name: array.reshape(K) for name, array in params.items()})
    return y.reshape(input.shape)


@on_arrays("input")
def local_response_norm(
    backend: Backend, input: Array, size: int, alpha: float = 1e-4, beta: float = 0.75, k: float = 1.0
) -> Array:
    """Local response normalization over neighbouring channels.

    ``x / (k + alpha · mean(x²))**beta``, where the mean is over ``size`` channels at the same position.

    Parameters
    ----------
    input : Array, (N, C, ...)
        Images or sequences.
    size : int
        Number of channels in the mean, ``size // 2`` of them before the channel of x.
    alpha, beta, k : float
        The constants of the formula.

    Returns
    -------
    Array, (N, C, ...)
        Array with the shape and type of ``input``.

    Raises
    ------
    ShapeError, DTypeError
        If the arguments do not fit together; the message names them.

    See Also
    --------
    im2colnet.LocalResponseNorm : The layer, with references.

    Examples
    --------
    >>> x = np.ones((1, 3, 1))
    >>> F.local_response_norm(x, 2, alpha=1.0).ravel().round(3)
    array([0.738, 0.595, 0.595])
    """
    _channels(input)
    layer = LocalResponseNorm(size, alpha, beta, k)
    return apply(layer, beside_channels(backend, input), backend).reshape(input.shape)


@on_arrays("input")
def normalize(backend: Backend, input: Array, p: float = 2.0, dim: int = 1, eps: float = 1e-12) -> Array:
    """Divide vectors along an axis by their norm, ``x / max(‖x‖ₚ, eps)``, so that each has length 1.

    Parameters
    ----------
    input : Array
        Array of any shape.
    p : float
        The exponent of the norm. 0 means the number of elements that are not 0, infinity the largest absolute value.
    dim : int
        The axis of the vectors.
    eps : float
        Smallest divisor.

    Returns
    -------
    Array
        Array with the shape and type of ``input``.

    Raises
    ------
    ShapeError, DTypeError
        If the input has no such axis, or p is out of range.

    Examples
    --------
    >>> F.normalize(np.array([[3.0, 4.0], [0.0, 2.0]]))
    array([[0.6, 0.8],
           [0. , 1. ]])
    """
    axis = axis_of(input, dim)
    exponent, xp = inf if p == inf else number("p", p), backend.xp
    size = xp.abs(input)
    if not input.size:
        return size
    if exponent in (0, inf):
        norm = (size != 0).sum(axis=axis, keepdims=True) if not exponent else size.max(axis=axis, keepdims=True)
    else:
        norm = xp.power(xp.power(size, exponent).sum(axis=axis, keepdims=True), 1 / exponent)
    return input / xp.maximum(norm.astype(input.dtype), number("eps", eps))
