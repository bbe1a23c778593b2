"""Workers on threads."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from contextlib import suppress
from contextvars import copy_context
from typing import TYPE_CHECKING, Any

from im2colnet.errors import WorkerError
from im2colnet.interrupt import submit, thread_pool
from im2colnet.memory import join_team
from im2colnet.parallel.communicator import Communicator, SharedCommunicator

if TYPE_CHECKING:
    from concurrent.futures import Executor, Future


class ThreadCommunicator(SharedCommunicator):
    """The communicator of one of several threads."""

    def __init__(self, rank: int, size: int, meeting: threading.Barrier) -> None:
        self.rank, self.size, self._meeting = rank, size, meeting
        self._process = os.getpid()

    def barrier(self) -> None:
        if self._process != os.getpid():
            raise WorkerError("this process was forked in the middle of a step: its other threads are not here")
        self._meeting.wait()


class Team:
    """A team of workers on threads. The calling thread is the first worker.

    Parameters
    ----------
    size : int
        The number of workers.
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
            self._pool = thread_pool(self.size - 1, thread_name_prefix="im2colnet", initializer=join_team)
            self.communicators = [ThreadCommunicator(r, self.size, self._meeting) for r in range(self.size)]

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
                pass  # another worker has failed, and its error is raised below
            except BaseException as error:
                errors[communicator.rank] = error
                self._meeting.abort()  # the others must not wait for this worker

        others: list[Future[None]] = []
        try:
            for communicator in self.communicators[
                1:
            ]:  # in a copy of the context, a worker sees the caller's use_backend
                others.append(submit(self._pool, copy_context().run, guarded, communicator))
            guarded(self.communicators[0])
            if self._process != os.getpid():  # the program forked this process
                raise errors.get(0) or WorkerError("this process was forked in the middle of a step")
            for future in others:
                future.result()
        except BaseException as error:  # after Ctrl-C in this thread, the workers must be waited for too
            errors[-1] = error
            self._meeting.abort()
            for future in others if self._process == os.getpid() else []:
                with suppress(BaseException):
                    future.result()
        if errors:
            self._start()  # a broken barrier cannot be used again
            raise errors[min(errors)]  # the same error, whichever worker failed first
