"""The command line on several MPI ranks: all ranks compute; only rank 0 prints and writes files."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from typing import TypeVar

from im2colnet import launcher
from im2colnet.errors import agreed
from im2colnet.parallel import mpi
from im2colnet.training.agreement import Agreement

T = TypeVar("T")


def rank() -> int:
    """Return the number of this rank, 0 for a single process; without communication if the launcher tells it."""
    kind = os.environ.get(mpi.VARIABLE)
    if kind == "mpi" and (ranks := mpi.world()):
        return int(ranks.rank)
    return 0 if kind == "none" else launcher.rank()


@contextmanager
def only_first_speaks() -> Iterator[None]:
    """Within the block the output of all ranks except rank 0 is discarded."""
    if not rank():
        yield
        return
    with open(os.devnull, "w") as nowhere, redirect_stdout(nowhere), redirect_stderr(nowhere):
        yield


@contextmanager
def collective() -> Iterator[None]:
    """End the job if the block fails on this rank and the other ranks do not know of the failure."""
    try:
        yield
    except BaseException as error:
        if not agreed(error):
            mpi.failed(error)
        raise


@contextmanager
def alone() -> Iterator[None]:
    """Within the block this process works alone, even if a launcher has started it."""
    before = os.environ.get(mpi.VARIABLE)
    os.environ[mpi.VARIABLE] = "none"
    try:
        yield
    finally:
        del os.environ[mpi.VARIABLE]
        if before is not None:
            os.environ[mpi.VARIABLE] = before


@contextmanager
def together() -> Iterator[None]:
    """Raise an error on every rank if the block fails on any; nothing in the block may be collective."""
    ranks = mpi.world()
    failure = None
    try:
        yield
    except Exception as error:
        failure = error
    if ranks:
        ranks.agree(failure)
    elif failure:
        raise failure


def by_first(do: Callable[[], T]) -> T:
    """Call a function on rank 0, and return its result on every rank; its error is raised on every rank."""
    return Agreement(mpi.world()).on_first(do)


def command_prefix() -> list[str]:
    """Return the beginning of a command that starts the current number of ranks."""
    ranks = mpi.world()
    return ["mpiexec", "-n", str(ranks.size), "im2colnet"] if ranks and ranks.size > 1 else ["im2colnet"]
