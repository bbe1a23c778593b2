"""Arithmetic of two values, or of a value and a constant; concatenation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from im2colnet.host import np
from im2colnet.layers import Add, Concat, Div, Layer, Maximum, Minimum, Mul, Pow, Sub, WithConstant
from im2colnet.onnx.importers.shaping import padding
from im2colnet.onnx.read import OnnxNode
from im2colnet.onnx.translate import Refused, Translation, importer

#: operator -> its layer of two values, and its name among the operations with a constant
ARITHMETIC: dict[str, tuple[type[Layer], str]] = {
    "Add": (Add, "add"),
    "Sub": (Sub, "sub"),
    "Mul": (Mul, "mul"),
    "Div": (Div, "div"),
    "Pow": (Pow, "pow"),
    "Max": (Maximum, "maximum"),
    "Min": (Minimum, "minimum"),
    "Sum": (Add, "add"),
    "Mean": (Add, "add"),
}
OPSETS = {"Pow": (6, 15), "Max": (6, 13), "Min": (6, 13), "Sum": (6, 13), "Mean": (6, 13)}


def sample_constant(constant: Any, shape: Sequence[Any]) -> Any:
    """Return a constant that is broadcast to values of a shape, as a constant for each sample.

    It has the axes of a sample, some of length 1, or none if it is one number.
    """
    array = np.asarray(constant)
    if array.dtype == object:
        raise Refused("it computes with the batch size, which is not known")
    if array.size == 1 and array.ndim <= len(shape):
        return array.reshape(())
    if array.ndim > len(shape):
        raise Refused(f"its constant of shape {array.shape} has more axes than its input, {len(shape)}")
    array = array.reshape((1,) * (len(shape) - array.ndim) + array.shape)
    if array.shape[0] != 1:
        raise Refused(f"its constant of shape {array.shape} differs from sample to sample")
    return array[0]


def both(node: OnnxNode, t: Translation, operator: str, first: str, second: str) -> str:
    """Apply arithmetic to two tensors, one of which may be a constant; return a name for the result."""
    kind, operation = ARITHMETIC[operator]
    constants = [t.constant(first), t.constant(second)]
    if constants[0] is not None and constants[1] is not None:
        raise Refused("it reads two constants and a value: merge the constants before the export")
    if constants[0] is None and constants[1] is None:
        a, b = t.shape(first), t.shape(second)
        if len(a) != len(b):
            raise Refused(f"it combines values of {len(a)} and {len(b)} axes, so that samples of the batch are mixed")
        return t.apply(node, kind(), first, second)
    reverse = constants[0] is not None
    if node.opset < 7 and not reverse:
        constants[1] = aligned(node, constants[1], len(t.shape(first)))
    tensor, constant = (second, constants[0]) if reverse else (first, constants[1])
    return with_constant(node, t, tensor, operation, constant, reverse)


def aligned(node: OnnxNode, constant: Any, ndim: int) -> Any:
    """Return a constant with more axes of length 1, so that it has the place given by ``axis`` in opset 6."""
    if not node.attributes.get("broadcast", 0) or "axis" not in node.attributes:
        return constant
    behind = ndim - node.attributes["axis"] % ndim - np.ndim(constant)
    return np.reshape(constant, (*np.shape(constant), *(1,) * max(0, behind)))


def with_constant(
    node: OnnxNode, t: Translation, tensor: str, operation: str, constant: Any, reverse: bool = False
) -> str:
    """Apply an operation with a constant; return a name for the result."""
    array, kind = sample_constant(constant, t.shape(tensor)), WithConstant
    reverse = reverse and operation in ("sub", "div", "pow")  # the others are the same in either order
    if array.ndim == 0:
        return t.apply(node, kind(operation, None, short(array), reverse), tensor)
    return t.apply(node, kind(operation, array.shape, reverse=reverse), tensor, weights={"constant": array})


def short(array: Any) -> float:
    """Return a number as the shortest decimal that equals it in its own precision, such as 0.1."""
    return float(str(array)) if array.dtype.kind == "f" else float(array)


def arithmetic(operator: str) -> None:
    layer, operation = ARITHMETIC[operator]

    @importer(operator, OPSETS.get(operator, (6, 14)), f"{layer.__name__}, WithConstant({operation!r})")
    def read(node: OnnxNode, t: Translation) -> None:
        constants = [name for name in node.inputs if t.constant(name) is not None]
        values = [name for name in node.inputs if t.constant(name) is None]
        first, *others = node.inputs if len(node.inputs) == 2 else [*values, *constants]
        for other in others:
            first = both(node, t, operator, first, other)
        if operator == "Mean" and others:
            first = with_constant(node, t, first, "div", np.float32(len(node.inputs)))
        t.same(node, first)


for _operator in ARITHMETIC:
    arithmetic(_operator)


@importer("Concat", (6, 13), "Concat, Pad", "not along the batch")
def concat(node: OnnxNode, t: Translation) -> None:
    values = [name for name in node.inputs if t.constant(name) is None]
    shape = t.shape(values[0])
    axis = node.attributes["axis"] % len(shape)
    if axis == 0:
        raise Refused("it joins values along the batch axis")
    if len(values) < len(node.inputs):
        joined_with_constants(node, t, axis)
    elif len(values) == 1:
        t.same(node, values[0])
    else:
        t.add(node, Concat(axis), *values)


def joined_with_constants(node: OnnxNode, t: Translation, axis: int) -> None:
    """Concatenate values and constants: the values are padded with zeros, and the constants are added there."""
    parts: list[tuple[str, int, int]] = []  # a value, and how many zeros come before it and behind it
    arrays, first = [], 0
    for name in node.inputs:
        constant = t.constant(name)
        if constant is None:
            parts.append((name, first, 0))
            arrays.append(np.zeros(t.shape(name)[1:], "float32"))
            first = 0
            continue
        arrays.append(constant[0])
        if constant.shape[0] != 1 or constant.dtype == object:
            raise Refused(f"its constant of shape {constant.shape} differs from sample to sample")
        if parts:
            parts[-1] = (*parts[-1][:2], parts[-1][2] + constant.shape[axis])
        else:
            first += constant.shape[axis]
    padded = []
    for name, before, behind in parts:
        sides = [(before, behind) if dim == axis else (0, 0) for dim in range(1, len(t.shape(name)))]
        padded.append(t.apply(node, padding(sides), name) if before or behind else name)
    made = padded[0] if len(padded) == 1 else t.apply(node, Concat(axis), *padded)
    try:
        constant = np.concatenate(arrays, axis - 1)
    except ValueError as error:
        raise Refused(f"its inputs do not fit: {error}") from error
    t.same(node, made if not constant.any() else with_constant(node, t, made, "add", constant[None]))
