"""The number of cores that may be used, and the kind of workers on them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from im2colnet.checks import whole
from im2colnet.errors import ShapeError

WORKERS = ("auto", "processes", "threads")
_num_threads: int | None = None
_workers = os.environ.get("IM2COLNET_WORKERS", "auto")


def set_num_threads(n: int) -> None:
    """Set the number of cores that a backend on the CPU may use. Results do not depend on it.

    Parameters
    ----------
    n : int
        The number of cores, from 1.
    """
    global _num_threads
    _num_threads = whole("n", n)


@contextmanager
def num_threads(n: int) -> Iterator[None]:
    """Set the number of cores within a ``with`` block; afterwards the setting is as before.

    Parameters
    ----------
    n : int
        The number of cores, from 1.
    """
    global _num_threads
    before = _num_threads
    set_num_threads(n)
    try:
        yield
    finally:
        _num_threads = before


def get_num_threads() -> int:
    """Return the number of cores that may be used. By default it is the number that this process may run on."""
    if _num_threads is not None:
        return _num_threads
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def chosen_num_threads() -> int | None:
    """Return the number of cores that has been set; None if it never was."""
    return _num_threads


def set_workers(kind: str) -> None:
    """Set the kind of workers.

    Parameters
    ----------
    kind : {"auto", "processes", "threads"}
        Processes share only memory, so no worker waits for another's Python. "auto" uses processes from the third step
        or prediction of a batch size on, if the system is Linux on x86-64 and Python has a GIL; otherwise threads. The
        environment variable ``IM2COLNET_WORKERS`` sets the default, which is "auto". Results do not depend on the
        kind.
    """
    global _workers
    _workers = _checked_workers(kind)


def get_workers() -> str:
    """Return the kind of workers that is set: "auto", "processes" or "threads"."""
    return _checked_workers(_workers)


def _checked_workers(kind: str) -> str:
    if kind not in WORKERS:
        raise ShapeError(
            f"workers must be one of {', '.join(WORKERS)}, got {kind!r}: use ic.set_workers or set IM2COLNET_WORKERS"
        )
    return kind
