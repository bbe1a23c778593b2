"""A layer applied to an array, without a network: the layers have the formulas, the functions only their names."""

from __future__ import annotations

from math import prod

from im2colnet.backend import Backend
from im2colnet.functional.arguments import from_rows, to_rows, zeros
from im2colnet.layers import Context, Layer
from im2colnet.layers.base import Scratch
from im2colnet.layout import channels
from im2colnet.types import Array


def apply(
    layer: Layer,
    x: Array,
    backend: Backend,
    params: dict[str, Array] | None = None,
    state: dict[str, Array] | None = None,
    training: bool = False,
    key: tuple[int, ...] = (),
) -> Array:
    """Return what a layer makes of a value as the library stores it, (H, C, W, N) or (..., N).

    Parameters
    ----------
    layer : Layer
    x : Array
        C-contiguous. A value that holds no number gives zeros.
    backend : Backend
    params, state : dict of str to Array, optional
        The layer's parameters and its state, C-contiguous. Training changes the state.
    training : bool
    key : tuple of int
        Seeds random numbers.
    """
    y, dtype = layer.output_shape(x.shape), x.dtype.name
    if 0 in x.shape:
        return zeros(backend, x, y)
    needs = layer.needs(x.shape, y, dtype, backend, training)
    if needs.view:
        return x.reshape(y).copy()
    ctx = Context()
    ctx.backend, ctx.training, ctx.activation = backend, training, None
    ctx.xs, ctx.y, ctx.samples, ctx.key = (x,), backend.empty(y, dtype), x.shape[-1], key
    ctx.params, ctx.buffers = params or {}, state or {}
    ctx.saved = {name: backend.empty(*spec) for name, spec in needs.saved.items()}
    if training and layer.batch_sums:
        ctx.sums = backend.empty((layer.batch_sums, channels(x.shape)), "float64")
        ctx.scratch = _scratch(needs.sums, backend)
        layer.shard_sums(x, ctx)
        layer.use_sums([ctx])
    if training and layer.step_sums:
        ctx.step_sums = backend.empty((layer.step_sums, channels(x.shape)), "float64")
    ctx.scratch = _scratch(needs.forward, backend)
    layer.forward(x, ctx)
    if training:
        layer.finish_step(ctx)
    return ctx.y


def _scratch(kernels: Scratch, backend: Backend) -> dict[str, list[Array]]:
    return {kernel: [backend.empty(*spec) for spec in specs] for kernel, specs in kernels.items()}


def apply_to_samples(layer: Layer, x: Array, backend: Backend, params: dict[str, Array] | None = None) -> Array:
    """Return what a layer makes of samples as users see them, (N, C, H, W) or (N, ...)."""
    return from_rows(backend, apply(layer, to_rows(backend, x), backend, params))


def apply_to_numbers(
    layer: Layer, x: Array, backend: Backend, training: bool = False, key: tuple[int, ...] = ()
) -> Array:
    """Return what a layer that is a function of each number makes of an array of any shape."""
    flat = backend.xp.ascontiguousarray(x).reshape(x.size)
    return apply(layer, flat, backend, training=training, key=key).reshape(x.shape)


def beside_channels(backend: Backend, x: Array) -> Array:
    """Return (N, C, ...) as one sample of N rows and C channels, (N, C, ..., 1), for layers that know channels alone.

    It is a view, if the array is C-contiguous: nothing is transposed.
    """
    N, C, *places = x.shape
    return backend.xp.ascontiguousarray(x).reshape(N, C, prod(places), 1)
