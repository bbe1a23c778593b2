"""Products of matrices, divided into small products that OpenBLAS computes without copying the factors.

On processors with AVX-512 it has kernels for small products (``gemm_small_matrix_permit``) that read the factors where
they lie: up to 100³ multiplications and, where sums run along the rows of both factors, up to 1200 results. Larger
products are copied into blocks before, which takes as long as it saves where one of the sizes is a layer's number of
channels or a few images. Cut into small ones they take 0.8 of the time, with 2 to 8 columns half and less. On other
processors they take more, so it is not done there.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache, partial

import numpy as np

from im2colnet.types import Call

WITH_SMALL = {"SkylakeX", "Cooperlake", "SapphireRapids"}  # processors that have such kernels, by OpenBLAS's names


@lru_cache(maxsize=1)
def has_small() -> bool:
    """Whether BLAS has kernels for small products here."""
    try:
        from threadpoolctl import threadpool_info
    except ImportError:
        return False
    return any(pool.get("architecture") in WITH_SMALL for pool in threadpool_info() if pool["user_api"] == "blas")


@dataclass(frozen=True)
class Products:
    """Products of matrices, and from which sizes on they are cut into pieces; measured over random sizes."""

    max_multiplications: int = 100**3  # multiplications of a small product
    max_results: int = 1200  # results of a small product that are sums along the rows of both factors
    min_length: int = 256  # length of such sums from which on cutting pays
    min_length_ratio: int = 4  # times the smaller of the result's sizes from which on it pays
    max_elements_b: int = 300_000  # above this, the rows of B are too far apart in memory for the small kernel
    max_elements_flat_a: int = 200_000  # the same for A, where its columns lie in memory and not its rows
    min_piece_rows: int = 4  # rows of a piece
    min_piece_columns: int = 64  # columns of a piece, at least
    max_piece_columns: int = 128  # columns of a piece, at most
    keep_columns: int = 20  # a product with at most this many columns keeps them together
    column_multiple: int = 32  # a piece's columns are a multiple of this
    near_column_multiple: int = 16  # a piece's columns are a multiple of this if A is near
    max_elements_near_a: int = 1 << 17  # A is near if it has at most this many elements
    small_kernels: bool | None = None  # whether BLAS has kernels for small products; None: look

    def product(self, a: np.ndarray, b: np.ndarray, out: np.ndarray) -> Call:
        """Write the products of a (..., M, K) and b (..., K, N), broadcast against each other, to out (..., M, N)."""
        (M, K), N = a.shape[-2:], b.shape[-1]
        m, n = self.pieces(M, K, N, a.strides[-1] != a.itemsize)
        if m * n > 1:
            a = a.reshape(*a.shape[:-2], m, 1, M // m, K)
            b = b.reshape(*b.shape[:-2], 1, K, n, N // n).swapaxes(-3, -2)
            out = _cut(out, m, n)
        return partial(np.matmul, a, b, out)

    def transposed_product(self, a: np.ndarray, b: np.ndarray, out: np.ndarray) -> Call:
        """Write ``a · bᵀ`` for a (..., M, K) and b (..., N, K), broadcast against each other, to out (..., M, N)."""
        (M, K), N = a.shape[-2:], b.shape[-2]
        m, n = self.transposed_pieces(M, K, N)
        if m * n > 1:
            a = a.reshape(*a.shape[:-2], m, 1, M // m, K)
            b = b.reshape(*b.shape[:-2], 1, n, N // n, K)
            out = _cut(out, m, n)
        return partial(np.matmul, a, b.swapaxes(-1, -2), out)

    def add_product(
        self, a: np.ndarray, b: np.ndarray, total: np.ndarray, summand: np.ndarray | None
    ) -> Iterator[Call]:
        """Add ``a · bᵀ`` to the total, by way of ``summand``; without it, write it."""
        yield self.transposed_product(a, b, total if summand is None else summand)
        if summand is not None:
            yield partial(np.add, total, summand, total)

    @lru_cache(maxsize=4096)  # noqa: B019 - it is a value, not an object with a life of its own
    def pieces(self, M: int, K: int, N: int, flat: bool) -> tuple[int, int]:
        """Return how many equal parts to cut rows and columns of a product (M, K) · (K, N) into, few and small.

        ``flat`` says that the columns of the first factor lie in memory, not its rows.
        """
        far = self.max_elements_b < K * N or (flat and self.max_elements_flat_a < M * K)
        if self.max_multiplications >= M * K * N or N == 1 or far or not self._cuts():
            return 1, 1
        multiple = self.near_column_multiple if self.max_elements_near_a >= M * K else self.column_multiple
        found = [
            (m * n, m, n)
            for n in _divisors(N, self.min_piece_columns)
            if self.keep_columns >= N or (N // n <= self.max_piece_columns and N // n % multiple == 0)
            for m in _divisors(M, self.min_piece_rows)
            if M // m * K * (N // n) <= self.max_multiplications
        ]
        return min(found)[1:] if found else (1, 1)

    @lru_cache(maxsize=4096)  # noqa: B019
    def transposed_pieces(self, M: int, K: int, N: int) -> tuple[int, int]:
        """Return how many equal parts to cut both sizes of the results of a product (M, K) · (N, K)ᵀ into."""
        if self.min_length > K or min(M, N) * self.min_length_ratio > K or not self._cuts():
            return 1, 1
        least = 2 * self.min_piece_rows
        found = [
            (m * n, m, n)
            for m in _divisors(M, least)
            for n in _divisors(N, least)
            if M // m * (N // n) <= self.max_results and M // m * (N // n) * K <= self.max_multiplications
        ]
        return min(found)[1:] if found else (1, 1)

    def _cuts(self) -> bool:
        return has_small() if self.small_kernels is None else self.small_kernels


def _cut(out: np.ndarray, m: int, n: int) -> np.ndarray:
    """Results (..., M, N) as (..., m, n, M/m, N/n), a view."""
    M, N = out.shape[-2:]
    return out.reshape(*out.shape[:-2], m, M // m, n, N // n).swapaxes(-3, -2)


def _divisors(size: int, least: int) -> list[int]:
    """Return the numbers of equal parts that a size can be cut into, each of at least ``least``; and one."""
    return [n for n in range(1, size + 1) if size % n == 0 and (n == 1 or size // n >= least)]
