"""Products with a matrix."""

from __future__ import annotations

from typing import Any

from im2colnet.layers import Linear
from im2colnet.torch.trace import Refused, Trace, importer, layer_kind
from im2colnet.torch.values import Value


@importer("linear")
def linear(t: Trace, input: Value, weight: Any, bias: Any = None) -> Value:
    if isinstance(weight, Value):
        raise Refused("its weight is computed from the network's input")
    outputs, features = weight.shape
    return t.add(Linear(features, outputs, bias is not None), input, weight=weight, bias=bias)


@importer("matmul", "bmm")
def matmul(t: Trace, input: Any, other: Any) -> Value:
    if isinstance(input, Value) and isinstance(other, Value):
        return t.add(layer_kind("MatMul")(), input, other)
    if not isinstance(input, Value) or other.ndim != 2:
        raise Refused("one factor is a constant, and not a matrix on the right")
    layer = Linear(other.shape[0], other.shape[1], bias=False)
    return t.add(layer, input, weight=t.derived(other.T, other))
