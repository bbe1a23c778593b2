"""The interface between a training and its display."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from math import nan
from typing import Protocol

from im2colnet.text import printable

#: the names in the record of an epoch that are not metrics of the loss
RECORDED = ("epoch", "loss", "lr", "seconds", "images_per_second")
VALIDATION = "validation_"  #: how the names of a record begin that were measured on held-out data


def metrics(record: Collection[str]) -> list[str]:
    """Return the names of the metrics in the record of an epoch, such as ``accuracy``, without the loss.

    Metrics that were measured on held-out data only come last, without the ``validation_`` of their keys.
    """
    own = [name for name in record if not name.startswith(VALIDATION)]
    held_out = [name.removeprefix(VALIDATION) for name in record if name.startswith(VALIDATION)]
    return [name for name in dict.fromkeys([*own, *held_out]) if name not in RECORDED]


def quantities(history: Sequence[Mapping[str, float]]) -> list[str]:
    """Return the names of the quantities in a history: the loss, and the metrics."""
    return ["loss", *metrics([*dict.fromkeys(name for record in history for name in record)])]


def form(name: str, digits: int = 2) -> str:
    """Return the format of a metric: percent for an accuracy, a number for any other metric."""
    return f".{digits}%" if name.endswith("accuracy") else ".4f"


def cells(record: Mapping[str, float], held_out: str = "val") -> dict[str, str]:
    """Return the titles and texts of the metrics of an epoch.

    ``held_out`` is the prefix for metrics on held-out data, so that "validation_loss" has the title "val loss".
    """
    found = {}
    for prefix, word in (("", ""), (VALIDATION, f"{held_out} ")):
        for name in ("loss", *metrics(record)):
            if prefix + name in record:
                found[printable(f"{word}{name}".replace("_", " "))] = f"{record[prefix + name]:{form(name)}}"
    return found


def metrics_text(measured: Mapping[str, float]) -> str:
    """Return the metrics in words: "loss 0.1234, accuracy 98.76%"."""
    return ", ".join(f"{name.replace('_', ' ')} {value:{form(name)}}" for name, value in measured.items())


@dataclass
class Progress:
    """The progress of a training.

    Parameters
    ----------
    epoch : int
        The number of the current epoch, from 1.
    epochs : int
        The total number of epochs.
    batch : int
        The number of batches of this epoch that are done.
    batches : int
        The number of batches in an epoch.
    loss : float
        The mean loss over the epoch so far.
    metrics : dict of str to float
        The means of the metrics over the epoch so far, such as ``accuracy``.
    images_per_second : float
        The speed in this epoch so far, in images per second.
    seconds_left : float
        The estimated time until the end of the training, in seconds.
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
        """The fraction of correct predictions in the epoch so far; NaN if the loss does not measure it."""
        return self.metrics.get("accuracy", nan)


class Display(Protocol):
    """A display shows progress. It may also have other methods of an ``ic.Callback``, such as ``start(trainer)``.

    If a training does not continue as it began, for example with another number of epochs,
    :meth:`im2colnet.Trainer.fit` calls the display's method ``say(text)``. If the display has no such method, ``fit``
    gives a :class:`~im2colnet.TrainingWarning`.
    """

    def step(self, progress: Progress) -> None:
        """Called after each step."""

    def epoch(self, record: dict[str, float]) -> None:
        """Called after each epoch."""
