"""Functions of each number, and softmax."""

from __future__ import annotations

from math import inf
from typing import Any

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
    LeakyReLU,
    Log,
    LogSigmoid,
    LogSoftmax,
    Mish,
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
    WithConstant,
)
from im2colnet.torch.trace import Refused, Trace, importer
from im2colnet.torch.values import Value

#: function -> its layer, for those that have no arguments
SIMPLE = {
    "abs": Abs,
    "absolute": Abs,
    "cos": Cos,
    "erf": Erf,
    "exp": Exp,
    "hardsigmoid": Hardsigmoid,
    "hardswish": Hardswish,
    "logsigmoid": LogSigmoid,
    "log_sigmoid": LogSigmoid,
    "log": Log,
    "mish": Mish,
    "reciprocal": Reciprocal,
    "relu": ReLU,
    "relu6": ReLU6,
    "selu": SELU,
    "sigmoid": Sigmoid,
    "silu": SiLU,
    "sin": Sin,
    "softsign": Softsign,
    "sqrt": Sqrt,
    "square": Square,
    "tanh": Tanh,
}


def _simple(name: str, kind: Any) -> None:
    @importer(name)
    def add(t: Trace, input: Value) -> Value:
        return t.add(kind(), input)


for _name, _kind in SIMPLE.items():
    _simple(_name, _kind)


@importer("leaky_relu")
def leaky_relu(t: Trace, input: Value, negative_slope: float = 0.01) -> Value:
    return t.add(LeakyReLU(negative_slope), input)


@importer("elu")
def elu(t: Trace, input: Value, alpha: float = 1.0) -> Value:
    return t.add(ELU(alpha), input)


@importer("celu")
def celu(t: Trace, input: Value, alpha: float = 1.0) -> Value:
    return t.add(CELU(alpha), input)


@importer("gelu")
def gelu(t: Trace, input: Value, approximate: str = "none") -> Value:
    return t.add(GELU(approximate), input)


@importer("glu")
def glu(t: Trace, input: Value, dim: int = -1) -> Value:
    return t.add(GLU(dim), input)


@importer("softplus")
def softplus(t: Trace, input: Value, beta: float = 1.0, threshold: float = 20.0) -> Value:
    return t.add(Softplus(float(beta), float(threshold)), input)


@importer("threshold", "_threshold")
def threshold(t: Trace, input: Value, threshold: float, value: float) -> Value:
    return t.add(Threshold(threshold, value), input)


@importer("prelu")
def prelu(t: Trace, input: Value, weight: Any) -> Value:
    return t.add(PReLU(weight.numel()), input, weight=weight)


@importer("hardtanh")
def hardtanh(t: Trace, input: Value, min_val: float = -1.0, max_val: float = 1.0) -> Value:
    return clamp(t, input, min_val, max_val)


@importer("clamp", "clip")
def clamp(t: Trace, input: Value, min: float | None = None, max: float | None = None) -> Value:
    low, high = -inf if min is None else float(min), inf if max is None else float(max)
    if (low, high) == (0, 6):
        return t.add(ReLU6(), input)
    if (low, high) == (0, inf):
        return t.add(ReLU(), input)
    if -inf < low < high < inf:
        return t.add(Hardtanh(low, high), input)
    limits = [("maximum", low)] * (low > -inf) + [("minimum", high)] * (high < inf)
    return t.chain(input, *(WithConstant(name, None, limit) for name, limit in limits))


@importer("softmax")
def softmax(t: Trace, input: Value, dim: int | None = None, _stacklevel: int = 3, dtype: Any = None) -> Value:
    return t.add(Softmax(_axis(dim)), input)


@importer("log_softmax")
def log_softmax(t: Trace, input: Value, dim: int | None = None, _stacklevel: int = 3, dtype: Any = None) -> Value:
    return t.add(LogSoftmax(_axis(dim)), input)


@importer("softmin")
def softmin(t: Trace, input: Value, dim: int | None = None, _stacklevel: int = 3, dtype: Any = None) -> Value:
    return softmax(t, t.apply("neg", input), dim)


@importer("tanhshrink")
def tanhshrink(t: Trace, input: Value) -> Any:
    return t.apply("sub", input, t.add(Tanh(), input))


@importer("rsqrt")
def rsqrt(t: Trace, input: Value) -> Any:
    return t.apply("pow", input, -0.5)


def _axis(dim: int | None) -> int:
    if dim is None:
        raise Refused("its axis is not given: use dim=1 for the channels or features")
    return dim
