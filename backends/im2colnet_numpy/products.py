"""Products of matrices, cut into such as OpenBLAS multiplies without copying them first.

On processors with AVX-512 it has kernels for small products (``gemm_small_matrix_permit``) that read the factors where
they lie: up to 100³ multiplications and, where sums run along the rows of both factors, up to 1200 results. Larger
products are copied into blocks before, which takes as long as it saves where one of the sizes is a layer's number of
channels. Cut into small ones, a convolution takes 0.7 to 0.95 of the time; elsewhere more, so it is not done.
"""
from __future__ import annotations

from functools import lru_cache, partial

import numpy as np

from im2colnet.backend import Call

WITH_SMALL = {"SkylakeX", "Cooperlake", "SapphireRapids"}    # processors, by OpenBLAS's names
SMALL = 100**3                # multiplications
FAR = 400_000                 # numbers of the second factor: of more, not copied together, the rows are too far apart
ROWS = 4                      # of a piece, at least,
COLUMNS, LINE = 64, 16        # and columns: four vectors of AVX-512; and a multiple of a line of the cache
SMALL_TRANSPOSED = 1200       # results that are sums along rows,
LONG, FEW = 256, 4            # if these are so long, and so many times as long as one of the result's sizes


@lru_cache(maxsize=1)
def has_small() -> bool:
    """Whether BLAS has such kernels here."""
    try:
        from threadpoolctl import threadpool_info
    except ImportError:
        return False
    return any(pool.get("architecture") in WITH_SMALL for pool in threadpool_info() if pool["user_api"] == "blas")


def product(a: np.ndarray, b: np.ndarray, out: np.ndarray) -> Call:
    """Write the products of a (..., M, K) and b (..., K, N), broadcast against each other, to out (..., M, N)."""
    (M, K), N = a.shape[-2:], b.shape[-1]
    m, n = pieces(M, K, N)
    if m * n > 1:
        a = a.reshape(*a.shape[:-2], m, 1, M // m, K)
        b = b.reshape(*b.shape[:-2], 1, K, n, N // n).swapaxes(-3, -2)
        out = _cut(out, m, n)
    return partial(np.matmul, a, b, out)


def transposed_product(a: np.ndarray, b: np.ndarray, out: np.ndarray) -> Call:
    """Write ``a · bᵀ`` for a (..., M, K) and b (..., N, K), broadcast against each other, to out (..., M, N)."""
    (M, K), N = a.shape[-2:], b.shape[-2]
    m, n = transposed_pieces(M, K, N)
    if m * n > 1:
        a = a.reshape(*a.shape[:-2], m, 1, M // m, K)
        b = b.reshape(*b.shape[:-2], 1, n, N // n, K)
        out = _cut(out, m, n)
    return partial(np.matmul, a, b.swapaxes(-1, -2), out)


def _cut(out: np.ndarray, m: int, n: int) -> np.ndarray:
    """Results (..., M, N) as (..., m, n, M/m, N/n), a view."""
    M, N = out.shape[-2:]
    return out.reshape(*out.shape[:-2], m, M // m, n, N // n).swapaxes(-3, -2)


@lru_cache(maxsize=4096)
def pieces(M: int, K: int, N: int) -> tuple[int, int]:
    """Into how many equal parts to cut rows and columns of a product (M, K) · (K, N): the fewest that make it small."""
    if M * K * N <= SMALL or N < COLUMNS // 2 or K * N > FAR or not has_small():
        return 1, 1
    found = [
        (m * n, m, n)
        for n in _divisors(N, min(N, COLUMNS)) if n == 1 or N // n % LINE == 0
        for m in _divisors(M, ROWS) if M // m * K * (N // n) <= SMALL
    ]  # fmt: skip
    return min(found)[1:] if found else (1, 1)


@lru_cache(maxsize=4096)
def transposed_pieces(M: int, K: int, N: int) -> tuple[int, int]:
    """Into how many equal parts to cut both sizes of the results of a product (M, K) · (N, K)ᵀ."""
    if K < LONG or min(M, N) * FEW > K or not has_small():
        return 1, 1
    found = [
        (m * n, m, n) for m in _divisors(M, 2 * ROWS) for n in _divisors(N, 2 * ROWS)
        if M // m * (N // n) <= SMALL_TRANSPOSED and M // m * (N // n) * K <= SMALL
    ]  # fmt: skip
    return min(found)[1:] if found else (1, 1)


def _divisors(size: int, least: int) -> list[int]:
    """Numbers of equal parts of a size, each of at least so many, or one."""
    return [n for n in range(1, size + 1) if size % n == 0 and (n == 1 or size // n >= least)]
