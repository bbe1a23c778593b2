"""Products with a matrix."""

from __future__ import annotations

from typing import Any

from im2colnet.layers import Linear, MatMul
from im2colnet.torch.trace import Refused, Trace, importer
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
        return t.add(MatMul(), input, other)
    if not isinstance(input, Value) or other.ndim != 2:
        raise Refused("one factor is a constant, and not a matrix on the right")
    layer = Linear(other.shape[0], other.shape[1], bias=False)
    return t.add(layer, input, weight=t.derived(other.T, other))


@importer("scaled_dot_product_attention")
def scaled_dot_product_attention(
    t: Trace,
    query: Value,
    key: Value,
    value: Value,
    attn_mask: Any = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Any:
    if attn_mask is not None or is_causal or dropout_p or enable_gqa:
        raise Refused("it has a mask, dropout or groups of heads")
    factor = t.sample_shape(query)[-1] ** -0.5 if scale is None else scale
    products = t.apply("matmul", t.apply("mul", query, factor), t.apply("transpose", key, -2, -1))
    return t.apply("matmul", t.apply("softmax", products, -1), value)
