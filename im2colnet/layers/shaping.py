"""Layers that change the shape, not the numbers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from math import prod
from operator import setitem
from typing import Any, ClassVar

from im2colnet.backend import Backend
from im2colnet.checks import check_dim, whole
from im2colnet.errors import ShapeError
from im2colnet.layers.base import Band, Context, Layer, Needs, _images, _same_rows, images_of
from im2colnet.layout import inner_axis, internal_shape, user_axes, user_shape
from im2colnet.types import Array, Call, Shape, Spec, accumulator

__all__ = [
    "ChannelShuffle",
    "Flatten",
    "PixelShuffle",
    "ReflectionPad2d",
    "ReplicationPad2d",
    "Unflatten",
    "ZeroPad2d",
    "ZeroPadShortcut",
]


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
        H, _, W, N = images_of(self.in_channels, x)
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
    """Base of the layers that move numbers: there are views of the input and of the output that are equal."""

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
    """Channels reordered: the first one of each group, then all second ones (Zhang et al. 2017, arXiv:1707.01083).

    ``groups`` must divide the number of channels.
    """

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


@dataclass(eq=False, repr=False)
class Padding(Layer):
    """Pixels around the image; ``padding`` is a number or, in PyTorch's order, (left, right, top, bottom)."""

    padding: Any
    fixed: ClassVar[frozenset[str]] = frozenset({"padding"})

    def __post_init__(self) -> None:
        try:
            sides = self.padding if hasattr(self.padding, "__iter__") else [self.padding] * 4
            left, right, top, bottom = (whole("padding", side, least=0) for side in sides)
        except (TypeError, ValueError):  # ShapeError is a ValueError
            wanted = "an integer of at least 0, or four of them, (left, right, top, bottom)"
            raise ShapeError(f"padding must be {wanted}, got {self.padding!r}") from None
        self._sides = (top, bottom), (left, right)

    def output_shape(self, x: Shape) -> Shape:
        (H, C, W, N), ((top, bottom), (left, right)) = _images(x), self._sides
        return H + top + bottom, C, W + left + right, N

    def flops(self, x: Shape, y: Shape) -> int:
        return 0

    def _inside(self, x: Shape) -> tuple[slice, slice, slice]:
        """Where the image of shape ``x`` lies in the output."""
        (top, _), (left, _) = self._sides
        return slice(top, top + x[0]), slice(None), slice(left, left + x[2])


class ZeroPad2d(Padding):
    """Zeros around the image.

    Parameters
    ----------
    padding : int or (left, right, top, bottom)
    """

    def needs(self, x: Shape, y: Shape, dtype: str, backend: Backend, training: bool) -> Needs:
        return Needs(input=False, output=False)

    def prepare_forward(self, x: Array, ctx: Context) -> Iterator[Call]:
        rows, _, columns = self._inside(x.shape)
        for border in (slice(rows.start), slice(rows.stop, None)):
            yield partial(setitem, ctx.y[border], ..., 0)
        for border in (slice(columns.start), slice(columns.stop, None)):
            yield partial(setitem, ctx.y[rows, :, border], ..., 0)
        yield partial(setitem, ctx.y[self._inside(x.shape)], ..., x)

    def prepare_backward(self, dy: Array, ctx: Context) -> Iterator[Call]:
        yield partial(setitem, ctx.dx, ..., dy[self._inside(ctx.dx.shape)])


class Repeating(Padding):
    """Base of the paddings that repeat pixels of the image: first along each row, then whole rows."""

    def _pixel(self, place: int, length: int) -> int:
        """Return which pixel of an axis is repeated at a place before the first pixel (negative) or after the last."""
        raise NotImplementedError

    def _repeated(self, axis: int, length: int) -> Iterator[tuple[int, int]]:
        """Yield the places in the padding of an axis, and those in the output that they repeat."""
        before, behind = self._sides[axis]
        for place in (*range(-before, 0), *range(length, length + behind)):
            yield place + before, self._pixel(place, length) + before

    def needs(self, x: Shape, y: Shape, dtype: str, backend: Backend, training: bool) -> Needs:
        of_sums = accumulator(dtype)
        return Needs(input=False, output=False, backward={"rows": [Spec((y[0], *x[1:]), of_sums)]})

    def prepare_forward(self, x: Array, ctx: Context) -> Iterator[Call]:
        y, (rows, _, _) = ctx.y, self._inside(x.shape)
        yield partial(setitem, y[self._inside(x.shape)], ..., x)
        for place, of in self._repeated(1, x.shape[2]):
            yield partial(setitem, y[rows, :, place], ..., y[rows, :, of])
        for place, of in self._repeated(0, x.shape[0]):
            yield partial(setitem, y[place], ..., y[of])

    def prepare_backward(self, dy: Array, ctx: Context) -> Iterator[Call]:
        xp, dx, (sums,) = ctx.xp, ctx.dx, ctx.scratch["rows"]
        rows, _, columns = self._inside(dx.shape)
        yield partial(setitem, sums, ..., dy[:, :, columns])
        for place, of in self._repeated(1, dx.shape[2]):
            pixel = sums[:, :, of - columns.start]
            yield partial(xp.add, pixel, dy[:, :, place], out=pixel)
        for place, of in self._repeated(0, dx.shape[0]):
            yield partial(xp.add, sums[of], sums[place], out=sums[of])
        yield partial(setitem, dx, ..., sums[rows])


class ReflectionPad2d(Repeating):
    """The image mirrored at its outermost pixels, which are not repeated.

    Parameters
    ----------
    padding : int or (left, right, top, bottom)
        Less than the image's width and height.
    """

    def output_shape(self, x: Shape) -> Shape:
        H, _, W, _ = _images(x)
        for what, length, sides in zip(("height", "width"), (H, W), self._sides, strict=True):
            if max(sides) >= length:
                raise ShapeError(
                    f"padding {sides} along the {what} must be less than the input's {length}: input shape"
                    f" {user_shape(x)}"
                )
        return super().output_shape(x)

    def _pixel(self, place: int, length: int) -> int:
        return -place if place < 0 else 2 * (length - 1) - place


class ReplicationPad2d(Repeating):
    """The image's outermost pixels repeated.

    Parameters
    ----------
    padding : int or (left, right, top, bottom)
    """

    def _pixel(self, place: int, length: int) -> int:
        return 0 if place < 0 else length - 1


@dataclass(eq=False, repr=False)
class Unflatten(Exchange):
    """One axis as several, such as features (N, C·H·W) as images (N, C, H, W): the opposite of :class:`Flatten`.

    Parameters
    ----------
    dim : int
        The axis, as users see it: 1 is that of the channels or features. Any but the batch, 0.
    unflattened_size : sequence of int
        The lengths of the new axes; -1 for one of them is what is left.
    """

    dim: int
    unflattened_size: Any
    fixed: ClassVar[frozenset[str]] = frozenset({"dim", "unflattened_size"})

    def __post_init__(self) -> None:
        self._set(dim=check_dim(self.dim))
        try:
            sizes = tuple(n if n == -1 else whole("unflattened_size", n) for n in self.unflattened_size)
        except (TypeError, ValueError):  # ShapeError is a ValueError
            sizes = ()
        if not sizes or sizes.count(-1) > 1:
            raise ShapeError(
                "Unflatten takes an axis and the positive lengths of those that it becomes, one of which may be -1, got"
                f" {self.dim!r} and {self.unflattened_size!r}"
            )
        self._sizes = sizes

    def output_shape(self, x: Shape) -> Shape:
        length, shape = x[inner_axis(self.dim, x)], user_shape(x)
        known = prod(n for n in self._sizes if n != -1)
        if length % known if -1 in self._sizes else length != known:
            raise ShapeError(
                f"the axis dim={self.dim} has {length} numbers, which are no {self._sizes}: input shape {shape}"
            )
        axis, sizes = self.dim % len(shape), tuple(length // known if n == -1 else n for n in self._sizes)
        return internal_shape((*shape[1:axis], *sizes, *shape[axis + 1 :]), shape[0])

    def needs(self, x: Shape, y: Shape, dtype: str, backend: Backend, training: bool) -> Needs:
        # one row (1, C, W, N) lies in memory as users see it; several change places
        in_order = all(len(shape) != 4 or shape[0] == 1 for shape in (x, y))
        return Needs(input=False, output=False, view=in_order)

    def _views(self, x: Array, y: Array) -> tuple[Array, Array]:
        shown = y.transpose(user_axes(y.ndim))
        return x.transpose(user_axes(x.ndim)).reshape(shown.shape), shown
