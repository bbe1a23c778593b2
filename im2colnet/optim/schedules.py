"""Learning-rate schedules."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Sequence
from math import cos, inf, pi
from typing import Any, ClassVar

from im2colnet.checks import frozen, more_than_zero, number, one_of, set_frozen, shown, truth_value, whole
from im2colnet.errors import ShapeError

__all__ = [
    "Constant",
    "Cosine",
    "ExponentialLR",
    "MultiStepLR",
    "OneCycleLR",
    "PolynomialLR",
    "ReduceLROnPlateau",
    "Schedule",
    "SequentialLR",
    "StepLR",
]


class Schedule:
    """Base of the learning-rate schedules: a callable that returns the learning rate of a step.

    Like a layer, it keeps the arguments of its constructor as attributes of the same names, so that checkpoints hold
    them.

    With the class attribute ``needs_history = True`` it is called with a third argument, the
    :class:`~im2colnet.History` of the completed epochs.

    Examples
    --------
    >>> class Triangle(ic.Schedule):
    ...     def __init__(self, lr, period):
    ...         self.lr, self.period = lr, period
    ...
    ...     def __call__(self, step, total):
    ...         place = 2 * (step % self.period) / self.period
    ...         return self.lr * (1 - abs(place - 1))
    >>> [Triangle(1.0, 4)(step, None) for step in range(6)]
    [0.0, 0.5, 1.0, 0.5, 0.0, 0.5]
    """

    needs_history: ClassVar[bool] = False

    def __repr__(self) -> str:
        return shown(self)

    def __call__(self, step: int, total: float | None) -> float:
        """Return the learning rate of a step.

        Parameters
        ----------
        step : int
            The number of the step, from 0, among all steps of the trainer.
        total : float or None
            The number of all steps, or None if no number of epochs is given (``Trainer.step`` alone). If epochs differ
            in their number of steps, ``step / total`` is still the progress: the completed fraction of the epochs.

        Returns
        -------
        float
            The learning rate, at least 0.
        """
        raise NotImplementedError(f"{type(self).__name__} must define __call__(step, total)")


def _length(schedule: Schedule, steps: int | None, total: float | None) -> float:
    """Return the number of steps of a schedule: its own length, or the length of the training."""
    if steps is None and total is None:
        raise ShapeError(f"{schedule!r} needs its length: give it steps=..., or train with fit(epochs=...)")
    return total if steps is None else steps  # type: ignore[return-value]


def _moments(name: str, values: Any, least: int = 1) -> tuple[float, ...]:
    """Return points of time: integers are steps, numbers between 0 and 1 are fractions of the training."""
    try:
        given = tuple(values)
    except TypeError:
        raise ShapeError(f"{name} must be a sequence of steps, or of parts of the training, got {values!r}") from None
    found = []
    for value in given:
        if isinstance(value, float) and 0 < value < 1:
            found.append(float(value))
        else:
            found.append(whole(f"each of {name}", value, least))
    parts = {isinstance(value, float) for value in found}
    if len(parts) > 1 or sorted(found) != found:
        raise ShapeError(f"{name} must grow, and be all steps (integers) or all parts of the training, got {values!r}")
    return tuple(found)


def _in_steps(schedule: Schedule, moments: Sequence[float], total: float | None) -> list[float]:
    """Return points of time as numbers of steps."""
    if any(isinstance(moment, float) for moment in moments):
        total = _length(schedule, None, total)
        return [moment * total for moment in moments]
    return list(moments)


@frozen
class Constant(Schedule):
    """A constant learning rate ``lr``, with a linear warm-up in the first ``warmup`` steps.

    Parameters
    ----------
    lr : float
        The learning rate.
    warmup : int
        The number of warm-up steps, in which the learning rate grows. A step is one batch.

    Raises
    ------
    ShapeError
        If an argument is out of its range.

    Examples
    --------
    >>> [ic.Constant(0.4, warmup=3)(step, 6) for step in range(6)]
    [0.1, 0.2, 0.30000000000000004, 0.4, 0.4, 0.4]
    """

    lr: float
    warmup: int = 0

    def __post_init__(self) -> None:
        set_frozen(self, lr=number("lr", self.lr), warmup=whole("warmup", self.warmup, least=0))

    def __call__(self, step: int, total: float | None) -> float:
        """Return the learning rate of ``step``, counted from 0, of ``total`` steps."""
        return self.lr * min(1.0, (step + 1) / (self.warmup + 1))


@frozen
class Cosine(Schedule):
    """Linear warm-up, then half a cosine from ``lr`` to ``final`` (Loshchilov & Hutter 2017, arXiv:1608.03983, eq. 5).

    Parameters
    ----------
    lr : float
        The highest learning rate.
    warmup : int
        The number of warm-up steps, in which the learning rate grows. A step is one batch.
    final : float
        The learning rate at the end.
    steps : int, optional
        The length of the whole schedule in steps, independent of the number of epochs in ``fit``. By default the
        schedule follows the progress of the training, so that it ends with the last epoch.

    Raises
    ------
    ShapeError
        If an argument is out of its range; or, when it is called, if neither the schedule nor the training has a
        length.

    Examples
    --------
    >>> [round(ic.Cosine(0.1, warmup=1)(step, 5), 4) for step in range(6)]
    [0.05, 0.1, 0.0854, 0.05, 0.0146, 0.0]
    """

    lr: float
    warmup: int = 0
    final: float = 0.0
    steps: int | None = None

    def __post_init__(self) -> None:
        set_frozen(self, lr=number("lr", self.lr), warmup=whole("warmup", self.warmup, least=0))
        set_frozen(self, final=number("final", self.final))
        if self.steps is not None:
            set_frozen(self, steps=whole("steps", self.steps))

    def __call__(self, step: int, total: float | None) -> float:
        """Return the learning rate of ``step``, counted from 0, of ``total`` steps."""
        steps = _length(self, self.steps, total)
        if step < self.warmup:
            return self.lr * (step + 1) / (self.warmup + 1)
        done = min(1.0, (step - self.warmup) / max(1, steps - self.warmup))
        return self.final + (self.lr - self.final) * (1 + cos(pi * done)) / 2


@frozen
class StepLR(Schedule):
    """``lr · gamma^⌊step / step_size⌋``: the learning rate falls after every ``step_size`` steps.

    As in PyTorch, except that a step is one batch. To count in epochs, multiply by the number of batches in an epoch,
    or use :class:`MultiStepLR` with fractions of the training.

    Parameters
    ----------
    lr : float
        The initial learning rate.
    step_size : int
        The number of steps between two changes.
    gamma : float
        The factor of the learning rate at each change.

    Raises
    ------
    ShapeError
        If an argument is out of its range.

    Examples
    --------
    >>> [ic.StepLR(8.0, step_size=2, gamma=0.5)(step, 6) for step in range(6)]
    [8.0, 8.0, 4.0, 4.0, 2.0, 2.0]
    """

    lr: float
    step_size: int
    gamma: float = 0.1

    def __post_init__(self) -> None:
        set_frozen(self, lr=number("lr", self.lr), step_size=whole("step_size", self.step_size))
        set_frozen(self, gamma=number("gamma", self.gamma))

    def __call__(self, step: int, total: float | None) -> float:
        """Return the learning rate of ``step``, counted from 0, of ``total`` steps."""
        return self.lr * self.gamma ** (step // self.step_size)


@frozen
class MultiStepLR(Schedule):
    """The learning rate is multiplied by ``gamma`` at each milestone.

    Parameters
    ----------
    lr : float
        The initial learning rate.
    milestones : sequence of int, or of float
        The milestones, in growing order. Integers are steps, one batch each; numbers between 0 and 1 are fractions of
        the training, such as ``[0.5, 0.75]``.
    gamma : float
        The factor of the learning rate at each milestone.

    Raises
    ------
    ShapeError
        If an argument is out of its range, or the milestones do not grow; or, when it is called, if they are fractions
        of a training without a length.

    Examples
    --------
    >>> [ic.MultiStepLR(8.0, [0.5, 0.75], 0.5)(step, 8) for step in range(8)]
    [8.0, 8.0, 8.0, 8.0, 4.0, 4.0, 2.0, 2.0]
    """

    lr: float
    milestones: tuple[float, ...]
    gamma: float = 0.1

    def __post_init__(self) -> None:
        set_frozen(self, lr=number("lr", self.lr), milestones=_moments("milestones", self.milestones))
        set_frozen(self, gamma=number("gamma", self.gamma))

    def __call__(self, step: int, total: float | None) -> float:
        """Return the learning rate of ``step``, counted from 0, of ``total`` steps."""
        return self.lr * self.gamma ** bisect_right(_in_steps(self, self.milestones, total), step)


@frozen
class ExponentialLR(Schedule):
    """``lr · gamma^step``, where a step is one batch; for a factor ``g`` per epoch give ``gamma = g ** (1 / batches)``.

    Parameters
    ----------
    lr : float
        The initial learning rate.
    gamma : float
        The factor of the learning rate in each step.

    Raises
    ------
    ShapeError
        If an argument is out of its range.

    Examples
    --------
    >>> [ic.ExponentialLR(8.0, gamma=0.5)(step, None) for step in range(4)]
    [8.0, 4.0, 2.0, 1.0]
    """

    lr: float
    gamma: float

    def __post_init__(self) -> None:
        set_frozen(self, lr=number("lr", self.lr), gamma=number("gamma", self.gamma))

    def __call__(self, step: int, total: float | None) -> float:
        """Return the learning rate of ``step``, counted from 0, of ``total`` steps."""
        return self.lr * self.gamma**step


@frozen
class PolynomialLR(Schedule):
    """``lr · (1 - step / steps)^power``, and 0 after ``steps`` steps.

    Parameters
    ----------
    lr : float
        The initial learning rate.
    steps : int, optional
        The length of the schedule in steps; by default the length of the training.
    power : float
        The exponent. 1 is a straight line; with a larger exponent the learning rate falls earlier.

    Raises
    ------
    ShapeError
        If an argument is out of its range; or, when it is called, if neither the schedule nor the training has a
        length.

    Examples
    --------
    >>> [ic.PolynomialLR(8.0, power=2.0)(step, 4) for step in range(5)]
    [8.0, 4.5, 2.0, 0.5, 0.0]
    """

    lr: float
    steps: int | None = None
    power: float = 1.0

    def __post_init__(self) -> None:
        set_frozen(self, lr=number("lr", self.lr), power=number("power", self.power))
        if self.steps is not None:
            set_frozen(self, steps=whole("steps", self.steps))

    def __call__(self, step: int, total: float | None) -> float:
        """Return the learning rate of ``step``, counted from 0, of ``total`` steps."""
        left = max(0.0, 1 - step / _length(self, self.steps, total))
        return float(self.lr * left**self.power)


@frozen
class OneCycleLR(Schedule):
    """One cycle: from ``max_lr / div_factor`` up to ``max_lr``, then down to far below the start (Smith & Topin 2017).

    See arXiv:1708.07120. As in PyTorch, except that the momentum of the optimizer does not change.

    Parameters
    ----------
    max_lr : float
        The highest learning rate.
    steps : int, optional
        The length of the schedule in steps; by default the length of the training.
    pct_start : float
        The fraction of the steps in which the learning rate grows, at most 1, or 0.5 with ``three_phase``.
    anneal_strategy : {"cos", "linear"}
        The shape of the curve: half a cosine, or a straight line.
    div_factor, final_div_factor : float
        The initial learning rate is ``max_lr / div_factor``; the final rate is the initial rate divided by
        ``final_div_factor``.
    three_phase : bool
        Whether the learning rate falls in two phases: to the initial rate, as fast as it has grown, and then to the
        final rate.

    Raises
    ------
    ShapeError
        If an argument is out of its range; or, when it is called, if neither the schedule nor the training has a
        length.

    Examples
    --------
    >>> cycle = ic.OneCycleLR(1.0, pct_start=0.4, div_factor=10)
    >>> [round(cycle(step, 10), 3) for step in range(10)]
    [0.1, 0.325, 0.775, 1.0, 0.933, 0.75, 0.5, 0.25, 0.067, 0.0]
    """

    max_lr: float
    steps: int | None = None
    pct_start: float = 0.3
    anneal_strategy: str = "cos"
    div_factor: float = 25.0
    final_div_factor: float = 1e4
    three_phase: bool = False

    def __post_init__(self) -> None:
        set_frozen(self, max_lr=number("max_lr", self.max_lr), pct_start=number("pct_start", self.pct_start))
        for name in "div_factor", "final_div_factor":
            set_frozen(self, **{name: more_than_zero(name, getattr(self, name))})
        if self.pct_start > (0.5 if self.three_phase else 1):
            raise ShapeError(f"pct_start must be at most {0.5 if self.three_phase else 1}, got {self.pct_start!r}")
        one_of("anneal_strategy", self.anneal_strategy, "cos", "linear")
        set_frozen(self, three_phase=truth_value("three_phase", self.three_phase))
        if self.steps is not None:
            set_frozen(self, steps=whole("steps", self.steps))

    def __call__(self, step: int, total: float | None) -> float:
        """Return the learning rate of ``step``, counted from 0, of ``total`` steps."""
        steps = _length(self, self.steps, total)
        first = self.max_lr / self.div_factor
        rates = [first, self.max_lr, first / self.final_div_factor]
        ends = [self.pct_start * steps - 1, steps - 1]  # a step's number, from 0
        if self.three_phase:
            rates.insert(2, first)
            ends.insert(1, 2 * self.pct_start * steps - 2)
        start = 0.0
        for end, begin, final in zip(ends, rates, rates[1:], strict=False):
            if step <= end or end is ends[-1]:
                done = min(1.0, (step - start) / (end - start)) if end > start else 1.0
                if self.anneal_strategy == "cos":
                    return final + (begin - final) / 2 * (1 + cos(pi * done))
                return begin + (final - begin) * done
            start = end
        raise AssertionError


@frozen
class SequentialLR(Schedule):
    """Several schedules, one after the other; each begins at its step 0.

    Parameters
    ----------
    schedules : sequence of Schedule, or of float
        The schedules; numbers are constant learning rates.
    milestones : sequence of int, or of float
        The start of each schedule except the first: integers are steps, numbers between 0 and 1 are fractions of the
        training.

    Raises
    ------
    ShapeError
        If the number of milestones is not the number of schedules minus 1, or the milestones do not grow.

    Examples
    --------
    >>> falling = ic.ExponentialLR(4.0, gamma=0.5)
    >>> both = ic.SequentialLR([8.0, falling], milestones=[2])
    >>> [both(step, 5) for step in range(5)]
    [8.0, 8.0, 4.0, 2.0, 1.0]
    """

    schedules: tuple[Any, ...]
    milestones: tuple[float, ...]
    needs_history: ClassVar[bool] = True

    def __post_init__(self) -> None:
        try:
            given = tuple(self.schedules)
        except TypeError:
            given = ()
        each = (s if isinstance(s, Schedule) else Constant(number("each of schedules", s)) for s in given)
        set_frozen(self, schedules=tuple(each), milestones=_moments("milestones", self.milestones))
        if len(self.schedules) != len(self.milestones) + 1:
            raise ShapeError(
                f"there must be one milestone between two schedules, got {len(self.schedules)} schedules and"
                f" {len(self.milestones)} milestones"
            )

    def __call__(self, step: int, total: float | None, history: Sequence[Any] = ()) -> float:
        """Return the learning rate of ``step``, counted from 0, of ``total`` steps, after the epochs of ``history``."""
        starts = [0.0, *_in_steps(self, self.milestones, total)]
        i = bisect_right(starts, step) - 1
        end = starts[i + 1] if i + 1 < len(starts) else total
        length = None if end is None else end - starts[i]
        return rate_at(self.schedules[i], step - int(-(-starts[i] // 1)), length, history)


@frozen
class ReduceLROnPlateau(Schedule):
    """The learning rate is multiplied by ``factor`` if a value has not improved for more than ``patience`` epochs.

    Parameters
    ----------
    lr : float
        The initial learning rate.
    mode : {"min", "max"}
        Whether a smaller or a larger value is better.
    factor : float
        The factor of the learning rate, from 0 to below 1.
    patience : int
        The number of epochs without an improvement that are allowed; after one more such epoch the learning rate falls.
    threshold : float
        The smallest improvement: a value must be better than the best value by more than this fraction of it, or by
        more than this number with ``threshold_mode="abs"``.
    threshold_mode : {"rel", "abs"}
        Whether ``threshold`` is a fraction of the best value or an absolute number.
    cooldown : int
        The number of epochs after a change of the learning rate in which epochs without an improvement are not counted.
    min_lr : float
        The learning rate does not fall below this number.
    monitor : str, optional
        The key of the monitored value in the history, such as "validation_accuracy" (with ``mode="max"``). The default
        is "validation_loss", or "loss" without validation data.

    Raises
    ------
    ShapeError
        If an argument is out of its range; or, when it is called, if the history has no such key.

    Examples
    --------
    >>> plateau = ic.ReduceLROnPlateau(0.4, factor=0.5, patience=1)
    >>> losses = [1.0, 0.7, 0.8, 0.9, 0.6]
    >>> epochs = [{"loss": loss} for loss in losses]
    >>> [plateau(0, None, epochs[:done]) for done in range(1, 6)]
    [0.4, 0.4, 0.4, 0.2, 0.2]
    """

    lr: float
    mode: str = "min"
    factor: float = 0.1
    patience: int = 10
    threshold: float = 1e-4
    threshold_mode: str = "rel"
    cooldown: int = 0
    min_lr: float = 0.0
    monitor: str | None = None
    needs_history: ClassVar[bool] = True

    def __post_init__(self) -> None:
        one_of("mode", self.mode, "min", "max")
        one_of("threshold_mode", self.threshold_mode, "rel", "abs")
        for name in "lr", "threshold", "min_lr":
            set_frozen(self, **{name: number(name, getattr(self, name))})
        set_frozen(self, factor=number("factor", self.factor, below=1))
        for name in "patience", "cooldown":
            set_frozen(self, **{name: whole(name, getattr(self, name), least=0)})
        if self.monitor is not None and not isinstance(self.monitor, str):
            raise ShapeError(f"monitor must be a key of the history, such as 'validation_loss', got {self.monitor!r}")

    def __call__(self, step: int, total: float | None, history: Sequence[Any] = ()) -> float:
        """Return the learning rate after the epochs of ``history``."""
        lr, bad, cool = self.lr, 0, 0
        best = inf if self.mode == "min" else -inf
        for record in history:
            key = self.monitor or ("validation_loss" if "validation_loss" in record else "loss")
            if key not in record:
                raise ShapeError(f"{self!r}: there is no {key!r} in the history; there are: {', '.join(record)}")
            if self._better(record[key], best):
                best, bad = record[key], 0
            else:
                bad += 1
            if cool:
                cool, bad = cool - 1, 0
            if bad > self.patience:
                lr, bad, cool = max(lr * self.factor, min(self.min_lr, lr)), 0, self.cooldown
        return lr

    def _better(self, value: float, best: float) -> bool:
        sign = 1 if self.mode == "max" else -1
        if self.threshold_mode == "abs" or abs(best) == inf:
            return sign * (value - best) > self.threshold
        return sign * (value - best * (1 + sign * self.threshold)) > 0


def rate_at(schedule: Callable[..., float], step: int, total: float | None, history: Sequence[Any] = ()) -> float:
    """Return the learning rate of a step from a schedule or any other callable."""
    return schedule(step, total, history) if getattr(schedule, "needs_history", False) else schedule(step, total)
