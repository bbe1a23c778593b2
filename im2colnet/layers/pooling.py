"""Pooling: one number for each window."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from math import prod
from typing import Any, ClassVar

from im2colnet.backend import Backend
from im2colnet.layers.base import Band, Context, Layer, Needs, Work, _images, _rows_of_windows
from im2colnet.types import Array, Call, Shape, Spec, accumulator
from im2colnet.window import pooling_window


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
        def work(kernel: str) -> Work:
            return {kernel: backend.workspace(kernel, x, y, dtype, self.window)}

        return Needs(forward=work("max_pool2d"), backward=work("max_pool2d_grad"))

    band = _rows_of_windows

    def flops(self, x: Shape, y: Shape) -> int:
        return prod(y) * (prod(self.window.kernel) - 1)

    def prepare_forward(self, x: Array, ctx: Context) -> Iterable[Call]:
        return ctx.backend.prepare("max_pool2d", x, self.window, out=ctx.y, work=ctx.work["max_pool2d"])

    def prepare_backward(self, dy: Array, ctx: Context) -> Iterable[Call]:
        work = ctx.work["max_pool2d_grad"]
        return ctx.backend.prepare("max_pool2d_grad", ctx.x, ctx.y, dy, self.window, out=ctx.dx, work=work)


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
        def work(kernel: str) -> Work:
            return {kernel: backend.workspace(kernel, x, y, dtype, self.window)}

        return Needs(input=False, output=False, forward=work("avg_pool2d"), backward=work("avg_pool2d_grad"))

    def band(self, rows: slice, x: Shape) -> Band:
        return None if self.window.ceil_mode else _rows_of_windows(self, rows, x)

    def flops(self, x: Shape, y: Shape) -> int:
        return prod(y) * prod(self.window.kernel)

    def forward(self, x: Array, ctx: Context) -> Array:
        return ctx.backend.avg_pool2d(x, self.window, self.count_include_pad, out=ctx.y, work=ctx.work["avg_pool2d"])

    def backward(self, dy: Array, ctx: Context) -> Array | None:
        work, (H, _, W, _) = ctx.work["avg_pool2d_grad"], ctx.dx.shape
        return ctx.backend.avg_pool2d_grad(dy, (H, W), self.window, self.count_include_pad, out=ctx.dx, work=work)


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

    def forward(self, x: Array, ctx: Context) -> Array:
        row, total = ctx.work["sum"]
        # then the columns: faster than both axes at once
        ctx.xp.sum(x, axis=0, keepdims=True, dtype=row.dtype, out=row)
        ctx.xp.sum(row, axis=2, keepdims=True, out=total)
        ctx.y[...] = ctx.xp.divide(total, x.shape[0] * x.shape[2], out=total)
        return ctx.y

    def backward(self, dy: Array, ctx: Context) -> Array | None:
        return ctx.xp.divide(dy, ctx.dx.shape[0] * ctx.dx.shape[2], out=ctx.dx)
