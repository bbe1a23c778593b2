"""Which arrays the compiled loops take, and how they see them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from math import prod
from operator import setitem
from typing import Any

import numpy as np

from im2colnet.types import Call, Shape

Array = np.ndarray


def fits(*arrays: Array | None) -> bool:
    """Whether the loops take these arrays: numbers of float32."""
    return all(x is None or x.dtype == np.float32 for x in arrays)


def plain(x: Array) -> bool:
    """Whether an array's numbers lie one after the other and may be written: Numba compiles anew for what it is not."""
    return x.flags.carray


def lying(x: Array, shape: Shape) -> Array:
    """Return an array in another shape: a view, or a copy of one that is not :func:`plain`."""
    return (x if plain(x) else np.array(x, order="C")).reshape(shape)


def as_lines(x: Array) -> Shape:
    """Shape (H, C, W·N) of images (H, C, W, N); that of another array is its own."""
    return (*x.shape[:2], prod(x.shape[2:])) if x.ndim == 4 else x.shape


def as_vector(x: Array) -> Shape:
    """Shape of all numbers of an array after each other."""
    return (x.size,)


def to_read(x: Array, shape: Shape) -> tuple[Array, list[Call]]:
    """Return an array in another shape, for loops to read, and the calls before them.

    It is a view of a :func:`plain` array, without a call, and a copy of another one.
    """
    if plain(x):
        return x.reshape(shape), []
    copy = np.empty(x.shape, x.dtype)
    return copy.reshape(shape), [partial(setitem, copy, ..., x)]


def to_write(x: Array, shape: Shape) -> tuple[Array, list[Call]]:
    """Return an array in another shape, for loops to write, and the calls after them.

    It is a view of a :func:`plain` array, without a call. Else it is an array of its own, all of which the loops write.
    """
    if plain(x):
        return x.reshape(shape), []
    copy = np.empty(x.shape, x.dtype)
    return copy.reshape(shape), [partial(setitem, x, ..., copy)]


def seen_as(
    shape: Callable[[Array], Shape], loop: Callable[..., None], *arguments: Any, writes: Sequence[int] = (-1,)
) -> Iterator[Call]:
    """Yield the call of a loop whose arrays have another ``shape``.

    It writes the arguments at the places ``writes``. What is not :func:`plain` is copied before it and after it: the
    loop is the same, and so are the results.
    """
    written = {place % len(arguments) for place in writes}
    given, before, after = list(arguments), list[Call](), list[Call]()
    for place, each in enumerate(arguments):
        if isinstance(each, np.ndarray):
            wanted, calls = (to_write, after) if place in written else (to_read, before)
            given[place], copies = wanted(each, shape(each))
            calls += copies
    yield from before
    yield partial(loop, *given)
    yield from after
