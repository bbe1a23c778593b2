"""Workers and what joins them.

Every worker runs the same program on its own shards of the batch and meets the others in a :class:`Communicator`, the
only thing the program knows of parallelism. Sums over the shards are made along a *fixed binary tree*, so that they do
not depend on how many workers there are, to the last bit:

    sum of shards [i, i + 2d)  =  sum of [i, i + d)  +  sum of [i + d, i + 2d),      d = 1, 2, 4, ...
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from contextvars import copy_context
from typing import TYPE_CHECKING, Any

from im2colnet.backend import Array
from im2colnet.checks import whole
from im2colnet.errors import ShapeError, WorkerError
from im2colnet.memory import join_team

if TYPE_CHECKING:
    from concurrent.futures import Executor, Future

WORKERS = ("auto", "processes", "threads")

_num_threads: int | None = None
_workers = os.environ.get("IM2COLNET_WORKERS", "auto")


def set_num_threads(n: int) -> None:
    """Set how many cores a backend on the CPU may use. Results do not depend on it."""
    global _num_threads
    _num_threads = whole("n", n)


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


def share(count: int, rank: int, size: int) -> range:
    """Which of ``count`` things worker ``rank`` of ``size`` takes: neighbours, as many as the others or one more."""
    return range(count * rank // size, count * (rank + 1) // size)


def tree_sum(parts: Sequence[Array | None], start: int = 0, stop: int | None = None) -> None:
    """Sum ``parts`` into ``parts[0]`` along the fixed tree, elements ``start:stop`` of each; None is already summed."""
    d = 1
    while d < len(parts):
        for i in range(0, len(parts) - d, 2 * d):
            left, right = parts[i], parts[i + d]
            if left is not None and right is not None:
                target = left.reshape(-1)[start:stop]
                target += right.reshape(-1)[start:stop]
        d *= 2


class Communicator:
    """How one worker meets the others; this one is alone.

    Attributes
    ----------
    rank, size : int
        The worker's number, and how many there are.
    """

    rank = 0
    size = 1

    def share(self, count: int) -> range:
        """Which of ``count`` things this worker takes."""
        return share(count, self.rank, self.size)

    def all_reduce(self, parts: Sequence[Array | None]) -> None:
        """Sum one C-contiguous array per shard along the fixed tree; afterwards ``parts[0]`` is the total."""
        tree_sum(parts)

    def broadcast(self, array: Array, root: int = 0) -> None:
        """Set ``array`` to that of the worker ``root``."""

    def barrier(self) -> None:
        """Wait until every worker is here."""


class SharedCommunicator(Communicator):
    """Workers that see each other's arrays: each sums its own range of elements of all of them."""

    def all_reduce(self, parts: Sequence[Array | None]) -> None:
        mine = self.share(parts[0].size if parts[0] is not None else 0)
        self.barrier()
        tree_sum(parts, mine.start, mine.stop)
        self.barrier()


class ThreadCommunicator(SharedCommunicator):
    """One of several threads."""

    def __init__(self, rank: int, size: int, meeting: threading.Barrier, board: list[Any]) -> None:
        self.rank, self.size, self._meeting, self._board = rank, size, meeting, board
        self._process = os.getpid()

    def broadcast(self, array: Array, root: int = 0) -> None:
        if self.rank == root:
            self._board[0] = array
        self.barrier()
        if self.rank != root:
            array[...] = self._board[0]
        self.barrier()

    def barrier(self) -> None:
        if self._process != os.getpid():
            raise WorkerError("this process was forked in the middle of a step: its other threads are not here")
        self._meeting.wait()


class Team:
    """Workers on threads; the calling thread is the first.

    Parameters
    ----------
    size : int
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self._start()

    def _start(self) -> None:
        self._process = os.getpid()
        self._meeting = threading.Barrier(self.size)
        self._pool: Executor | None = None
        self.communicators: list[Communicator] = [Communicator()]
        if self.size > 1:
            from concurrent.futures import ThreadPoolExecutor  # costs a few ms of import time

            board: list[Any] = [None]
            self._pool = ThreadPoolExecutor(self.size - 1, thread_name_prefix="im2colnet", initializer=join_team)
            self.communicators = [ThreadCommunicator(r, self.size, self._meeting, board) for r in range(self.size)]

    def run(self, program: Callable[..., None], *command: Any) -> None:
        """Run ``program(communicator, *command)`` on every worker; if any fail, the lowest rank's error is raised."""
        if self._process != os.getpid():  # a forked process has none of its parent's threads
            self._start()
        if self._pool is None:
            program(self.communicators[0], *command)
            return
        errors: dict[int, BaseException] = {}

        def guarded(communicator: Communicator) -> None:
            try:
                program(communicator, *command)
            except threading.BrokenBarrierError:
                pass  # another worker failed, and its error is the one to tell
            except BaseException as error:
                errors[communicator.rank] = error
                self._meeting.abort()  # nobody waits for this worker

        others: list[Future[None]] = []
        try:
            for communicator in self.communicators[1:]:  # each sees the caller's use_backend
                others.append(submit(self._pool, copy_context().run, guarded, communicator))
            guarded(self.communicators[0])
            if self._process != os.getpid():  # forked meanwhile
                raise errors.get(0) or WorkerError("this process was forked in the middle of a step")
            for future in others:
                future.result()
        except BaseException as error:  # Ctrl-C out here: the workers must be waited for all the same
            errors[-1] = error
            self._meeting.abort()
            for future in others if self._process == os.getpid() else []:
                with suppress(BaseException):
                    future.result()
        if errors:
            self._start()  # a barrier that broke is not used again
            raise errors[min(errors)]  # the same one whoever was first


def submit(pool: Executor, function: Callable[..., Any], *args: Any) -> Future[Any]:
    """Give work to a thread."""
    with quiet_at_exit():
        return pool.submit(function, *args)


class quiet_at_exit:
    """Within the block errors of a daemon thread, whose interpreter ends and takes its workers away, end it quietly."""

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        if error is not None and threading.current_thread().daemon:
            pools = sys.modules.get("concurrent.futures.thread")
            if getattr(pools, "_shutdown", False) or not threading.main_thread().is_alive():
                raise SystemExit from None  # which threads end by without a word
