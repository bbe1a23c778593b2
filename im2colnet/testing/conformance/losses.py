"""Checks of losses: the kernel of cross-entropy, and every loss of the library; and faults of them."""

from __future__ import annotations

from typing import Any

from im2colnet.host import np
from im2colnet.testing import oracles
from im2colnet.testing.cases import LOSSES, LossCase
from im2colnet.testing.conformance.base import Call, Check, Fault, Subject, changing, images, rows, spoiling
from im2colnet.types import Spec

#: factor of what is allowed of a gradient in float64: most oracles find gradients by differences
DIFFERENCES = 100.0


def cross_entropy(subject: Subject, logits: Any, labels: Any, scale: float) -> None:
    """Check loss, right predictions and gradient for logits (N, classes); a tie is the first class's."""
    dtype = logits.dtype.name
    spec = {"dlogits": Spec(rows(logits).shape, dtype)}
    found = subject.call("cross_entropy", rows(logits), labels, scale, written=spec)
    loss, right = found["out"]
    subject.compare("the loss", loss, scale * oracles.cross_entropy(logits, labels, "sum"), dtype)
    guesses = [max(range(len(row)), key=row.__getitem__) for row in logits]
    subject.equal("the number of correct predictions", right, sum(g == k for g, k in zip(guesses, labels, strict=True)))
    exact = scale * oracles.cross_entropy_grad(logits, labels, "sum")
    subject.compare("the gradient", images(found["dlogits"]), exact, dtype)
    alone = subject.call("cross_entropy", rows(logits), labels, scale)
    subject.compare("the loss without a gradient", alone[0], loss, dtype)


def check_cross_entropy(subject: Subject, dtype: str) -> None:
    """Also of one class, of ties, and of scores that overflow if they are not shifted."""
    r = subject.rng
    for classes, samples, spread in ((7, 5, 1), (2, 1, 1), (1, 3, 1), (4, 6, 3e3), (10, 40, 5), (5, 4, 0)):
        logits = subject.normal(samples, classes) * spread
        if spread == 5:
            logits = np.round(logits)  # with ties
        labels = r.integers(0, classes, samples) if spread else np.zeros(samples, int)
        cross_entropy(subject, logits.astype(dtype), labels, 1 / (3 + samples))


def loss_of_case(subject: Subject, case: LossCase, dtype: str) -> None:
    """Check value and gradient of a loss of the library, as a run calls it.

    The numbers do not depend on the seed: differences, by which oracles find gradients, must not meet a kink.
    """
    backend, loss = subject.backend, case.loss
    exact = np.random.default_rng(0).standard_normal(case.output).astype("float32").astype("float64")
    output, labels = exact.astype(dtype), case.targets(np.random.default_rng(1))
    targets = loss.targets(labels, output.shape)
    divisor, _ = loss.totals(targets)
    with backend.context(), backend.errstate(), np.errstate(all="ignore"), subject.on(f"{loss!r}"):
        metrics, gradient = backend.empty((1 + len(loss.metrics),), "float64"), backend.empty(rows(output).shape, dtype)
        metrics[...] = gradient[...] = float("nan")
        loss(subject.there(rows(output)), subject.there(targets), 1 / divisor, metrics, gradient, backend)
        subject.compare("the value", subject.back(metrics)[0], case.value(exact, labels), dtype)
        slack = DIFFERENCES if dtype == "float64" else 1.0
        subject.compare("the gradient", images(subject.back(gradient)), case.gradient(exact, labels), dtype, slack)


def check_losses(subject: Subject, dtype: str) -> None:
    """Every loss of the library."""
    for case in LOSSES:
        loss_of_case(subject, case, dtype)


CHECKS = [Check("cross_entropy", check_cross_entropy), Check("losses", check_losses, halves=False)]


# Faults -------------------------------------------------------------------------------------------------------------
def overflowing(call: Call) -> Any:
    """Softmax without a shift by the largest score."""
    logits, labels, scale, dlogits = call.host("logits", "labels", "scale", "dlogits")
    with np.errstate(all="ignore"):
        p = np.exp(logits)
        p /= p.sum(0)
        losses = -np.log(p[labels, range(len(labels))])
        if dlogits is not None:
            p[labels, range(len(labels))] -= 1
            call.give(scale * p, "dlogits")
    right = (logits.argmax(0) == labels).sum()
    return call.give(np.array([scale * losses.astype("float64").sum(), right]))


def unscaled(gradient: Any, scale: float) -> Any:
    """The gradient without its scale."""
    return gradient / scale


def last_of_ties(call: Call) -> Any:
    """Of equal scores the last counts as the prediction."""
    (logits, labels), result = call.host("logits", "labels"), call.right(**call.arguments)
    loss, _ = np.array(call.backend.to_numpy(result))
    guesses = len(logits) - 1 - logits[::-1].argmax(0)
    result[...] = call.backend.asarray(np.array([loss, (guesses == labels).sum()], "float64"))
    return result


FAULTS = [
    Fault("cross_entropy", "exp of large scores overflows", "cross_entropy", overflowing),
    Fault(
        "cross_entropy", "the gradient is not scaled", "cross_entropy", spoiling(unscaled, "dlogits", among=["scale"])
    ),
    Fault("cross_entropy", "for equal scores the last class is predicted", "cross_entropy", last_of_ties),
    Fault("losses", "the loss is not scaled", "cross_entropy", changing(scale=lambda scale: 1.0)),
]
