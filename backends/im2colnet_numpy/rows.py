"""Convolution as one product for each output row, of the weight with lowered rows (:mod:`im2colnet_numpy.lowering`).

    y[r] = w · L[r·stride : r·stride + KH]          (F, OW·N) = (F, K) · (K, OW·N),   K = KH·KW·C

and all of that for each group. The weight's gradient is ``Σ_r dy[r] · L[r·stride : r·stride + KH]ᵀ``; the input's is at
stride 1 the convolution of ``dy`` with the flipped weight, else ``col2im(wᵀ · dy)``. Where it is a convolution, one
lowering of ``dy`` serves both: with its rows L' the weight's gradient, flipped, is ``Σ_r x[r] · L'[r : r + KH]ᵀ``,
since ``Σ x·dx`` and ``Σ y·dy`` are the same function of the weight.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from operator import setitem

import numpy as np

from im2colnet.types import Call, Shape, Spec, run
from im2colnet.window import Window
from im2colnet_numpy.epilogue import bias_spec, finish, spread
from im2colnet_numpy.lanes import Lanes, lanes_of
from im2colnet_numpy.locality import finite_weight, unless
from im2colnet_numpy.lowering import Lowering
from im2colnet_numpy.products import Products
from im2colnet_numpy.tuning import Tuning

WEIGHT_ORDER = (0, 2, 3, 1)  # (F, KH, KW, C/G): the order in which rows are lowered


class Rows:
    """Any convolution of images ``x`` (H, C, W, N) with F filters: sizes, but no array.

    Attributes
    ----------
    scratch : dict
        The scratch arrays of each kernel, by its name.
    """

    why = "the general one"

    def __init__(self, x: Shape, F: int, window: Window, groups: int, dtype: str, tuning: Tuning) -> None:
        self.F, self.G, self.window, self.products = F, groups, window, tuning.products
        self.lowering = lowering = Lowering(x, window, groups, dtype, tuning.tile_bytes)
        y = (lowering.OH, F, lowering.OW, x[3])
        self.sum = RowSum(groups, F // groups, lowering.K, lowering.tile, dtype, tuning)
        self.scratch = {
            "conv2d": [lowering.spec, bias_spec(y, dtype)],
            "conv2d_weight_grad": [lowering.spec, *self.sum.scratch],
        }
        # few rows of the flipped kernel's product do not keep BLAS busy: then wᵀ · dy is faster
        few = x[1] // groups < tuning.flipped_min_channels and tuning.flipped_max_ratio * x[1] < F
        flipped = None if few or window.kernel == (1, 1) else window.flipped
        self.flipped = Lowering(y, flipped, groups, dtype, tuning.tile_bytes) if flipped else None
        if self.flipped:
            flipped_scratch = [self.flipped.spec, Spec((x[1], *window.kernel, F // groups), dtype)]
            self.flipped_sum = RowSum(groups, x[1] // groups, self.flipped.K, self.flipped.tile, dtype, tuning)
            self.scratch |= {
                "conv2d_input_grad": flipped_scratch,
                "conv2d_grads": [*flipped_scratch, *self.flipped_sum.scratch],
            }
        row = groups * lowering.K * y[2] * y[3]
        #: output rows whose ``wᵀ · dy`` is made at a time
        self.step = max(1, min(lowering.OH, tuning.tile_bytes // (row * np.dtype(dtype).itemsize)))
        self.columns = Spec((groups, self.step, lowering.K, y[2] * y[3]) if not lowering.direct else (0,), dtype)
        self.column_scratch = [self.columns, *lanes_of(x[1], y, window, self.step, dtype)]
        if not self.flipped:
            self.scratch["conv2d_input_grad"] = self.column_scratch

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
        L, row = scratch
        yield from spread(b, row)
        by_group = matrices_of(w, self.G)[:, None]
        yield from convolve_rows(
            self.products, self.lowering, x, by_group, L, y, None if b is None else row, activation
        )

    def weight_grad(
        self, x: np.ndarray, dy: np.ndarray, dw: np.ndarray, scratch: Sequence[np.ndarray]
    ) -> Iterator[Call]:
        """Write ``Σ_r dy[r] · L[r·stride : r·stride + KH]ᵀ`` into dw (F, C/G, KH, KW)."""
        L, *sums = scratch
        rows, total = rows_of(dy, self.G), self.sum.total(sums)
        yield partial(total.fill, 0)
        for r, m, V, copies in self.lowering.tiles(x, L):
            yield from copies
            yield from self.sum.add(rows[:, r : r + m], V, sums)
        yield as_weight(total, dw)

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
        L, flipped, *sums = scratch
        rows, result, total = rows_of(x, self.G), rows_of(dx, self.G), self.flipped_sum.total(sums)
        G, C, (KH, KW) = self.G, w.shape[1], self.window.kernel
        yield self._flip(w, flipped)
        yield partial(total.fill, 0)
        for r, m, V, copies in self.flipped.tiles(dy, L):
            yield from copies
            yield self.products.product(flipped.reshape(G, 1, C, -1), V, result[:, r : r + m])
            yield from self.flipped_sum.add(rows[:, r : r + m], V, sums)
        by_tap = total.reshape(G, C, KH, KW, self.F // G)[:, :, ::-1, ::-1]
        yield partial(setitem, dw.reshape(G, self.F // G, C, KH, KW), ..., by_tap.transpose(0, 4, 1, 2, 3))
        yield from self._of_finite(w, dy, dx)
        # x has been multiplied by the padding of dy, and the padding of x not by dy: it matters for NaN and infinity
        yield unless(partial(finite_weight, dw), partial(self._textbook_weight_grad, x, dy, dw))

    def input_grad(
        self, dy: np.ndarray, w: np.ndarray, dx: np.ndarray, scratch: Sequence[np.ndarray]
    ) -> Iterator[Call]:
        """Write the gradient with respect to the input into dx (H, C, W, N), a gather or sums in a fixed order."""
        if self.flipped:
            L, flipped = scratch
            yield self._flip(w, flipped)
            yield from convolve_rows(self.products, self.flipped, dy, flipped.reshape(self.G, 1, w.shape[1], -1), L, dx)
            yield from self._of_finite(w, dy, dx)
        elif self.lowering.direct:
            yield self.products.product(
                matrices_of(w, self.G)[:, None].swapaxes(2, 3), rows_of(dy, self.G), rows_of(dx, self.G)
            )
        else:
            yield from self._input_grad_columns(dy, w, dx, *scratch)

    def _of_finite(self, w: np.ndarray, dy: np.ndarray, dx: np.ndarray) -> Iterator[Call]:
        """Write dx again if the weight is not finite: the convolution has multiplied it by the padding of dy."""

        def textbook() -> None:
            run(self._input_grad_columns(dy, w, dx, *(np.empty(*spec) for spec in self.column_scratch)))

        yield unless(partial(finite_weight, w), textbook)

    def _textbook_weight_grad(self, x: np.ndarray, dy: np.ndarray, dw: np.ndarray) -> None:
        run(self.weight_grad(x, dy, dw, [np.empty(*spec) for spec in self.scratch["conv2d_weight_grad"]]))

    def _flip(self, w: np.ndarray, flipped: np.ndarray) -> Call:
        """Write the weight of the input's gradient, (C, KH, KW, F/G), turned by half a turn."""
        G, F, C, kernel = self.G, self.F // self.G, w.shape[1], self.window.kernel
        per_group = w.reshape(G, F, C, *kernel)[:, :, :, ::-1, ::-1]
        return partial(setitem, flipped.reshape(G, C, *kernel, F), ..., per_group.transpose(0, 2, 3, 4, 1))

    def _input_grad_columns(
        self, dy: np.ndarray, w: np.ndarray, dx: np.ndarray, columns: np.ndarray, *lanes: np.ndarray
    ) -> Iterator[Call]:
        (OH, _, OW, N), G = dy.shape, self.G
        wt, rows = matrices_of(w, G)[:, None].swapaxes(2, 3), rows_of(dy, G)  # (G, 1, K, F/G)

        def tiles() -> Iterator[tuple[slice, np.ndarray, Call]]:
            for r in range(0, OH, self.step):
                m = min(self.step, OH - r)
                windows = columns[:, :m].reshape(G, m, *self.window.kernel, -1, OW, N).transpose(1, 2, 3, 0, 4, 5, 6)
                yield slice(r, r + m), windows, self.products.product(wt, rows[:, r : r + m], columns[:, :m])

        yield from sum_windows(self.window, tiles(), dx, lanes)


def rows_of(images: np.ndarray, G: int) -> np.ndarray:
    """Images (H, C, W, N) as the matrices (G, H, C/G, W·N) of their rows, a view."""
    return images.reshape(len(images), G, images.shape[1] // G, -1).swapaxes(0, 1)


def matrices_of(w: np.ndarray, G: int) -> np.ndarray:
    """The weight as (G, F/G, K), its columns in the order (KH, KW, C/G); no copy if it is stored in that."""
    return w.transpose(WEIGHT_ORDER).reshape(G, len(w) // G, -1)


def as_weight(matrices: np.ndarray, dw: np.ndarray) -> Call:
    """Write matrices (G, F/G, K) into dw (F, C/G, KH, KW)."""
    G, F, _ = matrices.shape
    by_group = dw.transpose(WEIGHT_ORDER).reshape(G, F, *dw.shape[2:], -1)
    return partial(setitem, by_group, ..., matrices.reshape(by_group.shape))


def sum_windows(
    window: Window, tiles: Iterable[tuple[slice, np.ndarray, Call]], x: np.ndarray, lanes: Sequence[np.ndarray]
) -> Iterator[Call]:
    """Write the images x that windows are of, where these overlap their sum, a tile of output rows at a time.

    A tile is its rows, their windows (m, KH, KW, G, C/G, OW, N), and the call that makes these. Scratch ``lanes``, of
    :func:`lanes_of`, is where tiles are added up, if that is faster than in x itself. Windows that do not overlap are
    copied, in half the time.
    """
    (H, _, W, _), columns = x.shape, Lanes(window)
    if not lanes and not window.tiles((H, W)):
        yield partial(x.fill, 0)
    above = 0  # rows before this one are written
    for rows, windows, make in tiles:
        yield make
        its, inputs = window.band(rows, H) or (None, slice(0))
        if its is None:
            continue
        target = pixels = x[inputs]
        if lanes:
            target, kept = lanes[0][: len(pixels)], max(0, above - inputs.start)
            yield from columns.set_apart(pixels[:kept], target[:kept])
            yield partial(target[kept:].fill, 0)
        for i, j, (outputs, _, taken), met in its.pairs((len(pixels), W)):
            part = windows[outputs, i, j, :, :, taken]
            by_group = columns.at(target, met).reshape(part.shape)
            yield (
                partial(np.add, by_group, part, by_group) if window.overlaps else partial(setitem, by_group, ..., part)
            )
        if lanes:
            yield from columns.bring_back(target, pixels)
            if above < inputs.start:
                yield partial(x[above : inputs.start].fill, 0)
            above = inputs.stop
    if lanes and above < H:
        yield partial(x[above:].fill, 0)


class RowSum:
    """``Σ_r rows[r] · V[r]ᵀ`` (G, F, K) of rows (G, m, F, N) and their windows V (G, m, K, N): sizes, but no array."""

    def __init__(self, G: int, F: int, K: int, tile: int, dtype: str, tuning: Tuning) -> None:
        self.products = tuning.products
        # BLAS is faster, by up to two, where the first of the two sizes of a product is the larger
        self.windows_first = F < K
        shape = (K, F) if self.windows_first else (F, K)
        # as many rows' products before they are added up as stay in the first-level cache
        self.step = max(1, min(tile, tuning.sum_bytes // (G * F * K * 4)))
        part = Spec((G, *shape) if self.step > 1 else (0,), dtype)
        self.scratch = [Spec((G, self.step, *shape), dtype), part, Spec((G, *shape), dtype)]

    def total(self, scratch: Sequence[np.ndarray]) -> np.ndarray:
        """Return where the sum is, (G, F, K)."""
        *_, total = scratch
        return total.swapaxes(1, 2) if self.windows_first else total

    def add(self, rows: np.ndarray, V: np.ndarray, scratch: Sequence[np.ndarray]) -> Iterator[Call]:
        """Add the products of some rows with their windows."""
        products, part, total = scratch
        a, b = (V, rows) if self.windows_first else (rows, V)
        for i in range(0, V.shape[1], self.step):
            several = products[:, : min(self.step, V.shape[1] - i)]
            yield self.products.transposed_product(a[:, i : i + self.step], b[:, i : i + self.step], several)
            if several.shape[1] > 1:
                yield partial(np.add.reduce, several, 1, None, part)
            yield partial(np.add, total, part if several.shape[1] > 1 else several[:, 0], total)


def convolve_rows(
    products: Products,
    lowering: Lowering,
    x: np.ndarray,
    w: np.ndarray,
    L: np.ndarray,
    y: np.ndarray,
    row: np.ndarray | None = None,
    activation: str | None = None,
) -> Iterator[Call]:
    """Write the products of w (G, 1, F/G, K) with the lowered rows of x, plus a row and with the activation, into y."""
    rows = rows_of(y, lowering.G)
    for r, m, V, copies in lowering.tiles(x, L):
        yield from copies
        yield products.product(w, V, rows[:, r : r + m])
        yield from finish(y[r : r + m], row, activation)  # still in cache
