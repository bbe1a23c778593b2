"""Losses of classifiers."""

from __future__ import annotations

from typing import ClassVar

from im2colnet.backend import Backend
from im2colnet.types import Array


class CrossEntropyLoss:
    """Mean over the batch of ``-log softmax(logits)[label]``, fused: never log(0), no overflow."""

    #: see :attr:`im2colnet.Layer.stateless`
    stateless: ClassVar[bool] = True

    def __repr__(self) -> str:
        return f"{type(self).__name__}()"

    def __call__(
        self, logits: Array, labels: Array, scale: float, metrics: Array, dlogits: Array | None, backend: Backend
    ) -> None:
        """Set ``metrics`` to [scale · Σ loss, right predictions] and ``dlogits`` to scale · (softmax - onehot).

        Parameters
        ----------
        logits : (classes, n)
        labels : (n,) integer
        scale : float
            1 / batch size: a shard holds only a part of the batch.
        metrics : (2,) float64, written
        dlogits : (classes, n) or None, written
        """
        backend.cross_entropy(logits, labels, scale, out=metrics, dlogits=dlogits)
