"""Pooling: the maximum over rows, then over columns, and where it was; gradients by masks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache, partial
from math import prod
from operator import setitem
from typing import Any

import numpy as np

from im2colnet.backend.kernel import kernel
from im2colnet.backend.pooling import Pooling, position_type
from im2colnet.types import Call, Spec
from im2colnet.window import Pair, Tap, Window
from im2colnet_numpy.activation import as_bits

Array = np.ndarray


def _tile(backend: Any, y: Spec) -> tuple[int, ...]:
    """Return the shape of some rows of pooling's output that stay in cache with the rows of its input."""
    OH, *row = y.shape
    return max(1, min(OH, backend.tuning.tile_bytes // 4 // (prod(row) * np.dtype(y.dtype).itemsize))), *row


def _maximum(backend: Any, x: Spec, window: Window, positions: Spec | None = None) -> list[Spec]:
    _, C, W, N = x.shape
    tile = _tile(backend, backend.max_pool2d.result(x, window))
    masks = [] if positions is None else [Spec(tile, "bool")] * 2
    return [Spec((tile[0], C, W, N), x.dtype), *masks]


def _gradient(backend: Any, x: Any, y: Any, dy: Spec, window: Window, positions: Spec | None = None) -> list[Spec]:
    if not window.overlaps and positions is None:
        return [Spec(dy.shape, "bool"), Spec(dy.shape, "bool")]
    tile = _tile(backend, dy)
    found = [] if positions else [Spec(dy.shape, position_type(window)), Spec(tile, "bool")]
    return [Spec(tile, dy.dtype), Spec(tile, "bool"), *found]


class NumpyPooling(Pooling):
    """Pooling on the CPU, by tiles of rows."""

    def saves_positions(self, window: Window) -> bool:
        """Whether windows overlap: else a mask for each tap is as fast, since no two of them add up."""
        return window.overlaps

    @kernel(scratch=_maximum)
    def max_pool2d(
        self, x: Array, window: Window, positions: Any = None, out: Any = None, scratch: Any = None
    ) -> Iterator[Call]:
        """The maximum over rows, at full width, then over columns."""
        tile, *masks = scratch
        for rows, part, inputs in _tiles(window, len(x), len(out), len(tile)):
            if part is None:
                yield partial(out[rows].fill, -np.inf)
                if positions is not None:
                    yield partial(positions[rows].fill, 0)
                continue
            pixels, y = x[inputs], out[rows]
            h = tile[: len(y)]
            yield from _max_along(pixels, 0, part.taps(0, len(pixels), len(h)), part.stride[0], h)
            yield from _max_along(h, 2, part.taps(1, h.shape[2], y.shape[2]), part.stride[1], y)
            if positions is not None:
                yield from _first_equal(pixels, y, part, positions[rows], *(mask[: len(y)] for mask in masks))
        if positions is not None:
            yield partial(self._positions_of_nan, x, out, window, positions)

    def _positions_of_nan(self, x: Array, y: Array, window: Window, positions: Array) -> None:
        """Write the positions again if a maximum is NaN, which equals no pixel."""
        if y.size and np.isnan(y.max()):
            positions[...] = self.first_maximum(x, window)

    @kernel(scratch=_gradient)
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
        if not window.overlaps and positions is None:
            yield from _grad_of_apart(x, y, dy, window, out, *scratch)
            return
        part, hit, *found = scratch
        OH, H = len(dy), len(out)
        if positions is None:
            positions, seen = found
            for rows, its, inputs in _tiles(window, H, OH, len(hit)):
                if its is not None:
                    of_rows = y[rows], its, positions[rows]
                    yield from _first_equal(x[inputs], *of_rows, seen[: len(of_rows[0])], hit[: len(of_rows[0])])
            yield partial(self._positions_of_nan, x, y, window, positions)
        yield partial(out.fill, 0)
        # from below, so that a pixel gets the gradients of its windows in the order of their taps, whatever the tile is
        for rows, its, inputs in reversed([*_tiles(window, H, OH, len(hit))]):
            if its is not None:
                yield from _add_at(positions[rows], dy[rows], its, out[inputs], part, hit)

    def pool_shares(self, window: Window, size: Pair, count_include_pad: bool, dtype: str) -> Array:
        return _pool_shares(self, window, size, bool(count_include_pad), dtype)


def _tiles(window: Window, H: int, OH: int, size: int) -> Iterator[tuple[slice, Window | None, slice]]:
    """Yield ``size`` rows of the output at a time, the window that makes them, and the rows of the input that it reads.

    There is no window for rows that see padding alone.
    """
    for r in range(0, OH, size):
        rows = slice(r, min(r + size, OH))
        yield rows, *(window.band(rows, H) or (None, slice(0)))


def _first_equal(x: Array, y: Array, window: Window, positions: Array, seen: Array, hit: Array) -> Iterator[Call]:
    """Write the first tap of each window that is equal to its maximum y: the number of taps before it."""
    KH, KW = window.kernel
    pairs = {(i, j): pair for i, j, *pair in window.pairs((x.shape[0], x.shape[2]))}
    yield partial(seen.fill, False)
    yield partial(positions.fill, KH * KW - 1)  # if it is none of those before the last
    for tap in range(KH * KW - 1):
        if meeting := pairs.get(divmod(tap, KW)):
            outputs, inputs = meeting
            yield partial(np.equal, x[inputs], y[outputs], hit[outputs])
            yield partial(np.logical_or, seen[outputs], hit[outputs], seen[outputs])
        yield partial(np.subtract, positions, seen.view("u1"), positions)


def _add_at(positions: Array, dy: Array, window: Window, out: Array, part: Array, hit: Array) -> Iterator[Call]:
    """Add ``dy`` to the pixels of ``out`` that the positions name."""
    part, hit = part[: len(dy)], hit[: len(dy)]
    dy_bits, part_bits = as_bits(dy), as_bits(part)
    for i, j, outputs, inputs in window.pairs((out.shape[0], out.shape[2])):
        target = out[inputs]
        # of all windows, although for some the tap is outside of the image: that is one loop over contiguous numbers
        yield partial(np.equal, positions, i * window.kernel[1] + j, hit)
        yield partial(np.multiply, dy_bits, hit, part_bits)
        yield partial(np.add, target, part[outputs], target)


def _grad_of_apart(
    x: Array, y: Array, dy: Array, window: Window, out: Array, hit: Array, taken: Array
) -> Iterator[Call]:
    """Give ``dy`` to the first maximum of each window, or to its last NaN, where windows do not overlap."""
    size = x.shape[0], x.shape[2]
    if not window.tiles(size):
        yield partial(out.fill, 0)
    yield partial(taken.fill, False)
    dy_bits, out_bits = map(as_bits, (dy, out))
    for _, _, outputs, inputs in window.pairs(size):
        is_max, seen = hit[outputs], taken[outputs]
        yield partial(np.equal, x[inputs], y[outputs], is_max)
        yield partial(np.greater, is_max, seen, is_max)  # a maximum, and the first
        yield partial(np.logical_or, seen, is_max, seen)
        yield partial(np.multiply, dy_bits[outputs], is_max, out_bits[inputs])
    yield partial(_add_grad_of_nan, x, y, dy, window, out, hit, taken)


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
