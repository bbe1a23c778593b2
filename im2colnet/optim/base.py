"""What an optimiser is."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any, ClassVar

from im2colnet.checks import frozen, number, set_frozen
from im2colnet.optim.schedules import Constant
from im2colnet.types import Array

__all__ = ["Optimizer"]


@lru_cache(maxsize=64)
def _constant(lr: float) -> Constant:
    return Constant(lr)


@frozen
class Optimizer:
    """Base of the optimisers: the rule that changes the parameters, given their gradient.

    A class that is derived from it defines :meth:`update`, and :meth:`state_slots` if it keeps anything from step to
    step. It is a frozen dataclass: its arguments cannot be changed, a changed copy is made by ``dataclasses.replace``.

    Parameters
    ----------
    lr : float, Schedule, or callable
        The learning rate, or what gives that of each step when it is called as a :class:`Schedule` is. Checkpoints hold
        numbers and schedules, but no other callables.

    Raises
    ------
    ShapeError
        If the learning rate is neither a number of at least 0 nor callable.

    Examples
    --------
    >>> class Signs(ic.Optimizer):  # signSGD, arXiv:1802.04434
    ...     elementwise = True
    ...
    ...     def update(self, p, g, state, lr, t, work, xp):
    ...         p -= lr * xp.sign(g)
    >>> p = np.array([1.0, 2.0])
    >>> Signs(0.1).update(p, np.array([3.0, -0.5]), {}, 0.1, 1, None, np)
    >>> p
    array([0.9, 2.1])
    """

    lr: Any
    #: see :attr:`im2colnet.Layer.stateless`
    stateless: ClassVar[bool] = True
    #: whether each number's update depends on nothing but its own parameter, gradient and state
    elementwise: ClassVar[bool] = False
    #: name of the update's rule, for backends that have a kernel for it, which takes the numbers of :meth:`scalars`
    rule: ClassVar[str | None] = None

    def __post_init__(self) -> None:
        if not callable(self.lr) or isinstance(self.lr, type):
            set_frozen(self, lr=number("lr", self.lr, "Constant(...) or Cosine(...)"))

    @property
    def schedule(self) -> Callable[[int, float | None], float]:
        """The learning rate as a schedule."""
        schedule: Callable[[int, float | None], float] = self.lr if callable(self.lr) else _constant(self.lr)
        return schedule

    @classmethod
    def works_elementwise(cls) -> bool:
        """Whether ``update`` may be called for pieces: what its class says, or one derived from that.

        Returns
        -------
        bool
            True if each number's update depends on nothing but its own parameter, gradient and state.
        """
        return bool(cls._said_of_update("elementwise"))

    def kernel(self) -> str | None:
        """Return the rule that a backend's kernel may apply in place of ``update``, or None."""
        rule: str | None = self._said_of_update("rule")
        return rule

    @classmethod
    def _said_of_update(cls, attribute: str) -> Any:
        """Return a class attribute, unless ``update`` is overridden by a class that does not say it again."""
        for kind in cls.__mro__:
            if attribute in vars(kind) or "update" in vars(kind):
                return vars(kind).get(attribute)
        return None

    def scalars(self, lr: float, t: int) -> tuple[float, ...]:
        """Return the numbers of the update of step ``t``, in the order in which kernels for ``rule`` take them."""
        raise NotImplementedError(f"{type(self).__name__} has the rule {self.rule!r} and must define scalars(lr, t)")

    @property
    def _sign(self) -> float:
        """Factor of the gradient: -1 with ``maximize``."""
        return -1.0 if self.maximize else 1.0  # type: ignore[attr-defined]

    def whole_gradient(self, p: Array, g: Array, work: Array, xp: Any) -> None:
        """Change the sign of the gradient if the optimiser has ``maximize``, then add ``weight_decay · p`` to it."""
        if self.maximize:  # type: ignore[attr-defined]
            xp.negative(g, out=g)
        if self.weight_decay:  # type: ignore[attr-defined]
            xp.multiply(p, self.weight_decay, out=work)  # type: ignore[attr-defined]
            g += work

    def state_slots(self) -> tuple[str, ...]:
        """Return the names of the vectors, as long as the parameters, that the update keeps; they begin as zeros.

        Returns
        -------
        tuple of str
            Such as ``("velocity",)``; empty by default.
        """
        return ()

    def update(self, p: Array, g: Array, state: dict[str, Array], lr: float, t: int, work: Array, xp: Any) -> None:
        """Change ``p`` and ``state`` in place.

        By default it is called once for each step, with all parameters of the network as one vector, so that it may
        use what depends on all of them, such as the norm of the gradient. With the class attribute
        ``elementwise = True`` it is called for pieces of the vectors, in any number and by several workers at once,
        which is faster; each number's update must then depend on nothing but its own parameter, gradient and state.
        The attribute holds for the ``update`` of its own class and of those that the class derives from: a class that
        overrides ``update`` must say it again. The same holds for ``rule``.

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
