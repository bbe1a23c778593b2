"""The threads of NumPy's BLAS: workers need one BLAS thread; functions on plain arrays do not change the setting."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from threading import Lock
from typing import Any

import numpy as np

#: environment variables that set the number of threads, by the name of the BLAS
VARIABLES = {"accelerate": ("VECLIB_MAXIMUM_THREADS",), "mkl": ("MKL_NUM_THREADS", "OMP_NUM_THREADS")}
OTHERS = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS")


def built_with() -> str:
    """Return the name of the BLAS that NumPy was built with, in lower case; "unknown" if it is not known."""
    try:
        configuration: Any = np.show_config(mode="dicts")  # type: ignore[call-overload, unused-ignore]
        return str(configuration["Build Dependencies"]["blas"]["name"]).lower()
    except (KeyError, TypeError, ValueError):
        return "unknown"


def loaded() -> list[dict[str, Any]] | None:
    """Return the BLAS libraries that threadpoolctl finds in this process, NumPy's own first; None without it."""
    try:
        from threadpoolctl import threadpool_info
    except ImportError:
        return None
    pools = [pool for pool in threadpool_info() if pool["user_api"] == "blas"]
    return sorted(pools, key=lambda pool: "numpy" not in pool["filepath"])


def uncontrolled(pools: list[dict[str, Any]] | None) -> str:
    """Return why the BLAS may use several threads, so that the last bits of results vary; empty if it does not.

    Parameters
    ----------
    pools
        The result of :func:`loaded`.
    """
    name = built_with()
    variables = VARIABLES.get(name, OTHERS)
    if any(os.environ.get(variable) == "1" for variable in variables):
        return ""
    then = f"set {variables[0]}=1 before Python starts"
    if name == "accelerate":
        return f"NumPy computes with Apple's Accelerate, whose threads threadpoolctl cannot limit: {then}"
    if pools is None:
        return f"nothing limits the threads of NumPy's BLAS ({name}): install threadpoolctl, or {then}"
    if pools and all(pool["num_threads"] != 1 for pool in pools):  # another package may have brought one more
        return f"{pools[0]['internal_api']} uses {pools[0]['num_threads']} threads in spite of the limit: {then}"
    if not pools and name not in ("none", "unknown"):
        return f"threadpoolctl does not find NumPy's BLAS ({name}), so nothing limits its threads: {then}"
    return ""


_lock = Lock()
_blocks = 0  # of at_most that have begun and not ended
_before: list[tuple[Any, int]] = []  # libraries that the first of them has limited, and their threads before


def limit_process() -> bool:
    """Limit BLAS to one thread from now on; return whether that can be done, which needs threadpoolctl."""
    try:
        libraries = _find_libraries()
    except ImportError:
        return False
    with _lock:
        _before.clear()  # blocks that end later set nothing back
        for library in libraries:
            _set_threads(library, 1)
    return True


@contextmanager
def at_most(threads: int) -> Iterator[None]:
    """Within the block BLAS has at most this many threads; a smaller number is kept.

    Several Python threads may be in such blocks at the same time: the first sets the limit, the last restores it.
    """
    global _blocks
    try:
        libraries = _libraries()
    except ImportError:
        libraries = []
    with _lock:
        if not _blocks:
            _before[:] = [(one, one.num_threads) for one in libraries if (one.num_threads or 0) > threads]
            for library, _ in _before:
                _set_threads(library, threads)
        _blocks += 1
    try:
        yield
    finally:
        with _lock:
            _blocks -= 1
            while _before and not _blocks:
                _set_threads(*_before.pop())


def _find_libraries() -> list[Any]:
    """Return threadpoolctl's handles of the BLAS libraries that are loaded."""
    from threadpoolctl import ThreadpoolController

    found: list[Any] = ThreadpoolController().select(user_api="blas").lib_controllers
    return found


_libraries = cache(_find_libraries)  # to look for them takes longer than many a function


def _set_threads(library: Any, threads: int) -> None:
    """Set the threads of a library, also where another thread of Python has set them before.

    Once a thread of Python has set them, ``set_num_threads`` of threadpoolctl 3.8 ignores all other threads until that
    one ends. A limit from another thread would then not hold, or never be taken back, so its inner method is called.
    """
    getattr(library, "_real_set_num_threads", library.set_num_threads)(threads)
