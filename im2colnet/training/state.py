"""The progress of a training."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from copy import copy
from dataclasses import dataclass, field
from typing import Any

from im2colnet.checks import number
from im2colnet.errors import CheckpointError
from im2colnet.optim.schedules import rate_at
from im2colnet.training.history import History

#: a schedule: a function of the step and the number of steps that returns the learning rate
Rates = Callable[..., float]
NEEDED = "step", "epoch", "total", "batch_size", "partial"  # entries that the state in every checkpoint has


@dataclass
class _Epoch:
    """Sums over the part of an epoch that is done."""

    batch: int = 0
    steps: int = 0  #: the number of batches of the whole epoch
    loss: float = 0.0
    metrics: dict[str, float] = field(default_factory=dict)  #: the sums of the loss's metrics over all batches so far
    images: int = 0
    seconds: float = 0.0

    def count(self, loss: float, counts: dict[str, float], images: int) -> None:
        """Add a batch: its mean loss, the sums of its metrics, and its number of images."""
        before = self.metrics if self.batch else dict.fromkeys(counts, 0.0)
        self.metrics = {name: before[name] + counts[name] for name in counts if name in before}
        self.batch += 1
        self.images += images
        self.loss += loss * images

    def means(self) -> dict[str, float]:
        """Return the means of the metrics over the images."""
        return {name: total / self.images for name, total in self.metrics.items()}

    def describe(self) -> dict[str, Any]:
        """Return the sums as JSON, with ``correct`` for versions of the library that do not know ``metrics``."""
        return vars(self) | {"correct": self.metrics.get("accuracy", 0.0)}


@dataclass
class LossScale:
    """The factor of the loss, so that gradients of float16 do not underflow (arXiv:1710.03740, section 3.2).

    It is halved when a gradient overflows, and doubled after 2000 steps in which none did.
    """

    value: float = 2.0**16
    steps: int = 0  #: the number of steps since the factor changed

    def update(self, overflowed: bool) -> None:
        """Change the factor after a step."""
        self.steps += 1
        if overflowed or self.steps == 2000:
            self.value, self.steps = self.value * (0.5 if overflowed else 2), 0


@dataclass
class _State:
    step: int = 0
    epoch: int = 0  #: the number of completed epochs
    #: the number of steps of all requested epochs, if each has as many as the present one; schedules get it
    total: int | None = None
    batch_size: int | None = None
    drop_last: bool = False
    partial: _Epoch = field(default_factory=_Epoch)
    scale: LossScale = field(default_factory=LossScale)  #: changes in float16 only
    updates: int = 0  #: the number of updates of the parameters; each is made after one step, or after several
    missed: dict[str, int] = field(default_factory=dict)  #: the number of updates in which a parameter was frozen
    held_steps: int = 0  #: the number of steps since the last update
    held: float = 0.0  #: the weight of the gradients that were added up in these steps

    def count(self, updated: bool, weight: float, frozen: Iterable[str]) -> None:
        """Count a step, with the weight of its gradient, and the parameters that were frozen in it."""
        self.step += 1
        if not updated:
            self.held_steps += 1
            self.held += weight
            return
        self.updates += 1
        self.drop_held()
        for name in frozen:
            self.missed[name] = self.missed.get(name, 0) + 1

    def drop_held(self) -> None:
        """Forget the gradients that were added up since the last update."""
        self.held_steps, self.held = 0, 0.0


def rate_of(schedule: Rates, state: _State, history: History) -> float:
    """Return the learning rate of the step that comes next in ``state``.

    The schedule gets the trainer's number of steps as ``step``. It gets such a ``total`` that ``step / total`` is the
    progress of the training: the completed part of the requested epochs. If all epochs had the same number of steps,
    ``total`` is the number of steps of all epochs.
    """
    total: float | None = state.total
    if total is not None and state.partial.steps:
        done = state.epoch * state.partial.steps + state.partial.batch
        if done != state.step:
            total = state.step * total / done if done else math.inf
    rate = rate_at(schedule, state.step, total, history)
    if type(rate) is float and 0 <= rate < math.inf:  # the usual case, without the text of an error message
        return rate
    return number(f"the learning rate that {schedule!r} gives for step {state.step} of {total}", rate)


def lengthened(
    state: _State,
    schedule: Rates,
    history: History,
    epochs: int,
    steps: int,
    batch_size: int,
    drop_last: bool,
    same: bool = True,
) -> tuple[_State, list[str]]:
    """Return the state of a training that continues to ``epochs`` epochs of ``steps`` batches, and messages.

    ``same`` says whether the training images are changed by the same transforms as before.
    """
    said: list[str] = []
    if state.epoch >= epochs:
        return state, said
    done, new = state.partial, copy(state)
    new.partial, new.batch_size, new.drop_last = copy(done), batch_size, drop_last
    new.total = epochs * steps
    if done.batch == done.steps:  # a check or the validation after the last batch has failed
        new.partial.batch = steps if done.batch else 0
    elif done.batch:
        other = ""  # the difference from the beginning of the epoch
        if (done.steps, state.batch_size, state.drop_last) != (steps, batch_size, drop_last):
            batches = f"{steps} batch{'es' * (steps != 1)}"
            other = f" of batch_size={state.batch_size}, and now there are {batches} of batch_size={batch_size}"
        elif not same:
            other = ", and now the images are changed by other transforms"
        if other:
            said.append(
                f"epoch {state.epoch + 1} begins again: training stopped after {done.batch} of {done.steps}"
                f" batches{other}"
            )
            new.partial = _Epoch()
            new.drop_held()
    new.partial.steps = steps
    if state.total is not None and done.steps and state.total != epochs * done.steps:
        before, rate = (rate_of(schedule, each, history) for each in (state, new))
        if rate != before:
            planned = state.total // done.steps
            said.append(
                f"the learning rate continues at {rate:.3g}, not at {before:.3g}, because fit is called with"
                f" epochs={epochs} and was called with epochs={planned} before (done: {state.epoch}). A training in"
                " several calls of fit, such as one for each epoch, needs a schedule with its own length, such as"
                " Cosine(steps=...)"
            )
    return new, said


def _check_progress(state: _State) -> None:
    """Raise a CheckpointError if the numbers of a state contradict each other."""
    done = state.partial
    if (
        done.batch > done.steps
        or (done.batch > 0) != (done.images > 0)
        or (done.batch > 0 and not state.batch_size)
        or done.seconds < 0
        or state.scale.value < 1
        or state.held < 0
        or (state.held > 0 and not state.held_steps)
        or state.updates + state.held_steps > state.step
    ):
        raise CheckpointError("it is damaged: the numbers in state contradict each other")
