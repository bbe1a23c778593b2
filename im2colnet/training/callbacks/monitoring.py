"""Callbacks that monitor a number of the history: they end a training that does not improve, or keep its best epoch."""

from __future__ import annotations

import os
from functools import partial
from math import inf, isfinite
from typing import Any

from im2colnet.checks import number, one_of, truth_value, whole
from im2colnet.errors import CheckpointError, ShapeError
from im2colnet.show.display import VALIDATION
from im2colnet.training.callbacks.averaging import restored, stored
from im2colnet.training.callbacks.base import Callback
from im2colnet.training.folder import BEST, CHECKPOINT
from im2colnet.training.weights import Weights

#: if a name ends with one of these words, a larger number is better; for all other names a smaller number is
MORE_IS_BETTER = (
    *("accuracy", "precision", "recall", "f1", "f1_score", "iou", "dice", "r2", "r2_score", "auc", "score", "kappa"),
    *("top1", "top3", "top5", "top_k"),
)


class Monitor(Callback):
    """Base of the callbacks that compare a number of each epoch with the best number so far."""

    def __init__(self, monitor: str, mode: str | None, min_delta: float = 0.0) -> None:
        if not isinstance(monitor, str):
            raise ShapeError(f"monitor must be a name of the history, such as 'validation_loss', got {monitor!r}")
        self.monitor, self.min_delta = monitor, number("min_delta", min_delta)
        self.mode = one_of("mode", mode, "min", "max", None)

    @property
    def more_is_better(self) -> bool:
        """Whether a larger number is better."""
        return self.mode == "max" if self.mode else self.monitor.endswith(MORE_IS_BETTER)

    def start(self, trainer: Any) -> None:
        self.trainer = trainer
        self.best: float | None = None  #: the best number so far
        self.best_epoch = 0  #: the epoch of the best number, from 1; 0 before there is one
        known = [f"{VALIDATION}{name}" for name in ("loss", *trainer.loss.metrics, *trainer.metrics)]
        if self.monitor in known and trainer.fitting.validation is None:
            raise ShapeError(
                f"{self.name} watches {self.monitor!r}, which needs validation data: give fit(..., validation=...), or"
                f" watch the training by monitor={self.monitor.removeprefix(VALIDATION)!r}"
            )

    def is_best(self, record: dict[str, float]) -> bool:
        """Return whether the number of a record is better than all earlier numbers.

        A number that is not finite is in no record, and is no improvement.
        """
        if self.monitor not in record:
            if self.best_epoch or any(self.monitor in earlier for earlier in self.trainer.history):
                return False
            raise ShapeError(
                f"{self.name} watches {self.monitor!r}, which is not in the record of the epoch: there are"
                f" {', '.join(record)}"
            )
        value = float(record[self.monitor])
        gain = 0.0 if self.best is None else (value - self.best) * (1 if self.more_is_better else -1)
        return isfinite(value) and (self.best is None or gain > self.min_delta)

    def keep(self, record: dict[str, float]) -> None:
        """Keep the number of a record as the best one."""
        self.best, self.best_epoch = float(record[self.monitor]), int(record["epoch"])

    def state(self) -> dict[str, Any]:
        return {"monitor": self.monitor, "best": self.best, "best_epoch": self.best_epoch}

    def load_state(self, state: dict[str, Any]) -> None:
        from im2colnet.training.checkpoint import entry

        if state.get("monitor") == self.monitor:  # else the best number was of another quantity
            place = f"callbacks.{self.name}"
            best = state.get("best")
            self.best = None if best is None else float(number(f"{place}.best", best, least=-inf))
            self.best_epoch = entry("best_epoch", state, int, place)


class EarlyStopping(Monitor):
    """Stops the training when a number has not improved for some epochs (Prechelt 1998, doi:10.1007/3-540-49430-8_3).

    A training that it has stopped can continue with a larger ``patience``, or without this callback.

    Parameters
    ----------
    monitor : str
        The name of the number in the history, such as ``"validation_loss"``.
    patience : int
        The number of epochs without an improvement after which the training ends.
    min_delta : float
        The smallest improvement: only a number that is better by more than ``min_delta`` is an improvement.
    restore_best : bool
        Whether the network gets the weights of the best epoch at the end of the training, even if this callback did not
        stop it. The checkpoint has them too, in addition to the trained weights, with which training can continue.
    mode : {"min", "max"}, optional
        Whether a smaller or a larger number is better. By default a larger number is better if the name ends in the
        name of a score, such as "accuracy", "f1" or "iou"; for all other names a smaller number is better.

    Raises
    ------
    ShapeError
        If an argument is out of its range; in training, if the history has no such number.

    Examples
    --------
    >>> train, test = ic.datasets.load("digits")
    >>> trainer = ic.Trainer(ic.Sequential([ic.Flatten(), ic.Linear(64, 10)]))
    >>> patient = ic.callbacks.EarlyStopping("validation_accuracy", 2)
    >>> history = trainer.fit(
    ...     train, 50, validation=test, callbacks=[patient], progress=False
    ... )
    >>> trainer.fitting.outcome, trainer.epoch - patient.best_epoch
    ('stopped', 2)
    """

    def __init__(
        self,
        monitor: str = "validation_loss",
        patience: int = 5,
        min_delta: float = 0.0,
        restore_best: bool = False,
        mode: str | None = None,
    ) -> None:
        super().__init__(monitor, mode, min_delta)
        self.patience, self.restore_best = whole("patience", patience), truth_value("restore_best", restore_best)

    def start(self, trainer: Any) -> None:
        super().start(trainer)
        self._best_weights: Weights | None = None

    def epoch(self, record: dict[str, float]) -> None:
        if self.is_best(record):
            if self.restore_best and self._best_weights is None:
                self._best_weights = Weights(self.trainer.net.held)
            elif self._best_weights is not None:
                self._best_weights.read()
            self.keep(record)  # after the weights: should reading them fail, the next fit does this again
        else:
            self._stop_after(int(record["epoch"]))

    def _stop_after(self, epoch: int) -> None:
        if self.best_epoch and epoch - self.best_epoch >= self.patience:
            self.trainer.stop(
                f"{self.monitor.replace('_', ' ')} has not improved since epoch {self.best_epoch}"
                f" ({self.best:.4g})" + ", whose weights the network has now" * self.restore_best
            )

    def end(self) -> None:
        done = self.trainer.fitting.outcome in ("completed", "stopped")
        if done and self._best_weights is not None and self.best_epoch != self.trainer.epoch:
            self.trainer.use(self._best_weights)

    def state(self) -> dict[str, Any]:
        return super().state() | stored(self._best_weights)

    def load_state(self, state: dict[str, Any]) -> None:
        super().load_state(state)
        arrays = restored(state)
        if self.restore_best and self.best_epoch and arrays:
            self._best_weights = Weights(self.trainer.net.held)
            self._best_weights.load_state_dict(arrays)
        self._stop_after(self.trainer.epoch)


class KeepBest(Monitor):
    """Saves the checkpoint of the best epoch: writes ``best.safetensors`` whenever a number has improved.

    The file is in the ``directory`` of `Trainer.fit`. It is a checkpoint of the end of its epoch, with the weights that
    were evaluated.

    Parameters
    ----------
    monitor : str
        The name of the number in the history, such as ``"validation_loss"``.
    mode : {"min", "max"}, optional
        Whether a smaller or a larger number is better. By default a larger number is better if the name ends in the
        name of a score, such as "accuracy", "f1" or "iou"; for all other names a smaller number is better.
    path : str or path, optional
        The file to write in place of ``best.safetensors`` in ``directory``; an existing file is overwritten.

    Raises
    ------
    ShapeError
        If an argument is out of its range; in training, if there is no folder to write to, or the history has no such
        number.
    CheckpointError
        In training, if the folder has the best checkpoint of another training.

    Examples
    --------
    >>> train, test = ic.datasets.load("digits")
    >>> trainer = ic.Trainer(ic.Sequential([ic.Flatten(), ic.Linear(64, 10)]))
    >>> path = "best.safetensors"
    >>> best = ic.callbacks.KeepBest("validation_accuracy", path=path)
    >>> history = trainer.fit(
    ...     train, 5, validation=test, callbacks=[best], progress=False
    ... )
    >>> kept = ic.Trainer.load(path)
    >>> kept.evaluate(test)["accuracy"] == max(history["validation_accuracy"])
    True
    """

    def __init__(
        self, monitor: str = "validation_loss", mode: str | None = None, path: str | os.PathLike[str] | None = None
    ) -> None:
        super().__init__(monitor, mode)
        self.path = path

    def start(self, trainer: Any) -> None:
        super().start(trainer)
        folder = trainer.fitting.directory
        if self.path is None and folder is None:
            raise ShapeError("KeepBest needs a folder to write to: give fit(..., directory=...), or KeepBest(path=...)")
        self._file = os.fspath(self.path or os.path.join(folder, BEST))
        if self.path is None:
            trainer.on_first(partial(self._check_free, folder))

    def _check_free(self, folder: str) -> None:
        from im2colnet.training.checkpoint import mark_of

        # a checkpoint in the same folder belongs to this trainer, or fit would have refused the folder
        owned = os.path.exists(os.path.join(folder, CHECKPOINT)) or mark_of(self._file) in self.trainer.marks
        if os.path.exists(self._file) and not owned:
            raise CheckpointError(
                f"{self._file} is not overwritten: it belongs to another training. Give another directory, or move it"
                " away"
            )

    def after_epoch(self, record: dict[str, float]) -> None:
        if self.is_best(record):
            self.keep(record)
            self.trainer.save(self._file)
