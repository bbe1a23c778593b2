"""The base class of optimizers."""

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
    """Base of the optimizers: the rule that updates the parameters from their gradient.

    A derived class defines :meth:`update`, and :meth:`state_slots` if it has a state. An optimizer is a frozen
    dataclass: its arguments cannot be changed. To get a changed copy, use ``dataclasses.replace``.

    Parameters
    ----------
    lr : float, Schedule, or callable
        The learning rate: a number, or a callable that takes the arguments of a :class:`Schedule` and returns the rate
        of the step. Checkpoints can hold numbers and schedules, but no other callables.

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
    #: whether the update of each element depends only on the parameter, gradient and state of this element
    elementwise: ClassVar[bool] = False
    #: the name of the update rule, for backends with a kernel for it; :meth:`scalars` returns the kernel's arguments
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
        """Whether ``update`` may be called for pieces of the vectors, as its class declares by ``elementwise``.

        Returns
        -------
        bool
            True if the update of each element depends only on the parameter, gradient and state of this element.
        """
        return bool(cls._said_of_update("elementwise"))

    def kernel(self) -> str | None:
        """Return the rule that a backend's kernel may apply in place of ``update``, or None."""
        rule: str | None = self._said_of_update("rule")
        return rule

    @classmethod
    def _said_of_update(cls, attribute: str) -> Any:
        """Return a class attribute, unless a class overrides ``update`` without setting the attribute again."""
        for kind in cls.__mro__:
            if attribute in vars(kind) or "update" in vars(kind):
                return vars(kind).get(attribute)
        return None

    def scalars(self, lr: float, t: int) -> tuple[float, ...]:
        """Return the numbers of the update of step ``t``, in the order in which kernels for ``rule`` take them."""
        raise NotImplementedError(f"{type(self).__name__} has the rule {self.rule!r} and must define scalars(lr, t)")

    @property
    def _sign(self) -> float:
        """Return the factor of the gradient: -1 with ``maximize``, else 1."""
        return -1.0 if self.maximize else 1.0  # type: ignore[attr-defined]

    def whole_gradient(self, p: Array, g: Array, work: Array, xp: Any) -> None:
        """Change the sign of the gradient if the optimizer has ``maximize``, then add ``weight_decay · p`` to it."""
        if self.maximize:  # type: ignore[attr-defined]
            xp.negative(g, out=g)
        if self.weight_decay:  # type: ignore[attr-defined]
            xp.multiply(p, self.weight_decay, out=work)  # type: ignore[attr-defined]
            g += work

    def state_slots(self) -> tuple[str, ...]:
        """Return the names of the optimizer's state vectors, which are as long as the parameters and begin as zeros.

        Returns
        -------
        tuple of str
            The names, such as ``("velocity",)``; empty by default.
        """
        return ()

    def update(self, p: Array, g: Array, state: dict[str, Array], lr: float, t: int, work: Array, xp: Any) -> None:
        """Update the parameters ``p`` and ``state`` in place.

        By default it is called once for each step, with all parameters of the network as one vector, so that it may use
        values that depend on all of them, such as the norm of the gradient. With the class attribute
        ``elementwise = True`` it is called for pieces of the vectors, by several workers at once, which is faster. Then
        the update of each element must depend only on the parameter, gradient and state of this element. The attribute
        is not inherited by a class that overrides ``update``: such a class must set it again. The same holds for
        ``rule``.

        Parameters
        ----------
        p, g : (n,) arrays
            The parameters and the gradient; the gradient may be overwritten.
        state : dict of str to (n,) array
            The vectors of :meth:`state_slots`.
        lr : float
            The learning rate of this step.
        t : int
            The number of the update, from 1.
        work : (n,) array
            An array for temporary values.
        xp : module
            The array module, such as NumPy.
        """
        raise NotImplementedError(f"{type(self).__name__} must define update(p, g, state, lr, t, work, xp)")
