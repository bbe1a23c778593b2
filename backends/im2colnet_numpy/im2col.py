"""Convolution as one product of the weight with the windows of many output rows, for few images.

    y  = w · im2col(x)              (F, P) = (F, K) · (K, P),   K = KH·KW·C,  P = OH·OW·N
    dw = dy · im2col(x)ᵀ            dx = col2im(wᵀ · dy)

and all of that for each group, and as many output rows at a time as fit (Chellapilla, Puri & Simard 2006). Products of
single rows (:mod:`im2colnet_numpy.rows`) copy less, but of few images a row has few columns: each product waits for the
weight to come from memory, and the weight's gradient, a sum over rows, for its own summands.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from math import prod
from operator import setitem

import numpy as np
from numpy.lib.stride_tricks import as_strided

from im2colnet.types import Call, Shape, Spec, run
from im2colnet.window import Window
from im2colnet_numpy.epilogue import bias_spec, finish, spread
from im2colnet_numpy.lanes import lanes_of
from im2colnet_numpy.lowering import pixel_copy
from im2colnet_numpy.rows import as_weight, matrices_of, rows_of, sum_windows
from im2colnet_numpy.tuning import Tuning


class Im2col:
    """Any convolution of images ``x`` (H, C, W, N) with F filters: sizes, but no array.

    Attributes
    ----------
    scratch : dict
        The scratch arrays of each kernel, by its name.
    """

    why = "few images: one product instead of one for each row"

    def __init__(self, x: Shape, F: int, window: Window, groups: int, dtype: str, tuning: Tuning) -> None:
        (H, C, W, N), (self.OH, self.OW) = x, window.output_size((x[0], x[2]))
        self.F, self.G, self.N, self.K, self.window = F, groups, N, prod(window.kernel) * C // groups, window
        self.products, row = tuning.products, groups * self.K * self.OW * N
        #: output rows at a time
        self.tile = max(1, min(self.OH, tuning.window_bytes // (row * np.dtype(dtype).itemsize)))
        (top, bottom), (left, right) = window.padding
        padded = Spec((top + H + bottom, C, left + W + right, N) if any((top, bottom, left, right)) else (0,), dtype)
        columns, outputs = Spec((self.tile * row,), dtype), Spec((self.tile * F * self.OW * N,), dtype)
        total = Spec((groups, F // groups, self.K), dtype)
        sums = [total, total if self.tile < self.OH else Spec((0,), dtype)]
        lanes = lanes_of(C, (self.OH, F, self.OW, N), window, self.tile, dtype)
        self.scratch = {
            "conv2d": [padded, columns, outputs, bias_spec((self.OH, F, self.OW, N), dtype)],
            "conv2d_weight_grad": [padded, columns, outputs, *sums],
            "conv2d_input_grad": [columns, outputs, *lanes],
            "conv2d_grads": [padded, columns, outputs, *sums, *lanes],
        }

    @staticmethod
    def pays(x: Shape, F: int, window: Window, groups: int, tuning: Tuning) -> bool:
        """Whether it is faster than products of single rows."""
        OH, OW = window.output_size((x[0], x[2]))
        return OH > 1 and F // groups >= tuning.im2col_min_filters * OW * x[3]

    def conv2d(
        self,
        x: np.ndarray,
        w: np.ndarray,
        b: np.ndarray | None,
        activation: str | None,
        y: np.ndarray,
        scratch: Sequence[np.ndarray],
    ) -> Iterator[Call]:
        """Write the convolution with w (F, C/G, KH, KW), bias and activation into y (OH, F, OW, N)."""
        padded, *tile, row = scratch
        yield from spread(b, row)
        windows, copies = self._windows(x, padded)
        yield from copies
        weight = matrices_of(w, self.G)
        for rows, columns, outputs in self._tiles(y, *tile):
            yield self._lower(windows, rows, columns)
            yield self.products.product(weight, columns, outputs)
            target = self._of_tile(y, rows)
            yield partial(setitem, target, ..., outputs.reshape(target.shape))
            yield from finish(y[rows], None if b is None else row, activation)  # still in cache

    def weight_grad(
        self, x: np.ndarray, dy: np.ndarray, dw: np.ndarray, scratch: Sequence[np.ndarray]
    ) -> Iterator[Call]:
        """Write ``dy · im2col(x)ᵀ`` into dw (F, C/G, KH, KW)."""
        padded, *tile, total, part = scratch
        windows, copies = self._windows(x, padded)
        yield from copies
        for rows, columns, outputs in self._tiles(dy, *tile):
            yield self._take(dy, rows, outputs)
            yield self._lower(windows, rows, columns)
            yield from self.products.add_product(outputs, columns, total, part if rows.start else None)
        yield as_weight(total, dw)

    def input_grad(
        self, dy: np.ndarray, w: np.ndarray, dx: np.ndarray, scratch: Sequence[np.ndarray]
    ) -> Iterator[Call]:
        """Write ``col2im(wᵀ · dy)`` into dx (H, C, W, N)."""
        wt = matrices_of(w, self.G).swapaxes(1, 2)
        columns, outputs, *lanes = scratch

        def tiles() -> Iterator[tuple[slice, np.ndarray, Call]]:
            for rows, of_columns, of_outputs in self._tiles(dy, columns, outputs):
                make = [self._take(dy, rows, of_outputs), self.products.product(wt, of_outputs, of_columns)]
                windows = of_columns.reshape(self.G, *self.window.kernel, -1, rows.stop - rows.start, self.OW, self.N)
                yield rows, windows.transpose(4, 1, 2, 0, 3, 5, 6), partial(run, make)

        yield from sum_windows(self.window, tiles(), dx, lanes)

    def grads(
        self,
        x: np.ndarray,
        dy: np.ndarray,
        w: np.ndarray,
        dw: np.ndarray,
        dx: np.ndarray,
        scratch: Sequence[np.ndarray],
    ) -> Iterator[Call]:
        """Write both gradients."""
        padded, columns, outputs, total, part, *lanes = scratch
        yield from self.weight_grad(x, dy, dw, [padded, columns, outputs, total, part])
        yield from self.input_grad(dy, w, dx, [columns, outputs, *lanes])

    def _tiles(
        self, y: np.ndarray, columns: np.ndarray, outputs: np.ndarray
    ) -> Iterator[tuple[slice, np.ndarray, np.ndarray]]:
        """Yield the rows of y of each tile, its columns (G, K, m·OW·N) and its outputs (G, F/G, m·OW·N), scratch."""
        for r in range(0, len(y), self.tile):
            rows = slice(r, min(r + self.tile, len(y)))
            P = (rows.stop - r) * self.OW * self.N
            K, F = self.G * self.K, self.F
            yield rows, columns[: K * P].reshape(self.G, -1, P), outputs[: F * P].reshape(self.G, -1, P)

    def _lower(self, windows: np.ndarray, rows: slice, columns: np.ndarray) -> Call:
        part = windows[..., rows, :, :]
        return pixel_copy(columns.reshape(part.shape), part)

    def _take(self, dy: np.ndarray, rows: slice, outputs: np.ndarray) -> Call:
        source = self._of_tile(dy, rows)
        return partial(setitem, outputs.reshape(source.shape), ..., source)

    def _of_tile(self, y: np.ndarray, rows: slice) -> np.ndarray:
        """These rows of y as (G, F/G, m, OW·N), a view."""
        return rows_of(y, self.G)[:, rows].swapaxes(1, 2)

    def _windows(self, x: np.ndarray, padded: np.ndarray) -> tuple[np.ndarray, list[Call]]:
        """The windows of images, and the calls that give these their padding."""
        if not padded.size:
            return self.windows(x), []
        (H, _, W, _), ((top, _), (left, _)) = x.shape, self.window.padding
        inside = padded[top : top + H, :, left : left + W]
        return self.windows(padded), [partial(padded.fill, 0), partial(setitem, inside, ..., x)]

    def windows(self, x: np.ndarray) -> np.ndarray:
        """The windows (G, KH, KW, C/G, OH, OW, N) of images (H, C, W, N) that have their padding, as a view."""
        (_, C, _, N), G, (KH, KW), OH, OW = x.shape, self.G, self.window.kernel, self.OH, self.OW
        (sh, sw), (dh, dw), (row, channel, column, image) = self.window.stride, self.window.dilation, x.strides
        return as_strided(
            x,
            (G, KH, KW, C // G, OH, OW, N),
            (C // G * channel, dh * row, dw * column, channel, sh * row, sw * column, image),
            writeable=False,
        )
