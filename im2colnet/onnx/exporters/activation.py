"""Functions of each number, and of numbers along an axis, as ONNX."""

from __future__ import annotations

from collections.abc import Sequence
from math import isinf, pi, sqrt
from typing import Any

from im2colnet.backend.activation import LARGEST_LOG1P
from im2colnet.layers import (
    CELU,
    ELU,
    GELU,
    GLU,
    SELU,
    Abs,
    Cos,
    Erf,
    Exp,
    Hardsigmoid,
    Hardswish,
    Hardtanh,
    Layer,
    LeakyReLU,
    Log,
    LogSigmoid,
    LogSoftmax,
    Mish,
    Neg,
    PReLU,
    Reciprocal,
    ReLU,
    ReLU6,
    Sigmoid,
    SiLU,
    Sin,
    Softmax,
    Softplus,
    Softsign,
    Sqrt,
    Square,
    Tanh,
    Threshold,
)
from im2colnet.onnx.exporters.base import NodeWriter, Value, exporter, row_of

#: ONNX's name of functions without constants
OPERATORS: dict[type[Layer], str] = {
    ReLU: "Relu",
    Sigmoid: "Sigmoid",
    Tanh: "Tanh",
    SELU: "Selu",
    Softsign: "Softsign",
    Abs: "Abs",
    Cos: "Cos",
    Erf: "Erf",
    Exp: "Exp",
    Log: "Log",
    Neg: "Neg",
    Reciprocal: "Reciprocal",
    Sin: "Sin",
    Sqrt: "Sqrt",
}


@exporter(*OPERATORS)
def function(layer: Layer, node: NodeWriter, inputs: Sequence[Value]) -> Value:
    """Write a function that ONNX has."""
    op = row_of(OPERATORS, layer)
    return node(op, *inputs)


@exporter(Square)
def square(layer: Square, node: NodeWriter, inputs: Sequence[Value]) -> Value:
    """Write ``x²``."""
    return node("Mul", *inputs, *inputs)


@exporter(LeakyReLU)
def leaky_relu(layer: LeakyReLU, node: NodeWriter, inputs: Sequence[Value]) -> Value:
    """Write ``x`` above 0, ``negative_slope · x`` below."""
    return node("LeakyRelu", *inputs, alpha=layer.negative_slope)


@exporter(ELU)
def elu(layer: ELU, node: NodeWriter, inputs: Sequence[Value]) -> Value:
    """Write ``x`` above 0, ``alpha · (exp(x) - 1)`` below."""
    return node("Elu", *inputs, alpha=layer.alpha)


@exporter(CELU)
def celu(layer: CELU, node: NodeWriter, inputs: Sequence[Value]) -> Value:
    """Write ``x`` above 0, ``alpha · (exp(x / alpha) - 1)`` below."""
    if node.has("Celu"):
        return node("Celu", *inputs, alpha=layer.alpha)
    return node("Mul", node("Elu", node("Div", *inputs, layer.alpha)), layer.alpha)


@exporter(SiLU)
def silu(layer: SiLU, node: NodeWriter, inputs: Sequence[Value]) -> Value:
    """Write ``x · sigmoid(x)``."""
    return node("Mul", *inputs, node("Sigmoid", *inputs))


@exporter(GELU)
def gelu(layer: GELU, node: NodeWriter, inputs: Sequence[Value]) -> Value:
    """Write ``x · Φ(x)``."""
    (x,) = inputs
    if node.has("Gelu"):
        return node("Gelu", x, approximate=None if layer.approximate == "none" else layer.approximate)
    if layer.approximate == "none":
        inner = node("Erf", node("Div", x, sqrt(2)))
    else:
        cube = node("Mul", node("Mul", node("Mul", x, x), x), 0.044715)
        inner = node("Tanh", node("Mul", node("Add", x, cube), sqrt(2 / pi)))
    return node("Mul", node("Mul", x, node("Add", inner, 1)), 0.5)


@exporter(Mish)
def mish(layer: Mish, node: NodeWriter, inputs: Sequence[Value]) -> Value:
    """Write ``x · tanh(log(1 + exp(x)))``."""
    if node.has("Mish"):
        return node("Mish", *inputs)
    return node("Mul", *inputs, node("Tanh", node("Softplus", *inputs)))


@exporter(Softplus)
def softplus(layer: Softplus, node: NodeWriter, inputs: Sequence[Value]) -> Value:
    """Write ``log(1 + exp(beta · x)) / beta``, and ``x`` where ``beta · x`` is above the threshold."""
    (x,) = inputs
    scaled = x if layer.beta == 1 else node("Mul", x, layer.beta)
    y = node("Softplus", scaled)
    y = y if layer.beta == 1 else node("Div", y, layer.beta)
    if layer.threshold >= LARGEST_LOG1P[node.dtype]:  # the two are the same number there
        return y
    return node("Where", node("Greater", scaled, layer.threshold), x, y)


@exporter(LogSigmoid)
def log_sigmoid(layer: LogSigmoid, node: NodeWriter, inputs: Sequence[Value]) -> Value:
    """Write ``-log(1 + exp(-x))``."""
    return node("Neg", node("Softplus", node("Neg", *inputs)))


@exporter(Hardtanh)
def hardtanh(layer: Hardtanh, node: NodeWriter, inputs: Sequence[Value]) -> Value:
    """Write ``x`` between two limits."""
    low, high = (None if isinf(limit) else float(limit) for limit in (layer.min_val, layer.max_val))
    return node("Clip", *inputs, min=low, max=high)


@exporter(ReLU6)
def relu6(layer: ReLU6, node: NodeWriter, inputs: Sequence[Value]) -> Value:
    """Write ``x`` between 0 and 6."""
    return node("Clip", *inputs, min=0.0, max=6.0)


@exporter(Hardsigmoid)
def hardsigmoid(layer: Layer, node: NodeWriter, inputs: Sequence[Value]) -> Value:
    """Write ``(x + 3) / 6`` between 0 and 1."""
    return node("HardSigmoid", *inputs, alpha=1 / 6, beta=0.5)


@exporter(Hardswish)
def hardswish(layer: Hardswish, node: NodeWriter, inputs: Sequence[Value]) -> Value:
    """Write ``x · hardsigmoid(x)``."""
    if node.has("HardSwish"):
        return node("HardSwish", *inputs)
    return node("Mul", *inputs, hardsigmoid(layer, node, inputs))


@exporter(Threshold)
def threshold(layer: Threshold, node: NodeWriter, inputs: Sequence[Value]) -> Value:
    """Write ``x`` above the threshold, else the value."""
    if layer.value == 0 and node.has("ThresholdedRelu"):
        return node("ThresholdedRelu", *inputs, alpha=layer.threshold)
    return node("Where", node("Greater", *inputs, layer.threshold), *inputs, layer.value)


@exporter(Softmax, LogSoftmax)
def softmax(layer: Any, node: NodeWriter, inputs: Sequence[Value]) -> Value:
    """Write the softmax over an axis. Before opset 13 ONNX's covers all later axes too, so the axis must be last."""
    op = "Softmax" if isinstance(layer, Softmax) else "LogSoftmax"
    last = len(node.output_shape)
    axis = layer.dim % (last + 1)
    if node.opset >= 13 or axis == last:
        return node(op, *inputs, axis=axis)
    perm = [*range(last + 1)]
    perm[axis], perm[last] = last, axis
    return node("Transpose", node(op, node("Transpose", *inputs, perm=perm), axis=last), perm=perm)


@exporter(GLU)
def glu(layer: GLU, node: NodeWriter, inputs: Sequence[Value]) -> Value:
    """Write ``a · sigmoid(b)``, where a and b are the two halves of an axis."""
    axis = layer.dim % (len(node.output_shape) + 1)
    half = node.output_shape[axis - 1]
    a = node("Slice", *inputs, starts=[0], ends=[half], axes=[axis])
    b = node("Slice", *inputs, starts=[half], ends=[2 * half], axes=[axis])
    return node("Mul", a, node("Sigmoid", b))


@exporter(PReLU)
def prelu(layer: PReLU, node: NodeWriter, inputs: Sequence[Value]) -> Value:
    """Write ``x`` above 0, ``weight · x`` below; the weight of a channel is broadcast along the axes behind it."""
    behind = 0 if layer.num_parameters == 1 else len(node.output_shape) - 1
    return node("PRelu", *inputs, node.parameter("weight", (layer.num_parameters, *[1] * behind)))
