"""Updates of parameters, by one pass for each rule (``kernels/updates.cu``)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, ClassVar

from im2colnet.backend.updates import Updates
from im2colnet.errors import BackendError
from im2colnet_cupy.cuda import launch, parameters

Array = Any
FILE = "updates.cu"


def update(rule: str, p: Array, g: Array, state: dict[str, Array], *scalars: float) -> None:
    """Run the kernel of a rule, whose parameters are called as the vectors of the state.

    A vector that the state does not have is one that the kernel does not touch: ``p`` is in its place.
    """
    _, _, *others = parameters(FILE)[rule]
    vectors = [name for kind, name in others if kind == "T*"]
    _, *numbers = (name for kind, name in others if kind != "T*")  # after the number of parameters
    if len(scalars) != len(numbers) or not state.keys() <= set(vectors):
        raise BackendError(
            f"the kernel of the rule {rule!r} takes the vectors {', '.join(vectors)} and the scalars"
            f" {', '.join(numbers)}; the optimizer's state_slots() are ({', '.join(state)}), and its scalars(lr, t)"
            f" gave {len(scalars)} numbers. With rule = None the optimizer's update is called instead"
        )
    launch(FILE, rule, p, p, g, *(state.get(name, p) for name in vectors), p.size, *scalars)


class CupyUpdates(Updates):
    """Updates on the GPU."""

    updates: ClassVar[Mapping[str, Callable[..., None]]] = {rule: partial(update, rule) for rule in parameters(FILE)}
