"""Pooling: one number for each window of a given size, or an output of a given size."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from math import prod
from operator import setitem
from typing import Any, ClassVar

from im2colnet.backend import Backend, position_type
from im2colnet.checks import check_dim, more_than_zero, truth_value, whole
from im2colnet.errors import ShapeError
from im2colnet.layers.base import Band, Context, Layer, Needs, OneRow, Scratch, _images, _rows_of_windows, _same_rows
from im2colnet.layout import inner_axis, internal_axes, internal_shape, user_axes, user_shape
from im2colnet.types import Array, Call, Shape, Spec, accumulator
from im2colnet.window import pooling_window

__all__ = [
    "AdaptiveAvgPool1d",
    "AdaptiveAvgPool2d",
    "AdaptiveMaxPool1d",
    "AdaptiveMaxPool2d",
    "Amax",
    "Amin",
    "AvgPool1d",
    "AvgPool2d",
    "GlobalAvgPool2d",
    "LPPool2d",
    "MaxPool1d",
    "MaxPool2d",
    "Mean",
    "Sum",
]


@dataclass(eq=False, repr=False)
class MaxPool2d(Layer):
    """2-D max pooling: the largest value of each window; the gradient goes to the first maximum.

    Maps images (N, C, H, W) to (N, C, OH, OW), with ``OH = (H + padding - dilation·(KH - 1) - 1) // stride + 1``,
    where padding is the sum of both sides.

    Parameters
    ----------
    kernel_size, stride : int or (height, width)
        Size of the window and its step, in pixels. The stride defaults to the kernel size.
    padding : int, (height, width) or ((top, bottom), (left, right))
        Number of pixels added around the image, less than the window size (PyTorch: at most half of the kernel
        size). The padding is never the maximum.
    dilation : int or (height, width)
        Spacing between the pixels that a window reads; 1 means adjacent pixels.
    ceil_mode : bool
        Whether to round the output's size up, so that the last window may reach beyond the padding.

    Raises
    ------
    ShapeError
        If an argument is out of range; when a network runs, also if the input is too small or has the wrong number of
        axes.

    Examples
    --------
    >>> net = ic.Sequential([ic.MaxPool2d(2)])
    >>> net.predict([[[[1.0, 2, 0, 0], [3, 4, 0, 8]]]])
    array([[[[4., 8.]]]], dtype=float32)
    """

    kernel_size: Any
    stride: Any = None
    padding: Any = 0
    dilation: Any = 1
    ceil_mode: bool = False
    axes: ClassVar[int] = 2  #: of an image
    fixed: ClassVar[frozenset[str]] = frozenset({"kernel_size", "stride", "padding", "dilation", "ceil_mode"})

    def __post_init__(self) -> None:
        self.window = pooling_window(
            self.kernel_size, self.stride, self.padding, self.dilation, self.ceil_mode, self.axes, at_most_half=False
        )

    def output_shape(self, x: Shape) -> Shape:
        H, C, W, N = _images(x)
        OH, OW = self.window.output_size((H, W))
        return OH, C, OW, N

    def needs(self, x: Shape, y: Shape, dtype: str, backend: Backend, training: bool) -> Needs:
        images, outputs = Spec(x, dtype), Spec(y, dtype)
        saved, reads = {}, True
        if training and self._saves_positions(backend):
            saved, reads = {"positions": Spec(y, position_type(self.window))}, False
        forward: Scratch = {"max_pool2d": backend.max_pool2d.scratch(images, self.window, **saved)}
        gradient = backend.max_pool2d_grad.scratch(images, outputs, outputs, self.window, **saved)
        return Needs(input=reads, output=reads, saved=saved, forward=forward, backward={"max_pool2d_grad": gradient})

    def _saves_positions(self, backend: Backend) -> bool:
        """Whether training saves where the maxima were; plug-ins of older versions do not know how."""
        kernels = backend.max_pool2d, backend.max_pool2d_grad
        return backend.saves_positions(self.window) and all(kernel.takes("positions") for kernel in kernels)

    band = _rows_of_windows

    def flops(self, x: Shape, y: Shape) -> int:
        return prod(y) * (prod(self.window.kernel) - 1)

    def prepare_forward(self, x: Array, ctx: Context) -> Iterable[Call]:
        scratch = ctx.scratch["max_pool2d"]
        return ctx.backend.max_pool2d.prepare(x, self.window, **ctx.saved, out=ctx.y, scratch=scratch)

    def prepare_backward(self, dy: Array, ctx: Context) -> Iterable[Call]:
        scratch, (x, y) = ctx.scratch["max_pool2d_grad"], (None, None) if ctx.saved else (ctx.x, ctx.y)
        return ctx.backend.max_pool2d_grad.prepare(x, y, dy, self.window, **ctx.saved, out=ctx.dx, scratch=scratch)


@dataclass(eq=False, repr=False)
class AvgPool2d(Layer):
    """2-D average pooling: the mean of each window.

    Maps images (N, C, H, W) to (N, C, OH, OW), with ``OH = (H + padding - dilation·(KH - 1) - 1) // stride + 1``,
    where padding is the sum of both sides.

    Parameters
    ----------
    kernel_size, stride : int or (height, width)
        Size of the window and its step, in pixels. The stride defaults to the kernel size.
    padding : int, (height, width) or ((top, bottom), (left, right))
        Number of zeros added around the image, less than the window size (PyTorch: at most half of the kernel size).
    ceil_mode : bool
        Whether to round the output's size up, so that the last window may reach beyond the padding.
    count_include_pad : bool
        Whether the padding counts in the number that the sum of a window is divided by.
    divisor_override : int, optional
        Number that the sum of a window is divided by, in place of the number of its pixels; at least 1.
    dilation : int or (height, width)
        Spacing between the pixels that a window reads; PyTorch's layer does not have this argument.

    Raises
    ------
    ShapeError
        If an argument is out of range; when a network runs, also if the input is too small or has the wrong number of
        axes.

    Examples
    --------
    >>> net = ic.Sequential([ic.AvgPool2d(2)])
    >>> net.predict([[[[1.0, 2, 0, 0], [3, 4, 0, 8]]]])
    array([[[[2.5, 2. ]]]], dtype=float32)
    """

    kernel_size: Any
    stride: Any = None
    padding: Any = 0
    ceil_mode: bool = False
    count_include_pad: bool = True
    divisor_override: int | None = None
    dilation: Any = 1
    axes: ClassVar[int] = 2
    fixed: ClassVar[frozenset[str]] = MaxPool2d.fixed | {"divisor_override"}

    def __post_init__(self) -> None:
        self.window = pooling_window(
            self.kernel_size, self.stride, self.padding, self.dilation, self.ceil_mode, self.axes, at_most_half=False
        )
        if self.divisor_override is not None:
            self._set(divisor_override=whole("divisor_override", self.divisor_override))

    output_shape = MaxPool2d.output_shape

    def _divisor(self) -> dict[str, Any]:
        """Return the divisor as an argument of the kernels, or none: plug-ins of older versions do not know it."""
        return {} if self.divisor_override is None else {"divisor": self.divisor_override}

    def needs(self, x: Shape, y: Shape, dtype: str, backend: Backend, training: bool) -> Needs:
        mean, divisor, size = (self.window, self.count_include_pad), self._divisor(), (x[0], x[2])
        forward: Scratch = {"avg_pool2d": backend.avg_pool2d.scratch(Spec(x, dtype), *mean, **divisor)}
        gradient = backend.avg_pool2d_grad.scratch(Spec(y, dtype), size, *mean, **divisor)
        return Needs(input=False, output=False, forward=forward, backward={"avg_pool2d_grad": gradient})

    def band(self, rows: slice, x: Shape) -> Band:
        return None if self.window.ceil_mode else _rows_of_windows(self, rows, x)

    def flops(self, x: Shape, y: Shape) -> int:
        return prod(y) * prod(self.window.kernel)

    def prepare_forward(self, x: Array, ctx: Context) -> Iterable[Call]:
        mean, divisor, scratch = (self.window, self.count_include_pad), self._divisor(), ctx.scratch["avg_pool2d"]
        return ctx.backend.avg_pool2d.prepare(x, *mean, **divisor, out=ctx.y, scratch=scratch)

    def prepare_backward(self, dy: Array, ctx: Context) -> Iterable[Call]:
        mean, divisor, scratch = (self.window, self.count_include_pad), self._divisor(), ctx.scratch["avg_pool2d_grad"]
        size = ctx.dx.shape[0], ctx.dx.shape[2]
        return ctx.backend.avg_pool2d_grad.prepare(dy, size, *mean, **divisor, out=ctx.dx, scratch=scratch)


@dataclass(eq=False, repr=False)
class LPPool2d(Layer):
    """2-D power-average pooling, ``(Σ x^p)^(1/p)`` of each window, p = ``norm_type``.

    It is the sum for p = 1, and close to the maximum for large p. It maps images (N, C, H, W) to (N, C, OH, OW), with
    the sizes of :class:`AvgPool2d`.

    Parameters
    ----------
    norm_type : float
        The exponent p, more than 0. If it is not an even number, the pixels should not be negative.
    kernel_size, stride : int or (height, width)
        Size of the window and its step, in pixels. The stride defaults to the kernel size.
    ceil_mode : bool
        Whether to round the output's size up, so that the last window may reach beyond the image.

    Raises
    ------
    ShapeError
        If an argument is out of range; when a network runs, also if the input is too small or has the wrong number of
        axes.

    Notes
    -----
    Sermanet, Chintala & LeCun 2012 (arXiv:1204.3968). As in PyTorch, the sum is computed as the mean times the kernel
    size. A window that reaches beyond the image because of ``ceil_mode`` has the mean of the pixels inside the image.
    The gradient ``dy · (x / y)^(p-1)`` is 0 where y is 0.

    Examples
    --------
    >>> net = ic.Sequential([ic.LPPool2d(2, 2)])
    >>> net.predict([[[[3.0, 4.0], [0.0, 0.0]]]])
    array([[[[5.]]]], dtype=float32)
    """

    norm_type: float
    kernel_size: Any
    stride: Any = None
    ceil_mode: bool = False
    fixed: ClassVar[frozenset[str]] = frozenset({"norm_type", "kernel_size", "stride", "ceil_mode"})

    def __post_init__(self) -> None:
        self._set(norm_type=more_than_zero("norm_type", self.norm_type))
        self.window = pooling_window(self.kernel_size, self.stride, 0, 1, self.ceil_mode)

    output_shape = MaxPool2d.output_shape
    band = AvgPool2d.band

    def flops(self, x: Shape, y: Shape) -> int:
        return prod(x) + prod(y) * (prod(self.window.kernel) + 1)

    def needs(self, x: Shape, y: Shape, dtype: str, backend: Backend, training: bool) -> Needs:
        images, outputs = (Spec(shape, accumulator(dtype)) for shape in (x, y))  # powers leave the range of 16 bits
        mean = backend.avg_pool2d.scratch(images, self.window)
        gradient = backend.avg_pool2d_grad.scratch(outputs, (x[0], x[2]), self.window)
        return Needs(
            forward={"avg_pool2d": [images, outputs, *mean]},
            backward={"avg_pool2d_grad": [images, images, outputs, outputs, *gradient]},
        )

    def prepare_forward(self, x: Array, ctx: Context) -> Iterator[Call]:
        xp, p, K, (powers, sums, *scratch) = ctx.xp, self.norm_type, prod(self.window.kernel), ctx.scratch["avg_pool2d"]
        yield partial(setitem, powers, ..., x)
        yield from raise_to(p, powers, xp)
        yield from ctx.backend.avg_pool2d.prepare(powers, self.window, out=sums, scratch=scratch)
        yield partial(xp.multiply, sums, K, out=sums)
        yield from raise_to(1 / p, sums, xp)
        yield partial(setitem, ctx.y, ..., sums)

    def prepare_backward(self, dy: Array, ctx: Context) -> Iterator[Call]:
        xp, p, K, y, dx = ctx.xp, self.norm_type, prod(self.window.kernel), ctx.y, ctx.dx
        powers, spread, slopes, is_zero, *scratch = ctx.scratch["avg_pool2d_grad"]
        yield partial(xp.equal, y, 0, out=is_zero)
        yield partial(xp.add, y, is_zero, out=slopes)  # 1 where y is 0, so that the power is finite
        yield from raise_to(1 - p, slopes, xp)
        yield partial(xp.multiply, slopes, dy, out=slopes)
        yield partial(xp.multiply, slopes, is_zero, out=is_zero)
        yield partial(xp.subtract, slopes, is_zero, out=slopes)  # dy · y^(1-p), and 0 where y is
        yield partial(xp.multiply, slopes, K, out=slopes)
        size = dx.shape[0], dx.shape[2]
        yield from ctx.backend.avg_pool2d_grad.prepare(slopes, size, self.window, out=spread, scratch=scratch)
        yield partial(setitem, powers, ..., ctx.x)
        yield from raise_to(p - 1, powers, xp)
        yield partial(xp.multiply, powers, spread, out=powers)
        yield partial(setitem, dx, ..., powers)


def raise_to(exponent: float, x: Array, xp: Any) -> Iterator[Call]:
    """Raise numbers to a power, in place; the powers of the Euclidean norm have faster functions than any power."""
    special = {2.0: xp.square, 0.5: xp.sqrt, -1.0: xp.reciprocal}
    if exponent in special:
        yield partial(special[exponent], x, out=x)
    elif exponent != 1:
        yield partial(xp.power, x, exponent, out=x)


@dataclass(eq=False, repr=False)
class GlobalAvgPool2d(Layer):
    """Global average pooling: the mean of each channel over the whole image.

    Maps images (N, C, H, W) to (N, C, 1, 1), like PyTorch's ``AdaptiveAvgPool2d(1)``.

    Notes
    -----
    Lin, Chen & Yan 2013 (arXiv:1312.4400, section 3.2).

    Examples
    --------
    >>> net = ic.Sequential([ic.GlobalAvgPool2d()])
    >>> net.predict([[[[1.0, 2, 0, 0], [3, 4, 0, 8]]]])
    array([[[[2.25]]]], dtype=float32)
    """

    def output_shape(self, x: Shape) -> Shape:
        _, C, _, N = _images(x)
        return 1, C, 1, N

    def needs(self, x: Shape, y: Shape, dtype: str, backend: Backend, training: bool) -> Needs:
        of_sums = accumulator(dtype)
        return Needs(input=False, output=False, forward={"sum": [Spec((1, *x[1:]), of_sums), Spec(y, of_sums)]})

    def flops(self, x: Shape, y: Shape) -> int:
        return prod(x)

    def prepare_forward(self, x: Array, ctx: Context) -> Iterator[Call]:
        xp, (row, total) = ctx.xp, ctx.scratch["sum"]
        # rows first, then columns: that is faster than both axes at once
        yield partial(xp.sum, x, axis=0, keepdims=True, dtype=row.dtype, out=row)
        yield partial(xp.sum, row, axis=2, keepdims=True, out=total)
        yield partial(xp.divide, total, x.shape[0] * x.shape[2], out=total)
        yield partial(setitem, ctx.y, ..., total)

    def prepare_backward(self, dy: Array, ctx: Context) -> Iterator[Call]:
        yield partial(ctx.xp.divide, dy, ctx.dx.shape[0] * ctx.dx.shape[2], out=ctx.dx)


@dataclass(eq=False, repr=False)
class Adaptive(Layer):
    """Base of the pooling layers whose output has a given size.

    Output i of O along an axis of length L is computed from the pixels from ``floor(i·L/O)`` to ``ceil((i+1)·L/O)``. If
    O divides L, these are the windows of an ordinary pooling, and the layer uses it; otherwise windows may overlap and
    differ in size.
    """

    output_size: Any
    axes: ClassVar[int] = 2
    fixed: ClassVar[frozenset[str]] = frozenset({"output_size"})

    def __post_init__(self) -> None:
        size, axes = self.output_size, self.axes
        try:
            given = size if hasattr(size, "__iter__") else (size,) * axes
            sizes = [None if n is None else whole("output_size", n) for n in given]
            height, width = [None] * (2 - axes) + sizes
        except (TypeError, ValueError):  # ShapeError is a ValueError
            wanted = {
                1: "a positive integer, or None, which leaves the length as it is",
                2: "a positive integer, or a pair of them in which None leaves an axis as it is",
            }
            raise ShapeError(f"output_size must be {wanted[axes]}, got {size!r}") from None
        self._size = height, width

    def output_shape(self, x: Shape) -> Shape:
        H, C, W, N = _images(x)
        OH, OW = (length if n is None else n for n, length in zip(self._size, (H, W), strict=True))
        return OH, C, OW, N

    def flops(self, x: Shape, y: Shape) -> int:
        return prod(x)

    def _regular(self, x: Shape, y: Shape) -> Layer | None:
        """Return the pooling with equal windows that does the same; None if there is none."""
        if x[0] % y[0] or x[2] % y[2]:
            return None
        return self._pooling((x[0] // y[0], x[2] // y[2]))

    def _pooling(self, kernel: tuple[int, int]) -> Layer:
        raise NotImplementedError

    def needs(self, x: Shape, y: Shape, dtype: str, backend: Backend, training: bool) -> Needs:
        regular = self._regular(x, y)
        if regular is None:
            return self._irregular_needs(x, y, dtype, backend)
        return regular.needs(x, y, dtype, backend, training)

    def _irregular_needs(self, x: Shape, y: Shape, dtype: str, backend: Backend) -> Needs:
        raise NotImplementedError

    def prepare_forward(self, x: Array, ctx: Context) -> Iterable[Call]:
        regular = self._regular(x.shape, ctx.y.shape)
        return self._irregular_forward(x, ctx) if regular is None else regular.prepare_forward(x, ctx)

    def _irregular_forward(self, x: Array, ctx: Context) -> Iterator[Call]:
        raise NotImplementedError

    def prepare_backward(self, dy: Array, ctx: Context) -> Iterable[Call]:
        regular = self._regular(ctx.dx.shape, dy.shape)
        return self._irregular_backward(dy, ctx) if regular is None else regular.prepare_backward(dy, ctx)

    def _irregular_backward(self, dy: Array, ctx: Context) -> Iterator[Call]:
        raise NotImplementedError


class AdaptiveAvgPool2d(Adaptive):
    """Adaptive average pooling to an output of a given size.

    Maps images (N, C, H, W) to (N, C, OH, OW). The windows are as equal as possible, and may overlap by a row or a
    column. With ``output_size=1`` the layer is :class:`GlobalAvgPool2d`.

    Parameters
    ----------
    output_size : int or (height, width)
        Size of the output. None for an axis keeps the size of the input.

    Raises
    ------
    ShapeError
        If an argument is out of range; when a network runs, also if the input is too small or has the wrong number of
        axes.

    Notes
    -----
    Row i of the output is computed from the rows from ``floor(i·H / OH)`` up to, but not including,
    ``ceil((i + 1)·H / OH)``; the same holds for columns.

    Examples
    --------
    >>> net = ic.Sequential([ic.AdaptiveAvgPool2d((1, 3))])
    >>> net.predict([[[[1.0, 2, 0, 0], [3, 4, 0, 8]]]])
    array([[[[2.5, 1.5, 2. ]]]], dtype=float32)
    """

    def _pooling(self, kernel: tuple[int, int]) -> Layer:
        return AvgPool2d(kernel)

    def _regular(self, x: Shape, y: Shape) -> Layer | None:
        return GlobalAvgPool2d() if y[0] == y[2] == 1 else super()._regular(x, y)

    def _irregular_needs(self, x: Shape, y: Shape, dtype: str, backend: Backend) -> Needs:
        of_sums = accumulator(dtype)
        rows = Spec((y[0], *x[1:]), of_sums)
        scratch = [rows, Spec(y, of_sums)]
        images = [] if of_sums == dtype else [Spec(x, of_sums)]
        return Needs(input=False, output=False, forward={"means": scratch}, backward={"means": [*scratch, *images]})

    def _irregular_forward(self, x: Array, ctx: Context) -> Iterator[Call]:
        xp, (rows, means) = ctx.xp, ctx.scratch["means"]
        for i, row in enumerate(shares(x.shape[0], means.shape[0])):
            yield partial(xp.sum, x[row], axis=0, dtype=rows.dtype, out=rows[i])
            yield partial(xp.divide, rows[i], row.stop - row.start, out=rows[i])
        for j, column in enumerate(shares(x.shape[2], means.shape[2])):
            yield partial(xp.sum, rows[:, :, column], axis=2, out=means[:, :, j])
            yield partial(xp.divide, means[:, :, j], column.stop - column.start, out=means[:, :, j])
        yield partial(setitem, ctx.y, ..., means)

    def _irregular_backward(self, dy: Array, ctx: Context) -> Iterator[Call]:
        xp, (rows, means, *images) = ctx.xp, ctx.scratch["means"]
        dx = images[0] if images else ctx.dx
        yield partial(setitem, means, ..., dy)
        yield partial(setitem, rows, ..., 0)
        for j, column in enumerate(shares(dx.shape[2], dy.shape[2])):
            mean, part = means[:, :, j : j + 1], rows[:, :, column]
            yield partial(xp.divide, mean, column.stop - column.start, out=mean)
            yield partial(xp.add, part, mean, out=part)
        yield partial(setitem, dx, ..., 0)
        for i, row in enumerate(shares(dx.shape[0], dy.shape[0])):
            mean, part = rows[i], dx[row]
            yield partial(xp.divide, mean, row.stop - row.start, out=mean)
            yield partial(xp.add, part, mean, out=part)
        if images:
            yield partial(setitem, ctx.dx, ..., dx)


class AdaptiveMaxPool2d(Adaptive):
    """Adaptive max pooling to an output of a given size; the gradient of a window goes to its first maximum.

    Maps images (N, C, H, W) to (N, C, OH, OW). The windows are as equal as possible, and may overlap by a row or a
    column.

    Parameters
    ----------
    output_size : int or (height, width)
        Size of the output. None for an axis keeps the size of the input.

    Raises
    ------
    ShapeError
        If an argument is out of range; when a network runs, also if the input is too small or has the wrong number of
        axes.

    Notes
    -----
    Row i of the output is computed from the rows from ``floor(i·H / OH)`` up to, but not including,
    ``ceil((i + 1)·H / OH)``; the same holds for columns.

    Examples
    --------
    >>> net = ic.Sequential([ic.AdaptiveMaxPool2d((1, 3))])
    >>> net.predict([[[[1.0, 2, 0, 0], [3, 4, 0, 8]]]])
    array([[[[4., 4., 8.]]]], dtype=float32)
    """

    def _pooling(self, kernel: tuple[int, int]) -> Layer:
        return MaxPool2d(kernel)

    def _irregular_needs(self, x: Shape, y: Shape, dtype: str, backend: Backend) -> Needs:
        # the maxima of each row's columns are kept; their first maximum down the rows is the first one of the window
        (H, C, _, N), (_, _, OW, _), of_sums = x, y, accumulator(dtype)
        columns, row, column = (H, C, OW, N), (C, OW, N), (H, C, N)
        scratch = [Spec(shape, of_sums) for shape in (columns, row, row, column, column)]
        images = [] if of_sums == dtype else [Spec(x, of_sums)]
        return Needs(saved={"columns": Spec(columns, dtype)}, backward={"shares": [*scratch, *images]})

    def _irregular_forward(self, x: Array, ctx: Context) -> Iterator[Call]:
        columns, y = ctx.saved["columns"], ctx.y
        for j, of in enumerate(shares(x.shape[2], y.shape[2])):
            yield from largest([x[:, :, w] for w in range(of.start, of.stop)], columns[:, :, j], ctx.xp)
        for i, of in enumerate(shares(x.shape[0], y.shape[0])):
            yield from largest([columns[h] for h in range(of.start, of.stop)], y[i], ctx.xp)

    def _irregular_backward(self, dy: Array, ctx: Context) -> Iterator[Call]:
        x, y, columns, xp = ctx.x, ctx.y, ctx.saved["columns"], ctx.xp
        dcolumns, left_of_row, hit_of_row, left, hit, *images = ctx.scratch["shares"]
        dx = images[0] if images else ctx.dx
        yield partial(setitem, dcolumns, ..., 0)
        for i, of in enumerate(shares(x.shape[0], y.shape[0])):
            yield partial(setitem, left_of_row, ..., dy[i])
            for h in range(of.start, of.stop):
                yield from to_first(columns[h], y[i], dcolumns[h], left_of_row, hit_of_row, xp)
        yield partial(setitem, dx, ..., 0)
        for j, of in enumerate(shares(x.shape[2], y.shape[2])):
            yield partial(setitem, left, ..., dcolumns[:, :, j])
            for w in range(of.start, of.stop):
                yield from to_first(x[:, :, w], columns[:, :, j], dx[:, :, w], left, hit, xp)
        if images:
            yield partial(setitem, ctx.dx, ..., dx)


class MaxPool1d(OneRow, MaxPool2d):
    """1-D max pooling of sequences: the largest value of each window; the gradient goes to the first maximum.

    Maps sequences (N, C, L) to (N, C, OL), with OL like OH of :class:`MaxPool2d`.

    Parameters
    ----------
    kernel_size, stride : int
        Length of the window and its step. The stride defaults to the kernel size.
    padding : int or ((left, right),)
        Number of positions added before and after the sequence, less than the window size (PyTorch: at most half of
        the kernel size). The padding is never the maximum.
    dilation : int
        Spacing between the positions that a window reads; 1 means adjacent positions.
    ceil_mode : bool
        Whether to round the output's size up, so that the last window may reach beyond the padding.

    Raises
    ------
    ShapeError
        If an argument is out of range; when a network runs, also if the input is too small or has the wrong number of
        axes.

    Examples
    --------
    >>> net = ic.Sequential([ic.MaxPool1d(2)])
    >>> net.predict([[[1.0, 3.0, 5.0, 4.0, 9.0]]])
    array([[[3., 5.]]], dtype=float32)
    """

    band = _same_rows  # the first axis of sequences, (C, L, N), is that of the channels


class AvgPool1d(OneRow, AvgPool2d):
    """1-D average pooling of sequences: the mean of each window.

    Maps sequences (N, C, L) to (N, C, OL), with OL like OH of :class:`AvgPool2d`.

    Parameters
    ----------
    kernel_size, stride : int
        Length of the window and its step. The stride defaults to the kernel size.
    padding : int or ((left, right),)
        Number of zeros added before and after the sequence, less than the window size (PyTorch: at most half of the
        kernel size).
    ceil_mode : bool
        Whether to round the output's size up, so that the last window may reach beyond the padding.
    count_include_pad : bool
        Whether the padding counts in the number that the sum of a window is divided by.
    divisor_override : int, optional
        Number that the sum of a window is divided by, in place of the number of its positions; at least 1.
    dilation : int
        Spacing between the positions that a window reads; PyTorch's layer does not have this argument.

    Raises
    ------
    ShapeError
        If an argument is out of range; when a network runs, also if the input is too small or has the wrong number of
        axes.

    Examples
    --------
    >>> net = ic.Sequential([ic.AvgPool1d(2)])
    >>> net.predict([[[1.0, 3.0, 5.0, 4.0, 9.0]]])
    array([[[2. , 4.5]]], dtype=float32)
    """

    band = _same_rows


class AdaptiveAvgPool1d(OneRow, AdaptiveAvgPool2d):
    """Adaptive average pooling of sequences to a given length.

    Maps sequences (N, C, L) to (N, C, output_size). The windows are as equal as possible, and may overlap by one
    position.

    Parameters
    ----------
    output_size : int
        Length of the output.

    Raises
    ------
    ShapeError
        If an argument is out of range; when a network runs, also if the input is too small or has the wrong number of
        axes.

    Examples
    --------
    >>> net = ic.Sequential([ic.AdaptiveAvgPool1d(2)])
    >>> net.predict([[[1.0, 3.0, 5.0, 4.0, 9.0]]])
    array([[[3., 6.]]], dtype=float32)
    """


class AdaptiveMaxPool1d(OneRow, AdaptiveMaxPool2d):
    """Adaptive max pooling of sequences to a given length; the gradient of a window goes to its first maximum.

    Maps sequences (N, C, L) to (N, C, output_size). The windows are as equal as possible, and may overlap by one
    position.

    Parameters
    ----------
    output_size : int
        Length of the output.

    Raises
    ------
    ShapeError
        If an argument is out of range; when a network runs, also if the input is too small or has the wrong number of
        axes.

    Examples
    --------
    >>> net = ic.Sequential([ic.AdaptiveMaxPool1d(2)])
    >>> net.predict([[[1.0, 3.0, 5.0, 4.0, 9.0]]])
    array([[[5., 9.]]], dtype=float32)
    """


def largest(of: list[Array], out: Array, xp: Any) -> Iterator[Call]:
    """Write the largest of several arrays."""
    yield partial(xp.maximum, of[0], of[-1], out=out)
    for one in of[1:-1]:
        yield partial(xp.maximum, out, one, out=out)


def to_first(x: Array, maximum: Array, dx: Array, left: Array, hit: Array, xp: Any) -> Iterator[Call]:
    """Add to ``dx`` the gradients ``left`` of the maxima that ``x`` equals, and set these to 0 in ``left``."""
    yield partial(xp.equal, x, maximum, out=hit)
    yield partial(xp.multiply, hit, left, out=hit)
    yield partial(xp.add, dx, hit, out=dx)
    yield partial(xp.subtract, left, hit, out=left)


def shares(length: int, outputs: int) -> Iterator[slice]:
    """Yield the pixels of an axis that belong to each output, as PyTorch shares them out."""
    for i in range(outputs):
        yield slice(i * length // outputs, -(-(i + 1) * length // outputs))


@dataclass(eq=False, repr=False)
class Reduction(Layer):
    """Base of the layers that reduce one axis or several axes of each sample to one number.

    ``dim`` is one axis or several axes, as users see them, but not the batch. ``keepdim`` is whether the output keeps
    them, with length 1.
    """

    dim: Any
    keepdim: bool = False
    fixed: ClassVar[frozenset[str]] = frozenset({"dim", "keepdim"})

    def __post_init__(self) -> None:
        given = self.dim if hasattr(self.dim, "__iter__") else [self.dim]
        self._dims = tuple(check_dim(dim) for dim in given)
        if not self._dims:
            raise ShapeError("dim must name an axis, such as 1 for the channels or features, or several; got none")
        self._set(keepdim=truth_value("keepdim", self.keepdim))

    def _axes(self, x: Shape) -> tuple[int, ...]:
        """Return the axes of a value as the library stores it."""
        axes = tuple(inner_axis(dim, x) for dim in self._dims)
        if len({*axes}) < len(axes):
            raise ShapeError(f"dim={self.dim} names an axis twice: input shape {user_shape(x)}")
        return axes

    def _kept(self, x: Shape) -> Shape:
        """Return the shape of the output with all axes of ``x``."""
        axes = self._axes(x)
        return tuple(1 if axis in axes else length for axis, length in enumerate(x))

    def output_shape(self, x: Shape) -> Shape:
        kept = self._kept(x)
        if self.keepdim:
            return kept
        gone = {dim % len(x) for dim in self._dims}
        left = [length for dim, length in enumerate(user_shape(kept)) if dim not in gone]
        if len(left) < 2:
            raise ShapeError(
                f"dim={self.dim} removes all axes of a sample: give keepdim=True; input shape {user_shape(x)}"
            )
        return internal_shape(left[1:], left[0])

    def flops(self, x: Shape, y: Shape) -> int:
        return prod(x)

    def _with_all_axes(self, y: Array, ndim: int) -> Array:
        """Return a view of the output in which the axes that were reduced have the length 1."""
        if self.keepdim:
            return y
        shown = y.transpose(user_axes(y.ndim))
        for dim in sorted(dim % ndim for dim in self._dims):
            shown = shown[(*(slice(None),) * dim, None)]
        return shown.transpose(internal_axes(ndim))


@dataclass(eq=False, repr=False)
class Sum(Reduction):
    """Sum of each sample's numbers along one axis or several: ``x.sum(dim, keepdim)``.

    The output does not have these axes, or has them with length 1 if ``keepdim`` is True.

    Parameters
    ----------
    dim : int or sequence of int
        The axes: 1 is the axis of the channels or features. The batch axis, 0, is not allowed.
    keepdim : bool
        Whether the output keeps the axes, with length 1.

    Raises
    ------
    ShapeError
        If the input has no such axis, or the axis is the batch.

    Examples
    --------
    >>> net = ic.Sequential([ic.Sum((2, 3))])
    >>> net.predict([[[[1.0, 2, 0, 0], [3, 4, 0, 8]]]])
    array([[18.]], dtype=float32)
    """

    dim: Any
    keepdim: bool = False

    def needs(self, x: Shape, y: Shape, dtype: str, backend: Backend, training: bool) -> Needs:
        return Needs(input=False, output=False, forward={"sum": [Spec(self._kept(x), accumulator(dtype))]})

    def _divisor(self, x: Shape) -> int:
        """Return the number that the sum is divided by."""
        return 1

    def prepare_forward(self, x: Array, ctx: Context) -> Iterator[Call]:
        xp, (total,), n = ctx.xp, ctx.scratch["sum"], self._divisor(x.shape)
        yield partial(xp.sum, x, axis=self._axes(x.shape), keepdims=True, dtype=total.dtype, out=total)
        if n != 1:
            yield partial(xp.divide, total, n, out=total)
        yield partial(setitem, self._with_all_axes(ctx.y, x.ndim), ..., total)

    def prepare_backward(self, dy: Array, ctx: Context) -> Iterator[Call]:
        dx = ctx.dx
        dy, n = self._with_all_axes(dy, dx.ndim), self._divisor(dx.shape)
        yield partial(setitem, dx, ..., dy) if n == 1 else partial(ctx.xp.divide, dy, n, out=dx)


class Mean(Sum):
    """Mean of each sample's numbers along one axis or several: ``x.mean(dim, keepdim)``.

    The output does not have these axes, or has them with length 1 if ``keepdim`` is True.

    Parameters
    ----------
    dim : int or sequence of int
        The axes: 1 is the axis of the channels or features. The batch axis, 0, is not allowed.
    keepdim : bool
        Whether the output keeps the axes, with length 1.

    Raises
    ------
    ShapeError
        If the input has no such axis, or the axis is the batch.

    Examples
    --------
    >>> net = ic.Sequential([ic.Mean((2, 3))])
    >>> net.predict([[[[1.0, 2, 0, 0], [3, 4, 0, 8]]]])
    array([[2.25]], dtype=float32)
    """

    def _divisor(self, x: Shape) -> int:
        return prod(x[axis] for axis in self._axes(x))


@dataclass(eq=False, repr=False)
class Amax(Reduction):
    """Largest of each sample's numbers along one axis or several: ``x.amax(dim, keepdim)``.

    The output does not have these axes, or has them with length 1 if ``keepdim`` is True. If several numbers are
    equally large, each gets an equal part of the gradient, as in PyTorch.

    Parameters
    ----------
    dim : int or sequence of int
        The axes: 1 is the axis of the channels or features. The batch axis, 0, is not allowed.
    keepdim : bool
        Whether the output keeps the axes, with length 1.

    Raises
    ------
    ShapeError
        If the input has no such axis, or the axis is the batch.

    Examples
    --------
    >>> net = ic.Sequential([ic.Amax((2, 3))])
    >>> net.predict([[[[1.0, 2, 0, 0], [3, 4, 0, 8]]]])
    array([[8.]], dtype=float32)
    """

    dim: Any
    keepdim: bool = False
    _best: ClassVar[str] = "max"

    def needs(self, x: Shape, y: Shape, dtype: str, backend: Backend, training: bool) -> Needs:
        kept, of_sums = self._kept(x), accumulator(dtype)
        return Needs(
            forward={"best": [Spec(kept, dtype)]}, backward={"shares": [Spec(x, of_sums), Spec(kept, of_sums)]}
        )

    def prepare_forward(self, x: Array, ctx: Context) -> Iterator[Call]:
        (best,) = ctx.scratch["best"]
        yield partial(getattr(x, self._best), axis=self._axes(x.shape), keepdims=True, out=best)
        yield partial(setitem, self._with_all_axes(ctx.y, x.ndim), ..., best)

    def prepare_backward(self, dy: Array, ctx: Context) -> Iterator[Call]:
        xp, x, (hit, share) = ctx.xp, ctx.x, ctx.scratch["shares"]
        best, dy = (self._with_all_axes(each, x.ndim) for each in (ctx.y, dy))
        yield partial(xp.equal, x, best, out=hit)
        yield partial(xp.sum, hit, axis=self._axes(x.shape), keepdims=True, out=share)
        yield partial(xp.divide, dy, share, out=share)
        yield partial(xp.multiply, hit, share, out=hit)
        yield partial(setitem, ctx.dx, ..., hit)


class Amin(Amax):
    """Smallest of each sample's numbers along one axis or several: ``x.amin(dim, keepdim)``.

    The output does not have these axes, or has them with length 1 if ``keepdim`` is True. If several numbers are
    equally small, each gets an equal part of the gradient, as in PyTorch.

    Parameters
    ----------
    dim : int or sequence of int
        The axes: 1 is the axis of the channels or features. The batch axis, 0, is not allowed.
    keepdim : bool
        Whether the output keeps the axes, with length 1.

    Raises
    ------
    ShapeError
        If the input has no such axis, or the axis is the batch.

    Examples
    --------
    >>> net = ic.Sequential([ic.Amin((2, 3))])
    >>> net.predict([[[[1.0, 2, 0, 0], [3, 4, 0, 8]]]])
    array([[0.]], dtype=float32)
    """

    _best = "min"
