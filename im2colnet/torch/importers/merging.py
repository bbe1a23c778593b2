"""Arithmetic of two values, or of a value and a constant; concatenation."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Any

from im2colnet.layers import Add, Concat, Div, Maximum, Minimum, Mul, Pow, Sub, WithConstant
from im2colnet.torch.trace import Refused, Trace, importer
from im2colnet.torch.values import BatchSize, Value

#: function -> its layer of two values, and its name among the operations with a constant
ARITHMETIC = {
    "add": (Add, "add"),
    "sub": (Sub, "sub"),
    "subtract": (Sub, "sub"),
    "mul": (Mul, "mul"),
    "multiply": (Mul, "mul"),
    "div": (Div, "div"),
    "divide": (Div, "div"),
    "true_divide": (Div, "div"),
    "pow": (Pow, "pow"),
    "maximum": (Maximum, "maximum"),
    "minimum": (Minimum, "minimum"),
}


def _arithmetic(name: str) -> None:
    kind, operation = ARITHMETIC[name]

    @importer(name)
    def add(t: Trace, input: Any, other: Any, *, alpha: float = 1, rounding_mode: None = None) -> Value:
        if rounding_mode is not None:
            raise Refused(f"rounding_mode={rounding_mode!r} has no gradient")
        if alpha != 1:
            other = _with_constant(t, "mul", other, alpha)
        if isinstance(input, Value) and isinstance(other, Value):
            return t.add(kind(), input, other)
        if isinstance(input, Value):
            return _with_constant(t, operation, input, other)
        return _with_constant(t, operation, other, input, reverse=operation not in ("add", "mul"))


for _name in ARITHMETIC:
    _arithmetic(_name)


def _with_constant(t: Trace, operation: str, value: Any, constant: Any, reverse: bool = False) -> Value:
    """Add a layer that computes with a number, or with a tensor that is the same for all samples."""
    if not isinstance(value, Value):
        raise Refused("it computes with two constants")
    if isinstance(constant, BatchSize):
        raise Refused("it computes with the batch size, which a network does not know")
    if not hasattr(constant, "numel"):
        return t.add(WithConstant(operation, None, float(constant), reverse), value)
    shape, axes = tuple(constant.shape), len(t.sample_shape(value)) + 1
    if len(shape) > axes or (len(shape) == axes and shape[0] != 1):
        raise Refused(f"its constant of shape {shape} differs from sample to sample")
    sample = shape[1:] if len(shape) == axes else shape
    tensor = t.derived(constant.reshape(sample), constant)
    made = t.add(WithConstant(operation, sample, 0.0, reverse), value, constant=tensor)
    if constant.requires_grad:
        t.constants.append(t.name_of(tensor) or f"what is computed from parameters in {t.where()}")
    return made


@importer("neg", "negative")
def neg(t: Trace, input: Value) -> Value:
    return _with_constant(t, "mul", input, -1)


@importer("addcmul")
def addcmul(t: Trace, input: Any, tensor1: Any, tensor2: Any, *, value: float = 1) -> Any:
    return t.apply("add", input, t.apply("mul", tensor1, tensor2), alpha=value)


@importer("rsub")
def rsub(t: Trace, input: Value, other: Any, *, alpha: float = 1) -> Value:
    made: Value = t.apply("sub", other, input, alpha=alpha)
    return made


@importer("cat", "concat", "concatenate")
def cat(t: Trace, tensors: Sequence[Any], dim: int = 0) -> Value:
    if len(tensors) == 1:
        return t.same(tensors[0])
    axis = operator.index(dim) % (1 + len(t.sample_shape(tensors[0])))
    if not axis:
        raise Refused("dim=0 is the batch axis, and a layer must not mix samples")
    return t.add(Concat(axis), *tensors)


@importer("stack")
def stack(t: Trace, tensors: Sequence[Any], dim: int = 0) -> Value:
    return cat(t, [t.apply("unsqueeze", tensor, dim) for tensor in tensors], dim)
