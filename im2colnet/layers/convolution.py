"""Convolution."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from math import prod, sqrt
from typing import Any, ClassVar

from im2colnet.backend import Backend
from im2colnet.checks import groups_divide, whole
from im2colnet.errors import ShapeError
from im2colnet.layers.base import Context, Layer, Needs, Parameter, Work, _images, _rows_of_windows
from im2colnet.layout import user_shape
from im2colnet.types import Array, Call, Choice, Shape
from im2colnet.window import make_window


@dataclass(eq=False, repr=False)
class Conv2d(Layer):
    """Convolution (cross-correlation, as everywhere in deep learning).

    ``y = w · im2col(x) + b``; weight (out_channels, in_channels / groups, KH, KW), bias (out_channels,), both
    initialised uniform in ±1/√(fan-in).

    Parameters
    ----------
    in_channels, out_channels : int
    kernel_size, stride, dilation : int or (height, width)
    padding : int, (height, width), ((top, bottom), (left, right)), "same" or "valid"
    groups : int
        Groups of channels that do not see each other; ``groups=in_channels`` is a depthwise convolution.
    bias : bool
    """

    in_channels: int
    out_channels: int
    kernel_size: Any
    stride: Any = 1
    padding: Any = 0
    dilation: Any = 1
    groups: int = 1
    bias: bool = True
    fuses_relu: ClassVar[bool] = True
    fixed: ClassVar[frozenset[str]] = frozenset(
        {"in_channels", "out_channels", "kernel_size", "stride", "padding", "dilation", "groups", "bias"}
    )

    def __post_init__(self) -> None:
        self._set(in_channels=whole("in_channels", self.in_channels))
        self._set(out_channels=whole("out_channels", self.out_channels))
        self._set(groups=groups_divide(self.in_channels, self.out_channels, self.groups))
        self.window = make_window(self.kernel_size, self.stride, self.padding, self.dilation)

    def parameters(self) -> dict[str, Parameter]:
        shape = (self.out_channels, self.in_channels // self.groups, *self.window.kernel)
        bound = 1 / sqrt(prod(shape[1:]))
        bias = {"bias": Parameter((self.out_channels,), bound)} if self.bias else {}
        return {"weight": Parameter(shape, bound), **bias}

    def output_shape(self, x: Shape) -> Shape:
        H, C, W, N = _images(x)
        if self.in_channels != C:
            raise ShapeError(f"expected {self.in_channels} input channels, got {C}: input shape {user_shape(x)}")
        OH, OW = self.window.output_size((H, W))
        return OH, self.out_channels, OW, N

    def needs(self, x: Shape, y: Shape, dtype: str, backend: Backend, training: bool) -> Needs:
        def work(*kernels: str) -> Work:
            return {k: backend.workspace(k, x, y, dtype, self.window, self.groups) for k in kernels}

        backward = work("conv2d_weight_grad", "conv2d_grads")
        if not backward["conv2d_grads"]:
            backward |= work("conv2d_input_grad")
        return Needs(output=False, forward=work("conv2d"), backward=backward)

    def algorithm(self, x: Shape, y: Shape, dtype: str, backend: Backend) -> Choice:
        return backend.algorithm(x, y, dtype, self.window, self.groups)

    band = _rows_of_windows

    def flops(self, x: Shape, y: Shape) -> int:
        K = self.in_channels // self.groups * prod(self.window.kernel)
        return 2 * K * prod(y) + (prod(y) if self.bias else 0)

    def prepare_forward(self, x: Array, ctx: Context) -> Iterable[Call]:
        w, b, window = ctx.params["weight"], ctx.params.get("bias"), (self.window, self.groups)
        return ctx.backend.prepare("conv2d", x, w, b, *window, relu=ctx.relu, out=ctx.y, work=ctx.work["conv2d"])

    def prepare_backward(self, dy: Array, ctx: Context) -> Iterator[Call]:
        x, w, dw, dx, work = ctx.x, ctx.params["weight"], ctx.grads["weight"], ctx.dx, ctx.work
        prepare, window = ctx.backend.prepare, (self.window, self.groups)
        if self.bias:
            yield from prepare("sum_samples", dy, out=ctx.grads["bias"])
        if dx is not None and work["conv2d_grads"]:
            yield from prepare("conv2d_grads", x, dy, w, *window, dw=dw, dx=dx, work=work["conv2d_grads"])
            return
        yield from prepare("conv2d_weight_grad", x, dy, *window, out=dw, work=work["conv2d_weight_grad"])
        if dx is not None:
            size = x.shape[0], x.shape[2]
            yield from prepare("conv2d_input_grad", dy, w, size, *window, out=dx, work=work["conv2d_input_grad"])
