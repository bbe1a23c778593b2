"""Depthwise convolution, one channel to a group, as products with band matrices.

The product of a kernel (1, KH·KW) with its windows reads every lowered row KH times and does little else. Instead, m
output rows are made at once of all the lowered rows that they need, by a matrix with the kernel along its diagonal:

    y[r : r + m, c] = T[c] · L[c, r·pitch : ...],      T[c, i, i·pitch + k, j] = w[c, 0, k, j]

T (C, m, rows·KW) is mostly zeros, but each lowered row is read once. The weight's gradient is the sum along the same
diagonal of ``dy · Lᵀ``. As many channels are worked on at a time as have their lowered rows in cache.
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
from im2colnet_numpy.locality import finite, finite_weight, unless
from im2colnet_numpy.lowering import Lowering
from im2colnet_numpy.tuning import Tuning


class Depthwise:
    """The depthwise convolution of images (H, C, W, N): sizes, but no array.

    Attributes
    ----------
    scratch : dict
        The scratch arrays of each kernel, by its name.
    """

    why = "a channel to a group"

    def __init__(self, x: Shape, window: Window, dtype: str, tuning: Tuning, flips: bool = True) -> None:
        (H, C, W, N), (OH, OW) = x, window.output_size((x[0], x[2]))
        self.window = window
        most, m = tuning.depthwise_bytes, min(OH, tuning.depthwise_rows)
        one = Lowering((H, 1, W, N), window, 1, dtype, most, m).spec
        self.C = max(1, min(C, most // (prod(one.shape) * np.dtype(dtype).itemsize)))  # at a time
        # all blocks have the same size: the last one overlaps the one before, and the overlap is written twice
        self.blocks = [slice(c, c + self.C) for c in (min(c, C - self.C) for c in range(0, C, self.C))]
        self.lowering = Lowering((H, self.C, W, N), window, self.C, dtype, most, m)
        m, (KH, KW) = self.lowering.tile, window.kernel
        self.column_scratch = columns = [
            self.lowering.spec,
            Spec((self.C, m, (m - 1) * self.lowering.pitch + KH, KW), dtype),
        ]
        self.scratch = {
            "conv2d": [*columns, bias_spec((OH, self.C, OW, N), dtype)],
            "conv2d_weight_grad": [*columns, Spec((self.C, KH, KW), dtype)],
            "conv2d_input_grad": columns,
        }
        #: the convolution of dy that is the input's gradient
        self.flipped = (
            Depthwise((OH, C, OW, N), window.flipped, dtype, tuning, False) if flips and window.flipped else None
        )
        if self.flipped:
            L, band, part = self.flipped.scratch["conv2d_weight_grad"]
            self.scratch |= {"conv2d_input_grad": self.flipped.scratch["conv2d"], "conv2d_grads": [L, band, band, part]}

    def diagonal(self, band: np.ndarray) -> np.ndarray:
        """Return the view (C, m, KH, KW) of where a band matrix (C, m, rows, KW) holds the kernel."""
        C, m, row, item = band.strides
        return as_strided(band, (*band.shape[:2], *self.window.kernel), (C, m + self.lowering.pitch * row, row, item))

    def tiles(
        self, y: np.ndarray, L: np.ndarray, x: np.ndarray
    ) -> Iterator[tuple[int, np.ndarray, np.ndarray, list[Call]]]:
        """Yield ``(r, rows, lowered, copies)``: output rows from r on (C, m, OW·N), and theirs of L (C, rows·KW, OW·N).

        The calls ``copies`` lower those of x.
        """
        for r, _, _, copies in self.lowering.tiles(x, L):
            yield r, *self.tile(r, y, L), copies

    def tile(self, r: int, y: np.ndarray, L: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the output rows from r on (C, m, OW·N), and theirs of L (C, rows·KW, OW·N)."""
        (KH, KW), (OH, _, OW, N) = self.window.kernel, y.shape
        m = min(self.lowering.tile, OH - r)
        rows = y.reshape(OH, self.C, -1)[r : r + m].swapaxes(0, 1)
        return rows, L.reshape(self.C, -1, OW * N)[:, : ((m - 1) * self.lowering.pitch + KH) * KW]

    def matrix(self, w: np.ndarray, band: np.ndarray) -> Iterator[Call]:
        """Make T (C, m, rows·KW) of the weight (C, 1, KH, KW)."""
        yield partial(band.fill, 0)
        yield partial(setitem, self.diagonal(band), ..., w)

    def conv2d(
        self,
        x: np.ndarray,
        w: np.ndarray,
        b: np.ndarray | None,
        activation: str | None,
        y: np.ndarray,
        scratch: Sequence[np.ndarray],
    ) -> Iterator[Call]:
        """Write the convolution with w (C, 1, KH, KW), bias and activation into y (OH, C, OW, N)."""
        L, band, row = scratch
        T = band.reshape(*band.shape[:2], -1)
        for block in self.blocks:
            yield from self.matrix(w[block], band)
            yield from spread(None if b is None else b[block], row)
            target = y[:, block]
            for r, rows, lowered, copies in self.tiles(target, L, x[:, block]):
                yield from copies
                yield from self._multiply(T, lowered, rows)
                yield from finish(
                    target[r : r + rows.shape[1]], None if b is None else row, activation
                )  # still in cache

    def input_grad(
        self, dy: np.ndarray, w: np.ndarray, dx: np.ndarray, scratch: Sequence[np.ndarray]
    ) -> Iterator[Call]:
        """Write the convolution of dy with the flipped weight into dx (H, C, W, N).

        Where there is none, add ``Tᵀ · dy`` to where the lowered rows came from.
        """
        if self.flipped:
            yield from self.flipped.conv2d(dy, w[:, :, ::-1, ::-1], None, None, dx, scratch)
            yield from self._of_finite(w, dy, dx)
        else:
            yield from self._input_grad_columns(dy, w, dx, scratch)

    def _input_grad_columns(
        self, dy: np.ndarray, w: np.ndarray, dx: np.ndarray, scratch: Sequence[np.ndarray]
    ) -> Iterator[Call]:
        L, band = scratch
        T = band.reshape(*band.shape[:2], -1).swapaxes(1, 2)
        for block in self.blocks:
            yield from self.matrix(w[block], band)
            target = dx[:, block]
            yield partial(target.fill, 0)
            for r in range(0, len(dy), self.lowering.tile):
                rows, lowered = self.tile(r, dy[:, block], L)
                matrix = T[:, : lowered.shape[1], : rows.shape[1]]
                yield partial(np.matmul, matrix, rows, lowered)
                # each lowered row is a sum over all rows
                yield unless(partial(finite, lowered[:, 0]), partial(self._by_row_back, matrix, rows, lowered))
                yield from self.lowering.add_back(r, rows.shape[1], L, target)

    def weight_grad(
        self, x: np.ndarray, dy: np.ndarray, dw: np.ndarray, scratch: Sequence[np.ndarray]
    ) -> Iterator[Call]:
        """Write the sum along the diagonal of ``dy · Lᵀ`` into dw (C, 1, KH, KW)."""
        L, band, part = scratch
        matrix = band.reshape(*band.shape[:2], -1)
        for block in self.blocks:
            total = dw[block, 0]
            yield partial(total.fill, 0)
            for _, rows, lowered, copies in self.tiles(dy[:, block], L, x[:, block]):
                yield from copies
                m = rows.shape[1]
                yield partial(np.matmul, rows, lowered.swapaxes(1, 2), matrix[:, :m, : lowered.shape[1]])
                yield partial(np.add.reduce, self.diagonal(band[:, :m]), 1, None, part)
                yield partial(np.add, total, part, total)

    def _multiply(self, T: np.ndarray, lowered: np.ndarray, rows: np.ndarray) -> Iterator[Call]:
        """Write ``T · L`` into output rows (C, m, OW·N), each from its own lowered rows if not all are finite.

        Each row is a sum over all lowered rows, with zeros before those of other windows, so the first tells.
        """
        matrix = T[:, : rows.shape[1], : lowered.shape[1]]
        yield partial(np.matmul, matrix, lowered, rows)
        if rows.shape[1] > 1:
            yield unless(partial(finite, rows[:, 0]), partial(self._by_row, matrix, lowered, rows))

    def _by_row(self, matrix: np.ndarray, lowered: np.ndarray, rows: np.ndarray) -> None:
        for i, window in self._windows(rows.shape[1]):
            np.matmul(matrix[:, i, window], lowered[:, window], rows[:, i])

    def _by_row_back(self, matrix: np.ndarray, rows: np.ndarray, lowered: np.ndarray) -> None:
        lowered.fill(0)
        for i, window in self._windows(rows.shape[1]):
            lowered[:, window] += matrix[:, window, i] * rows[:, i]

    def _windows(self, m: int) -> Iterator[tuple[slice, slice]]:
        """Yield each of m output rows, and its window in their lowered rows (rows·KW)."""
        KH, KW = self.window.kernel
        for i in range(m):
            yield slice(i, i + 1), slice(i * self.lowering.pitch * KW, (i * self.lowering.pitch + KH) * KW)

    def _of_finite(self, w: np.ndarray, dy: np.ndarray, dx: np.ndarray) -> Iterator[Call]:
        """Write dx again if the weight is not finite: the convolution has multiplied it by the padding of dy."""

        def textbook() -> None:
            run(self._input_grad_columns(dy, w, dx, [np.empty(*spec) for spec in self.column_scratch]))

        yield unless(partial(finite_weight, w), textbook)

    def _textbook_weight_grad(self, x: np.ndarray, dy: np.ndarray, dw: np.ndarray) -> None:
        run(self.weight_grad(x, dy, dw, [np.empty(*spec) for spec in self.scratch["conv2d_weight_grad"]]))

    def grads(
        self,
        x: np.ndarray,
        dy: np.ndarray,
        w: np.ndarray,
        dw: np.ndarray,
        dx: np.ndarray,
        scratch: Sequence[np.ndarray],
    ) -> Iterator[Call]:
        """Write both gradients of the rows of dy, lowered once: dx is their convolution, dw its adjoint at x."""
        assert self.flipped is not None
        L, band, products, part = scratch
        flipped = self.flipped
        T, matrix = (bands.reshape(*bands.shape[:2], -1) for bands in (band, products))
        for block in flipped.blocks:
            yield from flipped.matrix(w[block, :, ::-1, ::-1], band)
            total = dw[block, 0, ::-1, ::-1]
            inputs = x[:, block].reshape(len(x), flipped.C, -1).swapaxes(0, 1)  # (C, H, W·N)
            yield partial(total.fill, 0)
            for r, rows, lowered, copies in flipped.tiles(dx[:, block], L, dy[:, block]):
                yield from copies
                m, K = rows.shape[1], lowered.shape[1]
                yield from flipped._multiply(T, lowered, rows)
                yield partial(np.matmul, inputs[:, r : r + m], lowered.swapaxes(1, 2), matrix[:, :m, :K])
                yield partial(np.add.reduce, flipped.diagonal(products[:, :m]), 1, None, part)
                yield partial(np.add, total, part, total)
        yield from self._of_finite(w, dy, dx)
        # x has been multiplied by the padding of dy, and the padding of x not by dy: it matters for NaN and infinity
        yield unless(partial(finite_weight, dw), partial(self._textbook_weight_grad, x, dy, dw))
