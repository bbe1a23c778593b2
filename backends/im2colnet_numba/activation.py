"""Elementwise functions: the calls of a row of the table of formulas, as the statements of one loop.

The table says what NumPy does with whole arrays, call by call. Here each formula is followed once with arrays that only
write down what is done to them, for one number of each:

    xp.multiply(t, -1, out=y)    y = t * number(-1)
    xp.exp(y, out=y)             y = exp(y)

So all of a formula is done to a number while it is in a register.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import lru_cache
from math import inf, isinf, nan
from typing import Any

import numpy as np
from im2colnet_numpy.activation import NumpyActivation

from im2colnet.backend.activation import formula
from im2colnet.backend.kernel import kernel
from im2colnet.types import Call, Spec
from im2colnet_numba import elementary
from im2colnet_numba.arrays import as_vector, fits, seen_as
from im2colnet_numba.compile import IN_ORDER, compiled, inlined

Array = np.ndarray

#: functions of the array module, of numbers that are float32 or, as results of comparisons, bool
FUNCTIONS = {
    "add": "{0} + {1}",
    "subtract": "{0} - {1}",
    "multiply": "{0} * {1}",
    "divide": "{0} / {1}",
    "negative": "-{0}",
    "reciprocal": "number(1) / {0}",
    "square": "{0} * {0}",
    "abs": "abs({0})",
    "sqrt": "sqrt({0})",
    "trunc": "trunc({0})",
    "sign": "number(1) if {0} > 0 else number(-1) if {0} < 0 else {0}",
    "maximum": "{0} if ({0} > {1}) | ({0} != {0}) else {1}",
    "minimum": "{0} if ({0} < {1}) | ({0} != {0}) else {1}",
    "exp": "exp({0})",
    "expm1": "expm1({0})",
    "log1p": "log1p({0})",
    "greater": "{0} > {1}",
    "less": "{0} < {1}",
    "equal": "{0} == {1}",
    "logical_and": "({0} != 0) & ({1} != 0)",
    "bitwise_and": "integer({0} & {1})",
    "bitwise_or": "integer({0} | {1})",
}
COMPARISONS = "greater", "less", "equal", "logical_and"
#: names in the loops that are made
NAMES = {
    "number": np.float32,
    "integer": np.int32,
    "inf": inf,
    "sqrt": np.sqrt,
    "trunc": np.trunc,
    "bits": elementary.bits,
    "of_bits": elementary.number,
    "exp": elementary.exp,
    "expm1": elementary.expm1,
    "log1p": elementary.log1p,
}


class Unwritable(Exception):
    """A formula does what has no statement here."""


class Number:
    """An array of a formula, as a variable of the loop that is being written.

    Parameters
    ----------
    name : str
    lines : list of str
        Statements so far.
    dtype : str
        "float32"; or "bool" for a mask; or "int32" for a view of the bits of float32.
    """

    def __init__(self, name: str, lines: list[str], dtype: str = "float32") -> None:
        self.name, self.lines, self.dtype = name, lines, np.dtype(dtype)
        self.itemsize = self.dtype.itemsize

    def view(self, dtype: str) -> Number:
        """Return the same variable, whose bits are read and written."""
        return Number(self.name, self.lines, dtype)

    def clip(self, low: float, high: float, out: Number) -> None:
        """Write the number of [low, high] next to this one; NaN stays."""
        value = self.read()
        if not isinf(low):
            value = f"(number({low!r}) if {value} <= number({low!r}) else {value})"
        if not isinf(high):
            out.write(value)
            value = f"(number({high!r}) if {out.name} >= number({high!r}) else {out.name})"
        out.write(value)

    def __setitem__(self, key: Any, value: Any) -> None:
        self.write(read(value))

    def read(self) -> str:
        """Return the expression of its value."""
        return f"bits({self.name})" if self.dtype == np.int32 else self.name

    def write(self, expression: str, comparison: bool = False) -> None:
        """Add the statement that gives it a value."""
        if comparison and self.dtype != np.bool_:
            one, zero = (f"{'integer' if self.dtype == np.int32 else 'number'}({value})" for value in (1, 0))
            expression = f"{one} if {expression} else {zero}"
        self.lines.append(f"{self.name} = {f'of_bits({expression})' if self.dtype == np.int32 else expression}")


def read(value: Any) -> str:
    """Return the expression of an operand: a variable, or a constant."""
    return value.read() if isinstance(value, Number) else f"number({value!r})"


class Writer:
    """What a formula gets in place of the array module."""

    def __getattr__(self, name: str) -> Callable[..., None]:
        if name not in FUNCTIONS:
            raise Unwritable(name)

        def write(*operands: Any, out: Number) -> None:
            integers = any(isinstance(each, Number) and each.dtype == np.int32 for each in operands)
            values = [
                f"integer({each!r})" if integers and not isinstance(each, Number) else read(each) for each in operands
            ]
            expression = FUNCTIONS[name].format(*values)
            if integers and name == "multiply":
                expression = f"integer({expression})"
            out.write(expression, name in COMPARISONS)

        return write


def statements(of: Callable[..., None], names: str, spare: int, mask: bool = False) -> list[str]:
    """Return the statements of a formula's function of arrays with these names and its spare arrays."""
    lines: list[str] = []
    arrays = [Number(name, lines) for name in (*names, *(f"spare{k}" for k in range(spare)))]
    if mask:
        arrays[1] = Number(names[1], lines, "bool")
    of(Writer(), *arrays)
    return lines


def loop_of(lines: list[str], takes: list[str], gives: list[str]) -> Callable[..., None]:
    """Compile the loop of some statements over ``given``, which may be ``out``, and ``third``."""
    body = "\n        ".join([*takes, *lines, *gives])
    source = f"def loop(given, out, third):\n    for i in range(out.size):\n        {body}\n"
    found: dict[str, Any] = {}
    exec(source, dict(NAMES), found)  # the table's own words, no one else's
    loop = inlined(found["loop"])

    def elementwise(given: Array, out: Array, third: Array) -> None:
        if given.ctypes.data == out.ctypes.data:
            loop(out, out, third)
        else:
            loop(given, out, third)

    return compiled(elementwise, IN_ORDER)


@lru_cache(maxsize=256)
def value_loop(kind: str) -> Callable[..., None] | None:
    """Return the loop (x, y, y) that writes y = f(x); None for a function that NumPy computes as well."""
    row = formula(kind)
    return _written(lambda: loop_of(statements(row.value, "xy", row.value_spare), ["x = given[i]"], ["out[i] = y"]))


@lru_cache(maxsize=256)
def gradient_loop(kind: str) -> Callable[..., None] | None:
    """Return the loop (dy, dx, read) that writes dx = f'(x)·dy."""
    row = formula(kind)
    read = ["x = third[i]"]
    give = "out[i] = given[i] if s else number(0)" if row.mask else "out[i] = given[i] * s"
    return _written(lambda: loop_of(statements(row.slope, "xs", row.slope_spare, row.mask), read, [give]))


@lru_cache(maxsize=256)
def both_loop(kind: str) -> Callable[..., None] | None:
    """Return the loop (x, y, s) that writes y = f(x) and s = f'(x)."""
    row = formula(kind)
    if row.both is None:
        return None
    both = row.both
    give = ["out[i] = y", "third[i] = s"]
    return _written(lambda: loop_of(statements(both, "xys", row.both_spare), ["x = given[i]"], give))


def _written(make: Callable[[], Callable[..., None]]) -> Callable[..., None] | None:
    try:
        return make()
    except Unwritable:
        return None


#: bounds that bound nothing
NONE = nan, nan


def bounds(kind: str | None) -> tuple[float, float] | None:
    """Return the numbers that an activation bounds others to, NaN where there is none; None for another activation."""
    if kind is None:
        return NONE
    of_kind = {"relu": (0.0, nan), "relu6": (0.0, 6.0), "hardtanh": formula(kind).constants}
    return of_kind.get(kind.partition(":")[0])  # type: ignore[return-value]


def _of_numpy(name: str, loop: Callable[[str], Callable[..., None] | None]) -> Callable[..., list[Spec]]:
    """Return the rule of scratch: what a loop computes of float32 needs none, NumPy's kernels their own."""

    def scratch(backend: Any, kind: str, **others: Any) -> list[Spec]:
        first: Spec = next(iter(others.values()))
        if first.dtype == "float32" and loop(kind):
            return []
        found: list[Spec] = getattr(NumpyActivation, name).scratch(backend, others | {"kind": kind})
        return found

    return scratch


class NumbaActivation(NumpyActivation):
    """Elementwise functions on the CPU."""

    @kernel(scratch=_of_numpy("activation", value_loop))
    def activation(self, x: Array, kind: str, out: Any = None, scratch: Any = None) -> Iterator[Call]:
        loop = value_loop(kind) if fits(x, out) else None
        if loop is None:
            yield from super().activation.prepare(x, kind, out=out, scratch=scratch)
        else:
            yield from seen_as(as_vector, loop, x, out, out, writes=(1,))

    @kernel(scratch=_of_numpy("activation_and_slope", both_loop))
    def activation_and_slope(
        self, x: Array, kind: str, slope: Any = None, out: Any = None, scratch: Any = None
    ) -> Iterator[Call]:
        loop = both_loop(kind) if fits(x, out, slope) else None
        if loop is None:
            yield from super().activation_and_slope.prepare(x, kind, slope, out=out, scratch=scratch)
        else:
            yield from seen_as(as_vector, loop, x, out, slope, writes=(1, 2))

    @kernel(scratch=_of_numpy("activation_grad", gradient_loop))
    def activation_grad(
        self, read: Array, dy: Array, kind: str, out: Any = None, scratch: Any = None
    ) -> Iterator[Call]:
        loop = gradient_loop(kind) if fits(read, dy, out) else None
        if loop is None:
            yield from super().activation_grad.prepare(read, dy, kind, out=out, scratch=scratch)
        else:
            yield from seen_as(as_vector, loop, dy, out, read, writes=(1,))
