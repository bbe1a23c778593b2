"""Pooling: each output, or each pixel's gradient, is gathered in a register from all that it sees.

Along an axis an output sees inputs at equal distances, and an input is seen by outputs at equal distances: a
:class:`Seen`. Neighbours that see the same taps are a *run* of numbers (samples, and pixels at stride 1), which is
computed as vectors. Vectors of a run may overlap, since each writes what it alone has computed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import cache, lru_cache, partial
from math import gcd, inf
from typing import Any, NamedTuple

import numpy as np
from im2colnet_numpy.pooling import NumpyPooling
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from im2colnet.backend.kernel import kernel
from im2colnet.backend.pooling import position_type
from im2colnet.types import Call, Spec
from im2colnet.window import Pair, Window
from im2colnet_numba.arrays import fits, seen_as, to_write
from im2colnet_numba.compile import compiled
from im2colnet_numba.vectors import ITEM, Vectors, address, integer, literal

Array = np.ndarray


# What sees what -----------------------------------------------------------------------------------------------------
class Seen(NamedTuple):
    """What a position of an axis sees along it: places ``first, first + step, ...``, by taps at equal distances."""

    first: int
    tap: int  #: of the first place
    places: int
    size: int = 1  #: what the average along the axis is divided by


class Along(NamedTuple):
    """What each position of an axis sees."""

    seen: tuple[Seen, ...]
    step: int  #: from a place to the next
    taps: int  #: from the tap of a place to that of the next

    def rows(self) -> Array:
        """Return (first, tap, places, size) of each position."""
        return np.array(self.seen, "i8").reshape(-1, 4)

    def runs(self, N: int) -> Array:
        """Return (start, length, first, tap, places, size) of runs of numbers, N of each position."""
        found: list[list[int]] = []
        for position, (first, *of_taps) in enumerate(self.seen):
            start, length, before, *others = found[-1] if found else (0, 0, 0)
            if others == of_taps and first * N == before + length and of_taps[1]:
                found[-1][1] += N
            else:
                found.append([position * N, N, first * N, *of_taps])
        return np.array(found, "i8").reshape(-1, 6)


@lru_cache(maxsize=1024)
def outputs_see(window: Window, axis: int, size: int, out: int, counts: tuple[int, ...]) -> Along:
    """Return which inputs each of ``out`` outputs sees; ``counts`` are their ``size``."""
    (stride, dilation, kernel), (before, _) = _of_axis(window, axis), window.padding[axis]
    seen = []
    for o in range(out):
        start = o * stride - before
        taps = range(max(0, -(start // dilation)), min(kernel, (size - 1 - start) // dilation + 1))
        seen.append(Seen(start + taps.start * dilation if taps else 0, taps.start if taps else 0, len(taps), counts[o]))
    return Along(tuple(seen), dilation, 1)


@lru_cache(maxsize=1024)
def inputs_see(window: Window, axis: int, size: int, out: int) -> Along:
    """Return which outputs each of ``size`` inputs is seen by: solutions of ``o·stride + k·dilation = input + before``.

    From one to the next o grows by dilation / g, and k falls by stride / g, where g is their greatest common divisor.
    """
    (stride, dilation, kernel), (before, _) = _of_axis(window, axis), window.padding[axis]
    g = gcd(stride, dilation)
    step = dilation // g
    inverse = pow(stride // g, -1, step) if step > 1 else 0
    seen = []
    for i in range(size):
        total = i + before
        least = max(0, -(((kernel - 1) * dilation - total) // stride))  # its tap is the last or one before
        first = least + (total // g * inverse - least) % step
        found = range(first, min(out, total // stride + 1), step) if total % g == 0 else range(0)
        seen.append(Seen(first, (total - first * stride) // dilation, len(found)) if found else Seen(0, 0, 0))
    return Along(tuple(seen), step, -(stride // g))


def _of_axis(window: Window, axis: int) -> tuple[int, int, int]:
    return window.stride[axis], window.dilation[axis], window.kernel[axis]


# The loops ----------------------------------------------------------------------------------------------------------
LARGEST, LARGEST_AND_WHERE, SUM, SUM_WHERE, SPREAD = range(5)
LONG, SHORT = 32, 8  # numbers of a vector: LLVM cuts it to registers


@intrinsic(prefer_literal=True)
def gather(
    typing: Any,
    how: Any,
    lanes: Any,
    item: Any,
    x: Any,
    where: Any,
    rows: Any,
    row: Any,
    columns: Any,
    column: Any,
    tap: Any,
    row_tap: Any,
    column_tap: Any,
    factor: Any,
    y: Any,
    where_out: Any,
) -> Any:
    """Write a vector of what is seen at x, x + column, ... and in the ``rows`` from there on, to y.

    LARGEST: the largest number, or the last NaN; LARGEST_AND_WHERE: its tap too, to ``where_out``; SUM: the sum times
    ``factor``; SUM_WHERE: the sum of the numbers beside which, at ``where``, the tap that sees them stands. SPREAD goes
    the other way: y is written to the place whose tap stands at ``where_out``, and 0 to the others. Distances are in
    numbers; a tap has ``item`` bytes.
    """
    mode, places = literal(how), ir.VectorType(ir.IntType(32), literal(lanes))
    narrow, finds = ir.VectorType(ir.IntType(8 * literal(item)), literal(lanes)), mode in (LARGEST, LARGEST_AND_WHERE)

    def write(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        x, where, rows, row, columns, column, tap, row_tap, column_tap, factor, y, where_out = arguments[3:]
        v = Vectors(builder, literal(lanes))

        def spread(number: Any) -> Any:
            undefined = ir.Constant(places, ir.Undefined)
            number = builder.trunc(number, ir.IntType(32))
            first = builder.insert_element(undefined, number, ir.Constant(ir.IntType(32), 0))
            return builder.shuffle_vector(first, undefined, ir.Constant(places, [0] * v.lanes))

        def pointer(address: Any) -> Any:
            return builder.inttoptr(address, narrow.as_pointer())

        def taps_at(address: Any) -> Any:
            taps = builder.load(pointer(address))
            taps.align = literal(item)
            return builder.zext(taps, places) if literal(item) < 4 else taps

        (best,), place = v.variables(1), cgutils.alloca_once(builder, places)
        builder.store(v.constant(-inf) if finds else v.load(y) if mode == SPREAD else v.constant(0), best)
        builder.store(taps_at(where_out) if mode == SPREAD else spread(tap), place)
        with cgutils.for_range(builder, rows) as i, cgutils.for_range(builder, columns) as j:
            at = builder.add(builder.mul(i.index, row), builder.mul(j.index, column))
            seen = builder.add(x, builder.mul(at, integer(ITEM)))
            k = builder.add(builder.mul(i.index, row_tap), builder.mul(j.index, column_tap))
            k, so_far = spread(builder.add(tap, k)), builder.load(best)
            if mode == SPREAD:
                mine = builder.icmp_signed("==", builder.load(place), k)
                v.store(builder.select(mine, so_far, v.constant(0)), seen)
            elif mode == SUM:
                builder.store(builder.fadd(so_far, v.load(seen)), best)
            elif mode == SUM_WHERE:
                taps = taps_at(builder.add(where, builder.mul(at, integer(literal(item)))))
                mine = builder.icmp_signed("==", taps, k)
                builder.store(builder.fadd(so_far, builder.select(mine, v.load(seen), v.constant(0))), best)
            else:
                number = v.load(seen)
                better = builder.fcmp_ordered(">", number, so_far)
                better = builder.or_(better, builder.fcmp_unordered("uno", number, number))
                builder.store(builder.select(better, number, so_far), best)
                builder.store(builder.select(better, k, builder.load(place)), place)
        if mode != SPREAD:
            found = builder.load(best)
            v.store(builder.fmul(found, v.spread(factor)) if mode == SUM else found, y)
        if mode == LARGEST_AND_WHERE:
            taps = builder.load(place)
            taps = builder.trunc(taps, narrow) if literal(item) < 4 else taps
            builder.store(taps, pointer(where_out)).align = literal(item)
        return context.get_dummy_value()

    number = types.int64
    return types.void(*(how, lanes, item), *(number,) * 9, types.float32, number, number), write


@cache
def gathering(how: int, item: int) -> Callable[..., None]:
    """Compile the loop over all outputs y (rows, C, numbers of a line) that gathers them from x.

    ``rows`` and ``runs`` are what they see (:class:`Along`); ``row`` is the distance of rows that are seen, ``column``
    that of columns; ``where`` (like x, or like y) has the taps of maxima, of ``item`` bytes each.
    """

    @compiled
    def gather_all(  # type: ignore[no-untyped-def]
        x, y, where, rows, runs, C, line_x, line_y, row, column, row_tap, column_tap, KW
    ):
        factor = np.float32(1)
        for r in range(len(rows)):
            first, i, down, height = rows[r, 0], rows[r, 1], rows[r, 2], rows[r, 3]
            for c in range(C):
                from_x, to_y = (first * C + c) * line_x, (r * C + c) * line_y
                for k in range(len(runs)):
                    length, j, across = runs[k, 1], runs[k, 3], runs[k, 4]
                    to, at = to_y + runs[k, 0], from_x + runs[k, 2]
                    tap = i * KW + j if down > 0 and across > 0 else 0
                    if how == SUM:
                        factor = np.float32(1) / np.float32(max(height * runs[k, 5], 1))
                    source, of_source = x + ITEM * at, where + item * at
                    target, of_target = y + ITEM * to, where + item * to
                    n = 0
                    while n < length:
                        if length >= LONG:
                            n = min(n, length - LONG)
                            gather(
                                how, LONG, item, source + ITEM * n, of_source + item * n, down, row, across, column,
                                tap, row_tap, column_tap, factor, target + ITEM * n, of_target + item * n,
                            )  # fmt: skip
                            n += LONG
                        elif length >= SHORT:
                            n = min(n, length - SHORT)
                            gather(
                                how, SHORT, item, source + ITEM * n, of_source + item * n, down, row, across, column,
                                tap, row_tap, column_tap, factor, target + ITEM * n, of_target + item * n,
                            )  # fmt: skip
                            n += SHORT
                        else:
                            gather(
                                how, 1, item, source + ITEM * n, of_source + item * n, down, row, across, column,
                                tap, row_tap, column_tap, factor, target + ITEM * n, of_target + item * n,
                            )  # fmt: skip
                            n += 1

    return gather_all


def gathered(how: int, x: Array, y: Array, where: Array | None, down: Along, across: Along, KW: int) -> Iterator[Call]:
    """Yield the calls that gather images y from x, both (H, C, W, N); ``where`` has the taps of maxima."""
    C, N = y.shape[1], y.shape[3]
    loop = gathering(how, 1 if where is None else where.itemsize)
    line_x, line_y = x.shape[2] * N, y.shape[2] * N
    sizes = C, line_x, line_y, down.step * C * line_x, across.step * N, down.taps * KW, across.taps, KW
    rows, runs = down.rows(), across.runs(N)

    def call(x: Array, y: Array, where: Array) -> None:
        loop(address(x), address(y), address(where), rows, runs, *sizes)

    writes = {LARGEST_AND_WHERE: (1, 2), SPREAD: (0,)}.get(how, (1,))
    return seen_as(np.shape, call, x, y, y if where is None else where, writes=writes)


def compiles(x: Spec | Array, window: Window) -> bool:
    """Whether windows of these images are long enough for vectors: of few samples only at stride 1."""
    return np.dtype(x.dtype) == np.float32 and (x.shape[3] >= SHORT or window.stride[1] == 1)


def _scratch(name: str) -> Callable[..., list[Spec]]:
    """Return the rule of scratch: what is compiled needs none, other images what NumPy's kernel does."""

    def scratch(backend: Any, x: Spec, window: Window, **others: Any) -> list[Spec]:
        if (others.get("positions") is not None and x.dtype == "float32") or compiles(x, window):
            return []
        found: list[Spec] = getattr(NumpyPooling, name).scratch(backend, {"x": x, "window": window} | others)
        return found

    return scratch


def _max_grad_scratch(
    backend: Any, x: Spec, y: Spec, dy: Spec, window: Window, positions: Spec | None = None
) -> list[Spec]:
    """Scratch: without positions those of float32 are found again, beside the maxima."""
    if dy.dtype != "float32":
        return NumpyPooling.max_pool2d_grad.scratch(
            backend, {"x": x, "y": y, "dy": dy, "window": window, "positions": positions}
        )
    return [] if positions else [dy, Spec(dy.shape, position_type(window))]


class NumbaPooling(NumpyPooling):
    """Pooling on the CPU."""

    def saves_positions(self, window: Window) -> bool:
        return True

    @kernel(scratch=_scratch("max_pool2d"))
    def max_pool2d(
        self, x: Array, window: Window, positions: Any = None, out: Any = None, scratch: Any = None
    ) -> Iterator[Call]:
        if not fits(x, out) or not (compiles(x, window) or positions is not None):
            yield from super().max_pool2d.prepare(x, window, positions, out=out, scratch=scratch)
            return
        how, where = (LARGEST, None) if positions is None else (LARGEST_AND_WHERE, positions)
        yield from gathered(how, x, out, where, *_of_outputs(window, x, out), window.kernel[1])

    @kernel(scratch=_max_grad_scratch)
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
        if not fits(x, dy, out):
            yield from super().max_pool2d_grad.prepare(x, y, dy, window, positions, out=out, scratch=scratch)
            return
        where = positions
        if where is None:
            maxima, where = scratch
            yield from gathered(LARGEST_AND_WHERE, x, maxima, where, *_of_outputs(window, x, dy), window.kernel[1])
        if window.overlaps:
            yield from gathered(SUM_WHERE, dy, out, where, *_of_inputs(window, dy, out), window.kernel[1])
            return
        dx, after = to_write(out, out.shape)
        if not window.tiles((out.shape[0], out.shape[2])):
            yield partial(dx.fill, 0)
        yield from gathered(SPREAD, dx, dy, where, *_of_outputs(window, dx, dy), window.kernel[1])
        yield from after

    @kernel(scratch=_scratch("avg_pool2d"))
    def avg_pool2d(
        self,
        x: Array,
        window: Window,
        count_include_pad: bool = True,
        divisor: int | None = None,
        out: Any = None,
        scratch: Any = None,
    ) -> Iterator[Call]:
        if not (fits(x, out) and compiles(x, window)):
            yield from super().avg_pool2d.prepare(x, window, count_include_pad, divisor, out=out, scratch=scratch)
            return
        (H, _, W, _), (OH, _, OW, _) = x.shape, out.shape
        sizes = ([divisor] * OH, [1] * OW) if divisor else window.counts((H, W), count_include_pad)
        yield from gathered(SUM, x, out, None, *_of_outputs(window, x, out, sizes), window.kernel[1])

    @kernel()
    def avg_pool2d_grad(
        self,
        dy: Array,
        size: Pair,
        window: Window,
        count_include_pad: bool = True,
        divisor: int | None = None,
        out: Any = None,
        scratch: Any = None,
    ) -> Iterator[Call]:
        if not (fits(dy, out) and compiles(dy, window)):
            yield from super().avg_pool2d_grad.prepare(
                dy, size, window, count_include_pad, divisor, out=out, scratch=scratch
            )
            return
        (spread,) = scratch
        shares = 1 / divisor if divisor else self.pool_shares(window, size, count_include_pad, dy.dtype.name)
        yield partial(np.multiply, dy, shares, out=spread)
        yield from gathered(SUM, spread, out, None, *_of_inputs(window, spread, out), window.kernel[1])


def _of_outputs(
    window: Window, x: Array, y: Array, sizes: Sequence[Sequence[int]] | None = None
) -> tuple[Along, Along]:
    """Return what the rows and the columns of outputs y see of x."""
    rows, columns = sizes or ([1] * y.shape[0], [1] * y.shape[2])
    return (
        outputs_see(window, 0, x.shape[0], y.shape[0], tuple(rows)),
        outputs_see(window, 1, x.shape[2], y.shape[2], tuple(columns)),
    )


def _of_inputs(window: Window, dy: Array, dx: Array) -> tuple[Along, Along]:
    """Return which of the outputs dy the rows and the columns of inputs dx are seen by."""
    return (
        inputs_see(window, 0, dx.shape[0], dy.shape[0]),
        inputs_see(window, 1, dx.shape[2], dy.shape[2]),
    )
