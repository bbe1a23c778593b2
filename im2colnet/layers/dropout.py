"""Dropout."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

from im2colnet.backend import Backend
from im2colnet.checks import number
from im2colnet.layers.base import Context, Layer, Needs
from im2colnet.types import Array, Call, Shape, Spec, accumulator

__all__ = ["Dropout"]


@dataclass(eq=False, repr=False)
class Dropout(Layer):
    """While training, set each value to zero with probability ``p`` and scale the rest by 1 / (1 - p)."""

    p: float = 0.5

    def __post_init__(self) -> None:
        number("p", self.p, below=1)

    def needs(self, x: Shape, y: Shape, dtype: str, backend: Backend, training: bool) -> Needs:
        if not training:
            return Needs(input=False, output=False, view=True)
        draws = {} if accumulator(dtype) == dtype else {"draws": [Spec(x, accumulator(dtype))]}
        return Needs(input=False, output=False, inplace=True, saved={"mask": Spec(x, dtype)}, forward=draws)

    def prepare_forward(self, x: Array, ctx: Context) -> Iterator[Call]:
        mask = ctx.saved["mask"]
        yield partial(self._draw, ctx, mask, *ctx.scratch.get("draws", [mask]))
        yield partial(ctx.xp.multiply, x, mask, out=ctx.y)

    def _draw(self, ctx: Context, mask: Array, draws: Array) -> None:
        """Write 0 with probability p, else 1 / (1 - p), into the mask, by way of ``draws``."""
        ctx.backend.random(ctx.key, out=draws)
        ctx.xp.greater_equal(draws, self.p, out=draws)
        ctx.xp.multiply(draws, 1 / (1 - self.p), out=draws)
        if draws is not mask:
            mask[...] = draws

    def prepare_backward(self, dy: Array, ctx: Context) -> Iterator[Call]:
        yield partial(ctx.xp.multiply, dy, ctx.saved["mask"], out=ctx.dx)
