"""The errors that im2colnet raises on purpose: each says what was wrong, where, what was expected, what to do."""


class Im2colnetError(Exception):
    """Base of every error below; the command line prints it without a traceback."""


class ShapeError(Im2colnetError, ValueError):
    """An array or an argument has a shape, rank, size or value that the operation cannot use."""


class DTypeError(Im2colnetError, TypeError):
    """An array has an element type that the operation does not take."""


class BackendError(Im2colnetError, RuntimeError):
    """A backend is unknown, broken or cannot start, or arrays of two backends were mixed."""


class OutOfMemoryError(BackendError, MemoryError):
    """A device has no room for an array."""


class DataError(Im2colnetError, ValueError):
    """A data set is unknown, its files are missing or damaged, or its images are not what a network was trained on."""


class CheckpointError(Im2colnetError, ValueError):
    """A checkpoint cannot be read, written, or belongs to another network."""


class WorkerError(Im2colnetError, RuntimeError):
    """A worker's process has ended, or failed with an error that could not be sent."""


class NonFiniteError(Im2colnetError, FloatingPointError):
    """NaN or infinity appeared in the input, the loss or the parameters."""


class InputWarning(UserWarning):
    """Images or labels may not be what a network needs: another scale, a class without images."""
