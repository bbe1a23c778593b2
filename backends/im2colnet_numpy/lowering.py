"""Lowering along the width: the copy that turns a convolution of rows into matrix products.

    L[g, h, j, c, s, n] = x[h - top, (g, c), s*stride + j*dilation - left, n]

The window of output row r is ``L[g, r*stride : r*stride + KH]``, and because the rows of L follow each other in
memory it already *is* the matrix (KH·KW·C, OW·N) whose product with the weight (F, KH·KW·C) is output row r. Only KW
copies of the input are made instead of KH·KW (the idea of MEC: Cho & Brand 2017, arXiv:1706.06873). Where windows do
not share rows (stride ≥ KH) or their rows are not neighbours (dilation > 1) each window's rows are copied instead.

The copy is made for a tile of output rows at a time, small enough to be still in cache when it is multiplied.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from operator import setitem

import numpy as np
from numpy.lib.stride_tricks import as_strided

from im2colnet.types import Call, Shape, Spec
from im2colnet.window import Window

MAX_ITEM_BYTES = 64  # the samples of a pixel are copied as one item up to this size


def copies_pixels(size: int, itemsize: int) -> bool:
    """Whether the samples of a pixel, ``size`` bytes together, are copied as one item."""
    return itemsize < size <= MAX_ITEM_BYTES


def pixel_copy(target: np.ndarray, source: np.ndarray) -> Call:
    """Return the call that copies images (..., N).

    NumPy's innermost loop is the one over the samples of a pixel, which lie together. Where they are few it goes along
    the pixels instead, each as one item: with up to eight samples in a half to a ninth of the time.
    """
    size = target.shape[-1] * target.itemsize
    if copies_pixels(size, target.itemsize) and target.strides[-1] == source.strides[-1] == target.itemsize:
        target, source = target.view(f"V{size}"), source.view(f"V{size}")
    return partial(setitem, target, ..., source)


class Lowering:
    """How images of shape ``x`` are lowered for ``window``: tile sizes and strides, but no array."""

    def __init__(
        self, x: Shape, window: Window, groups: int, dtype: str, tile_bytes: int, tile: int | None = None
    ) -> None:
        (self.H, self.C, self.W, self.N), self.window, self.G = x, window, groups
        self.OH, self.OW = window.output_size((self.H, self.W))
        (KH, KW), (sh, _), (dh, _) = window.kernel, window.stride, window.dilation
        self.shared = dh == 1 and sh < KH
        self.pitch = sh if self.shared else KH  # lowered rows from one output row to the next
        self.direct = window.kernel == window.stride == (1, 1) and window.padding == ((0, 0), (0, 0))
        row = KW * self.C * self.OW * self.N * np.dtype(dtype).itemsize
        #: output rows at a time: as many as fit into a tile, if nobody says
        self.tile = tile or max(1, min(self.OH, (tile_bytes // row - KH) // self.pitch + 1))
        self.K = KH * KW * self.C // groups
        rows = (self.tile - 1) * self.pitch + KH
        shape = (0,) if self.direct else (groups, rows, KW, self.C // groups, self.OW, self.N)
        self.spec = Spec(shape, dtype)
        self.columns = window.taps(1, self.W, self.OW)

    def tiles(self, x: np.ndarray, L: np.ndarray) -> Iterator[tuple[int, int, np.ndarray, list[Call]]]:
        """Yield ``(r, m, V, copies)``: output rows r to r + m, their windows V (G, m, K, OW·N), and the copies.

        V is a view of the scratch ``L``, or of x where nothing is copied.
        """
        H, W, N, G, OW = self.H, self.W, self.N, self.G, self.OW
        x = x.reshape(H, G, self.C // G, W, N)
        if self.direct:
            pixels = x.reshape(H, G, self.K, W * N).swapaxes(0, 1)
            for r in range(0, H, self.tile):
                yield r, min(self.tile, H - r), pixels[:, r : r + self.tile], []
            return
        V = as_strided(
            L,
            (G, self.tile, self.K, OW * N),
            (L.strides[0], self.pitch * L.strides[1], OW * N * L.itemsize, L.itemsize),
        )
        L = L.transpose(1, 2, 0, 3, 4, 5)  # (rows, KW, G, C/G, OW, N)
        # the padding left and right, the same for every tile
        copies: list[Call] = [
            partial(L[:, j, :, :, padding].fill, 0)
            for j, (lo, hi, _) in enumerate(self.columns)
            for padding in (slice(lo), slice(hi, OW))
            if padding.stop > (padding.start or 0)
        ]
        for r in range(0, self.OH, self.tile):
            m = min(self.tile, self.OH - r)
            for rows, source, inside in self._row_blocks(r, m):
                for padding in inside[0], inside[2]:  # the padding above and below
                    if padding.stop > padding.start:
                        copies.append(partial(L[rows][padding].fill, 0))
                copies += [pixel_copy(*both) for both in self._meetings(L[rows][inside[1]], x[source])]
            yield r, m, V[:, :m], copies
            copies = []

    def add_back(self, r: int, m: int, L: np.ndarray, x: np.ndarray) -> Iterator[Call]:
        """Add the lowered rows of output rows r to r + m to those of ``x`` that they come from: the adjoint."""
        L = L.transpose(1, 2, 0, 3, 4, 5)  # (rows, KW, G, C/G, OW, N)
        x = x.reshape(self.H, self.G, self.C // self.G, self.W, self.N)
        for rows, source, (_, inside, _) in self._row_blocks(r, m):
            for lowered, pixels in self._meetings(L[rows][inside], x[source]):
                yield partial(np.add, pixels, lowered, pixels)

    def _meetings(self, lowered: np.ndarray, image: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield for each column of the kernel the parts of lowered rows and of image rows that belong together."""
        sw = self.window.stride[1]
        for j, (lo, hi, start) in enumerate(self.columns):
            if hi > lo:
                yield lowered[:, j, :, :, lo:hi], image[:, :, :, start : start + (hi - lo - 1) * sw + 1 : sw]

    def _row_blocks(self, r: int, m: int) -> Iterator[tuple[slice, slice, tuple[slice, slice, slice]]]:
        """Yield which lowered rows come from which image rows: (rows of L, rows of x, (above, inside, below))."""
        window = self.window
        (KH, _), (sh, _), (dh, _), top = window.kernel, window.stride, window.dilation, window.padding[0][0]
        if self.shared:
            blocks = [(slice(0, (m - 1) * sh + KH), r * sh - top, 1, (m - 1) * sh + KH)]
        else:
            blocks = [(slice(i, (m - 1) * KH + i + 1, KH), r * sh + i * dh - top, sh, m) for i in range(KH)]
        for rows, first, step, count in blocks:
            lo = min(count, max(0, -(first // step)))  # first row with first + lo·step >= 0
            hi = max(lo, min(count, (self.H - 1 - first) // step + 1))
            start = first + lo * step
            source = slice(start, start + (hi - lo - 1) * step + 1, step) if hi > lo else slice(0, 0)
            yield rows, source, (slice(0, lo), slice(lo, hi), slice(hi, count))
