"""Products with a matrix by cuBLAS, and sums over the samples."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import cupy as cp

from im2colnet.backend.kernel import kernel
from im2colnet.backend.linear import Linear
from im2colnet.types import Call
from im2colnet_cupy import sums
from im2colnet_cupy.cuda import multiply

Array = Any


class CupyLinear(Linear):
    """Products and sums on the GPU."""

    @kernel()
    def matmul(self, a: Array, b: Array, out: Array = None) -> Iterator[Call]:
        if a.ndim != 2 or b.ndim != 2:
            yield from super().matmul.prepare(a, b, out)
            return

        def compute() -> None:
            (A, ta), (B, tb), (M, K), N = _as_stored(a), _as_stored(b), a.shape, b.shape[1]
            leading = M if ta else K, K if tb else N
            multiply(A, B, out, M, N, K, *leading, (0, 0, 0), transposed=(ta, tb), tf32=self.tf32)

        yield compute

    @kernel()
    def sum_samples(self, dy: Array, out: Array = None) -> Iterator[Call]:
        def compute() -> None:
            parts = self.empty((sums.SUM_BLOCKS, sums.matrices(dy)[1]), "float64")
            sums.channel_sums(0, dy, dy, parts, parts)
            sums.join(parts, out)

        yield compute


def _as_stored(a: Array) -> tuple[Array, bool]:
    """A matrix as it lies in memory, and whether that is transposed; copied if it is neither."""
    if a.flags.c_contiguous:
        return a, False
    return (a, True) if a.flags.f_contiguous else (cp.ascontiguousarray(a), False)
