"""Direct convolution: no lowering, no copy of the images, and a block of outputs that stays in registers.

    y[r, f, q, n] = b[f] + Σ_{i, j, c} w[f, i, j, c] · x[r·stride + i·dilation - top, c, q·stride + j·dilation - left, n]

The samples of a pixel lie together, and so do pixels that are neighbours: vectors run along them. A block of filters
times a block of such vectors is summed up at a time; each step of the sum reads a vector for each of its vectors, and
one number of the weight for each of its filters.

Outputs that see the same taps of the kernel form a :class:`Region`; there are several, since at the border some taps
would see padding. Those taps are left out, so padding is neither stored nor multiplied. The input's gradient is the same
sum over ``dy``, with other taps: from pixel (h, w) of dx, tap (i, j) sees output ((h + top - i·dilation) / stride, ...)
where that is an integer. So any stride, dilation and padding is a list of regions, and one loop makes them all. The
weight's gradient is the sum over all regions of the products of their outputs with what each tap sees.

Sums are those of the textbook, in an order that depends on shapes alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import product
from math import inf
from typing import Any, NamedTuple

import numpy as np
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from im2colnet.types import Call, Shape, Spec
from im2colnet.window import Window
from im2colnet_numba.compile import compiled, lanes
from im2colnet_numba.vectors import ITEM, Vectors, calling, integer, integer_at, literal, put_integer
from im2colnet_numpy.activation import activating, zeros
from im2colnet_numpy.rows import WEIGHT_ORDER, as_weight

ADDRESS = types.int64
CHUNK = 16 * 64  # bytes of the table of vectors that are multiplied at a time: those of a block of filters stay in cache


# Which outputs see which inputs -----------------------------------------------------------------------------------
class Run(NamedTuple):
    """Positions ``first + t·step`` of an axis that see the same taps, tap k the position ``seen[k] + t·pace``."""

    first: int
    step: int
    count: int
    seen: dict[int, int]
    pace: int


def runs(window: Window, axis: int, size: int, gradient: bool) -> list[Run]:
    """Divide the outputs along an axis of ``size`` inputs, or with ``gradient`` the inputs, which then see outputs."""
    (s, d), (before, _) = (window.stride[axis], window.dilation[axis]), window.padding[axis]
    out = window._axis_size(axis, size)
    taps = range(window.kernel[axis])
    step, pace, count = (s, 1, size) if gradient else (1, s, out)
    found = []
    for phase in range(min(step, count)):
        for position in range(phase, count, step):
            if gradient:
                meets = {k: (position + before - k * d) for k in taps}
                seen = {k: m // s for k, m in meets.items() if m % s == 0 and 0 <= m // s < out}
            else:
                meets = {k: position * s + k * d - before for k in taps}
                seen = {k: m for k, m in meets.items() if 0 <= m < size}
            last = found[-1] if found and position > phase else None
            if last and last.seen.keys() == seen.keys():
                found[-1] = last._replace(count=last.count + 1)
            else:
                found.append(Run(position, step, 1, seen, pace))
    return found


class Regions:
    """The regions of a convolution as tables of offsets in bytes.

    Parameters
    ----------
    source, target
        Shapes (H, C, W, N) of the images that are read and of those that are written: x and y, or dy and dx.
    window
        The window of the convolution.
    gradient
        Whether the target is dx.
    """

    def __init__(self, source: Shape, target: Shape, window: Window, gradient: bool = False) -> None:
        H, W = (target if gradient else source)[::2]
        (_, self.source_channels, self.source_width, N), (_, self.target_channels, self.target_width, _) = (
            source,
            target,
        )
        rows, columns = runs(window, 0, H, gradient), runs(window, 1, W, gradient)
        self.channel, self.filter = self.source_width * N * ITEM, self.target_width * N * ITEM
        #: numbers of the target that lie together, of each run of columns
        lengths = [c.count * N if c.step == c.pace == 1 else N for c in columns]
        self.lanes = next((n for n in (16, 8, 4) if n <= min(lanes(), *lengths)), 0)
        if not self.lanes:
            return
        vectors, taps, regions = [], [], []
        for row, (column, length) in product(rows, zip(columns, lengths, strict=True)):
            seen = [(i, h, j, w) for i, h in row.seen.items() for j, w in column.seen.items()]
            for i, h, j, w in seen:
                at = (h * self.source_channels * self.source_width + w) * N * ITEM
                taps.append((at, i * window.kernel[1] + j))
            together = length // N
            starts = np.minimum(np.arange(0, length, self.lanes), length - self.lanes)
            whole = length // self.lanes
            first = sum(map(len, vectors))
            for part in starts[:whole], starts[whole:]:
                a, b, n = np.meshgrid(
                    np.arange(row.count), np.arange(0, column.count, together), part, indexing="ij", sparse=True
                )
                x = (a * row.pace * self.source_channels * self.source_width + b * column.pace) * N + n
                y = (row.first + a * row.step) * self.target_channels * self.target_width
                y = (y + column.first + b * column.step) * N + n
                vectors.append(np.stack([x.ravel(), y.ravel()], axis=1) * ITEM)
            middle = first + len(vectors[-2])
            regions.append((first, middle, middle + len(vectors[-1]), len(taps) - len(seen), len(taps)))
            regions[-1] += ((self.lanes - length % self.lanes) % self.lanes,)
        self.vectors = np.ascontiguousarray(np.concatenate(vectors), np.int64)
        self.taps = np.array(taps, np.int64).reshape(-1, 2)
        self.regions = np.array(regions, np.int64)


# The loops ---------------------------------------------------------------------------------------------------------
@intrinsic(prefer_literal=True)
def outputs(
    typing: Any, lanes: Any, filters: Any, count: Any, x: Any, vectors: Any, taps: Any, end: Any, channels: Any,
    channel: Any, w: Any, b: Any, y: Any, filter: Any, least: Any, most: Any
) -> Any:
    """Write ``count`` vectors of ``filters`` filters: the bias and the sum over taps and channels, clipped.

    The weight at w is (KH·KW, channels, filters). ``vectors`` and ``taps`` are addresses in the tables of
    :class:`Regions`, ``channel`` and ``filter`` the bytes from one channel to the next, and from one filter.
    """
    L, FB, PB = literal(lanes), literal(filters), literal(count)

    def write(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        x, vectors, taps, end, channels, channel, w, b, y, filter, least, most = arguments[3:]
        v = Vectors(builder, L)
        sums = [v.variables(PB) for _ in range(FB)]
        for f in range(FB):
            bias = v.spread(v.number(builder.add(b, integer(ITEM * f))))
            for p in range(PB):
                builder.store(bias, sums[f][p])
        xs = [builder.add(x, v.integer(builder.add(vectors, integer(16 * p)))) for p in range(PB)]
        with cgutils.for_range_slice(builder, taps, end, integer(16)) as (tap, _):
            at = v.integer(tap)
            row = builder.mul(v.integer(builder.add(tap, integer(8))), channels)
            weights = builder.add(w, builder.mul(row, integer(ITEM * FB)))
            with cgutils.for_range(builder, channels) as c:
                offset = builder.add(at, builder.mul(c.index, channel))
                weight = builder.add(weights, builder.mul(c.index, integer(ITEM * FB)))
                inputs = [v.load(builder.add(p, offset)) for p in xs]
                for f in range(FB):
                    factor = v.spread(v.number(builder.add(weight, integer(ITEM * f))))
                    for p in range(PB):
                        builder.store(v.fma(inputs[p], factor, builder.load(sums[f][p])), sums[f][p])
        least, most = v.spread(least), v.spread(most)
        ys = [builder.add(y, v.integer(builder.add(vectors, integer(16 * p + 8)))) for p in range(PB)]
        for f in range(FB):
            for p in range(PB):
                target = builder.add(ys[p], builder.mul(filter, integer(f)))
                v.store(v.clip(builder.load(sums[f][p]), least, most), target)
        return context.get_dummy_value()

    return types.void(lanes, filters, count, *[ADDRESS] * 10, types.float32, types.float32), write


@lru_cache
def convolution(lanes: int, FB: int) -> Any:
    """Return the compiled convolution by vectors of ``lanes`` numbers and blocks of FB filters."""

    @compiled
    def convolve(x, w, b, y, regions, end, vectors, taps, G, C, F, K, channel, filter, least, most):  # type: ignore
        blocks = -(-F // FB)
        for g in range(G):
            xg, yg = x + g * C * channel, y + g * F * filter
            for region in range(regions, end, 48):
                v, stop = vectors + 16 * integer_at(region), vectors + 16 * integer_at(region + 16)
                first, last = taps + 16 * integer_at(region + 24), taps + 16 * integer_at(region + 32)
                while v < stop:
                    left = (stop - v) // 16
                    together = 3 if left == 3 or left >= 5 else min(2, left)
                    for block in range(blocks):
                        f = min(block * FB, F - FB)
                        wf, bf, yf = w + 4 * (g * blocks + block) * K * FB, b + 4 * (g * F + f), yg + f * filter
                        if together == 3:
                            outputs(lanes, FB, 3, xg, v, first, last, C, channel, wf, bf, yf, filter, least, most)
                        elif together == 2:
                            outputs(lanes, FB, 2, xg, v, first, last, C, channel, wf, bf, yf, filter, least, most)
                        else:
                            outputs(lanes, FB, 1, xg, v, first, last, C, channel, wf, bf, yf, filter, least, most)
                    v += 16 * together

    return convolve


@intrinsic(prefer_literal=True)
def products(
    typing: Any, lanes: Any, filters: Any, taps: Any, x: Any, dy: Any, vectors: Any, middle: Any, end: Any, skip: Any,
    seen: Any, f: Any, F: Any, filter: Any, dw: Any, row: Any
) -> Any:
    """Add to ``filters`` x ``taps`` numbers of dw the sums of dy times x over vectors, ``skip`` lanes less after ``middle``.

    ``seen`` is the address of pairs: where a tap sees the first vector of x, and where its sum lies in a row of dw.
    """
    L, FB, KB = literal(lanes), literal(filters), literal(taps)

    def write(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        x, dy, vectors, middle, end, skip, seen, f, F, filter, dw, row = arguments[3:]
        v = Vectors(builder, L)
        sums = [v.variables(KB) for _ in range(FB)]
        for ours in sums:
            for variable in ours:
                builder.store(v.constant(0), variable)
        xs = [builder.add(x, v.integer(builder.add(seen, integer(16 * k)))) for k in range(KB)]
        last, dys = builder.sub(F, integer(1)), []
        for i in range(FB):
            row_of = builder.add(f, integer(i))
            row_of = builder.select(builder.icmp_signed("<", row_of, last), row_of, last)
            dys.append(builder.add(dy, builder.mul(row_of, filter)))

        def add(vector: Any, skip: Any) -> None:
            at_x, at_dy = v.integer(vector), v.integer(builder.add(vector, integer(8)))
            inputs = [v.load(builder.add(p, at_x)) for p in xs]
            if skip is not None:
                inputs = [v.from_lane(skip, p) for p in inputs]
            for i in range(FB):
                factor = v.load(builder.add(dys[i], at_dy))
                if skip is not None:
                    factor = v.from_lane(skip, factor)
                for k in range(KB):
                    builder.store(v.fma(inputs[k], factor, builder.load(sums[i][k])), sums[i][k])

        with cgutils.for_range_slice(builder, vectors, middle, integer(16)) as (vector, _):
            add(vector, None)
        with cgutils.for_range_slice(builder, middle, end, integer(16)) as (vector, _):
            add(vector, skip)
        for i in range(FB):
            target = builder.add(dw, builder.mul(row, integer(i)))
            for k in range(KB):
                at = builder.add(target, v.integer(builder.add(seen, integer(16 * k + 8))))
                total = v.number(at)
                v.store_number(builder.fadd(total, v.sum(builder.load(sums[i][k]))), at)
        return context.get_dummy_value()

    return types.void(lanes, filters, taps, *[ADDRESS] * 12), write


@lru_cache
def weight_sum(lanes: int, FB: int, KB: int) -> Any:
    """Return the compiled sum of a weight's gradient by blocks of FB filters and KB taps."""

    @compiled
    def add(x, dy, dw, seen, regions, end, vectors, taps, G, C, F, K, channel, filter):  # type: ignore
        blocks, row = -(-F // FB), 4 * (K + 1)
        for region in range(regions, end, 48):
            first, middle = vectors + 16 * integer_at(region), vectors + 16 * integer_at(region + 8)
            stop, skip = vectors + 16 * integer_at(region + 16), integer_at(region + 40)
            tap, last = taps + 16 * integer_at(region + 24), taps + 16 * integer_at(region + 32)
            k = seen
            for c in range(C):
                for t in range(tap, last, 16):
                    put_integer(k, integer_at(t) + c * channel)
                    put_integer(k + 8, 4 * (integer_at(t + 8) * C + c))
                    k += 16
            if k == seen:
                continue
            while (k - seen) // 16 % KB:
                put_integer(k, integer_at(k - 16))
                put_integer(k + 8, 4 * K)
                k += 16
            for g in range(G):
                xg, yg, wg = x + g * C * channel, dy + g * F * filter, dw + g * blocks * FB * row
                for v in range(first, stop, CHUNK):
                    a, b = max(v, min(middle, v + CHUNK)), min(stop, v + CHUNK)
                    for f in range(0, F, FB):
                        for s in range(seen, k, 16 * KB):
                            products(lanes, FB, KB, xg, yg, v, a, b, skip, s, f, F, filter, wg + f * row, row)

    return add
