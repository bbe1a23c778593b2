"""Winograd's convolution F(m×m, r×r) in one pass over the images, of which a few tiles are in cache at a time.

The algorithm is that of :mod:`im2colnet_numpy.winograd`, whose tiles, filters and check of the numbers it takes:

    y = Aᵀ [(G w Gᵀ) ⊙ (Bᵀ d B)] A

A vector holds a number of a tile for some samples. The vectors of a block are few, so that V and M of them stay in the
second-level cache until they are used: all channels of their inputs are transformed to V; then, some filters at a time,
M = U · V is summed up in registers and transformed back. Bias and clipping are done on the way.

For the weight's gradient the tiles of the other image are transformed by the adjoint, A x Aᵀ, with vectors that hold
channels, not samples: then dU = Σ V · Xᵀ is a sum of vectors times numbers too, and nothing is added up along a vector.
As in the other module the adjoint of the input's gradient is taken, so that the tiles of dy serve both gradients.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache, partial
from itertools import chain
from typing import Any

import numpy as np
from im2colnet_numpy import winograd as textbook
from im2colnet_numpy.activation import activating, zeros
from im2colnet_numpy.locality import Pixels, checked
from im2colnet_numpy.tuning import Tuning
from im2colnet_numpy.winograd import TILES, filters, store
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from im2colnet.types import Call, Shape, Spec, run
from im2colnet.window import Window
from im2colnet_numba.activation import NONE, bounds
from im2colnet_numba.arrays import to_write
from im2colnet_numba.compile import compiled, lanes
from im2colnet_numba.vectors import ITEM, Value, Vectors, calling, contiguous, integer, literal, put_zeros, registers

FILTERS = 4  # whose results are summed up in registers
SUMS = 8  # rows of dU that are summed up in registers
TOGETHER = 4  # rows of images that are summed up at a time
BLOCK = 4  # vectors of a block
FEW = 32  # channels up to which a block has twice as many vectors
MORE_COLUMNS = 24  # of products that take as long as the transform of the filters, besides those of NumPy's tuning
LINE = 16  # numbers between planes: at distances of a power of two they would take each other's place in the cache


# Transforms ---------------------------------------------------------------------------------------------------------
def combine(v: Vectors, coefficients: np.ndarray, vectors: Sequence[Value]) -> Value:
    """Return the sum of vectors times constants, of which some are 0, 1 or -1."""
    total = None
    for a, vector in zip(map(float, coefficients), vectors, strict=True):
        if a == 0:
            continue
        if total is None:
            total = vector if a == 1 else v.builder.fmul(vector, v.constant(a))
        elif a == 1:
            total = v.builder.fadd(total, vector)
        elif a == -1:
            total = v.builder.fsub(total, vector)
        else:
            total = v.fma(vector, v.constant(a), total)
    return total


def transformed(v: Vectors, matrix: np.ndarray, tile: list[list[Value]]) -> list[list[Value]]:
    """Return ``matrix · tile · matrixᵀ`` of a tile of vectors."""
    columns = [[combine(v, row, column) for row in matrix] for column in zip(*tile, strict=True)]
    return [[combine(v, row, [column[i] for column in columns]) for row in matrix] for i in range(len(matrix))]


def turned(v: Vectors, rows: Sequence[Value]) -> list[Value]:
    """Return the transpose of a square of ``lanes`` vectors, by halves of halves."""
    rows, step = list(rows), 1
    while step < v.lanes:
        first = [i if not i & step else v.lanes + i - step for i in range(v.lanes)]
        second = [i + step if not i & step else v.lanes + i for i in range(v.lanes)]
        for i in range(v.lanes):
            if not i & step:
                pair = rows[i], rows[i + step]
                rows[i], rows[i + step] = shuffled(v, *pair, first), shuffled(v, *pair, second)
        step *= 2
    return rows


def shuffled(v: Vectors, a: Value, b: Value, lanes: list[int]) -> Value:
    """Return the vector of these lanes of two, counted from the first one's on."""
    return v.builder.shuffle_vector(a, b, ir.Constant(ir.VectorType(ir.IntType(32), len(lanes)), lanes))


def at(v: Vectors, address: Value, *steps: tuple[Any, Any]) -> Value:
    """Return the address plus each number of steps times its length, of which one may be a constant."""
    for count, length in steps:
        factors = [integer(f) if isinstance(f, int) else f for f in (count, length)]
        address = v.builder.add(address, v.builder.mul(*factors))
    return address


def below(v: Vectors, i: int, end: Value) -> Value:
    """Whether a constant is below a number."""
    return v.builder.icmp_signed("<", integer(i), end)


@intrinsic(prefer_literal=True)
def inputs(
    typing: Any,
    lanes: Any,
    taps: Any,
    x: Any,
    row: Any,
    pixel: Any,
    rows: Any,
    columns: Any,
    after: Any,
    beyond: Any,
    zero: Any,
    planes: Any,
    plane: Any,
) -> Any:
    """Write Bᵀ d B to planes. The image begins ``rows`` and ``columns`` after d does, and ends ``after``, ``beyond``.

    ``row`` and ``pixel`` are the bytes from one to the next, ``plane`` those from a number of a tile to the next.
    """
    tile = TILES[literal(taps), literal(taps)]

    def write(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        x, row, pixel, rows, columns, after, beyond, zero, planes, plane = arguments[2:]
        v = Vectors(builder, literal(lanes))

        def pixels(inside: Any) -> list[list[Value]]:
            return [
                [v.load(inside(i, j, at(v, x, (i, row), (j, pixel)))) for j in range(tile.n)] for i in range(tile.n)
            ]

        def or_zero(i: int, j: int, address: Value) -> Value:
            ends = [(i, rows, after), (j, columns, beyond)]
            there = [builder.and_(builder.not_(below(v, k, lo)), below(v, k, hi)) for k, lo, hi in ends]
            return builder.select(builder.and_(*there), address, zero)

        for i, numbers in enumerate(transformed(v, tile.BT, pixels(or_zero))):
            for j, vector in enumerate(numbers):
                v.store(vector, at(v, planes, (tile.n * j + i, plane)))
        return context.get_dummy_value()

    return types.void(lanes, taps, *[types.int64] * 10), write


@intrinsic(prefer_literal=True)
def outputs(
    typing: Any,
    lanes: Any,
    taps: Any,
    planes: Any,
    plane: Any,
    y: Any,
    row: Any,
    pixel: Any,
    after: Any,
    beyond: Any,
    spare: Any,
    bias: Any,
    least: Any,
    most: Any,
) -> Any:
    """Write Aᵀ M A plus the bias at an address, clipped; what is after the image's end goes to ``spare``."""
    tile = TILES[literal(taps), literal(taps)]

    def write(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        planes, plane, y, row, pixel, after, beyond, spare, bias, least, most = arguments[2:]
        v = Vectors(builder, literal(lanes))
        M = [[v.load(at(v, planes, (tile.n * j + i, plane))) for j in range(tile.n)] for i in range(tile.n)]
        M[tile.one][tile.one] = builder.fadd(M[tile.one][tile.one], v.spread(v.number(bias)))
        least, most = v.spread(least), v.spread(most)
        for i, numbers in enumerate(transformed(v, tile.AT, M)):
            for j, vector in enumerate(numbers):
                there = builder.and_(below(v, i, after), below(v, j, beyond))
                address = builder.select(there, at(v, y, (i, row), (j, pixel)), spare)
                v.store(v.clip(vector, least, most), address)
        return context.get_dummy_value()

    return types.void(lanes, taps, *[types.int64] * 9, types.float32, types.float32), write


@intrinsic(prefer_literal=True)
def turn(typing: Any, lanes: Any, x: Any, channel: Any, channels: Any, zero: Any, out: Any) -> Any:
    """Write ``lanes`` channels of as many samples of a pixel as vectors of channels, with zeros after the last one."""

    def write(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        x, channel, channels, zero, out = arguments[1:]
        v = Vectors(builder, literal(lanes))
        rows = [v.load(builder.select(below(v, c, channels), at(v, x, (c, channel)), zero)) for c in range(v.lanes)]
        for n, vector in enumerate(turned(v, rows)):
            v.store(vector, at(v, out, (n, v.bytes)))
        return context.get_dummy_value()

    return types.void(lanes, *[types.int64] * 5), write


@intrinsic(prefer_literal=True)
def adjoint(typing: Any, lanes: Any, taps: Any, pixels: Any, pixel: Any, planes: Any, plane: Any) -> Any:
    """Write A x Aᵀ of m×m pixels, vectors of channels, to planes."""
    tile = TILES[literal(taps), literal(taps)]

    def write(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        pixels, pixel, planes, plane = arguments[2:]
        v = Vectors(builder, literal(lanes))
        x = [[v.load(at(v, pixels, (tile.m * i + j, pixel))) for j in range(tile.m)] for i in range(tile.m)]
        for i, numbers in enumerate(transformed(v, tile.AT.T, x)):
            for j, vector in enumerate(numbers):
                v.store(vector, at(v, planes, (tile.n * j + i, plane)))
        return context.get_dummy_value()

    return types.void(lanes, taps, *[types.int64] * 4), write


# Products -----------------------------------------------------------------------------------------------------------
@intrinsic(prefer_literal=True)
def product(
    typing: Any,
    lanes: Any,
    rows: Any,
    vectors: Any,
    a: Any,
    row: Any,
    column: Any,
    length: Any,
    x: Any,
    of_x: Any,
    y: Any,
    of_y: Any,
    add: Any,
) -> Any:
    """Write ``rows`` rows of ``vectors`` vectors: the product of numbers a (rows, length) and x (length, vectors).

    ``row`` and ``column`` are the bytes from a number of a to the next, ``of_x`` and ``of_y`` those of a row of x and
    of y. With ``add`` it is added to what is there.
    """
    R, count = literal(rows), literal(vectors)

    def write(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        a, row, column, length, x, of_x, y, of_y, _ = arguments[3:]
        v = Vectors(builder, literal(lanes))
        sums = [v.variables(count) for _ in range(R)]
        targets = [[at(v, y, (i, of_y), (p, v.bytes)) for p in range(count)] for i in range(R)]
        for variable in chain(*sums):
            builder.store(v.constant(0), variable)
        numbers = [at(v, a, (i, row)) for i in range(R)]
        with cgutils.for_range(builder, length) as k:
            factors = [v.load(at(v, x, (k.index, of_x), (p, v.bytes))) for p in range(count)]
            for ours, number in zip(sums, numbers, strict=True):
                factor = v.spread(v.number(at(v, number, (k.index, column))))
                for variable, vector in zip(ours, factors, strict=True):
                    builder.store(v.fma(factor, vector, builder.load(variable)), variable)
        for ours, theirs in zip(sums, targets, strict=True):
            for variable, target in zip(ours, theirs, strict=True):
                total = builder.load(variable)
                v.store(builder.fadd(total, v.load(target)) if literal(add) else total, target)
        return context.get_dummy_value()

    return types.void(lanes, rows, vectors, *[types.int64] * 8, add), write


@intrinsic(prefer_literal=True)
def add_rows(typing: Any, lanes: Any, rows: Any, factors: Any, x: Any, row: Any, out: Any, vectors: Any) -> Any:
    """Add ``rows`` rows of x times a factor each to ``out``, ``vectors`` vectors of it."""
    R = literal(rows)

    def write(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        factors, x, row, out, vectors = arguments[2:]
        v = Vectors(builder, literal(lanes))
        factors = [v.spread(v.number(at(v, factors, (i, ITEM)))) for i in range(R)]
        rows = [at(v, x, (i, row)) for i in range(R)]
        with cgutils.for_range(builder, vectors) as k:
            target = at(v, out, (k.index, v.bytes))
            total = v.load(target)
            for factor, start in zip(factors, rows, strict=True):
                total = v.fma(factor, v.load(at(v, start, (k.index, v.bytes))), total)
            v.store(total, target)
        return context.get_dummy_value()

    return types.void(lanes, rows, *[types.int64] * 5), write


# One pass -----------------------------------------------------------------------------------------------------------
@cache
def passing(lanes: int, taps: int) -> Any:
    """Return the compiled pass over the tiles of images, by vectors of ``lanes`` samples, ``block`` of them at a time.

    Its arguments are addresses, 0 for what is not wanted, and sizes. It writes the convolution of x (H, C, W, N) to y
    (OH, F, OW, N), and the sum of the products of x's tiles with those of ``other``, which is as large as y, to dU
    (n·n, C, F), whose rows are whole vectors. On the way it sums up the pixels of both, as :class:`Pixels` does.
    """
    m, n = TILES[taps, taps].m, TILES[taps, taps].n
    points, bytes = n * n, lanes * ITEM
    vectors = 4 if registers() > 16 else 2  # of a row of M, as many as are summed up in registers

    @compiled
    def go(  # type: ignore[no-untyped-def]
        x, y, other, U, of_filter, of_channel, bias, of_bias, dU, X, V, M, spare, sums, factors, kinds, together,
        other_sums, other_factors, other_kinds, other_together, block, H, C, W, N, OH, F, OW, top, left, least, most
    ):  # fmt: skip
        def sum_pixels(image, done, end, together, kinds, factors, sums, channels, numbers):  # type: ignore[no-untyped-def]
            """Sum up rows of an image, ``together`` at a time, as far as they are before ``end``."""
            while done + together <= end:
                for kind in range(kinds):
                    out = sums + (done // together * kinds + kind) * numbers * ITEM
                    tail, length = numbers // lanes * bytes, channels * together
                    put_zeros(out, numbers)
                    for k in range(0, length - TOGETHER + 1, TOGETHER):
                        f, source = factors + (kind * length + k) * ITEM, image + (done * channels + k) * numbers * ITEM
                        add_rows(lanes, TOGETHER, f, source, numbers * ITEM, out, numbers // lanes)
                        add_rows(1, TOGETHER, f, source + tail, numbers * ITEM, out + tail, numbers % lanes)
                    for k in range(length // TOGETHER * TOGETHER, length):
                        f, source = factors + (kind * length + k) * ITEM, image + (done * channels + k) * numbers * ITEM
                        add_rows(1, 1, f, source, numbers * ITEM, out, numbers)
                done += together
            return done

        rows, columns, chunks = (OH + m - 1) // m, (OW + m - 1) // m, (N + lanes - 1) // lanes
        pixel = N * ITEM
        channel, filter = W * pixel, OW * pixel
        row, out_row = C * channel, F * filter
        width, wide = block * bytes, (F + lanes - 1) // lanes * bytes  # bytes of a row of V and M, and of X and dU
        of_V, of_M, of_X = C * width + LINE * ITEM, FILTERS * width + LINE * ITEM, block * lanes * wide + LINE * ITEM
        zero, nowhere, pixels = spare, spare + bytes, spare + 2 * bytes
        put_zeros(zero, lanes)
        if other:
            put_zeros(dU, points * C * wide // ITEM)
        done = other_done = 0
        for start in range(0, rows * columns * chunks, block):
            count = min(block, rows * columns * chunks - start)
            last = (start + count - 1) // chunks // columns * m  # row of outputs
            end = min(H, last - top + n)
            done = sum_pixels(x, done, end, together, kinds, factors, sums, C, W * N)  # type: ignore[no-untyped-call]
            for i in range(count):
                tile, s = (start + i) // chunks, min((start + i) % chunks * lanes, N - lanes)
                h, w = tile // columns * m - top, tile % columns * m - left
                source, target = x + h * row + w * pixel + s * ITEM, V + i * bytes
                for _ in range(C):
                    inputs(lanes, taps, source, row, pixel, -h, -w, H - h, W - w, zero, target, of_V)
                    source, target = source + channel, target + width
            if y:
                for group in range(0, F, FILTERS):
                    f = min(group, F - FILTERS)
                    for k in range(points):
                        for i in range(0, count * bytes, vectors * bytes):
                            u, v, p = U + k * C * F * ITEM + f * of_filter, V + k * of_V + i, M + k * of_M + i
                            product(lanes, FILTERS, vectors, u, of_filter, of_channel, C, v, width, p, width, 0)
                    for i in range(count):
                        tile, s = (start + i) // chunks, min((start + i) % chunks * lanes, N - lanes)
                        h, w = tile // columns * m, tile % columns * m
                        below, right = OH - h, OW - w
                        source, b = M + i * bytes, bias + f * of_bias
                        target = y + h * out_row + f * filter + w * pixel + s * ITEM
                        for _ in range(FILTERS):
                            outputs(
                                lanes, taps, source, of_M, target, out_row, pixel, below, right, nowhere, b, least, most
                            )  # fmt: skip
                            source, target, b = source + width, target + filter, b + of_bias
            if other:
                end = min(OH, last + m)
                other_done = sum_pixels(  # type: ignore[no-untyped-call]
                    other, other_done, end, other_together, other_kinds, other_factors, other_sums, F, OW * N
                )
                for i in range(count):
                    tile, chunk = (start + i) // chunks, (start + i) % chunks
                    s = min(chunk * lanes, N - lanes)
                    h, w = tile // columns * m, tile % columns * m
                    for f in range(0, F, lanes):
                        for a in range(m):
                            for b in range(m):
                                there = F - f if h + a < OH and w + b < OW else 0
                                source = other + (h + a) * out_row + f * filter + (w + b) * pixel + s * ITEM
                                turn(lanes, source, filter, there, zero, pixels + (m * a + b) * lanes * bytes)
                        target = X + i * lanes * wide + f * ITEM
                        for p in range(lanes):
                            if s + p < chunk * lanes:  # a sample of the chunk before
                                adjoint(lanes, taps, zero, 0, target + p * wide, of_X)
                            else:
                                adjoint(lanes, taps, pixels + p * bytes, lanes * bytes, target + p * wide, of_X)
                for k in range(points):
                    for f in range(0, wide, bytes):
                        v, p, target, samples = V + k * of_V, X + k * of_X + f, dU + k * C * wide + f, count * lanes
                        for _ in range(C // SUMS):
                            product(lanes, SUMS, 1, v, width, ITEM, samples, p, wide, target, wide, 1)
                            v, target = v + SUMS * width, target + SUMS * wide
                        for _ in range(C % SUMS):
                            product(lanes, 1, 1, v, width, ITEM, samples, p, wide, target, wide, 1)
                            v, target = v + width, target + wide

    return go


# The algorithm ------------------------------------------------------------------------------------------------------
class Winograd(textbook.Winograd):
    """The r×r convolution at stride 1 of images (H, C, W, N) with F filters: sizes and scratch, but no images."""

    def __init__(self, x: Shape, F: int, window: Window, tuning: Tuning) -> None:
        super().__init__(x, F, window, tuning)
        tile, (C, N), (OH, OW) = self.tile, x[1::2], window.output_size((x[0], x[2]))
        #: numbers of a vector, at most the samples, and vectors at a time
        self.lanes, self.block = min(lanes(), 1 << N.bit_length() - 1), BLOCK if max(C, F) > FEW else 2 * BLOCK
        width, wide = self.block * self.lanes, -(-C // self.lanes) * self.lanes
        U, by_tap = Spec((tile.n, tile.n, F, C), "float32"), Spec((tile.r**2, F, C), "float32")
        M, X = (Spec((tile.n**2, width * most + LINE), "float32") for most in (FILTERS, wide))
        of_x, of_dy = (Spec((tile.n**2, width * channels + LINE), "float32") for channels in (C, F))
        spare, dU = Spec((2 + tile.m**2 * self.lanes, self.lanes), "float32"), Spec((*U.shape[:3], wide), "float32")
        looks = [Pixels.spec(x), Pixels.spec((OH, F, OW, N))]
        self.scratch = {
            "conv2d": [U, of_x, M, spare, looks[0]],
            "conv2d_input_grad": [U, of_dy, M, spare, looks[1]],
            "conv2d_weight_grad": [of_dy, M, spare, dU, X, by_tap, *looks],
            "conv2d_grads": [U, of_dy, M, spare, dU, X, by_tap, *looks],
        }

    @property
    def exists(self) -> bool:
        """Whether it fits the sizes: channels and filters for a block, and images for more tiles than NumPy's wants.

        What it is compared with, direct convolution, takes less time than products of rows.
        """
        (C, N), (OH, OW) = self.x[1::2], self.window.output_size((self.x[0], self.x[2]))
        columns = -(-OH // self.tile.m) * -(-OW // self.tile.m) * N + self.tuning.winograd_more_columns + MORE_COLUMNS
        return min(C, self.F) >= FILTERS and self.tile.n**2 * columns <= self.tile.r**2 * OH * OW * N

    def conv2d(
        self,
        x: np.ndarray,
        w: np.ndarray,
        b: np.ndarray | None,
        activation: str | None,
        y: np.ndarray,
        scratch: Sequence[np.ndarray],
    ) -> Iterator[Call]:
        """Write the convolution with w (F, C, r, r), bias and activation into y (OH, F, OW, N)."""
        U, *block, sums = scratch
        ends = bounds(activation)
        calls = chain(
            filters(w, self.tile, U),
            self._pass(Pixels(x, sums), block, y, U, b, ends or NONE, flip=False),
            [] if ends or not activation else [activating(y, activation, y)],
        )
        yield checked(calls, partial(self._conv2d_rows, x, w, b, activation, y))

    def input_grad(
        self, dy: np.ndarray, w: np.ndarray, dx: np.ndarray, scratch: Sequence[np.ndarray]
    ) -> Iterator[Call]:
        """Write the convolution of dy with the flipped weight into dx (H, C, W, N)."""
        U, *block, sums = scratch
        convolution = self._pass(Pixels(dy, sums), block, dx, U)
        yield checked(
            chain(filters(w, self.tile, U, flip=True), convolution), partial(self._input_grad_rows, dy, w, dx)
        )

    def weight_grad(
        self, x: np.ndarray, dy: np.ndarray, dw: np.ndarray, scratch: Sequence[np.ndarray]
    ) -> Iterator[Call]:
        """Write ``dw = Gᵀ · Σ V · Xᵀ · G`` into dw (F, C, r, r), where V is of dy and the weight flipped."""
        *block, dU, X, by_tap, of_x, of_dy = scratch
        sums = self._pass(Pixels(dy, of_dy), block, sums=(dU, X), other=Pixels(x, of_x))
        stored = store(dU[..., : x.shape[1]], self.tile, by_tap, dw, flip=True)
        yield checked(chain(sums, stored), partial(self._weight_grad_rows, x, dy, dw))

    def grads(
        self,
        x: np.ndarray,
        dy: np.ndarray,
        w: np.ndarray,
        dw: np.ndarray,
        dx: np.ndarray,
        scratch: Sequence[np.ndarray],
    ) -> Iterator[Call]:
        """Write both gradients of the tiles of dy, transformed once."""
        U, *block, dU, X, by_tap, of_x, of_dy = scratch
        both = self._pass(Pixels(dy, of_dy), block, dx, U, sums=(dU, X), other=Pixels(x, of_x))
        stored = store(dU[..., : x.shape[1]], self.tile, by_tap, dw, flip=True)
        by_rows = [partial(self._weight_grad_rows, x, dy, dw), partial(self._input_grad_rows, dy, w, dx)]
        yield checked(chain(filters(w, self.tile, U, flip=True), both, stored), partial(run, by_rows))

    def _pass(
        self,
        x: Pixels,
        block: Sequence[np.ndarray],
        y: np.ndarray | None = None,
        U: np.ndarray | None = None,
        bias: np.ndarray | None = None,
        ends: tuple[float, float] = NONE,
        sums: Sequence[np.ndarray] = (),
        other: Pixels | None = None,
        flip: bool = True,
    ) -> Iterator[Call]:
        """Yield the pass over x, and the looks at the pixels.

        It writes y, if it is there, by U (n, n, F, C), or that of the flipped weight; and, with ``other`` images, to
        ``sums``, which are dU and X.
        """
        window = self.window.flipped if flip else self.window
        assert window is not None
        (top, _), (left, _) = window.padding
        images = [x] if other is None else [x, other]
        written = images[-1].x if y is None else y
        target, after = (None, []) if y is None else to_write(y, y.shape)
        (source, *others), copies = contiguous(*(pixels.x for pixels in images))
        filter, channel = ITEM * x.x.shape[1], ITEM
        if flip:
            filter, channel = ITEM, ITEM * written.shape[1]
        looks = [some for p in images for some in (p.sums, p.factors, len(p.factors), p.together)]
        arguments = [
            *(source, target, others[0] if others else None, U, filter, channel),
            *((zeros(1, source.dtype), 0) if bias is None else (bias, ITEM)),
            *(sums or (None, None)),
            *block,
            *looks,
            *[0] * (8 - len(looks)),
            *(self.block, *source.shape, *written.shape[:3], top, left, *map(np.float32, ends)),
        ]
        yield from copies
        yield calling(passing(self.lanes, self.tile.r), *(0 if some is None else some for some in arguments))
        for pixels in images:
            *_, look = pixels.until(len(pixels.x))
            yield look
        yield from after
