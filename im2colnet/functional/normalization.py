"""Normalisation; the layers have the formulas."""

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
    """Normalisation of each channel over the batch and all places (Ioffe & Szegedy 2015, algorithm 1).

    ``weight · (x - mean) / √(var + eps) + bias``. While training, mean and (biased) variance are the batch's, and the
    running ones, if they are given, are changed in place: ``running = (1 - momentum) · running + momentum · batch``,
    with the unbiased variance. Else they are the running ones.

    Parameters
    ----------
    input : (N, C, ...)
    running_mean, running_var : (C,) or None
        None only while training.
    weight, bias : (C,), optional
    training : bool
    momentum, eps : float

    Raises
    ------
    ShapeError, DTypeError
        Also while training on a single number for each channel.
    NonFiniteError
        If mean or variance of the batch is not finite, on a backend of the CPU.
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
    """Normalisation of each channel of each sample by itself (Ulyanov, Vedaldi & Lempitsky 2016, arXiv:1607.08022).

    Parameters
    ----------
    input : (N, C, ...)
        With more than one place.
    running_mean, running_var : (C,), optional
        Changed in place by the mean of the samples' statistics, as :func:`batch_norm` does it.
    weight, bias : (C,), optional
    use_input_stats : bool
        If it is False, the running statistics normalise, in place of each sample's own.
    momentum, eps : float
    """
    C = _channels(input)
    if not truth_value("use_input_stats", use_input_stats):
        return batch_norm(input, running_mean, running_var, weight, bias, False, momentum, eps)
    momentum = number("momentum", momentum)
    if prod(input.shape[2:]) == 1:
        raise ShapeError(f"input must have more than one place for each channel, got shape {input.shape}")
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
    """Normalisation of each sample's groups of channels, each over all places (Wu & He 2018, arXiv:1803.08494).

    ``weight · (x - mean) / √(var + eps) + bias``.

    Parameters
    ----------
    input : (N, C, ...)
    num_groups : int
        Divides the channels.
    weight, bias : (C,), optional
    eps : float
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
    """Normalisation over the last axes (Ba, Kiros & Hinton 2016, arXiv:1607.06450).

    ``weight · (x - mean) / √(var + eps) + bias``.

    Parameters
    ----------
    input : (..., *normalized_shape)
    normalized_shape : int or tuple of int
    weight, bias : of shape normalized_shape, optional
    eps : float
    """
    return _over_last_axes(LayerNorm(normalized_shape, eps), input, backend, weight=weight, bias=bias)


@on_arrays("input", "weight")
def rms_norm(
    backend: Backend, input: Array, normalized_shape: Any, weight: Array | None = None, eps: float | None = None
) -> Array:
    """Division by the root mean square over the last axes (Zhang & Sennrich 2019, arXiv:1910.07467).

    ``weight · x / √(mean(x²) + eps)``.

    Parameters
    ----------
    input : (..., *normalized_shape)
    normalized_shape : int or tuple of int
    weight : of shape normalized_shape, optional
    eps : float, optional
        By default the distance from 1 to the next number of the type that is computed in.
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
    """Division of each number by those at its place in the nearest channels (Krizhevsky et al. 2012, section 3.3).

    ``x / (k + alpha · mean(x²))**beta``, where the mean is of ``size`` channels of ``input`` (N, C, ...).
    """
    _channels(input)
    layer = LocalResponseNorm(size, alpha, beta, k)
    return apply(layer, beside_channels(backend, input), backend).reshape(input.shape)


@on_arrays("input")
def normalize(backend: Backend, input: Array, p: float = 2.0, dim: int = 1, eps: float = 1e-12) -> Array:
    """Division by the norm along an axis: ``x / max(‖x‖ₚ, eps)``.

    Parameters
    ----------
    input : Array of any shape
    p : float
        The exponent of the norm, 0 for the number of those that are not 0, infinity for the largest.
    dim : int
    eps : float
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
