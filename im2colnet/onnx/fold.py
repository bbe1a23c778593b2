"""Constant folding: parts that depend only on constants and shapes are computed when a file is read.

The batch size is a symbol.

Only the operators listed here are computed, and only after the size of their result is known to be within the limit: a
node of some bytes can ask for gigabytes.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from math import prod
from typing import Any, TypeAlias

from im2colnet.errors import ModelError
from im2colnet.host import np
from im2colnet.onnx.read import BFLOAT16, FLOAT16, MOST_AXES, TYPES, OnnxNode
from im2colnet.text import amount

Array: TypeAlias = Any
#: refuses the shape of a result that has no room
Room: TypeAlias = Callable[[Sequence[int], Any], None]
#: elements of an array in which the batch size stands
MOST_SYMBOLS = 10_000


class Unfoldable(ValueError):
    """A value cannot be computed, since it is wrong or depends on the batch size."""


@dataclass(frozen=True)
class Batch:
    """A multiple of the batch size N, which is at least 1 and else unknown.

    Two are equal if they are the same multiple. An operation has an exact result, or is refused: half of 3·N is not
    known, half of 4·N is 2·N. ``times`` is a float if the file computes in floating point.
    """

    times: int | float = 1

    def __repr__(self) -> str:
        return "N" if self.times == 1 else f"{self.times}*N"

    def __mul__(self, other: Any) -> Any:
        if isinstance(other, Batch):
            raise Unfoldable("it needs the square of the batch size")
        return _multiple(self.times * other)

    __rmul__ = __mul__

    def __add__(self, other: Any) -> Any:
        if isinstance(other, Batch):
            return _multiple(self.times + other.times)
        if other == 0:
            return Batch(self.times + other)
        raise Unfoldable("it adds a number to the batch size")

    __radd__ = __add__

    def __neg__(self) -> Any:
        return Batch(-self.times)

    def __sub__(self, other: Any) -> Any:
        return self + -other

    def __rsub__(self, other: Any) -> Any:
        return -self + other


#: the batch size, as it stands in shapes
BATCH = Batch()


def _multiple(times: Any) -> Any:
    times = times.item() if isinstance(times, np.generic) else times
    return Batch(times) if times else times


def _divide(a: Any, b: Any) -> Any:
    """Divide as ONNX does: integers are rounded towards 0."""
    over = b.times if isinstance(b, Batch) else b
    if over == 0:
        raise Unfoldable("it divides by 0")
    if isinstance(a, Batch):
        whole = not isinstance(a.times, float) and not isinstance(over, (float, np.floating))
        if whole and a.times % over:
            raise Unfoldable(f"it divides {a} by {b}")
        times = a.times // over if whole else a.times / over
        return times if isinstance(b, Batch) else _multiple(times)
    if isinstance(b, Batch):
        if a == 0:
            return a
        raise Unfoldable("it divides a number by the batch size")
    if isinstance(a, float) or isinstance(b, float):
        return a / b
    return abs(a) // abs(b) * (1 if (a < 0) == (b < 0) else -1)


def _mod(a: Any, b: Any) -> Any:
    if isinstance(a, Batch) and not isinstance(b, Batch) and b and a.times % b == 0:
        return 0
    if isinstance(a, Batch) or isinstance(b, Batch):
        raise Unfoldable(f"it divides {a} by {b}")
    return a % b


def _equal(a: Any, b: Any) -> bool:
    if isinstance(a, Batch) == isinstance(b, Batch):
        return bool(a == b)
    batch, number = (a, b) if isinstance(a, Batch) else (b, a)
    size = number / batch.times
    if size < 1 or size % 1:  # the batch size is a whole number of at least 1
        return False
    raise Unfoldable(f"it compares the batch size with {size:g}")


def _less(a: Any, b: Any) -> bool:
    difference = a.times - b.times if isinstance(a, Batch) and isinstance(b, Batch) else None
    if difference is not None:
        return bool(difference < 0)
    if isinstance(a, Batch):
        if a.times > 0 and b <= a.times:
            return False
        if a.times < 0 and b > a.times:
            return True
    elif isinstance(b, Batch):
        if b.times > 0 and a < b.times:
            return True
        if b.times < 0 and a >= b.times:
            return False
    else:
        return bool(a < b)
    raise Unfoldable(f"it compares {a} with {b}")


def _least(a: Any, b: Any) -> Any:
    with suppress(Unfoldable):
        return b if _less(b, a) else a
    return a if _less(a, b) else b


def _most(a: Any, b: Any) -> Any:
    return b if _least(a, b) is a else a


def _round(function: Callable[[float], Any]) -> Callable[[Any], Any]:
    def rounded(a: Any) -> Any:
        if not isinstance(a, Batch):
            return float(function(a))
        if a.times % 1:
            raise Unfoldable(f"it rounds {a}")
        return a

    return rounded


#: elementwise operators of numbers among which multiples of the batch size stand
SYMBOLIC: dict[str, Callable[..., Any]] = {
    "Add": operator.add,
    "Sub": operator.sub,
    "Mul": operator.mul,
    "Div": _divide,
    "Mod": _mod,
    "Neg": operator.neg,
    "Equal": _equal,
    "Less": _less,
    "Greater": lambda a, b: _less(b, a),
    "LessOrEqual": lambda a, b: not _less(b, a),
    "GreaterOrEqual": lambda a, b: not _less(a, b),
    "Min": _least,
    "Max": _most,
    "Where": lambda condition, a, b: a if condition else b,
    "Floor": _round(np.floor),
    "Ceil": _round(np.ceil),
    "Round": _round(np.round),
}


def _whole_division(a: Array, b: Array) -> Array:
    if a.dtype.kind not in "iu":
        return np.divide(a, b)
    if not np.all(b):
        raise Unfoldable("it divides by 0")
    return a // b + ((a % b != 0) & ((a < 0) != (b < 0)))


#: elementwise operators of arrays
ELEMENTWISE: dict[str, Callable[..., Array]] = {
    "Add": np.add,
    "Sub": np.subtract,
    "Mul": np.multiply,
    "Div": _whole_division,
    "Pow": lambda a, b: np.power(a, b).astype(a.dtype),
    "Min": np.minimum,
    "Max": np.maximum,
    "Equal": np.equal,
    "Less": np.less,
    "Greater": np.greater,
    "LessOrEqual": np.less_equal,
    "GreaterOrEqual": np.greater_equal,
    "And": np.logical_and,
    "Or": np.logical_or,
    "Xor": np.logical_xor,
    "Not": np.logical_not,
    "Where": np.where,
    "Neg": np.negative,
    "Abs": np.abs,
    "Sign": np.sign,
    "Sqrt": np.sqrt,
    "Exp": np.exp,
    "Log": np.log,
    "Reciprocal": lambda a: (1 / a).astype(a.dtype),
    "Floor": np.floor,
    "Ceil": np.ceil,
    "Round": np.round,
}
#: sums and the like, over axes
REDUCTIONS: dict[str, Callable[..., Array]] = {
    "ReduceProd": np.prod,
    "ReduceSum": np.sum,
    "ReduceMin": np.min,
    "ReduceMax": np.max,
    "ReduceMean": np.mean,
    "ReduceL2": lambda a, **how: np.sqrt(np.sum(np.square(a), **how)),
    "ReduceSumSquare": lambda a, **how: np.sum(np.square(a), **how),
}
#: operators of arrays that are not elementwise, filled below
OTHERS: dict[str, Callable[[OnnxNode, list[Array], Room], list[Array]]] = {}
#: of how many values at least and at most
VALUES = {"Where": (3, 3), "Min": (1, 1000), "Max": (1, 1000)}
UNARY = {"Not", "Neg", "Abs", "Sign", "Sqrt", "Exp", "Log", "Reciprocal", "Floor", "Ceil", "Round"}


def foldable(node: OnnxNode) -> bool:
    """Whether a node is computed if all its inputs are known."""
    return not node.domain and (node.op in ELEMENTWISE or node.op in REDUCTIONS or node.op in OTHERS)


def fold(node: OnnxNode, values: Sequence[Array | None], max_bytes: int) -> list[Array]:
    """Return a node's results for known inputs: arrays, or None for an input that is left out.

    An array that contains the batch size has the element type ``object``.

    Parameters
    ----------
    max_bytes : int
        The largest size of the results. A caller that folds many nodes passes the rest of the file's limit.

    Raises
    ------
    ModelError
        If the result cannot be computed, or is larger than the limit; the message names the node.
    """

    def room(shape: Sequence[int], dtype: Any) -> None:
        symbolic = np.dtype(dtype).kind == "O"
        if symbolic and prod(shape) > MOST_SYMBOLS:
            raise Unfoldable(f"its result has {prod(shape):,} elements, {MOST_SYMBOLS:,} at most with the batch size")
        needed = prod(shape) * np.dtype(dtype).itemsize
        if needed > max_bytes or prod(max(n, 1) for n in shape) > max_bytes:
            raise Unfoldable(f"its result would take {amount(needed, 1024)}B, the limit is {amount(max_bytes, 1024)}B")

    arrays = [None if value is None else np.asarray(value) for value in values]
    try:
        with np.errstate(all="ignore"):
            return [_plain(np.asarray(value)) for value in _computed(node, arrays, room)]
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        raise ModelError(f"{node} cannot be computed: {_reason(error)}") from error


def _reason(error: Exception) -> str:
    return f"it has no {error}" if isinstance(error, KeyError) else str(error) or type(error).__name__


def _computed(node: OnnxNode, arrays: list[Array], room: Room) -> list[Array]:
    if node.op in OTHERS:
        return OTHERS[node.op](node, arrays, room)
    if node.op in REDUCTIONS:
        return [_reduced(node, arrays, room)]
    least, most = VALUES.get(node.op, (1, 1) if node.op in UNARY else (2, 2))
    if not least <= len(arrays) <= most or any(a is None for a in arrays):
        raise Unfoldable(f"it has {len(arrays)} inputs")
    return [_elementwise(node, arrays, room)]


def _elementwise(node: OnnxNode, arrays: list[Array], room: Room) -> Array:
    numbers = arrays[1:] if node.op == "Where" else arrays
    symbolic = any(a.dtype == object for a in numbers)
    if not symbolic and node.op != "Pow" and len({a.dtype for a in numbers}) > 1:
        raise Unfoldable(f"its inputs are {' and '.join(str(a.dtype) for a in numbers)}")
    room(np.broadcast_shapes(*(a.shape for a in arrays)), object if symbolic else numbers[0].dtype)
    if symbolic:
        if node.op not in SYMBOLIC:
            raise Unfoldable("it depends on the batch size")
        function: Any = np.frompyfunc(SYMBOLIC[node.op], 2 if node.op in ("Min", "Max") else len(arrays), 1)
        arrays = [a if a.dtype == object else a.astype(object) for a in arrays]
    else:
        function = ELEMENTWISE[node.op]
    if node.op in ("Min", "Max"):
        found = arrays[0]
        for other in arrays[1:]:
            found = function(found, other)
        return found
    return np.asarray(function(*arrays))


def _plain(array: Array) -> Array:
    """Return an array of objects as one of numbers, if no multiple of the batch size stands in it any more."""
    if array.dtype != object or any(isinstance(value, Batch) for value in array.flat):
        return array
    kinds = {type(value) for value in array.flat}
    kind = "bool" if kinds == {bool} else "float32" if float in kinds else "int64"
    return array.astype(kind)


# Attributes and inputs -----------------------------------------------------------------------------------------------
def _number(node: OnnxNode, name: str, default: int) -> int:
    value = node.attributes.get(name, default)
    if not isinstance(value, int):
        raise Unfoldable(f"its attribute {name} is not an integer")
    return value


def integers(node: OnnxNode, arrays: Sequence[Array | None], name: str, at: int) -> list[int] | None:
    """Return integers, such as axes, that old files have as an attribute and newer ones as an input; or None."""
    value = node.attributes.get(name)
    if value is None and at < len(arrays):
        value = arrays[at]
    if value is None:
        return None
    found = np.asarray(value)
    if found.ndim > 1 or found.size > MOST_SYMBOLS or (found.dtype.kind not in "iuO" and found.size):
        raise Unfoldable(f"its {name} are not a list of integers")
    if found.dtype == object:
        raise Unfoldable(f"its {name} depend on the batch size")
    return [int(v) for v in found.ravel()]


def _axes(axes: Sequence[int], rank: int) -> list[int]:
    """Return axes counted from 0."""
    found = [a + rank if a < 0 else a for a in axes]
    if any(not 0 <= a < rank for a in found) or len(set(found)) < len(found):
        raise Unfoldable(f"its axes {tuple(axes)} are not axes of an array of {rank}")
    return found


def shape_value(shape: Sequence[Any]) -> Array:
    """Return a shape, in which the batch size may stand, as the array that ONNX's ``Shape`` makes of it."""
    if any(isinstance(n, Batch) for n in shape):
        found = np.empty(len(shape), object)
        found[:] = list(shape)
        return found
    return np.array([int(n) for n in shape], "int64")


def reshaped(shape: Sequence[Any], target: Sequence[Any], allowzero: bool = False) -> tuple[Any, ...]:
    """Return the result shape of ``Reshape``: 0 keeps a size, -1 is the remaining size; both may be the batch size.

    Raises
    ------
    Unfoldable
        If it does not fit.
    """
    sizes = [n.item() if isinstance(n, np.generic) else n for n in target]
    if len(sizes) > MOST_AXES:
        raise Unfoldable(f"it has {len(sizes):,} axes")
    if not allowzero:
        if any(n == 0 and i >= len(shape) for i, n in enumerate(sizes)):
            raise Unfoldable(f"{tuple(sizes)} keeps a size that {tuple(shape)} does not have")
        sizes = [shape[i] if n == 0 else n for i, n in enumerate(sizes)]
    total = prod(shape)
    left = [i for i, n in enumerate(sizes) if n == -1]
    if len(left) > 1 or any(not isinstance(n, Batch) and n < -1 for n in sizes):
        raise Unfoldable(f"{tuple(sizes)} is not a shape")
    if left:
        others = prod(n for n in sizes if n != -1)
        if others == 0:
            raise Unfoldable(f"{tuple(sizes)} does not determine a size")
        sizes[left[0]] = _divide(total, others)
    if prod(sizes) != total:
        raise Unfoldable(f"{tuple(shape)} cannot be reshaped to {tuple(sizes)}")
    return tuple(sizes)


def _sizes(array: Array) -> list[int]:
    """Return a shape that is given as an array."""
    if array.dtype == object:
        raise Unfoldable("its shape depends on the batch size")
    if array.ndim > 1 or array.size > MOST_AXES or array.dtype.kind not in "iu":
        raise Unfoldable("its shape is not a list of sizes")
    found = [int(n) for n in array.ravel()]
    if any(n < 0 for n in found):
        raise Unfoldable(f"its shape {tuple(found)} has a negative size")
    return found


# Operators -----------------------------------------------------------------------------------------------------------
def _operator(*names: str) -> Callable[[Any], Any]:
    def listed(function: Any) -> Any:
        OTHERS.update(dict.fromkeys(names, function))
        return function

    return listed


def _reduced(node: OnnxNode, arrays: list[Array], room: Room) -> Array:
    x, axes = arrays[0], integers(node, arrays, "axes", 1)
    if not axes:
        if _number(node, "noop_with_empty_axes", 0):
            return x
        axes = list(range(x.ndim))
    if x.dtype == object and node.op not in ("ReduceProd", "ReduceSum"):
        raise Unfoldable("it depends on the batch size")
    if node.op == "ReduceMean" and not x.size:
        raise Unfoldable("it is the mean of no numbers")
    how: dict[str, Any] = {"axis": tuple(_axes(axes, x.ndim)), "keepdims": bool(_number(node, "keepdims", 1))}
    return np.asarray(REDUCTIONS[node.op](x, **how)).astype(x.dtype, copy=False)


@_operator("Shape")
def _shape(node: OnnxNode, arrays: list[Array], room: Room) -> list[Array]:
    return [sliced_shape(node, arrays[0].shape)]


def sliced_shape(node: OnnxNode, shape: Sequence[Any]) -> Array:
    """Return the result of a node ``Shape`` for a value's shape, which may contain the batch size."""
    end = node.attributes.get("end")
    return shape_value(tuple(shape)[_number(node, "start", 0) : None if end is None else _number(node, "end", 0)])


@_operator("Size")
def _size(node: OnnxNode, arrays: list[Array], room: Room) -> list[Array]:
    return [np.int64(arrays[0].size)]


@_operator("Identity")
def _identity(node: OnnxNode, arrays: list[Array], room: Room) -> list[Array]:
    return [arrays[0]]


@_operator("Constant")
def _constant(node: OnnxNode, arrays: list[Array], room: Room) -> list[Array]:
    kinds = {"value": None, "value_float": "float32", "value_floats": "float32", "value_int": "int64"}
    for name, dtype in (kinds | {"value_ints": "int64"}).items():
        if name in node.attributes:
            return [np.asarray(node.attributes[name], dtype)]
    raise Unfoldable("it holds no number")


@_operator("ConstantOfShape")
def _constant_of_shape(node: OnnxNode, arrays: list[Array], room: Room) -> list[Array]:
    value = np.asarray(node.attributes.get("value", np.zeros(1, "float32")))
    shape = _sizes(arrays[0])
    if value.size != 1:
        raise Unfoldable(f"its value has {value.size} elements")
    room(shape, value.dtype)
    return [np.full(shape, value.reshape(()), value.dtype)]


@_operator("Cast")
def _cast(node: OnnxNode, arrays: list[Array], room: Room) -> list[Array]:
    to = _number(node, "to", 0)
    if to not in TYPES:
        raise Unfoldable(f"it makes elements of the type {to}")
    dtype = np.dtype(TYPES[to][1])
    x = arrays[0]
    if x.dtype == object:
        room(x.shape, object)
        return [np.frompyfunc(lambda value: _converted(value, dtype.kind), 1, 1)(x)]
    room(x.shape, dtype)
    if to == FLOAT16:
        x = x.astype("float16")
    elif to == BFLOAT16:
        x = _bfloat16(x.astype("float32"))
    return [x.astype(dtype, copy=False)]


def _bfloat16(x: Array) -> Array:
    """Round to bfloat16: to the nearest, ties to even."""
    bits = x.view("uint32") if x.ndim else x.reshape(1).view("uint32").reshape(())
    rounded = (bits + 0x7FFF + ((bits >> 16) & 1)) & np.uint32(0xFFFF0000)
    return np.where(np.isfinite(x), np.asarray(rounded, "uint32").view("float32"), x)


def _converted(value: Any, kind: str) -> Any:
    """Return a number or a multiple of the batch size as an element of another type."""
    if not isinstance(value, Batch):
        return {"f": float, "b": bool}.get(kind, int)(value)
    if kind == "b":
        return True
    if kind == "f":
        return Batch(float(value.times))
    if value.times % 1:
        raise Unfoldable(f"it rounds {value}")
    return Batch(int(value.times))


@_operator("Reshape")
def _reshape(node: OnnxNode, arrays: list[Array], room: Room) -> list[Array]:
    x, target = arrays[0], arrays[1]
    if target.ndim > 1 or target.dtype.kind not in "iuO" or target.size > MOST_AXES:
        raise Unfoldable("its shape is not a list of sizes")
    return [x.reshape(reshaped(x.shape, list(target.ravel()), bool(_number(node, "allowzero", 0))))]


@_operator("Flatten")
def _flatten(node: OnnxNode, arrays: list[Array], room: Room) -> list[Array]:
    x, axis = arrays[0], _number(node, "axis", 1)
    axis = axis + x.ndim if axis < 0 else axis
    if not 0 <= axis <= x.ndim:
        raise Unfoldable(f"its axis is {axis}")
    return [x.reshape(prod(x.shape[:axis]), prod(x.shape[axis:]))]


@_operator("Squeeze")
def _squeeze(node: OnnxNode, arrays: list[Array], room: Room) -> list[Array]:
    x, axes = arrays[0], integers(node, arrays, "axes", 1)
    return [np.squeeze(x, None if axes is None else tuple(_axes(axes, x.ndim)))]


@_operator("Unsqueeze")
def _unsqueeze(node: OnnxNode, arrays: list[Array], room: Room) -> list[Array]:
    x, axes = arrays[0], integers(node, arrays, "axes", 1)
    if axes is None or x.ndim + len(axes) > MOST_AXES:
        raise Unfoldable("it has no axes, or too many")
    return [np.expand_dims(x, tuple(_axes(axes, x.ndim + len(axes))))]


@_operator("Transpose")
def _transpose(node: OnnxNode, arrays: list[Array], room: Room) -> list[Array]:
    x = arrays[0]
    perm = node.attributes.get("perm", tuple(range(x.ndim))[::-1])
    return [x.transpose(_axes(perm, x.ndim))]


@_operator("Gather")
def _gather(node: OnnxNode, arrays: list[Array], room: Room) -> list[Array]:
    x, index = arrays
    axis = _axes([_number(node, "axis", 0)], x.ndim)[0]
    room((*x.shape[:axis], *index.shape, *x.shape[axis + 1 :]), x.dtype)
    if index.dtype.kind not in "iu":
        raise Unfoldable("its indices are not integers")
    return [np.take(x, index, axis)]


@_operator("Slice")
def _slice(node: OnnxNode, arrays: list[Array], room: Room) -> list[Array]:
    x = arrays[0]
    return [x[slices(node, arrays, x.ndim)]]


def slices(node: OnnxNode, arrays: Sequence[Array | None], rank: int) -> tuple[slice, ...]:
    """Return the slice of each axis for a node ``Slice``."""
    starts, ends = integers(node, arrays, "starts", 1), integers(node, arrays, "ends", 2)
    axes, steps = integers(node, arrays, "axes", 3), integers(node, arrays, "steps", 4)
    if starts is None or ends is None:
        raise Unfoldable("it has no starts or no ends")
    axes = _axes(range(len(starts)) if axes is None else axes, rank)
    steps = [1] * len(starts) if steps is None else steps
    if not len(starts) == len(ends) == len(axes) == len(steps) or 0 in steps:
        raise Unfoldable("its starts, ends, axes and steps do not match")
    found = [slice(None)] * rank
    for axis, start, end, step in zip(axes, starts, ends, steps, strict=True):
        found[axis] = slice(start, end, step)
    return tuple(found)


@_operator("Concat")
def _concat(node: OnnxNode, arrays: list[Array], room: Room) -> list[Array]:
    axis = _axes([node.attributes["axis"]], arrays[0].ndim)[0]
    symbolic = any(a.dtype == object for a in arrays)
    if not symbolic and len({a.dtype for a in arrays}) > 1:
        raise Unfoldable(f"its inputs are {' and '.join(str(a.dtype) for a in arrays[:5])}")
    shape = list(arrays[0].shape)
    shape[axis] = sum(a.shape[axis] for a in arrays)
    room(shape, object if symbolic else arrays[0].dtype)
    return [np.concatenate(arrays, axis)]


@_operator("Split")
def _split(node: OnnxNode, arrays: list[Array], room: Room) -> list[Array]:
    x = arrays[0]
    axis = _axes([_number(node, "axis", 0)], x.ndim)[0]
    parts, n, size = integers(node, arrays, "split", 1), len(node.outputs), x.shape[axis]
    if parts is None:
        each = -(-size // n)
        parts = [max(0, min(each, size - i * each)) for i in range(n)]
    if len(parts) != n or sum(parts) != size or min(parts) < 0:
        raise Unfoldable(f"its parts {tuple(parts[:8])} do not divide an axis of {size}")
    ends = [sum(parts[: i + 1]) for i in range(n - 1)]
    return list(np.split(x, ends, axis))


@_operator("Expand")
def _expand(node: OnnxNode, arrays: list[Array], room: Room) -> list[Array]:
    x, shape = arrays[0], _sizes(arrays[1])
    shape = list(np.broadcast_shapes(x.shape, tuple(shape)))
    room(shape, x.dtype)
    return [np.broadcast_to(x, shape)]


@_operator("Tile")
def _tile(node: OnnxNode, arrays: list[Array], room: Room) -> list[Array]:
    x, repeats = arrays[0], _sizes(arrays[1])
    if len(repeats) != x.ndim:
        raise Unfoldable(f"it has {len(repeats)} repeats for {x.ndim} axes")
    room([a * b for a, b in zip(x.shape, repeats, strict=True)], x.dtype)
    return [np.tile(x, repeats)]


@_operator("Range")
def _range(node: OnnxNode, arrays: list[Array], room: Room) -> list[Array]:
    if len({a.dtype for a in arrays}) > 1 or any(a.size != 1 or a.dtype == object for a in arrays):
        raise Unfoldable("its start, limit and delta are not three numbers of one type")
    start, limit, delta = (a.item() for a in arrays)
    if not delta or not all(np.isfinite([start, limit, delta])):
        raise Unfoldable(f"it counts from {start} to {limit} by {delta}")
    gap = limit - start
    n = max(0, -(-gap // delta) if isinstance(gap, int) else int(np.ceil(gap / delta)))
    room((n,), arrays[0].dtype)
    return [(start + np.arange(n) * delta).astype(arrays[0].dtype)]


@_operator("NonZero")
def _nonzero(node: OnnxNode, arrays: list[Array], room: Room) -> list[Array]:
    x = arrays[0]
    if x.dtype == object:
        raise Unfoldable("it depends on the batch size")
    room((max(x.ndim, 1), x.size), "int64")
    return [np.array(np.nonzero(np.atleast_1d(x)), "int64")]


@_operator("Mod")
def _modulo(node: OnnxNode, arrays: list[Array], room: Room) -> list[Array]:
    a, b = arrays
    symbolic = a.dtype == object or b.dtype == object
    room(np.broadcast_shapes(a.shape, b.shape), object if symbolic else a.dtype)
    if symbolic:
        return [np.frompyfunc(_mod, 2, 1)(a.astype(object), b.astype(object))]
    if a.dtype.kind in "iu" and not np.all(b):
        raise Unfoldable("it divides by 0")
    return [np.fmod(a, b) if _number(node, "fmod", 0) else np.mod(a, b)]
