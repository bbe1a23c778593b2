"""Convolution as one product of the weight with the windows of many output rows, for batches of few images.

    y[r : r + m] = w · im2col(x)[r : r + m]         (F, m·OW·N) = (F, K) · (K, m·OW·N),   K = KH·KW·C

and all of that for each group (Chellapilla, Puri & Simard 2006). Products of one row (:mod:`im2colnet_numpy.rows`) copy
less, but with one image they have so few columns that each waits for the weight to come from memory; and where all
windows together are few, it is the calls that take the time. The gradients are those of rows.
"""
from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from math import prod
from operator import setitem

import numpy as np
from numpy.lib.stride_tricks import as_strided

from im2colnet.backend import Call, Shape, Spec
from im2colnet.window import Window
from im2colnet_numpy.channels import bias_spec, finish, spread
from im2colnet_numpy.lowering import pixel_copy
from im2colnet_numpy.products import product
from im2colnet_numpy.rows import Rows

WINDOW_BYTES = 4 << 20      # of windows held at a time
FEW_BYTES = 96 << 10        # of all windows: fewer are worth fewer calls
LARGE_WEIGHT = 1 << 15      # numbers of a group's weight that are read again for each product of a row,
PER_COLUMNS = 8             # and so many for each cube of a row's columns: the more, the less it matters


class Im2col(Rows):
    """Any convolution of images ``x`` (H, C, W, N) with F filters: sizes, but no array."""

    why = "few images: one product instead of one for each row"

    def __init__(self, x: Shape, F: int, window: Window, groups: int, dtype: str) -> None:
        super().__init__(x, F, window, groups, dtype)
        (H, C, W, N), (OH, OW) = x, window.output_size((x[0], x[2]))
        self.tile = max(1, min(OH, WINDOW_BYTES // (window_bytes(x, window, dtype) // OH)))
        (top, bottom), (left, right) = window.padding
        padded = top + H + bottom, C, left + W + right, N
        columns = self.tile * OW * N
        self.work["conv2d"] = [
            Spec(padded, dtype), Spec((groups * self.lowering.K * columns,), dtype), Spec((F * columns,), dtype),
            bias_spec((OH, F, OW, N), dtype),
        ]

    @staticmethod
    def pays(x: Shape, F: int, window: Window, groups: int, dtype: str) -> bool:
        """Whether it is faster than products of single rows."""
        OH, OW = window.output_size((x[0], x[2]))
        weight = F // groups * (x[1] // groups) * prod(window.kernel)
        rereads = OH > 1 and weight >= max(LARGE_WEIGHT, PER_COLUMNS * (OW * x[3]) ** 3)
        return rereads or window_bytes(x, window, dtype) <= FEW_BYTES

    def conv2d(
        self, x: np.ndarray, w: np.ndarray, b: np.ndarray | None, relu: bool, y: np.ndarray, work: Sequence[np.ndarray]
    ) -> Iterator[Call]:
        padded, lowered, products, row = work
        yield from spread(b, row)
        if padded.shape != x.shape:
            (H, _, W, _), ((top, _), (left, _)) = x.shape, self.window.padding
            yield partial(padded.fill, 0)
            yield partial(setitem, padded[top : top + H, :, left : left + W], ..., x)
            x = padded
        windows, w = self.windows(x), self._matrices(w)[:, 0]                           # (G, F/G, K)
        rows = y.reshape(len(y), self.G, self.F // self.G, -1)
        for r in range(0, len(y), self.tile):
            part = windows[..., r : r + self.tile, :, :]
            columns = lowered[: part.size].reshape(self.G, w.shape[2], -1)              # (G, K, m·OW·N)
            yield pixel_copy(columns.reshape(part.shape), part)
            result = products[: self.F * columns.shape[2]].reshape(self.G, w.shape[1], -1)
            yield product(w, columns, result)
            target = rows[r : r + self.tile]                                            # (m, G, F/G, OW·N)
            by_row = result.reshape(self.G, w.shape[1], len(target), -1).transpose(2, 0, 1, 3)
            yield partial(setitem, target, ..., by_row)
            yield from finish(y[r : r + self.tile], None if b is None else row, relu)   # still in cache

    def windows(self, x: np.ndarray) -> np.ndarray:
        """The windows (G, KH, KW, C/G, OH, OW, N) of images (H, C, W, N) that have their padding, as a view."""
        (_, C, _, N), G, (KH, KW), (OH, OW) = x.shape, self.G, self.window.kernel, (self.lowering.OH, self.lowering.OW)
        (sh, sw), (dh, dw), (row, channel, column, image) = self.window.stride, self.window.dilation, x.strides
        return as_strided(
            x, (G, KH, KW, C // G, OH, OW, N),
            (C // G * channel, dh * row, dw * column, channel, sh * row, sw * column, image), writeable=False,
        )  # fmt: skip


def window_bytes(x: Shape, window: Window, dtype: str) -> int:
    """Bytes of all windows of images (H, C, W, N)."""
    return prod(window.kernel) * prod(window.output_size((x[0], x[2]))) * x[1] * x[3] * np.dtype(dtype).itemsize
