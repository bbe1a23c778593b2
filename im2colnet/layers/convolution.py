"""Convolution, and the transposed one, of images and of sequences."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from copy import copy
from dataclasses import dataclass, replace
from functools import partial
from math import prod
from operator import setitem
from typing import Any, ClassVar, cast

from im2colnet.backend import Backend
from im2colnet.checks import groups_divide, one_of, whole
from im2colnet.layers.base import (
    BOUNDS,
    Band,
    Context,
    Layer,
    Needs,
    OneRow,
    Parameter,
    Scratch,
    _rows_of_windows,
    as_rows,
    check_input_channels,
    images_of,
    rows_shape,
)
from im2colnet.layers.shaping import CircularPad2d, Padding, ReflectionPad2d, ReplicationPad2d
from im2colnet.types import Array, Call, Choice, Shape, Spec, accumulator
from im2colnet.window import make_output_padding, make_window

__all__ = ["Conv1d", "Conv2d", "ConvTranspose1d", "ConvTranspose2d"]


#: the layer that pads the images of a convolution, by ``padding_mode``; "zeros" needs none
BORDERS: dict[str, type[Padding]] = {
    "reflect": ReflectionPad2d,
    "replicate": ReplicationPad2d,
    "circular": CircularPad2d,
}


class Filters(Layer):
    """What :class:`Conv2d` and :class:`ConvTranspose2d` have in common: a weight, a bias, and a window."""

    in_channels: int
    out_channels: int
    kernel_size: Any
    stride: Any
    padding: Any
    dilation: Any
    groups: int
    bias: bool
    padding_mode: str
    init: str
    axes: ClassVar[int] = 2  #: of an image
    filters: slice = slice(None)  #: the filters that the layer computes, of all filters in the weight
    fixed: ClassVar[frozenset[str]] = frozenset(
        {
            "in_channels",
            "out_channels",
            "kernel_size",
            "stride",
            "padding",
            "dilation",
            "groups",
            "bias",
            "padding_mode",
            "init",
        }
    )

    def __post_init__(self) -> None:
        self._set(in_channels=whole("in_channels", self.in_channels))
        self._set(out_channels=whole("out_channels", self.out_channels))
        self._set(groups=groups_divide(self.in_channels, self.out_channels, self.groups))
        one_of("init", self.init, *BOUNDS)
        self.window = make_window(self.kernel_size, self.stride, self.padding, self.dilation, axes=self.axes)

    def _filters(self) -> tuple[int, int]:
        """Return the number of filters in the weight, and the number of channels of all groups of filters."""
        raise NotImplementedError(f"{type(self).__name__} must define _filters()")

    def weight_shape(self) -> Shape:
        """Return the shape of the weight as kernels take it, (F, C/G, KH, KW)."""
        filters, channels = self._filters()
        return filters, channels // self.groups, *self.window.kernel

    def parameters(self) -> dict[str, Parameter]:
        F, C, *kernel = self.weight_shape()
        bound, bias_bound = BOUNDS[self.init](C * prod(kernel))
        bias = {"bias": Parameter((self.out_channels,), bias_bound)} if self.bias else {}
        return {"weight": Parameter((F, C, *kernel[-self.axes :]), bound, order="filter"), **bias}

    def of_rows(self, ctx: Context) -> Context:
        """Return the context that the kernels' arrays are taken from."""
        return ctx


@dataclass(eq=False, repr=False)
class Conv2d(Filters):
    """2-D convolution of images (cross-correlation, as everywhere in deep learning).

    ``y = w · im2col(x) + b`` maps images (N, in_channels, H, W) to (N, out_channels, OH, OW), with
    ``OH = (H + padding - dilation·(KH - 1) - 1) // stride + 1``, where padding is the sum of both sides; OW
    has the same formula. The ``weight`` is (out_channels, in_channels / groups, KH, KW), the ``bias`` (out_channels,).

    Parameters
    ----------
    in_channels, out_channels : int
        Number of channels of the images, and number of filters.
    kernel_size, stride : int or (height, width)
        Size of the window and its step, in pixels.
    padding : int, (height, width), ((top, bottom), (left, right)), "same" or "valid"
        Number of pixels added around the image. "same" keeps the image's size and needs stride 1; "valid" means no
        padding.
    dilation : int or (height, width)
        Spacing between the pixels that a window reads; 1 means adjacent pixels.
    groups : int
        Number of groups of channels. An output channel depends only on the input channels of its group;
        ``groups=in_channels`` is a depthwise convolution.
    bias : bool
        Whether to add a learned number to each output channel.
    padding_mode : {"zeros", "reflect", "replicate", "circular"}
        Values of the padding: zeros, or the same pixels as in the layers :class:`ReflectionPad2d`,
        :class:`ReplicationPad2d` and :class:`CircularPad2d`.
    init : {"default", "he"}
        How ``net.init`` draws the parameters. "default": weight and bias uniform in ±1/√(fan-in), as in PyTorch. "he":
        weight uniform in ±√(6/fan-in) and bias 0 (He et al. 2015, arXiv:1502.01852), for deep networks with ReLU and no
        batch norm.

    Raises
    ------
    ShapeError
        If an argument is out of range; when a network runs, also if its images are too small, or have another number of
        channels.

    Notes
    -----
    As a product of matrices: Chellapilla, Puri & Simard 2006, "High performance convolutional neural networks for
    document processing". Kernels of 3 to 7 pixels may take Winograd's algorithm (Lavin & Gray 2015, arXiv:1509.09308).

    Examples
    --------
    >>> conv = ic.Conv2d(3, 8, 3, stride=2, padding=1)
    >>> net = ic.Sequential([conv]).init()
    >>> net.predict(np.zeros((1, 3, 32, 32))).shape
    (1, 8, 16, 16)
    >>> {name: p.shape for name, p in net.parameters().items()}
    {'0.weight': (8, 3, 3, 3), '0.bias': (8,)}
    """

    in_channels: int
    out_channels: int
    kernel_size: Any
    stride: Any = 1
    padding: Any = 0
    dilation: Any = 1
    groups: int = 1
    bias: bool = True
    padding_mode: str = "zeros"
    init: str = "default"
    fuses: ClassVar[bool] = True
    skips_frozen: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        one_of("padding_mode", self.padding_mode, "zeros", *BORDERS)
        #: pads the images, so that the window has no padding of its own; None if the window sees zeros around them
        self.border: Padding | None = None
        if self.padding_mode != "zeros":
            (top, bottom), (left, right) = self.window.padding
            self.border = BORDERS[self.padding_mode]((left, right, top, bottom))
            self.border._set(axes=self.axes)
            self.window = self.window._replace(padding=((0, 0), (0, 0)))

    def _filters(self) -> tuple[int, int]:
        return self.out_channels, self.in_channels

    def output_shape(self, x: Shape) -> Shape:
        H, _, W, N = self._padded_shape(images_of(self.in_channels, x))
        OH, OW = self.window.output_size((H, W))
        return OH, self.out_channels, OW, N

    def _padded_shape(self, x: Shape) -> Shape:
        """Return the shape of the images that the window slides over."""
        return x if self.border is None else self.border.output_shape(x)

    def needs(self, x: Shape, y: Shape, dtype: str, backend: Backend, training: bool) -> Needs:
        needs = self._kernels_need(self._padded_shape(x), y, dtype, backend)
        if self.border is None:
            return needs
        # the padded images, and in the backward pass their gradient, come first in the scratch of each kernel: the
        # scratch of all kernels of a pass begins at the same place, so what one has written there the next one reads
        padded = Spec(self._padded_shape(x), dtype)
        forward = {kernel: [padded, *specs] for kernel, specs in needs.forward.items()}
        backward = {**needs.backward, "fold": self.border.scratch(x, dtype)}
        return replace(
            needs, forward=forward, backward={kernel: [padded, padded, *specs] for kernel, specs in backward.items()}
        )

    def _kernels_need(self, x: Shape, y: Shape, dtype: str, backend: Backend) -> Needs:
        """Say which arrays the kernels take for images of the shape that the window slides over."""
        images, dy, w = Spec(x, dtype), Spec(y, dtype), Spec(self.weight_shape(), dtype)
        size, window = (x[0], x[2]), (self.window, self.groups)
        forward: Scratch = {"conv2d": backend.conv2d.scratch(images, w, None, *window)}
        backward: Scratch = {}
        if self.learns("weight"):
            backward["conv2d_weight_grad"] = backend.conv2d_weight_grad.scratch(images, dy, *window)
            backward["conv2d_grads"] = backend.conv2d_grads.scratch(images, dy, w, *window)
        if not backward.get("conv2d_grads"):  # the backend does not make both gradients at once
            backward["conv2d_input_grad"] = backend.conv2d_input_grad.scratch(dy, w, size, *window)
        return Needs(input=self.learns("weight"), output=False, forward=forward, backward=backward)

    def algorithm(self, x: Shape, y: Shape, dtype: str, backend: Backend) -> Choice:
        return backend.algorithm(self._padded_shape(x), y, dtype, self.window, self.groups)

    def band(self, rows: slice, x: Shape) -> Band:
        return _rows_of_windows(self, rows, x) if self.border is None else None

    def absorb(self, following: Layer) -> Layer | None:
        return NormalizedConv2d(self, following) if following.is_line(self.out_channels) else None

    def flops(self, x: Shape, y: Shape) -> int:
        K = self.in_channels // self.groups * prod(self.window.kernel)
        return 2 * K * prod(y) + (prod(y) if self.bias else 0)

    def prepare_forward(self, x: Array, ctx: Context) -> Iterable[Call]:
        w, b = ctx.params["weight"], ctx.params.get("bias")
        return self.convolve(x, w, b, ctx.activation, ctx, ctx.scratch["conv2d"])

    def convolve(
        self, x: Array, w: Array, b: Array | None, activation: str | None, ctx: Context, scratch: list[Array]
    ) -> Iterator[Call]:
        """Convolve images x with a weight (F, C/G, KH, KW) and a bias, into ``ctx.y``."""
        if self.border is not None:
            padded, *scratch = scratch
            yield from self.border.pad(x, padded)
            x = padded
        window = self.window, self.groups
        yield from ctx.backend.conv2d.prepare(x, w, b, *window, activation, out=ctx.y, scratch=scratch)

    def prepare_backward(self, dy: Array, ctx: Context) -> Iterable[Call]:
        if self.border is None:
            yield from self._gradients(dy, ctx.x, ctx.dx, ctx, ctx.scratch)
            return
        padded, dpadded, *sums = ctx.scratch["fold"]
        scratch = {kernel: arrays[2:] for kernel, arrays in ctx.scratch.items()}
        if self.learns("weight"):
            yield from self.border.pad(ctx.x, padded)
        yield from self._gradients(dy, padded, ctx.dx if ctx.dx is None else dpadded, ctx, scratch)
        if ctx.dx is not None:
            yield from self.border.fold(dpadded, ctx.dx, sums, ctx.xp)

    def _gradients(self, dy: Array, x: Array, dx: Any, ctx: Context, scratch: dict[str, list[Array]]) -> Iterator[Call]:
        """Write the gradients of the parameters, and into dx that of the images x that the window slides over."""
        w, dw, backend, window = ctx.params["weight"], ctx.grads["weight"], ctx.backend, (self.window, self.groups)
        if self.bias and self.learns("bias"):
            yield from backend.sum_samples.prepare(dy, out=ctx.grads["bias"])
        if dx is not None and scratch.get("conv2d_grads"):
            yield from backend.conv2d_grads.prepare(x, dy, w, *window, dw=dw, dx=dx, scratch=scratch["conv2d_grads"])
            return
        if self.learns("weight"):
            yield from backend.conv2d_weight_grad.prepare(x, dy, *window, out=dw, scratch=scratch["conv2d_weight_grad"])
        if dx is not None:
            size = x.shape[0], x.shape[2]
            yield from backend.conv2d_input_grad.prepare(
                dy, w, size, *window, out=dx, scratch=scratch["conv2d_input_grad"]
            )


class NormalizedConv2d(Layer):
    """A convolution and the normalization that follows it, in evaluation mode, where the graph joins them.

    ``a·(w * x + b) + c = (a·w) * x + (a·b + c)``: the weight is normalized, not the images, unless it is the larger.
    Its parameters are the convolution's, its state is parameters and state of the normalization.
    """

    fuses: ClassVar[bool] = True

    def __init__(self, conv: Conv2d, norm: Layer) -> None:
        self.conv, self.norm = conv, norm

    def output_shape(self, x: Shape) -> Shape:
        return self.norm.output_shape(self.conv.output_shape(x))

    def needs(self, x: Shape, y: Shape, dtype: str, backend: Backend, training: bool) -> Needs:
        conv = self.conv.needs(x, y, dtype, backend, training).forward
        weight = self.conv.weight_shape()
        if prod(weight) > prod(y):
            images, of_channels = Spec(rows_shape(y), dtype), Spec((weight[0],), "float64")
            return Needs(
                forward=conv | {"channel_affine": backend.channel_affine.scratch(images, of_channels, of_channels)}
            )
        stored = tuple(weight[axis] for axis in backend.weight_order)
        return Needs(forward={"conv2d": [*conv["conv2d"], Spec(stored, dtype)]})

    def flops(self, x: Shape, y: Shape) -> int:
        return self.conv.flops(x, y)

    def algorithm(self, x: Shape, y: Shape, dtype: str, backend: Backend) -> Choice:
        return self.conv.algorithm(x, y, dtype, backend)

    def band(self, rows: slice, x: Shape) -> Band:
        found = self.conv.band(rows, x)
        return found and (NormalizedConv2d(cast(Conv2d, found[0]), self.norm), found[1])

    def prepare_forward(self, x: Array, ctx: Context) -> Iterator[Call]:
        conv, x, ctx = self.conv, as_rows(x), self.conv.of_rows(ctx)
        w, b, y, scratch = ctx.params["weight"], ctx.params.get("bias"), ctx.y, ctx.scratch["conv2d"]
        line = ctx.backend.empty((2, conv.out_channels), accumulator(x.dtype.name))
        a, c = line[0], line[1]
        if "channel_affine" in ctx.scratch:
            yield partial(self._write_line, ctx, None, line)
            yield from conv.convolve(x, w, b, None, ctx, scratch)
            affine = ctx.scratch["channel_affine"]
            yield from ctx.backend.channel_affine.prepare(y, a, c, activation=ctx.activation, out=y, scratch=affine)
            return
        *scratch, stored = scratch
        order = ctx.backend.weight_order
        stored = stored.transpose([order.index(axis) for axis in range(4)])
        yield partial(self._write_line, ctx, b, line)
        if w.dtype == a.dtype:
            yield partial(ctx.xp.multiply, w, a[:, None, None, None], stored)
        else:
            yield lambda: setitem(stored, ..., w * a[:, None, None, None])
        yield from conv.convolve(x, stored, c, ctx.activation, ctx, scratch)

    def _write_line(self, ctx: Context, b: Array | None, line: Array) -> None:
        """Write a and c into ``line`` (2, C), with a bias ``b`` of the convolution a and a·b + c."""
        a, c = self.norm.running_line(ctx.buffers, ctx.buffers, ctx.xp)
        line[0], line[1] = (each if len(each) == 1 else each[self.conv.filters] for each in (a, c))
        if b is not None:
            line[1] += line[0] * b


@dataclass(eq=False, repr=False)
class ConvTranspose2d(Filters):
    """2-D transposed convolution (deconvolution): each pixel adds a multiple of the filter to the output.

    ``y = col2im(wᵀ · x) + b`` maps images (N, in_channels, H, W) to (N, out_channels, OH, OW), with
    ``OH = (H - 1)·stride - padding + dilation·(KH - 1) + output_padding + 1``, where padding is the sum of both sides.
    The ``weight`` is (in_channels, out_channels / groups, KH, KW), the ``bias`` (out_channels,).

    Parameters
    ----------
    in_channels, out_channels : int
        Number of channels of the images, and of the output.
    kernel_size, stride : int or (height, width)
        Size of the filter, and the distance between the positions where it is added, in pixels.
    padding : int, (height, width), ((top, bottom), (left, right)), "same" or "valid"
        Number of rows and columns that are removed from the output.
    output_padding : int or (height, width)
        Number of additional rows at the bottom and columns on the right of the output; less than the stride or the
        dilation.
    groups : int
        Number of groups of channels. An output channel depends only on the input channels of its group.
    bias : bool
        Whether to add a learned number to each output channel.
    dilation : int or (height, width)
        Spacing between the pixels of the filter; 1 means adjacent pixels.
    padding_mode : {"zeros"}
        Only "zeros" is possible.
    init : {"default", "he"}
        How ``net.init`` draws the parameters; see :class:`Conv2d`. The fan-in is ``out_channels / groups·KH·KW``, as in
        PyTorch.

    Raises
    ------
    ShapeError
        If an argument is out of range; when a network runs, also if the number of channels differs.

    Notes
    -----
    The layer computes the gradient of the input of a convolution with the same weight and window, if x is the gradient
    of that convolution's output (Dumoulin & Visin 2016, arXiv:1603.07285). So ``dx`` is that convolution of ``dy``, and
    the gradient of the weight is that convolution's weight gradient, for images ``dy`` and the output's gradient x.

    Examples
    --------
    >>> up = ic.ConvTranspose2d(8, 3, 2, stride=2)
    >>> net = ic.Sequential([up]).init()
    >>> net.predict(np.zeros((1, 8, 16, 16))).shape
    (1, 3, 32, 32)
    """

    in_channels: int
    out_channels: int
    kernel_size: Any
    stride: Any = 1
    padding: Any = 0
    output_padding: Any = 0
    groups: int = 1
    bias: bool = True
    dilation: Any = 1
    padding_mode: str = "zeros"
    init: str = "default"
    skips_frozen: ClassVar[bool] = True
    fixed: ClassVar[frozenset[str]] = Filters.fixed | {"output_padding"}

    def __post_init__(self) -> None:
        super().__post_init__()
        one_of("padding_mode", self.padding_mode, "zeros")
        self.more = make_output_padding(self.output_padding, self.window)

    def _filters(self) -> tuple[int, int]:
        return self.in_channels, self.out_channels

    def output_shape(self, x: Shape) -> Shape:
        H, _, W, N = images_of(self.in_channels, x)
        OH, OW = self.window.image_size((H, W), self.more)
        return OH, self.out_channels, OW, N

    def _windows(self, x: Shape, y: Shape) -> Shape:
        """Return the shape of the convolution of y: that of x, unless ``output_padding`` makes room for more windows.

        Then x is written into an array of that shape, among zeros. It happens where the dilation exceeds the stride.
        """
        H, W = self.window.output_size((y[0], y[2]))
        return H, x[1], W, x[3]

    def needs(self, x: Shape, y: Shape, dtype: str, backend: Backend, training: bool) -> Needs:
        windows, window = self._windows(x, y), (self.window, self.groups)
        copy = [Spec(windows, dtype)] if windows != x else []
        images, image_grads, w = Spec(windows, dtype), Spec(y, dtype), Spec(self.weight_shape(), dtype)
        forward = backend.conv2d_input_grad.scratch(images, w, (y[0], y[2]), *window)
        backward: Scratch = {"conv2d": [*backend.conv2d.scratch(image_grads, w, None, *window), *copy]}
        if self.learns("weight"):
            weight_grad = backend.conv2d_weight_grad.scratch(image_grads, images, *window)
            backward["conv2d_weight_grad"] = [*weight_grad, *copy]
        return Needs(
            input=self.learns("weight"),
            output=False,
            forward={"conv2d_input_grad": [*forward, *copy]},
            backward=backward,
        )

    def algorithm(self, x: Shape, y: Shape, dtype: str, backend: Backend) -> Choice:
        return backend.algorithm(y, self._windows(x, y), dtype, self.window, self.groups)

    def flops(self, x: Shape, y: Shape) -> int:
        K = self.out_channels // self.groups * prod(self.window.kernel)
        return 2 * K * prod(x) + (prod(y) if self.bias else 0)

    def prepare_forward(self, x: Array, ctx: Context) -> Iterable[Call]:
        w, b, y, scratch = ctx.params["weight"], ctx.params.get("bias"), ctx.y, ctx.scratch["conv2d_input_grad"]
        if self._windows(x.shape, y.shape) != x.shape:
            *scratch, copy = scratch
            yield from self._write_among_zeros(x, copy)
            x = copy
        size, window = (y.shape[0], y.shape[2]), (self.window, self.groups)
        yield from ctx.backend.conv2d_input_grad.prepare(x, w, size, *window, out=y, scratch=scratch)
        if b is not None:
            yield partial(ctx.xp.add, y, b[:, None, None], out=y)

    def prepare_backward(self, dy: Array, ctx: Context) -> Iterable[Call]:
        w, dx, backend = ctx.params["weight"], ctx.dx, ctx.backend
        window, more_windows = (self.window, self.groups), self._windows(ctx.x.shape, dy.shape) != ctx.x.shape
        if self.bias and self.learns("bias"):
            yield from backend.sum_samples.prepare(dy, out=ctx.grads["bias"])
        if self.learns("weight"):
            x, scratch = ctx.x, ctx.scratch["conv2d_weight_grad"]
            if more_windows:
                *scratch, copy = scratch
                yield from self._write_among_zeros(x, copy)
                x = copy
            yield from backend.conv2d_weight_grad.prepare(dy, x, *window, out=ctx.grads["weight"], scratch=scratch)
        if dx is None:
            return
        scratch, out = ctx.scratch["conv2d"], dx
        if more_windows:
            *scratch, out = scratch
        yield from backend.conv2d.prepare(dy, w, None, *window, out=out, scratch=scratch)
        if more_windows:
            yield partial(setitem, dx, ..., out[: dx.shape[0], :, : dx.shape[2]])

    @staticmethod
    def _write_among_zeros(x: Array, copy: Array) -> Iterator[Call]:
        """Write x into the first rows and columns of a larger array."""
        yield partial(setitem, copy, ..., 0)
        yield partial(setitem, copy[: x.shape[0], :, : x.shape[2]], ..., x)


class FiltersOfOneRow(OneRow):
    """What makes a convolution of images one of sequences: its weight too is shown with a row."""

    in_channels: int
    filters: slice

    def output_shape(self, x: Shape) -> Shape:
        if len(x) == 3:
            check_input_channels(self.in_channels, x)
        return super().output_shape(x)

    def of_rows(self, ctx: Context) -> Context:
        found = super().of_rows(ctx)
        found.params = self._with_rows(ctx.params)
        found.grads = self._with_rows(getattr(ctx, "grads", {}))  # there are none in evaluation
        return found

    def _with_rows(self, arrays: Mapping[str, Array]) -> dict[str, Array]:
        """Return weight and bias, or their gradients, as views of its filters, the weight (F, C/G, 1, K)."""
        found = {name: array[self.filters] for name, array in arrays.items()}
        return found | {name: array[:, :, None] for name, array in found.items() if name == "weight"}


class Conv1d(FiltersOfOneRow, Conv2d):
    """1-D convolution of sequences, which are images of one row.

    Maps sequences (N, in_channels, L) to (N, out_channels, OL), with OL like OH of :class:`Conv2d`. The ``weight`` is
    (out_channels, in_channels / groups, K), the ``bias`` (out_channels,).

    Parameters
    ----------
    in_channels, out_channels : int
        Number of channels of the sequences, and number of filters.
    kernel_size, stride : int
        Length of the window and its step.
    padding : int, ((left, right),), "same" or "valid"
        Number of positions added before and after the sequence.
    dilation : int
        Spacing between the positions that a window reads; 1 means adjacent positions.
    groups : int
        Number of groups of channels. An output channel depends only on the input channels of its group;
        ``groups=in_channels`` is a depthwise convolution.
    bias : bool
        Whether to add a learned number to each output channel.
    padding_mode : {"zeros", "reflect", "replicate", "circular"}
        Values of the padding; see :class:`Conv2d`.
    init : {"default", "he"}
        How ``net.init`` draws the parameters; see :class:`Conv2d`.

    Raises
    ------
    ShapeError
        As for :class:`Conv2d`.

    Examples
    --------
    >>> conv = ic.Conv1d(2, 4, 5, padding="same")
    >>> net = ic.Sequential([conv]).init()
    >>> net.predict(np.zeros((1, 2, 100))).shape
    (1, 4, 100)
    """

    fuses: ClassVar[bool] = True
    skips_frozen: ClassVar[bool] = True
    absorb = Conv2d.absorb

    def band(self, rows: slice, x: Shape) -> Band:
        """Return the convolution that makes some of the channels, which are the first axis of sequences, (C, L, N)."""
        if self.groups > 1:
            return None
        part = copy(self)
        part.filters = rows
        part._set(out_channels=rows.stop - rows.start)
        return part, slice(0, x[0])


class ConvTranspose1d(FiltersOfOneRow, ConvTranspose2d):
    """1-D transposed convolution of sequences, which are images of one row.

    Maps sequences (N, in_channels, L) to (N, out_channels, OL), with OL like OH of :class:`ConvTranspose2d`. The
    ``weight`` is (in_channels, out_channels / groups, K), the ``bias`` (out_channels,).

    Parameters
    ----------
    in_channels, out_channels : int
        Number of channels of the sequences, and of the output.
    kernel_size, stride : int
        Length of the filter, and the distance between the positions where it is added.
    padding : int, ((left, right),), "same" or "valid"
        Number of positions that are removed from the output.
    output_padding : int
        Number of additional positions at the end of the output; less than the stride or the dilation.
    groups : int
        Number of groups of channels. An output channel depends only on the input channels of its group.
    bias : bool
        Whether to add a learned number to each output channel.
    dilation : int
        Spacing between the positions of the filter; 1 means adjacent positions.
    padding_mode : {"zeros"}
        Only "zeros" is possible.
    init : {"default", "he"}
        How ``net.init`` draws the parameters; see :class:`ConvTranspose2d`.

    Raises
    ------
    ShapeError
        As for :class:`ConvTranspose2d`.

    Examples
    --------
    >>> up = ic.ConvTranspose1d(4, 2, 4, stride=2, padding=1)
    >>> net = ic.Sequential([up]).init()
    >>> net.predict(np.zeros((1, 4, 50))).shape
    (1, 2, 100)
    """

    skips_frozen: ClassVar[bool] = True
