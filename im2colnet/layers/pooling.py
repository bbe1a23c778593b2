"""Pooling: one number for each window."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from math import prod
from operator import setitem
from typing import Any, ClassVar

from im2colnet.backend import Backend
from im2colnet.layers.base import Band, Context, Layer, Needs, Scratch, _images, _rows_of_windows
from im2colnet.types import Array, Call, Shape, Spec, accumulator
from im2colnet.window import pooling_window

__all__ = ["AvgPool2d", "GlobalAvgPool2d", "MaxPool2d"]


@dataclass(eq=False, repr=False)
class MaxPool2d(Layer):
    """Largest value of each window; the gradient goes to the first maximum.

    Parameters
    ----------
    kernel_size, stride, dilation : int or (height, width)
        The stride defaults to the kernel.
    padding : int, (height, width) or ((top, bottom), (left, right))
        At most half the window; padding never wins.
    ceil_mode : bool
        Round the output's size up.
    """

    kernel_size: Any
    stride: Any = None
    padding: Any = 0
    dilation: Any = 1
    ceil_mode: bool = False
    fixed: ClassVar[frozenset[str]] = frozenset({"kernel_size", "stride", "padding", "dilation", "ceil_mode"})

    def __post_init__(self) -> None:
        self.window = pooling_window(self.kernel_size, self.stride, self.padding, self.dilation, self.ceil_mode)

    def output_shape(self, x: Shape) -> Shape:
        H, C, W, N = _images(x)
        OH, OW = self.window.output_size((H, W))
        return OH, C, OW, N

    def needs(self, x: Shape, y: Shape, dtype: str, backend: Backend, training: bool) -> Needs:
        images, outputs = Spec(x, dtype), Spec(y, dtype)
        forward: Scratch = {"max_pool2d": backend.max_pool2d.scratch(images, self.window)}
        gradient = backend.max_pool2d_grad.scratch(images, outputs, outputs, self.window)
        return Needs(forward=forward, backward={"max_pool2d_grad": gradient})

    band = _rows_of_windows

    def flops(self, x: Shape, y: Shape) -> int:
        return prod(y) * (prod(self.window.kernel) - 1)

    def prepare_forward(self, x: Array, ctx: Context) -> Iterable[Call]:
        return ctx.backend.max_pool2d.prepare(x, self.window, out=ctx.y, scratch=ctx.scratch["max_pool2d"])

    def prepare_backward(self, dy: Array, ctx: Context) -> Iterable[Call]:
        scratch = ctx.scratch["max_pool2d_grad"]
        return ctx.backend.max_pool2d_grad.prepare(ctx.x, ctx.y, dy, self.window, out=ctx.dx, scratch=scratch)


@dataclass(eq=False, repr=False)
class AvgPool2d(Layer):
    """Mean of each window; ``count_include_pad`` says whether padding counts in the divisor."""

    kernel_size: Any
    stride: Any = None
    padding: Any = 0
    ceil_mode: bool = False
    count_include_pad: bool = True
    fixed: ClassVar[frozenset[str]] = frozenset({"kernel_size", "stride", "padding", "ceil_mode"})

    def __post_init__(self) -> None:
        self.window = pooling_window(self.kernel_size, self.stride, self.padding, 1, self.ceil_mode)

    output_shape = MaxPool2d.output_shape

    def needs(self, x: Shape, y: Shape, dtype: str, backend: Backend, training: bool) -> Needs:
        window = self.window, self.count_include_pad
        forward: Scratch = {"avg_pool2d": backend.avg_pool2d.scratch(Spec(x, dtype), *window)}
        backward: Scratch = {"avg_pool2d_grad": backend.avg_pool2d_grad.scratch(Spec(y, dtype), (x[0], x[2]), *window)}
        return Needs(input=False, output=False, forward=forward, backward=backward)

    def band(self, rows: slice, x: Shape) -> Band:
        return None if self.window.ceil_mode else _rows_of_windows(self, rows, x)

    def flops(self, x: Shape, y: Shape) -> int:
        return prod(y) * prod(self.window.kernel)

    def prepare_forward(self, x: Array, ctx: Context) -> Iterable[Call]:
        window, scratch = (self.window, self.count_include_pad), ctx.scratch["avg_pool2d"]
        return ctx.backend.avg_pool2d.prepare(x, *window, out=ctx.y, scratch=scratch)

    def prepare_backward(self, dy: Array, ctx: Context) -> Iterable[Call]:
        window, scratch, (H, _, W, _) = (
            (self.window, self.count_include_pad),
            ctx.scratch["avg_pool2d_grad"],
            ctx.dx.shape,
        )
        return ctx.backend.avg_pool2d_grad.prepare(dy, (H, W), *window, out=ctx.dx, scratch=scratch)


@dataclass(eq=False, repr=False)
class GlobalAvgPool2d(Layer):
    """Mean of each channel over the whole image, (N, C, 1, 1): PyTorch's ``AdaptiveAvgPool2d(1)``."""

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
