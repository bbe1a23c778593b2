"""Losses and their gradients, a sample at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from im2colnet.host import np
from im2colnet.testing.oracles.arrays import floats


def softmax(x: Any) -> Any:
    """Softmax of each row."""
    (x,) = floats(x)
    y = np.zeros(x.shape)
    for n in range(len(x)):
        exponentials = np.exp(x[n] - np.max(x[n]))
        y[n] = exponentials / exponentials.sum()
    return y


def log_softmax(scores: Any) -> Any:
    """Logarithm of the softmax over axis 1."""
    (scores,) = floats(scores)
    shifted = scores - scores.max(axis=1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))


def gradient_of(loss: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Return the gradient of a function of an array, by differences of the fourth order."""

    def gradient(x: Any) -> Any:
        (x,) = floats(x)
        found, h = np.zeros(x.shape), 1e-3
        for place in np.ndindex(*x.shape):
            step = np.zeros(x.shape)
            step[place] = h
            near, far = loss(x + step) - loss(x - step), loss(x + 2 * step) - loss(x - 2 * step)
            found[place] = (8 * near - far) / (12 * h)
        return found

    return gradient


def _reduced(losses: Any, divisor: float, reduction: str) -> Any:
    return losses if reduction == "none" else losses.sum() / (divisor if reduction == "mean" else 1)


def _labelled(labels: Any, ignore_index: int) -> Iterator[tuple[tuple[int, ...], int]]:
    """Yield the place (n, ...) of each label that is not ignored, and the label."""
    labels = np.asarray(labels)
    for place in np.ndindex(*labels.shape):
        if labels[place] != ignore_index:
            yield place, int(labels[place])


def cross_entropy(
    logits: Any,
    labels: Any,
    reduction: str = "mean",
    weight: Any = None,
    ignore_index: int = -100,
    label_smoothing: float = 0.0,
) -> Any:
    """``-log softmax(logits)[label]`` over axis 1, averaged ("mean"), added up ("sum") or of each label ("none").

    Labels are integers, or probabilities of the shape of the logits.
    """
    z = log_softmax(logits)
    classes = z.shape[1]
    weights, total, losses = np.ones(classes) if weight is None else weight, 0.0, np.zeros((len(z), *z.shape[2:]))
    if np.shape(labels) == z.shape:
        for n, *place in np.ndindex(*losses.shape):
            here = n, slice(None), *place
            soft = (1 - label_smoothing) * np.asarray(labels, float)[here] + label_smoothing / classes
            losses[(n, *place)] = -sum(weights * soft * z[here])
        return _reduced(losses, losses.size, reduction)
    for (n, *place), label in _labelled(labels, ignore_index):
        here = z[(n, slice(None), *place)]
        smooth = sum(weights * -here) / classes
        losses[(n, *place)] = (1 - label_smoothing) * weights[label] * -here[label] + label_smoothing * smooth
        total += weights[label]
    return _reduced(losses, total, reduction)


def cross_entropy_grad(logits: Any, labels: Any, reduction: str = "mean") -> Any:
    """Gradient of the loss with respect to the logits (N, classes): ``softmax - one-hot``, over N for the mean."""
    dlogits = softmax(logits)
    for n, label in enumerate(labels):
        dlogits[n, label] -= 1
    return dlogits / len(logits) if reduction == "mean" else dlogits


def nll(z: Any, labels: Any, reduction: str = "mean", weight: Any = None, ignore_index: int = -100) -> Any:
    """``-z[label]`` of log-probabilities, axis 1."""
    (z,) = floats(z)
    weights, total = np.ones(z.shape[1]) if weight is None else weight, 0.0
    losses = np.zeros((len(z), *z.shape[2:]))
    for (n, *place), label in _labelled(labels, ignore_index):
        losses[(n, *place)] = -weights[label] * z[(n, label, *place)]
        total += weights[label]
    return _reduced(losses, total, reduction)


def focal(
    logits: Any,
    labels: Any,
    gamma: float = 2.0,
    weight: Any = None,
    ignore_index: int = -100,
    reduction: str = "mean",
) -> Any:
    """``-(1 - p)**gamma * log(p)`` of the label's probability p, axis 1."""
    z = log_softmax(logits)
    weights, count = np.ones(z.shape[1]) if weight is None else weight, 0
    losses = np.zeros((len(z), *z.shape[2:]))
    for (n, *place), label in _labelled(labels, ignore_index):
        log_p = z[(n, label, *place)]
        losses[(n, *place)] = weights[label] * (1 - np.exp(log_p)) ** gamma * -log_p
        count += 1
    return _reduced(losses, count, reduction)


def dice(logits: Any, labels: Any, smooth: float = 1.0, ignore_index: int = -100, reduction: str = "mean") -> Any:
    """``1 - (2 sum(p t) + smooth) / (sum(p) + sum(t) + smooth)`` over the pixels, a mean over the classes."""
    p = np.exp(log_softmax(logits))
    losses = np.zeros(len(p))
    for n in range(len(p)):
        of_class = []
        for k in range(p.shape[1]):
            overlap = total = smooth
            for (_, *place), label in _labelled(labels[n : n + 1], ignore_index):
                probability, wanted = p[(n, k, *place)], float(label == k)
                overlap += 2 * probability * wanted
                total += probability + wanted
            of_class.append(1 - overlap / total)
        losses[n] = np.mean(of_class)
    return _reduced(losses, len(losses), reduction)


def bce_with_logits(x: Any, targets: Any, weight: Any = None, reduction: str = "mean", pos_weight: Any = None) -> Any:
    """``-(pos_weight t log s(x) + (1 - t) log(1 - s(x)))`` with the sigmoid s, weighted by class, axis 1."""
    x, targets = floats(x, targets)
    losses = np.zeros(x.shape)
    for place in np.ndindex(*x.shape):
        k = place[1]
        w, positive = (1.0 if each is None else each[k if len(each) > 1 else 0] for each in (weight, pos_weight))
        yes, no = np.logaddexp(0, -x[place]), np.logaddexp(0, x[place])
        losses[place] = w * (positive * targets[place] * yes + (1 - targets[place]) * no)
    return _reduced(losses, losses.size, reduction)


def _of_differences(function: Callable[[Any], Any], output: Any, targets: Any, reduction: str) -> Any:
    output, targets = floats(output, targets)
    losses = np.array([function(o - t) for o, t in zip(output.ravel(), targets.ravel(), strict=True)])
    return _reduced(losses.reshape(output.shape), losses.size, reduction)


def mse(output: Any, targets: Any, reduction: str = "mean") -> Any:
    """``(output - target)**2``, averaged over all numbers ("mean"), added up ("sum") or of each ("none")."""
    return _of_differences(lambda d: d**2, output, targets, reduction)


def mse_grad(output: Any, targets: Any, reduction: str = "mean") -> Any:
    """``2 (output - target)``, over the count of all numbers for the mean."""
    output, targets = floats(output, targets)
    return 2 * (output - targets) / (output.size if reduction == "mean" else 1)


def l1(output: Any, targets: Any, reduction: str = "mean") -> Any:
    """``|output - target|``."""
    return _of_differences(abs, output, targets, reduction)


def huber(output: Any, targets: Any, reduction: str = "mean", delta: float = 1.0) -> Any:
    """``d**2 / 2`` up to ``|d| = delta``, ``delta (|d| - delta / 2)`` beyond."""

    def function(d: float) -> float:
        return d**2 / 2 if abs(d) <= delta else delta * (abs(d) - delta / 2)

    return _of_differences(function, output, targets, reduction)


def smooth_l1(output: Any, targets: Any, reduction: str = "mean", beta: float = 1.0) -> Any:
    """``d**2 / (2 beta)`` below ``|d| = beta``, ``|d| - beta / 2`` beyond."""

    def function(d: float) -> float:
        return d**2 / (2 * beta) if abs(d) < beta else abs(d) - beta / 2

    return _of_differences(function, output, targets, reduction)
