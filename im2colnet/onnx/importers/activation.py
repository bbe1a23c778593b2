"""Functions of each number, and of numbers along an axis."""

from __future__ import annotations

from collections.abc import Callable
from math import inf, isinf, prod
from typing import Any

from im2colnet.host import np
from im2colnet.layers import (
    CELU,
    ELU,
    GELU,
    SELU,
    Abs,
    Add,
    Cos,
    Div,
    Erf,
    Exp,
    Hardsigmoid,
    Hardswish,
    Hardtanh,
    Layer,
    LeakyReLU,
    Log,
    LogSoftmax,
    Mish,
    Mul,
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
    Sum,
    Tanh,
    Threshold,
    WithConstant,
)
from im2colnet.onnx.importers.merging import sample_constant
from im2colnet.onnx.read import OnnxNode
from im2colnet.onnx.translate import Refused, Translation, importer

#: the constants of ONNX's Selu
SELU_ALPHA, SELU_GAMMA = 1.67326319217681884765625, 1.05070102214813232421875


def scalar(operation: str, value: float, reverse: bool = False) -> Any:
    """Return the layer of arithmetic with one number."""
    return WithConstant(operation, None, float(value), reverse)


def function(operator: str, opsets: tuple[int, int], kind: type[Layer]) -> None:
    """Register an operator without options that is one layer."""

    @importer(operator, opsets, kind.__name__)
    def read(node: OnnxNode, t: Translation) -> None:
        t.add(node, kind(), node.inputs[0])


function("Abs", (6, 13), Abs)
function("Cos", (6, 22), Cos)
function("Erf", (9, 13), Erf)
function("Exp", (6, 13), Exp)
function("HardSwish", (14, 22), Hardswish)
function("Log", (6, 13), Log)
function("Mish", (18, 22), Mish)
function("Neg", (6, 13), Neg)
function("Reciprocal", (6, 13), Reciprocal)
function("Relu", (6, 14), ReLU)
function("Sigmoid", (6, 13), Sigmoid)
function("Sin", (6, 22), Sin)
function("Softplus", (6, 22), Softplus)
function("Softsign", (6, 22), Softsign)
function("Sqrt", (6, 13), Sqrt)
function("Tanh", (6, 13), Tanh)


def close(a: float, b: float) -> bool:
    """Whether two numbers are the same in float32."""
    return bool(np.float32(a) == np.float32(b))


@importer("LeakyRelu", (6, 16), "LeakyReLU")
def leaky_relu(node: OnnxNode, t: Translation) -> None:
    slope = float(node.attributes.get("alpha", 0.01))
    if slope >= 0:
        t.add(node, LeakyReLU(slope), node.inputs[0])
    else:
        two_slopes(node, t, scalar("mul", slope))


def two_slopes(node: OnnxNode, t: Translation, below: Any) -> None:
    """Add ``max(x, 0)`` and a multiple of ``min(x, 0)``."""
    x = node.inputs[0]
    parts = t.after(node, x, ReLU()), t.after(node, x, scalar("minimum", 0), below)
    t.add(node, Add(), *parts)


@importer("PRelu", (6, 16), "PReLU", "slopes that differ along other axes than the channels' are not learned")
def prelu(node: OnnxNode, t: Translation) -> None:
    slope, shape = t.known(node, 1, "slope"), t.shape(node.inputs[0])
    if node.opset < 7:  # they are of the channels
        slope = slope.reshape(-1, *(1,) * (len(shape) - 2))
    slope = sample_constant(slope, shape)
    if slope.ndim == 0 or slope.size == slope.shape[0]:
        t.add(node, PReLU(slope.size), node.inputs[0], weights={"weight": slope.reshape(-1)})
    else:
        two_slopes(node, t, (WithConstant("mul", slope.shape), {"constant": slope}))


@importer("Elu", (6, 22), "ELU")
def elu(node: OnnxNode, t: Translation) -> None:
    t.add(node, ELU(float(node.attributes.get("alpha", 1.0))), node.inputs[0])


@importer("Selu", (6, 22), "SELU, or ELU and a product")
def selu(node: OnnxNode, t: Translation) -> None:
    alpha, gamma = node.attributes.get("alpha", SELU_ALPHA), node.attributes.get("gamma", SELU_GAMMA)
    if close(alpha, SELU_ALPHA) and close(gamma, SELU_GAMMA):
        t.add(node, SELU(), node.inputs[0])
    else:
        t.chain(node, node.inputs[0], ELU(float(alpha)), scalar("mul", gamma))


@importer("Celu", (12, 28), "CELU")
def celu(node: OnnxNode, t: Translation) -> None:
    t.add(node, CELU(float(node.attributes.get("alpha", 1.0))), node.inputs[0])


@importer("HardSigmoid", (6, 22), "Hardsigmoid, or a line and Hardtanh")
def hard_sigmoid(node: OnnxNode, t: Translation) -> None:
    alpha, beta = node.attributes.get("alpha", 0.2), node.attributes.get("beta", 0.5)
    if close(alpha, 1 / 6) and beta == 0.5:
        t.add(node, Hardsigmoid(), node.inputs[0])
    else:
        t.chain(node, node.inputs[0], scalar("mul", alpha), scalar("add", beta), Hardtanh(0.0, 1.0))


@importer("Gelu", (20, 20), "GELU")
def gelu(node: OnnxNode, t: Translation) -> None:
    t.add(node, GELU(node.attributes.get("approximate", "none")), node.inputs[0])


@importer("Swish", (24, 24), "SiLU")
def swish(node: OnnxNode, t: Translation) -> None:
    alpha, x = float(node.attributes.get("alpha", 1.0)), node.inputs[0]
    if alpha == 1:
        t.add(node, SiLU(), x)
    else:
        t.add(node, Mul(), x, t.after(node, x, scalar("mul", alpha), Sigmoid()))


@importer("ThresholdedRelu", (10, 22), "Threshold")
def thresholded_relu(node: OnnxNode, t: Translation) -> None:
    t.add(node, Threshold(float(node.attributes.get("alpha", 1.0)), 0.0), node.inputs[0])


@importer("Clip", (6, 13), "Hardtanh, ReLU6, ReLU", "the limits are constants")
def clip(node: OnnxNode, t: Translation) -> None:
    low, high = (limit(node, t, place, name) for place, name in ((1, "min"), (2, "max")))
    if (low, high) == (0, 6):
        t.add(node, ReLU6(), node.inputs[0])
    elif (low, high) == (0, inf):
        t.add(node, ReLU(), node.inputs[0])
    elif low < high and not isinf(low) and not isinf(high):
        t.add(node, Hardtanh(low, high), node.inputs[0])
    else:
        limits = [] if isinf(low) else [scalar("maximum", low)]
        t.chain(node, node.inputs[0], *limits, *([] if isinf(high) else [scalar("minimum", high)]))


def limit(node: OnnxNode, t: Translation, place: int, name: str) -> float:
    """Return a limit of a Clip; it is infinite if the node has no limit."""
    found = node.attributes.get(name, t.known(node, place, f"limit {name!r}"))
    none = -inf if name == "min" else inf
    value = none if found is None else float(np.asarray(found).item())
    return none if abs(value) >= float(np.finfo("float32").max) else value


def along_axis(kind: Any) -> Callable[[OnnxNode, Translation], None]:
    """Return the function that reads a softmax; until opset 12 ONNX's covers all axes from the given one on."""

    def read(node: OnnxNode, t: Translation) -> None:
        x, shape = node.inputs[0], t.shape(node.inputs[0])
        axis = node.attributes.get("axis", 1 if node.opset < 13 else -1) % len(shape)
        if axis == 0:
            raise Refused("it is along the batch axis, and a network keeps its samples apart")
        if node.opset >= 13 or prod(shape[axis:]) == shape[axis]:
            t.add(node, kind(axis), x)
            return
        flat = t.reshape(node, x, [*shape[1:axis], prod(shape[axis:])])
        t.same(node, t.reshape(node, t.apply(node, kind(axis), flat), shape[1:]))

    return read


importer("Softmax", (6, 13), "Softmax", "not along the batch")(along_axis(Softmax))
importer("LogSoftmax", (6, 13), "LogSoftmax", "not along the batch")(along_axis(LogSoftmax))


@importer("LpNormalization", (6, 22), "powers, Sum, Div", "not along the batch")
def lp_normalization(node: OnnxNode, t: Translation) -> None:
    x, p = node.inputs[0], node.attributes.get("p", 2)
    axis = node.attributes.get("axis", -1) % len(t.shape(x))
    along = Sum((axis,), True)
    steps = (Abs(), along) if p == 1 else (Square(), along, Sqrt())
    t.add(node, Div(), x, t.after(node, x, *steps))
