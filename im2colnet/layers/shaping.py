"""Layers that change the shape, not the numbers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import product
from math import inf, prod
from operator import index, setitem
from typing import Any, ClassVar

from im2colnet.backend import Backend
from im2colnet.checks import check_dim, number, one_of, whole
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
    "Pad",
    "Permute",
    "PixelShuffle",
    "PixelUnshuffle",
    "ReflectionPad2d",
    "ReplicationPad2d",
    "Reshape",
    "Slice",
    "Transpose",
    "Unflatten",
    "ZeroPad2d",
    "ZeroPadShortcut",
]


class Reshaping(Layer):
    """Base of the layers that keep a sample's numbers in the order in which users see them, and change its axes."""

    def _reshaped(self, x: Shape) -> Sequence[int]:
        """Return the new shape of a sample, for values of shape ``x``."""
        raise NotImplementedError

    def output_shape(self, x: Shape) -> Shape:
        return internal_shape(self._reshaped(x), x[-1])

    def needs(self, x: Shape, y: Shape, dtype: str, backend: Backend, training: bool) -> Needs:
        if in_order(x) or in_order(y):
            return Needs(input=False, output=False, view=in_order(x) and in_order(y))
        ordered = {"ordered": [Spec((prod(x[:-1]), x[-1]), dtype)]}
        return Needs(input=False, output=False, forward=ordered, backward=ordered)

    def flops(self, x: Shape, y: Shape) -> int:
        return 0

    def prepare_forward(self, x: Array, ctx: Context) -> Iterable[Call]:
        return reshaped(x, ctx.y, *ctx.scratch.get("ordered", ()))

    def prepare_backward(self, dy: Array, ctx: Context) -> Iterable[Call]:
        return reshaped(dy, ctx.dx, *ctx.scratch.get("ordered", ()))


def in_order(shape: Shape) -> bool:
    """Whether a sample's numbers lie in memory as users see them: not those of images of several rows, (H, C, W, N)."""
    return len(shape) != 4 or shape[0] == 1


def reshaped(x: Array, y: Array, *scratch: Array) -> Iterator[Call]:
    """Write ``x`` into ``y`` in the order in which users see the numbers, by way of ``scratch`` if both are images."""
    read, written = (each.transpose(1, 0, 2, 3) if each.ndim == 4 else each for each in (x, y))
    if in_order(y.shape):
        yield partial(setitem, y.reshape(read.shape), ..., read)
    elif in_order(x.shape):
        yield partial(setitem, written, ..., x.reshape(written.shape))
    else:
        (ordered,) = scratch
        yield partial(setitem, ordered.reshape(read.shape), ..., read)
        yield partial(setitem, written, ..., ordered.reshape(written.shape))


@dataclass(eq=False, repr=False)
class Flatten(Reshaping):
    """Flatten images into features, (N, C, H, W) to (N, C·H·W); inputs of other shapes in the same way.

    Examples
    --------
    >>> net = ic.Sequential([ic.Flatten()])
    >>> net.predict(np.zeros((5, 3, 4, 4))).shape
    (5, 48)
    """

    def _reshaped(self, x: Shape) -> Sequence[int]:
        return (prod(x[:-1]),)


@dataclass(eq=False, repr=False)
class Reshape(Reshaping):
    """Reshape each sample: ``x.reshape(N, *shape)``.

    Parameters
    ----------
    shape : sequence of int
        The lengths of a sample's axes, without the batch. One length may be -1: it is computed from the other lengths.

    Raises
    ------
    ShapeError
        If the lengths are not such integers; when a network runs, also if a sample has a different number of elements.

    Examples
    --------
    >>> net = ic.Sequential([ic.Reshape((3, -1))])
    >>> net.predict(np.zeros((5, 12))).shape
    (5, 3, 4)
    """

    shape: Any
    fixed: ClassVar[frozenset[str]] = frozenset({"shape"})

    def __post_init__(self) -> None:
        sizes = lengths("shape", self.shape)
        if not sizes:
            raise ShapeError(
                f"shape must be the positive lengths of a sample's axes, one of which may be -1, got {self.shape!r}"
            )
        self._sizes = sizes

    def _reshaped(self, x: Shape) -> Sequence[int]:
        sizes = filled(self._sizes, prod(x[:-1]))
        if sizes is None:
            raise ShapeError(
                f"a sample has {prod(x[:-1])} numbers, which do not fit {self._sizes}: input shape {user_shape(x)}"
            )
        return sizes


@dataclass(eq=False, repr=False)
class Unflatten(Reshaping):
    """Split an axis into several, such as features (N, C·H·W) into images (N, C, H, W); inverse of :class:`Flatten`.

    Parameters
    ----------
    dim : int
        The axis: 1 is the axis of the channels or features. The batch axis, 0, is not allowed.
    unflattened_size : sequence of int
        The lengths of the new axes. One length may be -1: it is computed from the other lengths.

    Raises
    ------
    ShapeError
        If an argument is out of range; when a network runs, also if the axis has another length.

    Examples
    --------
    >>> net = ic.Sequential([ic.Unflatten(1, (3, 2, 2))])
    >>> net.predict(np.zeros((5, 12))).shape
    (5, 3, 2, 2)
    """

    dim: int
    unflattened_size: Any
    fixed: ClassVar[frozenset[str]] = frozenset({"dim", "unflattened_size"})

    def __post_init__(self) -> None:
        self._set(dim=check_dim(self.dim))
        sizes = lengths("unflattened_size", self.unflattened_size)
        if not sizes:
            raise ShapeError(
                "Unflatten takes an axis and the positive lengths of the new axes, one of which may be -1, got"
                f" {self.dim!r} and {self.unflattened_size!r}"
            )
        self._sizes = sizes

    def _reshaped(self, x: Shape) -> Sequence[int]:
        length, shape = x[inner_axis(self.dim, x)], user_shape(x)
        sizes = filled(self._sizes, length)
        if sizes is None:
            raise ShapeError(
                f"the axis dim={self.dim} has {length} numbers, which do not fit {self._sizes}: input shape {shape}"
            )
        axis = self.dim % len(shape)
        return *shape[1:axis], *sizes, *shape[axis + 1 :]


def lengths(name: str, given: Any) -> tuple[int, ...]:
    """Return lengths of axes, one of which may be -1; () if ``given`` is not a list of lengths."""
    try:
        sizes = tuple(n if n == -1 else whole(name, n) for n in given)
    except (TypeError, ValueError):  # ShapeError is a ValueError
        return ()
    return sizes if sizes.count(-1) < 2 else ()


def filled(sizes: Sequence[int], numbers: int) -> tuple[int, ...] | None:
    """Return lengths of axes for this number of elements, with a -1 replaced; None if they do not fit the number."""
    known = prod(n for n in sizes if n != -1)
    if numbers % known if -1 in sizes else numbers != known:
        return None
    return tuple(numbers // known if n == -1 else n for n in sizes)


@dataclass(eq=False, repr=False)
class ZeroPadShortcut(Layer):
    """Shortcut without parameters: every ``stride``-th pixel, and zeros for the new channels.

    Maps images (N, in_channels, H, W) to (N, out_channels, ⌈H / stride⌉, ⌈W / stride⌉).

    Parameters
    ----------
    in_channels, out_channels : int
        Number of channels of the input, and of the output; the output has at least as many.
    stride : int
        Step in pixels, along height and width.

    Raises
    ------
    ShapeError
        If an argument is out of range; when a network runs, also if the number of channels differs.

    Notes
    -----
    He et al. 2015 (arXiv:1512.03385), option A of section 4.1.

    Examples
    --------
    >>> layer = ic.ZeroPadShortcut(16, 32, stride=2)
    >>> net = ic.Sequential([layer])
    >>> net.predict(np.ones((1, 16, 8, 8))).shape
    (1, 32, 4, 4)
    """

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
    """Rearrange channels into pixels, (N, C·r², H, W) to (N, C, H·r, W·r), with r = ``upscale_factor``.

    It is the last step of a sub-pixel convolution. Output pixel (h·r + i, w·r + j) of channel c is input pixel (h, w)
    of channel c·r² + i·r + j.

    Parameters
    ----------
    upscale_factor : int
        Factor of the height and the width.

    Raises
    ------
    ShapeError
        If the factor is less than 1; when a network runs, also if its square does not divide the channels.

    Notes
    -----
    Shi et al. 2016 (arXiv:1609.05158).

    Examples
    --------
    >>> net = ic.Sequential([ic.PixelShuffle(2)])
    >>> net.predict([[[[1.0]], [[2.0]], [[3.0]], [[4.0]]]])
    array([[[[1., 2.],
             [3., 4.]]]], dtype=float32)
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
    """Shuffle channels: first the first channel of each group, then the second channel of each group, and so on.

    Input and output have the same shape.

    Parameters
    ----------
    groups : int
        Number of groups; it must divide the number of channels.

    Raises
    ------
    ShapeError
        When a network runs, if ``groups`` does not divide the number of channels.

    Notes
    -----
    Zhang et al. 2017 (arXiv:1707.01083).

    Examples
    --------
    >>> net = ic.Sequential([ic.ChannelShuffle(2)])
    >>> net.predict(np.arange(6.0).reshape(1, 6, 1, 1)).ravel()
    array([0., 3., 1., 4., 2., 5.], dtype=float32)
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
class PixelUnshuffle(Exchange):
    """Rearrange pixels into channels, (N, C, H·r, W·r) to (N, C·r², H, W), with r = ``downscale_factor``.

    It is the inverse of :class:`PixelShuffle`. Output pixel (h, w) of channel c·r² + i·r + j is input pixel
    (h·r + i, w·r + j) of channel c.

    Parameters
    ----------
    downscale_factor : int
        Divisor of the height and the width.

    Raises
    ------
    ShapeError
        If the factor is less than 1; when a network runs, also if it does not divide height and width.

    Examples
    --------
    >>> net = ic.Sequential([ic.PixelUnshuffle(2)])
    >>> net.predict([[[[1.0, 2.0], [3.0, 4.0]]]]).ravel()
    array([1., 2., 3., 4.], dtype=float32)
    """

    downscale_factor: int
    fixed: ClassVar[frozenset[str]] = frozenset({"downscale_factor"})

    def __post_init__(self) -> None:
        self._set(downscale_factor=whole("downscale_factor", self.downscale_factor))

    def output_shape(self, x: Shape) -> Shape:
        (H, C, W, N), r = _images(x), self.downscale_factor
        if H % r or W % r:
            raise ShapeError(f"downscale_factor={r} must divide height and width: input shape {user_shape(x)}")
        return H // r, C * r**2, W // r, N

    def band(self, rows: slice, x: Shape) -> Band:
        r = self.downscale_factor
        return self, slice(rows.start * r, rows.stop * r)

    def _views(self, x: Array, y: Array) -> tuple[Array, Array]:
        (H, _, W, N), (C, r) = y.shape, (x.shape[1], self.downscale_factor)
        return x.reshape(H, r, C, W, r, N), y.reshape(H, C, r, r, W, N).transpose(0, 2, 1, 4, 3, 5)


#: places of the output along an axis, and the pixels of the image that they show
Part = tuple[slice, slice]
#: the numbers of pixels before an axis and behind it
Sides = tuple[int, int]


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
        self.sides = (top, bottom), (left, right)
        #: the padded axes of arrays in the library's layout, with their padding
        self.along: Sequence[tuple[int, Sides]] = [(0, self.sides[0]), (2, self.sides[1])]

    def check_axis(self, what: str, sides: Sides, length: int) -> None:
        """Raise a ShapeError if an axis of this length cannot be padded so."""
        if length + min(sides[0], 0) + min(sides[1], 0) < 1:
            raise ShapeError(f"padding {sides} along the {what} leaves nothing of the input, which is {length} long")

    def output_shape(self, x: Shape) -> Shape:
        H, _, W, _ = _images(x)
        for what, sides, length in zip(NAMES[self.axes], self.sides, (H, W), strict=True):
            self.check_axis(what, sides, length)
        return self.padded_shape(x)

    def padded_shape(self, x: Shape) -> Shape:
        """Return the shape of the output, for a shape that can be padded."""
        more = dict(self.along)
        return tuple(length + sum(more.get(axis, ())) for axis, length in enumerate(x))

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
        """Write the gradient of the images, summed over the places that show a pixel: the adjoint of ``pad``."""
        raise NotImplementedError


def _inside(sides: Sides, length: int) -> Part:
    """Return the places of the image in the output along an axis, and the pixels of the image that lie there."""
    before, after = sides
    first, last = max(-before, 0), length - max(-after, 0)
    start = max(before, 0)
    return slice(start, start + last - first), slice(first, last)


def _outside(part: slice) -> tuple[slice, slice]:
    """Return the places before and behind a part of an axis."""
    return slice(part.start), slice(part.stop, None)


def _at(ndim: int, parts: Mapping[int, slice]) -> tuple[slice, ...]:
    """Return the index of parts of some axes of an array, and the whole of the others."""
    return tuple(parts.get(axis, slice(None)) for axis in range(ndim))


class Filled(Padding):
    """Base of the paddings that show the same number everywhere."""

    value: float

    def pad(self, x: Array, y: Array) -> Iterator[Call]:
        parts = {axis: _inside(sides, x.shape[axis]) for axis, sides in self.along}
        places = {axis: of_output for axis, (of_output, _) in parts.items()}
        pixels = {axis: of_image for axis, (_, of_image) in parts.items()}
        yield from _fill_around(y, places, self.value)
        yield partial(setitem, y[_at(y.ndim, places)], ..., x[_at(y.ndim, pixels)])

    def fold(self, dy: Array, dx: Array, scratch: list[Array], xp: Any) -> Iterator[Call]:
        parts = {axis: _inside(sides, dx.shape[axis]) for axis, sides in self.along}
        places = {axis: of_output for axis, (of_output, _) in parts.items()}
        pixels = {axis: of_image for axis, (_, of_image) in parts.items()}
        yield from _fill_around(dx, pixels, 0)
        yield partial(setitem, dx[_at(dx.ndim, pixels)], ..., dy[_at(dx.ndim, places)])


def _fill_around(x: Array, inside: Mapping[int, slice], value: float) -> Iterator[Call]:
    """Write a number outside of some parts of the axes."""
    within: dict[int, slice] = {}
    for axis, part in inside.items():
        for border in _outside(part):
            yield partial(setitem, x[_at(x.ndim, within | {axis: border})], ..., value)
        within[axis] = part


class ZeroPad2d(Filled):
    """Pad images with zeros (zero padding).

    Maps images (N, C, H, W) to (N, C, top + H + bottom, left + W + right).

    Parameters
    ----------
    padding : int or (left, right, top, bottom)
        Number of pixels on all sides, or on each side. A negative number removes pixels.

    Raises
    ------
    ShapeError
        If an argument is out of range, or the padding leaves nothing of the image.

    Examples
    --------
    >>> net = ic.Sequential([ic.ZeroPad2d((2, 1, 0, 0))])
    >>> net.predict([[[[1.0, 2.0, 3.0]]]])
    array([[[[0., 0., 1., 2., 3., 0.]]]], dtype=float32)
    """

    value = 0.0


@dataclass(eq=False, repr=False)
class ConstantPad2d(Filled):
    """Pad images with a constant number.

    Maps images (N, C, H, W) to (N, C, top + H + bottom, left + W + right).

    Parameters
    ----------
    padding : int or (left, right, top, bottom)
        Number of pixels on all sides, or on each side. A negative number removes pixels.
    value : float
        Value of the padding.

    Raises
    ------
    ShapeError
        If an argument is out of range, or the padding leaves nothing of the image.

    Examples
    --------
    >>> layer = ic.ConstantPad2d((2, 1, 0, 0), 9.0)
    >>> net = ic.Sequential([layer])
    >>> net.predict([[[[1.0, 2.0, 3.0]]]])
    array([[[[9., 9., 1., 2., 3., 9.]]]], dtype=float32)
    """

    value: float

    def __post_init__(self) -> None:
        super().__post_init__()
        number("value", self.value, least=-inf)


class Repeating(Padding):
    """Base of the paddings that show pixels of the image."""

    def _around(self, before: int, after: int, kept: slice, length: int) -> tuple[slice, slice]:
        """Return the pixels that are shown before and behind the kept pixels: one for each place, or one for all."""
        raise NotImplementedError

    def _parts(self, sides: Sides, length: int) -> tuple[Part, Part, Part]:
        """Return the inside of the output along an axis, and the places before and behind it."""
        places, kept = _inside(sides, length)
        before, after = (max(side, 0) for side in sides)
        first, last = self._around(before, after, kept, length)
        return (places, kept), (slice(places.start), first), (slice(places.stop, places.stop + after), last)

    def pad(self, x: Array, y: Array) -> Iterator[Call]:
        axes = [axis for axis, _ in self.along]
        for parts in product(*(self._parts(sides, x.shape[axis]) for axis, sides in self.along)):
            places = {axis: of_output for axis, (of_output, _) in zip(axes, parts, strict=True)}
            pixels = {axis: of_image for axis, (_, of_image) in zip(axes, parts, strict=True)}
            yield copying(x, _at(y.ndim, pixels), y[_at(y.ndim, places)])

    def scratch(self, x: Shape, dtype: str) -> list[Spec]:
        of_sums, shape, found = accumulator(dtype), list(self.padded_shape(x)), []
        for axis, _ in self.along[:0:-1]:  # all but the first, whose sums are the result
            shape[axis] = x[axis]
            found.append(Spec(tuple(shape), of_sums))
        return found if of_sums == dtype else [*found, Spec(x, of_sums)]

    def fold(self, dy: Array, dx: Array, scratch: list[Array], xp: Any) -> Iterator[Call]:
        sums = [*scratch, dx][: len(self.along)]
        for (axis, sides), out in zip(reversed(self.along), sums, strict=True):
            yield from self._fold_axis(sides, dy.swapaxes(0, axis), out.swapaxes(0, axis), xp)
            dy = out
        if dy is not dx:
            yield partial(setitem, dx, ..., dy)

    def _fold_axis(self, sides: Sides, dy: Array, dx: Array, xp: Any) -> Iterator[Call]:
        """Add up the gradients of the places that show a pixel along an axis of the image, the first of the arrays."""
        (places, kept), *around = self._parts(sides, len(dx))
        for cut in _outside(kept):
            yield partial(setitem, dx[cut], ..., 0)
        yield partial(setitem, dx[kept], ..., dy[places])
        for places, pixels in (pair for part in around for pair in _one_to_one(*part, len(dx))):
            rising, turned = _rising(pixels, len(dx))
            yield partial(_add, xp, dx[rising], dy[places], turned)


def _add(xp: Any, sums: Array, terms: Array, turned: bool) -> None:
    """Add terms to sums, the last term first if they are turned."""
    xp.add(sums, terms[::-1] if turned else terms, out=sums)


def copying(x: Array, part: tuple[slice, ...], y: Array) -> Call:
    """Return a call that writes a part of ``x`` into ``y``.

    What the part has in opposite order is turned at each call: some array modules have no view of that.
    """
    rising, turned = zip(*(_rising(axis, length) for axis, length in zip(part, x.shape, strict=False)), strict=True)
    source, order = x[rising], tuple(slice(None, None, -1 if each else 1) for each in turned)
    return (lambda: setitem(y, ..., source[order])) if any(turned) else partial(setitem, y, ..., source)


def _rising(part: slice, length: int) -> tuple[slice, bool]:
    """Return the same places of an axis from the first to the last, and whether ``part`` has the last one first."""
    places = range(length)[part]
    turned = places.step < 0
    if turned:
        places = places[::-1]
    return slice(places.start, places.stop, places.step), turned


def _one_to_one(places: slice, pixels: slice, length: int) -> Iterator[Part]:
    """Divide places that all show one pixel into single ones, so that none of a part's pixels is met twice."""
    if len(range(length)[pixels]) == 1:
        yield from ((slice(place, place + 1), pixels) for place in range(places.start or 0, places.stop))
    else:
        yield places, pixels


class ReflectionPad2d(Repeating):
    """Pad images by reflection at the outermost pixels, which are not repeated.

    Maps images (N, C, H, W) to (N, C, top + H + bottom, left + W + right).

    Parameters
    ----------
    padding : int or (left, right, top, bottom)
        Number of pixels on all sides, or on each side, less than the image's width and height. A negative number
        removes pixels.

    Raises
    ------
    ShapeError
        If an argument is out of range, or the padding leaves nothing of the image, or is too wide for it.

    Examples
    --------
    >>> layer = ic.ReflectionPad2d((2, 1, 0, 0))
    >>> net = ic.Sequential([layer])
    >>> net.predict([[[[1.0, 2.0, 3.0]]]])
    array([[[[3., 2., 1., 2., 3., 2.]]]], dtype=float32)
    """

    def check_axis(self, what: str, sides: Sides, length: int) -> None:
        super().check_axis(what, sides, length)
        if max(sides) >= length:
            raise ShapeError(f"padding {sides} along the {what} must be less than the input's {length}")

    def _around(self, before: int, after: int, kept: slice, length: int) -> tuple[slice, slice]:
        end = length - 2 - after
        return slice(before, 0, -1), slice(length - 2, None if end < 0 else end, -1)


class ReplicationPad2d(Repeating):
    """Pad images by repeating the outermost pixels.

    Maps images (N, C, H, W) to (N, C, top + H + bottom, left + W + right).

    Parameters
    ----------
    padding : int or (left, right, top, bottom)
        Number of pixels on all sides, or on each side. A negative number removes pixels.

    Raises
    ------
    ShapeError
        If an argument is out of range, or the padding leaves nothing of the image.

    Examples
    --------
    >>> layer = ic.ReplicationPad2d((2, 1, 0, 0))
    >>> net = ic.Sequential([layer])
    >>> net.predict([[[[1.0, 2.0, 3.0]]]])
    array([[[[1., 1., 1., 2., 3., 3.]]]], dtype=float32)
    """

    def _around(self, before: int, after: int, kept: slice, length: int) -> tuple[slice, slice]:
        return slice(0, 1), slice(length - 1, length)


class CircularPad2d(Repeating):
    """Pad images circularly, with the pixels of the opposite side.

    Maps images (N, C, H, W) to (N, C, top + H + bottom, left + W + right).

    Parameters
    ----------
    padding : int or (left, right, top, bottom)
        Number of pixels on all sides, or on each side, at most the width and height of the repeated image. A negative
        number removes pixels before the image is repeated.

    Raises
    ------
    ShapeError
        If an argument is out of range, or the padding leaves nothing of the image, or is too wide for it.

    Examples
    --------
    >>> net = ic.Sequential([ic.CircularPad2d((2, 1, 0, 0))])
    >>> net.predict([[[[1.0, 2.0, 3.0]]]])
    array([[[[2., 3., 1., 2., 3., 1.]]]], dtype=float32)
    """

    def check_axis(self, what: str, sides: Sides, length: int) -> None:
        super().check_axis(what, sides, length)
        left = length + min(sides[0], 0) + min(sides[1], 0)
        if max(sides) > left:
            raise ShapeError(f"padding {sides} along the {what} must be at most the input's {left}")

    def _around(self, before: int, after: int, kept: slice, length: int) -> tuple[slice, slice]:
        return slice(kept.stop - before, kept.stop), slice(kept.start, kept.start + after)


#: the layers that pad, by PyTorch's names of the modes
MODES: dict[str, Callable[[float], Padding]] = {
    "constant": lambda value: ConstantPad2d(0, value),
    "reflect": lambda value: ReflectionPad2d(0),
    "replicate": lambda value: ReplicationPad2d(0),
    "circular": lambda value: CircularPad2d(0),
}


@dataclass(eq=False, repr=False)
class Pad(Layer):
    """Pad each sample along any of its axes.

    Each axis becomes longer by the numbers of elements that are added before and after it.

    Parameters
    ----------
    padding : sequence of (before, after)
        One pair for each axis of a sample; for images ((0, 0), (top, bottom), (left, right)). A negative number removes
        elements.
    mode : {"constant", "reflect", "replicate", "circular"}
        Values of the padding: a constant number, or the same elements as in the layers :class:`ReflectionPad2d`,
        :class:`ReplicationPad2d` and :class:`CircularPad2d`.
    value : float
        Value of the padding for "constant".

    Raises
    ------
    ShapeError
        If an argument is out of range, or the padding leaves nothing of an axis or is too wide for it.

    Examples
    --------
    >>> ic.Sequential([ic.Pad([(1, 2)])]).predict([[1.0, 2.0, 3.0]])
    array([[0., 1., 2., 3., 0., 0.]], dtype=float32)
    """

    padding: Any
    mode: str = "constant"
    value: float = 0.0
    fixed: ClassVar[frozenset[str]] = frozenset({"padding", "mode", "value"})

    def __post_init__(self) -> None:
        one_of("mode", self.mode, *MODES)
        try:
            sides = [
                (whole("padding", a, least=-(2**31)), whole("padding", b, least=-(2**31))) for a, b in self.padding
            ]
        except (TypeError, ValueError):  # ShapeError is a ValueError
            sides = []
        if not sides:
            wanted = "(before, after) for each axis of a sample, such as ((0, 0), (1, 1), (2, 2))"
            raise ShapeError(f"padding must be {wanted}, got {self.padding!r}")
        self.sides, self._border = sides, MODES[self.mode](self.value)
        axes = user_axes(len(sides) + 1)[1:]
        found = [(axis, both) for axis, both in zip(axes, sides, strict=True) if any(both)]
        self._border.along = found or [(axes[0], sides[0])]

    def output_shape(self, x: Shape) -> Shape:
        if len(x) != len(self.sides) + 1:
            raise ShapeError(
                f"padding={self.padding} is for samples of {len(self.sides)} axes: input shape {user_shape(x)}"
            )
        for axis, sides in self._border.along:
            self._border.check_axis(f"axis dim={user_axes(len(x)).index(axis)}", sides, x[axis])
        return self._border.padded_shape(x)

    def needs(self, x: Shape, y: Shape, dtype: str, backend: Backend, training: bool) -> Needs:
        return self._border.needs(x, y, dtype, backend, training)

    def flops(self, x: Shape, y: Shape) -> int:
        return 0

    def prepare_forward(self, x: Array, ctx: Context) -> Iterator[Call]:
        return self._border.prepare_forward(x, ctx)

    def prepare_backward(self, dy: Array, ctx: Context) -> Iterator[Call]:
        return self._border.prepare_backward(dy, ctx)


class Reordering(Exchange):
    """Base of the layers that give each sample's axes another order."""

    def _order(self, ndim: int) -> Sequence[int]:
        """Return the axes, as users see them, in their new order; a ShapeError if there are not ``ndim`` of them."""
        raise NotImplementedError

    def output_shape(self, x: Shape) -> Shape:
        shape = user_shape(x)
        return internal_shape([shape[dim] for dim in self._order(len(x))[1:]], shape[0])

    def _views(self, x: Array, y: Array) -> tuple[Array, Array]:
        axes = user_axes(x.ndim)
        return x.transpose([axes[dim] for dim in self._order(x.ndim)]), y.transpose(axes)


@dataclass(eq=False, repr=False)
class Permute(Reordering):
    """Permute the axes of each sample: ``x.permute(dims)``.

    Parameters
    ----------
    dims : sequence of int
        All axes in their new order. The first one is 0, the batch axis, which does not move.

    Raises
    ------
    ShapeError
        If ``dims`` does not contain each axis once, or the batch axis is not the first.

    Examples
    --------
    >>> net = ic.Sequential([ic.Permute((0, 2, 3, 1))])
    >>> net.predict(np.zeros((5, 3, 4, 6))).shape
    (5, 4, 6, 3)
    """

    dims: Any
    fixed: ClassVar[frozenset[str]] = frozenset({"dims"})

    def __post_init__(self) -> None:
        try:
            dims = tuple(whole("dims", dim, least=0) for dim in self.dims)
        except (TypeError, ValueError):  # ShapeError is a ValueError
            dims = ()
        if len(dims) < 2 or dims[0] != 0 or sorted(dims) != [*range(len(dims))]:
            raise ShapeError(
                f"dims must name every axis once, first the batch, such as (0, 2, 3, 1), got {self.dims!r}"
            )
        self._set(dims=dims)

    def _order(self, ndim: int) -> Sequence[int]:
        if ndim != len(self.dims):
            raise ShapeError(f"dims={self.dims} is for values of {len(self.dims)} axes with the batch, got {ndim}")
        order: Sequence[int] = self.dims
        return order


@dataclass(eq=False, repr=False)
class Transpose(Reordering):
    """Swap two axes of each sample: ``x.transpose(dim0, dim1)``.

    Parameters
    ----------
    dim0, dim1 : int
        The axes: 1 is the axis of the channels or features. The batch axis, 0, is not allowed.

    Raises
    ------
    ShapeError
        If the input has no such axis, or the axis is the batch.

    Examples
    --------
    >>> net = ic.Sequential([ic.Transpose(2, 3)])
    >>> net.predict(np.zeros((5, 3, 4, 6))).shape
    (5, 3, 6, 4)
    """

    dim0: int
    dim1: int
    fixed: ClassVar[frozenset[str]] = frozenset({"dim0", "dim1"})

    def __post_init__(self) -> None:
        self._set(dim0=check_dim(self.dim0), dim1=check_dim(self.dim1))

    def output_shape(self, x: Shape) -> Shape:
        for dim in self.dim0, self.dim1:
            inner_axis(dim, x)  # or a ShapeError
        return super().output_shape(x)

    def _order(self, ndim: int) -> Sequence[int]:
        order, first, second = [*range(ndim)], self.dim0 % ndim, self.dim1 % ndim
        order[first], order[second] = second, first
        return order


@dataclass(eq=False, repr=False)
class Slice(Layer):
    """Slice an axis of each sample, as Python slices a list: ``x[:, start:stop:step]`` for the channels.

    Parameters
    ----------
    dim : int
        The axis: 1 is the axis of the channels or features. The batch axis, 0, is not allowed.
    start, stop : int or None
        The first index, and the index before which the slice stops. Negative numbers count from the end; None means the
        end of the axis.
    step : int
        Any integer except 0.

    Raises
    ------
    ShapeError
        If an argument is out of range; when a network runs, also if nothing is left.

    Examples
    --------
    >>> net = ic.Sequential([ic.Slice(1, -2, None)])
    >>> net.predict([[1.0, 2.0, 3.0, 4.0]])
    array([[3., 4.]], dtype=float32)
    """

    dim: int
    start: int | None = None
    stop: int | None = None
    step: int = 1
    fixed: ClassVar[frozenset[str]] = frozenset({"dim", "start", "stop", "step"})

    def __post_init__(self) -> None:
        self._set(dim=check_dim(self.dim))
        try:
            self._slice = slice(*(None if n is None else index(n) for n in (self.start, self.stop, self.step)))
            self._slice.indices(1)
        except (TypeError, ValueError):
            given = self.start, self.stop, self.step
            raise ShapeError(f"start, stop and step must be integers, and step not 0, got {given}") from None

    def output_shape(self, x: Shape) -> Shape:
        axis = inner_axis(self.dim, x)
        length = len(range(*self._slice.indices(x[axis])))
        if not length:
            raise ShapeError(f"nothing is left of the axis dim={self.dim}: input shape {user_shape(x)}")
        return *x[:axis], length, *x[axis + 1 :]

    def needs(self, x: Shape, y: Shape, dtype: str, backend: Backend, training: bool) -> Needs:
        return Needs(input=False, output=False)

    def band(self, rows: slice, x: Shape) -> Band:
        return (self, rows) if len(x) == 4 and inner_axis(self.dim, x) else None

    def flops(self, x: Shape, y: Shape) -> int:
        return 0

    def prepare_forward(self, x: Array, ctx: Context) -> Iterator[Call]:
        yield copying(x, (*(slice(None),) * inner_axis(self.dim, x.shape), self._slice), ctx.y)

    def prepare_backward(self, dy: Array, ctx: Context) -> Iterator[Call]:
        axis = inner_axis(self.dim, dy.shape)
        before, (places, turned) = (slice(None),) * axis, _rising(self._slice, ctx.dx.shape[axis])
        yield partial(setitem, ctx.dx, ..., 0)
        yield copying(dy, (*before, slice(None, None, -1 if turned else 1)), ctx.dx[(*before, places)])
