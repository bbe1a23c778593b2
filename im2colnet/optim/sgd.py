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
    ``p -= lr·(g + momentum·v)``; in the first step ``v = g``. With ``maximize`` the gradient's sign is changed first.
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
