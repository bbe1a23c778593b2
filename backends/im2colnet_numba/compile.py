"""How the loops of this backend are compiled, and for which vectors."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any, TypeVar

import llvmlite.binding as llvm
import numba
from numba.core.registry import cpu_target

Function = TypeVar("Function", bound=Callable[..., Any])

#: what LLVM may assume of floating-point numbers: not that none of them is NaN or infinite
FAST_MATH = {"contract", "reassoc", "nsz", "arcp"}

#: the sum of vectors of 16 float32 numbers, for which LLVM takes the widest registers that the processor has
SUM = """
define void @sum(<16 x float>* %p) {
    %x = load <16 x float>, <16 x float>* %p
    %y = fadd <16 x float> %x, %x
    store <16 x float> %y, <16 x float>* %p
    ret void
}
"""


def compiled(function: Function) -> Function:
    """Return a function that becomes machine code when it is first called, and runs without Python's lock."""
    compiler: Any = numba.njit(nogil=True, cache=True, error_model="numpy", boundscheck=False, fastmath=FAST_MATH)
    result: Function = compiler(function)
    return result


@cache
def lanes() -> int:
    """Return how many float32 numbers a vector of the processor holds: 16, 8 or 4.

    The processor is the one that Numba compiles for: this one, unless ``NUMBA_CPU_NAME`` and ``NUMBA_CPU_FEATURES``
    (with both, an empty string for the features that belong to the name) say another.
    """
    triple, cpu, features = cpu_target.target_context.codegen().magic_tuple()
    machine = llvm.Target.from_triple(triple).create_target_machine(cpu=cpu, features=features)
    assembly = machine.emit_assembly(llvm.parse_assembly(SUM))
    return 16 if "zmm" in assembly else 8 if "ymm" in assembly else 4
