"""What an optimiser is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from im2colnet.checks import number, set_frozen
from im2colnet.optim.schedules import Constant, Cosine, Schedule
from im2colnet.types import Array


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
            set_frozen(self, lr=number("lr", self.lr, "Constant(...) or Cosine(...)"))

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
