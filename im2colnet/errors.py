"""The errors that im2colnet raises on purpose: each says what was wrong, where, what was expected, what to do."""

from __future__ import annotations

from errno import ENOMEM
from math import prod
from typing import Any, TypeVar

from im2colnet.types import ITEM_BYTES, Shape

Error = TypeVar("Error", bound=BaseException)


class Im2colnetError(Exception):
    """Base class of all errors of the library; the command line prints them without a traceback."""


def agreed(error: BaseException) -> bool:
    """Return whether all ranks of a job know of an error, so that each of them raises it or one that names it."""
    return getattr(error, "agreed", False)


def mark_agreed(error: Error) -> Error:
    """Mark an error that all ranks know of, and return it."""
    error.agreed = True  # type: ignore[attr-defined]
    return error


class ShapeError(Im2colnetError, ValueError):
    """An array or an argument has a shape, number of axes, size or value that the operation cannot use."""


class DTypeError(Im2colnetError, TypeError):
    """An array has an element type that the operation does not support."""


class BackendError(Im2colnetError, RuntimeError):
    """A backend is unknown, broken or cannot start, or arrays of two backends were mixed."""


class OutOfMemoryError(BackendError, MemoryError):
    """There is not enough memory for an array, on the machine or on a device."""


class DataError(Im2colnetError, ValueError):
    """A data set is unknown, its files are missing or damaged, or its images differ from those of the training."""


class CheckpointError(Im2colnetError, ValueError):
    """A checkpoint cannot be read or written, or it belongs to another network."""


class ModelError(Im2colnetError, ValueError):
    """The file of a network from another program is damaged, or needs features that the library does not have."""


class WorkerError(Im2colnetError, RuntimeError):
    """A worker process has ended, or failed with an error that could not be sent, or a rank of a job has failed."""


class LayerError(Im2colnetError, AssertionError):
    """A layer violates a requirement of a run, or its gradient is wrong (:func:`im2colnet.testing.check_layer`)."""


class ConformanceError(BackendError, AssertionError):
    """A backend violates its contract (:func:`im2colnet.testing.check_backend`)."""


class NonFiniteError(Im2colnetError, FloatingPointError):
    """NaN or infinity appeared in the input, the loss or the parameters."""


class InterruptedStepError(Im2colnetError, RuntimeError):
    """A training step was interrupted while it changed the parameters, so they may be partly new: load a checkpoint."""


class FrozenError(Im2colnetError, AttributeError):
    """An attribute was assigned that cannot change any more, since other objects depend on it."""


class WorkerWarning(UserWarning):
    """The work is slower than it could be: on fewer cores, on threads instead of processes, or on a shared GPU."""


class TrainingWarning(UserWarning):
    """A training differs from what you may expect: other settings, other ranks, or a metric that is not finite."""


class InputWarning(UserWarning):
    """Images or labels may be wrong for the network: another scale, or a class without images."""


#: what is optional: the extra's name, and what of it pip has to install
EXTRAS = {
    "viz": "matplotlib",
    "images": "Pillow",
    "tensorboard": "tensorboardX",
    "sklearn": "scikit-learn",
    "onnx": "'onnx>=1.21'",
    "fast": "'numba>=0.63'",
    "mpi": "mpi4py",
    "cuda12": "'cupy-cuda12x[ctk]' ml_dtypes",
    "cuda13": "'cupy-cuda13x[ctk]' ml_dtypes",
}


def install(extra: str) -> str:
    """Return how to install what is optional, wherever im2colnet came from: an index, a wheel or a checkout."""
    return f"pip install {EXTRAS[extra]} (the extra {extra}: pip install '.[{extra}]' in a checkout)"


class memory_for:
    """Context manager that turns a lack of memory into an OutOfMemoryError, which names the array if it is given.

    Parameters
    ----------
    shape : tuple of int
        Shape of the array to allocate.
    dtype : str
        Name of the array's element type. Without it the message does not name the shape either.
    """

    def __init__(self, shape: Shape = (), dtype: str = "") -> None:
        self.shape, self.dtype = shape, dtype

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        if isinstance(error, OutOfMemoryError):
            return
        # of more bytes than a processor can count, NumPy and Python have errors of other kinds
        lack = isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno == ENOMEM)
        if self.dtype and (lack or isinstance(error, (OverflowError, ValueError))):
            size = prod(self.shape) * ITEM_BYTES[self.dtype] / 2**20
            raise OutOfMemoryError(
                f"there is no memory for an array of {size:,.0f} MiB (shape {tuple(self.shape)} of {self.dtype})"
            ) from error
        if lack:
            raise OutOfMemoryError(f"there is not enough memory: {error or 'Python could allocate no more'}") from error
