"""Checks of whole trainings: compared with the plain kernels, on any number of workers, in each precision."""

from __future__ import annotations

from functools import cache
from typing import Any

from im2colnet.backend import Backend
from im2colnet.host import np
from im2colnet.layers import (
    GELU,
    AvgPool2d,
    BatchNorm2d,
    Conv2d,
    Dropout,
    Flatten,
    GroupNorm,
    Linear,
    MaxPool2d,
    ReLU,
    Upsample,
)
from im2colnet.losses import CrossEntropyLoss
from im2colnet.network import Residual, Sequential
from im2colnet.optim import SGD
from im2colnet.parallel import num_threads
from im2colnet.testing.conformance.base import Call, Check, Fault, Subject, Textbook
from im2colnet.training.trainer import Trainer
from im2colnet.types import accumulator

#: factor of the error that a kernel may have: errors grow from step to step
SLACK = {"float64": 1e3, "float32": 30.0, "tf32": 5.0, "float16": 5.0, "bfloat16": 5.0}
IMAGES, CLASSES, BATCH, SHARD, STEPS = (2, 8, 8), 5, 8, 2, 10


def network(chance: bool = False) -> Sequential:
    """A network with a layer of each family; ``chance`` adds dropout."""
    body = Sequential([Conv2d(6, 6, 3, padding=1, groups=6), GroupNorm(2, 6), GELU()])
    return Sequential(
        [
            Conv2d(2, 6, 3, padding=1, bias=False),
            BatchNorm2d(6),
            ReLU(),
            Residual(body),
            MaxPool2d(3, 2, 1),
            Conv2d(6, 8, 3, 2, 1),
            ReLU(),
            Upsample(2),
            AvgPool2d(2, 1),
            *([Dropout(0.2)] if chance else []),
            Flatten(),
            Linear(72, CLASSES),
        ]
    )


def train(
    backend: Backend, dtype: str, steps: int = STEPS, chance: bool = False, precision: str | None = None
) -> tuple[Any, dict[str, Any]]:
    """Return the losses of some steps, and the parameters and state of the network afterwards."""
    rng = np.random.default_rng(5)
    net = network(chance).init(3, dtype, backend)
    options: dict[str, Any] = {"seed": 1, "shard": SHARD, "precision": precision, "ranks": "none"}
    trainer = Trainer(net, CrossEntropyLoss(), SGD(0.05, 0.9), **options)
    losses = []
    for _ in range(steps):
        images, labels = rng.standard_normal((BATCH, *IMAGES)).astype(dtype), rng.integers(0, CLASSES, BATCH)
        losses.append(trainer.step(images, labels))
    return np.array(losses), net.state_dict()


@cache
def textbook(dtype: str, steps: int) -> tuple[Any, dict[str, Any]]:
    """The same by the textbook's kernels."""
    with num_threads(1):
        return train(Textbook(), dtype, steps)


def check_training(subject: Subject, dtype: str) -> None:
    """Ten steps are those of the textbook's kernels, and the same to the bit when they are made again.

    At another precision than that of the parameters, five steps.
    """
    kept = accumulator(dtype)  # the type of the parameters
    precision = None if kept == "float64" else subject.backend.precision
    own = precision in (None, "float32")
    steps, slack = (STEPS, SLACK[dtype]) if own else (STEPS // 2, SLACK[str(precision)])
    exact, exact_state = textbook(kept, steps)
    with subject.on(f"{steps} steps in {precision or dtype}, batch size {BATCH}"):
        losses, state = train(subject.backend, kept, steps, precision=precision)
        subject.compare("the loss of each step", losses, exact, dtype, slack)
        for name, value in exact_state.items():
            subject.compare(f"{name} after the last step", state[name], value, dtype, slack)
        if own:
            again = train(subject.backend, kept, steps, precision=precision)
            same_training(subject, "the same training again", again, (losses, state))


def same_training(subject: Subject, what: str, found: Any, expected: Any) -> None:
    """Check that two trainings are equal to the bit."""
    subject.equal(f"the loss of {what}", found[0], expected[0])
    for name, value in expected[1].items():
        subject.equal(f"{name} of {what}", found[1][name], value)


def check_workers(subject: Subject, dtype: str) -> None:
    """The same bits for one, two and three workers, also where chance decides."""
    found = []
    for workers in (1, 2, 3):
        with num_threads(workers):
            found.append(train(subject.backend, dtype, 5, chance=True))
    with subject.on(f"5 steps in {dtype}, batch size {BATCH}, shards of {SHARD} samples"):
        for workers in (2, 3):
            same_training(subject, f"{workers} workers, compared with one,", found[workers - 1], found[0])


CHECKS = [
    Check("training", check_training),
    Check("workers", check_workers, ("float32",), halves=False),
]


# Faults -------------------------------------------------------------------------------------------------------------
def grouped_by_workers(call: Call) -> Any:
    """Products whose last bits depend on the number of workers."""
    from im2colnet.parallel import get_num_threads

    result = np.array(call.backend.to_numpy(call.right(**call.arguments)))
    return call.give(result * (1 + 1e-6 * get_num_threads()))


def flush(call: Call) -> Any:
    """Running statistics that are never moved."""


FAULTS = [
    Fault("training", "the running statistics are not moved", "batch_norm_running", flush),
    Fault("workers", "products depend on the number of workers", "matmul", grouped_by_workers),
]
