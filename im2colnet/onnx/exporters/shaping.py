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
    Pad,
    Permute,
    PixelShuffle,
    PixelUnshuffle,
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
    """Write each sample as a vector."""
    return node("Flatten", *inputs, axis=1)


@exporter(Reshape, Unflatten)
def reshape(layer: Any, node: NodeWriter, inputs: Sequence[Value]) -> Value:
    """Write samples in another shape; the 0 keeps the batch size."""
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
    """Write channels as pixels; "CRD" means that the offsets in the block vary fastest in a channel's number."""
    return node("DepthToSpace", *inputs, blocksize=layer.upscale_factor, mode="CRD")


@exporter(PixelUnshuffle)
def pixel_unshuffle(layer: PixelUnshuffle, node: NodeWriter, inputs: Sequence[Value]) -> Value:
    """Write pixels as channels; ONNX's SpaceToDepth orders the channels in another way."""
    (C, *_), (_, H, W), r = node.input_shapes[0], node.output_shape, layer.downscale_factor
    blocks = node("Reshape", *inputs, shape=[0, C, H, r, W, r])
    return node("Reshape", node("Transpose", blocks, perm=[0, 1, 3, 5, 2, 4]), shape=[0, C * r * r, H, W])


@exporter(ChannelShuffle)
def channel_shuffle(layer: ChannelShuffle, node: NodeWriter, inputs: Sequence[Value]) -> Value:
    """Write the channels as a table of groups, which is transposed."""
    C, *size = node.output_shape
    groups = node("Reshape", *inputs, shape=[0, layer.groups, C // layer.groups, *size])
    return node("Reshape", node("Transpose", groups, perm=[0, 2, 1, 3, 4]), shape=[0, C, *size])


#: ONNX's name of each padding mode, by PyTorch's name
MODES = {"constant": "constant", "reflect": "reflect", "replicate": "edge", "circular": "wrap"}
#: PyTorch's name of the padding mode of each layer
MODE_OF: dict[type[Any], str] = {
    ConstantPad2d: "constant",
    ZeroPad2d: "constant",
    ReflectionPad2d: "reflect",
    ReplicationPad2d: "replicate",
    CircularPad2d: "circular",
}


@exporter(*MODE_OF)
def pad(layer: Any, node: NodeWriter, inputs: Sequence[Value]) -> Value:
    """Write pixels around the images."""
    sides = [(0, 0), *layer.sides[-layer.axes :]]
    return _padded(inputs[0], node, sides, row_of(MODE_OF, layer), getattr(layer, "value", 0))


@exporter(Pad)
def pad_axes(layer: Pad, node: NodeWriter, inputs: Sequence[Value]) -> Value:
    """Write numbers around the samples."""
    return _padded(inputs[0], node, layer.sides, layer.mode, layer.value)


def _padded(x: Value, node: NodeWriter, sides: Sequence[tuple[int, int]], mode: str, value: float) -> Value:
    """Write the padding of each axis of a sample; negative padding crops the axis."""
    if mode == "constant":
        number: dict[str, Any] = {} if not value else {"value" if node.opset < 11 else "constant_value": float(value)}
        return node("Pad", x, pads=pads_of(sides), **number)
    if mode == "circular":  # what is left is repeated; the others show numbers that are cut off
        x = _cut(x, node, sides)
    if max(map(max, sides)) > 0:
        if mode == "circular" and node.opset < 19:
            raise ModelError(f"ONNX's Pad repeats an image since opset 19: give opset=19 or more, not {node.opset}")
        x = node("Pad", x, pads=pads_of([(max(before, 0), max(after, 0)) for before, after in sides]), mode=MODES[mode])
    return x if mode == "circular" else _cut(x, node, sides)


def pads_of(sides: Sequence[tuple[int, int]]) -> list[int]:
    """Return the padding in ONNX's order, for the batch axis too: first before all axes, then behind all axes."""
    before, after = zip(*sides, strict=True)
    return [0, *before, 0, *after]


def _cut(x: Value, node: NodeWriter, sides: Sequence[tuple[int, int]]) -> Value:
    """Write the crop of the axes whose padding is negative."""
    cut = {axis: (max(-a, 0), max(-b, 0)) for axis, (a, b) in enumerate(sides, 1) if min(a, b) < 0}
    if not cut:
        return x
    starts = [before for before, _ in cut.values()]
    ends = [-after if after else 2**31 - 1 for _, after in cut.values()]
    return node("Slice", x, starts=starts, ends=ends, axes=[*cut])
