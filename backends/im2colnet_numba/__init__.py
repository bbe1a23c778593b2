"""The CPU backend with compiled kernels: loops that Numba compiles, and NumPy's kernels for everything else."""

from __future__ import annotations

from im2colnet.errors import install

try:
    import numba  # noqa: F401
except Exception as error:  # of several kinds: it refuses a NumPy or a Python that it does not know
    if isinstance(error, ModuleNotFoundError) and error.name == "numba":
        raise ImportError(f"Numba is not installed: {install('fast')}") from error
    raise ImportError(
        f"Numba is installed, but cannot be imported ({type(error).__name__}: {' '.join(str(error).split())}). A newer"
        f" Numba may take this Python and NumPy: pip install --upgrade numba. Else use IM2COLNET_BACKEND=numpy"
    ) from error

from im2colnet_numpy import NumpyBackend

__all__ = ["NumbaBackend"]


class NumbaBackend(NumpyBackend):
    """NumPy on the CPU, with compiled loops where they are faster; the parameters are those of ``NumpyBackend``."""

    name = "numba"
