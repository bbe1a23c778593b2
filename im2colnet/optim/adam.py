"""Adam and AdamW."""

from __future__ import annotations

from math import sqrt
from typing import Any, ClassVar

from im2colnet.checks import frozen, number, set_frozen, truth_value
from im2colnet.errors import ShapeError
from im2colnet.optim.base import Optimizer
from im2colnet.types import Array

__all__ = ["Adam", "AdamW"]


@frozen
class Adam(Optimizer):
    """Adam: each parameter moves by about the learning rate (Kingma & Ba 2015, arXiv:1412.6980, algorithm 1).

    ``m = β1·m + (1-β1)·g; v = β2·v + (1-β2)·g²; p -= lr·(m / (1-β1ᵗ)) / (√(v / (1-β2ᵗ)) + eps)``.

    Parameters
    ----------
    lr : float, Schedule, or callable
        The learning rate.
    betas : pair of float
        The decay rates β1 and β2, from 0 to below 1, of the running means of the gradient and of its square.
    eps : float
        A small number in the denominator, which keeps the quotient finite where the gradient is 0.
    weight_decay : float
        The weight decay, at least 0: this multiple of the parameter is added to its gradient. :class:`AdamW` applies
        the decay separately from the gradient.
    amsgrad : bool
        Whether the last expression uses the largest ``v`` so far in place of ``v`` (Reddi et al. 2018,
        arXiv:1904.09237).
    maximize : bool
        Whether to maximize the loss: the sign of the gradient is changed first.

    Raises
    ------
    ShapeError
        If an argument is out of its range.

    Examples
    --------
    >>> p, g = np.zeros(2), np.array([100.0, -0.001])
    >>> state = {"mean": np.zeros(2), "square": np.zeros(2)}
    >>> ic.Adam(lr=0.01).update(p, g, state, 0.01, 1, np.empty(2), np)
    >>> p.round(4)  # whatever the gradient's size
    array([-0.01,  0.01])
    """

    lr: Any = 1e-3
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    weight_decay: float = 0.0
    amsgrad: bool = False
    maximize: bool = False
    decoupled: ClassVar[bool] = False
    elementwise: ClassVar[bool] = True
    rule: ClassVar[str | None] = "adam"

    def __post_init__(self) -> None:
        super().__post_init__()
        if not isinstance(self.betas, (tuple, list)) or len(self.betas) != 2:
            raise ShapeError(f"betas must be a pair of numbers, got {self.betas!r}")
        set_frozen(self, betas=tuple(number("each of betas", beta, below=1) for beta in self.betas))
        set_frozen(self, eps=number("eps", self.eps), weight_decay=number("weight_decay", self.weight_decay))
        set_frozen(self, amsgrad=truth_value("amsgrad", self.amsgrad))
        set_frozen(self, maximize=truth_value("maximize", self.maximize))

    def state_slots(self) -> tuple[str, ...]:
        return ("mean", "square", "max_square") if self.amsgrad else ("mean", "square")

    def scalars(self, lr: float, t: int) -> tuple[float, ...]:
        b1, b2 = self.betas
        corrections = 1 - b1**t, 1 - b2**t
        return lr, b1, b2, self.eps, self.weight_decay, self.decoupled, *corrections, self.amsgrad, self._sign

    def update(self, p: Array, g: Array, state: dict[str, Array], lr: float, t: int, work: Array, xp: Any) -> None:
        (b1, b2), m, v = self.betas, state["mean"], state["square"]
        if self.maximize:
            xp.negative(g, out=g)
        if self.decoupled:
            p *= 1 - lr * self.weight_decay
        elif self.weight_decay:
            xp.multiply(p, self.weight_decay, out=work)
            g += work
        xp.multiply(g, 1 - b1, out=work)
        m *= b1
        m += work
        xp.multiply(g, g, out=g)
        g *= 1 - b2
        v *= b2
        v += g
        if self.amsgrad:
            v = xp.maximum(state["max_square"], v, out=state["max_square"])
        xp.sqrt(v, out=work)
        work /= sqrt(1 - b2**t)
        work += self.eps
        xp.divide(m, work, out=work)
        work *= lr / (1 - b1**t)
        p -= work


@frozen
class AdamW(Adam):
    """Adam with decoupled weight decay, ``p *= 1 - lr·weight_decay`` (Loshchilov & Hutter 2019, arXiv:1711.05101).

    Parameters
    ----------
    lr : float, Schedule, or callable
        The learning rate.
    betas : pair of float
        See :class:`Adam`.
    eps : float
        See :class:`Adam`.
    weight_decay : float
        The weight decay, at least 0: each step multiplies the parameter by ``1 - lr·weight_decay``.
    amsgrad : bool
        See :class:`Adam`.
    maximize : bool
        See :class:`Adam`; the weight decay is not reversed.

    Raises
    ------
    ShapeError
        If an argument is out of its range.

    Examples
    --------
    >>> adamw = ic.AdamW(lr=0.1, weight_decay=0.5)
    >>> p, g = np.ones(1), np.zeros(1)
    >>> state = {"mean": np.zeros(1), "square": np.zeros(1)}
    >>> adamw.update(p, g, state, 0.1, 1, np.empty(1), np)
    >>> p  # no gradient: the decay alone
    array([0.95])
    """

    weight_decay: float = 1e-2
    decoupled: ClassVar[bool] = True
