"""Layers that change the number of pixels without parameters."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from operator import setitem
from typing import ClassVar

from im2colnet.backend import Backend
from im2colnet.layers.base import Band, Context, Layer, Needs, _images
from im2colnet.types import Array, Call, Shape, accumulator
from im2colnet.window import pair

__all__ = ["Upsample"]


@dataclass(eq=False, repr=False)
class Upsample(Layer):
    """Each pixel as often as ``scale_factor`` says: PyTorch's ``Upsample(scale_factor=..., mode="nearest")``.

    Parameters
    ----------
    scale_factor : int or (height, width)
    """

    scale_factor: int | tuple[int, int] = 2
    fixed: ClassVar[frozenset[str]] = frozenset({"scale_factor"})

    def __post_init__(self) -> None:
        self._factors = pair(self.scale_factor, "scale_factor")

    def output_shape(self, x: Shape) -> Shape:
        (H, C, W, N), (a, b) = _images(x), self._factors
        return H * a, C, W * b, N

    def needs(self, x: Shape, y: Shape, dtype: str, backend: Backend, training: bool) -> Needs:
        return Needs(input=False, output=False)

    def flops(self, x: Shape, y: Shape) -> int:
        return 0

    def band(self, rows: slice, x: Shape) -> Band:
        a = self._factors[0]
        return (self, slice(rows.start // a, rows.stop // a)) if rows.start % a == rows.stop % a == 0 else None

    def _blocks(self, y: Array) -> Array:
        """The outputs (H·a, C, W·b, N) as (H, a, C, W, b, N), a view."""
        (OH, C, OW, N), (a, b) = y.shape, self._factors
        return y.reshape(OH // a, a, C, OW // b, b, N)

    def prepare_forward(self, x: Array, ctx: Context) -> Iterator[Call]:
        yield partial(setitem, self._blocks(ctx.y), ..., x[:, None, :, :, None])

    def prepare_backward(self, dy: Array, ctx: Context) -> Iterator[Call]:
        blocks, dx = self._blocks(dy), ctx.dx
        if accumulator(dx.dtype.name) == dx.dtype.name:
            yield partial(ctx.xp.sum, blocks, axis=(1, 4), out=dx)
        else:
            sums = accumulator(dx.dtype.name)
            yield lambda: setitem(dx, ..., ctx.xp.sum(blocks, axis=(1, 4), dtype=sums))
