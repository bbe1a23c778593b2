"""Pooling: one number for each window."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from math import inf, prod
from operator import setitem
from typing import Any

from im2colnet.backend.arrays import Arrays
from im2colnet.backend.kernel import kernel
from im2colnet.types import Array, Call, Spec
from im2colnet.window import Pair, Tap, Window


def pooled(backend: Any, x: Spec, window: Window, **others: Any) -> Spec:
    """Return the output of pooling images ``x`` (H, C, W, N): (OH, C, OW, N)."""
    H, C, W, N = x.shape
    OH, OW = window.output_size((H, W))
    return Spec((OH, C, OW, N), x.dtype)


def _image(backend: Any, dy: Spec, size: Pair, **others: Any) -> Spec:
    return Spec((size[0], dy.shape[1], size[1], dy.shape[3]), dy.dtype)


def _pixels(backend: Any, x: Spec | None, **others: Any) -> Spec:
    if x is None:
        raise TypeError("max_pool2d_grad() needs out=, since without x it does not know the image's size")
    return x


def position_type(window: Window) -> str:
    """Return the narrowest integer type that numbers the taps of a window.

    Parameters
    ----------
    window : Window
        The window of a pooling.

    Returns
    -------
    {"uint8", "int16", "int32"}
        The name of the type.
    """
    taps = prod(window.kernel)
    return "uint8" if taps <= 1 << 8 else "int16" if taps <= 1 << 15 else "int32"


class Pooling(Arrays):
    """Kernels of pooling on images (H, C, W, N)."""

    def saves_positions(self, window: Window) -> bool:
        """Whether a training step saves the positions of maxima, so that the gradient reads neither x nor y."""
        return True

    @kernel(result=pooled, writes=("positions",))
    def max_pool2d(
        self, x: Array, window: Window, positions: Array = None, out: Array = None, scratch: Any = None
    ) -> Iterator[Call]:
        """Largest value of each window; padding never wins. (OH, C, OW, N).

        ``positions``, of the same shape and of the type that :func:`position_type` returns, gets the tap of each
        maximum, as :meth:`first_maximum` numbers them.
        """
        yield partial(setitem, out, ..., -inf)
        for _, _, outputs, inputs in window.pairs((x.shape[0], x.shape[2])):
            target = out[outputs]
            yield partial(self.xp.maximum, target, x[inputs], out=target)
        if positions is not None:
            yield lambda: setitem(positions, ..., self.first_maximum(x, window))

    @kernel(result=_pixels)
    def max_pool2d_grad(
        self,
        x: Array | None,
        y: Array | None,
        dy: Array,
        window: Window,
        positions: Array = None,
        out: Array = None,
        scratch: Any = None,
    ) -> Iterator[Call]:
        """Give ``dy`` to the first maximum (in row-major order) of each window, or to its last NaN, as PyTorch does.

        A window that sees padding alone gives it to no pixel. With the ``positions`` that :meth:`max_pool2d` has
        written, x and y are not read and may be None; ``out`` must then be given.
        """
        size, zero, KW = (out.shape[0], out.shape[2]), dy.dtype.type(0), window.kernel[1]

        def compute() -> None:
            tap = self.first_maximum(x, window) if positions is None else positions
            out[...] = 0
            for i, j, outputs, inputs in window.pairs(size):  # no product with a mask: infinity times 0 is NaN
                out[inputs] = out[inputs] + self.xp.where(tap[outputs] == i * KW + j, dy[outputs], zero)

        yield compute

    def first_maximum(self, x: Array, window: Window) -> Array:
        """Return the tap, i·KW + j, of the first maximum of each window, or of its last NaN, as PyTorch does.

        (OH, C, OW, N); 0 for a window that sees padding alone. First for the columns of each row, then for the rows.
        """
        H, C, W, N = x.shape
        OH, OW = window.output_size((H, W))
        largest, column = self._first_along(x, 2, window.taps(1, W, OW), window.stride[1], OW)  # (H, C, OW, N)
        _, tap = self._first_along(largest, 0, window.taps(0, H, OH), window.stride[0], OH, column, window.kernel[1])
        return tap

    def _first_along(
        self,
        x: Array,
        axis: int,
        taps: Sequence[Tap],
        stride: int,
        size: int,
        among: Array | None = None,
        factor: int = 1,
    ) -> tuple[Array, Array]:
        """Along ``axis`` the largest input of the taps and its place: the tap times ``factor`` plus ``among`` there.

        The first maximum wins; of several NaN, the last one wins.
        """
        before = (slice(None),) * axis
        shape = (*x.shape[:axis], size, *x.shape[axis + 1 :])
        best, place = self.empty(shape, x.dtype.name), self.empty(shape, "int64")
        best[...], place[...] = -inf, 0
        reached = size  # outputs from here on have met a tap that is inside the image
        for k, (lo, hi, start) in enumerate(taps):
            if hi == lo:
                continue
            outputs = *before, slice(lo, hi)
            inputs = *before, slice(start, start + (hi - lo - 1) * stride + 1, stride)
            value, at = x[inputs], k * factor if among is None else among[inputs] + k * factor
            better = (value > best[outputs]) | (value != value)
            better[*before, : max(0, reached - lo)] = True  # the first of all, even if it is -infinity
            best[outputs] = self.xp.where(better, value, best[outputs])
            place[outputs] = self.xp.where(better, at, place[outputs])
            reached = min(reached, lo)
        return best, place

    @kernel(result=pooled)
    def avg_pool2d(
        self,
        x: Array,
        window: Window,
        count_include_pad: bool = True,
        divisor: int | None = None,
        out: Array = None,
        scratch: Any = None,
    ) -> Iterator[Call]:
        """Mean of each window, or its sum divided by ``divisor``. (OH, C, OW, N)."""
        size = x.shape[0], x.shape[2]
        shares = 1 / divisor if divisor else self.pool_shares(window, size, count_include_pad, x.dtype.name)
        yield partial(setitem, out, ..., 0)
        for _, _, outputs, inputs in window.pairs(size):
            target = out[outputs]
            yield partial(self.xp.add, target, x[inputs], out=target)
        yield partial(self.xp.multiply, out, shares, out=out)

    @kernel(result=_image, scratch=lambda backend, dy, **others: [dy])
    def avg_pool2d_grad(
        self,
        dy: Array,
        size: Pair,
        window: Window,
        count_include_pad: bool = True,
        divisor: int | None = None,
        out: Array = None,
        scratch: Any = None,
    ) -> Iterator[Call]:
        """Spread ``dy`` evenly over each window of an input of ``size`` (H, W)."""
        (spread,) = scratch
        shares = 1 / divisor if divisor else self.pool_shares(window, size, count_include_pad, dy.dtype.name)
        yield partial(self.xp.multiply, dy, shares, out=spread)
        yield partial(setitem, out, ..., 0)
        for _, _, outputs, inputs in window.pairs(size):
            target = out[inputs]
            yield partial(self.xp.add, target, spread[outputs], out=target)

    def pool_shares(self, window: Window, size: Pair, count_include_pad: bool, dtype: str) -> Array:
        """1 / (number of inputs averaged) for each output, (OH, 1, OW, 1).

        The positions of the image count, and with ``count_include_pad`` the positions of the padding, but never the
        positions beyond the padding that a window reaches because of ``ceil_mode``. A window whose dilation is so large
        that no position counts gets 1.
        """
        rows, columns = (self.xp.asarray(c, dtype=dtype) for c in window.counts(size, count_include_pad))
        return 1 / self.xp.maximum(rows[:, None, None, None] * columns[:, None], 1)
