"""How images lie in memory: *rows*, ``(H, C, W, N)`` inside the library, ``(N, C, H, W)`` for its users.

Users get the output of a network as an array, and several outputs as a tuple of arrays.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from im2colnet.errors import ShapeError
from im2colnet.types import Shape


def user_shape(x: Shape) -> Shape:
    """Shape as users see it, batch first, for one as the library stores it."""
    return (x[3], x[1], x[0], x[2]) if len(x) == 4 else (x[-1], *x[:-1])


def internal_shape(sample: Sequence[int], n: int) -> Shape:
    """Shape in which ``n`` samples of shape (C, H, W), (features,) or any other one are stored: the batch is last."""
    if not len(sample):
        raise ShapeError("samples must have a shape such as (C, H, W) or (features,), got ()")
    if len(sample) == 3:
        C, H, W = sample
        return H, C, W, n
    return *sample, n


def user_axes(ndim: int) -> tuple[int, ...]:
    """Return the axes of an array as the library stores it in the order in which users see them."""
    return (3, 1, 0, 2) if ndim == 4 else (ndim - 1, *range(ndim - 1))


def internal_axes(ndim: int) -> tuple[int, ...]:
    """Return the axes of an array as users see it in the order in which the library stores them."""
    return (2, 1, 3, 0) if ndim == 4 else (*range(1, ndim), 0)


def inner_axis(dim: int, shape: Shape) -> int:
    """Axis of a value as the library stores it, for one as users count it; a ShapeError for the batch or none."""
    axes = user_axes(len(shape))
    if not -len(axes) <= dim < len(axes):
        raise ShapeError(f"dim={dim} is no axis of a value of shape {user_shape(shape)}")
    if dim % len(axes) == 0:
        raise ShapeError(f"dim={dim} is the batch of a value of shape {user_shape(shape)}: samples stay apart")
    return axes[dim]


def one_or_tuple(each: Sequence[Any]) -> Any:
    """Return what there is for each output of a network as users get it: of one output alone, of several a tuple."""
    return each[0] if len(each) == 1 else tuple(each)


def channel_axis(shape: Shape) -> int:
    """Axis of the channels of images (H, C, W, N), of the features of (features, N), of the first axis of others."""
    return 1 if len(shape) == 4 else 0


def channels(shape: Shape) -> int:
    """Channels of images (H, C, W, N), or features of (features, N)."""
    return shape[channel_axis(shape)]
