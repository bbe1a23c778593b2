"""What a training tells a display while it runs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


@dataclass
class Progress:
    """Where training stands, for a display."""

    epoch: int  #: from 1
    epochs: int
    batch: int  #: done in this epoch
    batches: int
    loss: float  #: mean over the epoch so far
    accuracy: float
    images_per_second: float
    seconds_left: float


class Display(Protocol):
    """Shows progress.

    A display with a method ``say(text)`` also gets what :meth:`Trainer.fit` has to say about a training that goes on
    in another way than it began; without one, that is a :class:`~im2colnet.TrainingWarning`.
    """

    def step(self, progress: Progress) -> None:
        """After each step."""

    def epoch(self, record: dict[str, float]) -> None:
        """After each epoch."""
