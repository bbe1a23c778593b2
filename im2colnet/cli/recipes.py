"""How the models are trained unless the arguments say otherwise."""

from __future__ import annotations

from typing import NamedTuple

from im2colnet.optim import SGD, Adam, AdamW, Optimizer, Schedule


class Recipe(NamedTuple):
    """How a model is trained unless the arguments say otherwise."""

    epochs: int
    batch_size: int
    optimizer: str
    lr: float
    weight_decay: float = 0.0


RECIPES = {
    "notebook": Recipe(20, 32, "adam", 1e-2),
    "lenet5": Recipe(15, 64, "sgd", 0.05, 5e-4),
    "vgg8": Recipe(15, 64, "adam", 2e-3),
    "resnet20": Recipe(12, 32, "sgd", 0.05, 1e-3),
    "resnet18": Recipe(12, 64, "sgd", 0.05, 5e-4),
    "mobilenet": Recipe(15, 64, "sgd", 0.05, 5e-4),
}
MIN_STEPS = 300  #: a training of few images gets more epochs than the recipe's, until it has at least this many steps
#: learning rate and weight decay of an optimiser that is not the recipe's
RATES = {"sgd": (0.02, 0.0), "adam": (1e-3, 0.0), "adamw": (1e-3, 1e-2)}


def make_optimizer(
    name: str, lr: float | Schedule = 0.1, weight_decay: float = 0.0, momentum: float = 0.9
) -> Optimizer:
    """Return the optimiser of that name."""
    if name == "sgd":
        return SGD(lr, momentum, weight_decay)
    return (Adam if name == "adam" else AdamW)(lr, weight_decay=weight_decay)


def optimizer_text(optimizer: Optimizer) -> str:
    """Return an optimiser with its settings in words."""
    schedule = optimizer.schedule
    settings = {key: value for key, value in vars(optimizer).items() if value and key in ("momentum", "weight_decay")}
    parts = [f"{type(optimizer).__name__}, {type(schedule).__name__.lower()} lr {schedule.lr:g}"]
    return ", ".join(parts + [f"{key.replace('_', ' ')} {value:g}" for key, value in settings.items()])
