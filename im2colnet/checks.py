"""Checks of single arguments, with errors that name them."""

from __future__ import annotations

import inspect
import sys
from dataclasses import dataclass, fields
from functools import lru_cache
from math import inf, nan
from operator import index
from typing import Any, TypeVar, dataclass_transform

from im2colnet.errors import DTypeError, ShapeError

T = TypeVar("T")
#: the lowest of all finite numbers
LOWEST = -sys.float_info.max


def is_truth_value(value: Any) -> bool:
    """Return whether a value is Python's or NumPy's True or False, which count as numbers elsewhere."""
    return isinstance(value, bool) or str(getattr(value, "dtype", "")) == "bool"


def whole(name: str, value: Any, least: int = 1) -> int:
    """Return ``value`` as an integer of at least ``least``, or raise a ShapeError that names the argument."""
    try:
        number = least - 1 if is_truth_value(value) else index(value)
    except TypeError:
        number = least - 1
    if number < least:
        wanted = "a positive integer" if least == 1 else f"an integer of at least {least}"
        raise ShapeError(f"{name} must be {wanted}, got {value!r}")
    return number


def positive(**arguments: Any) -> None:
    """Raise a ShapeError for the first argument that is not a positive integer."""
    for name, value in arguments.items():
        whole(name, value)


def sides(name: str, value: Any) -> tuple[int, int]:
    """Return height and width of an image: a pair, or one number for both."""
    if isinstance(value, (tuple, list)):
        if len(value) != 2:
            raise ShapeError(f"{name} must be a positive integer, or a pair (height, width), got {value!r}")
        return whole(name, value[0]), whole(name, value[1])
    side = whole(name, value)
    return side, side


def number(name: str, value: Any, or_else: str = "", least: float = 0.0, below: float = inf) -> float:
    """Return ``value`` as a float from ``least`` to ``below``, or raise a ShapeError that names the argument."""
    if type(value) is float and least <= value < below:  # what every step asks
        return value
    unsuited = isinstance(value, (str, bytes, bytearray)) or is_truth_value(value) or getattr(value, "shape", None)
    try:
        found = nan if unsuited else float(value)
    except (TypeError, ValueError, OverflowError):
        found = nan
    if not least <= found < below:
        limit = ("" if below == inf else f" and less than {below}") + (f", or {or_else}" if or_else else "")
        wanted = "a finite number" if least == LOWEST else f"a number of at least {least:g}"
        raise ShapeError(f"{name} must be {wanted}{limit}; got {value!r}")
    return found


def more_than_zero(name: str, value: Any) -> float:
    """Return ``value`` as a float above 0, or raise a ShapeError that names the argument."""
    found = number(name, value)
    if not found:
        raise ShapeError(f"{name} must be more than 0")
    return found


def check_dim(dim: Any) -> int:
    """Return the number of an axis of a sample, counted as users see it, or raise a ShapeError."""
    if dim is None:
        raise ShapeError("dim must be an axis, such as 1 for the channels or features; got None")
    try:
        found = None if is_truth_value(dim) else index(dim)
    except TypeError:
        found = None
    if found is None:
        raise ShapeError(f"dim must be an integer, such as 1 for the channels; got {dim!r}")
    if found == 0:
        raise ShapeError(
            "dim=0 is the batch axis, and a layer must not mix samples: 1 is the axis of channels or features"
        )
    return found


def groups_divide(channels: int, filters: int, groups: Any) -> int:
    """Return ``groups`` as an integer, or raise a ShapeError unless it divides both the channels and the filters."""
    try:
        found = whole("groups", groups)
    except ShapeError:
        found = 0
    if not found or channels % found or filters % found:
        raise ShapeError(
            f"groups must divide the input and the output channels, got groups={groups!r} for {channels} and {filters}"
        )
    return found


def arguments(cls: type[Any]) -> dict[str, inspect.Parameter]:
    """Return the arguments of a class's constructor, which its objects keep as attributes of the same names."""
    found = dict(inspect.signature(cls).parameters)
    return {name: p for name, p in found.items() if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)}


def shown(thing: Any) -> str:
    """Return the call that makes an object which keeps its constructor's arguments; defaults are left out."""
    texts = []
    for name, parameter in arguments(type(thing)).items():
        value = getattr(thing, name, "?")
        if parameter.default is parameter.empty:
            texts.append(repr(value))
        elif repr(value) != repr(parameter.default):  # of arrays, != is no bool
            texts.append(f"{name}={value!r}")
    return f"{type(thing).__name__}({', '.join(texts)})"


def one_of(name: str, value: Any, *allowed: Any) -> Any:
    """Return ``value`` if it is one of the allowed values, or raise a ShapeError that names the argument."""
    if not any(type(value) is type(choice) and value == choice for choice in allowed):
        raise ShapeError(f"{name} must be {' or '.join(map(repr, allowed))}, got {value!r}")
    return value


def truth_value(name: str, value: Any) -> bool:
    """Return ``value``, True, False, 1 or 0, as a bool, or raise a ShapeError that names the argument."""
    if getattr(value, "ndim", 0) or value not in (True, False):
        raise ShapeError(f"{name} must be True or False, got {value!r}")
    return bool(value)


def numbers(name: str, values: Any, least: float = 0.0) -> tuple[float, ...] | None:
    """Return a sequence of numbers as floats, None for None, or raise a ShapeError that names the argument."""
    if values is None:
        return None
    try:
        found = list(values)
    except TypeError:
        found = []
    if not found or isinstance(values, (str, bytes, bytearray, dict)):
        raise ShapeError(f"{name} must be a sequence of numbers, got {values!r}")
    return tuple(number(f"each of {name}", value, least=least) for value in found)


def refuse_mask(name: str, array: Any) -> None:
    """Raise a DTypeError for a masked array, whose hidden values would be taken for right ones."""
    if hasattr(array, "filled") and hasattr(array, "mask"):
        raise DTypeError(
            f"{name} is a masked array, whose mask would be lost: give an array without one, e.g. {name}.filled(0)"
        )


def set_frozen(frozen: Any, **values: Any) -> None:
    """Write attributes of a frozen object, while it is made."""
    for name, value in values.items():
        object.__setattr__(frozen, name, value)


@lru_cache(maxsize=256)
def _names(cls: type[Any]) -> tuple[str, ...]:
    """Return the names of the fields, and of further arguments of a derived class's own constructor."""
    return tuple(dict.fromkeys([*(field.name for field in fields(cls)), *arguments(cls)]))


def _values(thing: Any) -> dict[str, Any]:
    return {name: getattr(thing, name, None) for name in _names(type(thing))}  # type: ignore[arg-type]


def _equal(one: Any, other: Any) -> Any:
    return _values(one) == _values(other) if type(one) is type(other) else NotImplemented


def _hash(thing: Any) -> int:
    return hash(tuple(getattr(thing, field.name) for field in fields(thing)))


def _text(thing: Any) -> str:
    values = (f"{name}={value!r}" for name, value in _values(thing).items())
    return f"{type(thing).__qualname__}({', '.join(values)})"


@dataclass_transform(frozen_default=True)
def frozen(cls: type[T]) -> type[T]:
    """Do what ``dataclass(frozen=True)`` does in two thirds of its time, since ``import im2colnet`` waits for it."""
    cls = dataclass(frozen=True, eq=False, repr=False)(cls)
    cls.__eq__, cls.__hash__, cls.__repr__ = _equal, _hash, _text  # type: ignore[assignment]
    return cls
