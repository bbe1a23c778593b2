"""Losses and their gradients, a sample at a time."""

from __future__ import annotations

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


def cross_entropy(logits: Any, labels: Any, reduction: str = "mean") -> Any:
    """``-log softmax(logits)[label]``, averaged ("mean"), added up ("sum") or of each row ("none")."""
    (logits,) = floats(logits)
    losses = np.zeros(len(logits))
    for n, label in enumerate(labels):
        shifted = logits[n] - logits[n].max()
        losses[n] = np.log(np.exp(shifted).sum()) - shifted[label]
    if reduction == "none":
        return losses
    return losses.mean() if reduction == "mean" else losses.sum()


def cross_entropy_grad(logits: Any, labels: Any, reduction: str = "mean") -> Any:
    """Gradient of the loss with respect to the logits: ``softmax - one-hot``, over N for the mean."""
    dlogits = softmax(logits)
    for n, label in enumerate(labels):
        dlogits[n, label] -= 1
    return dlogits / len(logits) if reduction == "mean" else dlogits


def mse(output: Any, targets: Any, reduction: str = "mean") -> Any:
    """``(output - target)**2``, averaged over all numbers ("mean") or added up ("sum")."""
    output, targets = floats(output, targets)
    squares = [(o - t) ** 2 for o, t in zip(output.ravel(), targets.ravel(), strict=True)]
    return np.float64(sum(squares) / (len(squares) if reduction == "mean" else 1))


def mse_grad(output: Any, targets: Any, reduction: str = "mean") -> Any:
    """``2 (output - target)``, over the count of all numbers for the mean."""
    output, targets = floats(output, targets)
    return 2 * (output - targets) / (output.size if reduction == "mean" else 1)
