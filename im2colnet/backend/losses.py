"""Losses and their gradients."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from im2colnet.backend.arrays import Arrays
from im2colnet.backend.kernel import kernel
from im2colnet.types import Array, Call, Spec


def _loss_and_count(backend: Any, **arguments: Any) -> Spec:
    return Spec((2,), "float64")


class Losses(Arrays):
    """Kernels of losses."""

    @kernel(result=_loss_and_count, writes=("dlogits",))
    def cross_entropy(
        self, logits: Array, labels: Array, scale: float, out: Array = None, dlogits: Array | None = None
    ) -> Iterator[Call]:
        """Softmax and cross-entropy, fused and stable: ``out = [scale · Σ loss, correct predictions]``, float64.

        ``logits`` (classes, N), ``labels`` (N,) integer. ``dlogits``, where given, becomes
        ``scale · (softmax(logits) - onehot(labels))``.
        """
        xp = self.xp
        samples = xp.arange(logits.shape[1])

        def compute() -> None:
            z = logits - logits.max(axis=0)
            right = z[labels, samples]
            p = xp.exp(z, out=z)
            total = p.sum(axis=0)
            out[0] = scale * (xp.log(total) - right).astype("float64").sum()
            out[1] = (logits.argmax(axis=0) == labels).sum()
            if dlogits is not None:
                xp.divide(p, total, out=dlogits)
                dlogits[labels, samples] -= 1
                xp.multiply(dlogits, scale, out=dlogits)

        yield compute
