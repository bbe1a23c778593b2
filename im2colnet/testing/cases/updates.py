"""Cases of optimisers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict

from im2colnet.optim import SGD, Adam, AdamW, Optimizer
from im2colnet.testing import oracles
from im2colnet.testing.cases.base import OptimizerCase
from im2colnet.types import Array


def sgd(*examples: Optimizer) -> list[OptimizerCase]:
    """The cases of SGD: its state is the velocity."""

    def case(optimizer: Optimizer) -> OptimizerCase:
        def step(p: Array, g: Array, state: tuple[Array, ...], t: int) -> tuple[Array, tuple[Array, ...]]:
            p, velocity = oracles.sgd_step(p, g, *state, **asdict(optimizer))
            return p, (velocity,)

        return OptimizerCase(optimizer, step)

    return [case(optimizer) for optimizer in examples]


def adam(oracle: Callable[..., tuple[Array, Array, Array]], *examples: Optimizer) -> list[OptimizerCase]:
    """The cases of Adam and AdamW: their state is the two moments."""

    def case(optimizer: Optimizer) -> OptimizerCase:
        def step(p: Array, g: Array, state: tuple[Array, ...], t: int) -> tuple[Array, tuple[Array, ...]]:
            p, mean, square = oracle(p, g, *(state or (0.0, 0.0)), t, **asdict(optimizer))
            return p, (mean, square)

        return OptimizerCase(optimizer, step)

    return [case(optimizer) for optimizer in examples]


OPTIMIZERS = [
    *sgd(SGD(0.1), SGD(0.1, momentum=0.9), SGD(0.05, momentum=0.9, weight_decay=0.01, nesterov=True)),
    *sgd(SGD(0.05, weight_decay=0.1)),
    *adam(oracles.adam_step, Adam(0.01), Adam(0.02, betas=(0.8, 0.99), eps=1e-6, weight_decay=0.1)),
    *adam(oracles.adamw_step, AdamW(0.01), AdamW(0.02, betas=(0.8, 0.99), eps=1e-6, weight_decay=0.2)),
]
