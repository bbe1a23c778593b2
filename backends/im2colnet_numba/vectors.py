"""Vectors of float32 numbers as LLVM has them, for the intrinsics of the compiled kernels.

LLVM makes vectors of simple loops by itself, but not of those that keep a block of results in registers. Such a loop is
an intrinsic here: a function that writes LLVM's instructions, through a :class:`Vectors`. Addresses are integers, in
bytes; no index is checked and no array is sliced.
"""

from __future__ import annotations

import platform
from collections.abc import Callable, Sequence
from functools import cache, partial
from operator import setitem
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from im2colnet.types import Call
from im2colnet_numba.compile import lanes

FLOAT, INT, BIT = ir.FloatType(), ir.IntType(64), ir.IntType(1)
ITEM = 4  # bytes of a number
Value = Any  # of LLVM: a number or a vector that the code being written will have


@cache
def registers() -> int:
    """Return how many vectors the processor holds: x86 has 16 registers for them before AVX-512, others have 32."""
    x86 = platform.machine().lower() in ("x86_64", "amd64", "x86", "i386", "i686")
    return 16 if x86 and lanes() < 16 else 32


def integer(value: int) -> Value:
    """Return a constant integer, such as an offset in bytes."""
    return ir.Constant(INT, value)


class Vectors:
    """Writes instructions for vectors of ``lanes`` numbers with an LLVM builder."""

    def __init__(self, builder: Any, lanes: int) -> None:
        self.builder, self.lanes = builder, lanes
        self.type, self.bytes = ir.VectorType(FLOAT, lanes), lanes * ITEM

    def load(self, address: Value) -> Value:
        """Read a vector from an address that need not be a multiple of anything but a number's size."""
        found = self.builder.load(self.builder.inttoptr(address, self.type.as_pointer()))
        found.align = ITEM
        return found

    def store(self, vector: Value, address: Value) -> None:
        """Write a vector to such an address."""
        self.builder.store(vector, self.builder.inttoptr(address, self.type.as_pointer())).align = ITEM

    def number(self, address: Value) -> Value:
        """Read one number."""
        return self.builder.load(self.builder.inttoptr(address, FLOAT.as_pointer()))

    def store_number(self, number: Value, address: Value) -> None:
        """Write one number."""
        self.builder.store(number, self.builder.inttoptr(address, FLOAT.as_pointer()))

    def integer(self, address: Value) -> Value:
        """Read one integer of 64 bits, such as an offset from a table."""
        return self.builder.load(self.builder.inttoptr(address, INT.as_pointer()))

    def constant(self, value: float) -> Value:
        """Return a vector of equal constants."""
        return ir.Constant(self.type, [float(value)] * self.lanes)

    def spread(self, number: Value) -> Value:
        """Return a vector whose lanes all hold a number."""
        undefined, zero = ir.Constant(self.type, ir.Undefined), ir.Constant(ir.IntType(32), 0)
        first = self.builder.insert_element(undefined, number, zero)
        return self.builder.shuffle_vector(
            first, undefined, ir.Constant(ir.VectorType(ir.IntType(32), self.lanes), [0] * self.lanes)
        )

    def fma(self, a: Value, b: Value, c: Value) -> Value:
        """Return a·b + c, rounded once where the processor can."""
        name = f"llvm.fmuladd.v{self.lanes}f32"
        function = cgutils.get_or_insert_function(
            self.builder.module, ir.FunctionType(self.type, [self.type] * 3), name
        )
        return self.builder.call(function, [a, b, c])

    def clip(self, vector: Value, least: Value, most: Value) -> Value:
        """Return the numbers between two vectors, NaN where it is NaN."""
        b = self.builder
        vector = b.select(b.fcmp_ordered("<", vector, least), least, vector)
        return b.select(b.fcmp_ordered(">", vector, most), most, vector)

    def from_lane(self, lane: Value, vector: Value) -> Value:
        """Return the vector with zeros before a lane, an integer."""
        counts = ir.VectorType(INT, self.lanes)
        undefined, zero = ir.Constant(counts, ir.Undefined), ir.Constant(ir.IntType(32), 0)
        first = self.builder.insert_element(undefined, lane, zero)
        lanes = ir.Constant(ir.VectorType(ir.IntType(32), self.lanes), [0] * self.lanes)
        spread = self.builder.shuffle_vector(first, undefined, lanes)
        there = self.builder.icmp_signed(">=", ir.Constant(counts, list(range(self.lanes))), spread)
        return self.builder.select(there, vector, self.constant(0))

    def sum(self, vector: Value) -> Value:
        """Return the sum of the lanes, added in halves: always in the same order."""
        lanes = self.lanes
        while lanes > 1:
            lanes //= 2
            undefined = ir.Constant(vector.type, ir.Undefined)
            halves = [
                self.builder.shuffle_vector(
                    vector,
                    undefined,
                    ir.Constant(ir.VectorType(ir.IntType(32), lanes), list(range(start, start + lanes))),
                )
                for start in (0, lanes)
            ]
            vector = self.builder.fadd(*halves)
        return self.builder.extract_element(vector, ir.Constant(ir.IntType(32), 0))

    def variables(self, count: int) -> list[Value]:
        """Return places for vectors that change in a loop; LLVM keeps them in registers."""
        return [cgutils.alloca_once(self.builder, self.type) for _ in range(count)]


def literal(value: types.Type) -> int:
    """Return the number that is known when an intrinsic is compiled, such as a block's size."""
    if not isinstance(value, types.IntegerLiteral):
        raise TypeError(f"an intrinsic's size must be known when it is compiled, got {value}")
    number: int = value.literal_value
    return number


@intrinsic
def integer_at(context: Any, address: Any) -> Any:
    """Read an integer of 64 bits at an address, in compiled code."""

    def write(context: Any, builder: Any, signature: Any, arguments: Sequence[Value]) -> Value:
        return Vectors(builder, 1).integer(arguments[0])

    return types.int64(types.int64), write


@intrinsic
def number_at(context: Any, address: Any) -> Any:
    """Read a number of float32 at an address, in compiled code."""

    def write(context: Any, builder: Any, signature: Any, arguments: Sequence[Value]) -> Value:
        return Vectors(builder, 1).number(arguments[0])

    return types.float32(types.int64), write


@intrinsic
def put_number(context: Any, address: Any, value: Any) -> Any:
    """Write a number of float32 at an address, in compiled code."""

    def write(context: Any, builder: Any, signature: Any, arguments: Sequence[Value]) -> Value:
        address, value = arguments
        Vectors(builder, 1).store_number(value, address)
        return context.get_dummy_value()

    return types.void(types.int64, types.float32), write


@intrinsic
def put_integer(context: Any, address: Any, value: Any) -> Any:
    """Write an integer of 64 bits at an address, in compiled code."""

    def write(context: Any, builder: Any, signature: Any, arguments: Sequence[Value]) -> Value:
        address, value = arguments
        builder.store(value, builder.inttoptr(address, INT.as_pointer()))
        return context.get_dummy_value()

    return types.void(types.int64, types.int64), write


@intrinsic
def put_zeros(context: Any, address: Any, count: Any) -> Any:
    """Write ``count`` zeros from an address on, in compiled code."""

    def write(context: Any, builder: Any, signature: Any, arguments: Sequence[Value]) -> Value:
        address, count = arguments
        with cgutils.for_range(builder, count) as k:
            at = builder.add(address, builder.mul(k.index, integer(ITEM)))
            Vectors(builder, 1).store_number(ir.Constant(FLOAT, 0), at)
        return context.get_dummy_value()

    return types.void(types.int64, types.int64), write


def address(array: np.ndarray) -> int:
    """Return where an array begins in memory."""
    found: int = array.__array_interface__["data"][0]
    return found


def contiguous(*arrays: np.ndarray) -> tuple[list[np.ndarray], list[Call]]:
    """Return the arrays, a C-contiguous copy in the place of each that is not, and the calls that make these copies."""
    found: list[np.ndarray] = [a if a.flags.c_contiguous else np.empty(a.shape, a.dtype) for a in arrays]
    copies: list[Call] = [
        partial(setitem, new, ..., old) for new, old in zip(found, arrays, strict=True) if new is not old
    ]
    return found, copies


def calling(function: Callable[..., Any], *arguments: Any) -> Call:
    """Return the call of a compiled function, with the address of each array in its place; it keeps the arrays.

    Numba would compile the function again for arrays that may only be read, or are laid out otherwise, and take longer
    to call it.
    """
    for argument in arguments:
        if isinstance(argument, np.ndarray) and not (argument.flags.c_contiguous and argument.dtype in ("f4", "i8")):
            raise TypeError(
                "a compiled function takes C-contiguous arrays of float32 or int64, got one of"
                f" {argument.dtype} with strides {argument.strides}"
            )
    numbers = [address(argument) if isinstance(argument, np.ndarray) else argument for argument in arguments]

    def call(arrays: Any = arguments) -> None:
        function(*numbers)

    return call
