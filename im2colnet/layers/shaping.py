"""Layers that change the shape, not the numbers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from math import prod
from operator import setitem
from typing import ClassVar

from im2colnet.backend import Backend
from im2colnet.checks import whole
from im2colnet.errors import ShapeError
from im2colnet.layers.base import Band, Context, Layer, Needs, _images
from im2colnet.layout import user_shape
from im2colnet.types import Array, Call, Shape

__all__ = ["Flatten", "ZeroPadShortcut"]


@dataclass(eq=False, repr=False)
class Flatten(Layer):
    """Images (N, C, H, W) to features (N, C·H·W)."""

    def output_shape(self, x: Shape) -> Shape:
        return prod(x[:-1]), x[-1]

    def needs(self, x: Shape, y: Shape, dtype: str, backend: Backend, training: bool) -> Needs:
        # one row (1, C, W, N) lies in memory as its features do; several change places
        return Needs(input=False, output=False, view=len(x) != 4 or x[0] == 1)

    def flops(self, x: Shape, y: Shape) -> int:
        return 0

    def prepare_forward(self, x: Array, ctx: Context) -> Iterator[Call]:
        H, C, W, N = x.shape
        yield partial(setitem, ctx.y.reshape(C, H, W, N), ..., x.transpose(1, 0, 2, 3))

    def prepare_backward(self, dy: Array, ctx: Context) -> Iterator[Call]:
        H, C, W, N = ctx.dx.shape
        yield partial(setitem, ctx.dx, ..., dy.reshape(C, H, W, N).transpose(1, 0, 2, 3))


@dataclass(eq=False, repr=False)
class ZeroPadShortcut(Layer):
    """Every ``stride``-th pixel, and zeros for the new channels: option A of He et al. 2015 (arXiv:1512.03385)."""

    in_channels: int
    out_channels: int
    stride: int = 1
    fixed: ClassVar[frozenset[str]] = frozenset({"in_channels", "out_channels", "stride"})

    def __post_init__(self) -> None:
        self._set(in_channels=whole("in_channels", self.in_channels), stride=whole("stride", self.stride))
        self._set(out_channels=whole("out_channels", self.out_channels, least=self.in_channels))

    def output_shape(self, x: Shape) -> Shape:
        H, C, W, N = _images(x)
        if self.in_channels != C:
            raise ShapeError(f"expected {self.in_channels} input channels, got {C}: input shape {user_shape(x)}")
        return -(-H // self.stride), self.out_channels, -(-W // self.stride), N

    def needs(self, x: Shape, y: Shape, dtype: str, backend: Backend, training: bool) -> Needs:
        return Needs(input=False, output=False)

    def band(self, rows: slice, x: Shape) -> Band:
        return self, slice(rows.start * self.stride, (rows.stop - 1) * self.stride + 1)

    def flops(self, x: Shape, y: Shape) -> int:
        return 0

    def prepare_forward(self, x: Array, ctx: Context) -> Iterator[Call]:
        C, s = self.in_channels, self.stride
        yield partial(setitem, ctx.y[:, :C], ..., x[::s, :, ::s])
        yield partial(setitem, ctx.y[:, C:], ..., 0)

    def prepare_backward(self, dy: Array, ctx: Context) -> Iterator[Call]:
        s = self.stride
        yield partial(setitem, ctx.dx, ..., 0)
        yield partial(setitem, ctx.dx[::s, :, ::s], ..., dy[:, : self.in_channels])
