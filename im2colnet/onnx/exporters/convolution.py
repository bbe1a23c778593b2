"""Convolutions as ONNX."""

from __future__ import annotations

from collections.abc import Sequence

from im2colnet.layers import Conv1d, Conv2d, ConvTranspose1d, ConvTranspose2d
from im2colnet.onnx.exporters.base import NodeWriter, Value, exporter, window_of
from im2colnet.onnx.exporters.shaping import pad, pads_of


@exporter(Conv1d, Conv2d)
def convolution(layer: Conv2d, node: NodeWriter, inputs: Sequence[Value]) -> Value:
    """Write a convolution; padding with other numbers than zeros is a node before it."""
    (x,) = inputs
    if layer.border is not None:
        x = pad(layer.border, node, inputs)
    parameters = node.parameter("weight"), node.parameter("bias")
    return node("Conv", x, *parameters, group=layer.groups, **window_of(layer.window))


@exporter(ConvTranspose1d, ConvTranspose2d)
def transposed(layer: ConvTranspose2d, node: NodeWriter, inputs: Sequence[Value]) -> Value:
    """Write a transposed convolution."""
    (x,), axes = inputs, layer.axes
    weight, bias, more = node.parameter("weight"), node.parameter("bias"), layer.more[-axes:]
    window, group = window_of(layer.window), layer.groups
    if not any(more):
        return node("ConvTranspose", x, weight, bias, group=group, **window)
    if all(rows < stride for rows, stride in zip(layer.more, layer.window.stride, strict=True)):
        return node("ConvTranspose", x, weight, bias, group=group, output_padding=more, **window)
    # programs refuse that much output_padding: rows are cut off later, and then the bias alone is added to new ones
    y = node("ConvTranspose", x, weight, group=group, **(window | {"pads": None}))
    cut = [(-before, rows - after) for rows, (before, after) in zip(layer.more, layer.window.padding, strict=True)]
    y = node("Pad", y, pads=pads_of([(0, 0), *cut[-axes:]]))
    return y if bias is None else node("Add", y, node.parameter("bias", (-1, *[1] * axes)))
