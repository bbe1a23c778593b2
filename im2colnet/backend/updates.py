"""What optimizers do to parameters."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

from im2colnet.backend.arrays import Arrays
from im2colnet.types import Array


class Updates(Arrays):
    """Updates of parameters by their gradients."""

    #: kernels by the name of an optimizer's rule, called with ``(p, g, state, *optimizer.scalars(lr, t))``
    updates: ClassVar[Mapping[str, Callable[..., None]]] = {}

    def update(
        self, optimizer: Any, p: Array, g: Array, state: dict[str, Array], lr: float, t: int, work: Array
    ) -> None:
        """Let an optimizer change parameters ``p`` by their gradients ``g``: see :meth:`im2colnet.Optimizer.update`."""
        kernel = self.updates.get(optimizer.kernel()) if self.updates else None
        if kernel is None:
            optimizer.update(p, g, state, lr, t, work, self.xp)
        else:
            kernel(p, g, state, *optimizer.scalars(lr, t))
