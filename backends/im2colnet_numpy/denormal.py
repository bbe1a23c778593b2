"""Denormal numbers treated as zero, in one thread and for a limited time.

Numbers below 2⁻¹²⁶ (in float64 2⁻¹⁰²²) have fewer and fewer bits, and processors compute with them up to 200 times more
slowly. They occur in training: the momentum of a parameter without a gradient is multiplied by a factor in each step,
until rounding gives the same number again, a few times the smallest number, and then no longer changes.

NumPy has no switch for it, but the C library sets a thread's floating-point environment as a whole, and with it two
bits of the register MXCSR: FTZ makes denormal results zero, DAZ denormal operands (Intel, Software Developer's Manual,
volume 1, 10.2.3). A thread begins with the environment of the one that starts it.
"""

from __future__ import annotations

import ctypes
import platform
import sys
from contextlib import AbstractContextManager, nullcontext

FTZ = 1 << 15
DAZ = 1 << 6


class Environment(ctypes.Structure):
    """``fenv_t`` of Linux on x86-64: the state of x87, and MXCSR."""

    _fields_ = (("x87", ctypes.c_uint32 * 7), ("mxcsr", ctypes.c_uint32))


class FlushDenormal:
    """Within the block the thread treats denormal numbers as zero; afterwards its environment is restored."""

    def __init__(self, library: ctypes.CDLL) -> None:
        self._library, self._before = library, Environment()

    def __enter__(self) -> None:
        self._library.fegetenv(ctypes.byref(self._before))
        flushing = Environment.from_buffer_copy(self._before)
        flushing.mxcsr |= FTZ | DAZ
        self._library.fesetenv(ctypes.byref(flushing))

    def __exit__(self, *error: object) -> None:
        self._library.fesetenv(ctypes.byref(self._before))


def _library() -> ctypes.CDLL | None:
    """Return the C library, if its environment is that of :class:`Environment`."""
    if sys.platform != "linux" or platform.machine() != "x86_64" or sys.maxsize < 1 << 32:
        return None
    library = ctypes.PyDLL(None)  # its calls keep the GIL: they are shorter than handing it over
    return library if hasattr(library, "fegetenv") and hasattr(library, "fesetenv") else None


LIBRARY = _library()


def flush_denormal() -> AbstractContextManager[None]:
    """Return a context in which this thread treats denormal numbers as zero, if that is possible."""
    return nullcontext() if LIBRARY is None else FlushDenormal(LIBRARY)
