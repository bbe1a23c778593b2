"""Softmax and cross-entropy."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from im2colnet.backend.kernel import kernel
from im2colnet.backend.losses import Losses
from im2colnet.types import Call
from im2colnet_numba.arrays import fits, lying
from im2colnet_numba.compile import IN_ORDER, compiled
from im2colnet_numba.elementary import exp

Array = np.ndarray


def _softmax_cross_entropy(
    logits: Array, labels: Array, scale: float, out: Array, with_gradient: bool, dlogits: Array
) -> None:
    """Write what :meth:`Losses.cross_entropy` says: the rows of a class after each other, all samples abreast."""
    (K, N), number = logits.shape, logits.dtype.type
    most, guess, right = logits[0].copy(), np.zeros(N, np.int32), np.empty(N, logits.dtype)
    for k in range(1, K):
        for n in range(N):
            v, w = logits[k, n], most[n]
            better = (v > w) | ((v != v) & (w == w))  # the first NaN is the largest
            most[n] = v if better else w
            guess[n] = k if better else guess[n]
    correct = 0
    for n in range(N):
        label = labels[n] + K if labels[n] < 0 else labels[n]
        if label < 0 or label >= K:
            raise IndexError("a label is no class")
        right[n] = logits[label, n] - most[n]
        correct += guess[n] == label
    total = np.zeros(N, logits.dtype)
    for k in range(K):
        for n in range(N):
            e = exp(logits[k, n] - most[n])
            total[n] += e
            if with_gradient:
                dlogits[k, n] = e
    loss = 0.0
    for n in range(N):
        loss += np.log(float(total[n])) - right[n]
    out[0], out[1] = scale * loss, correct
    if with_gradient:
        for n in range(N):
            total[n] = number(scale) / total[n]
        for k in range(K):
            for n in range(N):
                dlogits[k, n] *= total[n]
        for n in range(N):
            dlogits[labels[n], n] -= number(scale)


softmax_cross_entropy = compiled(_softmax_cross_entropy, IN_ORDER)


class NumbaLosses(Losses):
    """Losses on the CPU."""

    @kernel()
    def cross_entropy(
        self, logits: Array, labels: Array, scale: float, out: Any = None, dlogits: Any = None
    ) -> Iterator[Call]:
        if not fits(logits, dlogits) or not logits.size:
            yield from super().cross_entropy.prepare(logits, labels, scale, out=out, dlogits=dlogits)
            return

        def compute() -> None:
            of_logits, of_labels = lying(logits, logits.shape), lying(labels, labels.shape)
            gradient = of_logits if dlogits is None else dlogits
            softmax_cross_entropy(of_logits, of_labels, float(scale), out, dlogits is not None, gradient)

        yield compute
