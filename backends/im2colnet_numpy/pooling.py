"""Pooling: the maximum over rows, then over columns; gradients by masks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache, partial
from operator import setitem
from typing import Any

import numpy as np

from im2colnet.backend.kernel import kernel
from im2colnet.backend.pooling import Pooling
from im2colnet.types import Call, Spec
from im2colnet.window import Pair, Tap, Window
from im2colnet_numpy.activation import as_bits

Array = np.ndarray


def _rows(backend: Any, x: Spec, window: Window, positions: Spec | None = None) -> list[Spec]:
    H, C, W, N = x.shape
    OH, _ = window.output_size((H, W))
    return [Spec((OH, C, W, N), x.dtype)]


def _masks(backend: Any, x: Spec, y: Spec, dy: Spec, window: Window, positions: Spec | None = None) -> list[Spec]:
    return [] if positions else [Spec(y.shape, "bool"), Spec(y.shape, "bool"), y]


class NumpyPooling(Pooling):
    """Pooling on the CPU."""

    def saves_positions(self, window: Window) -> bool:
        return False

    @kernel(scratch=_rows)
    def max_pool2d(
        self, x: Array, window: Window, positions: Any = None, out: Any = None, scratch: Any = None
    ) -> Iterator[Call]:
        """The maximum over rows, at full width, then over columns."""
        (h,) = scratch
        if positions is not None:
            yield lambda: setitem(positions, ..., self.first_maximum(x, window))
        yield from _max_along(x, 0, window.taps(0, len(x), len(out)), window.stride[0], h)
        yield from _max_along(h, 2, window.taps(1, x.shape[2], out.shape[2]), window.stride[1], out)

    @kernel(scratch=_masks)
    def max_pool2d_grad(
        self,
        x: Any,
        y: Any,
        dy: Array,
        window: Window,
        positions: Any = None,
        out: Any = None,
        scratch: Any = None,
    ) -> Iterator[Call]:
        if positions is not None:
            yield from super().max_pool2d_grad.prepare(x, y, dy, window, positions, out=out)
            return
        hit, taken, part = scratch
        size = x.shape[0], x.shape[2]
        if not window.tiles(size):
            yield partial(out.fill, 0)
        yield partial(taken.fill, False)
        dy_bits, part_bits, out_bits = map(as_bits, (dy, part, out))
        for _, _, outputs, inputs in window.pairs(size):
            is_max, seen, target = hit[outputs], taken[outputs], out[inputs]
            yield partial(np.equal, x[inputs], y[outputs], is_max)
            yield partial(np.greater, is_max, seen, is_max)  # a maximum, and the first
            yield partial(np.logical_or, seen, is_max, seen)
            if window.overlaps:
                yield partial(np.multiply, dy_bits[outputs], is_max, part_bits[outputs])
                yield partial(np.add, target, part[outputs], target)
            else:
                yield partial(np.multiply, dy_bits[outputs], is_max, out_bits[inputs])
        yield partial(_add_grad_of_nan, x, y, dy, window, out, hit, taken)

    def pool_shares(self, window: Window, size: Pair, count_include_pad: bool, dtype: str) -> Array:
        return _pool_shares(self, window, size, bool(count_include_pad), dtype)


def _add_grad_of_nan(x: Array, y: Array, dy: Array, window: Window, out: Array, hit: Array, taken: Array) -> None:
    """Add ``dy`` of the windows whose maximum is NaN, which equals no pixel, to the last NaN of each."""
    if not y.size or not np.isnan(y.max()):
        return
    for _, _, outputs, inputs in reversed(window.pairs((x.shape[0], x.shape[2]))):
        is_nan, seen, target = hit[outputs], taken[outputs], out[inputs]
        np.isnan(x[inputs], out=is_nan)
        np.greater(is_nan, seen, out=is_nan)
        np.logical_or(seen, is_nan, out=seen)
        np.add(target, dy[outputs], out=target, where=is_nan)


def _max_along(x: Array, axis: int, taps: Sequence[Tap], stride: int, out: Array) -> Iterator[Call]:
    """Write the maximum over the taps along ``axis`` of x (H, C, W, N) into out."""
    before = (slice(None),) * axis

    def outputs(tap: Tap) -> Array:
        return out[*before, tap.lo : tap.hi]

    def inputs(tap: Tap) -> Array:
        return x[*before, tap.start : tap.start + (tap.hi - tap.lo - 1) * stride + 1 : stride]

    taps = [tap for tap in taps if tap.hi > tap.lo]
    full = [tap for tap in taps if tap.lo == 0 and tap.hi == out.shape[axis]][:2]
    if len(full) == 2:
        yield partial(np.maximum, inputs(full[0]), inputs(full[1]), out=out)
    elif full:
        yield partial(setitem, out, ..., inputs(full[0]))
    else:
        yield partial(out.fill, -np.inf)
    for tap in taps:
        if tap not in full:
            yield partial(np.maximum, outputs(tap), inputs(tap), out=outputs(tap))


@lru_cache(maxsize=256)
def _pool_shares(backend: Pooling, window: Window, size: Pair, count_include_pad: bool, dtype: str) -> Array:
    shares: Array = Pooling.pool_shares(backend, window, size, count_include_pad, dtype)
    shares.flags.writeable = False  # everybody gets the same array
    return shares
