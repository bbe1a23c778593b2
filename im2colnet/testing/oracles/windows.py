"""Sizes and padding of windows, counted in the plainest way."""

from __future__ import annotations

from typing import Any

from im2colnet.host import np


def pair(value: Any) -> Any:
    """``value`` as a pair (height, width) of integers."""
    if np.ndim(value) == 0:
        return int(value), int(value)
    height, width = value
    return int(height), int(width)


def padding_pairs(padding: Any, kernel_size: Any, dilation: Any = 1, stride: Any = 1) -> Any:
    """``padding`` in the form ((top, bottom), (left, right)).

    "same" adds ``dilation * (kernel - 1)`` zeros in all; where that is odd, the extra one is at the bottom or right.
    As in PyTorch, "same" needs stride 1.
    """
    if padding == "valid":
        return (0, 0), (0, 0)
    if padding == "same":
        if pair(stride) != (1, 1):
            raise ValueError("padding='same' needs stride 1")
        totals = [d * (k - 1) for k, d in zip(pair(kernel_size), pair(dilation), strict=True)]
        return tuple((total // 2, total - total // 2) for total in totals)
    if np.ndim(padding) == 2:
        return tuple(pair(sides) for sides in padding)
    height, width = pair(padding)
    return (height, height), (width, width)


def of_row(value: Any, outside: Any = 1) -> Any:
    """Convert an argument for sequences, a number or a tuple for the axis, to an argument for images of one row.

    ``outside`` is the value for the height.
    """
    return value if isinstance(value, str) or value is None else (outside, *(value if np.ndim(value) else (value,)))


def padding_of_row(padding: Any) -> Any:
    """Convert padding of a sequence, ((left, right),) or another argument, to padding of an image of one row."""
    return of_row(padding, (0, 0) if np.ndim(padding) == 2 else 0)


def output_length(
    length: Any, kernel: Any, stride: Any = 1, padding: Any = (0, 0), dilation: Any = 1, ceil_mode: bool = False
) -> Any:
    """Number of windows along one axis with ``padding = (before, after)``.

    With ``ceil_mode`` a last window may reach beyond the padding, but, as in PyTorch, it has to start inside the input
    or the padding before it.
    """
    before, after = padding
    room = before + length + after - (dilation * (kernel - 1) + 1)  # how far the first window can be moved
    if not ceil_mode:
        return room // stride + 1
    count = -(-room // stride) + 1
    if (count - 1) * stride >= before + length:
        count -= 1
    return count


def output_size(
    size: Any, kernel_size: Any, stride: Any = 1, padding: Any = 0, dilation: Any = 1, ceil_mode: bool = False
) -> Any:
    """(OH, OW) for an image of ``size`` (H, W)."""
    pads = padding_pairs(padding, kernel_size, dilation, stride)
    axes = zip(size, pair(kernel_size), pair(stride), pads, pair(dilation), strict=True)
    return tuple(output_length(*axis, ceil_mode=ceil_mode) for axis in axes)


def pad_image(x: Any, pads: Any) -> Any:
    """``x`` with zeros around it."""
    return np.pad(x, ((0, 0), (0, 0), *pads))


def crop_image(x: Any, pads: Any) -> Any:
    """The inverse of ``pad_image``."""
    (top, bottom), (left, right) = pads
    return x[:, :, top : x.shape[2] - bottom, left : x.shape[3] - right].copy()
