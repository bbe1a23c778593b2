"""Functions of each number: a class for each row of :data:`im2colnet.backend.FORMULAS`."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar

from im2colnet.backend import Backend, Spec, formula
from im2colnet.checks import number
from im2colnet.layers.base import Context, Layer, Needs, _same_rows
from im2colnet.types import Array, Call, Shape

__all__ = ["LeakyReLU", "ReLU", "SiLU", "Sigmoid", "Tanh"]


class Activation(Layer):
    """``y = f(x)`` for each number; f is the formula of the class's ``kind``."""

    kind: str  #: the formula's name, and its constant after a colon

    def needs(self, x: Shape, y: Shape, dtype: str, backend: Backend, training: bool) -> Needs:
        reads, spec = formula(self.kind).reads, Spec(x, dtype)
        return Needs(
            input=reads == "x",
            output=reads == "y",
            inplace=reads == "y" or not training,
            forward={"activation": backend.activation.scratch(spec, self.kind)},
            backward={"activation_grad": backend.activation_grad.scratch(spec, spec, self.kind)},
        )

    band = _same_rows

    def epilogue(self, training: bool) -> str | None:
        return self.kind if formula(self.kind).reads == "y" or not training else None

    def prepare_forward(self, x: Array, ctx: Context) -> Iterable[Call]:
        return ctx.backend.activation.prepare(x, self.kind, out=ctx.y, scratch=ctx.scratch["activation"])

    def prepare_backward(self, dy: Array, ctx: Context) -> Iterable[Call]:
        read = ctx.x if formula(self.kind).reads == "x" else ctx.y
        return ctx.backend.activation_grad.prepare(
            read, dy, self.kind, out=ctx.dx, scratch=ctx.scratch["activation_grad"]
        )


class ReLU(Activation):
    """``y = max(x, 0)``; the gradient passes where the input was positive."""

    kind = "relu"


@dataclass(eq=False, repr=False)
class LeakyReLU(Activation):
    """``y = x`` where x is positive, else ``negative_slope · x``; the slope is at least 0."""

    negative_slope: float = 0.01
    fixed: ClassVar[frozenset[str]] = frozenset({"negative_slope"})

    def __post_init__(self) -> None:
        number("negative_slope", self.negative_slope)
        self._set(kind=f"leaky_relu:{float(self.negative_slope)!r}")


class Sigmoid(Activation):
    """``y = 1 / (1 + exp(-x))``."""

    kind = "sigmoid"


class Tanh(Activation):
    """``y = tanh(x)``."""

    kind = "tanh"


class SiLU(Activation):
    """``y = x / (1 + exp(-x))`` (Elfwing, Uchibe & Doya 2017, arXiv:1702.03118)."""

    kind = "silu"
