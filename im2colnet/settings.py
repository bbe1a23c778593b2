"""Settings: the number of cores, and the kind of workers."""

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
        The number of cores, at least 1.

    Raises
    ------
    ShapeError
        If ``n`` is not a whole number of at least 1.

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
    """Set the number of cores within a ``with`` block, and restore the previous setting afterwards.

    Parameters
    ----------
    n : int
        The number of cores, at least 1.

    Returns
    -------
    context manager
        A context manager that gives None.

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

    By default it is the number of cores that this process may run on. The ranks of an MPI job on one machine share
    these cores.

    Returns
    -------
    int
        The number of cores, at least 1.

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
    """Set the default number of cores: a rank's part of the cores of its machine; None if unknown."""
    global _own_cores
    _own_cores = cores


def chosen_num_threads() -> int | None:
    """Return the number of cores that was set, or this rank's part; None if all cores may be used."""
    return get_num_threads() if local_size() > 1 else _num_threads


def forbid_forks(reason: str) -> None:
    """Make "auto" choose threads from now on; ``reason`` says why."""
    global _no_forks
    _no_forks = reason


def forks_forbidden() -> str:
    """Return why "auto" chooses threads instead of processes; empty if it may choose processes."""
    return _no_forks


def set_workers(kind: str) -> None:
    """Set the kind of workers.

    Parameters
    ----------
    kind : {"auto", "processes", "threads"}
        The kind of workers. Processes have a Python interpreter each, so they do not wait for each other's GIL. "auto"
        uses processes from the third step or prediction of a batch size on, if the system is Linux on x86-64 and Python
        has a GIL, and otherwise threads. It also uses threads for ranks that may communicate by RDMA (InfiniBand, EFA),
        which does not work with forked processes. The default is the value of the environment variable
        ``IM2COLNET_WORKERS``, else "auto". Results do not depend on the kind of workers.

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
    """Return the kind of workers.

    Returns
    -------
    {"auto", "processes", "threads"}
        The value of :func:`set_workers`, or of the environment variable ``IM2COLNET_WORKERS``.

    Raises
    ------
    ShapeError
        If the environment variable has another value.

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
