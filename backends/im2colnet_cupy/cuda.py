"""What of CUDA the backend uses: its own kernels (``kernels/*.cu``), and cuBLAS's batched products.

Kernels are compiled when they are first used, for the element type that they are used with; CuPy keeps them on disk.
"""
from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import cupy as cp
import cupyx
import numpy as np
from cupy_backends.cuda.libs import cublas

from im2colnet.backend import HALF
from im2colnet.errors import BackendError

KERNELS = Path(__file__).parent / "kernels"
THREADS = 256
MOST_BLOCKS = 1 << 20
LONG = 1 << 30       # elements from which on an index is 64 bits wide
C_TYPES = {
    "float32": "float", "float64": "double", "float16": "Float16", "bfloat16": "Bfloat16", "uint8": "unsigned char"
}  # fmt: skip
CUBLAS_TYPES = {"float32": 0, "float64": 1, "float16": 2, "bfloat16": 14}
Array = Any


def source(file: str, dtype: str, long: bool, other: str = "float32") -> str:
    """Return a file of kernels, after their types (no macros: CUDA's headers have a ``T`` too) and what all share."""
    types = {
        "T": C_TYPES[dtype], "A": "double" if dtype == "float64" else "float", "U": C_TYPES[other],
        "Index": "long long" if long else "int",
    }  # fmt: skip
    first = [(KERNELS / "half.cu").read_text()] if dtype in HALF else []
    using = " ".join(f"using {name} = {of};" for name, of in types.items())
    return "\n".join([*first, using, *((KERNELS / name).read_text() for name in ("common.cu", file))])


@lru_cache(maxsize=256)
def kernel(file: str, name: str, dtype: str, long: bool, other: str = "float32") -> Any:
    """Return a kernel, compiled for arrays of ``dtype`` (and ``other``, where it reads arrays of two types)."""
    try:
        return cp.RawModule(code=source(file, dtype, long, other), options=("--std=c++17",)).get_function(name)
    except RuntimeError as error:     # CuPy's of a missing compiler and of one that fails
        raise BackendError(
            f"the kernel {name!r} cannot be compiled: {error}. CuPy needs CUDA's headers and compiler:"
            " pip install 'im2colnet[cuda12]' or 'im2colnet[cuda13]' brings them"
        ) from error


def launch(
    file: str, name: str, out: Array, *arguments: Any, elements: int | None = None, grid: Sequence[int] | None = None,
    block: Sequence[int] | None = None, other: str = "float32",
) -> None:
    """Run a kernel on ``arguments``: arrays, integers (``int``) and numbers (``double``).

    Parameters
    ----------
    file, name : str
    out : array
        Its element type is the kernel's.
    elements : int, optional
        For how many a thread is wanted, by default those of ``out``; or ``grid``, the number of blocks.
    """
    arrays = [argument for argument in arguments if hasattr(argument, "dtype")]
    long = max(array.size for array in arrays) >= LONG
    count = out.size if elements is None else elements
    grid = grid or (min(-(-count // THREADS), MOST_BLOCKS),)
    scalars = {bool: np.int32, int: np.int32, float: np.float64}
    passed = [scalars.get(type(argument), lambda array: array)(argument) for argument in arguments]
    kernel(file, name, out.dtype.name, long, other)(tuple(grid), tuple(block or (THREADS,)), tuple(passed))


class Copies:
    """Arrays of the host on their way to the device, by a stream of their own and pinned memory.

    While one is computed with, the next is copied, so there are two buffers for each shape.
    """

    def __init__(self) -> None:
        self._stream = cp.cuda.Stream(non_blocking=True)
        self._buffers: dict[tuple[Any, ...], list[tuple[Any, Array]]] = {}
        self._second = False

    def begin(self, array: Any) -> Callable[[], Array]:
        """Queue a copy; the call returned lets the current stream wait for it and gives the array on the device."""
        key = array.shape, array.dtype.str
        if key not in self._buffers:
            if len(self._buffers) > 1:      # one for whole batches and one for the last of an epoch
                self._buffers.clear()
            self._buffers[key] = [(cupyx.empty_pinned(*key), cp.empty(*key)) for _ in range(2)]
            cp.cuda.get_current_stream().synchronize()     # what had this memory before has done with it
        self._second = not self._second
        host, device = self._buffers[key][self._second]
        host[...] = array
        device.set(host, stream=self._stream)
        event = self._stream.record()

        def arrived() -> Array:
            cp.cuda.get_current_stream().wait_event(event)
            return device

        return arrived


def multiply(
    a: Array, b: Array, c: Array, M: int, N: int, K: int, lda: int, ldb: int, strides: tuple[int, int, int],
    batch: int = 1, transposed: tuple[bool, bool] = (False, False), offsets: tuple[int, int, int] = (0, 0, 0),
    tf32: bool = False, ldc: int | None = None, add: bool = False,
) -> None:
    """Write the products ``C[i] = A[i] · B[i]``, i < batch, in row-major order, by cublasGemmStridedBatchedEx.

    Of factors of 16 bits sums are float32, as which or as 16 bits C is stored.

    Parameters
    ----------
    a, b, c : array
        Memory: the first elements of A[0], B[0] and C[0] (M, N) are at ``offsets``, those of the next ``strides`` on.
    M, N, K : int
    lda, ldb : int
        From one row of A and B to the next, as they are stored.
    transposed : (bool, bool)
        Whether A and B are stored transposed, (K, M) and (N, K).
    ldc : int, optional
        From one row of C to the next, by default N.
    add : bool
        Add them to what is there.
    """
    double = c.dtype.name == "float64"
    kind = 70 if double else 77 if tf32 else 68             # CUBLAS_COMPUTE_64F, _32F_FAST_TF32, _32F
    of_a, of_b, of_c = (CUBLAS_TYPES[array.dtype.name] for array in (a, b, c))
    one, before = (np.array(value, "float64" if double else "float32") for value in (1, add))
    (sa, sb, sc), (a0, b0, c0) = strides, (n * array.itemsize for n, array in zip(offsets, (a, b, c), strict=True))
    # cuBLAS counts along columns: to it these are the transposed matrices, and Cᵀ = Bᵀ · Aᵀ
    cublas.gemmStridedBatchedEx(
        cp.cuda.device.get_cublas_handle(), int(transposed[1]), int(transposed[0]), N, M, K, one.ctypes.data,
        b.data.ptr + b0, of_b, ldb, sb, a.data.ptr + a0, of_a, lda, sa, before.ctypes.data,
        c.data.ptr + c0, of_c, N if ldc is None else ldc, sc, batch, kind, -1,
    )  # fmt: skip
