"""The base class of callbacks: objects whose methods `Trainer.fit` calls."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from numbers import Real
from typing import Any

from im2colnet.errors import ShapeError, TrainingWarning
from im2colnet.show.display import RECORDED, Progress

#: the methods that `Trainer.fit` calls; an object needs only some of them
METHODS = ("start", "step", "validate", "weights", "epoch", "after_epoch", "end", "state", "load_state", "say")


class Callback:
    """Base of the objects that `Trainer.fit(callbacks=[...])` calls. Every method is optional: override what you need.

    A callback may change the trainer's ``optimizer`` and ``loss``, freeze parameters, and add numbers to a record.
    ``trainer.stop(reason)`` ends the training after the present step or epoch. A callback may call
    ``trainer.evaluate``, ``trainer.save`` and ``trainer.net.predict``, but not ``trainer.step`` or ``trainer.fit``. An
    error that a callback raises ends the training, and ``fit`` raises it; the next ``fit`` continues from there.

    Callbacks are called in the order of the list: put a callback that adds a number to the record before the callbacks
    that use this number.

    Under ``mpiexec`` every rank calls its own callbacks, and the history holds the numbers that the callbacks of rank 0
    have added. A callback may call ``trainer.evaluate`` and other collective methods, if it does so on every rank. It
    should write files and print only where ``trainer.rank == 0``, or use ``trainer.on_first(function)``, which also
    raises an error of the function on every rank.

    Examples
    --------
    >>> import im2colnet as ic
    >>> class Halve(ic.Callback):
    ...     def start(self, trainer):
    ...         self.trainer = trainer
    ...
    ...     def epoch(self, record):
    ...         if record["loss"] > 1:
    ...             half = self.trainer.optimizer.schedule(0, 1) / 2
    ...             self.trainer.optimizer = ic.SGD(half, momentum=0.9)
    """

    @property
    def name(self) -> str:
        """The name of the callback's state in a checkpoint; a second callback of the same name gets a number."""
        return type(self).__name__

    def start(self, trainer: Any) -> None:
        """Prepare for the training; called once, before the first step. ``trainer.fitting`` has the arguments of `fit`.

        A callback that was used before resets itself here; if the training continues, a call of :meth:`load_state`
        follows.

        Parameters
        ----------
        trainer : Trainer
            The trainer, which the callback may keep.
        """

    def step(self, progress: Progress) -> None:
        """Called after each step. The network has the trained weights.

        Parameters
        ----------
        progress : Progress
            The progress of the training, with the mean loss of the epoch so far.
        """

    def validate(self) -> None:
        """Called after the last step of an epoch, before its validation; called again if the validation has failed."""

    def weights(self) -> Any:
        """Return the weights that are evaluated and saved in place of the trained weights, or None.

        Returns
        -------
        Weights or None
            An object of ``im2colnet.training.weights``, a copy of all parameters and state. At most one callback may
            return weights.
        """

    def epoch(self, record: dict[str, float]) -> None:
        """Called after the validation of an epoch, before its record is added to the history.

        The network has the weights that were evaluated: the averages, if a callback keeps any.

        Parameters
        ----------
        record : dict of str to float
            The measurements of the epoch: see :class:`History`. The callback may add numbers to it.
        """

    def after_epoch(self, record: dict[str, float]) -> None:
        """Called after the record is added to the history, before the checkpoint is written.

        Parameters
        ----------
        record : dict of str to float
            The measurements of the epoch, with the numbers that callbacks have added.
        """

    def end(self) -> None:
        """Clean up; always called at the end. ``trainer.fitting.outcome`` says how the training ended."""

    def state(self) -> dict[str, Any]:
        """Return the state for a checkpoint: a dict of values that JSON can hold, and of NumPy arrays of floats.

        Returns
        -------
        dict of str to object
            The state; empty by default.
        """
        return {}

    def load_state(self, state: dict[str, Any]) -> None:
        """Restore the state that :meth:`state` returned; called after :meth:`start` if a training continues.

        Parameters
        ----------
        state : dict of str to object
            The state that was kept, for example in a checkpoint.
        """

    def say(self, text: str) -> None:
        """Receive a message about the training, for example why it ends. Displays show it.

        Parameters
        ----------
        text : str
            The message.
        """


@dataclass
class Fitting:
    """The arguments of a call of `Trainer.fit`, and how it ended: ``trainer.fitting``, for callbacks.

    Parameters
    ----------
    loader : Loader or None
        The batches of the training data; its length is the number of batches in an epoch. None after the training has
        ended.
    epochs : int
        The total number of epochs.
    validation : Dataset or None
        The validation data; None if there are none, and after the training has ended.
    directory : str or None
        The folder of the checkpoint.
    outcome : {"completed", "stopped", "interrupted", "failed"}
        How the training ended: "stopped" by ``trainer.stop``, "interrupted" by Ctrl-C or SIGTERM, "failed" by an error.
        It is "failed" too while the training runs.
    reason : str or None
        The reason that ``trainer.stop`` was called with.
    heeds_steps : bool
        Whether there are callbacks that may stop the training after a step.
    """

    loader: Any
    epochs: int
    validation: Any = None
    directory: str | None = None
    outcome: str = "failed"
    reason: str | None = None
    heeds_steps: bool = False


class Callbacks:
    """Several callbacks as one.

    Parameters
    ----------
    members : iterable
        Objects that have some of the methods of :class:`Callback`.
    """

    def __init__(self, members: Iterable[Any]) -> None:
        self.members: dict[str, Any] = {}
        self._ends: list[Callable[[], None]] = []
        self._trainer: Any = None
        if not isinstance(members, Iterable) or isinstance(members, (str, bytes, Mapping)):
            raise ShapeError(f"callbacks must be a list: callbacks=[...], got {members!r:.80}")
        for member in members:
            if isinstance(member, type) or not any(callable(getattr(member, method, None)) for method in METHODS):
                raise ShapeError(
                    "callbacks must be objects with methods such as epoch(record), of a class derived from"
                    f" ic.Callback, got {member!r:.80}"
                )
            name, number = str(getattr(member, "name", None) or type(member).__name__).replace(".", "_"), 1
            if any(member is other for other in self.members.values()):
                raise ShapeError(f"the same {name} is in callbacks twice: make another object")
            while (full := f"{name}-{number}" if number > 1 else name) in self.members:
                number += 1
            self.members[full] = member

    def having(self, method: str) -> Iterator[tuple[str, Callable[..., Any]]]:
        """Yield the name and the bound method of each callback that has the method."""
        for name, member in self.members.items():
            found = getattr(member, method, None)
            if found is not None:
                yield name, found

    @contextmanager
    def called(self) -> Iterator[None]:
        """At the end of the block call the ``end`` of each callback that was started, even if another one raises."""
        try:
            yield
        finally:
            _call_all(self._ends)

    def start(self, trainer: Any, states: Mapping[str, dict[str, Any]]) -> None:
        """Start each callback, and restore its state if there is one."""
        self._trainer = trainer
        averaging = [name for name, get in self.having("weights") if _is_own(get, Callback.weights)]
        if len(averaging) > 1:
            raise ShapeError(f"only one callback can average the weights, got {' and '.join(averaging)}")
        for name, member in self.members.items():
            if hasattr(member, "start"):
                member.start(trainer)
            if hasattr(member, "end"):
                self._ends.append(member.end)
            if states.get(name) and hasattr(member, "load_state"):
                member.load_state(states[name])

    def step(self, progress: Progress) -> None:
        """Call each ``step``."""
        for _, step in self.having("step"):
            self._trainer.train_own()  # the callback before may have evaluated averages
            step(progress)

    def validate(self) -> None:
        """Call each ``validate``."""
        for _, validate in self.having("validate"):
            self._trainer.train_own()
            validate()

    def weights(self) -> Any:
        """Return the weights of the one callback that has any, or None."""
        found = (get() for _, get in self.having("weights"))
        return next((weights for weights in found if weights is not None), None)

    def epoch(self, record: dict[str, float]) -> None:
        """Call each ``epoch``, and check the record that they have made."""
        for name, epoch in self.having("epoch"):
            before = dict(record)
            epoch(record)
            missing = [key for key in RECORDED if key not in record]
            if missing:
                raise ShapeError(f"the callback {name} has removed {', '.join(missing)} from the record")
            for key, value in [*record.items()]:
                if value is before.get(key, record):
                    continue
                record[key] = found = _number(name, key, value)
                if found - found != 0 and key not in RECORDED:
                    del record[key]
                    text = f"{key} is {found} after epoch {record['epoch']}: the history does not hold it"
                    warnings.warn(f"callback {name}: {text}", TrainingWarning, stacklevel=6)

    def after_epoch(self, record: dict[str, float]) -> None:
        """Call each ``after_epoch``."""
        for _, after in self.having("after_epoch"):
            after(record)

    def say(self, text: str) -> bool:
        """Call each ``say``; return whether any callback overrides it, and so may have shown the message."""
        shown = False
        for _, say in self.having("say"):
            say(text)
            shown |= _is_own(say, Callback.say)
        return shown

    def states(self) -> dict[str, Callable[[], dict[str, Any]]]:
        """Return the function that returns the state, for each callback that may have a state."""
        return dict(self.having("state"))


def _is_own(method: Any, base: Any) -> bool:
    """Return whether a bound method overrides the method of the base class."""
    return getattr(method, "__func__", None) is not base


def _call_all(functions: Sequence[Callable[[], None]]) -> None:
    """Call each function, even if another function raises; an error has the earlier errors as its context."""
    if functions:
        try:
            functions[0]()
        finally:
            _call_all(functions[1:])


def lost(name: str) -> str:
    """Return the message of `Trainer.fit` about a missing callback that has kept a state."""
    return (
        f"the callback {name} took part in this training, and fit was not given it again: its state, such as"
        " averages of the weights, is lost"
    )


def _number(name: str, key: Any, value: Any) -> float:
    if type(value) in (float, int):
        return value  # type: ignore[no-any-return]
    if isinstance(key, str) and not isinstance(value, (str, bytes, bool)):
        found = value.item() if getattr(value, "size", 0) == 1 else value  # of any array module
        if isinstance(found, Real) and not isinstance(found, bool):
            return float(found)
    raise ShapeError(f"the callback {name} must add numbers by name to the record, got {key!r}: {value!r:.80}")
