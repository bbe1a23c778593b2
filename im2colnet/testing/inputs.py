"""A layer with several inputs in a network with one input: features, and each layer input is a part of them."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

from im2colnet.layers import Context, Layer
from im2colnet.layout import internal_shape
from im2colnet.network import Net, Network, Sequential
from im2colnet.testing.cases.base import LayerCase, State
from im2colnet.types import Array, Shape


class Part(Layer):
    """Takes the features from ``start`` on as samples of ``shape``, (C, H, W) or (features,)."""

    def __init__(self, start: int, shape: Sequence[int]) -> None:
        self.start, self.shape = start, tuple(shape)

    def mine(self, features: Array) -> Array:
        """The part of an array (features, ...), a view."""
        return features[self.start : self.start + prod(self.shape)]

    def output_shape(self, x: Shape) -> Shape:
        return internal_shape(self.shape, x[-1])

    def forward(self, x: Array, ctx: Context) -> Array:
        part = self.mine(x).reshape(*self.shape, x.shape[-1])
        ctx.y[...] = part.transpose(1, 0, 2, 3) if len(self.shape) == 3 else part
        return ctx.y

    def backward(self, dy: Array, ctx: Context) -> Array:
        dx = ctx.xp.zeros_like(ctx.x)
        part = dy.transpose(1, 0, 2, 3) if len(self.shape) == 3 else dy
        self.mine(dx)[...] = part.reshape(-1, dy.shape[-1])
        return dx


def forward(layer: Part, state: State, x: Array) -> Array:
    """The same of samples (N, features)."""
    return layer.mine(x.T).T.reshape(len(x), *layer.shape)


def backward(layer: Part, state: State, dy: Array, x: Array) -> tuple[tuple[Array, ...], dict[str, Array]]:
    """Its gradient."""
    dx = 0 * x
    layer.mine(dx.T)[...] = dy.reshape(len(dy), -1).T
    return (dx,), {}


PART = LayerCase(Part, forward, backward, examples=())


def network_of(layer: Layer, *shapes: Shape) -> Network:
    """Return a network of one layer: its input has the layer's input shape, or is the features of all its inputs."""
    if len(shapes) == 1:
        return Sequential([layer])
    starts = [sum(map(prod, shapes[:i])) for i in range(len(shapes))]
    parts = {f"input{i}": (Part(starts[i], shape), "input") for i, shape in enumerate(shapes)}
    return Net({**parts, "layer": (layer, *parts)})


def input_shape_of(*shapes: Shape) -> Shape:
    """Shape of one sample of that network's input."""
    return shapes[0] if len(shapes) == 1 else (sum(map(prod, shapes)),)
