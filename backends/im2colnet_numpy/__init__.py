"""The CPU backend: NumPy, with convolutions as products of matrices (see :mod:`im2colnet_numpy.algorithms`)."""

from __future__ import annotations

import platform
import warnings
from collections.abc import Sequence
from contextlib import AbstractContextManager
from math import prod
from typing import Any

import numpy as np

from im2colnet import memory
from im2colnet.backend import Backend, Division
from im2colnet.errors import memory_for
from im2colnet.types import ALIGNMENT, Shape
from im2colnet_numpy import blas
from im2colnet_numpy.activation import NumpyActivation
from im2colnet_numpy.convolution import NumpyConvolution
from im2colnet_numpy.denormal import flush_denormal
from im2colnet_numpy.linear import NumpyLinear
from im2colnet_numpy.normalization import NumpyNormalization
from im2colnet_numpy.pooling import NumpyPooling
from im2colnet_numpy.tuning import DEFAULT, Tuning

__all__ = ["NumpyBackend", "Tuning"]

Array = np.ndarray


class NumpyBackend(NumpyConvolution, NumpyPooling, NumpyNormalization, NumpyActivation, NumpyLinear, Backend):
    """NumPy on the CPU. For networks, BLAS is limited to one thread: the library has its own workers.

    Parameters
    ----------
    device
        Must be None: this backend has no devices.
    tuning
        Sizes that decide how the work of a kernel is divided into tiles.
    division : Division
        Sizes that decide how the work on a batch is divided among workers.
    """

    name = "numpy"
    xp = np
    threads = True

    def __init__(
        self, device: str | None = None, tuning: Tuning = DEFAULT, division: Division = Backend.division
    ) -> None:
        super().__init__(device)
        self.tuning, self.division = tuning, division
        self._process_prepared = False

    def prepare_process(self) -> None:
        """Limit BLAS to one thread, once for the process.

        OpenBLAS with several threads, called from several Python threads, serializes on a lock and has returned wrong
        results (numpy#29391), and its sums depend on the number of threads.
        """
        if self._process_prepared:
            return
        self._process_prepared = True
        if not blas.limit_process():  # a bare checkout: the user's OPENBLAS_NUM_THREADS decides
            self._warn(None)
        elif blas.built_with() == "accelerate":
            self._warn([])

    def limit_threads(self, threads: int) -> AbstractContextManager[None]:
        return blas.at_most(threads)

    def __reduce__(self) -> Any:
        given = self.tuning, self.division
        return super().__reduce__() if given == (DEFAULT, Backend.division) else (type(self), (None, *given))

    def _warn(self, pools: list[dict[str, Any]] | None) -> None:
        if why := blas.uncontrolled(pools):
            warnings.warn(
                f"{why}. Until then the last bits of results may differ from run to run, and with the number of"
                " workers",
                RuntimeWarning,
                stacklevel=3,
            )

    def unequal(self) -> str:
        self.prepare_process()
        return blas.uncontrolled(blas.loaded())

    def versions(self) -> dict[str, str]:
        found = super().versions() | {"processor": platform.machine()}
        found["BLAS"] = f"{blas.built_with()} (no further information)"
        for pool in (blas.loaded() or [])[:1]:  # other packages may have brought theirs later
            kernels = f", kernels for {pool['architecture']}" if "architecture" in pool else ""
            count = pool["num_threads"]
            threads = f", {count} thread{'s' * (count != 1)} in each worker"
            found["BLAS"] = f"{pool['internal_api']} {pool['version']}{kernels}{threads}"
        return found

    def to_numpy(self, array: Any) -> Array:
        return np.asarray(array)

    def empty(self, shape: Shape, dtype: str) -> Array:
        """Allocate at a multiple of ``ALIGNMENT``; NumPy's own arrays lie at any multiple of 16 bytes."""
        nbytes = prod(shape) * np.dtype(dtype).itemsize
        with memory_for(shape, dtype):
            memory = np.empty(nbytes + ALIGNMENT, "uint8")
        start = -memory.ctypes.data % ALIGNMENT
        return memory[start : start + nbytes].view(dtype).reshape(shape)

    def empty_shared(self, shape: Shape, dtype: str) -> Array:
        nbytes = prod(shape) * np.dtype(dtype).itemsize
        if not nbytes or not memory.AVAILABLE:
            return self.empty(shape, dtype)
        with memory_for(shape, dtype):
            return np.frombuffer(memory.allocate(nbytes), dtype).reshape(shape)

    def is_shared(self, array: Array) -> bool:
        return memory.block_of(array) is not None

    def random(self, key: Sequence[int], out: Array) -> Array:
        np.random.Generator(np.random.SFC64(list(key))).random(out=out, dtype=out.dtype)
        return out

    def flush_denormal(self) -> AbstractContextManager[None]:
        return flush_denormal()

    def all_finite(self, x: Array) -> bool:
        flat = x.reshape(-1)
        with np.errstate(all="ignore"):
            return bool(np.isfinite(np.dot(flat, flat)) or np.isfinite(x).all())  # one pass, unless squares overflow
