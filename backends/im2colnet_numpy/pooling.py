"""Pooling: the maximum over rows, then over columns, and where it was; gradients by masks."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import lru_cache, partial
from math import prod
from operator import getitem, setitem
from typing import Any

import numpy as np

from im2colnet.backend.kernel import kernel
from im2colnet.backend.pooling import Pooling, position_type
from im2colnet.types import Call, Spec
from im2colnet.window import Meeting, Pair, Tap, Window
from im2colnet_numpy.activation import as_bits
from im2colnet_numpy.lanes import Lanes, lanes_of

Array = np.ndarray


def _tile(backend: Any, y: Spec) -> tuple[int, ...]:
    """Return the shape of some rows of pooling's output that stay in cache with the rows of its input."""
    OH, *row = y.shape
    return max(1, min(OH, backend.tuning.tile_bytes // 4 // (prod(row) * np.dtype(y.dtype).itemsize))), *row


def _maximum(backend: Any, x: Spec, window: Window, positions: Spec | None = None) -> list[Spec]:
    _, C, W, N = x.shape
    y = backend.max_pool2d.result(x, window)
    tile = _tile(backend, y)
    lanes = lanes_of(C, y.shape, window, tile[0], x.dtype)
    higher = Spec((tile[0], *lanes[0].shape[1:]) if lanes else (tile[0], C, W, N), x.dtype)
    masks = [] if positions is None else [Spec(tile, "bool")] * 2
    return [higher, *masks, *lanes]


def _gradient(backend: Any, x: Any, y: Any, dy: Spec, window: Window, positions: Spec | None = None) -> list[Spec]:
    tile = _tile(backend, dy)
    mask, lanes = Spec(tile, "bool"), lanes_of(dy.shape[1], dy.shape, window, tile[0], dy.dtype)
    if not window.overlaps and positions is None:
        return [mask, mask]
    found = [] if positions else [Spec(dy.shape, position_type(window)), mask]
    return [Spec(tile, dy.dtype), mask, *found, *lanes]


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
        higher, *rest = scratch
        masks, lanes = (rest[:2], rest[2:]) if positions is not None else ([], rest)
        columns = Lanes(window)
        for rows, part, inputs in _tiles(window, len(x), len(out), len(higher)):
            if part is None:
                yield partial(out[rows].fill, -np.inf)
                if positions is not None:
                    yield partial(positions[rows].fill, 0)
                continue
            y, pixels = out[rows], x[inputs]
            size, h = (len(pixels), x.shape[2]), higher[: len(y)]
            if lanes:
                yield from columns.set_apart(pixels, lanes[0])
                pixels = lanes[0][: len(pixels)]
            yield from _max_along(getitem, pixels, 0, part.taps(0, size[0], len(h)), part.stride[0], h)
            yield from _max_along(columns.at, h, 2, part.taps(1, size[1], y.shape[2]), part.stride[1], y)
            if positions is not None:
                meetings = part.pairs(size)
                yield from _first_equal(
                    columns, pixels, y, part, meetings, positions[rows], *(mask[: len(y)] for mask in masks)
                )
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
        part, hit, *rest = scratch
        (H, _, W, _), columns = out.shape, Lanes(window)
        tiles = list(_tiles(window, H, len(dy), len(hit)))
        if positions is None:
            positions, seen, *rest = rest
            for rows, its, inputs in tiles:
                if its is not None:
                    pixels, here = x[inputs], y[rows]
                    meetings = its.pairs((len(pixels), W))
                    if rest:
                        yield from columns.set_apart(pixels, rest[0])
                        pixels = rest[0]
                    masks = seen[: len(here)], hit[: len(here)]
                    yield from _first_equal(columns, pixels, here, its, meetings, positions[rows], *masks)
            yield partial(self._positions_of_nan, x, y, window, positions)
        below = H  # the rows from here on are written
        # from below, so that a pixel gets the gradients of its windows in the order of their taps, whatever the tile is
        for rows, its, inputs in reversed(tiles):
            if its is None:
                continue
            target = pixels = out[inputs]
            fresh = min(below, inputs.stop) - inputs.start  # rows of this tile and of none below it
            if rest:
                target = rest[0][: len(pixels)]
                yield from columns.set_apart(pixels[fresh:], target[fresh:])
            yield partial(target[:fresh].fill, 0)
            yield from _add_at(columns, positions[rows], dy[rows], its, its.pairs((len(pixels), W)), target, part, hit)
            if rest:
                yield from columns.bring_back(target, pixels)
            if inputs.stop < below:
                yield partial(out[inputs.stop : below].fill, 0)
            below = inputs.start
        if below:
            yield partial(out[:below].fill, 0)

    def pool_shares(self, window: Window, size: Pair, count_include_pad: bool, dtype: str) -> Array:
        return _pool_shares(self, window, size, bool(count_include_pad), dtype)


def _tiles(window: Window, H: int, OH: int, size: int) -> Iterator[tuple[slice, Window | None, slice]]:
    """Yield ``size`` rows of the output at a time, the window that makes them, and the rows of the input that it reads.

    There is no window for rows that see padding alone.
    """
    for r in range(0, OH, size):
        rows = slice(r, min(r + size, OH))
        yield rows, *(window.band(rows, H) or (None, slice(0)))


def _first_equal(
    columns: Lanes,
    x: Array,
    y: Array,
    window: Window,
    meetings: Iterable[Meeting],
    positions: Array,
    seen: Array,
    hit: Array,
) -> Iterator[Call]:
    """Write the first tap of each window that is equal to its maximum y: the number of taps before it."""
    KH, KW = window.kernel
    pairs = {(i, j): pair for i, j, *pair in meetings}
    yield partial(seen.fill, False)
    yield partial(positions.fill, KH * KW - 1)  # if it is none of those before the last
    for tap in range(KH * KW - 1):
        if meeting := pairs.get(divmod(tap, KW)):
            outputs, inputs = meeting
            yield partial(np.equal, columns.at(x, inputs), y[outputs], hit[outputs])
            yield partial(np.logical_or, seen[outputs], hit[outputs], seen[outputs])
        yield partial(np.subtract, positions, seen.view("u1"), positions)


def _add_at(
    columns: Lanes,
    positions: Array,
    dy: Array,
    window: Window,
    meetings: Iterable[Meeting],
    out: Array,
    part: Array,
    hit: Array,
) -> Iterator[Call]:
    """Add ``dy`` to the pixels of ``out`` that the positions name."""
    part, hit = part[: len(dy)], hit[: len(dy)]
    dy_bits, part_bits = as_bits(dy), as_bits(part)
    for i, j, outputs, inputs in meetings:
        target = columns.at(out, inputs)
        # of all windows, although for some the tap is outside of the image: that is one loop over contiguous numbers
        yield partial(np.equal, positions, i * window.kernel[1] + j, hit)
        yield partial(np.multiply, dy_bits, hit, part_bits)
        yield partial(np.add, target, part[outputs], target)


def _grad_of_apart(
    x: Array, y: Array, dy: Array, window: Window, out: Array, hit: Array, taken: Array
) -> Iterator[Call]:
    """Give ``dy`` to the first maximum of each window, or to its last NaN, where windows do not overlap."""
    H, _, W, _ = x.shape
    if not window.tiles((H, W)):
        yield partial(out.fill, 0)
    for rows, its, inputs in _tiles(window, H, len(y), len(hit)):
        if its is None:
            continue
        pixels, maxima, dy_bits, out_bits = x[inputs], y[rows], as_bits(dy[rows]), as_bits(out[inputs])
        yield partial(taken.fill, False)
        for _, _, outputs, met in its.pairs((len(pixels), W)):
            is_max, seen = hit[outputs], taken[outputs]
            yield partial(np.equal, pixels[met], maxima[outputs], is_max)
            yield partial(np.greater, is_max, seen, is_max)  # a maximum, and the first
            yield partial(np.logical_or, seen, is_max, seen)
            yield partial(np.multiply, dy_bits[outputs], is_max, out_bits[met])
    yield partial(_add_grad_of_nan, x, y, dy, window, out)


def _add_grad_of_nan(x: Array, y: Array, dy: Array, window: Window, out: Array) -> None:
    """Add ``dy`` of the windows whose maximum is NaN, which equals no pixel, to the last NaN of each."""
    if not y.size or not np.isnan(y.max()):
        return
    hit, taken = np.empty(y.shape, bool), np.zeros(y.shape, bool)
    for _, _, outputs, inputs in reversed(window.pairs((x.shape[0], x.shape[2]))):
        is_nan, seen, target = hit[outputs], taken[outputs], out[inputs]
        np.isnan(x[inputs], out=is_nan)
        np.greater(is_nan, seen, out=is_nan)
        np.logical_or(seen, is_nan, out=seen)
        np.add(target, dy[outputs], out=target, where=is_nan)


def _max_along(
    at: Callable[[Array, Any], Array], x: Array, axis: int, taps: Sequence[Tap], stride: int, out: Array
) -> Iterator[Call]:
    """Write the maximum over the taps along ``axis`` of x (H, C, W, N), indexed by ``at``, into out."""
    before = (slice(None),) * axis

    def outputs(tap: Tap) -> Array:
        return out[*before, tap.lo : tap.hi]

    def inputs(tap: Tap) -> Array:
        return at(x, (*before, slice(tap.start, tap.start + (tap.hi - tap.lo - 1) * stride + 1, stride)))

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
