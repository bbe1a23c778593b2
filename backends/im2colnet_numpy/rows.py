"""Convolution as one product for each output row, of the weight with lowered rows (:mod:`im2colnet_numpy.lowering`).

    y[r] = w · L[r·stride : r·stride + KH]          (F, OW·N) = (F, K) · (K, OW·N),   K = KH·KW·C

and all of that for each group. The weight's gradient is ``Σ_r dy[r] · L[r·stride : r·stride + KH]ᵀ``; the input's is at
stride 1 the convolution of ``dy`` with the weight turned by half a turn, else ``col2im(wᵀ · dy)``.
"""
from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from im2colnet.backend import Shape, Spec
from im2colnet.window import Window
from im2colnet_numpy.channels import bias_spec, finish, spread
from im2colnet_numpy.lowering import Lowering
from im2colnet_numpy.products import multiply, multiply_transposed

WEIGHT_ORDER = (0, 2, 3, 1)    # (F, KH, KW, C/G): the order in which rows are lowered
#: with fewer channels of a group, and more filters for each, the product of the turned weight has too few rows to keep
#: BLAS busy, and ``wᵀ · dy`` is faster
LEAST_TURNED, MOST_FILTERS = 12, 2


class Rows:
    """Any convolution of images ``x`` (H, C, W, N) with F filters: sizes, but no array.

    Attributes
    ----------
    work : dict
        Of each kernel, the scratch arrays that it wants.
    """

    why = "the general one"

    def __init__(self, x: Shape, F: int, window: Window, groups: int, dtype: str) -> None:
        self.F, self.G, self.window = F, groups, window
        self.lowering = lowering = Lowering(x, window, groups, dtype)
        y = (lowering.OH, F, lowering.OW, x[3])
        # BLAS is faster, by up to two, where the first of the two sizes of a product is the larger
        self.columns_first = F // groups < lowering.K
        dw = (groups, lowering.K, F // groups) if self.columns_first else (groups, F // groups, lowering.K)
        # as many rows' products before they are added up as stay in the first-level cache
        self.step = max(1, min(lowering.tile, 32768 // (dw[0] * dw[1] * dw[2] * 4)))
        self.work = {
            "conv2d": [lowering.spec, bias_spec(y, dtype)],
            "conv2d_weight_grad": [
                lowering.spec, Spec((groups, self.step, *dw[1:]), dtype), Spec(dw, dtype), Spec(dw, dtype)
            ],
        }  # fmt: skip
        few = x[1] // groups < LEAST_TURNED and MOST_FILTERS * x[1] < F
        turned = None if few or window.kernel == (1, 1) else window.turned
        self.turned = Lowering(y, turned, groups, dtype) if turned else None
        if self.turned:
            turned_weight = Spec((x[1], *window.kernel, F // groups), dtype)
            self.work["conv2d_input_grad"] = [self.turned.spec, turned_weight]
        else:
            columns = (groups, lowering.tile, lowering.K, y[2] * y[3]) if not lowering.direct else (0,)
            self.work["conv2d_input_grad"] = [Spec(columns, dtype)]

    def conv2d(
        self, x: np.ndarray, w: np.ndarray, b: np.ndarray | None, relu: bool, y: np.ndarray, work: Sequence[np.ndarray]
    ) -> None:
        """Write the convolution with w (F, C/G, KH, KW), bias and ReLU into y (OH, F, OW, N)."""
        L, row = work
        convolve_rows(self.lowering, x, self._matrices(w), L, y, spread(b, row), relu)

    def weight_grad(self, x: np.ndarray, dy: np.ndarray, dw: np.ndarray, work: Sequence[np.ndarray]) -> None:
        """Write ``Σ_r dy[r] · L[r·stride : r·stride + KH]ᵀ`` into dw (F, C/G, KH, KW)."""
        (OH, F, OW, N), G = dy.shape, self.G
        L, products, part, total = work
        rows = dy.reshape(OH, G, F // G, OW * N).swapaxes(0, 1)                         # (G, OH, F/G, OW·N)
        total[...] = 0
        for r, m, V in self.lowering.tiles(x, L):
            for i in range(0, m, self.step):
                n = min(self.step, m - i)
                a, b = rows[:, r + i : r + i + n], V[:, i : i + n]                      # (G, n, K, OW·N)
                if self.columns_first:
                    a, b = b, a
                multiply_transposed(a, b, out=products[:, :n])
                if n > 1:
                    np.add.reduce(products[:, :n], axis=1, out=part)
                np.add(total, part if n > 1 else products[:, 0], out=total)
        if self.columns_first:
            total = total.swapaxes(1, 2)                                                # (G, F/G, K)
        by_group = dw.transpose(WEIGHT_ORDER).reshape(G, F // G, *self.window.kernel, -1)
        by_group[...] = total.reshape(by_group.shape)

    def input_grad(self, dy: np.ndarray, w: np.ndarray, dx: np.ndarray, work: Sequence[np.ndarray]) -> None:
        """Write the gradient with respect to the input into dx (H, C, W, N), a gather or sums in a fixed order."""
        if self.turned:
            self._input_grad_turned(dy, w, dx, *work)
        elif self.lowering.direct:
            (H, C, W, N), G, wt = dx.shape, self.G, self._matrices(w).swapaxes(2, 3)    # (G, 1, C/G, F/G)
            rows = dy.reshape(H, G, -1, W * N).swapaxes(0, 1)
            multiply(wt, rows, out=dx.reshape(H, G, C // G, W * N).swapaxes(0, 1))
        else:
            self._input_grad_columns(dy, w, dx, *work)

    def _input_grad_turned(
        self, dy: np.ndarray, w: np.ndarray, dx: np.ndarray, L: np.ndarray, turned: np.ndarray
    ) -> None:
        G, F, C, kernel = self.G, self.F // self.G, dx.shape[1] // self.G, self.window.kernel
        per_group = w.reshape(G, F, C, *kernel)[:, :, :, ::-1, ::-1]
        turned.reshape(G, C, *kernel, F)[...] = per_group.transpose(0, 2, 3, 4, 1)      # (C, KH, KW, F/G)
        assert self.turned is not None
        convolve_rows(self.turned, dy, turned.reshape(G, 1, C, -1), L, dx)

    def _input_grad_columns(self, dy: np.ndarray, w: np.ndarray, dx: np.ndarray, columns: np.ndarray) -> None:
        (OH, F, OW, N), (H, C, W, _), G = dy.shape, dx.shape, self.G
        wt = self._matrices(w).swapaxes(2, 3)                                           # (G, 1, K, F/G)
        rows = dy.reshape(OH, G, F // G, OW * N).swapaxes(0, 1)                         # (G, OH, F/G, OW·N)
        dx[...] = 0
        images = dx.reshape(H, G, C // G, W, N)
        for r in range(0, OH, self.lowering.tile):
            m = min(self.lowering.tile, OH - r)
            multiply(wt, rows[:, r : r + m], out=columns[:, :m])
            windows = columns[:, :m].reshape(G, m, *self.window.kernel, C // G, OW, N).transpose(1, 2, 3, 0, 4, 5, 6)
            for i, j, (orows, _, ocols), (irows, _, icols) in self.window.pairs((H, W)):
                lo, hi = max(orows.start, r), min(orows.stop, r + m)
                if hi > lo:
                    first = irows.start + (lo - orows.start) * irows.step
                    target = images[first : first + (hi - lo - 1) * irows.step + 1 : irows.step, :, :, icols]
                    np.add(target, windows[lo - r : hi - r, i, j, :, :, ocols], out=target)

    def _matrices(self, w: np.ndarray) -> np.ndarray:
        """The weight as (G, 1, F/G, K), its columns in the order (KH, KW, C/G); no copy if it is stored in that."""
        return w.transpose(WEIGHT_ORDER).reshape(self.G, 1, self.F // self.G, -1)


def convolve_rows(
    lowering: Lowering, x: np.ndarray, w: np.ndarray, L: np.ndarray, y: np.ndarray, b: np.ndarray | None = None,
    relu: bool = False,
) -> None:
    """Write the products of w (G, 1, F/G, K) with the lowered rows of x, plus bias and with ReLU, into y."""
    rows = y.reshape(len(y), lowering.G, y.shape[1] // lowering.G, -1).swapaxes(0, 1)   # (G, OH, F/G, OW·N)
    for r, m, V in lowering.tiles(x, L):
        multiply(w, V, out=rows[:, r : r + m])
        finish(y[r : r + m], b, relu)                                                   # still in cache
