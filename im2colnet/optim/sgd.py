"""Stochastic gradient descent."""

from __future__ import annotations

from typing import Any, ClassVar

from im2colnet.checks import frozen, number, set_frozen, truth_value
from im2colnet.errors import ShapeError
from im2colnet.optim.base import Optimizer
from im2colnet.types import Array

__all__ = ["SGD"]


@frozen
class SGD(Optimizer):
    """Stochastic gradient descent (momentum as in Sutskever et al. 2013, in PyTorch's form).

    ``g += weight_decay·p; v = momentum·v + (1 - dampening)·g; p -= lr·v``, or with ``nesterov``
    ``p -= lr·(g + momentum·v)``; in the first step ``v = g``.

    Parameters
    ----------
    lr : float, Schedule, or callable
        The learning rate.
    momentum : float
        The momentum, from 0 to below 1: the factor of the previous ``v``.
    weight_decay : float
        The weight decay, at least 0: this multiple of the parameter is added to its gradient.
    nesterov : bool
        Whether to use Nesterov momentum, which looks one step ahead; it requires a momentum and no dampening.
    dampening : float
        The fraction of the gradient that is left out of ``v``.
    maximize : bool
        Whether to maximize the loss: the sign of the gradient is changed first.

    Raises
    ------
    ShapeError
        If an argument is out of its range; or if ``nesterov`` is used without a momentum, or with dampening.

    Examples
    --------
    >>> sgd = ic.SGD(lr=0.1, momentum=0.9)
    >>> p, state = np.array([1.0]), {"velocity": np.zeros(1)}
    >>> for t in 1, 2, 3:  # the gradient is 1 each time
    ...     sgd.update(p, np.array([1.0]), state, 0.1, t, np.empty(1), np)
    ...     print(p.round(3))
    [0.9]
    [0.71]
    [0.439]
    """

    lr: Any
    momentum: float = 0.0
    weight_decay: float = 0.0
    nesterov: bool = False
    dampening: float = 0.0
    maximize: bool = False
    elementwise: ClassVar[bool] = True
    rule: ClassVar[str | None] = "sgd"

    def __post_init__(self) -> None:
        super().__post_init__()
        set_frozen(self, momentum=number("momentum", self.momentum, below=1))
        set_frozen(self, weight_decay=number("weight_decay", self.weight_decay))
        set_frozen(self, dampening=number("dampening", self.dampening))
        set_frozen(self, nesterov=truth_value("nesterov", self.nesterov))
        set_frozen(self, maximize=truth_value("maximize", self.maximize))
        if self.nesterov and not self.momentum:
            raise ShapeError("nesterov needs a momentum")
        if self.nesterov and self.dampening:
            raise ShapeError(f"nesterov needs dampening=0, got dampening={self.dampening!r}")

    def state_slots(self) -> tuple[str, ...]:
        return ("velocity",) if self.momentum else ()

    def scalars(self, lr: float, t: int) -> tuple[float, ...]:
        share = 1 - self.dampening if t > 1 else 1.0
        return lr, self.momentum, self.weight_decay, self.nesterov, share, self._sign

    def update(self, p: Array, g: Array, state: dict[str, Array], lr: float, t: int, work: Array, xp: Any) -> None:
        self.whole_gradient(p, g, work, xp)
        step = g
        if self.momentum:
            v = state["velocity"]
            v *= self.momentum
            if self.dampening and t > 1:
                xp.multiply(g, 1 - self.dampening, out=work)
                v += work
            else:
                v += g
            step = v
            if self.nesterov:
                xp.multiply(v, self.momentum, out=work)
                g += work
                step = g
        xp.multiply(step, lr, out=work)
        p -= work
