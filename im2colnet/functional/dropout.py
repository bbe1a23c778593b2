"""Dropout."""

from __future__ import annotations

import os

from im2colnet.backend import Backend
from im2colnet.checks import number, truth_value, whole
from im2colnet.errors import ShapeError
from im2colnet.functional.applying import apply_to_numbers
from im2colnet.functional.arguments import on_arrays, zeros
from im2colnet.layers import Dropout
from im2colnet.types import Array

__all__ = ["dropout"]


@on_arrays("input")
def dropout(backend: Backend, input: Array, p: float = 0.5, training: bool = True, *, seed: int | None = None) -> Array:
    """While training, set each number to zero with probability ``p`` and multiply the others by 1 / (1 - p).

    Parameters
    ----------
    input : Array of any shape
    p : float
        From 0 to 1.
    training : bool
        A copy of the input is returned if it is False.
    seed : int, optional
        An integer of at least 0, for which the same numbers are set to zero each time. By default others each time.
    """
    if number("p", p) > 1:
        raise ShapeError(f"p must be a probability from 0 to 1, got {p!r}")
    key = int.from_bytes(os.urandom(8)) if seed is None else whole("seed", seed, least=0)
    if p == 1 and training:
        return zeros(backend, input, input.shape)
    return apply_to_numbers(Dropout(p if p < 1 else 0), input, backend, truth_value("training", training), (key,))
