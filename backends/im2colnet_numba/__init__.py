"""The CPU backend with compiled kernels: loops that Numba compiles, and NumPy's kernels for everything else."""

from __future__ import annotations

from im2colnet.errors import BackendError, install

try:
    import llvmlite
    import numba
except Exception as error:  # of several kinds: it refuses a NumPy or a Python that it does not know
    if isinstance(error, ModuleNotFoundError) and error.name in ("llvmlite", "numba"):
        raise ImportError(f"Numba is not installed: {install('fast')}") from error
    raise ImportError(
        f"Numba is installed, but cannot be imported ({type(error).__name__}: {' '.join(str(error).split())}). A newer"
        f" Numba may take this Python and NumPy: pip install --upgrade numba. Else use IM2COLNET_BACKEND=numpy"
    ) from error
if numba.config.DISABLE_JIT:
    raise BackendError("NUMBA_DISABLE_JIT prevents compilation: unset it, or use IM2COLNET_BACKEND=numpy")

from im2colnet_numpy import NumpyBackend

from im2colnet_numba import cache
from im2colnet_numba.activation import NumbaActivation
from im2colnet_numba.compile import lanes
from im2colnet_numba.convolution import NumbaConvolution
from im2colnet_numba.losses import NumbaLosses
from im2colnet_numba.normalization import NumbaNormalization
from im2colnet_numba.pooling import NumbaPooling
from im2colnet_numba.updates import NumbaUpdates

__all__ = ["NumbaBackend"]


class NumbaBackend(
    NumbaConvolution, NumbaPooling, NumbaNormalization, NumbaActivation, NumbaUpdates, NumbaLosses, NumpyBackend
):
    """NumPy on the CPU, with compiled loops where they are faster; it has the parameters of ``NumpyBackend``."""

    name = "numba"

    def versions(self) -> dict[str, str]:
        return {
            **super().versions(),
            "numba": f"{numba.__version__}, llvmlite {llvmlite.__version__}",
            "vectors": f"{lanes()} float32 numbers each",
            "kernels": cache.facts(),
        }
