"""Products with a matrix as ONNX."""

from __future__ import annotations

from collections.abc import Sequence

from im2colnet.layers import Linear
from im2colnet.onnx.exporters.base import NodeWriter, Value, exporter


@exporter(Linear)
def linear(layer: Linear, node: NodeWriter, inputs: Sequence[Value]) -> Value:
    """Write ``x · weightᵀ + bias``."""
    bias = node.parameter("bias")
    if bias is None and node.opset < 11:
        bias = node.number(0)
    return node("Gemm", *inputs, node.parameter("weight"), bias, transB=1)
