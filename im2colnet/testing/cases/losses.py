"""Cases of losses."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from im2colnet.checks import arguments
from im2colnet.host import np
from im2colnet.losses import (
    BCEWithLogitsLoss,
    CrossEntropyLoss,
    DiceLoss,
    FocalLoss,
    HuberLoss,
    L1Loss,
    Loss,
    MSELoss,
    NLLLoss,
    SmoothL1Loss,
)
from im2colnet.testing import oracles
from im2colnet.testing.cases.base import LossCase
from im2colnet.types import Shape

VECTORS, PICTURES = (6, 4), (5, 3, 2, 3)
UNEVEN = (0.5, 2.0, 0.25, 1.0)

Draw = Callable[[Any], Any]


def labels(shape: Shape, classes: int, ignored: int | None = None) -> Draw:
    """Return a function that draws labels; about a third of them are ``ignored``, if it is given."""

    def draw(rng: Any) -> Any:
        found = rng.integers(0, classes, shape)
        return found if ignored is None else np.where(rng.random(shape) < 0.3, ignored, found)

    return draw


def probabilities(shape: Shape) -> Draw:
    """Return a function that draws probabilities of classes."""

    def draw(rng: Any) -> Any:
        found = rng.random(shape)
        return found / found.sum(axis=1, keepdims=True)

    return draw


def normal(shape: Shape) -> Draw:
    """Return a function that draws normally distributed numbers."""
    return lambda rng: rng.standard_normal(shape)


def uniform(shape: Shape) -> Draw:
    """Return a function that draws numbers from 0 to 1."""
    return lambda rng: rng.random(shape)


def case(oracle: Callable[..., Any], loss: Loss, output: Shape, targets: Draw) -> LossCase:
    """Return the case of a loss whose oracle takes the same arguments; its gradient is found by differences."""
    value, known = partial(oracle, **{name: getattr(loss, name) for name in arguments(type(loss))}), {}

    def gradient(x: Any, labels: Any) -> Any:
        key = x.tobytes(), labels.tobytes()
        if key not in known:  # it is slow
            known[key] = oracles.gradient_of(lambda x: value(x, labels))(x)
        return known[key]

    return LossCase(loss, value, gradient, output, targets)


LOSSES = [
    LossCase(CrossEntropyLoss(), oracles.cross_entropy, oracles.cross_entropy_grad, VECTORS, labels((6,), 4)),
    *(
        case(oracles.cross_entropy, loss, VECTORS, targets)
        for loss in (
            CrossEntropyLoss(),
            CrossEntropyLoss(UNEVEN, label_smoothing=0.3),
            CrossEntropyLoss(UNEVEN, reduction="sum"),
            CrossEntropyLoss(label_smoothing=0.1, ignore_index=2),
        )
        for targets in (labels((6,), 4, loss.ignore_index), probabilities(VECTORS))
    ),
    *(
        case(oracles.cross_entropy, loss, PICTURES, targets)
        for loss in (CrossEntropyLoss(), CrossEntropyLoss(UNEVEN[:3], 255, label_smoothing=0.2))
        for targets in (labels((5, 2, 3), 3, loss.ignore_index), probabilities(PICTURES))
    ),
    *(
        case(oracle, loss, VECTORS, labels((6,), 4, -100))
        for oracle, loss in (
            (oracles.nll, NLLLoss()),
            (oracles.nll, NLLLoss(UNEVEN, reduction="sum")),
            (oracles.focal, FocalLoss()),
            (oracles.focal, FocalLoss(0.5, UNEVEN)),
            (oracles.focal, FocalLoss(0.0, reduction="sum")),
            (oracles.dice, DiceLoss()),
        )
    ),
    *(
        case(oracle, loss, PICTURES, labels((5, 2, 3), 3, 255))
        for oracle, loss in (
            (oracles.nll, NLLLoss(UNEVEN[:3], 255)),
            (oracles.focal, FocalLoss(1.5, UNEVEN[:3], 255)),
            (oracles.dice, DiceLoss(ignore_index=255)),
            (oracles.dice, DiceLoss(0.1, 255, "sum")),
        )
    ),
    *(
        case(oracles.bce_with_logits, loss, shape, uniform(shape))
        for loss in (
            BCEWithLogitsLoss(),
            BCEWithLogitsLoss(UNEVEN[:3], "sum", UNEVEN[1:]),
            BCEWithLogitsLoss(pos_weight=[3.0]),
        )
        for shape in ((6, 3), PICTURES)
    ),
    LossCase(MSELoss(), oracles.mse, oracles.mse_grad, VECTORS, normal(VECTORS)),
    LossCase(MSELoss(), oracles.mse, oracles.mse_grad, (5, 2, 3, 4), normal((5, 2, 3, 4))),
    *(
        case(oracle, loss, shape, normal(shape))
        for oracle, loss in (
            (oracles.mse, MSELoss("sum")),
            (oracles.l1, L1Loss()),
            (oracles.l1, L1Loss("sum")),
            (oracles.huber, HuberLoss()),
            (oracles.huber, HuberLoss("sum", 0.3)),
            (oracles.smooth_l1, SmoothL1Loss()),
            (oracles.smooth_l1, SmoothL1Loss(beta=0.2)),
        )
        for shape in (VECTORS, PICTURES)
    ),
]
