"""Updates of parameters, by one pass for each rule (``kernels/updates.cu``)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

from im2colnet.backend.updates import Updates
from im2colnet_cupy.cuda import launch

Array = Any


def sgd(p: Array, g: Array, state: dict[str, Array], *scalars: float) -> None:
    """Apply SGD's rule; without a momentum there is no velocity, and the kernel does not touch it."""
    lr, momentum, weight_decay, nesterov = scalars
    velocity = state.get("velocity", p)
    launch("updates.cu", "sgd", p, p, g, velocity, p.size, lr, momentum, weight_decay, bool(nesterov))


def adam(p: Array, g: Array, state: dict[str, Array], *scalars: float) -> None:
    """Apply the rule of Adam and AdamW."""
    lr, b1, b2, eps, weight_decay, decoupled, *corrections = scalars
    moments = state["mean"], state["square"]
    launch(
        "updates.cu", "adam", p, p, g, *moments, p.size, lr, b1, b2, eps, weight_decay, bool(decoupled), *corrections
    )


class CupyUpdates(Updates):
    """Updates on the GPU."""

    updates: ClassVar[Mapping[str, Callable[..., None]]] = {"sgd": sgd, "adam": adam}
