"""Compilation of this backend's loops, and the size of the vectors."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from functools import cache
from typing import Any, TypeVar

import llvmlite.binding as llvm
import numba
from numba.core import event
from numba.core.compiler_lock import global_compiler_lock
from numba.core.registry import cpu_target

from im2colnet.show.terminal import columns
from im2colnet_numba.cache import KernelCache

Function = TypeVar("Function", bound=Callable[..., Any])

#: what LLVM may assume of floating-point numbers: not that none of them is NaN or infinite. But it takes x - x for 0,
#: and with it np.isfinite(x) for true: ``abs(x) < inf`` is not
FAST_MATH = {"contract", "reassoc", "nsz", "arcp"}
#: the same for what is exact only if sums are made in the order that is written
IN_ORDER = {"contract", "nsz"}

#: the sum of vectors of 16 float32 numbers, for which LLVM takes the widest registers that the processor has
SUM = """
define void @sum(<16 x float>* %p) {
    %x = load <16 x float>, <16 x float>* %p
    %y = fadd <16 x float> %x, %x
    store <16 x float> %y, <16 x float>* %p
    ret void
}
"""


def compiled(function: Function, fast_math: set[str] = FAST_MATH) -> Function:
    """Return a function that becomes machine code when it is first called, and runs without Python's lock.

    The machine code is kept on disk (:mod:`im2colnet_numba.cache`).
    """
    compiler: Any = numba.njit(nogil=True, error_model="numpy", boundscheck=False, fastmath=fast_math)
    dispatcher = compiler(function)
    dispatcher._cache = KernelCache(dispatcher.py_func)
    result: Function = dispatcher
    return result


def inlined(function: Function) -> Function:
    """Return a function whose statements are put in place of its calls in compiled ones.

    If it is called with one array as two arguments, LLVM sees that they are the same array, and can vectorize a loop
    that it would otherwise not vectorize, since at run time the output overlaps the input.
    """
    compiler: Any = numba.njit(inline="always", error_model="numpy", boundscheck=False, fastmath=FAST_MATH)
    result: Function = compiler(function)
    return result


class Progress(event.Listener):  # type: ignore[misc]
    """A line on a terminal that says that kernels are being compiled, since the first step then takes seconds."""

    def __init__(self) -> None:
        self.count, self.depth = 0, 0

    def on_start(self, event: Any) -> None:
        if isinstance(event.data["dispatcher"]._cache, KernelCache):
            self.count, self.depth = self.count + 1, self.depth + 1
            self._write(f"compiling kernels for this processor, once: {self.count}")

    def on_end(self, event: Any) -> None:
        if isinstance(event.data["dispatcher"]._cache, KernelCache):
            self.depth -= 1
            if not self.depth:
                self._write("")

    def _write(self, text: str) -> None:
        stream = getattr(sys.stderr, "rich_proxied_file", sys.stderr)  # beside a bar of rich's, which keeps whole lines
        if stream is not None and stream.isatty():
            width = (columns(stream) or 80) - 1
            print(f"\r{'':{width}}\r{text[:width]}", end="", file=stream, flush=True)


event.register("numba:compile", Progress())
# a child that is forked while another thread compiles would wait for ever for the compiler's lock
if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=global_compiler_lock.acquire,
        after_in_parent=global_compiler_lock.release,
        after_in_child=global_compiler_lock.release,
    )


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
