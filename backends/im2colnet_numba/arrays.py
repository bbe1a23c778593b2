"""Which arrays the compiled loops take, and how they see them."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from math import prod
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


def seen_as(shape: Callable[[Array], Shape], loop: Callable[..., None], *arguments: Any) -> Call:
    """Return the call of a loop whose arrays have another ``shape``.

    Each call copies what is not :func:`plain`: the loop is the same, and so are the results.
    """

    def taken() -> list[Any]:
        return [lying(each, shape(each)) if isinstance(each, np.ndarray) else each for each in arguments]

    if all(plain(each) for each in arguments if isinstance(each, np.ndarray)):
        return partial(loop, *taken())
    return lambda: loop(*taken())
