"""Functions of two values, or of a value and a constant, and concatenation, as ONNX."""

from __future__ import annotations

from collections.abc import Sequence

from im2colnet.errors import ModelError
from im2colnet.layers import Add, Concat, Div, Maximum, Minimum, Mul, Pow, Sub, WithConstant
from im2colnet.layers.merging import Elementwise
from im2colnet.onnx.exporters.base import NodeWriter, Value, exporter

#: ONNX's name of each operation
OPERATORS = {
    "add": "Add",
    "sub": "Sub",
    "mul": "Mul",
    "div": "Div",
    "pow": "Pow",
    "maximum": "Max",
    "minimum": "Min",
}


@exporter(Add, Sub, Mul, Div, Pow, Maximum, Minimum)
def of_two(layer: Elementwise, node: NodeWriter, inputs: Sequence[Value]) -> Value:
    """Write a function of two values, which ONNX broadcasts as the library does."""
    first, second = node.input_shapes
    return _written(layer.operation, node, inputs[0], inputs[1], first == second)


@exporter(WithConstant)
def with_constant(layer: WithConstant, node: NodeWriter, inputs: Sequence[Value]) -> Value:
    """Write a function of a value and a constant."""
    (x,) = inputs
    constant = node.parameter("constant") or node.number(layer.value)
    alike = layer.shape is not None and tuple(layer.shape) == node.input_shapes[0]
    first, second = (constant, x) if layer.reverse else (x, constant)
    return _written(layer.operation, node, first, second, alike)


def _written(operation: str, node: NodeWriter, first: Value, second: Value, alike: bool) -> Value:
    op = OPERATORS[operation]
    if op in ("Max", "Min") and node.opset < 8 and not alike:
        raise ModelError(f"ONNX broadcasts the values of {op} since opset 8: give opset=8 or more, not {node.opset}")
    return node(op, first, second)


@exporter(Concat)
def concat(layer: Concat, node: NodeWriter, inputs: Sequence[Value]) -> Value:
    """Write the concatenation of the values."""
    return node("Concat", *inputs, axis=layer.dim % (len(node.output_shape) + 1))
