"""What optimisers do to parameters."""

from __future__ import annotations

from typing import Any

from im2colnet.backend.arrays import Arrays
from im2colnet.types import Array


class Updates(Arrays):
    """Updates of parameters by their gradients."""

    def update(
        self, optimizer: Any, p: Array, g: Array, state: dict[str, Array], lr: float, t: int, work: Array
    ) -> None:
        """Let an optimiser change parameters ``p`` by their gradients ``g``: see :meth:`im2colnet.Optimizer.update`."""
        optimizer.update(p, g, state, lr, t, work, self.xp)
