"""Direct convolution: no lowering, no copy of the images, and a block of outputs that stays in registers.

    y[r, f, q, n] = b[f] + Σ_{i, j, c} w[f, i, j, c] · x[r·s + i·d - top, c, q·s + j·d - left, n]

with stride s and dilation d. A block of filters times a block of vectors of samples is summed up at a time: each step
of the sum reads a vector of x for each of the vectors, and a number of the weight for each of the filters. The input's
gradient is such a sum over dy, and one loop makes both (see :mod:`im2colnet_numba.regions`). The weight's gradient,

    dw[f, i, j, c] = Σ_{r, q, n} dy[r, f, q, n] · x[r·s + i·d - top, c, q·s + j·d - left, n]

is summed up along the vectors, for a block of filters times a block of taps and channels, some vectors at a time: those
of a block of filters stay in the first-level cache until they have been multiplied by all taps.

The arithmetic is the textbook's, in an order that shapes alone decide; it leaves out what is multiplied by padding.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache, partial
from math import prod
from typing import Any, NamedTuple

import numpy as np
from im2colnet_numpy.activation import activating, zeros
from im2colnet_numpy.algorithms import Algorithm
from im2colnet_numpy.lowering import pixel_copy
from im2colnet_numpy.rows import WEIGHT_ORDER, Rows, as_weight
from im2colnet_numpy.tuning import Tuning
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from im2colnet.types import Call, Shape, Spec
from im2colnet.window import Window
from im2colnet_numba.activation import NONE, bounds
from im2colnet_numba.arrays import to_write
from im2colnet_numba.compile import compiled
from im2colnet_numba.regions import Regions, Run
from im2colnet_numba.vectors import (
    ITEM,
    Vectors,
    calling,
    contiguous,
    integer,
    integer_at,
    literal,
    number_at,
    put_integer,
    put_number,
    registers,
)

PAIR, ROW = Regions.PAIR, Regions.ROW
FEW = 32  # vectors of outputs up to which a weight is not copied before it is read
CHUNK = 64  # vectors whose products are summed at a time
SUM = 10  # multiplications of vectors that take as long as the sum of a vector's lanes


class Blocks(NamedTuple):
    """Sizes of the blocks whose sums stay in registers."""

    sums: int  # vectors of sums
    filters: int  # filters of a block of outputs, at most
    weights: tuple[tuple[int, int], ...]  # filters and taps of a block of a weight's gradient, to choose from

    def of_outputs(self, F: int) -> tuple[int, int]:
        """Return how many of F filters, and how many vectors at most, a block of outputs should have.

        The last block of filters overlaps the one before, if it must.
        """
        found = min(range(1, min(F, self.filters) + 1), key=lambda n: (-(-F // n) * (n + 1), -n))
        return found, min(8, self.sums // found)

    def of_weights(self, F: int, K: int) -> tuple[int, int]:
        """Return how many of F filters and of K taps of all channels a block should have."""
        return min(self.weights, key=lambda size: -(-F // size[0]) * -(-K // size[1]) * (prod(size) + 3))


@cache
def blocks() -> Blocks:
    """Return the blocks for the processor's registers."""
    return Blocks(24, 8, ((4, 6), (3, 7))) if registers() > 16 else Blocks(12, 4, ((4, 3), (3, 3)))


# The loops ----------------------------------------------------------------------------------------------------------
@intrinsic(prefer_literal=True)
def outputs(
    typing: Any,
    lanes: Any,
    filters: Any,
    most_vectors: Any,
    packed: Any,
    count: Any,
    x: Any,
    vectors: Any,
    taps: Any,
    end: Any,
    channels: Any,
    channel: Any,
    w: Any,
    row: Any,
    b: Any,
    y: Any,
    filter: Any,
    least: Any,
    most: Any,
) -> Any:
    """Write ``count`` vectors of ``filters`` filters: the bias and the sum over taps and channels, clipped.

    The weight at w is (KH·KW, channels, filters) if it is ``packed``, else (filters, KH·KW, channels), with ``row``
    bytes from a filter to the next. ``vectors``, ``taps`` and ``end`` are addresses in the tables of :class:`Regions`,
    ``channel`` and ``filter`` the bytes from one channel to the next in x, and from one filter in y.
    """
    FB = literal(filters)
    step = ITEM * FB if literal(packed) else ITEM  # bytes from a channel to the next in w

    def write(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        count, x, vectors, taps, end, channels, channel, w, row, b, y, filter, least, most = arguments[4:]
        v = Vectors(builder, literal(lanes))
        ws = [builder.add(w, integer(ITEM * f) if literal(packed) else builder.mul(row, integer(f))) for f in range(FB)]

        def block(PB: int) -> None:
            sums = [v.variables(PB) for _ in range(FB)]
            for f in range(FB):
                bias = v.spread(v.number(builder.add(b, integer(ITEM * f))))
                for p in range(PB):
                    builder.store(bias, sums[f][p])
            xs = [builder.add(x, v.integer(builder.add(vectors, integer(PAIR * p)))) for p in range(PB)]
            with cgutils.for_range_slice(builder, taps, end, integer(PAIR)) as (tap, _):
                seen, number = v.integer(tap), v.integer(builder.add(tap, integer(8)))
                weights = builder.mul(builder.mul(number, channels), integer(step))
                with cgutils.for_range(builder, channels) as c:
                    at = builder.add(seen, builder.mul(c.index, channel))
                    weight = builder.add(weights, builder.mul(c.index, integer(step)))
                    inputs = [v.load(builder.add(p, at)) for p in xs]
                    for f in range(FB):
                        factor = v.spread(v.number(builder.add(ws[f], weight)))
                        for p in range(PB):
                            builder.store(v.fma(inputs[p], factor, builder.load(sums[f][p])), sums[f][p])
            lowest, highest = v.spread(least), v.spread(most)
            ys = [builder.add(y, v.integer(builder.add(vectors, integer(PAIR * p + 8)))) for p in range(PB)]
            for f in range(FB):
                for p in range(PB):
                    clipped = v.clip(builder.load(sums[f][p]), lowest, highest)
                    v.store(clipped, builder.add(ys[p], builder.mul(filter, integer(f))))

        for PB in range(1, literal(most_vectors) + 1):
            with builder.if_then(builder.icmp_signed("==", count, integer(PB))):
                block(PB)
        return context.get_dummy_value()

    return types.void(lanes, filters, most_vectors, packed, *[types.int64] * 12, types.float32, types.float32), write


@cache
def convolution(lanes: int, FB: int, PB: int, packs: bool) -> Any:
    """Return the compiled convolution by vectors of ``lanes`` numbers, in blocks of FB filters and up to PB vectors.

    Its arguments are addresses, sizes for each of G groups, and bytes: of w from one group, filter, tap and channel to
    the next. If it ``packs``, it copies the weight to ``packed`` (G, blocks of filters, T, C, FB), T = KH·KW, before it
    reads it. It makes ``together`` vectors of a block of filters before it goes on to the next block.
    """
    kind = int(packs)

    @compiled
    def convolve(  # type: ignore[no-untyped-def]
        x, w, packed, b, y, table, end, vectors, taps, together, G, C, F, T, of_group, of_filter, of_tap, of_channel,
        channel, filter, least, most
    ):  # fmt: skip
        at = packed
        for g in range(G if packs else 0):
            for block in range(0, F, FB):
                for t in range(T):
                    for c in range(C):
                        source = w + g * of_group + min(block, F - FB) * of_filter + t * of_tap + c * of_channel
                        for f in range(FB):
                            put_number(at + ITEM * f, number_at(source + f * of_filter))
                        at += ITEM * FB
        for g in range(G):
            xg, yg = x + g * C * channel, y + g * F * filter
            for region in range(table, end, ROW):
                start, stop = vectors + PAIR * integer_at(region), vectors + PAIR * integer_at(region + 16)
                first, last = taps + PAIR * integer_at(region + 32), taps + PAIR * integer_at(region + 40)
                for some in range(start, stop, PAIR * together):
                    for block in range(0, F, FB):
                        f = min(block, F - FB)
                        wf = (
                            packed + (g * (at - packed) // G + block * T * C * ITEM)
                            if packs
                            else w + g * of_group + f * of_filter
                        )
                        bf, yf = b + ITEM * (g * F + f), yg + f * filter
                        for v in range(some, min(some + PAIR * together, stop), PAIR * PB):
                            n = min(PB, (min(some + PAIR * together, stop) - v) // PAIR)
                            outputs(
                                lanes, FB, PB, kind, n, xg, v, first, last, C, channel, wf, of_filter, bf, yf, filter,
                                least, most
                            )  # fmt: skip

    return convolve


@intrinsic(prefer_literal=True)
def products(
    typing: Any,
    lanes: Any,
    filters: Any,
    taps: Any,
    x: Any,
    dy: Any,
    vectors: Any,
    middle: Any,
    end: Any,
    skip: Any,
    seen: Any,
    f: Any,
    F: Any,
    filter: Any,
    dw: Any,
    row: Any,
) -> Any:
    """Add the sums of dy times x over vectors to a block of dw, of filters from f on and of some ``seen`` taps.

    ``seen`` is the address of pairs: of each tap and channel the offset in x, and that of its sum in a row of dw. The
    vectors from ``middle`` on are without their first ``skip`` lanes. What a block has beyond F filters is made and
    added like the last of them, to rows of its own.
    """
    FB, KB = literal(filters), literal(taps)

    def write(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        x, dy, vectors, middle, end, skip, seen, f, F, filter, dw, row = arguments[3:]
        v = Vectors(builder, literal(lanes))
        sums = [v.variables(KB) for _ in range(FB)]
        xs = [builder.add(x, v.integer(builder.add(seen, integer(PAIR * k)))) for k in range(KB)]
        last, dys = builder.sub(F, integer(1)), []
        for i in range(FB):
            number = builder.add(f, integer(i))
            number = builder.select(builder.icmp_signed("<", number, last), number, last)
            dys.append(builder.add(dy, builder.mul(number, filter)))

        def add(vector: Any, skip: Any = None) -> None:
            at_x, at_dy = v.integer(vector), v.integer(builder.add(vector, integer(8)))
            inputs = [v.load(builder.add(p, at_x)) for p in xs]
            factors = [v.load(builder.add(p, at_dy)) for p in dys]
            if skip is not None:
                inputs, factors = ([v.from_lane(skip, p) for p in some] for some in (inputs, factors))
            for i in range(FB):
                for k in range(KB):
                    builder.store(v.fma(inputs[k], factors[i], builder.load(sums[i][k])), sums[i][k])

        for ours in sums:
            for variable in ours:
                builder.store(v.constant(0), variable)
        with cgutils.for_range_slice(builder, vectors, middle, integer(PAIR)) as (vector, _):
            add(vector)
        with cgutils.for_range_slice(builder, middle, end, integer(PAIR)) as (vector, _):
            add(vector, skip)
        for i in range(FB):
            target = builder.add(dw, builder.mul(row, integer(i)))
            for k in range(KB):
                at = builder.add(target, v.integer(builder.add(seen, integer(PAIR * k + 8))))
                v.store_number(builder.fadd(v.number(at), v.sum(builder.load(sums[i][k]))), at)
        return context.get_dummy_value()

    return types.void(lanes, filters, taps, *[types.int64] * 12), write


@cache
def weight_sums(lanes: int, FB: int, KB: int) -> Any:
    """Return the compiled gradient of a weight by vectors of ``lanes`` numbers and blocks of FB filters and KB taps.

    It adds to ``dw`` (G, rows, K + 1), the rows being a multiple of FB: the last row and column are nobody's. It writes
    taps of all channels to ``seen`` (K + KB, 2).
    """

    @compiled
    def add(x, dy, dw, seen, table, end, vectors, taps, G, C, F, K, channel, filter):  # type: ignore[no-untyped-def]
        row, group = ITEM * (K + 1), ITEM * (K + 1) * -(-F // FB) * FB
        for region in range(table, end, ROW):
            start, middle = vectors + PAIR * integer_at(region), vectors + PAIR * integer_at(region + 8)
            stop, skip = vectors + PAIR * integer_at(region + 16), integer_at(region + 24)
            first, last = taps + PAIR * integer_at(region + 32), taps + PAIR * integer_at(region + 40)
            k = seen
            for c in range(C):
                for tap in range(first, last, PAIR):
                    put_integer(k, integer_at(tap) + c * channel)
                    put_integer(k + 8, ITEM * (integer_at(tap + 8) * C + c))
                    k += PAIR
            while (k - seen) // PAIR % KB > 0:
                put_integer(k, integer_at(k - PAIR))
                put_integer(k + 8, ITEM * K)
                k += PAIR
            for g in range(G):
                xg, yg, wg = x + g * C * channel, dy + g * F * filter, dw + g * group
                for v in range(start, stop, PAIR * CHUNK):
                    a, b = max(v, min(middle, v + PAIR * CHUNK)), min(stop, v + PAIR * CHUNK)
                    for f in range(0, F, FB):
                        for tap in range(seen, k, PAIR * KB):
                            products(lanes, FB, KB, xg, yg, v, a, b, skip, tap, f, F, filter, wg + f * row, row)

    return add


# The algorithm ------------------------------------------------------------------------------------------------------
class Outputs:
    """The sums that write images of G·F channels from images of G·C channels: sizes and tables, but no images.

    Parameters
    ----------
    at
        The regions of the convolution.
    sizes
        G, C, F and T = KH·KW.
    strides
        Bytes of the weight from one group, channel that is written, tap and channel that is read to the next.

    Attributes
    ----------
    scratch : Spec
        A copy of the weight, in the order in which it is read; there is none for few outputs.
    """

    def __init__(self, at: Regions, sizes: tuple[int, int, int, int], strides: tuple[int, int, int, int]) -> None:
        (G, C, F, T), (self.FB, self.PB) = sizes, blocks().of_outputs(sizes[2])
        self.packs = len(at.vectors) > FEW or strides[3] != ITEM
        self.scratch = Spec((G, -(-F // self.FB), T, C, self.FB) if self.packs else (0,), "float32")
        self.at = at
        #: of few outputs, all for a block of filters before the next, so that the weight is read once
        together = self.PB if self.packs else len(at.vectors)
        self.arguments = *at.tables, max(1, together), *sizes, *strides, at.channel, at.filter

    def write(
        self,
        x: np.ndarray,
        w: np.ndarray,
        b: np.ndarray | None,
        y: np.ndarray,
        packed: np.ndarray,
        ends: tuple[float, float] = NONE,
    ) -> Iterator[Call]:
        """Write to y the bias b and the sums over x and w (F, C/G, KH, KW), clipped to what is between two ends."""
        found, copies = contiguous(x, zeros(y.shape[1], y.dtype) if b is None else b)
        yield from copies
        target, after = to_write(y, y.shape)
        arrays = found[0], w.transpose(WEIGHT_ORDER), packed, found[1], target
        function = convolution(self.at.lanes, self.FB, self.PB, self.packs)
        yield calling(function, *arrays, *self.arguments, *map(np.float32, ends))
        yield from after


class Direct:
    """Any convolution of images ``x`` (H, C, W, N) with F filters, in float32: sizes and tables, but no images.

    Attributes
    ----------
    scratch : dict
        The scratch arrays of each kernel, by its name.
    """

    why = "no lowering: sums stay in registers"

    def __init__(self, x: Shape, F: int, window: Window, groups: int, tuning: Tuning) -> None:
        G, C, F, T = self.sizes = groups, x[1] // groups, F // groups, prod(window.kernel)
        filter, tap, channel = T * C * ITEM, C * ITEM, ITEM
        forward, backward = Regions.of(x, G * F, window), Regions.of(x, G * F, window, gradient=True)
        self.forward = Outputs(forward, self.sizes, (F * filter, filter, tap, channel))
        self.backward = Outputs(backward, (G, F, C, T), (F * filter, channel, tap, filter))
        self.block = rows, taps = blocks().of_weights(F, T * C)
        apart = Regions.of(x, G * F, window, taps_apart=True)
        # with few outputs the sums of a region are short; where that does not matter its taps read the same numbers
        self.weights = apart if self._cost(forward) > 1.3 * self._cost(apart) else forward
        self.scratch = {
            "conv2d": [self.forward.scratch],
            "conv2d_input_grad": [self.backward.scratch],
            "conv2d_weight_grad": [
                Spec((G, -(-F // rows) * rows, T * C + 1), "float32"),
                Spec((T * C + taps, 2), "int64"),
            ],
        }
        # of one tap, the input's gradient is a product of what lies in memory
        self.rows = Rows(x, G * F, window, groups, "float32", tuning)
        if self.rows.lowering.direct:
            self.scratch["conv2d_input_grad"] = self.rows.scratch["conv2d_input_grad"]

    def _cost(self, regions: Regions) -> int:
        """Return about how many multiplications of vectors the weight's gradient takes."""
        (FB, KB), (_, C, F, _) = self.block, self.sizes
        start, _, stop, _, first, last = regions.table.T
        sums = FB * KB * -(-F // FB) * -(-C * (last - first) // KB)
        return int(sums @ (stop - start + SUM * -((start - stop) // CHUNK)))

    @property
    def exists(self) -> bool:
        """Whether vectors fit the images."""
        return bool(self.forward.at.lanes and self.backward.at.lanes)

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
        yield from convolved(self.forward, x, w, b, activation, y, *scratch)

    def input_grad(
        self, dy: np.ndarray, w: np.ndarray, dx: np.ndarray, scratch: Sequence[np.ndarray]
    ) -> Iterator[Call]:
        """Write the gradient with respect to the input into dx (H, C, W, N)."""
        if self.rows.lowering.direct:
            return self.rows.input_grad(dy, w, dx, scratch)
        (packed,) = scratch
        return self.backward.write(dy, w, None, dx, packed)

    def weight_grad(
        self, x: np.ndarray, dy: np.ndarray, dw: np.ndarray, scratch: Sequence[np.ndarray]
    ) -> Iterator[Call]:
        """Write the gradient with respect to the weight into dw (F, C/G, KH, KW)."""
        (total, seen), at, (G, C, F, T) = scratch, self.weights, self.sizes
        found, copies = contiguous(x, dy)
        yield from copies
        yield partial(total.fill, 0)
        sizes = G, C, F, T * C, at.channel, at.filter
        yield calling(weight_sums(at.lanes, *self.block), *found, total, seen, *at.tables, *sizes)
        yield as_weight(total[:, :F, : T * C], dw)


class Few:
    """The convolution of few images: vectors along the columns of a padded copy, which has each residue of them apart.

    With a stride s, column ``j·s + r`` of a padded image is column j of the part r of the copy's row, so that what
    neighbouring outputs see by a tap lies together. The gradients are those of another algorithm.
    """

    why = "few images: vectors along their columns, no lowering"

    def __init__(self, x: Shape, F: int, window: Window, groups: int, gradients: Algorithm) -> None:
        (_, C, self.W, N), (OH, OW), (KH, KW) = x, window.output_size((x[0], x[2])), window.kernel
        (sh, self.stride), (dh, dw), ((self.top, _), (self.left, _)) = window.stride, window.dilation, window.padding
        s, (eh, ew) = self.stride, window.extent
        self.H, self.part = (OH - 1) * sh + eh, (OW - 1) + -(-ew // s)  # rows, and columns of a part
        rows = [Run(0, 1, OH, {i: i * dh for i in range(KH)}, sh)]
        columns = [Run(0, 1, OW, {j: j * dw % s * self.part + j * dw // s for j in range(KW)}, 1)]
        sizes = groups, C // groups, F // groups, KH * KW
        filter = KH * KW * C // groups * ITEM
        at = Regions(N, (C, s * self.part), (F, OW), rows, columns, KW)
        self.outputs = Outputs(at, sizes, (F // groups * filter, filter, C // groups * ITEM, ITEM))
        self.copy = Spec((self.H, C, s * self.part, N), "float32")
        self.scratch = {**gradients.scratch, "conv2d": [self.copy, self.outputs.scratch]}
        self.weight_grad, self.input_grad, self.grads = gradients.weight_grad, gradients.input_grad, gradients.grads

    @property
    def exists(self) -> bool:
        """Whether vectors fit the images."""
        return bool(self.outputs.at.lanes)

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
        copy, packed = scratch
        yield partial(copy.fill, 0)
        rows = max(0, min(len(x), self.H - self.top))
        for r in range(self.stride):
            first = (r - self.left) % self.stride  # column of x
            begin = r * self.part + (first + self.left) // self.stride
            source = x[:rows, :, first :: self.stride][:, :, : max(0, (r + 1) * self.part - begin)]
            yield pixel_copy(copy[self.top : self.top + rows, :, begin : begin + source.shape[2]], source)
        yield from convolved(self.outputs, copy, w, b, activation, y, packed)


def convolved(
    outputs: Outputs,
    x: np.ndarray,
    w: np.ndarray,
    b: np.ndarray | None,
    activation: str | None,
    y: np.ndarray,
    packed: np.ndarray,
) -> Iterator[Call]:
    """Write the convolution's outputs with an activation, which is no pass of its own if all it does is clip."""
    ends = bounds(activation)
    yield from outputs.write(x, w, b, y, packed, ends or NONE)
    if activation and not ends:
        yield activating(y, activation, y)
