"""Conversion of arrays from the user, of any library, to NumPy arrays."""

from __future__ import annotations

from typing import Any

from im2colnet.checks import refuse_mask
from im2colnet.errors import DTypeError, ShapeError
from im2colnet.host import np
from im2colnet.lazy import LazyArray


def host_array(name: str, values: Any) -> Any:
    """Return ``values`` as a NumPy array: lists, PyTorch tensors, and anything else that NumPy can read.

    A :class:`LazyArray` is returned as it is.

    Raises
    ------
    DTypeError, ShapeError
        If that is not possible, or a mask would be lost; the message names the argument.
    """
    if isinstance(values, LazyArray):
        return values
    parts = [values, *values] if isinstance(values, (list, tuple)) else [values]
    for part in parts:
        refuse_mask(name, part)
    try:
        if any(hasattr(part, "detach") for part in parts):  # a PyTorch tensor, which may want a gradient
            values = [_plain(part) for part in values] if isinstance(values, (list, tuple)) else _plain(values)
        return np.asarray(values)
    except ValueError as error:
        raise ShapeError(f"{name} must be an array, or lists of equal lengths: {error}") from error
    except (TypeError, RuntimeError) as error:
        raise DTypeError(f"{name} cannot be read as a NumPy array ({error}): convert it first") from error


def _plain(values: Any) -> np.ndarray:
    return np.asarray(values.detach().cpu() if hasattr(values, "detach") else values)


def check_image_type(name: str, images: Any) -> None:
    """Raise a DTypeError unless an array of images, of any backend, has an element type that networks take."""
    if images.dtype.kind != "f" and images.dtype.name != "uint8":
        raise DTypeError(
            f"{name} must be uint8, which is scaled to [0, 1], or floating point, which is used unchanged; got"
            f" {images.dtype}"
        )
