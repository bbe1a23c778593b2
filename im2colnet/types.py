"""Types for the whole library: shapes, element types, and descriptions of arrays."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

Array = Any  # an array of the backend's module
HALF = ("float16", "bfloat16")  # types that arrays are stored in, while sums and parameters are float32
Shape = tuple[int, ...]
Call = Callable[[], Any]
ITEM_BYTES = {
    "float64": 8,
    "int64": 8,
    "uint64": 8,
    "float32": 4,
    "int32": 4,
    "uint32": 4,
    "float16": 2,
    "int16": 2,
    "uint16": 2,
    "bfloat16": 2,
    "bool": 1,
    "int8": 1,
    "uint8": 1,
}
ALIGNMENT = 64  # bytes: a line of the cache, and the widest vector; a plan's buffers begin at multiples of it


def accumulator(dtype: str) -> str:
    """Return the element type for sums of ``dtype``, and for the parameters of a network of this type.

    Parameters
    ----------
    dtype : str
        The name of an element type.

    Returns
    -------
    str
        "float32" for types of 16 bits, else ``dtype``.
    """
    return "float32" if dtype in HALF else dtype


def run(calls: Iterable[Call]) -> None:
    """Make prepared calls, one after the other.

    Parameters
    ----------
    calls : iterable of callable
        The calls that a kernel's ``prepare`` has returned.
    """
    for call in calls:
        call()


class Spec(NamedTuple):
    """The shape and element type of an array that is not allocated yet.

    Parameters
    ----------
    shape : tuple of int
        The shape as the library stores arrays: images (H, C, W, N), features (features, N).
    dtype : str
        The name of the element type, such as "float32".

    Examples
    --------
    >>> ic.Spec((28, 16, 28, 64), "float32")
    Spec(shape=(28, 16, 28, 64), dtype='float32')
    """

    shape: Shape
    dtype: str


class Choice(NamedTuple):
    """The choice of an algorithm, and the reason.

    Parameters
    ----------
    name : str
        The name of the algorithm, such as "rows" or "winograd".
    why : str
        The reason, as a text for reports such as ``im2colnet plan``.
    """

    name: str
    why: str
