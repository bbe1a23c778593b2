"""Checkpoints that are written during a training."""

from __future__ import annotations

import os
import re
import time
from functools import partial
from typing import Any

from im2colnet.checks import whole
from im2colnet.errors import ShapeError
from im2colnet.show.display import Progress
from im2colnet.training.callbacks.base import Callback
from im2colnet.training.folder import check_free, write_metrics

SECONDS = {"s": 1.0, "sec": 1.0, "second": 1.0, "min": 60.0, "minute": 60.0, "h": 3600.0, "hour": 3600.0}


class Checkpoints(Callback):
    """Writes ``checkpoint.safetensors`` and ``metrics.jsonl`` after every epoch, and when the training is stopped.

    Parameters
    ----------
    directory : path
        The folder, which exists.
    save_every : int or str, optional
        How often to write the checkpoint within an epoch: a number of steps, or a time such as "10 min".
    """

    def __init__(self, directory: str | os.PathLike[str] | None, save_every: int | str | None = None) -> None:
        self.steps, self.seconds = interval(save_every)
        if directory is None:
            raise ShapeError("save_every needs a folder to write checkpoints to: give fit(..., directory=...) too")
        self.directory = os.fspath(directory)

    def start(self, trainer: Any) -> None:
        self._trainer, self._saved, self._when = trainer, trainer.steps, time.monotonic()

    def step(self, progress: Progress) -> None:
        steps = self._trainer.steps - self._saved
        if (self.steps and steps >= self.steps) or (
            self.seconds is not None and self._trainer.of_first(time.monotonic() - self._when >= self.seconds)
        ):
            self._save()

    def after_epoch(self, record: dict[str, float]) -> None:
        self._save()
        self._trainer.on_first(partial(write_metrics, self.directory, self._trainer.history))

    def end(self) -> None:
        trainer = self._trainer
        # after restore_best or with averages the network does not have the weights of the last step
        if trainer.fitting.outcome != "failed" and (trainer.steps != self._saved or trainer.uses_others):
            self._save()

    def _save(self) -> None:
        trainer = self._trainer
        trainer.save(trainer.on_first(partial(check_free, self.directory, trainer.marks)))
        self._saved, self._when = self._trainer.steps, time.monotonic()


def interval(save_every: Any) -> tuple[int | None, float | None]:
    """Return the number of steps, or the seconds, that ``save_every`` stands for.

    Raises
    ------
    ShapeError
        If it is neither a number of steps nor a time.
    """
    if save_every is None:
        return None, None
    if not isinstance(save_every, (str, os.PathLike)):
        return whole("save_every", save_every), None
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([a-z]*)\s*", str(save_every))
    unit = match[2] if match else "none"
    if match and unit in ("", "step", "steps"):
        return whole("save_every", int(match[1]) if match[1].isdigit() else match[1]), None
    seconds = SECONDS.get(unit) or SECONDS.get(unit.removesuffix("s"))
    if match is None or seconds is None or not float(match[1]):
        raise ShapeError(
            f'save_every must be a number of steps, or a time such as "10 min", "30 s" or "1 h", got {save_every!r}'
        )
    return None, float(match[1]) * seconds
