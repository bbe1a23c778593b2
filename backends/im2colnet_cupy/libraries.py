"""CUDA's libraries, as CuPy finds them."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import cupy as cp
from cupy_backends.cuda import libs

from im2colnet.errors import BackendError, install


@lru_cache(maxsize=1)
def cublas() -> Any:
    """Return CuPy's module of cuBLAS.

    The attribute is looked up, and nothing else will do: CuPy then finds the library among pip's packages, which
    ``import cupy_backends.cuda.libs.cublas`` goes round.
    """
    try:
        return libs.cublas
    except ImportError as error:
        made_for = cp.cuda.runtime.runtimeGetVersion() // 1000
        raise BackendError(
            f"CuPy is installed, but the library cuBLAS is not found ({' '.join(str(error).split())}):"
            f" {install(f'cuda{made_for}')}, or add the folder of CUDA's libraries to LD_LIBRARY_PATH"
        ) from error
