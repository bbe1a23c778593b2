"""Functions of each number."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from im2colnet.backend import Backend
from im2colnet.layers.base import Context, Layer, Needs, _same_rows
from im2colnet.types import Array, Call, Shape


@dataclass(eq=False, repr=False)
class ReLU(Layer):
    """``y = max(x, 0)``; the gradient passes where the input was positive."""

    def needs(self, x: Shape, y: Shape, dtype: str, backend: Backend, training: bool) -> Needs:
        work = {"relu_grad": backend.workspace("relu_grad", x, y, dtype)}
        return Needs(input=False, output=True, inplace=True, backward=work)

    band = _same_rows

    def epilogue(self, training: bool) -> str | None:
        return "relu"

    def prepare_forward(self, x: Array, ctx: Context) -> Iterable[Call]:
        return ctx.backend.prepare("relu", x, out=ctx.y)

    def prepare_backward(self, dy: Array, ctx: Context) -> Iterable[Call]:
        return ctx.backend.prepare("relu_grad", ctx.y, dy, out=ctx.dx, work=ctx.work["relu_grad"])
