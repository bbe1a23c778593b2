"""Products with a matrix as ONNX."""

from __future__ import annotations

from collections.abc import Sequence

from im2colnet.layers import Linear, MatMul
from im2colnet.onnx.exporters.base import NodeWriter, Value, exporter


@exporter(Linear)
def linear(layer: Linear, node: NodeWriter, inputs: Sequence[Value]) -> Value:
    """Write ``x · weightᵀ + bias``; ONNX's Gemm takes only features."""
    bias = node.parameter("bias")
    if len(node.output_shape) > 1:
        product = node("MatMul", *inputs, node("Transpose", node.parameter("weight"), perm=[1, 0]))
        return product if bias is None else node("Add", product, bias)
    if bias is None and node.opset < 11:
        bias = node.number(0)
    return node("Gemm", *inputs, node.parameter("weight"), bias, transB=1)


@exporter(MatMul)
def matmul(layer: MatMul, node: NodeWriter, inputs: Sequence[Value]) -> Value:
    """Write the products of the last two axes."""
    return node("MatMul", *inputs)
