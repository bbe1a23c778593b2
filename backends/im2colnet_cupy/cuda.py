"""CUDA for the backend: its own kernels (``kernels/*.cu``), and cuBLAS's batched products.

Kernels are compiled when they are first used, for the element type that they are used with; CuPy keeps them on disk.
"""

from __future__ import annotations

import re
import weakref
from collections.abc import Callable, Sequence
from functools import lru_cache, partial
from importlib import resources
from operator import setitem
from typing import Any

import cupy as cp
import cupyx
import numpy as np

from im2colnet.errors import BackendError, install
from im2colnet.types import HALF, Call, accumulator, run
from im2colnet_cupy import graphs
from im2colnet_cupy.libraries import cublas

KERNELS = resources.files(__package__) / "kernels"  # also where the package lies in a zip
SHARED = ("common.cu", "formulas.cu")  # files that stand before each file of kernels
THREADS = 256  # threads of a block
MAX_BLOCKS = 1 << 20  # blocks of a launch, at most
LONG = 1 << 30  # elements of an array that needs an index of 64 bits
C_TYPES = {
    "float32": "float",
    "float64": "double",
    "float16": "Float16",
    "bfloat16": "Bfloat16",
    "uint8": "unsigned char",
    "int16": "short",
    "int32": "int",
}
CUBLAS_TYPES = {"float32": 0, "float64": 1, "float16": 2, "bfloat16": 14}
Array = Any


def source(file: str, dtype: str, long: bool, other: str = "float32") -> str:
    """Return a file of kernels, after their types (no macros: CUDA's headers have a ``T`` too) and what all share."""
    types = {
        "T": C_TYPES[dtype],
        "A": C_TYPES[accumulator(dtype)],
        "U": C_TYPES[other],
        "Index": "long long" if long else "int",
    }
    first = [(KERNELS / "half.cu").read_text()] if dtype in HALF else []
    using = " ".join(f"using {name} = {of};" for name, of in types.items())
    return "\n".join([*first, using, *((KERNELS / name).read_text() for name in (*SHARED, file))])


@lru_cache(maxsize=256)
def kernel(file: str, name: str, dtype: str, long: bool, other: str = "float32") -> Any:
    """Return a kernel, compiled for arrays of ``dtype`` (and ``other``, where it reads arrays of two types)."""
    try:
        return cp.RawModule(code=source(file, dtype, long, other), options=("--std=c++17",)).get_function(name)
    except MemoryError:
        raise
    except Exception as error:  # of a missing compiler a RuntimeError, of one that fails CuPy's CompileException
        raise BackendError(
            f"the kernel {name!r} ({file}, {dtype}) cannot be compiled: {str(error).strip()}\n"
            f"If CUDA's compiler (NVRTC) or headers are missing or do not match CuPy's: {install('cuda12')}, or"
            f" {install('cuda13')}. If it rejects the kernel, report this text with the output of `im2colnet doctor`."
            " Without a GPU use IM2COLNET_BACKEND=numpy"
        ) from error


@lru_cache(maxsize=256)
def parameters(file: str) -> dict[str, tuple[tuple[str, str], ...]]:
    """Return what each kernel of a file declares: type and name, such as ("int", "size") and ("const T*", "x")."""
    common, text = ((KERNELS / name).read_text() for name in ("common.cu", file))
    window = re.search(r"#define WINDOW \\\n\s*(.*)", common)
    assert window, "common.cu defines WINDOW"
    return {
        name: tuple(_parameter(p) for p in declared.replace("WINDOW", window[1]).split(","))
        for name, declared in re.findall(r'extern "C" __global__ void (\w+)\(([^)]*)\)', text)
    }


def _parameter(text: str) -> tuple[str, str]:
    kind, _, name = text.strip().rpartition(" ")
    return kind, name


def converted(file: str, name: str, dtype: str, arguments: Sequence[Any]) -> tuple[list[Any], list[Array], list[Call]]:
    """Return a kernel's arguments as it declares them, the arrays among them, and the calls that fill copies of some.

    An array that it only reads (``const``) is copied if it is not C-contiguous or of another element type. CuPy passes
    a number as it is, so NumPy's own of another width would be read as something else.
    """
    kinds = [kind for kind, _ in parameters(file)[name]]
    arrays = [a for kind, a in zip(kinds, arguments, strict=True) if kind.endswith("*")]
    check_device(arrays)
    types = {"const T*": dtype, "const A*": accumulator(dtype), "const double*": "float64", "const long long*": "int64"}
    passed: list[Any] = []
    copies: list[Call] = []
    for kind, argument in zip(kinds, arguments, strict=True):
        if kind.startswith("const"):
            array, filled = contiguous(argument, types.get(kind))
            passed.append(array)
            copies += filled
        elif kind.endswith("*"):
            passed.append(argument)
        elif kind == "double":
            passed.append(np.float64(argument))
        elif isinstance(argument, (int, np.integer, np.bool_)):
            passed.append(np.int32(argument))
        else:
            raise TypeError(f"the kernel {name!r} takes an integer where {argument!r} is given")
    return passed, arrays, copies


def contiguous(array: Array, dtype: str | None = None) -> tuple[Array, list[Call]]:
    """Return an array, or memory for a C-contiguous copy of it in ``dtype``, and the calls that fill this memory."""
    if array.flags.c_contiguous and dtype in (None, array.dtype.name):
        return array, []
    copy = cp.empty(array.shape, dtype=dtype or array.dtype)
    return copy, [partial(setitem, copy, ..., array)]


def check_device(arrays: Sequence[Array]) -> None:
    """Raise an error if an array is not on the current device: kernels and cuBLAS do not check that."""
    device = cp.cuda.runtime.getDevice()
    for array in arrays:
        if array.data.device_id != device:
            raise BackendError(
                f"an array of 'cupy:{array.data.device_id}' is given to a backend of 'cupy:{device}': bring it there by"
                f" ic.get_backend('cupy:{device}').asarray(array)"
            )


def prepared(
    file: str,
    name: str,
    out: Array,
    *arguments: Any,
    elements: int | None = None,
    grid: Sequence[int] | None = None,
    block: Sequence[int] | None = None,
    other: str = "float32",
) -> Call:
    """Return the launch of a kernel as a call that can be repeated; the preparation on the host is done here, once.

    Parameters
    ----------
    file, name : str
    out : array
        Its element type is the kernel's.
    *arguments
        Arrays, integers (``int``) and numbers (``double``), as the kernel declares them.
    elements : int, optional
        The number of threads that are wanted, by default one for each element of ``out``; or ``grid``, the number of
        blocks.
    """
    dtype = out.dtype.name
    passed, arrays, copies = converted(file, name, dtype, arguments)
    long = max(array.size for array in arrays) >= LONG
    count = out.size if elements is None else elements
    grid = grid or (min(-(-count // THREADS), MAX_BLOCKS),)
    function = kernel(file, name, dtype, long, other)
    start = partial(function, tuple(grid), tuple(block or (THREADS,)), tuple(passed))
    return partial(run, [*copies, start]) if copies else start


def row_grid(rows: int, length: int) -> tuple[int, int]:
    """Return the blocks for rows of numbers, one row or a part of it for each: ``EACH_OF_ROW`` in ``common.cu``."""
    return rows, min(-(-length // (4 * THREADS)), 65535)


def launch(file: str, name: str, out: Array, *arguments: Any, **how: Any) -> None:
    """Run a kernel once; the arguments are those of :func:`prepared`."""
    prepared(file, name, out, *arguments, **how)()


class Copies:
    """Copies of host arrays to the device, on a separate stream and through pinned memory.

    While the device computes with one array, the next is copied, so there are two buffers for each shape. The buffers
    are on the device that is the current device when this object is made.
    """

    def __init__(self) -> None:
        self._device = cp.cuda.Device()
        self._stream = cp.cuda.Stream(non_blocking=True)
        self._buffers: dict[tuple[Any, ...], list[tuple[Any, Array]]] = {}
        self._second = False
        # no __del__, which would run when Python ends and names and CUDA may be gone: all memory is given back then
        weakref.finalize(self, _free, self._device, self._stream, self._buffers).atexit = False

    def begin(self, array: Any) -> Callable[[], Array]:
        """Queue a copy; the call returned lets the current stream wait for it and gives the array on the device."""
        key = array.shape, array.dtype.str
        if key not in self._buffers:
            if len(self._buffers) > 1:  # one for whole batches and one for the last of an epoch
                _free(self._device, self._stream, self._buffers)
            self._buffers[key] = [(cupyx.empty_pinned(*key), cp.empty(*key)) for _ in range(2)]
            cp.cuda.get_current_stream().synchronize()  # what had this memory before has done with it
        self._second = not self._second
        host, device = self._buffers[key][self._second]
        host[...] = array
        device.set(host, stream=self._stream)
        event = self._stream.record()

        def arrived() -> Array:
            with self._device:
                cp.cuda.get_current_stream().wait_event(event)
            return device

        return arrived


def _free(device: Any, stream: Any, buffers: dict[tuple[Any, ...], list[tuple[Any, Array]]]) -> None:
    """Free the buffers after all copies into them are done: an unused batch may still be on its way."""
    with device:
        stream.synchronize()
    buffers.clear()


def product(
    a: Array,
    b: Array,
    c: Array,
    M: int,
    N: int,
    K: int,
    lda: int,
    ldb: int,
    strides: tuple[int, int, int],
    batch: int = 1,
    transposed: tuple[bool, bool] = (False, False),
    offsets: tuple[int, int, int] = (0, 0, 0),
    tf32: bool = False,
    ldc: int | None = None,
    add: bool = False,
) -> Call:
    """Return a call that writes ``C[i] = A[i] · B[i]``, i < batch, in row-major order, by cublasGemmStridedBatchedEx.

    Sums over factors of 16 bits are float32; C may be stored as float32 or in 16 bits.

    Parameters
    ----------
    a, b, c : array
        The memory of the matrices: the first elements of A[0], B[0] and C[0] (M, N) are at ``offsets``; from one matrix
        to the next it is ``strides`` elements.
    M, N, K : int
    lda, ldb : int
        The distances from one row of A and B to the next, as they are stored.
    transposed : (bool, bool)
        Whether A and B are stored transposed, (K, M) and (N, K).
    ldc : int, optional
        The distance from one row of C to the next, by default N.
    add : bool
        Whether to add the products to the contents of C.
    """
    double = c.dtype.name == "float64"
    kind = 70 if double else 77 if tf32 else 68  # CUBLAS_COMPUTE_64F, _32F_FAST_TF32, _32F
    of_a, of_b, of_c = (CUBLAS_TYPES[array.dtype.name] for array in (a, b, c))
    one, before = (np.array(value, "float64" if double else "float32") for value in (1, add))
    (sa, sb, sc), (a0, b0, c0) = strides, (n * array.itemsize for n, array in zip(offsets, (a, b, c), strict=True))
    check_device((a, b, c))
    # cuBLAS counts along columns: to it these are the transposed matrices, and Cᵀ = Bᵀ · Aᵀ
    arguments = (
        int(transposed[1]),
        int(transposed[0]),
        N,
        M,
        K,
        one.ctypes.data,
        b.data.ptr + b0,
        of_b,
        ldb,
        sb,
        a.data.ptr + a0,
        of_a,
        lda,
        sa,
        before.ctypes.data,
        c.data.ptr + c0,
        of_c,
        N if ldc is None else ldc,
        sc,
        batch,
        kind,
        -1,
    )
    return partial(graphs.multiply if graphs.wanted() else _multiply, arguments, (a, b, c, one, before))


def _multiply(arguments: tuple[int, ...], memory: tuple[Any, ...]) -> None:
    """Queue a product as :func:`graphs.multiply` does, by CuPy's own call."""
    cublas().gemmStridedBatchedEx(cp.cuda.device.get_cublas_handle(), *arguments)
