"""How images lie in memory: *rows*, ``(H, C, W, N)`` inside the library, ``(N, C, H, W)`` for its users."""

from __future__ import annotations

from collections.abc import Sequence

from im2colnet.errors import ShapeError
from im2colnet.types import Shape


def user_shape(x: Shape) -> Shape:
    """Shape as users see it, batch first, for one as the library stores it."""
    return (x[3], x[1], x[0], x[2]) if len(x) == 4 else (x[-1], *x[:-1])


def internal_shape(sample: Sequence[int], n: int) -> Shape:
    """Shape in which ``n`` samples of shape (C, H, W) or (features,) are stored."""
    if len(sample) == 3:
        C, H, W = sample
        return H, C, W, n
    if len(sample) == 1:
        return sample[0], n
    raise ShapeError(f"expected samples of shape (C, H, W) or (features,), got {tuple(sample)}")


def channels(shape: Shape) -> int:
    """Channels of images (H, C, W, N), or features of (features, N)."""
    return shape[1] if len(shape) == 4 else shape[0]
