"""Layers that join several values, by broadcasting along the axes of length 1, as NumPy does, or along the channels.

Where one of them is asked by a shape ``x``, this is the tuple of the shapes of all its inputs.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from operator import setitem
from typing import Any, ClassVar

from im2colnet.backend import Backend
from im2colnet.errors import ShapeError
from im2colnet.layers.base import Band, Context, Layer, Needs
from im2colnet.layout import channel_axis, user_shape
from im2colnet.types import Array, Call, Shape, Spec, accumulator

__all__ = ["Add", "Concat", "Mul"]


def _rows_of_all(layer: Layer, rows: slice, x: Any) -> Band:
    """Return the band of a layer whose rows of output depend on the same rows of all its inputs."""
    alike = all(len(shape) == len(x[0]) and shape[0] == x[0][0] for shape in x)
    return (layer, rows) if alike else None


class Elementwise(Layer):
    """A function of two values of equal shapes, or whose axes of length 1 are broadcast; never along the batch."""

    sign: ClassVar[str]

    def output_shape(self, *x: Shape) -> Shape:
        if len(x) != 2:
            raise ShapeError(f"{self!r} reads two values, got {len(x)}")
        first, second = x
        fit = len(first) == len(second) and first[-1] == second[-1]
        if not fit or any(a != b and 1 not in (a, b) for a, b in zip(first, second, strict=True)):
            raise ShapeError(
                f"the shapes {user_shape(first)} {self.sign} {user_shape(second)} do not fit: axes must be equal, or 1"
                " in one of them"
            )
        return tuple(map(max, first, second))


class Add(Elementwise):
    """Sum of two values, such as the branches of a :class:`Residual`. Its gradient passes to both."""

    sign = "+"

    def needs(self, x: Any, y: Shape, dtype: str, backend: Backend, training: bool) -> Needs:
        alike = all(shape == y for shape in x)
        return Needs(input=False, output=False, inplace=alike, gradient_passes=alike)

    band = _rows_of_all

    def prepare_forward(self, x: Array, ctx: Context) -> Iterator[Call]:
        yield partial(ctx.xp.add, *ctx.xs, ctx.y)

    def prepare_backward(self, dy: Array, ctx: Context) -> Iterator[Call]:
        for dx in ctx.dxs:
            if dx is not None:
                yield from sum_broadcast(dy, dx, ctx.xp)


class Mul(Elementwise):
    """Product of two values: ``dx₁ = x₂ · dy`` and ``dx₂ = x₁ · dy``, summed where an axis was broadcast."""

    sign = "*"

    def needs(self, x: Any, y: Shape, dtype: str, backend: Backend, training: bool) -> Needs:
        return Needs(output=False, backward={"product": [Spec(y, dtype)]} if any(s != y for s in x) else {})

    band = _rows_of_all

    def prepare_forward(self, x: Array, ctx: Context) -> Iterator[Call]:
        yield partial(ctx.xp.multiply, *ctx.xs, ctx.y)

    def prepare_backward(self, dy: Array, ctx: Context) -> Iterator[Call]:
        for dx, other in zip(ctx.dxs, reversed(ctx.xs), strict=True):
            if dx is None:
                continue
            if dx.shape == dy.shape:
                yield partial(ctx.xp.multiply, other, dy, dx)
            else:
                (product,) = ctx.scratch["product"]
                yield partial(ctx.xp.multiply, other, dy, product)
                yield from sum_broadcast(product, dx, ctx.xp)


class Concat(Layer):
    """The values after each other along the channels, or features: PyTorch's ``torch.cat(values, dim=1)``."""

    def output_shape(self, *x: Shape) -> Shape:
        if len(x) < 2:
            raise ShapeError(f"Concat reads two values or more, got {len(x)}")
        axis = channel_axis(x[0])
        others = {(*shape[:axis], *shape[axis + 1 :]) if len(shape) == len(x[0]) else shape for shape in x}
        if len(others) > 1:
            shapes = ", ".join(str(user_shape(shape)) for shape in x)
            raise ShapeError(f"all axes but the channels must be equal to concatenate values, got {shapes}")
        return *x[0][:axis], sum(shape[axis] for shape in x), *x[0][axis + 1 :]

    def needs(self, x: Any, y: Shape, dtype: str, backend: Backend, training: bool) -> Needs:
        return Needs(input=False, output=False)

    def flops(self, x: Any, y: Shape) -> int:
        return 0

    def band(self, rows: slice, x: Any) -> Band:
        return (self, rows) if len(x[0]) == 4 else None

    def prepare_forward(self, x: Array, ctx: Context) -> Iterator[Call]:
        for part, one in zip(parts(ctx.y, ctx.xs), ctx.xs, strict=True):
            yield partial(setitem, part, ..., one)

    def prepare_backward(self, dy: Array, ctx: Context) -> Iterator[Call]:
        for part, dx in zip(parts(dy, ctx.xs), ctx.dxs, strict=True):
            if dx is not None:
                yield partial(setitem, dx, ..., part)


def parts(whole: Array, like: tuple[Array, ...]) -> Iterator[Array]:
    """Yield the part of a concatenated value that belongs to each of the values it is made of."""
    axis, start = channel_axis(whole.shape), 0
    for one in like:
        stop = start + one.shape[axis]
        yield whole[(*(slice(None),) * axis, slice(start, stop))]
        start = stop


def sum_broadcast(dy: Array, dx: Array, xp: Any) -> Iterator[Call]:
    """Write a gradient, summed along the axes that were broadcast, into ``dx``."""
    if dx.shape == dy.shape:
        yield partial(setitem, dx, ..., dy)
        return
    axes = tuple(i for i, (n, m) in enumerate(zip(dx.shape, dy.shape, strict=True)) if n != m)
    sums = accumulator(dx.dtype.name)
    if sums == dx.dtype.name:
        yield partial(xp.sum, dy, axis=axes, keepdims=True, out=dx)
    else:
        yield lambda: setitem(dx, ..., xp.sum(dy, axis=axes, keepdims=True, dtype=sums))
