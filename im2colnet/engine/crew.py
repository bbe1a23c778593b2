"""The workers of a batch: one thread, several threads, or processes; and the state of a user's own classes."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from im2colnet.engine.binding import BoundBatch
from im2colnet.engine.memory import Memory
from im2colnet.errors import WorkerWarning
from im2colnet.interrupt import quiet_at_exit
from im2colnet.lazy import LazyArray
from im2colnet.parallel import Communicator, Team, get_num_threads, get_workers
from im2colnet.parallel.ranks import RankCommunicator
from im2colnet.parallel.state import UnknownStateError, snapshot, stateless

if TYPE_CHECKING:
    from im2colnet.losses import Loss
    from im2colnet.parallel.processes import ProcessTeam

#: a team of processes that was outdated after fewer steps than this was not worth its forks
SHORT_LIVED_STEPS = 10
#: after this number of such teams in a row, threads are used instead of processes
MAX_SHORT_LIVED = 3
#: the warnings that this process has given already
_said: set[str] = set()


class Crew:
    """The workers that run programs on the batches of a memory.

    A user's class with ``stateless = True`` promises that its objects do not change while they work. Objects of other
    classes are watched: threads run them, not processes, and one thread alone if the objects do change.

    Attributes
    ----------
    text : str
        The workers of the last run, such as "2 processes".
    """

    def __init__(self, memory: Memory) -> None:
        self.memory, self.text = memory, "1 worker"
        self._size = 0  # the largest number of workers
        self._teams: dict[int, Team] = {}
        self._processes: dict[int, ProcessTeam] = {}
        self._short_lived = 0  # the number of short-lived teams of processes in a row
        #: whether an object that is watched changes while it works; None if that is not known yet
        self._keeps_state: bool | None = None
        self._judged: list[int] = []  # the ids of the watched objects that `_keeps_state` is about
        self._to_say: list[str] = []

    def size(self, objects: Sequence[Any]) -> int:
        """Return the largest number of workers for these objects: layers, a loss, an optimizer."""
        get_workers()  # raises if the setting is invalid, even if one worker is enough
        size = get_num_threads() if self.memory.backend.threads else 1
        if size > 1 and self._watched(objects) and self._keeps_state is not False:
            size = 1  # one worker has a fixed order; more are used once it is known that the order does not matter
        if size != self._size:
            self._size = size
            self._teams.clear()
            for processes in self._processes.values():
                processes.close()
            self._processes.clear()
        return size

    def processes(self) -> list[int]:
        """Return the ids of the processes of all teams."""
        return [pid for team in self._processes.values() for pid in team.pids]

    def run(
        self,
        program: Callable[..., None],
        bound: BoundBatch,
        batch: tuple[Any, ...],
        command: tuple[Any, ...],
        objects: Sequence[Any],
        known: Sequence[dict[str, Any]],
        loss: Loss | None,
    ) -> None:
        """Run ``program(communicator, name, batch, *command)`` on every worker.

        Processes get an empty tuple as ``batch``, and find the batch in shared memory.

        Parameters
        ----------
        program : callable
        bound : BoundBatch
        batch : tuple of Array
            The images, and the targets if there are any.
        command : tuple
            Further arguments of the program.
        objects : sequence
            All objects whose methods the program calls.
        known : sequence of dict
            All other values that the program depends on, by name. Forked workers have the values of the time of the
            fork.
        loss : Loss, optional
        """
        memory = self.memory
        watched = self._watched(objects) if get_num_threads() > 1 and memory.backend.threads else []
        before = self._snapshot(watched)
        program = partial(self._work, program)
        with quiet_at_exit():
            processes = self._process_team(bound, batch, program, objects, known, loss, watched)
        if processes is not None:
            bound.copy_to_workers(batch)
            batch = ()
        memory.refresh_copy()
        with quiet_at_exit():
            (processes or self._team(len(bound.plan.assignment))).run(program, bound.name, batch, *command)
        if watched and self._keeps_state is not True:
            self._judge(watched, before is None or self._snapshot(watched) != before)

    def _work(self, program: Callable[..., None], comm: Communicator, *command: Any) -> None:
        """Run the program in a worker, with the settings of arithmetic that each thread has for itself."""
        if self.memory.ranks is not None:
            comm = RankCommunicator(comm, self.memory.ranks)
        with self.memory.backend.errstate(), self.memory.backend.flush_denormal():
            program(comm, *command)

    # ------------------------------------------------------------------ teams

    def _team(self, size: int) -> Team:
        if size not in self._teams:
            self._teams[size] = Team(size)
        return self._teams[size]

    def _process_team(
        self,
        bound: BoundBatch,
        batch: tuple[Any, ...],
        program: Callable[..., None],
        objects: Sequence[Any],
        known: Sequence[dict[str, Any]],
        loss: Loss | None,
        watched: list[Any],
    ) -> ProcessTeam | None:
        """Return a team of processes if the batch size is repeated and processes are possible; None means threads."""
        size, threads, backend = bound.plan.workers, len(bound.plan.assignment), self.memory.backend
        bound.steps += 1
        # threads do not divide a single image into bands: they hand over to each other too slowly
        one = "1 thread" if watched else "1 worker"
        self.text = f"{threads} threads" if threads > 1 else one
        if size == 1 or bound.steps < backend.division.steps_before_fork:
            return None
        from im2colnet.parallel import processes  # costs a few ms of import time

        shared_already = backend.is_shared(self.memory.parameters.flat)
        if not processes.wanted() or not shared_already or batch[0].nbytes > backend.division.max_copied_bytes:
            return None
        if isinstance(batch[0], LazyArray):  # processes would need the whole of it in shared memory
            return None
        if watched:
            self._to_say.append(
                f"{_names(watched)} is not marked as stateless, so threads work instead of processes. If its"
                " attributes do not change while it works, write stateless = True in its class"
            )
            return None
        bound.allocate_batch(batch)
        batches = self.memory.batches.items()
        shared = {f"{name} {i}": array for name, other in batches for i, array in enumerate(other.batch)}
        everything: list[Mapping[str, Any]] = [*known, shared, {"loss": loss}, *map(vars, objects)]
        team = self._processes.get(size)
        if team is not None and not team.current(everything):
            if team.mine:
                self._short_lived = self._short_lived + 1 if team.turns < SHORT_LIVED_STEPS else 0
            self._processes.pop(size).close()
            team = None
        if team is None:
            arrays = [value for names in known for value in names.values() if backend.owns(value)]
            all_shared = all(map(backend.is_shared, [*self.memory.gradients, *arrays]))
            if self._short_lived >= MAX_SHORT_LIVED or not all_shared:
                return None
            try:
                team = self._processes[size] = processes.ProcessTeam(size, program, everything, backend.is_shared)
            except UnknownStateError as error:
                self._to_say.append(f"threads work instead of processes: {error}")
                return None
        self.text = f"{size} processes"
        return team

    # ------------------------------------------------------------------ what a user's own classes keep

    def say(self) -> None:
        """Give the warnings about the user's classes, each once in a process, after the run."""
        if not self._to_say:
            return
        messages, self._to_say = [m for m in self._to_say if m not in _said], []
        _said.update(messages)
        for message in dict.fromkeys(messages):
            warnings.warn(message, WorkerWarning, stacklevel=4)

    def _watched(self, objects: Sequence[Any]) -> list[Any]:
        """Return the objects whose classes do not have ``stateless = True``."""
        watched = [thing for thing in objects if not stateless(thing)]
        if (ids := [*map(id, watched)]) != self._judged:
            self._keeps_state, self._judged = None, ids
        return watched

    def _snapshot(self, watched: list[Any]) -> Any:
        """Return the present state of the objects; None if it is unknown or no longer matters."""
        if not watched or self._keeps_state:
            return None
        try:
            return snapshot(*watched)
        except UnknownStateError:
            return None

    def _judge(self, watched: list[Any], changed: bool) -> None:
        """Decide after a run whether several threads may work from now on, or only one, shard after shard."""
        names = _names(watched)
        say = f"If its attributes do not change while it works, write stateless = True in its class ({names})"
        if changed and self._keeps_state is False:
            self._to_say.append(
                f"{names}: its state has changed while several threads worked, so the result of this step may depend on"
                f" the number of threads; from now on one thread works. {say}"
            )
        elif changed:
            self._to_say.append(
                f"{names}: its state changes while it works, or cannot be read, so one thread does all work,"
                f" in a fixed order. {say}"
            )
        self._keeps_state = changed


def _names(things: Sequence[Any]) -> str:
    return ", ".join(sorted({type(thing).__name__ for thing in things}))
