"""Layers that join several values."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from im2colnet.backend import Backend
from im2colnet.errors import ShapeError
from im2colnet.layers.base import Context, Layer, Needs, _same_rows
from im2colnet.layout import user_shape
from im2colnet.types import Array, Call, Shape


class Add(Layer):
    """Sum of two values: where the branches of a :class:`Residual` meet. Its gradient passes to both."""

    def output_shape(self, x: Shape, other: Shape | None = None) -> Shape:
        if other != x:
            raise ShapeError(
                f"the branches of a residual block must agree: the body gives {user_shape(x)}, the shortcut"
                f" {user_shape(other) if other else None}; give a shortcut that changes the shape as the body does"
            )
        return x

    def needs(self, x: Shape, y: Shape, dtype: str, backend: Backend, training: bool) -> Needs:
        return Needs(input=False, output=False, inplace=True, gradient_passes=True)

    band = _same_rows

    def prepare_forward(self, x: Array, ctx: Context) -> Iterator[Call]:
        yield partial(ctx.xp.add, *ctx.xs, ctx.y)
