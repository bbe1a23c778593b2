"""Losses of classifiers."""

from __future__ import annotations

from typing import Any, ClassVar

from im2colnet.backend import Backend
from im2colnet.backend.foreign import to_host
from im2colnet.errors import DTypeError, ShapeError
from im2colnet.host import np
from im2colnet.losses.base import Loss
from im2colnet.types import Array, Shape

__all__ = ["CrossEntropyLoss"]


class CrossEntropyLoss(Loss):
    """Mean over the batch of ``-log softmax(logits)[label]``, fused: never log(0), no overflow.

    Labels are integers (N,), the class of each sample from 0; the network gives class scores (N, classes).
    """

    metrics: ClassVar[tuple[str, ...]] = ("accuracy",)
    stateless: ClassVar[bool] = True

    def targets(self, labels: Any, output_shape: Shape) -> np.ndarray:
        """Return class labels (N,), integers from 0 to classes - 1, as an array of the host."""
        if len(output_shape) != 2:
            raise ShapeError(
                "the loss needs class scores (N, classes), but the network gives images: end it with Flatten() and"
                " Linear(...)"
            )
        n, classes = output_shape
        found = to_host("labels", labels)
        if found.dtype.kind not in "iu":
            raise DTypeError(f"labels must be integers, got {found.dtype}")
        if found.shape != (n,):
            raise ShapeError(f"labels must have shape ({n},), one for each image, got {found.shape}")
        low, high = int(found.min()), int(found.max())
        if low < 0 or high >= classes:
            raise ShapeError(f"labels must be 0 to {classes - 1} for {classes} network outputs, got {low} to {high}")
        return found

    def __call__(
        self, logits: Array, labels: Array, scale: float, metrics: Array, dlogits: Array | None, backend: Backend
    ) -> None:
        """Set ``metrics`` to [scale · Σ loss, right predictions] and ``dlogits`` to scale · (softmax - onehot).

        Parameters
        ----------
        logits : (classes, n)
        labels : (n,) integer
        scale : float
        metrics : (2,) float64, written
        dlogits : (classes, n) or None, written
        backend : Backend
        """
        backend.cross_entropy(logits, labels, scale, out=metrics, dlogits=dlogits)

    def probabilities(self, output: np.ndarray) -> np.ndarray:
        """Return the softmax of class scores (N, classes), in float64."""
        scores = output.astype(np.float64)
        scores -= scores.max(axis=1, keepdims=True)
        scores -= np.log(np.exp(scores).sum(axis=1, keepdims=True))
        return np.exp(scores, out=scores)

    def random_targets(self, output_shape: Shape, rng: np.random.Generator) -> np.ndarray:
        """Return random labels for class scores (N, classes)."""
        n, classes = output_shape
        return rng.integers(0, classes, n)
