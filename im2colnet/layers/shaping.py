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
from im2colnet.layers.base import Band, Context, Layer, Needs, _images, _same_rows
from im2colnet.layout import user_shape
from im2colnet.types import Array, Call, Shape

__all__ = ["ChannelShuffle", "Flatten", "PixelShuffle", "ZeroPadShortcut"]


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


class Exchange(Layer):
    """The same numbers in other places: the output and the input are two views of them with the same axes."""

    def _views(self, x: Array, y: Array) -> tuple[Array, Array]:
        """Return views of an array like the input, and of one like the output, whose axes agree."""
        raise NotImplementedError

    def needs(self, x: Shape, y: Shape, dtype: str, backend: Backend, training: bool) -> Needs:
        return Needs(input=False, output=False)

    def flops(self, x: Shape, y: Shape) -> int:
        return 0

    def prepare_forward(self, x: Array, ctx: Context) -> Iterator[Call]:
        read, written = self._views(x, ctx.y)
        yield partial(setitem, written, ..., read)

    def prepare_backward(self, dy: Array, ctx: Context) -> Iterator[Call]:
        written, read = self._views(ctx.dx, dy)
        yield partial(setitem, written, ..., read)


@dataclass(eq=False, repr=False)
class PixelShuffle(Exchange):
    """Channels to pixels, (N, C·r², H, W) to (N, C, H·r, W·r), r = ``upscale_factor`` (Shi et al. 2016).

    Output pixel (h·r + i, w·r + j) of channel c is input pixel (h, w) of channel c·r² + i·r + j (arXiv:1609.05158).
    """

    upscale_factor: int
    fixed: ClassVar[frozenset[str]] = frozenset({"upscale_factor"})

    def __post_init__(self) -> None:
        self._set(upscale_factor=whole("upscale_factor", self.upscale_factor))

    def output_shape(self, x: Shape) -> Shape:
        (H, C, W, N), r = _images(x), self.upscale_factor
        if C % r**2:
            raise ShapeError(
                f"the channels must be a multiple of upscale_factor² = {r**2}, got {C}: input shape {user_shape(x)}"
            )
        return H * r, C // r**2, W * r, N

    def band(self, rows: slice, x: Shape) -> Band:
        r = self.upscale_factor
        return (self, slice(rows.start // r, rows.stop // r)) if rows.start % r == rows.stop % r == 0 else None

    def _views(self, x: Array, y: Array) -> tuple[Array, Array]:
        (H, _, W, N), (C, r) = x.shape, (y.shape[1], self.upscale_factor)
        return x.reshape(H, C, r, r, W, N).transpose(0, 2, 1, 4, 3, 5), y.reshape(H, r, C, W, r, N)


@dataclass(eq=False, repr=False)
class ChannelShuffle(Exchange):
    """The channels of the groups in turn: first the first of each (Zhang et al. 2017, arXiv:1707.01083)."""

    groups: int
    fixed: ClassVar[frozenset[str]] = frozenset({"groups"})

    def __post_init__(self) -> None:
        self._set(groups=whole("groups", self.groups))

    def output_shape(self, x: Shape) -> Shape:
        _, C, _, _ = _images(x)
        if C % self.groups:
            raise ShapeError(f"groups must divide the channels, got {self.groups} and {C}: input shape {user_shape(x)}")
        return x

    band = _same_rows

    def _views(self, x: Array, y: Array) -> tuple[Array, Array]:
        (H, C, W, N), g = x.shape, self.groups
        return x.reshape(H, g, C // g, W, N).transpose(0, 2, 1, 3, 4), y.reshape(H, C // g, g, W, N)
