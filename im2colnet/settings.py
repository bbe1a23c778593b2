"""The number of cores that may be used, and the kind of workers on them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from im2colnet.checks import whole
from im2colnet.errors import ShapeError
from im2colnet.launcher import local_size

WORKERS = ("auto", "processes", "threads")
_num_threads: int | None = None
#: this rank's part of the cores, once the ranks of an MPI job have met
_own_cores: int | None = None
#: why workers must not be forked from this process; empty if they may be
_no_forks = ""
_workers = os.environ.get("IM2COLNET_WORKERS") or "auto"


def set_num_threads(n: int) -> None:
    """Set the number of cores that a backend on the CPU may use. Results do not depend on it.

    Parameters
    ----------
    n : int
        The number of cores, from 1.

    Raises
    ------
    ShapeError
        If it is no whole number from 1 on.

    Examples
    --------
    >>> before = ic.get_num_threads()
    >>> ic.set_num_threads(2)
    >>> ic.get_num_threads()
    2
    >>> ic.set_num_threads(before)
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

    Returns
    -------
    context manager
        It gives nothing.

    Examples
    --------
    >>> with ic.num_threads(1):
    ...     ic.get_num_threads()
    1
    """
    global _num_threads
    before = _num_threads
    set_num_threads(n)
    try:
        yield
    finally:
        _num_threads = before


def get_num_threads() -> int:
    """Return the number of cores that may be used.

    By default it is the number of cores that this process may run on. The ranks of an MPI job on one machine divide
    these among themselves.

    Returns
    -------
    int
        From 1.

    Examples
    --------
    >>> ic.get_num_threads() >= 1
    True
    """
    if _num_threads is not None:
        return _num_threads
    if _own_cores is not None:
        return _own_cores
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if local_size() == 1:
        return cores
    # until the ranks have met, a rank does not know whether the launcher bound each one to cores of its own
    return max(1, min(cores, (os.cpu_count() or 1) // local_size()))


def set_own_cores(cores: int | None) -> None:
    """Set the number of cores that may be used by default: a rank's part of those of its machine; None if unknown."""
    global _own_cores
    _own_cores = cores


def chosen_num_threads() -> int | None:
    """Return the number of cores that has been set, or is this rank's part; None if all cores may be used."""
    return get_num_threads() if local_size() > 1 else _num_threads


def forbid_forks(reason: str) -> None:
    """Let "auto" choose threads, for a reason."""
    global _no_forks
    _no_forks = reason


def forks_forbidden() -> str:
    """Return why "auto" chooses threads where it would choose processes; empty if there is no reason to."""
    return _no_forks


def set_workers(kind: str) -> None:
    """Set the kind of workers.

    Parameters
    ----------
    kind : {"auto", "processes", "threads"}
        Processes share only memory, so no worker waits for another's Python. "auto" uses processes from the third step
        or prediction of a batch size on, if the system is Linux on x86-64 and Python has a GIL; otherwise threads. It
        uses threads also for ranks that may send to each other by RDMA (InfiniBand, EFA), which does not go together
        with forked processes. The environment variable ``IM2COLNET_WORKERS`` sets the default, which is "auto". Results
        do not depend on the kind.

    Raises
    ------
    ShapeError
        If there is no such kind.

    Examples
    --------
    >>> before = ic.get_workers()
    >>> ic.set_workers("threads")
    >>> ic.get_workers()
    'threads'
    >>> ic.set_workers(before)
    """
    global _workers
    _workers = _checked_workers(kind)


def get_workers() -> str:
    """Return the kind of workers that is set.

    Returns
    -------
    {"auto", "processes", "threads"}
        What :func:`set_workers` or the environment variable ``IM2COLNET_WORKERS`` says.

    Raises
    ------
    ShapeError
        If the environment variable names no kind.

    Examples
    --------
    >>> ic.get_workers() in ("auto", "processes", "threads")
    True
    """
    return _checked_workers(_workers)


def _checked_workers(kind: str) -> str:
    if kind not in WORKERS:
        raise ShapeError(
            f"workers must be one of {', '.join(WORKERS)}, got {kind!r}: use ic.set_workers or set IM2COLNET_WORKERS"
        )
    return kind
