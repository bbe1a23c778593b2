"""Workers as processes over shared memory: no worker waits for another's Python, as threads do for the GIL.

The processes are forked from this one, so they begin with its network, its plan and its arrays, need nothing sent and
do not run the user's script again. What they change for others lies in memory that a forked process shares
(:meth:`im2colnet.Backend.empty_shared`): parameters, gradients, sums. What changes in this process afterwards they do
not see; a :class:`ProcessTeam` is asked whether it is still :meth:`~ProcessTeam.current`, and replaced if not.

A barrier is a counter for each worker in shared memory: a worker raises its own and waits for the others'. That needs
a processor that shows stores in their order, as x86 does.
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
from im2colnet.parallel.settings import get_workers
from im2colnet.parallel.state import UnknownStateError, constant, of_the_library, snapshot

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

#: counters of 8 bytes for each worker: they fill a line of the cache
LINE = 8
#: how often a worker looks at a counter before it offers the processor to others: about 0.2 ms
SPINS = 4000
#: seconds that a worker offers the processor, before it sleeps between two looks at a counter
PATIENCE = 0.002
#: seconds that it sleeps between two looks
PAUSE = 50e-6
#: seconds between two looks at whether the other processes are alive
WATCH = 0.02
#: seconds that a worker has to stop; then it is killed
GRACE = 5.0
#: sent in place of an order: tell how the last order ended
REPORT = b"report"
#: sent in place of an order: there will be no more orders
END = b""
Program = Callable[..., None]


def available() -> bool:
    """Whether processes can be workers here."""
    return memory.AVAILABLE


def wanted() -> bool:
    """Whether they should be: not where threads run at once, unless they were asked for.

    Raises
    ------
    WorkerError
        If they were asked for, and cannot be had here.
    """
    if get_workers() == "auto":
        gil: Callable[[], bool] = getattr(sys, "_is_gil_enabled", lambda: True)
        return available() and gil()
    if get_workers() == "processes" and not available():
        raise WorkerError(
            f"workers cannot be processes on {sys.platform}, {platform.machine()}: that needs Linux on x86-64;"
            " use ic.set_workers('auto')"
        )
    return get_workers() == "processes"


class Stopped(Exception):
    """Another worker failed; its error is the one to tell."""


class ProcessCommunicator(SharedCommunicator):
    """One of several processes; arrays that are joined lie in memory that all of them share."""

    def __init__(self, rank: int, size: int, counters: memoryview, watch: Callable[[], None]) -> None:
        self.rank, self.size, self._counters, self._watch = rank, size, counters, watch
        self._count, self._watched = 0, 0.0

    def broadcast(self, array: Any, root: int = 0) -> None:
        """Wait until every worker is here: what lies in shared memory is then the root's for all."""
        self.barrier()

    def begin(self, turn: int) -> None:
        """Count from a number that no barrier of an earlier turn has reached, however it ended."""
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
        """Let no worker wait at a barrier any more."""
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
    """Return the ids of all processes that work for this one, for whoever measures."""
    return [pid for team in _teams if team.mine for pid in team.pids]


class ProcessTeam:
    """Workers on processes; this process is the first.

    Parameters
    ----------
    size : int
    program : callable
        ``program(communicator, *command)``, what the forked workers run.
    known : sequence of dict
        Everything that the program reads, by name. Workers are forked with these values; see :meth:`current`.
    is_shared : callable
        Whether the workers see what is written into an array.

    Attributes
    ----------
    turns : int
        How many orders it was given.

    Raises
    ------
    OSError
        If no process can be started.
    UnknownStateError
        If the program depends on something that cannot be compared with what it is later.
    """

    def __init__(
        self, size: int, program: Program, known: Sequence[Mapping[str, Any]], is_shared: Callable[[Any], bool]
    ) -> None:
        from multiprocessing import Pipe

        self.size, self._process, self._known = size, os.getpid(), [dict(names) for names in known]
        #: where in `known` there are things that may change in place, and what they were
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
                with warnings.catch_warnings():  # from 3.12 on Python warns that threads are lost: they are not used
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
        """Of the workers' processes."""
        return [pid for pid, _ in self._workers]

    def current(self, known: Sequence[Mapping[str, Any]]) -> bool:
        """Whether the workers are there and what the program depends on is still what they began with."""
        if not self.mine or not self._finalizer.alive or len(known) != len(self._known):
            return False
        try:
            return all(map(_same, known, self._known)) and self._contents(known) == self._before
        except UnknownStateError:
            return False

    def _contents(self, known: Sequence[Mapping[str, Any]]) -> Any:
        """What the things are that may change in place."""
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
                    raise WorkerError(f"worker {rank} does not listen any more") from None
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
        except BaseException as error:  # a worker has ended, or Ctrl-C while they were waited for
            errors.setdefault(0, error)
        if not whole:
            self.close()
        raise errors[min(errors)]

    def _collect(self, errors: dict[int, BaseException]) -> None:
        """Wait until no worker works any more, and take their errors."""
        for _, connection in self._workers:
            connection.send_bytes(REPORT)
        until = time.monotonic() + GRACE
        for rank, (pid, connection) in enumerate(self._workers, 1):
            while not connection.poll(WATCH):
                self._watch()
                if time.monotonic() > until:
                    raise WorkerError(f"worker {rank} (process {pid}) does not answer, perhaps it is stopped")
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
        except ChildProcessError:  # somebody else has waited for it
            found, how = pid, "has ended"
        else:
            code = os.waitstatus_to_exitcode(status)
            how = f"was killed by signal {-code}" if code < 0 else f"ended with status {code}"
            how += ", perhaps for want of memory" if code == -signal.SIGKILL else ""
        if found:
            _forget(worker, workers)
            raise WorkerError(f"worker {rank} (process {pid}) {how}; ic.set_workers('threads') needs no processes")


def close(process: int, workers: list[tuple[int, Connection]]) -> None:
    """End workers, unless this process is only forked from theirs."""
    if process != os.getpid():
        return
    interrupted = False
    while workers:
        try:
            _end(workers)
        except KeyboardInterrupt:  # of which nobody would hear, where a finalizer calls this
            interrupted = True
    if interrupted:
        threading.Timer(0.01, interrupt_main).start()


def _end(workers: list[tuple[int, Connection]]) -> None:
    for _, connection in workers:
        with suppress(OSError):  # it has ended already
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
        except ChildProcessError:  # somebody else has waited for it
            pass
        _forget(worker, workers)


def _forget(worker: tuple[int, Connection], workers: list[tuple[int, Connection]]) -> None:
    """Take a worker that has ended from the list, unless another thread has found it first: at exit two may look."""
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
    """Be a worker: run the program at each order, until none will come any more; never returns."""
    try:
        for connection in inherited:  # or others would not be told of the end of the first process
            connection.close()
        for number in signal.SIGINT, signal.SIGTERM:  # sent to all: the first process handles them, and ends this one
            signal.signal(number, signal.SIG_IGN)
        gc.freeze()  # what was inherited is not this process's to collect
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
    """An error for the first process, with where it happened; one that cannot be sent is described."""
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
    except Exception:  # what cannot be compared, such as another array
        return False
