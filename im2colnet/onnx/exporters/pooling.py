"""Pooling as ONNX."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

from im2colnet.errors import ModelError
from im2colnet.layers import (
    AdaptiveAvgPool1d,
    AdaptiveAvgPool2d,
    AdaptiveMaxPool1d,
    AdaptiveMaxPool2d,
    Amax,
    Amin,
    AvgPool1d,
    AvgPool2d,
    GlobalAvgPool2d,
    LPPool2d,
    MaxPool1d,
    MaxPool2d,
    Mean,
    Sum,
)
from im2colnet.layers.pooling import shares
from im2colnet.onnx.exporters.base import NodeWriter, Value, exporter, row_of, window_of
from im2colnet.onnx.exporters.shaping import pads_of
from im2colnet.window import Window

#: the first opset whose windows are rounded up as PyTorch's are, in the inference of shapes too
ROUNDS_UP = 22


def _size(node: NodeWriter) -> tuple[int, int]:
    """Return height and width of the images; a sequence counts as an image of one row."""
    _, *size = node.input_shapes[0]
    return (1, *size) if len(size) == 1 else (size[0], size[1])  # type: ignore[return-value]


def _reach(window: Window, size: tuple[int, int]) -> tuple[tuple[int, int], tuple[int, int]]:
    """Return the padding, extended to the end of the last windows if their number is rounded up."""
    found = []
    steps = zip(size, window.output_size(size), window.stride, window.extent, window.padding, strict=True)
    for n, out, stride, extent, (before, after) in steps:
        found.append((before, max(after, (out - 1) * stride + extent - n - before)))
    return found[0], found[1]


def _rounded(window: Window, node: NodeWriter) -> tuple[dict[str, Any], Window]:
    """Return the attributes of a window, as ONNX's pools take them, and the window that is written.

    Before opset 22 ONNX rounds the number of windows up in another way, so the difference is written as padding.
    """
    if not window.ceil_mode:
        return window_of(window), window
    if node.opset >= ROUNDS_UP:
        return {**window_of(window), "ceil_mode": 1}, window
    wide = window._replace(padding=_reach(window, _size(node)), ceil_mode=False)
    for what, kernel, (_, after) in zip(window.names, window.kernel, wide.padding, strict=True):
        if after >= kernel:
            raise ModelError(
                f"the number of windows is rounded up, and the last one reaches {after} places beyond the {what}, where"
                f" padding must be less than the kernel's {kernel} before opset {ROUNDS_UP}: give opset={ROUNDS_UP}"
            )
    return window_of(wide), wide


@exporter(MaxPool1d, MaxPool2d)
def max_pool(layer: MaxPool2d, node: NodeWriter, inputs: Sequence[Value]) -> Value:
    """Write the maximum of each window, in which padding never wins."""
    attributes, _ = _rounded(layer.window, node)
    return node("MaxPool", *inputs, **attributes)


@exporter(AvgPool1d, AvgPool2d)
def avg_pool(layer: AvgPool2d, node: NodeWriter, inputs: Sequence[Value]) -> Value:
    """Write the mean of each window."""
    (x,), window = inputs, layer.window
    if layer.divisor_override is not None:
        means = _means_with_zeros(window._replace(padding=_reach(window, _size(node))), node, x)
        return node("Mul", means, prod(window.kernel) / layer.divisor_override)
    attributes, written = _rounded(window, node)
    if not layer.count_include_pad or not any(map(any, written.padding)):
        return node("AveragePool", x, **attributes)
    if written.padding == window.padding:
        return node("AveragePool", x, **attributes, count_include_pad=1)
    # the padding counts, but not what is beyond it: the one becomes a part of the images, the other is the padding
    x = node("Pad", x, pads=pads_of([(0, 0), *window.padding[-window.axes :]]))
    beyond = [(0, after - own) for (_, own), (_, after) in zip(window.padding, written.padding, strict=True)]
    return node("AveragePool", x, **window_of(written._replace(padding=(beyond[0], beyond[1]))))


def _means_with_zeros(window: Window, node: NodeWriter, x: Value) -> Value:
    """Write the means of windows over zeros around the images."""
    if any(map(any, window.padding)):
        x = node("Pad", x, pads=pads_of([(0, 0), *window.padding[-window.axes :]]))
    inside = window._replace(padding=((0, 0), (0, 0)), ceil_mode=False)
    return node("AveragePool", x, **window_of(inside))


@exporter(LPPool2d)
def lp_pool(layer: LPPool2d, node: NodeWriter, inputs: Sequence[Value]) -> Value:
    """Write ``(Σ x^p)^(1/p)`` of each window."""
    (x,), p, window = inputs, layer.norm_type, layer.window
    if p % 2 == 0 and not window.ceil_mode:  # ONNX's has the absolute values
        return node("LpPool", x, p=int(p), **window_of(window))
    powers = x if p == 1 else node("Pow", x, p)
    attributes, _ = _rounded(window, node)
    sums = node("Mul", node("AveragePool", powers, **attributes), prod(window.kernel))
    return sums if p == 1 else node("Pow", sums, 1 / p)


@exporter(GlobalAvgPool2d)
def global_avg_pool(layer: Any, node: NodeWriter, inputs: Sequence[Value]) -> Value:
    """Write the mean of each channel."""
    return node("GlobalAveragePool", *inputs)


@exporter(AdaptiveAvgPool1d, AdaptiveAvgPool2d)
def adaptive_avg_pool(layer: Any, node: NodeWriter, inputs: Sequence[Value]) -> Value:
    """Write adaptive average pooling: the means of a given number of windows, which cover the image."""
    if set(node.output_shape[1:]) == {1}:
        return node("GlobalAveragePool", *inputs)
    return _adaptive("AveragePool", "ReduceMean", node, *inputs)


@exporter(AdaptiveMaxPool1d, AdaptiveMaxPool2d)
def adaptive_max_pool(layer: Any, node: NodeWriter, inputs: Sequence[Value]) -> Value:
    """Write adaptive max pooling: the maxima of a given number of windows, which cover the image."""
    return _adaptive("MaxPool", "ReduceMax", node, *inputs)


def _adaptive(pool: str, reduce: str, node: NodeWriter, x: Value) -> Value:
    """Write one pooling if all windows have one size, else each window separately, along one axis after the other."""
    sizes = [*zip(node.input_shapes[0][1:], node.output_shape[1:], strict=True)]
    if all(length % windows == 0 for length, windows in sizes):
        kernel = [length // windows for length, windows in sizes]
        return node(pool, x, kernel_shape=kernel, strides=kernel)
    for axis, (length, windows) in enumerate(sizes, 2):
        parts = [
            node("Slice", x, starts=[pixels.start], ends=[pixels.stop], axes=[axis])
            for pixels in shares(length, windows)
        ]
        each = [node(reduce, part, axes=[axis], keepdims=1) for part in parts]
        x = node("Concat", *each, axis=axis) if windows > 1 else each[0]
    return x


#: ONNX's names of the reductions
REDUCTIONS: dict[type[Any], str] = {Mean: "ReduceMean", Sum: "ReduceSum", Amax: "ReduceMax", Amin: "ReduceMin"}


@exporter(*REDUCTIONS)
def reduction(layer: Any, node: NodeWriter, inputs: Sequence[Value]) -> Value:
    """Write a reduction along some axes."""
    dims = layer.dim if hasattr(layer.dim, "__iter__") else [layer.dim]
    axes = sorted(dim % (len(node.input_shapes[0]) + 1) for dim in dims)
    return node(row_of(REDUCTIONS, layer), *inputs, axes=axes, keepdims=int(layer.keepdim))
