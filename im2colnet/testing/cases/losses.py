"""Cases of losses."""

from __future__ import annotations

from im2colnet.losses import CrossEntropyLoss, MSELoss
from im2colnet.testing import oracles
from im2colnet.testing.cases.base import LossCase

LOSSES = [
    LossCase(
        CrossEntropyLoss(), oracles.cross_entropy, oracles.cross_entropy_grad, (6, 4), lambda rng: rng.integers(0, 4, 6)
    ),
    LossCase(MSELoss(), oracles.mse, oracles.mse_grad, (6, 4), lambda rng: rng.standard_normal((6, 4))),
    LossCase(MSELoss(), oracles.mse, oracles.mse_grad, (5, 2, 3, 4), lambda rng: rng.standard_normal((5, 2, 3, 4))),
]
