"""Convolution of rows that are not lowered: for each column j of the kernel a product with the images, shifted by j.

    y[r, :, lo : hi] += w[:, :, j] · x[r·stride - top : r·stride - top + KH, :, lo + j - left : hi + j - left]

where j meets the images at the output columns lo to hi. A window's rows (KH·C, W·N) follow each other in memory as
those of lowered rows do, so of one j all output rows are one batch of products, but for those at the edges whose
windows have fewer rows. Nothing is copied, but y is read and written KW times instead of once.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from itertools import pairwise
from math import prod
from operator import setitem
from typing import Any

from im2colnet.types import HALF, Call, Shape, Spec
from im2colnet.window import Window
from im2colnet_cupy.cuda import product
from im2colnet_cupy.rows import Rows

Array = Any
BANDWIDTH = 2e12  # bytes a second that a GPU moves: calculated for an H100, not measured
LAUNCH = 5e-6  # seconds that a launch takes: calculated for an H100, not measured


class Shifted(Rows):
    """The convolution of images ``x`` (H, C, W, N) with F filters, in one group and at stride 1 along the width."""

    why = "fewer filters than channels: the images are multiplied as they lie"

    def __init__(self, x: Shape, F: int, window: Window, groups: int, dtype: str, flipped: Rows | None = None) -> None:
        super().__init__(x, F, window, groups, dtype, flipped)
        OH, _, OW, _ = self.y
        #: (first output row, the one after the last, first kernel row, number of them) that meet the image
        self.blocks = row_blocks(window, x[0], OH)
        columns = [(j, *tap) for j, tap in enumerate(window.taps(1, x[2], OW)) if tap.hi > tap.lo]
        #: (kernel column, outputs from, to, first input), those that make most outputs first
        self.columns = sorted(columns, key=lambda column: column[1] - column[2])
        rows = sum(stop - start for start, stop, _, _ in self.blocks)
        #: whether the products with the first column make all outputs, so that the others can be added to them
        self.whole = rows == OH and bool(columns) and self.columns[0][1:3] == (0, OW)
        KH, KW = window.kernel
        self.scratch["conv2d"] = [Spec((KW, F, KH, x[1]), dtype)]

    @staticmethod
    def pays(x: Shape, F: int, window: Window, groups: int, dtype: str) -> bool:
        """Whether it exists for this convolution, and moves less by more than its launches take."""
        (H, C, _, N), (KH, KW), (OH, OW) = x, window.kernel, window.output_size((x[0], x[2]))
        if groups > 1 or window.stride[1] > 1 or window.dilation[0] > 1 or KW == 1 or dtype in HALF:
            return False  # in 16 bits the sums over the columns would be rounded each time
        lowered = ((OH - 1) * min(window.stride[0], KH) + KH) * KW * C * OW * N
        moved = KW * prod(x) + 2 * (KW - 1) * OH * F * OW * N
        saved = (prod(x) + 2 * lowered - moved) * (8 if dtype == "float64" else 4) / BANDWIDTH
        return saved > LAUNCH * KW * len(row_blocks(window, H, OH))

    def conv2d(
        self,
        x: Array,
        w: Array,
        b: Array | None,
        activation: str | None,
        y: Array,
        scratch: Sequence[Array],
        tf32: bool,
    ) -> Iterator[Call]:
        """Write the products of w, stored (F, KH, KW, C), with the shifted images, bias and activation into y."""
        (_, C, W, N), (_, F, OW, _), (KH, KW) = self.x, self.y, self.window.kernel
        sh, top = self.window.stride[0], self.window.padding[0][0]
        by_column = scratch[0]
        yield partial(setitem, by_column, ..., w.reshape(F, KH, KW, C).transpose(2, 0, 1, 3))
        if not self.whole:
            yield partial(setitem, y, ..., 0)
        for number, (j, lo, hi, first) in enumerate(self.columns):
            for start, stop, i, rows in self.blocks:
                yield product(
                    by_column,
                    x,
                    y,
                    F,
                    (hi - lo) * N,
                    rows * C,
                    KH * C,
                    W * N,
                    (0, sh * C * W * N, F * OW * N),
                    stop - start,
                    ldc=OW * N,
                    add=number > 0 or not self.whole,
                    tf32=tf32,
                    offsets=(
                        (j * F * KH + i) * C,
                        ((start * sh + i - top) * C * W + first) * N,
                        (start * F * OW + lo) * N,
                    ),
                )
        yield from self.finish(y, b, activation)


def row_blocks(window: Window, H: int, OH: int) -> list[tuple[int, int, int, int]]:
    """Output rows whose windows have the same rows within images of H rows: (from, to, first kernel row, how many)."""
    taps = window.taps(0, H, OH)
    found = []
    for start, stop in pairwise(sorted({edge for tap in taps for edge in (tap.lo, tap.hi)})):
        rows = [i for i, tap in enumerate(taps) if tap.lo <= start and stop <= tap.hi]
        if rows:
            found.append((start, stop, rows[0], len(rows)))
    return found
