"""Learning-rate schedules."""

from __future__ import annotations

from dataclasses import dataclass
from math import cos, pi

from im2colnet.checks import number, set_frozen, whole
from im2colnet.errors import ShapeError


@dataclass(frozen=True)
class Constant:
    """``lr``, reached linearly within the first ``warmup`` steps."""

    lr: float
    warmup: int = 0

    def __post_init__(self) -> None:
        set_frozen(self, lr=number("lr", self.lr), warmup=whole("warmup", self.warmup, least=0))

    def __call__(self, step: int, total: float | None) -> float:
        """Learning rate of ``step``, counted from 0, of ``total`` steps."""
        return self.lr * min(1.0, (step + 1) / (self.warmup + 1))


@dataclass(frozen=True)
class Cosine:
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
        """Learning rate of ``step``, counted from 0, of ``total`` steps."""
        steps = self.steps or total
        if steps is None:
            raise ShapeError("a cosine schedule needs its length: give it steps=..., or train with fit(epochs=...)")
        if step < self.warmup:
            return self.lr * (step + 1) / (self.warmup + 1)
        done = min(1.0, (step - self.warmup) / max(1, steps - self.warmup))
        return self.final + (self.lr - self.final) * (1 + cos(pi * done)) / 2


Schedule = Constant | Cosine
