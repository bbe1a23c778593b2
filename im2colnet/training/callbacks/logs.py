"""Callbacks that write the history to files, and a callback that calls functions."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Callable
from functools import partial
from typing import Any

from im2colnet.checks import whole
from im2colnet.errors import CheckpointError, Im2colnetError, ShapeError, install
from im2colnet.files import replace_file
from im2colnet.show.display import VALIDATION, Progress
from im2colnet.training.callbacks.base import Callback

#: a spreadsheet takes a cell that begins with one of these characters for a formula
FORMULA = ("=", "+", "-", "@", "\t", "\r")


class CSVLog(Callback):
    """Writes the history to a CSV file. The file is rewritten after each epoch, so it is always complete.

    The first line holds the names of the columns. If an epoch has no number for a column, its cell is empty.

    Parameters
    ----------
    path : str or path
        The file. An existing file is overwritten.

    Raises
    ------
    CheckpointError
        In training, if the folder does not exist, or the file cannot be written.

    Examples
    --------
    >>> train, test = ic.datasets.load("digits")
    >>> trainer = ic.Trainer(ic.Sequential([ic.Flatten(), ic.Linear(64, 10)]))
    >>> log = ic.callbacks.CSVLog("history.csv")
    >>> history = trainer.fit(train, 2, callbacks=[log], progress=False)
    >>> with open("history.csv") as file:
    ...     print(file.readline().strip())
    epoch,loss,accuracy,lr,seconds,images_per_second
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = os.fspath(path)

    def start(self, trainer: Any) -> None:
        self._trainer = trainer
        trainer.on_first(self._check)

    def _check(self) -> None:
        folder = os.path.dirname(os.path.abspath(self.path))
        if not os.path.isdir(folder):
            raise CheckpointError(f"CSVLog cannot write {self.path}: there is no folder {folder}")

    def after_epoch(self, record: dict[str, float]) -> None:
        self._trainer.on_first(self._write)

    def _write(self) -> None:
        history = self._trainer.history
        names = list(dict.fromkeys(name for record in history for name in record))
        text = io.StringIO()
        table = csv.writer(text, lineterminator="\n")
        table.writerow([f"'{name}" if name.startswith(FORMULA) else name for name in names])
        table.writerows([record.get(name, "") for name in names] for record in history)
        replace_file(self.path, text.getvalue().encode())


class TensorBoard(Callback):
    """Writes the numbers of each epoch for TensorBoard, with the package tensorboardX (the extra ``tensorboard``).

    ``loss/training`` and ``loss/validation`` are next to each other, and so are the metrics; ``lr``, ``seconds`` and
    ``images_per_second`` are separate. A training that is resumed continues its curves.

    Parameters
    ----------
    folder : str or path, optional
        The folder of the files. The default is the folder ``tensorboard`` in the ``directory`` of `Trainer.fit`.
    every : int, optional
        Write the mean loss of the epoch so far, as ``loss/step``, each time after this number of steps. By default it
        is not written.

    Raises
    ------
    Im2colnetError
        In training, if tensorboardX is not installed.
    ShapeError
        In training, if there is no folder to write to.

    Examples
    --------
    >>> curves = ic.callbacks.TensorBoard("logs/first", every=100)
    >>> trainer.fit(train, epochs=5, callbacks=[curves])  # doctest: +SKIP
    """

    def __init__(self, folder: str | os.PathLike[str] | None = None, every: int | None = None) -> None:
        self.folder, self.every = folder, None if every is None else whole("every", every)
        self._writer: Any = None  #: only rank 0 has one

    def start(self, trainer: Any) -> None:
        directory = trainer.fitting.directory
        if self.folder is None and directory is None:
            raise ShapeError("TensorBoard needs a folder: give TensorBoard(folder), or fit(..., directory=...)")
        self._trainer, self._steps = trainer, trainer.steps
        trainer.on_first(partial(self._open, trainer, os.fspath(self.folder or os.path.join(directory, "tensorboard"))))

    def _open(self, trainer: Any, folder: str) -> None:
        try:
            from tensorboardX import SummaryWriter
        except ImportError as error:
            raise Im2colnetError(f"the callback TensorBoard needs tensorboardX: {install('tensorboard')}") from error
        # if a training was killed and now repeats epochs, their earlier numbers are not drawn again
        again = {"purge_step": trainer.epoch + 1} if trainer.epoch else {}
        suffix = f".{os.getpid()}.{trainer.steps}"  # host and second alone may be the same for two files
        self._writer = SummaryWriter(folder, filename_suffix=suffix, **again)

    def step(self, progress: Progress) -> None:
        if self.every and self._trainer.steps - self._steps >= self.every:
            self._steps = self._trainer.steps
            self._trainer.on_first(lambda: self._writer.add_scalar("loss/step", progress.loss, self._steps))

    def after_epoch(self, record: dict[str, float]) -> None:
        self._trainer.on_first(partial(self._write, record))

    def _write(self, record: dict[str, float]) -> None:
        pairs = {name.removeprefix(VALIDATION) for name in record if name.startswith(VALIDATION)}
        for name, value in record.items():
            of = "validation" if name.startswith(VALIDATION) else "training"
            quantity = name.removeprefix(VALIDATION)
            if name != "epoch":
                tag = f"{quantity}/{of}" if quantity in pairs or quantity == "loss" else name
                self._writer.add_scalar(tag, value, record["epoch"])
        self._writer.flush()

    def end(self) -> None:
        if self._writer is not None:
            self._writer.close()


class Function(Callback):
    """Calls your own functions during training.

    Parameters
    ----------
    on_epoch : callable, optional
        Called with the record of each epoch, to which it may add numbers.
    on_step : callable, optional
        Called with the :class:`~im2colnet.show.display.Progress` after each step.
    on_start : callable, optional
        Called with the trainer before the first step.
    on_end : callable, optional
        Called without arguments when the training has ended.

    Raises
    ------
    ShapeError
        If one of them is not a function.

    Examples
    --------
    >>> import im2colnet as ic
    >>> train, test = ic.datasets.load("digits")
    >>> trainer = ic.Trainer(ic.Sequential([ic.Flatten(), ic.Linear(64, 10)]))
    >>> def shout(record):
    ...     print(f"epoch {record['epoch']} is done")
    >>> shouts = [ic.callbacks.Function(on_epoch=shout)]
    >>> history = trainer.fit(train, 2, callbacks=shouts, progress=False)
    epoch 1 is done
    epoch 2 is done
    """

    def __init__(
        self,
        on_epoch: Callable[[dict[str, float]], Any] | None = None,
        on_step: Callable[[Progress], Any] | None = None,
        on_start: Callable[[Any], Any] | None = None,
        on_end: Callable[[], Any] | None = None,
    ) -> None:
        given = {"on_epoch": on_epoch, "on_step": on_step, "on_start": on_start, "on_end": on_end}
        for name, function in given.items():
            if function is not None and not callable(function):
                raise ShapeError(f"{name} must be a function, got {function!r}")
        self.on_epoch, self.on_step, self.on_start, self.on_end = on_epoch, on_step, on_start, on_end

    def start(self, trainer: Any) -> None:
        if self.on_start:
            self.on_start(trainer)

    def step(self, progress: Progress) -> None:
        if self.on_step:
            self.on_step(progress)

    def epoch(self, record: dict[str, float]) -> None:
        if self.on_epoch:
            self.on_epoch(record)

    def end(self) -> None:
        if self.on_end:
            self.on_end()
