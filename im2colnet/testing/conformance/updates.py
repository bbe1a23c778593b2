"""Checks of what optimizers do, and faults of it."""

from __future__ import annotations

from im2colnet.host import np
from im2colnet.testing.cases import OPTIMIZERS, OptimizerCase
from im2colnet.testing.conformance.base import Check, Fault, Subject, changing

STEPS, NUMBERS = 5, 37


def update(subject: Subject, case: OptimizerCase, dtype: str) -> None:
    """Check steps of an optimizer on a vector of parameters."""
    backend, optimizer = subject.backend, case.optimizer
    exact, kept = subject.normal(NUMBERS, dtype=dtype), ()
    with backend.context(), backend.errstate(), subject.on(f"{optimizer!r}, {NUMBERS} parameters of {dtype}"):
        p, work = subject.there(exact), backend.empty((NUMBERS,), dtype)
        state = {name: subject.there(np.zeros(NUMBERS, dtype)) for name in optimizer.state_slots()}
        for t in range(1, STEPS + 1):
            g = subject.normal(NUMBERS, dtype=dtype)
            work[...] = float("nan")
            backend.update(optimizer, p, subject.there(g), state, optimizer.schedule(t - 1, STEPS), t, work)
            exact, kept = case.step(exact, g, kept, t)
            found = subject.back(p)
            if found.dtype.name != dtype:
                raise subject.wrong(f"parameters have become {found.dtype.name}")
            subject.compare(f"the parameter after step {t}", found, exact, dtype)


def check_update(subject: Subject, dtype: str) -> None:
    """Every optimizer of the library."""
    for case in OPTIMIZERS:
        update(subject, case, dtype)


CHECKS = [Check("update", check_update, halves=False)]
FAULTS = [
    Fault("update", "steps are counted from 0", "update", changing(t=lambda t: t + 1)),
    Fault("update", "the learning rate is halved", "update", changing(lr=lambda lr: lr / 2)),
    Fault("update", "the gradient has a wrong sign", "update", changing(g=lambda g: -g)),
]
