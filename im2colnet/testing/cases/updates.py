"""Cases of optimizers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from typing import Any

from im2colnet.optim import SGD, Adagrad, Adam, AdamW, Optimizer, RMSprop
from im2colnet.testing import oracles
from im2colnet.testing.cases.base import OptimizerCase


def cases(oracle: Callable[..., Any], *examples: Optimizer) -> list[OptimizerCase]:
    """Return the cases of optimizers whose oracle takes the same arguments."""
    return [OptimizerCase(optimizer, partial(oracle, **asdict(optimizer))) for optimizer in examples]


OPTIMIZERS = [
    *cases(oracles.sgd_step, SGD(0.1), SGD(0.1, momentum=0.9), SGD(0.05, weight_decay=0.1), SGD(0.1, maximize=True)),
    *cases(oracles.sgd_step, SGD(0.05, 0.9, 0.01, nesterov=True), SGD(0.05, 0.9, 0.01, dampening=0.4, maximize=True)),
    *cases(oracles.adam_step, Adam(0.01), Adam(0.02, betas=(0.8, 0.99), eps=1e-6, weight_decay=0.1)),
    *cases(oracles.adam_step, Adam(0.01, betas=(0.5, 0.5), amsgrad=True), Adam(0.01, amsgrad=True, maximize=True)),
    *cases(oracles.adamw_step, AdamW(0.01), AdamW(0.02, betas=(0.8, 0.99), eps=1e-6, weight_decay=0.2, amsgrad=True)),
    *cases(oracles.rmsprop_step, RMSprop(), RMSprop(0.02, 0.9, 1e-6, 0.1, 0.8), RMSprop(0.01, 0.5, centered=True)),
    *cases(oracles.rmsprop_step, RMSprop(0.02, 0.9, 1e-6, 0.1, 0.8, True, True)),
    *cases(oracles.adagrad_step, Adagrad(), Adagrad(0.1, 0.2, 0.1, 0.3, 1e-6), Adagrad(0.1, maximize=True)),
]
