"""Dropout."""

from __future__ import annotations

import os
from math import prod

from im2colnet.backend import Backend
from im2colnet.checks import number, truth_value, whole
from im2colnet.errors import ShapeError
from im2colnet.functional.applying import apply
from im2colnet.functional.arguments import on_arrays, zeros
from im2colnet.layers import Dropout, Dropout2d
from im2colnet.types import Array, Shape

__all__ = ["dropout", "dropout2d"]


@on_arrays("input")
def dropout(backend: Backend, input: Array, p: float = 0.5, training: bool = True, *, seed: int | None = None) -> Array:
    """While training, set each number to zero with probability ``p`` and multiply the others by 1 / (1 - p).

    Parameters
    ----------
    input : Array
        Array of any shape.
    p : float
        Probability, from 0 to 1.
    training : bool
        If False, the function returns a copy of the input.
    seed : int, optional
        Integer of at least 0. With the same seed the same numbers are set to zero. By default each call drops other
        numbers.

    Returns
    -------
    Array
        Array with the shape and type of ``input``.

    Raises
    ------
    ShapeError
        If p or seed is out of range.

    Examples
    --------
    >>> F.dropout(np.ones(8), p=0.25, seed=0).round(2)
    array([1.33, 0.  , 1.33, 0.  , 1.33, 1.33, 1.33, 1.33])
    """
    return _dropped(Dropout, input, (input.size,), p, training, seed, backend)


@on_arrays("input")
def dropout2d(
    backend: Backend, input: Array, p: float = 0.5, training: bool = True, *, seed: int | None = None
) -> Array:
    """While training, set whole channels of samples to zero with probability ``p``, multiply others by 1 / (1 - p).

    Parameters
    ----------
    input : Array, (N, C, ...)
        Array with channels. Each channel of each sample is dropped independently.
    p : float
        Probability, from 0 to 1.
    training : bool
        If False, the function returns a copy of the input.
    seed : int, optional
        Integer of at least 0. With the same seed the same channels are set to zero. By default each call drops other
        channels.

    Returns
    -------
    Array
        Array with the shape and type of ``input``.

    Raises
    ------
    ShapeError
        If p or seed is out of range, or the input has no channels.

    Examples
    --------
    >>> F.dropout2d(np.ones((1, 4, 2)), seed=2)
    array([[[2., 2.],
            [0., 0.],
            [2., 2.],
            [0., 0.]]])
    """
    if input.ndim < 2:
        raise ShapeError(f"input must have channels, (N, C, ...), got shape {input.shape}")
    N, C, *places = input.shape
    return _dropped(Dropout2d, input, (1, N * C, prod(places), 1), p, training, seed, backend)


def _dropped(
    kind: type[Dropout], input: Array, shape: Shape, p: float, training: bool, seed: int | None, backend: Backend
) -> Array:
    """Return what a layer of this kind makes of an array that it sees in this shape."""
    if number("p", p) > 1:
        raise ShapeError(f"p must be a probability from 0 to 1, got {p!r}")
    key = int.from_bytes(os.urandom(8)) if seed is None else whole("seed", seed, least=0)
    if p == 1 and training:
        return zeros(backend, input, input.shape)
    x = backend.xp.ascontiguousarray(input).reshape(shape)
    layer, training = kind(p if p < 1 else 0), truth_value("training", training)
    return apply(layer, x, backend, training=training, key=(key,)).reshape(input.shape)
