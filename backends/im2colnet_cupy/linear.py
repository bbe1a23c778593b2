"""Products with a matrix by cuBLAS, and sums over the samples."""

from __future__ import annotations

from collections.abc import Iterator
from math import prod
from typing import Any

from im2colnet.backend.kernel import kernel
from im2colnet.backend.linear import Linear
from im2colnet.types import Call
from im2colnet_cupy import sums
from im2colnet_cupy.cuda import contiguous, product

Array = Any


class CupyLinear(Linear):
    """Products and sums on the GPU."""

    @kernel()
    def matmul(self, a: Array, b: Array, out: Array = None) -> Iterator[Call]:
        if a.ndim > 2 and a.shape[:-2] == b.shape[:-2]:  # CuPy's own matmul of stacks does not know bfloat16
            (A, of_a), (B, of_b), (M, K), N = contiguous(a), contiguous(b), a.shape[-2:], b.shape[-1]
            yield from (*of_a, *of_b)
            yield product(A, B, out, M, N, K, K, N, (M * K, K * N, M * N), prod(a.shape[:-2]), tf32=self.tf32)
            return
        if a.ndim != 2 or b.ndim != 2:
            yield from super().matmul.prepare(a, b, out)
            return

        (A, ta, of_a), (B, tb, of_b), (M, K), N = _as_stored(a), _as_stored(b), a.shape, b.shape[1]
        yield from (*of_a, *of_b)
        leading = M if ta else K, K if tb else N
        yield product(A, B, out, M, N, K, *leading, (0, 0, 0), transposed=(ta, tb), tf32=self.tf32)

    @kernel()
    def sum_samples(self, dy: Array, out: Array = None) -> Iterator[Call]:
        parts = self.empty((sums.SUM_BLOCKS, sums.matrices(dy)[1]), "float64")
        yield sums.channel_sums(0, dy, dy, parts, parts)
        yield sums.join(parts, out)


def _as_stored(a: Array) -> tuple[Array, bool, list[Call]]:
    """Return a matrix as it lies in memory, whether that is transposed, and what fills it if it is a copy."""
    if not a.flags.c_contiguous and a.flags.f_contiguous:
        return a, True, []
    array, copies = contiguous(a)
    return array, False, copies
