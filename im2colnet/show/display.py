"""What a training tells its display."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from math import nan
from typing import Protocol

from im2colnet.text import printable

#: what the record of an epoch holds beside what the loss counts
RECORDED = ("epoch", "loss", "lr", "seconds", "images_per_second")
VALIDATION = "validation_"  #: how the names of a record begin that were measured on held-out data


def metrics(record: Collection[str]) -> list[str]:
    """Return the names of what was measured beside the loss, such as ``accuracy``, in the record of an epoch.

    What was measured on held-out data alone comes last, without the ``validation_`` of its key.
    """
    own = [name for name in record if not name.startswith(VALIDATION)]
    held_out = [name.removeprefix(VALIDATION) for name in record if name.startswith(VALIDATION)]
    return [name for name in dict.fromkeys([*own, *held_out]) if name not in RECORDED]


def quantities(history: Sequence[Mapping[str, float]]) -> list[str]:
    """Return the names of what the epochs of a history have: the loss, and what was measured beside it."""
    return ["loss", *metrics([*dict.fromkeys(name for record in history for name in record)])]


def form(name: str, digits: int = 2) -> str:
    """Return how to format what is measured under a name: an accuracy in percent, anything else as a number."""
    return f".{digits}%" if name.endswith("accuracy") else ".4f"


def cells(record: Mapping[str, float], held_out: str = "val") -> dict[str, str]:
    """Return the titles and the texts of what was measured in an epoch.

    ``held_out`` is the word for what was measured on held-out data, so that "validation_loss" has the title "val loss".
    """
    found = {}
    for prefix, word in (("", ""), (VALIDATION, f"{held_out} ")):
        for name in ("loss", *metrics(record)):
            if prefix + name in record:
                found[printable(f"{word}{name}".replace("_", " "))] = f"{record[prefix + name]:{form(name)}}"
    return found


def metrics_text(measured: Mapping[str, float]) -> str:
    """Return in words what was measured: "loss 0.1234, accuracy 98.76%"."""
    return ", ".join(f"{name.replace('_', ' ')} {value:{form(name)}}" for name, value in measured.items())


@dataclass
class Progress:
    """How far a training has come.

    Parameters
    ----------
    epoch : int
        The epoch under way, from 1.
    epochs : int
        The number of epochs in all.
    batch : int
        How many batches of this epoch are done.
    batches : int
        The number of batches of an epoch.
    loss : float
        The mean loss over the epoch so far.
    metrics : dict of str to float
        Means over the epoch so far of what the loss counts, such as ``accuracy``.
    images_per_second : float
        The speed over the epoch so far.
    seconds_left : float
        How long the whole training will take from here, at this speed.
    """

    epoch: int
    epochs: int
    batch: int
    batches: int
    loss: float
    metrics: Mapping[str, float]
    images_per_second: float
    seconds_left: float

    @property
    def accuracy(self) -> float:
        """The share of right predictions in the epoch so far; NaN if the loss does not count them."""
        return self.metrics.get("accuracy", nan)


class Display(Protocol):
    """Shows progress. It may have other methods of an ``ic.Callback`` too, such as ``start(trainer)`` and ``end()``.

    If a training goes on in another way than it began, :meth:`im2colnet.Trainer.fit` says so by the display's method
    ``say(text)``, or, if the display has none, by a :class:`~im2colnet.TrainingWarning`.
    """

    def step(self, progress: Progress) -> None:
        """After each step."""

    def epoch(self, record: dict[str, float]) -> None:
        """After each epoch."""
