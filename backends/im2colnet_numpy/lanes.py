"""Columns of images set apart by the stride, so that what a tap of a window meets in a row lies together.

    lanes[h, c, (w + left) % stride, (w + left) // stride, n] = x[h, c, w, n]

Tap j of the windows of a row meets the columns j·dilation + ow·stride - left: in x these are ``stride`` pixels apart,
and NumPy's innermost loop is the one over the samples of a pixel. Where they are few it is fast only over numbers that
lie together, which in lanes those of all windows do; to set the columns apart takes one copy of x.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import numpy as np

from im2colnet.types import Call, Shape, Spec
from im2colnet.window import Window
from im2colnet_numpy.lowering import copies_pixels, pixel_copy


class Lanes:
    """Where the columns of images lie for a window; images whose columns are not apart are indexed in the same way."""

    def __init__(self, window: Window) -> None:
        self.stride, self.left, self.extent = window.stride[1], window.padding[1][0], window.extent[1]
        self.overlaps = window.overlaps

    def pay(self, N: int, dtype: str) -> bool:
        """Whether columns set apart are faster: with few samples, and if pixels are read more than once."""
        item = np.dtype(dtype).itemsize
        return self.overlaps and self.stride > 1 and copies_pixels(N * item, item)

    def shape(self, OW: int) -> tuple[int, int]:
        """Return the number of lanes and their length, for OW windows in a row."""
        return self.stride, OW + (self.extent - 1) // self.stride

    def at(self, x: np.ndarray, inputs: tuple[slice, slice, slice]) -> np.ndarray:
        """Return the pixels at ``inputs`` of images (H, C, W, N), or of the lanes of their columns."""
        if x.ndim == 4:
            return x[inputs]
        rows, channels, columns = inputs
        place, lane = divmod(columns.start + self.left, self.stride)
        return x[rows, channels, lane, place : place + len(range(columns.start, columns.stop, self.stride))]

    def set_apart(self, x: np.ndarray, lanes: np.ndarray) -> Iterator[Call]:
        """Copy the columns of x (H, C, W, N) to the lanes."""
        for lane, columns in self._meetings(x, lanes):
            yield pixel_copy(lane, columns)

    def bring_back(self, lanes: np.ndarray, x: np.ndarray) -> Iterator[Call]:
        """Copy the lanes to the columns of x (H, C, W, N); columns beyond the last window become 0."""
        for lane, columns in self._meetings(x, lanes):
            yield pixel_copy(columns, lane)
        beyond = x[:, :, max(0, self.stride * lanes.shape[3] - self.left) :]
        if beyond.size:
            yield partial(beyond.fill, 0)

    def _meetings(self, x: np.ndarray, lanes: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        for lane in range(self.stride):
            first = (lane - self.left) % self.stride
            place = (first + self.left) // self.stride
            columns = x[:, :, first :: self.stride][:, :, : max(0, lanes.shape[3] - place)]
            if columns.size:
                yield lanes[: len(x), :, lane, place : place + columns.shape[2]], columns


def lanes_of(C: int, y: Shape, window: Window, rows: int, dtype: str) -> list[Spec]:
    """Return what holds the lanes of images of C channels that ``rows`` rows of windows read, if lanes pay.

    ``y`` is the shape (OH, F, OW, N) of what a kernel makes of all windows.
    """
    (_, _, OW, N), lanes = y, Lanes(window)
    read = (rows - 1) * window.stride[0] + window.extent[0]
    return [Spec((read, C, *lanes.shape(OW), N), dtype)] if lanes.pay(N, dtype) else []
