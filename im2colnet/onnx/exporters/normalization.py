"""Normalization as ONNX."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from im2colnet.host import np
from im2colnet.layers import (
    BatchNorm1d,
    BatchNorm2d,
    GroupNorm,
    InstanceNorm2d,
    LayerNorm,
    LocalResponseNorm,
    RMSNorm,
)
from im2colnet.onnx.exporters.base import NodeWriter, Value, exporter


def _scale_and_bias(node: NodeWriter, shape: Any) -> tuple[Value, Value]:
    """Return the layer's weight and bias, or ones and zeros in their place, for operators that need both."""
    scale = node.parameter("weight") or node.number(np.ones(shape))
    return scale, node.parameter("bias") or node.number(np.zeros(shape))


def _affine(x: Value, node: NodeWriter, behind: int = 0) -> Value:
    """Write ``weight · x + bias``, if the layer has these; they get ``behind`` more axes of length 1 at the end."""
    for op, key in ("Mul", "weight"), ("Add", "bias"):
        array = node.graph.state.get(f"{node.name}.{key}")
        if array is not None:
            x = node(op, x, node.parameter(key, (*array.shape, *[1] * behind)))
    return x


@exporter(BatchNorm1d, BatchNorm2d, InstanceNorm2d)
def running_norm(layer: Any, node: NodeWriter, inputs: Sequence[Value]) -> Value:
    """Write the normalization by running statistics, or by the statistics of the batch, or of each image's channels."""
    (x,), channels = inputs, layer.num_features
    if layer.track_running_stats:
        statistics = node.parameter("running_mean"), node.parameter("running_var")
        momentum = 0.1 if layer.momentum is None else layer.momentum
        affine = _scale_and_bias(node, channels)
        one = {"epsilon": layer.eps, "momentum": 1 - momentum, "keeps": layer}
        return node("BatchNormalization", x, *affine, *statistics, **one)
    if isinstance(layer, InstanceNorm2d):
        affine = _scale_and_bias(node, channels)
        return node("InstanceNormalization", x, *affine, epsilon=layer.eps, keeps=layer)
    behind = len(node.output_shape) - 1
    y = _normalized(x, node, [0, *range(2, 2 + behind)], layer.eps)
    return _affine(y, node, behind)


def _normalized(x: Value, node: NodeWriter, axes: Sequence[int], eps: float, centres: bool = True) -> Value:
    """Write ``(x - mean) / √(var + eps)`` with the statistics along some axes, or ``x / √(mean(x²) + eps)``."""
    if centres:
        x = node("Sub", x, node("ReduceMean", x, axes=axes, keepdims=1))
    square = node("ReduceMean", node("Mul", x, x), axes=axes, keepdims=1)
    return node("Div", x, node("Sqrt", node("Add", square, eps)))


@exporter(GroupNorm)
def group_norm(layer: GroupNorm, node: NodeWriter, inputs: Sequence[Value]) -> Value:
    """Write the normalization of groups of channels: before opset 21 it is done for each row of a table of groups."""
    (x,), G, shape = inputs, layer.num_groups, node.output_shape
    if node.opset >= 21:
        affine = _scale_and_bias(node, layer.num_channels)
        return node("GroupNormalization", x, *affine, num_groups=G, epsilon=layer.eps, keeps=layer)
    rows = node("Reshape", x, shape=[0, G, -1])
    rows = node("InstanceNormalization", rows, np.ones(G), np.zeros(G), epsilon=layer.eps)
    return _affine(node("Reshape", rows, shape=[0, *shape]), node, len(shape) - 1)


@exporter(LayerNorm)
def layer_norm(layer: LayerNorm, node: NodeWriter, inputs: Sequence[Value]) -> Value:
    """Write the normalization over the last axes."""
    (x,), axes = inputs, len(layer.normalized_shape)
    if node.has("LayerNormalization"):
        scale = node.parameter("weight") or node.number(np.ones(layer.normalized_shape))
        bias = node.parameter("bias")
        return node("LayerNormalization", x, scale, bias, axis=-axes, epsilon=layer.eps, keeps=layer)
    return _affine(_normalized(x, node, range(-axes, 0), layer.eps), node)


@exporter(RMSNorm)
def rms_norm(layer: RMSNorm, node: NodeWriter, inputs: Sequence[Value]) -> Value:
    """Write the division by the root mean square over the last axes."""
    (x,), axes = inputs, len(layer.normalized_shape)
    eps = layer.epsilon(node.dtype)
    if node.has("RMSNormalization"):
        scale = node.parameter("weight") or node.number(np.ones(layer.normalized_shape))
        return node("RMSNormalization", x, scale, axis=-axes, epsilon=eps, keeps=layer)
    return _affine(_normalized(x, node, range(-axes, 0), eps, centres=False), node)


@exporter(LocalResponseNorm)
def local_response_norm(layer: LocalResponseNorm, node: NodeWriter, inputs: Sequence[Value]) -> Value:
    """Write ``x / (k + alpha · mean(x²))**beta``; the window of ONNX's operator lies otherwise if its size is even."""
    (x,), size = inputs, layer.size
    if size % 2:
        return node("LRN", x, size=size, alpha=layer.alpha, beta=layer.beta, bias=layer.k)
    C, H, W = node.output_shape
    channels = node("Reshape", node("Mul", x, x), shape=[0, 1, C, H * W])
    channels = node("Pad", channels, pads=[0, 0, size // 2, 0, 0, 0, (size - 1) // 2, 0])
    means = node("AveragePool", channels, kernel_shape=[size, 1])
    base = node("Add", node("Mul", node("Reshape", means, shape=[0, C, H, W]), layer.alpha), layer.k)
    return node("Div", x, node("Pow", base, layer.beta))
