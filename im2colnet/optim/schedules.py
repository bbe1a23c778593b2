"""Learning-rate schedules."""

from __future__ import annotations

from dataclasses import dataclass
from math import cos, pi

from im2colnet.checks import number, set_frozen, whole
from im2colnet.errors import ShapeError

__all__ = ["Constant", "Cosine", "Schedule"]


class Schedule:
    """Base of the learning-rate schedules: an object that is called with the step and gives its learning rate.

    Like a layer, it keeps the arguments of its constructor as attributes of the same names, so that checkpoints hold
    them.
    """

    def __call__(self, step: int, total: float | None) -> float:
        """Return the learning rate of a step.

        Parameters
        ----------
        step : int
            Number of the step, from 0, over all that the trainer has made.
        total : float or None
            ``step / total`` is the progress of the training, epochs done of epochs asked for. It is the number of all
            steps where all epochs have equally many, and None where no epochs are asked for (``Trainer.step`` alone).
        """
        raise NotImplementedError(f"{type(self).__name__} must define __call__(step, total)")


@dataclass(frozen=True)
class Constant(Schedule):
    """``lr``, reached linearly within the first ``warmup`` steps."""

    lr: float
    warmup: int = 0

    def __post_init__(self) -> None:
        set_frozen(self, lr=number("lr", self.lr), warmup=whole("warmup", self.warmup, least=0))

    def __call__(self, step: int, total: float | None) -> float:
        """Return the learning rate of ``step``, counted from 0, of ``total`` steps."""
        return self.lr * min(1.0, (step + 1) / (self.warmup + 1))


@dataclass(frozen=True)
class Cosine(Schedule):
    """Linear warm-up, then half a cosine from ``lr`` to ``final`` (Loshchilov & Hutter 2017, arXiv:1608.03983, eq. 5).

    Parameters
    ----------
    lr : float
    warmup : int
        Steps, whatever the batch size.
    final : float
    steps : int, optional
        Length of the whole schedule in steps, whatever number of epochs ``fit`` is asked for. By default the schedule
        follows the progress of the training, so that it ends with the last epoch asked for.
    """

    lr: float
    warmup: int = 0
    final: float = 0.0
    steps: int | None = None

    def __post_init__(self) -> None:
        set_frozen(self, lr=number("lr", self.lr), warmup=whole("warmup", self.warmup, least=0))
        set_frozen(self, final=number("final", self.final))
        if self.steps is not None:
            set_frozen(self, steps=whole("steps", self.steps))

    def __call__(self, step: int, total: float | None) -> float:
        """Return the learning rate of ``step``, counted from 0, of ``total`` steps."""
        steps = self.steps or total
        if steps is None:
            raise ShapeError("a cosine schedule needs its length: give it steps=..., or train with fit(epochs=...)")
        if step < self.warmup:
            return self.lr * (step + 1) / (self.warmup + 1)
        done = min(1.0, (step - self.warmup) / max(1, steps - self.warmup))
        return self.final + (self.lr - self.final) * (1 + cos(pi * done)) / 2
