"""How the command line trains a model unless the arguments say otherwise."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from im2colnet.checks import arguments
from im2colnet.cli.arguments import UsageError
from im2colnet.optim import Constant, Cosine, Optimizer
from im2colnet.optim.defaults import OPTIMIZERS

MIN_STEPS = 500  #: a training of few images gets more epochs than the recipe's, until it has at least this many steps


def optimizer_name(optimizer: Optimizer) -> str:
    """Return the name of an optimizer on the command line."""
    return next(name for name, other in OPTIMIZERS.items() if type(other) is type(optimizer))


def make_optimizer(name: str | None, recipe: Optimizer, **settings: Any) -> Optimizer:
    """Return the recipe's optimizer, or the optimizer ``name`` with its defaults, with the given settings."""
    optimizer = recipe if name in (None, optimizer_name(recipe)) else OPTIMIZERS[name or ""]
    settings = {key: value for key, value in settings.items() if value is not None}
    for key in settings.keys() - arguments(type(optimizer)).keys():
        able = [other for other, usual in OPTIMIZERS.items() if key in arguments(type(usual))]
        raise UsageError(f"--{key} is only for {' and '.join(able)}, not for {optimizer_name(optimizer)}")
    return replace(optimizer, **settings)


def optimizer_text(optimizer: Optimizer) -> str:
    """Return an optimizer with its settings in words."""
    schedule = optimizer.schedule
    settings = {key: value for key, value in vars(optimizer).items() if value and key in ("momentum", "weight_decay")}
    rate = f" lr {schedule.lr:g}" if isinstance(schedule, (Constant, Cosine)) else " lr"
    parts = [f"{type(optimizer).__name__}, {type(schedule).__name__.lower()}{rate}"]
    return ", ".join(parts + [f"{key.replace('_', ' ')} {value:g}" for key, value in settings.items()])
