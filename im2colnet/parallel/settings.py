"""How many cores may be used, and as what."""

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
    """Set how many cores a backend on the CPU may use. Results do not depend on it."""
    global _num_threads
    _num_threads = whole("n", n)


@contextmanager
def num_threads(n: int) -> Iterator[None]:
    """Within the ``with`` block set how many cores may be used; afterwards it is as before."""
    global _num_threads
    before = _num_threads
    set_num_threads(n)
    try:
        yield
    finally:
        _num_threads = before


def get_num_threads() -> int:
    """How many cores may be used: by default those that this process is allowed to run on."""
    if _num_threads is not None:
        return _num_threads
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def set_workers(kind: str) -> None:
    """Set what the workers are.

    Parameters
    ----------
    kind : {"auto", "processes", "threads"}
        Processes share nothing but memory, so no worker waits for another's Python. With "auto", the default unless
        ``IM2COLNET_WORKERS`` says otherwise, they are used from the third step or prediction of a batch size on, on
        Linux on x86-64 and with a Python whose threads do not run at once. Results do not depend on it.
    """
    global _workers
    _workers = _checked_workers(kind)


def get_workers() -> str:
    """What the workers are, as set: "auto", "processes" or "threads"."""
    return _checked_workers(_workers)


def _checked_workers(kind: str) -> str:
    if kind not in WORKERS:
        raise ShapeError(
            f"workers must be one of {', '.join(WORKERS)}, got {kind!r}: use ic.set_workers or set IM2COLNET_WORKERS"
        )
    return kind
