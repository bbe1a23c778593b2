"""Averages of the weights during training, which often predict better than the weights of the last step."""

from __future__ import annotations

from typing import Any

from im2colnet.checks import number, whole
from im2colnet.errors import ShapeError
from im2colnet.show.display import Progress
from im2colnet.training.callbacks.base import Callback
from im2colnet.training.statistics import renew_statistics
from im2colnet.training.weights import Weights, beneath

#: the prefix of the names of weights in the state of a callback
WEIGHTS = "weights."


class Averages(Callback):
    """Base of EMA and SWA: averaged weights, which are evaluated and saved in place of the trained weights."""

    def start(self, trainer: Any) -> None:
        self.trainer, self.averages = trainer, Weights(trainer.net.held)
        self.count = 0  #: the number of weights in the average

    def weights(self) -> Weights | None:
        return self.averages if self.count else None

    def state(self) -> dict[str, Any]:
        return {"count": self.count, **stored(self.averages)}

    def load_state(self, state: dict[str, Any]) -> None:
        count = whole_entry(self, "count", state)
        self.averages.load_state_dict(restored(state))
        self.count = count


class EMA(Averages):
    """Exponential moving average of the weights: after each update ``average = d · average + (1 - d) · weights``.

    In validation, in checkpoints and after ``fit`` the network has the averages. Training continues with the trained
    weights, which checkpoints hold too. The n-th update's ``d`` is the smaller of ``decay`` and ``(1 + n) / (10 + n)``,
    so that the first weights, which are random, are soon forgotten. Running statistics of batch norms are averaged like
    weights. (Polyak, Juditsky 1992, doi:10.1137/0330046; with these ``d`` and statistics Tan, Le 2019,
    arXiv:1905.11946.)

    Parameters
    ----------
    decay : float
        The decay rate, at least 0 and less than 1. The average covers about ``1 / (1 - decay)`` steps: 0.999 suits a
        training of some thousands of steps.

    Raises
    ------
    ShapeError
        If the decay is out of its range, or another callback averages the weights too.

    Examples
    --------
    >>> train, test = ic.datasets.load("digits")
    >>> net = ic.Sequential([ic.Flatten(), ic.Linear(64, 10)])
    >>> trainer = ic.Trainer(net, optimizer=ic.SGD(0.5), seed=0)
    >>> average = ic.callbacks.EMA(0.98)
    >>> history = trainer.fit(train, 3, callbacks=[average], progress=False)
    >>> trainer.uses_others                     # the network has the averages
    True
    """

    def __init__(self, decay: float = 0.999) -> None:
        self.decay = number("decay", decay, below=1)

    def start(self, trainer: Any) -> None:
        super().start(trainer)
        self._step = trainer.updates  # the last update whose weights are in the average

    def step(self, progress: Progress) -> None:
        self._average()

    def _average(self) -> None:
        if self.trainer.updates == self._step:  # the gradients of several steps are added up
            return
        n = self.count + 1
        with self.trainer.changing():
            self.averages.approach(1 - min(self.decay, (1 + n) / (10 + n)))
            self.count, self._step = n, self.trainer.updates

    def state(self) -> dict[str, Any]:
        return super().state() | {"step": self._step}

    def load_state(self, state: dict[str, Any]) -> None:
        super().load_state(state)
        self._step = whole_entry(self, "step", state)
        self._average()  # if an error came between a step and its average


class SWA(Averages):
    """Stochastic weight averaging: the mean of the weights after each epoch from ``start`` on.

    See Izmailov et al. 2018, arXiv:1803.05407. Use a learning rate that stays high in these epochs, such as
    ``ic.Constant``. In validation, in checkpoints and after ``fit`` the network has the averages. Training continues
    with the trained weights, which checkpoints hold too. The running statistics of batch norms are computed again for
    the averages, in one more pass over the training images, as in the paper: this takes about as long as an epoch.
    Networks without batch norm need no such pass.

    Parameters
    ----------
    start : float or int
        The first epoch whose weights are averaged: its number as an int, from 1, or a fraction of the training as a
        float below 1, such as 0.75.

    Raises
    ------
    ShapeError
        If ``start`` is out of its range or after the last epoch, or another callback averages the weights too.

    Examples
    --------
    >>> train, test = ic.datasets.load("digits")
    >>> net = ic.Sequential([ic.Flatten(), ic.Linear(64, 10)])
    >>> trainer = ic.Trainer(net, optimizer=ic.SGD(0.5), seed=0)
    >>> mean = ic.callbacks.SWA(start=2)        # of the epochs 2 and 3
    >>> history = trainer.fit(train, 3, callbacks=[mean], progress=False)
    >>> mean.count
    2
    """

    def __init__(self, start: float = 0.75) -> None:
        part = isinstance(start, float) and 0 <= start < 1
        self.first = start if part else whole("start, unless it is a part of the training below 1,", start)

    def start(self, trainer: Any) -> None:
        super().start(trainer)
        self._epoch = 0  # the last epoch whose weights are in the average
        epochs = trainer.fitting.epochs
        self._first = self.first if isinstance(self.first, int) else 1 + int(self.first * epochs)
        if self._first > epochs:
            raise ShapeError(f"SWA(start={self.first}) would never begin, since fit is asked for epochs={epochs}")

    def validate(self) -> None:
        trainer, epoch = self.trainer, self.trainer.epoch + 1
        if epoch < self._first:
            return
        if epoch != self._epoch:  # else the validation has failed and is repeated
            with trainer.changing():
                if self.count:
                    self.averages.approach(1 / (self.count + 1))
                else:
                    self.averages.read()
                self.count, self._epoch = self.count + 1, epoch
        trainer.use(self.averages)
        if renew_statistics(trainer):
            self.averages.read()

    def state(self) -> dict[str, Any]:
        return super().state() | {"epoch": self._epoch}

    def load_state(self, state: dict[str, Any]) -> None:
        super().load_state(state)
        self._epoch = whole_entry(self, "epoch", state)


def whole_entry(callback: Callback, name: str, state: dict[str, Any]) -> int:
    """Return a whole number of a state, or raise a CheckpointError if it is missing or something else."""
    from im2colnet.training.checkpoint import entry

    found: int = entry(name, state, int, f"callbacks.{callback.name}")
    return found


def stored(weights: Weights | None) -> dict[str, Any]:
    """Return weights as part of a callback's state."""
    return {} if weights is None else {f"{WEIGHTS}{name}": array for name, array in weights.state_dict().items()}


def restored(state: dict[str, Any]) -> dict[str, Any]:
    """Return the arrays of the weights that are part of a callback's state."""
    return beneath(WEIGHTS, state)
