"""Products with a matrix, and sums over the samples."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

from im2colnet.backend.arrays import Arrays
from im2colnet.backend.kernel import kernel
from im2colnet.layout import channels
from im2colnet.types import Array, Call, Spec, accumulator


def _product(backend: Any, a: Spec, b: Spec) -> Spec:
    return Spec((*a.shape[:-1], b.shape[-1]), a.dtype)


def _sums(backend: Any, dy: Spec) -> Spec:
    return Spec((channels(dy.shape),), accumulator(dy.dtype))


class Linear(Arrays):
    """Kernels of fully connected layers, and of biases."""

    @kernel(result=_product)
    def matmul(self, a: Array, b: Array, out: Array = None) -> Iterator[Call]:
        """Matrix product, batched over leading axes."""
        yield partial(self.xp.matmul, a, b, out=out)

    @kernel(result=_sums)
    def sum_samples(self, dy: Array, out: Array = None) -> Iterator[Call]:
        """Sum over all but the channels of (H, C, W, N), or the features of (features, N): a bias's gradient."""
        yield partial(self.xp.sum, dy, axis=(0, 2, 3) if dy.ndim == 4 else 1, out=out)
