"""Workers as processes over shared memory: no worker waits for another's Python, as threads do for the GIL.

The processes are forked from this one, so they begin with its network, its plan and its arrays, need no data sent to
them, and do not run the user's script again. The arrays that they change for others lie in memory that a forked process
shares (:meth:`im2colnet.Backend.empty_shared`): parameters, gradients, sums. They do not see later changes of other
objects in this process; so a :class:`ProcessTeam` is replaced if it is no longer :meth:`~ProcessTeam.current`.

A barrier is a counter for each worker in shared memory: a worker increments its own counter and waits for the others.
This needs a processor that makes stores visible in their order, as x86 does.
"""

from __future__ import annotations

import gc
import os
import pickle
import platform
import signal
import sys
import threading
import time
import traceback
import warnings
import weakref
from _thread import interrupt_main
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any

from im2colnet import memory
from im2colnet.errors import WorkerError
from im2colnet.parallel.communicator import SharedCommunicator
from im2colnet.parallel.state import UnknownStateError, constant, of_the_library, snapshot
from im2colnet.settings import forks_forbidden, get_workers

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

#: the number of 8-byte counters for each worker: they fill one line of the cache
LINE = 8
#: how often a worker reads a counter before it yields the processor: about 0.2 ms
SPINS = 4000
#: seconds that a worker yields the processor, before it sleeps between two reads of a counter
PATIENCE = 0.002
#: seconds that a worker sleeps between two reads of a counter
PAUSE = 50e-6
#: seconds between two checks that the other processes are alive
WATCH = 0.02
#: seconds that a worker has to stop, before it is killed
GRACE = 5.0
#: a message in place of an order: report the error of the last order
REPORT = b"report"
#: a message in place of an order: there will be no more orders
END = b""
Program = Callable[..., None]


def available() -> bool:
    """Whether workers can be processes on this system."""
    return memory.AVAILABLE


def wanted() -> bool:
    """Whether workers should be processes: if they were asked for, or with "auto" if they are faster and safe.

    They are faster if Python has a GIL. They are not safe where ranks may send by RDMA.

    Raises
    ------
    WorkerError
        If processes were asked for, and are not possible on this system.
    """
    if get_workers() == "auto":
        gil: Callable[[], bool] = getattr(sys, "_is_gil_enabled", lambda: True)
        return available() and gil() and not forks_forbidden()
    if get_workers() == "processes" and not available():
        raise WorkerError(
            f"workers cannot be processes on {sys.platform}, {platform.machine()}: that needs Linux on x86-64;"
            " use ic.set_workers('auto')"
        )
    return get_workers() == "processes"


class Stopped(Exception):
    """Another worker has failed, and its error will be raised."""


class ProcessCommunicator(SharedCommunicator):
    """The communicator of one of several processes. Arrays that are joined lie in shared memory."""

    def __init__(self, rank: int, size: int, counters: memoryview, watch: Callable[[], None]) -> None:
        self.rank, self.size, self._counters, self._watch = rank, size, counters, watch
        self._count, self._watched = 0, 0.0

    def begin(self, turn: int) -> None:
        """Set the counter to a number that no barrier of an earlier order has reached, even if that order failed."""
        self._count = turn << 32

    def barrier(self) -> None:
        self._count += 1
        count, counters = self._count, self._counters
        counters[self.rank * LINE] = count
        for other in range(self.size):
            spins, began = 0, 0.0
            while counters[other * LINE] < count:
                spins += 1
                if spins > SPINS:
                    began = self._wait(began)
                if counters[self.size * LINE]:
                    raise Stopped

    def next_order(self, orders: Connection) -> bytes:
        """Return the next order: spin for about 0.2 ms, then sleep. Return b"" when the team is closed."""
        turn, counters, spins = self._count >> 32, self._counters, 0
        while counters[(self.size + 1) * LINE] <= turn and spins < SPINS:
            spins += 1
        try:
            while not orders.poll(1):
                self._watch()
            return orders.recv_bytes()
        except (EOFError, OSError):
            return END

    def stop(self) -> None:
        """End the waiting of all workers at barriers."""
        self._counters[self.size * LINE] = 1

    def _wait(self, began: float) -> float:
        now = time.monotonic()
        if not began:
            began = now
        if now - began < PATIENCE:
            os.sched_yield()
        else:
            time.sleep(PAUSE)
            if now - self._watched > WATCH:
                self._watched = now
                self._watch()
        return began


_teams: weakref.WeakSet[ProcessTeam] = weakref.WeakSet()


def worker_processes() -> list[int]:
    """Return the ids of all processes that work for this one, for measurements."""
    return [pid for team in _teams if team.mine for pid in team.pids]


class ProcessTeam:
    """A team of workers on processes. This process is the first worker.

    Parameters
    ----------
    size : int
        The number of workers.
    program : callable
        The forked workers run ``program(communicator, *command)``.
    known : sequence of dict
        Everything that the program reads, by name. Workers are forked with these values; see :meth:`current`.
    is_shared : callable
        A function that tells whether an array lies in memory that the workers share.

    Attributes
    ----------
    turns : int
        The number of orders that the team was given.

    Raises
    ------
    OSError
        If no process can be started.
    UnknownStateError
        If the program depends on an object whose state cannot be read, so that later changes would go unnoticed.
    """

    def __init__(
        self, size: int, program: Program, known: Sequence[Mapping[str, Any]], is_shared: Callable[[Any], bool]
    ) -> None:
        from multiprocessing import Pipe

        self.size, self._process, self._known = size, os.getpid(), [dict(names) for names in known]
        #: the positions in `known` of objects that may change in place; `_before` is their state at the fork
        self._changeable = [
            (i, name)
            for i, names in enumerate(known)
            for name, value in names.items()
            if not (constant(value) or of_the_library(value) or is_shared(value))
        ]
        self._before = self._contents(known)
        counters = memoryview(memory.allocate(8 * LINE * (size + 2))).cast("q")
        self._counters, self.turns = counters, 0
        self._workers: list[tuple[int, Connection]] = []
        self._watch = partial(watch, self._workers)
        self._me = ProcessCommunicator(0, size, counters, self._watch)
        self._finalizer = weakref.finalize(self, close, self._process, self._workers)
        try:
            for rank in range(1, size):
                here, there = Pipe()
                with warnings.catch_warnings():  # Python 3.12 warns that threads are lost; the workers do not use them
                    warnings.simplefilter("ignore", DeprecationWarning)
                    with memory.forking_a_worker():
                        pid = os.fork()
                if not pid:
                    me = ProcessCommunicator(rank, size, counters, partial(exit_without, self._process))
                    worker_main(me, there, program, [here, *(connection for _, connection in self._workers)])
                there.close()
                self._workers.append((pid, here))
        except BaseException:
            self._finalizer()
            raise
        _teams.add(self)

    @property
    def mine(self) -> bool:
        """Whether the workers were forked from this process."""
        return self._process == os.getpid()

    @property
    def pids(self) -> list[int]:
        """The ids of the workers' processes."""
        return [pid for pid, _ in self._workers]

    def current(self, known: Sequence[Mapping[str, Any]]) -> bool:
        """Whether the workers exist, and everything that the program depends on is as it was when they were forked."""
        if not self.mine or not self._finalizer.alive or len(known) != len(self._known):
            return False
        try:
            return all(map(_same, known, self._known)) and self._contents(known) == self._before
        except UnknownStateError:
            return False

    def _contents(self, known: Sequence[Mapping[str, Any]]) -> Any:
        """Return the state of the objects that may change in place."""
        return snapshot(*(known[i][name] for i, name in self._changeable), random=False) if self._changeable else None

    def run(self, program: Program, *command: Any) -> None:
        """Run ``program(communicator, *command)`` on every worker; if any fail, the lowest rank's error is raised.

        Raises
        ------
        WorkerError
            If a worker's process has ended.
        """
        errors: dict[int, BaseException] = {}
        try:
            self._counters[self.size * LINE] = 0
            self.turns += 1
            self._me.begin(self.turns)
            order = pickle.dumps((self.turns, command))
            for rank, (_, connection) in enumerate(self._workers, 1):
                try:
                    connection.send_bytes(order)
                except OSError:
                    self._watch()
                    raise WorkerError(f"worker {rank} no longer responds") from None
            self._counters[(self.size + 1) * LINE] = self.turns
            program(self._me, *command)
            self._me.barrier()
            return
        except Stopped:
            pass
        except BaseException as error:
            errors[0] = error
        whole = False
        try:
            self._me.stop()
            self._collect(errors)
            whole = len(self._workers) == self.size - 1
        except BaseException as error:  # a worker has ended, or the user pressed Ctrl-C
            errors.setdefault(0, error)
        if not whole:
            self.close()
        raise errors[min(errors)]

    def _collect(self, errors: dict[int, BaseException]) -> None:
        """Wait until all workers are idle, and collect their errors."""
        for _, connection in self._workers:
            connection.send_bytes(REPORT)
        until = time.monotonic() + GRACE
        for rank, (pid, connection) in enumerate(self._workers, 1):
            while not connection.poll(WATCH):
                self._watch()
                if time.monotonic() > until:
                    raise WorkerError(f"worker {rank} (process {pid}) does not answer; it may be stopped")
            error = pickle.loads(connection.recv_bytes())
            if error is not None:
                errors[rank] = error

    def close(self) -> None:
        """End the workers."""
        self._finalizer()


def watch(workers: list[tuple[int, Connection]]) -> None:
    """Raise if a worker has ended."""
    for rank, worker in enumerate(workers, 1):
        pid = worker[0]
        try:
            found, status = os.waitpid(pid, os.WNOHANG)
        except ChildProcessError:  # other code has waited for it already
            found, how = pid, "has ended"
        else:
            code = os.waitstatus_to_exitcode(status)
            how = f"was killed by signal {-code}" if code < 0 else f"ended with status {code}"
            how += ", perhaps because memory ran out" if code == -signal.SIGKILL else ""
        if found:
            _forget(worker, workers)
            raise WorkerError(f"worker {rank} (process {pid}) {how}; ic.set_workers('threads') avoids worker processes")


def close(process: int, workers: list[tuple[int, Connection]]) -> None:
    """End workers, unless this process is a fork of the process that has them."""
    if process != os.getpid():
        return
    interrupted = False
    while workers:
        try:
            _end(workers)
        except KeyboardInterrupt:  # Python would only print it if a finalizer calls this function
            interrupted = True
    if interrupted:
        threading.Timer(0.01, interrupt_main).start()


def _end(workers: list[tuple[int, Connection]]) -> None:
    for _, connection in workers:
        with suppress(OSError):  # the worker has ended already
            connection.send_bytes(END)
        connection.close()
    until = time.monotonic() + GRACE
    for worker in list(workers):
        pid = worker[0]
        try:
            while os.waitpid(pid, os.WNOHANG) == (0, 0):
                if time.monotonic() > until or stopped(pid):
                    os.kill(pid, signal.SIGKILL)
                time.sleep(0.001)
        except ChildProcessError:  # other code has waited for it already
            pass
        _forget(worker, workers)


def _forget(worker: tuple[int, Connection], workers: list[tuple[int, Connection]]) -> None:
    """Remove a worker that has ended from the list. At exit two threads may do so, and the second finds none."""
    with suppress(ValueError):
        workers.remove(worker)


def stopped(pid: int) -> bool:
    """Whether a process has been stopped by a signal and does nothing until another one continues it."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return file.read().rpartition(b")")[2].split()[0] in (b"T", b"t")
    except (OSError, IndexError):
        return False


def exit_without(parent: int) -> None:
    """End this process if its parent is gone."""
    if os.getppid() != parent:
        os._exit(1)


def worker_main(
    communicator: ProcessCommunicator, orders: Connection, program: Program, inherited: Sequence[Connection]
) -> None:
    """Run the program at each order, until the team is closed. This is a worker's main function; it never returns."""
    try:
        for connection in inherited:  # else other workers would not notice the end of the first process
            connection.close()
        for number in (
            signal.SIGINT,
            signal.SIGTERM,
        ):  # these go to all processes: the first one handles them and ends this one
            signal.signal(number, signal.SIG_IGN)
        gc.freeze()  # this process must not collect inherited objects
        error: BaseException | None = None
        while order := communicator.next_order(orders):
            if order == REPORT:
                orders.send_bytes(_pickled(error))
                error = None
                continue
            turn, command = pickle.loads(order)
            communicator.begin(turn)
            try:
                program(communicator, *command)
                communicator.barrier()
            except Stopped:
                pass
            except BaseException as failed:
                error = failed
                communicator.stop()
    finally:
        os._exit(0)


def _pickled(error: BaseException | None) -> bytes:
    """Return an error for the first process, with its traceback; an error that cannot be sent is described."""
    if error is None:
        return pickle.dumps(None)
    error.add_note("in a worker:\n" + "".join(traceback.format_exception(error)))
    try:
        pickle.loads(done := pickle.dumps(error))
        return done
    except Exception:
        described = WorkerError("".join(traceback.format_exception_only(error)).strip())
        return pickle.dumps(described)


def _same(names: Mapping[str, Any], before: Mapping[str, Any]) -> bool:
    """Whether the same names stand for the same objects, or for equal ones."""
    try:
        return names.keys() == before.keys() and all(
            value is before[name] or bool(value == before[name]) for name, value in names.items()
        )
    except Exception:  # some values, such as arrays, cannot be compared
        return False
