"""The CUDA backend: CuPy's arrays, cuBLAS's products, and its own kernels (``kernels/*.cu``).

Everything is queued on CuPy's current stream. Only :meth:`CupyBackend.to_numpy`, :meth:`CupyBackend.all_finite` and
:meth:`CupyBackend.synchronize` wait for the device.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable
from math import prod
from threading import local
from typing import Any, Self

from im2colnet.errors import BackendError, WorkerWarning, install
from im2colnet.launcher import local_rank, local_size

try:
    import cupy as cp
except Exception as error:  # of several kinds, where it is broken
    if isinstance(error, ModuleNotFoundError) and error.name == "cupy":
        raise ImportError(
            f"CuPy is not installed: {install('cuda12')}, or for a driver of CUDA 13 {install('cuda13')}; both bring"
            " CUDA's libraries too"
        ) from error
    raise ImportError(
        f"CuPy is installed, but cannot be imported ({type(error).__name__}: {' '.join(str(error).split())}). Remove"
        f" all of its packages (pip list lists cupy, cupy-cuda12x, ...), then {install('cuda12')}, or for a driver of"
        f" CUDA 13 {install('cuda13')}"
    ) from error
import numpy as np

from im2colnet.types import HALF, Call, Shape
from im2colnet_cupy.activation import CupyActivation
from im2colnet_cupy.convolution import CupyConvolution
from im2colnet_cupy.cuda import Copies, launch
from im2colnet_cupy.device import OnDevice
from im2colnet_cupy.graphs import RecordingError, recorded, recording, wanted
from im2colnet_cupy.libraries import cublas
from im2colnet_cupy.linear import CupyLinear
from im2colnet_cupy.losses import CupyLosses
from im2colnet_cupy.normalization import CupyNormalization
from im2colnet_cupy.pooling import CupyPooling
from im2colnet_cupy.updates import CupyUpdates

__all__ = ["CupyBackend"]

Array = Any
TRANSPOSED = 32  # numbers along each side of a tile that is transposed
BFLOAT16_SINCE = 8  # compute capability from which on a GPU knows bfloat16


class CupyBackend(
    CupyConvolution, CupyPooling, CupyNormalization, CupyActivation, CupyLinear, CupyLosses, CupyUpdates, OnDevice
):
    """CuPy on an NVIDIA GPU.

    ``IM2COLNET_PRECISION`` sets the precision of networks without a precision of their own: "float32", "tf32" (products
    of float32 round their factors to 10 bits, for tensor cores), "float16" or "bfloat16".

    Parameters
    ----------
    device : str, optional
        The number of the GPU, as in ``"cupy:1"``. The default is 0; for the ranks of an MPI job on one machine, the
        default assigns the GPUs in turn.
    """

    name = "cupy"
    xp = cp
    update_chunk = 1 << 26
    precisions = ("float32", "tf32", *HALF)

    def __init__(self, device: str | None = None) -> None:
        precision = os.environ.get("IM2COLNET_PRECISION") or "float32"
        if precision not in self.precisions:
            raise BackendError(f"IM2COLNET_PRECISION must be one of {', '.join(self.precisions)}, it is {precision!r}")
        self._device, self._copies = _device(device), local()
        self.started_as = self.name if device is None else f"{self.name}:{device}"
        cublas()
        self._take(precision)

    def with_precision(self, precision: str) -> Self:
        if precision not in self.precisions:
            return super().with_precision(precision)
        if precision == self.precision:
            return self
        other = object.__new__(type(self))
        vars(other).update(vars(self))
        other._take(precision)
        return other

    def _take(self, precision: str) -> None:
        if precision == "bfloat16":
            major = cp.cuda.runtime.getDeviceProperties(self._device)["major"]
            if major < BFLOAT16_SINCE:
                raise BackendError(
                    f"this GPU's compute capability is {major}: bfloat16 needs {BFLOAT16_SINCE}, float16 does not"
                )
            try:
                import ml_dtypes  # noqa: F401 - with it NumPy and CuPy know the type
            except ImportError as error:
                raise BackendError("bfloat16 needs the package ml_dtypes: pip install ml_dtypes") from error
        self.precision, self.tf32 = precision, precision == "tf32"

    # ------------------------------------------------------------------ arrays

    def versions(self) -> dict[str, str]:
        runtime, found = cp.cuda.runtime, cp.cuda.runtime.getDeviceProperties(self._device)
        free, total = runtime.memGetInfo()
        return {
            "GPU": f"{found['name'].decode()}, compute capability {found['major']}.{found['minor']},"
            f" {free / 2**30:.1f} of {total / 2**30:.1f} GiB free",
            **super().versions(),
            "CUDA": f"{runtime.runtimeGetVersion()}, driver {runtime.driverGetVersion()}",
            "precision": self.precision,
        }

    def owns(self, array: Any) -> bool:
        return isinstance(array, cp.ndarray) and bool(array.data.device_id == self._device)

    def asarray(self, array: Any, dtype: str | None = None) -> Array:
        if recording() and not isinstance(array, cp.ndarray):
            raise RecordingError("an array of the host may be another one when the work is repeated")
        return cp.asarray(array, dtype=dtype)

    def prefetch(self, array: Any) -> Callable[[], Any]:
        if isinstance(array, cp.ndarray):
            return super().prefetch(array)
        if not hasattr(self._copies, "of_this_thread"):  # or trainers of two threads would share two buffers
            self._copies.of_this_thread = Copies()
        copies: Copies = self._copies.of_this_thread
        return copies.begin(array)

    def to_numpy(self, array: Array) -> Any:
        return array.get() if isinstance(array, cp.ndarray) else np.asarray(array)

    def empty(self, shape: Shape, dtype: str) -> Array:
        try:
            return cp.empty(shape, dtype=dtype)
        except MemoryError as error:  # CuPy's OutOfMemoryError is one
            size = prod(shape) * np.dtype(dtype).itemsize
            raise self._no_room(f"an array of {size / 2**20:,.0f} MiB") from error

    def free_bytes(self) -> int:
        free: int = cp.cuda.runtime.memGetInfo()[0] + cp.get_default_memory_pool().free_bytes()
        return free

    def peak_bytes(self) -> int:
        held: int = cp.get_default_memory_pool().total_bytes()  # the pool keeps what it once had
        return held

    @property
    def records(self) -> bool:  # type: ignore[override]
        return wanted()

    def recorded(self, work: Call) -> Call | None:
        return recorded(work)

    def synchronize(self) -> None:
        cp.cuda.Device(self._device).synchronize()

    def all_finite(self, x: Array) -> bool:
        return bool(cp.isfinite(x).all().get())

    def to_rows(self, images: Array, out: Array) -> Array:
        uint8 = images.dtype.name == "uint8"
        if images.dtype.name not in ("uint8", "float32", "float64"):
            images = images.astype(out.dtype)
        sample = images.shape[1:]
        C, H, W = sample if len(sample) == 3 else (prod(sample), 1, 1)
        N, pixels, scale = len(images), C * H * W, 1 / 255 if uint8 else 1.0
        grid = -(-N // TRANSPOSED), min(-(-pixels // TRANSPOSED), 65535)
        how: Any = {"grid": grid, "block": (TRANSPOSED, 8), "other": images.dtype.name}
        launch("layout.cu", "to_rows", out, images, out, N, C, H, W, scale, **how)
        return out


def _device(text: str | None) -> int:
    """Return the number of a usable device, or raise a BackendError that says how to get one."""
    number = text or "0"
    if not number.isdecimal():
        raise BackendError(f"a GPU is named by its number, as in 'cupy:1', got {number!r}")
    try:
        count = cp.cuda.runtime.getDeviceCount()
        if not count:
            raise RuntimeError("the driver lists no GPU")
    except Exception as error:  # CuPy's, of no driver or no GPU
        raise BackendError(
            f"no NVIDIA GPU can be used here ({error}): `nvidia-smi` must list a GPU, and its driver must support the"
            " CUDA version of CuPy. Without a GPU use IM2COLNET_BACKEND=numpy"
        ) from error
    if text is None:
        number = str(_device_of_rank(count))
    if int(number) >= count:
        raise BackendError(f"there is no GPU {number}: there are {count}, from 'cupy:0' to 'cupy:{count - 1}'")
    driver, built_for = cp.cuda.runtime.driverGetVersion(), cp.cuda.runtime.runtimeGetVersion()
    if driver // 1000 < built_for // 1000:
        raise BackendError(
            f"the driver supports CUDA {driver // 1000}, but the installed CuPy was built for CUDA {built_for // 1000}:"
            f" pip uninstall cupy-cuda{built_for // 1000}x, then pip install 'cupy-cuda{driver // 1000}x[ctk]', or"
            " update the driver"
        )
    return int(number)


def _device_of_rank(count: int) -> int:
    """Return the device of this rank of an MPI job, 0 without ranks: the ranks of a machine take its GPUs in turn.

    If a launcher shows each rank only its own GPU, the number is 0 for each rank.
    """
    own = count == 1 and "CUDA_VISIBLE_DEVICES" in os.environ
    if local_size() > count and not own and local_rank() == 0:
        warnings.warn(
            f"{local_size()} ranks on this machine share {count} GPU{'s' * (count > 1)}: one rank for each GPU is"
            f" faster (mpiexec -n {count} on one machine)",
            WorkerWarning,
            stacklevel=2,
        )
    return local_rank() % count
