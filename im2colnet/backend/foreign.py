"""Arrays from the user: of a backend that has been started, or anything else that NumPy can read."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from im2colnet.arrays import host_array
from im2colnet.backend.registry import backend_of
from im2colnet.checks import refuse_mask
from im2colnet.errors import BackendError
from im2colnet.host import np


def known_array(name: str, values: Any) -> Any:
    """Return an array of a backend unchanged, and anything else that NumPy can read as a host array.

    Raises
    ------
    DTypeError, ShapeError
        If NumPy cannot read it, or a mask would be lost; the message names the argument.
    """
    refuse_mask(name, values)
    if hasattr(values, "ndim") and not hasattr(values, "detach"):
        if not hasattr(values, "__array__"):
            return values  # of no backend, or of one whose arrays NumPy cannot read
        with suppress(BackendError):
            backend_of(**{name: values})
            return values
    return host_array(name, values)


def to_host(name: str, values: Any) -> np.ndarray:
    """Return ``values``, an array of any backend or anything that NumPy can read, as a host array.

    Raises
    ------
    DTypeError, ShapeError, BackendError
        If that is not possible; the message names the argument.
    """
    if type(values) is np.ndarray:  # what every step gives
        return values
    if type(values).__module__ != "numpy":
        values = known_array(name, values)
    found: np.ndarray = backend_of(**{name: values}).to_numpy(values)
    return found
