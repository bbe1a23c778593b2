"""Optimisers and learning-rate schedules; the update rules are PyTorch's.

An optimiser works on flat vectors. Those of the library do so element by element, so that workers can share the
elements out and the result does not depend on how. ``p`` parameters, ``g`` gradient (overwritten), ``t`` the step's
number from 1.

A schedule is called with a ``step``, counted from 0 over all that the trainer has made, and the ``total`` of steps,
which is such that ``step / total`` is the progress of the training: epochs done of epochs asked for. It is a whole
number where all epochs have equally many steps, and None where no epochs are asked for (``Trainer.step`` alone).
"""

from __future__ import annotations

from dataclasses import dataclass
from math import cos, pi, sqrt
from typing import Any, ClassVar

from im2colnet.backend import Array
from im2colnet.checks import number, whole
from im2colnet.errors import ShapeError


def _set(frozen: Any, **values: Any) -> None:
    for name, value in values.items():
        object.__setattr__(frozen, name, value)


@dataclass(frozen=True)
class Constant:
    """``lr``, reached linearly within the first ``warmup`` steps."""

    lr: float
    warmup: int = 0

    def __post_init__(self) -> None:
        _set(self, lr=number("lr", self.lr), warmup=whole("warmup", self.warmup, least=0))

    def __call__(self, step: int, total: float | None) -> float:
        """Learning rate of ``step``, counted from 0, of ``total`` steps."""
        return self.lr * min(1.0, (step + 1) / (self.warmup + 1))


@dataclass(frozen=True)
class Cosine:
    """Linear warm-up, then half a cosine from ``lr`` to ``final`` (Loshchilov & Hutter 2017, arXiv:1608.03983, eq. 5).

    Parameters
    ----------
    lr : float
    warmup : int
        Steps, whatever the batch size.
    final : float
    steps : int, optional
        Length of the whole schedule in steps, whatever number of epochs ``fit`` is asked for. By default the schedule
        follows the progress of the training, so that it ends with the last epoch asked for.
    """

    lr: float
    warmup: int = 0
    final: float = 0.0
    steps: int | None = None

    def __post_init__(self) -> None:
        _set(self, lr=number("lr", self.lr), warmup=whole("warmup", self.warmup, least=0))
        _set(self, final=number("final", self.final))
        if self.steps is not None:
            _set(self, steps=whole("steps", self.steps))

    def __call__(self, step: int, total: float | None) -> float:
        """Learning rate of ``step``, counted from 0, of ``total`` steps."""
        steps = self.steps or total
        if steps is None:
            raise ShapeError("a cosine schedule needs its length: give it steps=..., or train with fit(epochs=...)")
        if step < self.warmup:
            return self.lr * (step + 1) / (self.warmup + 1)
        done = min(1.0, (step - self.warmup) / max(1, steps - self.warmup))
        return self.final + (self.lr - self.final) * (1 + cos(pi * done)) / 2


Schedule = Constant | Cosine


@dataclass(frozen=True)
class Optimizer:
    """Base of the optimisers: ``lr`` is a number or a schedule."""

    lr: Any
    #: see :attr:`im2colnet.Layer.stateless`
    stateless: ClassVar[bool] = True
    #: whether each number's update depends on nothing but its own parameter, gradient and state
    elementwise: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if not isinstance(self.lr, (Constant, Cosine)):
            _set(self, lr=number("lr", self.lr, "Constant(...) or Cosine(...)"))

    @property
    def schedule(self) -> Schedule:
        """The learning rate as a schedule."""
        return self.lr if isinstance(self.lr, (Constant, Cosine)) else Constant(float(self.lr))

    @classmethod
    def works_elementwise(cls) -> bool:
        """Whether ``update`` may be called for pieces: what its class says, or one derived from that."""
        for kind in cls.__mro__:
            if "elementwise" in kind.__dict__ or "update" in kind.__dict__:
                return bool(kind.__dict__.get("elementwise", False))
        return False

    def state_slots(self) -> tuple[str, ...]:
        """Names of the vectors, as long as the parameters, that the update keeps; they begin as zeros."""
        return ()

    def update(self, p: Array, g: Array, state: dict[str, Array], lr: float, t: int, work: Array, xp: Any) -> None:
        """Change ``p`` and ``state`` in place.

        By default it is called once for each step, with all parameters of the network as one vector, so that it may
        use what depends on all of them, such as the norm of the gradient. With the class attribute
        ``elementwise = True`` it is called for pieces of the vectors, in any number and by several workers at once,
        which is faster; each number's update must then depend on nothing but its own parameter, gradient and state.
        The attribute holds for the ``update`` of its own class and of those that the class derives from: one that is
        overridden must say it again.

        Parameters
        ----------
        p, g : (n,) arrays
            Parameters and gradient; the gradient may be overwritten.
        state : dict of str to (n,) array
            The vectors of :meth:`state_slots`.
        lr : float
            The learning rate of this step.
        t : int
            The step's number, from 1.
        work : (n,) array
            Scratch.
        xp : module
            The array module, such as NumPy.
        """
        raise NotImplementedError(f"{type(self).__name__} must define update(p, g, state, lr, t, work, xp)")


@dataclass(frozen=True)
class SGD(Optimizer):
    """Stochastic gradient descent (momentum as in Sutskever et al. 2013, in PyTorch's form).

    ``g += weight_decay·p; v = momentum·v + g; p -= lr·v``, or with ``nesterov`` ``p -= lr·(g + momentum·v)``.
    """

    lr: Any
    momentum: float = 0.0
    weight_decay: float = 0.0
    nesterov: bool = False
    elementwise: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        _set(self, momentum=number("momentum", self.momentum, below=1))
        _set(self, weight_decay=number("weight_decay", self.weight_decay))
        if self.nesterov not in (True, False):  # NumPy's bools too
            raise ShapeError(f"nesterov must be True or False, got {self.nesterov!r}")
        _set(self, nesterov=bool(self.nesterov))
        if self.nesterov and not self.momentum:
            raise ShapeError("nesterov needs a momentum")

    def state_slots(self) -> tuple[str, ...]:
        return ("velocity",) if self.momentum else ()

    def update(self, p: Array, g: Array, state: dict[str, Array], lr: float, t: int, work: Array, xp: Any) -> None:
        if self.weight_decay:
            xp.multiply(p, self.weight_decay, out=work)
            g += work
        step = g
        if self.momentum:
            v = state["velocity"]
            v *= self.momentum
            v += g
            step = v
            if self.nesterov:
                xp.multiply(v, self.momentum, out=work)
                g += work
                step = g
        xp.multiply(step, lr, out=work)
        p -= work


@dataclass(frozen=True)
class Adam(Optimizer):
    """Adam (Kingma & Ba 2015, arXiv:1412.6980, algorithm 1); ``weight_decay`` is added to the gradient.

    ``m = β1·m + (1-β1)·g; v = β2·v + (1-β2)·g²; p -= lr·(m / (1-β1ᵗ)) / (√(v / (1-β2ᵗ)) + eps)``.
    """

    lr: Any = 1e-3
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    weight_decay: float = 0.0
    decoupled: ClassVar[bool] = False
    elementwise: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if not isinstance(self.betas, (tuple, list)) or len(self.betas) != 2:
            raise ShapeError(f"betas must be a pair of numbers, got {self.betas!r}")
        _set(self, betas=tuple(number("each of betas", beta, below=1) for beta in self.betas))
        _set(self, eps=number("eps", self.eps), weight_decay=number("weight_decay", self.weight_decay))

    def state_slots(self) -> tuple[str, ...]:
        return "mean", "square"

    def update(self, p: Array, g: Array, state: dict[str, Array], lr: float, t: int, work: Array, xp: Any) -> None:
        (b1, b2), m, v = self.betas, state["mean"], state["square"]
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
        xp.sqrt(v, out=work)
        work /= sqrt(1 - b2**t)
        work += self.eps
        xp.divide(m, work, out=work)
        work *= lr / (1 - b1**t)
        p -= work


@dataclass(frozen=True)
class AdamW(Adam):
    """Adam with decoupled weight decay, ``p *= 1 - lr·weight_decay`` (Loshchilov & Hutter 2019, arXiv:1711.05101)."""

    weight_decay: float = 1e-2
    decoupled: ClassVar[bool] = True
