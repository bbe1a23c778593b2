"""Layers that change the shape, not the numbers, as ONNX."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from im2colnet.errors import ModelError
from im2colnet.layers import (
    ChannelShuffle,
    CircularPad2d,
    ConstantPad2d,
    Flatten,
    Permute,
    PixelShuffle,
    ReflectionPad2d,
    ReplicationPad2d,
    Reshape,
    Slice,
    Transpose,
    Unflatten,
    ZeroPad2d,
    ZeroPadShortcut,
)
from im2colnet.onnx.exporters.base import NodeWriter, Value, exporter, row_of


@exporter(Flatten)
def flatten(layer: Flatten, node: NodeWriter, inputs: Sequence[Value]) -> Value:
    """Write a sample's numbers along one axis."""
    return node("Flatten", *inputs, axis=1)


@exporter(Reshape, Unflatten)
def reshape(layer: Any, node: NodeWriter, inputs: Sequence[Value]) -> Value:
    """Write samples of another shape; the 0 stands for the batch as it is."""
    return node("Reshape", *inputs, shape=[0, *node.output_shape])


@exporter(Permute, Transpose)
def reorder(layer: Any, node: NodeWriter, inputs: Sequence[Value]) -> Value:
    """Write the axes in another order."""
    axes = [*range(len(node.output_shape) + 1)]
    if isinstance(layer, Permute):
        axes = [*layer.dims]
    else:
        first, second = layer.dim0 % len(axes), layer.dim1 % len(axes)
        axes[first], axes[second] = second, first
    return node("Transpose", *inputs, perm=axes)


@exporter(Slice)
def part(layer: Slice, node: NodeWriter, inputs: Sequence[Value]) -> Value:
    """Write a part of an axis."""
    axis = layer.dim % (len(node.output_shape) + 1)
    length = node.input_shapes[0][axis - 1]
    start, stop, step = slice(layer.start, layer.stop, layer.step).indices(length)
    # -1 would be the last place: what ends before the first one has the number before all that are counted from the end
    stop = stop if stop >= 0 else -length - 1
    return node("Slice", *inputs, starts=[start], ends=[stop], axes=[axis], steps=[step] if step != 1 else None)


@exporter(ZeroPadShortcut)
def shortcut(layer: ZeroPadShortcut, node: NodeWriter, inputs: Sequence[Value]) -> Value:
    """Write every ``stride``-th pixel, and zeros for the new channels."""
    (x,) = inputs
    _, H, W = node.input_shapes[0]
    if layer.stride > 1:
        x = node("Slice", x, starts=[0, 0], ends=[H, W], axes=[2, 3], steps=[layer.stride] * 2)
    return node("Pad", x, pads=[0, 0, 0, 0, 0, layer.out_channels - layer.in_channels, 0, 0])


@exporter(PixelShuffle)
def pixel_shuffle(layer: PixelShuffle, node: NodeWriter, inputs: Sequence[Value]) -> Value:
    """Write channels as pixels; "CRD" says that the new row and column are the last of what a channel stands for."""
    return node("DepthToSpace", *inputs, blocksize=layer.upscale_factor, mode="CRD")


@exporter(ChannelShuffle)
def channel_shuffle(layer: ChannelShuffle, node: NodeWriter, inputs: Sequence[Value]) -> Value:
    """Write the channels as a table of groups, which is transposed."""
    C, *size = node.output_shape
    groups = node("Reshape", *inputs, shape=[0, layer.groups, C // layer.groups, *size])
    return node("Reshape", node("Transpose", groups, perm=[0, 2, 1, 3, 4]), shape=[0, C, *size])


#: ONNX's word for what a padding shows
MODES: dict[type[Any], str] = {
    ConstantPad2d: "constant",
    ZeroPad2d: "constant",
    ReflectionPad2d: "reflect",
    ReplicationPad2d: "edge",
    CircularPad2d: "wrap",
}


@exporter(*MODES)
def pad(layer: Any, node: NodeWriter, inputs: Sequence[Value]) -> Value:
    """Write pixels around the images, and cut off others where the padding is negative."""
    (x,) = inputs
    mode = row_of(MODES, layer)
    sides = layer.sides[-layer.axes :]
    if mode == "constant":
        return node("Pad", x, pads=pads_of(sides), **_value(node, layer.value))
    around = [tuple(max(side, 0) for side in pair) for pair in sides]
    if mode == "wrap":  # what is left of the image is repeated; the others show pixels that are cut off
        x = _cut(x, node, sides)
    if any(map(any, around)):
        if mode == "wrap" and node.opset < 19:
            raise ModelError(f"ONNX's Pad repeats an image since opset 19: give opset=19 or more, not {node.opset}")
        x = node("Pad", x, pads=pads_of(around), mode=mode)
    return x if mode == "wrap" else _cut(x, node, sides)


def _value(node: NodeWriter, value: float) -> dict[str, Any]:
    if not value:
        return {}
    return {"constant_value" if node.opset >= 11 else "value": float(value)}


def pads_of(sides: Sequence[Sequence[int]]) -> list[int]:
    """Return the padding of a batch of images: first all that is before the axes, and then all that is behind."""
    before, after = zip(*sides, strict=True)
    return [0, 0, *before, 0, 0, *after]


def _cut(x: Value, node: NodeWriter, sides: Sequence[Sequence[int]]) -> Value:
    """Write what is left of images whose sides are padded by negative numbers."""
    cut = {2 + i: (max(-before, 0), max(-after, 0)) for i, (before, after) in enumerate(sides)}
    cut = {axis: sides for axis, sides in cut.items() if any(sides)}
    if not cut:
        return x
    whole = 2**31 - 1
    starts = [before for before, _ in cut.values()]
    ends = [-after if after else whole for _, after in cut.values()]
    return node("Slice", x, starts=starts, ends=ends, axes=[*cut])
