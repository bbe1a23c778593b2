"""Where a training stands."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from im2colnet.errors import CheckpointError

NEEDED = "step", "epoch", "total", "batch_size", "partial"  # entries that the state in every checkpoint has


@dataclass
class _Epoch:
    """Sums over the part of an epoch that is done."""

    batch: int = 0
    steps: int = 0  #: batches of the whole epoch
    loss: float = 0.0
    metrics: dict[str, float] = field(default_factory=dict)  #: what the loss has counted in every batch so far
    images: int = 0
    seconds: float = 0.0

    def count(self, loss: float, counts: dict[str, float], images: int) -> None:
        """Add a batch: its mean loss, what the loss has counted in it, and its number of images."""
        before = self.metrics if self.batch else dict.fromkeys(counts, 0.0)
        self.metrics = {name: before[name] + counts[name] for name in counts if name in before}
        self.batch += 1
        self.images += images
        self.loss += loss * images

    def means(self) -> dict[str, float]:
        """Return what the loss has counted, by image."""
        return {name: total / self.images for name, total in self.metrics.items()}

    def describe(self) -> dict[str, Any]:
        """Return it as JSON, with ``correct`` for versions that do not know ``metrics``."""
        return vars(self) | {"correct": self.metrics.get("accuracy", 0.0)}


@dataclass
class LossScale:
    """The factor of the loss, so that gradients of float16 do not underflow (arXiv:1710.03740, section 3.2).

    It is halved when a gradient overflows, and doubled after 2000 steps in which none did.
    """

    value: float = 2.0**16
    steps: int = 0  #: how many steps were made since the factor changed

    def update(self, overflowed: bool) -> None:
        """Change the factor after a step."""
        self.steps += 1
        if overflowed or self.steps == 2000:
            self.value, self.steps = self.value * (0.5 if overflowed else 2), 0


@dataclass
class _State:
    step: int = 0
    epoch: int = 0  #: epochs completed
    #: number of steps of all epochs asked for, if each has as many as the present one; schedules are told it
    total: int | None = None
    batch_size: int | None = None
    drop_last: bool = False
    partial: _Epoch = field(default_factory=_Epoch)
    scale: LossScale = field(default_factory=LossScale)  #: changes in float16 only


def _check_progress(state: _State) -> None:
    """Raise a CheckpointError if the numbers of a state contradict each other."""
    done = state.partial
    if (
        done.batch > done.steps
        or (done.batch > 0) != (done.images > 0)
        or (done.batch > 0 and not state.batch_size)
        or done.seconds < 0
        or state.scale.value < 1
    ):
        raise CheckpointError("it is damaged: the numbers in state contradict each other")
