"""The memory layout of images: *rows*, ``(H, C, W, N)`` inside the library, ``(N, C, H, W)`` for users.

A network's single output is returned as an array, several outputs as a tuple of arrays.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from im2colnet.errors import ShapeError
from im2colnet.types import Shape


def user_shape(x: Shape) -> Shape:
    """Return a stored shape as users see it, with the batch axis first."""
    return (x[3], x[1], x[0], x[2]) if len(x) == 4 else (x[-1], *x[:-1])


def internal_shape(sample: Sequence[int], n: int) -> Shape:
    """Return the stored shape of ``n`` samples of any shape, such as (C, H, W): the batch axis is last."""
    if not len(sample):
        raise ShapeError("samples must have a shape such as (C, H, W) or (features,), got ()")
    if len(sample) == 3:
        C, H, W = sample
        return H, C, W, n
    return *sample, n


def user_axes(ndim: int) -> tuple[int, ...]:
    """Return the axes of a stored array in the order for users, as for ``transpose``."""
    return (3, 1, 0, 2) if ndim == 4 else (ndim - 1, *range(ndim - 1))


def internal_axes(ndim: int) -> tuple[int, ...]:
    """Return the axes of a user's array in the stored order, as for ``transpose``."""
    return (2, 1, 3, 0) if ndim == 4 else (*range(1, ndim), 0)


def inner_axis(dim: int, shape: Shape) -> int:
    """Return the stored axis for an axis as users count it; ShapeError for the batch axis or an invalid axis."""
    axes = user_axes(len(shape))
    if not -len(axes) <= dim < len(axes):
        raise ShapeError(f"dim={dim} is not an axis of a value of shape {user_shape(shape)}")
    if dim % len(axes) == 0:
        raise ShapeError(
            f"dim={dim} is the batch axis of a value of shape {user_shape(shape)}: samples must stay separate"
        )
    return axes[dim]


def one_or_tuple(each: Sequence[Any]) -> Any:
    """Return a single item as itself, and several items, one for each output of a network, as a tuple."""
    return each[0] if len(each) == 1 else tuple(each)


def channel_axis(shape: Shape) -> int:
    """Return the channel axis of images (H, C, W, N); 0 for features (features, N) and other values."""
    return 1 if len(shape) == 4 else 0


def channels(shape: Shape) -> int:
    """Return the number of channels of images (H, C, W, N), or of features of (features, N)."""
    return shape[channel_axis(shape)]
