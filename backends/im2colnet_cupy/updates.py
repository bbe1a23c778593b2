"""Updates of parameters, by one pass for each rule (``kernels/updates.cu``)."""

from __future__ import annotations

from typing import Any

from im2colnet.backend.updates import Updates
from im2colnet.optim import SGD, Adam, AdamW
from im2colnet_cupy.cuda import launch

Array = Any


class CupyUpdates(Updates):
    """Updates on the GPU."""

    def update(
        self, optimizer: Any, p: Array, g: Array, state: dict[str, Array], lr: float, t: int, work: Array
    ) -> None:
        kind = type(optimizer)  # a user's own may update in another way
        if kind is SGD:
            velocity = state.get("velocity", p)
            launch(
                "updates.cu",
                "sgd",
                p,
                p,
                g,
                velocity,
                p.size,
                float(lr),
                float(optimizer.momentum),
                float(optimizer.weight_decay),
                optimizer.nesterov,
            )
        elif kind in (Adam, AdamW):
            b1, b2 = map(float, optimizer.betas)
            launch(
                "updates.cu",
                "adam",
                p,
                p,
                g,
                state["mean"],
                state["square"],
                p.size,
                float(lr),
                b1,
                b2,
                float(optimizer.eps),
                float(optimizer.weight_decay),
                optimizer.decoupled,
                1 - b1**t,
                1 - b2**t,
            )
        else:
            super().update(optimizer, p, g, state, lr, t, work)
