"""Checks and conversions of the arguments of :mod:`im2colnet.functional`."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, ParamSpec, TypeVar

from im2colnet.backend import Backend
from im2colnet.backend.registry import backend_of
from im2colnet.checks import groups_divide, whole
from im2colnet.errors import DTypeError, ShapeError, memory_for
from im2colnet.types import Array, Shape

P = ParamSpec("P")
R = TypeVar("R")


def _told(function: Callable[P, R]) -> Callable[P, R]:
    """Let a lack of memory be an OutOfMemoryError."""

    @wraps(function)
    def call(*args: P.args, **options: P.kwargs) -> R:
        with memory_for():
            return function(*args, **options)

    return call


def _check(*arrays: tuple[str, Array, int]) -> Backend:
    """Check backend, rank, element type and emptiness of the named arrays; return their backend."""
    backend = backend_of(**{name: array for name, array, _ in arrays})
    for name, array, rank in arrays:
        if array.ndim != rank:
            meaning = {4: ", (N, C, H, W) or (F, C, KH, KW)", 3: ", (N, C·KH·KW, L)", 1: ""}[rank]
            raise ShapeError(f"{name} must have {rank} dimensions{meaning}, got {array.ndim}: shape {array.shape}")
        if 0 in array.shape[name in ("x", "dy", "cols") :]:  # but a batch may be
            raise ShapeError(f"{name} is empty: shape {array.shape}")
        if array.dtype.name not in ("float32", "float64"):
            raise DTypeError(
                f"{name} must be float32 or float64, got {array.dtype.name}; convert it with {name}.astype('float32')"
            )
        if array.dtype.name != arrays[0][1].dtype.name:
            raise DTypeError(
                f"{name} is {array.dtype.name} but {arrays[0][0]} is {arrays[0][1].dtype.name}; convert one of them"
            )
    return backend


def _shape(shape: Any, name: str, least: int = 0) -> tuple[int, int, int, int]:
    """Read four sizes; the first, which may be the size of a batch, is at least ``least``."""
    try:
        n, c, h, w = shape
        return whole(name, n, least), whole(name, c), whole(name, h), whole(name, w)
    except (TypeError, ValueError):  # ShapeError is a ValueError
        batch = "" if least else " (the batch size may be 0)"
        raise ShapeError(f"{name} must be four positive integers{batch}, got {shape!r}") from None


def _check_channels(x: Shape, w: Shape, groups: Any, x_name: str = "x", w_name: str = "w") -> int:
    """Return ``groups`` as an integer, if images and weight fit together by it."""
    found = groups_divide(x[1], w[0], groups)
    if x[1] != w[1] * found:
        raise ShapeError(
            f"{x_name} has {x[1]} channels (shape {tuple(x)}), but {w_name} of shape {tuple(w)}"
            f" with groups={found} expects {w[1]} * {found} = {w[1] * found}"
        )
    return found


def _check_grad(dy: Array, shape: Shape) -> None:
    if tuple(dy.shape) != tuple(shape):
        raise ShapeError(f"dy must have the shape of the output, {tuple(shape)}, got {tuple(dy.shape)}")


def _zeros(backend: Backend, like: Array, shape: Shape) -> Array:
    return backend.xp.zeros(tuple(shape), dtype=like.dtype.name)


def _native(x: Array) -> Array:
    """Return an array in the machine's byte order; files of other machines keep theirs."""
    return x if x.dtype.isnative else x.astype(x.dtype.newbyteorder("="))


def _rows(backend: Backend, x: Array) -> Array:
    with backend.context():
        return backend.xp.ascontiguousarray(_native(x).transpose(2, 1, 3, 0))  # (H, C, W, N)


def _images(backend: Backend, rows: Array) -> Array:
    with backend.context():
        return backend.xp.ascontiguousarray(rows.transpose(3, 1, 0, 2))  # (N, C, H, W)
