"""Depthwise convolution, one channel to a group, over the regions of :mod:`im2colnet_numba.regions`.

    y[r, c, q, n] = b[c] + Σ_{i, j} w[c, i, j] · x[r·s + i·d - top, c, q·s + j·d - left, n]

With one channel to a group a number of x is multiplied by a few taps only, so what counts is that it comes from cache:
some channels at a time are gone through, of which the images stay in the second-level cache. A block of several
vectors of outputs is summed up in registers. The weight's gradient is summed up in vectors, a few taps at a time, which
are added up along their lanes when all outputs of the channel have been seen.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache
from math import prod
from typing import Any

import numpy as np
from im2colnet_numpy.activation import activating, zeros
from im2colnet_numpy.rows import WEIGHT_ORDER, as_weight
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from im2colnet.types import Call, Shape, Spec
from im2colnet.window import Window
from im2colnet_numba.activation import NONE, bounds
from im2colnet_numba.arrays import to_write
from im2colnet_numba.compile import compiled
from im2colnet_numba.regions import Regions
from im2colnet_numba.vectors import ITEM, Vectors, calling, contiguous, integer, integer_at, literal, put_zeros

PAIR, ROW = Regions.PAIR, Regions.ROW
NEAR = 1 << 18  # bytes of images that stay in the second-level cache
VECTORS = (8, 4, 2, 1)  # of a block of outputs, the most that are left
TAPS = (9, 3)  # of a block of a weight's gradient, the first that is not too many


@intrinsic(prefer_literal=True)
def outputs(
    typing: Any,
    lanes: Any,
    count: Any,
    x: Any,
    vectors: Any,
    taps: Any,
    end: Any,
    w: Any,
    b: Any,
    y: Any,
    least: Any,
    most: Any,
) -> Any:
    """Write ``count`` vectors of a channel: the bias and the sum over taps, clipped."""

    def write(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        x, vectors, taps, end, w, b, y, least, most = arguments[2:]
        v = Vectors(builder, literal(lanes))
        bias, sums = v.spread(v.number(b)), v.variables(literal(count))
        pairs = [builder.add(vectors, integer(PAIR * p)) for p in range(literal(count))]
        sources = [builder.add(x, v.integer(pair)) for pair in pairs]
        for variable in sums:
            builder.store(bias, variable)
        with cgutils.for_range_slice(builder, taps, end, integer(PAIR)) as (tap, _):
            seen, number = v.integer(tap), v.integer(builder.add(tap, integer(8)))
            factor = v.spread(v.number(builder.add(w, builder.mul(number, integer(ITEM)))))
            for variable, source in zip(sums, sources, strict=True):
                vector = v.load(builder.add(source, seen))
                builder.store(v.fma(vector, factor, builder.load(variable)), variable)
        least, most = v.spread(least), v.spread(most)
        for variable, pair in zip(sums, pairs, strict=True):
            target = builder.add(y, v.integer(builder.add(pair, integer(8))))
            v.store(v.clip(builder.load(variable), least, most), target)
        return context.get_dummy_value()

    return types.void(lanes, count, *[types.int64] * 7, types.float32, types.float32), write


@intrinsic(prefer_literal=True)
def products(
    typing: Any,
    lanes: Any,
    count: Any,
    x: Any,
    dy: Any,
    vectors: Any,
    middle: Any,
    end: Any,
    skip: Any,
    tap: Any,
    last: Any,
    sums: Any,
) -> Any:
    """Add products of dy and x to the sums (taps + 1, lanes) of ``count`` taps, the first at an address.

    The vectors from ``middle`` on are without their first ``skip`` lanes. The taps after the ``last`` are it again, and
    their sums the one more.
    """

    def write(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        x, dy, vectors, middle, end, skip, tap, last, sums = arguments[2:]
        v = Vectors(builder, literal(lanes))
        totals, targets, seen = v.variables(literal(count)), [], []
        for k in range(literal(count)):
            pair = builder.add(tap, integer(PAIR * k))
            there = builder.icmp_signed("<=", pair, last)
            pair = builder.select(there, pair, last)
            seen.append(builder.add(x, v.integer(pair)))
            row = builder.select(there, builder.add(v.integer(builder.add(pair, integer(8))), integer(1)), integer(0))
            targets.append(builder.add(sums, builder.mul(row, integer(v.bytes))))
        for total, target in zip(totals, targets, strict=True):
            builder.store(v.load(target), total)

        def add(vector: Any, skip: Any = None) -> None:
            at, of_dy = v.integer(vector), v.integer(builder.add(vector, integer(8)))
            factor = v.load(builder.add(dy, of_dy))
            if skip is not None:
                factor = v.from_lane(skip, factor)
            for total, source in zip(totals, seen, strict=True):
                number = v.load(builder.add(source, at))
                if skip is not None:
                    number = v.from_lane(skip, number)
                builder.store(v.fma(number, factor, builder.load(total)), total)

        with cgutils.for_range_slice(builder, vectors, middle, integer(PAIR)) as (vector, _):
            add(vector)
        with cgutils.for_range_slice(builder, middle, end, integer(PAIR)) as (vector, _):
            add(vector, skip)
        for total, target in zip(totals, targets, strict=True):
            v.store(builder.load(total), target)
        return context.get_dummy_value()

    return types.void(lanes, count, *[types.int64] * 9), write


@intrinsic(prefer_literal=True)
def add_up(typing: Any, lanes: Any, sums: Any, count: Any, out: Any) -> Any:
    """Write the sum of each of ``count`` vectors, and clear them."""

    def write(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        sums, count, out = arguments[1:]
        v = Vectors(builder, literal(lanes))
        with cgutils.for_range(builder, count) as k:
            vector = builder.add(sums, builder.mul(k.index, integer(v.bytes)))
            v.store_number(v.sum(v.load(vector)), builder.add(out, builder.mul(k.index, integer(ITEM))))
            v.store(v.constant(0), vector)
        return context.get_dummy_value()

    return types.void(lanes, *[types.int64] * 3), write


@cache
def convolution(lanes: int) -> Any:
    """Return the compiled convolution by vectors of ``lanes`` numbers.

    Its arguments are addresses, the number of channels, of those at a time and of taps, and bytes from a channel to the
    next in x and y.
    """
    eight, four, two, one = VECTORS

    @compiled
    def convolve(  # type: ignore[no-untyped-def]
        x, w, b, y, table, end, vectors, taps, C, together, T, channel, filter, least, most
    ):
        for block in range(0, C, together):
            for region in range(table, end, ROW):
                start, stop = vectors + PAIR * integer_at(region), vectors + PAIR * integer_at(region + 16)
                first, last = taps + PAIR * integer_at(region + 32), taps + PAIR * integer_at(region + 40)
                for c in range(block, min(block + together, C)):
                    xc, yc, wc, bc, v = x + c * channel, y + c * filter, w + c * T * ITEM, b + c * ITEM, start
                    while stop - v >= eight * PAIR:
                        outputs(lanes, eight, xc, v, first, last, wc, bc, yc, least, most)
                        v += eight * PAIR
                    if stop - v >= four * PAIR:
                        outputs(lanes, four, xc, v, first, last, wc, bc, yc, least, most)
                        v += four * PAIR
                    if stop - v >= two * PAIR:
                        outputs(lanes, two, xc, v, first, last, wc, bc, yc, least, most)
                        v += two * PAIR
                    if v < stop:
                        outputs(lanes, one, xc, v, first, last, wc, bc, yc, least, most)

    return convolve


@cache
def weight_sums(lanes: int) -> Any:
    """Return the compiled gradient of a weight by vectors of ``lanes`` numbers.

    It writes dw (C, T), with scratch of ``lanes`` numbers for each of T taps and one more, and for some channels.
    """
    many, few = TAPS

    @compiled
    def add(x, dy, dw, scratch, table, end, vectors, taps, C, together, T, channel, filter):  # type: ignore[no-untyped-def]
        row = (T + 1) * lanes * ITEM
        put_zeros(scratch, min(C, together) * (T + 1) * lanes)
        for block in range(0, C, together):
            count = min(together, C - block)
            for region in range(table, end, ROW):
                start, middle = vectors + PAIR * integer_at(region), vectors + PAIR * integer_at(region + 8)
                stop, skip = vectors + PAIR * integer_at(region + 16), integer_at(region + 24)
                first, last = taps + PAIR * integer_at(region + 32), taps + PAIR * (integer_at(region + 40) - 1)
                for c in range(count):
                    xc, yc, sums, tap = x + (block + c) * channel, dy + (block + c) * filter, scratch + c * row, first
                    while tap <= last:
                        if last - tap >= 2 * few * PAIR:
                            products(lanes, many, xc, yc, start, middle, stop, skip, tap, last, sums)
                            tap += many * PAIR
                        else:
                            products(lanes, few, xc, yc, start, middle, stop, skip, tap, last, sums)
                            tap += few * PAIR
            for c in range(count):
                sums = scratch + c * row
                add_up(lanes, sums + lanes * ITEM, T, dw + (block + c) * T * ITEM)

    return add


class Depthwise:
    """The depthwise convolution of images (H, C, W, N), in float32: sizes and tables, but no images.

    Attributes
    ----------
    scratch : dict
        The scratch arrays of each kernel, by its name.
    """

    why = "a channel to a group: sums stay in registers"

    def __init__(self, x: Shape, window: Window) -> None:
        (H, C, W, N), (OH, OW) = x, window.output_size((x[0], x[2]))
        self.forward, self.backward = Regions.of(x, C, window), Regions.of(x, C, window, gradient=True)
        #: channels, those at a time, and taps
        self.sizes = C, min(C, max(1, NEAR // ((H * W + OH * OW) * N * ITEM))), prod(window.kernel)
        _, together, T = self.sizes
        sums = [Spec((C, 1, T), "float32"), Spec((together, T + 1, self.forward.lanes), "float32")]
        self.scratch = {"conv2d": [], "conv2d_input_grad": [], "conv2d_weight_grad": sums}

    @property
    def exists(self) -> bool:
        """Whether vectors fit the images."""
        return bool(self.forward.lanes and self.backward.lanes)

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
        ends = bounds(activation)
        yield from self._sums(self.forward, x, w, b, y, ends or NONE)
        if activation and not ends:
            yield activating(y, activation, y)

    def input_grad(
        self, dy: np.ndarray, w: np.ndarray, dx: np.ndarray, scratch: Sequence[np.ndarray]
    ) -> Iterator[Call]:
        """Write the gradient with respect to the input into dx (H, C, W, N)."""
        yield from self._sums(self.backward, dy, w, None, dx, NONE)

    def weight_grad(
        self, x: np.ndarray, dy: np.ndarray, dw: np.ndarray, scratch: Sequence[np.ndarray]
    ) -> Iterator[Call]:
        """Write the gradient with respect to the weight into dw (C, 1, KH, KW)."""
        (total, sums), at = scratch, self.forward
        (x, dy), copies = contiguous(x, dy)
        yield from copies
        yield calling(weight_sums(at.lanes), x, dy, total, sums, *at.tables, *self.sizes, at.channel, at.filter)
        yield as_weight(total, dw)

    def _sums(
        self,
        at: Regions,
        x: np.ndarray,
        w: np.ndarray,
        b: np.ndarray | None,
        y: np.ndarray,
        ends: tuple[float, float],
    ) -> Iterator[Call]:
        """Yield the calls of the compiled convolution, with outputs between two ends."""
        bias = zeros(self.sizes[0], w.dtype) if b is None else b
        (x, bias), copies = contiguous(x, bias)
        yield from copies
        target, after = to_write(y, y.shape)
        arrays = x, w.transpose(WEIGHT_ORDER), bias, target, *at.tables
        yield calling(convolution(at.lanes), *arrays, *self.sizes, at.channel, at.filter, *map(np.float32, ends))
        yield from after
