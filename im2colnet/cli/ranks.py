"""The command line on several ranks of MPI: all compute, and rank 0 speaks and writes."""

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
    """Return the number of this rank; 0 for a process alone. If the launcher tells it, the ranks need not meet."""
    kind = os.environ.get(mpi.VARIABLE)
    if kind == "mpi" and (ranks := mpi.world()):
        return int(ranks.rank)
    return 0 if kind == "none" else launcher.rank()


@contextmanager
def only_first_speaks() -> Iterator[None]:
    """Within the block all ranks but rank 0 write to nowhere."""
    if not rank():
        yield
        return
    with open(os.devnull, "w") as nowhere, redirect_stdout(nowhere), redirect_stderr(nowhere):
        yield


@contextmanager
def collective() -> Iterator[None]:
    """Let the job end if the block fails on this rank in a way of which the others do not know."""
    try:
        yield
    except BaseException as error:
        if not agreed(error):
            mpi.failed(error)
        raise


@contextmanager
def alone() -> Iterator[None]:
    """Within the block this process is on its own, whatever has started it."""
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
    """Return on every rank what rank 0 does; its failure is raised on every rank."""
    return Agreement(mpi.world()).on_first(do)


def command_prefix() -> list[str]:
    """Return how a command begins that starts as many ranks as there are now."""
    ranks = mpi.world()
    return ["mpiexec", "-n", str(ranks.size), "im2colnet"] if ranks and ranks.size > 1 else ["im2colnet"]
