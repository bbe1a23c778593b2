"""Layers that change the shape, not the numbers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from math import inf, prod
from operator import setitem
from typing import Any, ClassVar

from im2colnet.backend import Backend
from im2colnet.checks import check_dim, number, whole
from im2colnet.errors import ShapeError
from im2colnet.layers.base import Band, Context, Layer, Needs, _images, _same_rows, images_of
from im2colnet.layout import inner_axis, internal_shape, user_axes, user_shape
from im2colnet.types import Array, Call, Shape, Spec, accumulator
from im2colnet.window import NAMES

__all__ = [
    "ChannelShuffle",
    "CircularPad2d",
    "ConstantPad2d",
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


#: places of the output along an axis, and the pixels of the image that they show
Part = tuple[slice, slice]


@dataclass(eq=False, repr=False)
class Padding(Layer):
    """Base of the layers that put pixels around the image, or cut some off where the number is negative.

    ``padding`` is a number or, in PyTorch's order, (left, right, top, bottom).
    """

    padding: Any
    axes: ClassVar[int] = 2  #: of an image
    fixed: ClassVar[frozenset[str]] = frozenset({"padding"})

    def __post_init__(self) -> None:
        try:
            sides = self.padding if hasattr(self.padding, "__iter__") else [self.padding] * 4
            left, right, top, bottom = (whole("padding", side, least=-(2**31)) for side in sides)
        except (TypeError, ValueError):  # ShapeError is a ValueError
            wanted = "an integer, or four of them, (left, right, top, bottom)"
            raise ShapeError(f"padding must be {wanted}, got {self.padding!r}") from None
        self._sides = (top, bottom), (left, right)

    def _check_axis(self, what: str, sides: tuple[int, int], length: int) -> None:
        """Raise a ShapeError if an axis of this length cannot be padded so."""
        if length + min(sides[0], 0) + min(sides[1], 0) < 1:
            raise ShapeError(f"padding {sides} along the {what} leaves nothing of the input's {length}")

    def output_shape(self, x: Shape) -> Shape:
        H, C, W, N = _images(x)
        for what, sides, length in zip(NAMES[self.axes], self._sides, (H, W), strict=True):
            self._check_axis(what, sides, length)
        (top, bottom), (left, right) = self._sides
        return H + top + bottom, C, W + left + right, N

    def needs(self, x: Shape, y: Shape, dtype: str, backend: Backend, training: bool) -> Needs:
        return Needs(input=False, output=False, backward={"fold": self.scratch(x, dtype)})

    def flops(self, x: Shape, y: Shape) -> int:
        return 0

    def prepare_forward(self, x: Array, ctx: Context) -> Iterator[Call]:
        return self.pad(x, ctx.y)

    def prepare_backward(self, dy: Array, ctx: Context) -> Iterator[Call]:
        return self.fold(dy, ctx.dx, ctx.scratch["fold"], ctx.xp)

    def pad(self, x: Array, y: Array) -> Iterator[Call]:
        """Write the padded images."""
        raise NotImplementedError

    def scratch(self, x: Shape, dtype: str) -> list[Spec]:
        """Return the scratch that :meth:`fold` takes for images of this shape."""
        return []

    def fold(self, dy: Array, dx: Array, scratch: list[Array], xp: Any) -> Iterator[Call]:
        """Write the gradient of the images, the sum over the places that show a pixel: what is adjoint to ``pad``."""
        raise NotImplementedError

    def _inside(self, axis: int, length: int) -> Part:
        """Return where the image lies in the output, and what of it."""
        before, after = self._sides[axis]
        first, last = max(-before, 0), length - max(-after, 0)
        start = max(before, 0)
        return slice(start, start + last - first), slice(first, last)


class Filled(Padding):
    """Base of the paddings of one number."""

    def _number(self) -> float:
        raise NotImplementedError

    def pad(self, x: Array, y: Array) -> Iterator[Call]:
        (rows, of_rows), (columns, of_columns) = self._inside(0, x.shape[0]), self._inside(1, x.shape[2])
        for border in _outside(rows):
            yield partial(setitem, y[border], ..., self._number())
        for border in _outside(columns):
            yield partial(setitem, y[rows, :, border], ..., self._number())
        yield partial(setitem, y[rows, :, columns], ..., x[of_rows, :, of_columns])

    def fold(self, dy: Array, dx: Array, scratch: list[Array], xp: Any) -> Iterator[Call]:
        (rows, of_rows), (columns, of_columns) = self._inside(0, dx.shape[0]), self._inside(1, dx.shape[2])
        for cut in _outside(of_rows):
            yield partial(setitem, dx[cut], ..., 0)
        for cut in _outside(of_columns):
            yield partial(setitem, dx[of_rows, :, cut], ..., 0)
        yield partial(setitem, dx[of_rows, :, of_columns], ..., dy[rows, :, columns])


def _outside(part: slice) -> tuple[slice, slice]:
    """Return what is before and behind a part of an axis."""
    return slice(part.start), slice(part.stop, None)


class ZeroPad2d(Filled):
    """Zeros around the image.

    Parameters
    ----------
    padding : int or (left, right, top, bottom)
        A negative number cuts pixels off.
    """

    def _number(self) -> float:
        return 0.0


@dataclass(eq=False, repr=False)
class ConstantPad2d(Filled):
    """One number around the image.

    Parameters
    ----------
    padding : int or (left, right, top, bottom)
        A negative number cuts pixels off.
    value : float
    """

    value: float

    def __post_init__(self) -> None:
        super().__post_init__()
        number("value", self.value, least=-inf)

    def _number(self) -> float:
        return self.value


class Repeating(Padding):
    """Base of the paddings that show pixels of the image."""

    def _around(self, before: int, after: int, kept: slice, length: int) -> tuple[slice, slice]:
        """Return the pixels of an axis that are shown before and behind what is kept of it: as many, or one for all."""
        raise NotImplementedError

    def _parts(self, axis: int, length: int) -> tuple[Part, Part, Part]:
        """Return the inside of the output along an axis, and what is before and behind it."""
        places, kept = self._inside(axis, length)
        before, after = (max(side, 0) for side in self._sides[axis])
        first, last = self._around(before, after, kept, length)
        return (places, kept), (slice(places.start), first), (slice(places.stop, places.stop + after), last)

    def pad(self, x: Array, y: Array) -> Iterator[Call]:
        for rows, of_rows in self._parts(0, x.shape[0]):
            for columns, of_columns in self._parts(1, x.shape[2]):
                yield partial(setitem, y[rows, :, columns], ..., x[of_rows, :, of_columns])

    def scratch(self, x: Shape, dtype: str) -> list[Spec]:
        of_sums, (OH, *_) = accumulator(dtype), self.output_shape(x)
        rows = Spec((OH, *x[1:]), of_sums)
        return [rows] if of_sums == dtype else [rows, Spec(x, of_sums)]

    def fold(self, dy: Array, dx: Array, scratch: list[Array], xp: Any) -> Iterator[Call]:
        rows, *wide = scratch
        sums = wide[0] if wide else dx
        yield from self._fold_axis(1, dy.swapaxes(0, 2), rows.swapaxes(0, 2), xp)
        yield from self._fold_axis(0, rows, sums, xp)
        if wide:
            yield partial(setitem, dx, ..., sums)

    def _fold_axis(self, axis: int, dy: Array, dx: Array, xp: Any) -> Iterator[Call]:
        """Add up the gradients of the places that show a pixel along an axis of the image, the first of the arrays."""
        (places, kept), *around = self._parts(axis, len(dx))
        for cut in _outside(kept):
            yield partial(setitem, dx[cut], ..., 0)
        yield partial(setitem, dx[kept], ..., dy[places])
        for places, pixels in (pair for part in around for pair in _one_to_one(*part, len(dx))):
            yield partial(xp.add, dx[pixels], dy[places], out=dx[pixels])


def _one_to_one(places: slice, pixels: slice, length: int) -> Iterator[Part]:
    """Divide places that all show one pixel into single ones, so that none of a part's pixels is met twice."""
    if len(range(length)[pixels]) == 1:
        yield from ((slice(place, place + 1), pixels) for place in range(places.start or 0, places.stop))
    else:
        yield places, pixels


class ReflectionPad2d(Repeating):
    """The image mirrored at its outermost pixels, which are not repeated.

    Parameters
    ----------
    padding : int or (left, right, top, bottom)
        Less than the image's width and height. A negative number cuts pixels off.
    """

    def _check_axis(self, what: str, sides: tuple[int, int], length: int) -> None:
        super()._check_axis(what, sides, length)
        if max(sides) >= length:
            raise ShapeError(f"padding {sides} along the {what} must be less than the input's {length}")

    def _around(self, before: int, after: int, kept: slice, length: int) -> tuple[slice, slice]:
        end = length - 2 - after
        return slice(before, 0, -1), slice(length - 2, None if end < 0 else end, -1)


class ReplicationPad2d(Repeating):
    """The image's outermost pixels repeated.

    Parameters
    ----------
    padding : int or (left, right, top, bottom)
        A negative number cuts pixels off.
    """

    def _around(self, before: int, after: int, kept: slice, length: int) -> tuple[slice, slice]:
        return slice(0, 1), slice(length - 1, length)


class CircularPad2d(Repeating):
    """The image repeated, as if its last pixel were before the first one: PyTorch's ``CircularPad2d``.

    Parameters
    ----------
    padding : int or (left, right, top, bottom)
        At most the image's width and height. A negative number cuts pixels off, and what is left is repeated.
    """

    def _check_axis(self, what: str, sides: tuple[int, int], length: int) -> None:
        super()._check_axis(what, sides, length)
        left = length + min(sides[0], 0) + min(sides[1], 0)
        if max(sides) > left:
            raise ShapeError(f"padding {sides} along the {what} must be at most the input's {left}")

    def _around(self, before: int, after: int, kept: slice, length: int) -> tuple[slice, slice]:
        return slice(kept.stop - before, kept.stop), slice(kept.start, kept.start + after)


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
