"""The one seam of a training: objects whose methods `Trainer.fit` calls."""

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
    """Base of the objects that `Trainer.fit(callbacks=[...])` calls. Override what you need: every method is optional.

    A callback may change the trainer's ``optimizer`` and ``loss``, freeze parameters, and add numbers to a record.
    ``trainer.stop(reason)`` ends the training after the present step or epoch. It may call ``trainer.evaluate``,
    ``trainer.save`` and ``trainer.net.predict``, but not ``trainer.step`` or ``trainer.fit``. An error that a
    callback raises ends the training and reaches the caller as it is; the next ``fit`` goes on from there.

    Callbacks are called in the order of the list: put those that measure before those that use what was measured.

    Under ``mpiexec`` every rank calls its own callbacks, and the history holds what those of rank 0 have added to a
    record. A callback may call ``trainer.evaluate`` and other collective methods, if it does so on every rank. It
    writes a file or prints a text where ``trainer.rank == 0``; ``trainer.on_first(function)`` does that too, and raises
    an error of the function on every rank.

    Examples
    --------
    >>> import im2colnet as ic
    >>> class Halve(ic.Callback):
    ...     def start(self, trainer):
    ...         self.trainer = trainer
    ...
    ...     def epoch(self, record):
    ...         if record["loss"] > 1:
    ...             self.trainer.optimizer = ic.SGD(self.trainer.optimizer.schedule(0, 1) / 2, momentum=0.9)
    """

    @property
    def name(self) -> str:
        """The name under which a checkpoint keeps its state; a second callback of the same name gets a number."""
        return type(self).__name__

    def start(self, trainer: Any) -> None:
        """Begin: called once, before the first step. ``trainer.fitting`` says what `fit` was asked for.

        An object that has been used before forgets that here; if the training goes on, :meth:`load_state` follows.

        Parameters
        ----------
        trainer : Trainer
            The trainer, which the callback may keep.
        """

    def step(self, progress: Progress) -> None:
        """After each step. The network has the weights that are trained.

        Parameters
        ----------
        progress : Progress
            How far the training is, with the mean loss of the epoch so far.
        """

    def validate(self) -> None:
        """After the last step of an epoch, before its validation. It may be called again if the validation fails."""

    def weights(self) -> Any:
        """Return the weights that are evaluated and saved in place of those that are trained, or None.

        Returns
        -------
        Weights or None
            An object of ``im2colnet.training.weights``, a copy of all parameters and state; of one callback at most.
        """

    def epoch(self, record: dict[str, float]) -> None:
        """After the validation of an epoch, before its record is in the history.

        The network has the weights that were evaluated: the averages, if a callback keeps any.

        Parameters
        ----------
        record : dict of str to float
            What was measured: see :class:`History`. Numbers may be added to it.
        """

    def after_epoch(self, record: dict[str, float]) -> None:
        """After the record is in the history, before the checkpoint is written.

        Parameters
        ----------
        record : dict of str to float
            What was measured, with all that callbacks have added.
        """

    def end(self) -> None:
        """Clean up, whatever the end: ``trainer.fitting.outcome`` says how the training ended."""

    def state(self) -> dict[str, Any]:
        """Return what a checkpoint keeps: a dict of what JSON can hold, and of NumPy arrays of floats.

        Returns
        -------
        dict of str to object
            Empty by default.
        """
        return {}

    def load_state(self, state: dict[str, Any]) -> None:
        """Go on from what :meth:`state` returned; called after :meth:`start` if a training goes on.

        Parameters
        ----------
        state : dict of str to object
            What a checkpoint has kept.
        """

    def say(self, text: str) -> None:
        """Take a text about how the training goes on, or why it ends. Displays show it.

        Parameters
        ----------
        text : str
            A sentence.
        """


@dataclass
class Fitting:
    """What a call of `Trainer.fit` was asked for, and how it ended: ``trainer.fitting``, for callbacks.

    Parameters
    ----------
    loader : Loader or None
        Gives the training data; its length is the number of batches of an epoch. None when the training has ended.
    epochs : int
        The number of epochs in all.
    validation : Dataset or None
        The data of the validation; None also when the training has ended.
    directory : str or None
        The folder of the checkpoint.
    outcome : {"completed", "stopped", "interrupted", "failed"}
        How it ended: "stopped" by ``trainer.stop``, "interrupted" by Ctrl-C or SIGTERM; "failed" until it ends
        otherwise.
    reason : str or None
        Why ``trainer.stop`` was called.
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
        """Start each callback, and give it its state if there is one."""
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
        """Call each ``say``; return whether anybody has one of their own, so that somebody may have shown the text."""
        shown = False
        for _, say in self.having("say"):
            say(text)
            shown |= _is_own(say, Callback.say)
        return shown

    def states(self) -> dict[str, Callable[[], dict[str, Any]]]:
        """Return for each callback that may have a state the function that returns it."""
        return dict(self.having("state"))


def _is_own(method: Any, base: Any) -> bool:
    """Return whether a bound method is another one than that of the base class."""
    return getattr(method, "__func__", None) is not base


def _call_all(functions: Sequence[Callable[[], None]]) -> None:
    """Call each function, even if another one raises; an error has those before it as its context."""
    if functions:
        try:
            functions[0]()
        finally:
            _call_all(functions[1:])


def lost(name: str) -> str:
    """Return what `Trainer.fit` says where a callback is missing that has kept something so far."""
    return (
        f"the callback {name} took part in this training, and fit was not given it again: what it has kept, such as"
        " averages of the weights, is forgotten"
    )


def _number(name: str, key: Any, value: Any) -> float:
    if type(value) in (float, int):
        return value  # type: ignore[no-any-return]
    if isinstance(key, str) and not isinstance(value, (str, bytes, bool)):
        found = value.item() if getattr(value, "size", 0) == 1 else value  # of any array module
        if isinstance(found, Real) and not isinstance(found, bool):
            return float(found)
    raise ShapeError(f"the callback {name} must add numbers by name to the record, got {key!r}: {value!r:.80}")
