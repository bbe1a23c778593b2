"""Optimizers that divide each element of the gradient by its usual size: RMSprop and Adagrad."""

from __future__ import annotations

from typing import Any, ClassVar

from im2colnet.checks import frozen, number, set_frozen, truth_value
from im2colnet.optim.base import Optimizer
from im2colnet.types import Array

__all__ = ["Adagrad", "RMSprop"]


@frozen
class RMSprop(Optimizer):
    """RMSprop: the gradient divided by the root of its mean square (Hinton 2012, lecture 6e), in PyTorch's form.

    ``g += weight_decay·p; s = alpha·s + (1-alpha)·g²; v = momentum·v + g / (√s + eps); p -= lr·v``.

    Parameters
    ----------
    lr : float, Schedule, or callable
        The learning rate.
    alpha : float
        The decay rate of the mean square, from 0 to below 1.
    eps : float
        A small number in the denominator, which keeps the quotient finite where the gradient is 0.
    weight_decay : float
        The weight decay, at least 0: this multiple of the parameter is added to its gradient.
    momentum : float
        The momentum, from 0 to below 1: the factor of the previous ``v``.
    centered : bool
        Whether to use √(s - m²) in place of √s, where ``m = alpha·m + (1-alpha)·g`` (Graves 2013, arXiv:1308.0850,
        equation 40).
    maximize : bool
        Whether to maximize the loss: the sign of the gradient is changed first.

    Raises
    ------
    ShapeError
        If an argument is out of its range.

    Examples
    --------
    >>> p, g = np.zeros(2), np.array([100.0, -0.1])
    >>> state = {"square": np.zeros(2)}
    >>> rmsprop = ic.RMSprop(lr=0.01, alpha=0.99)
    >>> rmsprop.update(p, g, state, 0.01, 1, np.empty(2), np)
    >>> p.round(4)  # lr / √(1 - alpha), whatever the gradient's size
    array([-0.1,  0.1])
    """

    lr: Any = 1e-2
    alpha: float = 0.99
    eps: float = 1e-8
    weight_decay: float = 0.0
    momentum: float = 0.0
    centered: bool = False
    maximize: bool = False
    elementwise: ClassVar[bool] = True
    rule: ClassVar[str | None] = "rmsprop"

    def __post_init__(self) -> None:
        super().__post_init__()
        set_frozen(self, alpha=number("alpha", self.alpha, below=1), eps=number("eps", self.eps))
        set_frozen(self, weight_decay=number("weight_decay", self.weight_decay))
        set_frozen(self, momentum=number("momentum", self.momentum, below=1))
        set_frozen(self, centered=truth_value("centered", self.centered))
        set_frozen(self, maximize=truth_value("maximize", self.maximize))

    def state_slots(self) -> tuple[str, ...]:
        return ("square", *["mean"] * self.centered, *["velocity"] * bool(self.momentum))

    def scalars(self, lr: float, t: int) -> tuple[float, ...]:
        return lr, self.alpha, self.eps, self.weight_decay, self.momentum, self.centered, self._sign

    def update(self, p: Array, g: Array, state: dict[str, Array], lr: float, t: int, work: Array, xp: Any) -> None:
        s = state["square"]
        self.whole_gradient(p, g, work, xp)
        s *= self.alpha
        xp.square(g, out=work)
        work *= 1 - self.alpha
        s += work
        if self.centered:
            m = state["mean"]
            m *= self.alpha
            xp.multiply(g, 1 - self.alpha, out=work)
            m += work
            xp.square(m, out=work)
            xp.subtract(s, work, out=work)
            xp.maximum(work, 0, out=work)  # a variance, which rounding can make negative
            xp.sqrt(work, out=work)
        else:
            xp.sqrt(s, out=work)
        work += self.eps
        xp.divide(g, work, out=work)
        if self.momentum:
            v = state["velocity"]
            v *= self.momentum
            v += work
            xp.multiply(v, lr, out=work)
        else:
            work *= lr
        p -= work


@frozen
class Adagrad(Optimizer):
    """Adagrad: the gradient divided by the root of the sum of its squares (Duchi et al. 2011, JMLR 12), as in PyTorch.

    ``g += weight_decay·p; s += g²; p -= lr / (1 + (t-1)·lr_decay) · g / (√s + eps)``.

    Parameters
    ----------
    lr : float, Schedule, or callable
        The learning rate.
    lr_decay : float
        The decay of the learning rate with the number t of the update, at least 0.
    weight_decay : float
        The weight decay, at least 0: this multiple of the parameter is added to its gradient.
    initial_accumulator_value : float
        The initial value of ``s``, at least 0.
    eps : float
        A small number in the denominator, which keeps the quotient finite where the gradient is 0.
    maximize : bool
        Whether to maximize the loss: the sign of the gradient is changed first.

    Raises
    ------
    ShapeError
        If an argument is out of its range.

    Examples
    --------
    >>> adagrad, p, state = ic.Adagrad(0.1), np.zeros(1), {"sum": np.zeros(1)}
    >>> for t in 1, 2, 3:  # the gradient is 5 each time
    ...     adagrad.update(p, np.array([5.0]), state, 0.1, t, np.empty(1), np)
    ...     print(p.round(3))
    [-0.1]
    [-0.171]
    [-0.228]
    """

    lr: Any = 1e-2
    lr_decay: float = 0.0
    weight_decay: float = 0.0
    initial_accumulator_value: float = 0.0
    eps: float = 1e-10
    maximize: bool = False
    elementwise: ClassVar[bool] = True
    rule: ClassVar[str | None] = "adagrad"

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in "lr_decay", "weight_decay", "initial_accumulator_value", "eps":
            set_frozen(self, **{name: number(name, getattr(self, name))})
        set_frozen(self, maximize=truth_value("maximize", self.maximize))

    def state_slots(self) -> tuple[str, ...]:
        return ("sum",)

    def scalars(self, lr: float, t: int) -> tuple[float, ...]:
        rate = lr / (1 + (t - 1) * self.lr_decay)
        return rate, self.weight_decay, self.initial_accumulator_value, self.eps, self._sign

    def update(self, p: Array, g: Array, state: dict[str, Array], lr: float, t: int, work: Array, xp: Any) -> None:
        s = state["sum"]
        self.whole_gradient(p, g, work, xp)
        xp.square(g, out=work)
        s += work
        if self.initial_accumulator_value:
            xp.add(s, self.initial_accumulator_value, out=work)
            xp.sqrt(work, out=work)
        else:
            xp.sqrt(s, out=work)
        work += self.eps
        xp.divide(g, work, out=work)
        work *= lr / (1 + (t - 1) * self.lr_decay)
        p -= work
