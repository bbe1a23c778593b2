"""Who does the work on a batch: one thread, several threads, or processes; and what a user's own classes keep."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from im2colnet.engine.binding import BoundBatch
from im2colnet.engine.memory import Memory
from im2colnet.errors import WorkerWarning
from im2colnet.interrupt import quiet_at_exit
from im2colnet.parallel import Communicator, Team, get_num_threads, get_workers
from im2colnet.parallel.state import UnknownStateError, snapshot, stateless

if TYPE_CHECKING:
    from im2colnet.losses import Loss
    from im2colnet.parallel.processes import ProcessTeam

#: a team of processes that was outdated after fewer steps was not worth its forks;
SHORT_LIVED_STEPS = 10
#: after so many of these in a row threads do the work
MAX_SHORT_LIVED = 3
_said: set[str] = set()  # by this process


class Crew:
    """The workers on the batches of a memory.

    A class of the user's says by ``stateless = True`` that its objects change nothing of their own while they work.
    One that does not is watched: threads, not processes, work for it, and a single one if it does keep state.

    Attributes
    ----------
    text : str
        What did the last work, such as "2 processes".
    """

    def __init__(self, memory: Memory) -> None:
        self.memory, self.text = memory, "1 worker"
        self._size = 0  # how many workers there may be
        self._teams: dict[int, Team] = {}
        self._processes: dict[int, ProcessTeam] = {}
        self._short_lived = 0  # teams of processes, in a row
        #: whether an object that is watched changes itself while it works; None if nobody knows yet
        self._keeps_state: bool | None = None
        self._judged: list[int] = []  # the objects that this is known of
        self._to_say: list[str] = []

    def size(self, objects: Sequence[Any]) -> int:
        """Return how many workers there may be for the work of these objects: layers, a loss, an optimiser."""
        get_workers()  # raises if it is nonsense, whether or not there is more than one
        size = get_num_threads() if self.memory.backend.threads else 1
        if size > 1 and self._watched(objects) and self._keeps_state is not False:
            size = 1  # in the order of one worker, until it is known that the order does not matter
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
        """Run ``program(communicator, name, batch, *command)`` on every worker, on processes without the batch.

        Parameters
        ----------
        program : callable
        bound : BoundBatch
        batch : tuple of Array
            Images, and targets where there are any.
        command : tuple
            What else the program is told.
        objects : sequence
            All objects whose methods the program calls.
        known : sequence of dict
            What else the program depends on, by name: forked workers have it as it was when they were forked.
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
        """Be a worker: run the program in arithmetic that is a thread's own, and not inherited."""
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
        """Return workers on processes for what is repeated, where they can be had; None if threads do it."""
        size, threads, backend = bound.plan.workers, len(bound.plan.assignment), self.memory.backend
        bound.steps += 1
        # threads hand over to each other too slowly to share an image
        one = "1 thread" if watched else "1 worker"
        self.text = f"{threads} threads" if threads > 1 else one
        if size == 1 or bound.steps < backend.division.steps_before_fork:
            return None
        from im2colnet.parallel import processes  # costs a few ms of import time

        shared_already = backend.is_shared(self.memory.parameters.flat)
        if not processes.wanted() or not shared_already or batch[0].nbytes > backend.division.max_copied_bytes:
            return None
        if watched:
            self._to_say.append(
                f"{_names(watched)} does not say that it is stateless, so threads work instead of processes. If nothing"
                " of it changes while it works, write stateless = True in its class"
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
        """Warn of what was noticed in the user's classes, once for the process, now that the work is done."""
        if not self._to_say:
            return
        messages, self._to_say = [m for m in self._to_say if m not in _said], []
        _said.update(messages)
        for message in dict.fromkeys(messages):
            warnings.warn(message, WorkerWarning, stacklevel=4)

    def _watched(self, objects: Sequence[Any]) -> list[Any]:
        """Those objects whose classes do not say that they are stateless."""
        watched = [thing for thing in objects if not stateless(thing)]
        if (ids := [*map(id, watched)]) != self._judged:
            self._keeps_state, self._judged = None, ids
        return watched

    def _snapshot(self, watched: list[Any]) -> Any:
        """What they keep now; None if it is not known, or does not matter any more."""
        if not watched or self._keeps_state:
            return None
        try:
            return snapshot(*watched)
        except UnknownStateError:
            return None

    def _judge(self, watched: list[Any], changed: bool) -> None:
        """After a run: from now on let several threads work, or take the shards one after the other."""
        names = _names(watched)
        say = f"If nothing of it changes while it works, write stateless = True in its class ({names})"
        if changed and self._keeps_state is False:
            self._to_say.append(
                f"{names}: what it keeps has changed while several threads worked, so the result of this step may"
                f" depend on their number; from now on one thread works. {say}"
            )
        elif changed:
            self._to_say.append(
                f"{names}: what it keeps changes while it works, or cannot be looked into, so one thread does all work,"
                f" in a fixed order. {say}"
            )
        self._keeps_state = changed


def _names(things: Sequence[Any]) -> str:
    return ", ".join(sorted({type(thing).__name__ for thing in things}))
