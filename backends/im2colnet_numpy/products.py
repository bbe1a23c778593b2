"""Products of matrices, cut into such as OpenBLAS multiplies without copying them first.

On processors with AVX-512 it has kernels for small products (``gemm_small_matrix_permit``) that read the factors where
they lie: up to 100³ multiplications and, where sums run along the rows of both factors, up to 1200 results. Larger
products are copied into blocks before, which takes as long as it saves where one of the sizes is a layer's number of
channels or a few images. Cut into small ones they take 0.8 of the time, with 2 to 8 columns half and less. On other
processors they take more, so it is not done there.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache, partial

import numpy as np

from im2colnet.types import Call

WITH_SMALL = {"SkylakeX", "Cooperlake", "SapphireRapids"}  # processors, by OpenBLAS's names
# measured over random sizes:
SMALL = 100**3  # multiplications
FAR = 300_000  # numbers of the second factor: of more, not copied together, the rows are too far apart
FAR_TURNED = 200_000  # the same of the first factor, where its columns lie in memory and not its rows
ROWS = 4  # of a piece, at least
FEW_COLUMNS = 20  # are as many as there are; of more a piece has
COLUMNS, MOST_COLUMNS = 64, 128
VECTORS, LINE = 32, 16  # and a multiple of these: the second where the first factor has so few numbers
NEAR = 1 << 17
SMALL_TRANSPOSED = 1200  # results that are sums along rows,
LONG, FEW = 256, 4  # if these are so long, and so many times as long as one of the result's sizes


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
    m, n = pieces(M, K, N, a.strides[-1] != a.itemsize)
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


def add_product(a: np.ndarray, b: np.ndarray, total: np.ndarray, summand: np.ndarray | None) -> Iterator[Call]:
    """Add ``a · bᵀ`` to the total, by way of ``summand``; without it, write it."""
    yield transposed_product(a, b, total if summand is None else summand)
    if summand is not None:
        yield partial(np.add, total, summand, total)


def _cut(out: np.ndarray, m: int, n: int) -> np.ndarray:
    """Results (..., M, N) as (..., m, n, M/m, N/n), a view."""
    M, N = out.shape[-2:]
    return out.reshape(*out.shape[:-2], m, M // m, n, N // n).swapaxes(-3, -2)


@lru_cache(maxsize=4096)
def pieces(M: int, K: int, N: int, turned: bool) -> tuple[int, int]:
    """Into how many equal parts to cut rows and columns of a product (M, K) · (K, N): the fewest that make it small."""
    far = K * N > FAR or (turned and M * K > FAR_TURNED)
    if M * K * N <= SMALL or N == 1 or far or not has_small():
        return 1, 1
    multiple = LINE if M * K <= NEAR else VECTORS
    found = [
        (m * n, m, n)
        for n in _divisors(N, COLUMNS)
        if N <= FEW_COLUMNS or (N // n <= MOST_COLUMNS and N // n % multiple == 0)
        for m in _divisors(M, ROWS)
        if M // m * K * (N // n) <= SMALL
    ]
    return min(found)[1:] if found else (1, 1)


@lru_cache(maxsize=4096)
def transposed_pieces(M: int, K: int, N: int) -> tuple[int, int]:
    """Into how many equal parts to cut both sizes of the results of a product (M, K) · (N, K)ᵀ."""
    if K < LONG or min(M, N) * FEW > K or not has_small():
        return 1, 1
    found = [
        (m * n, m, n)
        for m in _divisors(M, 2 * ROWS)
        for n in _divisors(N, 2 * ROWS)
        if M // m * (N // n) <= SMALL_TRANSPOSED and M // m * (N // n) * K <= SMALL
    ]
    return min(found)[1:] if found else (1, 1)


def _divisors(size: int, least: int) -> list[int]:
    """Numbers of equal parts of a size, each of at least so many, or one."""
    return [n for n in range(1, size + 1) if size % n == 0 and (n == 1 or size // n >= least)]
