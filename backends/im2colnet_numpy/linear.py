"""Products with a matrix, and sums over the samples as products with ones."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from im2colnet.backend.kernel import kernel
from im2colnet.backend.linear import Linear
from im2colnet.types import Call
from im2colnet_numpy.activation import ones


class NumpyLinear(Linear):
    """Products and sums on the CPU."""

    @kernel()
    def sum_samples(self, dy: np.ndarray, out: Any = None) -> Iterator[Call]:
        def compute() -> None:
            if dy.ndim == 2:
                np.matmul(dy, ones(dy.shape[1], dy.dtype), out=out)
                return
            H, C, W, N = dy.shape
            rows: np.ndarray = np.matmul(dy.reshape(H, C, W * N), ones(W * N, dy.dtype))
            rows.sum(axis=0, out=out)

        yield compute
