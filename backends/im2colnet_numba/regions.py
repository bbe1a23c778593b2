"""Which outputs of a convolution see which inputs, as tables of offsets for its compiled loops.

Outputs that see the same taps of the kernel form a region: a block of rows and of columns, evenly spaced. There are
several, since at the border some taps would see padding. Those taps are left out, so padding is neither stored nor
multiplied. Or, with ``taps_apart``, each tap has a region of its own: the outputs that see a pixel by it.

Of the input's gradient the outputs are the pixels of dx, of which (h, w) sees of dy by tap (i, j)
((h + top - i·dilation) / stride, ...), where these are integers: with a stride each residue has regions of its own.
"""

from __future__ import annotations

from itertools import product
from typing import NamedTuple

import numpy as np

from im2colnet.types import Shape
from im2colnet.window import Pair, Window
from im2colnet_numba.compile import lanes
from im2colnet_numba.vectors import ITEM, address


class Run(NamedTuple):
    """Outputs ``first + t·step`` along an axis that see the same taps: by tap k the input ``seen[k] + t·pace``."""

    first: int
    step: int
    length: int
    seen: dict[int, int]
    pace: int


def runs(window: Window, axis: int, size: int, out: int, gradient: bool, taps_apart: bool) -> list[Run]:
    """Divide the outputs along an axis into runs, with ``gradient`` the pixels of dx.

    The convolution has ``size`` inputs and ``out`` outputs along it.
    """
    s, d, (before, _) = window.stride[axis], window.dilation[axis], window.padding[axis]
    if taps_apart:
        taps = enumerate(window.taps(axis, size, out))
        return [Run(lo, 1, hi - lo, {k: start}, s) for k, (lo, hi, start) in taps if hi > lo]
    step, pace, count = (s, 1, size) if gradient else (1, s, out)
    found: list[Run] = []
    for phase in range(min(step, count)):
        for position in range(phase, count, step):
            if gradient:
                above = {k: position + before - k * d for k in range(window.kernel[axis])}
                seen = {k: a // s for k, a in above.items() if a % s == 0 and 0 <= a // s < out}
            else:
                meets = {k: position * s + k * d - before for k in range(window.kernel[axis])}
                seen = {k: m for k, m in meets.items() if 0 <= m < size}
            if position > phase and found[-1].seen.keys() == seen.keys():
                found[-1] = found[-1]._replace(length=found[-1].length + 1)
            else:
                found.append(Run(position, step, 1, seen, pace))
    return found


class Regions:
    """The regions of a convolution: its rows crossed with its columns.

    Samples of a pixel lie together, and so do pixels of a row that follow each other in what is read and in what is
    written: vectors run along them. The last one of such numbers begins before the others end, if it must.

    Parameters
    ----------
    N
        Samples of a pixel.
    read, written
        Channels and width of the images that are read, and of those that are written.
    rows, columns
        Runs of the rows and columns that are written.
    KW
        Width of the kernel.

    Attributes
    ----------
    lanes : int
        Numbers of a vector; 0 if no vector of the processor, nor half of one, fits.
    table : array
        Of each region: its vectors in the table of vectors, from which to which, the first of those that begin before
        the others end, and by how many lanes; then its taps in theirs.
    vectors : array
        Of each vector: where it reads, without a tap's offset, and where it writes; in bytes.
    taps : array
        Of each tap of a region: its offset in what is read, in bytes, and its number i·KW + j.
    channel, filter : int
        Bytes from a channel to the next in what is read, and in what is written.
    """

    ROW = 6 * 8  # bytes of a row of the table of regions
    PAIR = 2 * 8  # bytes of a row of the other tables

    def __init__(self, N: int, read: Pair, written: Pair, rows: list[Run], columns: list[Run], KW: int) -> None:
        self.channel, self.filter = read[1] * N * ITEM, written[1] * N * ITEM
        row_read, row_written = read[0] * read[1], written[0] * written[1]  # pixels of all channels of a row
        #: of each run of columns, how many of them lie together
        together = [run.length if run.step == run.pace == 1 else 1 for run in columns]
        self.lanes = next((n for n in (lanes(), lanes() // 2) if n <= N * min(together, default=1)), 0)
        table: list[tuple[int, ...]] = []
        vectors, taps = [np.empty((0, 2), np.int64)], list[tuple[int, int]]()
        for row, (column, width) in product(rows, zip(columns, together, strict=True)) if self.lanes else ():
            starts = np.minimum(np.arange(0, width * N, self.lanes), width * N - self.lanes)
            whole = width * N // self.lanes
            a, b = np.arange(row.length)[:, None, None], np.arange(0, column.length, width)[:, None]
            begins = sum(map(len, vectors)), len(taps)
            for some in starts[:whole], starts[whole:]:
                source = (a * row.pace * row_read + b * column.pace) * N + some
                target = ((row.first + a * row.step) * row_written + column.first + b * column.step) * N + some
                vectors.append(np.stack([source.ravel(), target.ravel()], axis=1) * ITEM)
            for (i, h), (j, w) in product(row.seen.items(), column.seen.items()):
                taps.append(((h * row_read + w) * N * ITEM, i * KW + j))
            end = sum(map(len, vectors))
            table.append((begins[0], end - len(vectors[-1]), end, -(width * N) % self.lanes, begins[1], len(taps)))
        self.table = np.array(table, np.int64).reshape(-1, 6)
        self.vectors = np.concatenate(vectors).astype(np.int64)
        self.taps = np.array(taps, np.int64).reshape(-1, 2)

    @classmethod
    def of(cls, x: Shape, F: int, window: Window, gradient: bool = False, taps_apart: bool = False) -> Regions:
        """Return those of a convolution of images x (H, C, W, N) by a window, or with ``gradient`` those of dx."""
        (H, C, W, N), (OH, OW) = x, window.output_size((x[0], x[2]))
        rows = runs(window, 0, H, OH, gradient, taps_apart)
        columns = runs(window, 1, W, OW, gradient, taps_apart)
        read, written = ((F, OW), (C, W)) if gradient else ((C, W), (F, OW))
        return cls(N, read, written, rows, columns, window.kernel[1])

    @property
    def tables(self) -> tuple[np.ndarray, int, np.ndarray, np.ndarray]:
        """The tables as the compiled loops take them, with the end of that of regions."""
        return self.table, address(self.table) + self.table.nbytes, self.vectors, self.taps
