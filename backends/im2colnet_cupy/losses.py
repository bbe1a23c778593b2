"""Losses by kernels of their own (``kernels/losses.cu``)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from im2colnet.backend.kernel import kernel
from im2colnet.backend.losses import Losses
from im2colnet.types import Call
from im2colnet_cupy.cuda import prepared

Array = Any


class CupyLosses(Losses):
    """Losses on the GPU."""

    @kernel()
    def cross_entropy(
        self, logits: Array, labels: Array, scale: float, out: Array = None, dlogits: Array | None = None
    ) -> Iterator[Call]:
        gradient = out if dlogits is None else dlogits  # out stands for one that is not given: it is not written
        arguments = logits, labels, out, gradient, *logits.shape, float(scale), dlogits is not None
        yield prepared("losses.cu", "cross_entropy", logits, *arguments, grid=(1,))
