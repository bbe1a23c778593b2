"""Normalization by kernels of its own (``kernels/normalization.cu``): nothing waits for the device."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import lru_cache, partial
from itertools import groupby
from math import prod
from operator import setitem
from typing import Any, NamedTuple

from im2colnet.backend.kernel import kernel
from im2colnet.backend.normalization import Normalization, Statistics
from im2colnet.types import Call, Shape, Spec, accumulator
from im2colnet_cupy import cuda, sums
from im2colnet_cupy.activation import kind_arguments
from im2colnet_cupy.cuda import prepared

Array = Any
FILE = "normalization.cu"
LANES = 32  # threads that read samples side by side, at most
ENOUGH_BLOCKS = 1024  # blocks of a launch that leave no part of a GPU idle


def _parts(backend: Any, x: Spec, **others: Any) -> list[Spec]:
    return [Spec((sums.SUM_BLOCKS, 2, x.shape[1]), "float64")]


class Sets(NamedTuple):
    """Sets of numbers of one sample: place ((k0·O0 + o0)·K1 + k1)·O1 + o1 of N samples belongs to set (k0, k1)."""

    K0: int
    O0: int
    K1: int
    O1: int
    N: int

    @property
    def number(self) -> int:
        """Sets of a sample."""
        return self.K0 * self.K1

    @property
    def arguments(self) -> tuple[int, ...]:
        """Arguments of a kernel: the number of sets, and the sizes."""
        return self.number, *self[1:]

    @property
    def members(self) -> int:
        return self.O0 * self.O1

    @property
    def places(self) -> int:
        return self.number * self.members

    @property
    def width(self) -> int:
        """Threads that read samples side by side, a power of two."""
        return min(LANES, 1 << (self.N - 1).bit_length(), cuda.THREADS)

    @property
    def grid(self) -> tuple[int, int]:
        """Blocks that add up sets: for each set and ``width`` samples, and the parts into which its members are cut."""
        blocks, rows = self.number * -(-self.N // self.width), cuda.THREADS // self.width
        return blocks, max(1, min(sums.SUM_BLOCKS, self.members // (4 * rows), ENOUGH_BLOCKS // blocks))


def sets_of(x: Shape, over: tuple[int, ...], *parameters: Spec | Array | None) -> Sets | None:
    """Return the sets of x, or None where they are too scattered for the kernels, or a parameter has a batch."""
    *axes, N = x
    long = [axis for axis, n in enumerate(axes) if n != 1]
    runs = [(within, prod(axes[axis] for axis in run)) for within, run in groupby(long, lambda axis: axis in over)]
    if runs and runs[0][0]:
        runs.insert(0, (False, 1))
    if len(runs) > 4 or any(each is not None and each.shape[-1:] not in ((), (1,)) for each in parameters):
        return None
    K0, O0, K1, O1, *_ = [n for _, n in runs] + 4 * [1]
    return Sets(K0, O0, K1, O1, N)


def _set_norm(backend: Any, x: Spec, over: tuple[int, ...], **others: Any) -> list[Spec]:
    given = [each for each in (others.get("weight"), others.get("bias")) if each is not None]
    sets = sets_of(x.shape, over, *given)
    if sets is None:
        return Normalization.set_norm.scratch(backend, {"x": x, "over": over} | others)
    return [_partial(sets), *[Spec((sets.places,), accumulator(x.dtype)) for _ in given]]


def _set_norm_grads(backend: Any, x: Spec, over: tuple[int, ...], **others: Any) -> list[Spec]:
    weight, gradients = others.get("weight"), [others.get("dweight"), others.get("dbias")]
    sets = sets_of(x.shape, over, weight, *gradients)
    if sets is None:
        return Normalization.set_norm_grads.scratch(backend, {"x": x, "over": over} | others)
    wide = accumulator(x.dtype)
    found = [_partial(sets), Spec((2, sets.number, sets.N), wide)]
    if weight is not None:
        found.append(Spec((sets.places,), wide))
    asked = [each for each in gradients if each is not None]  # both are of one shape
    if asked:
        found += [Spec((2, *x.shape[:-1], 1), "float64"), Spec(asked[0].shape, "float64")]
    return found


def _partial(sets: Sets) -> Spec:
    """Return what the blocks add to the sums of sets."""
    return Spec((sets.grid[1], 2, sets.number, sets.N), "float64")


class CupyNormalization(Normalization):
    """Normalization on the GPU."""

    @kernel(scratch=_parts)
    def batch_norm_sums(self, x: Array, out: Array = None, scratch: Any = None) -> Iterator[Call]:
        ((parts,), (H, C, M)) = scratch, sums.matrices(x)
        yield sums.channel_sums(1, x, x, parts, parts)
        yield prepared(FILE, "moments", x, parts, x, out, sums.SUM_BLOCKS, H, C, M, elements=C)

    @kernel(scratch=_parts)
    def batch_norm_grad_sums(
        self,
        x: Array,
        mean: Array,
        dy: Array,
        y: Array | None = None,
        activation: str | None = None,
        dz: Array = None,
        out: Array = None,
        scratch: Any = None,
    ) -> Iterator[Call]:
        (parts,) = scratch
        if activation:
            yield sums.slope_sums(dy, x, mean, y, activation, dz, parts)
        else:
            yield sums.channel_sums(2, dy, x, mean, parts)
        yield sums.join(parts, out)

    def batch_norm_statistics(
        self, sums: Array, n: int, eps: float, weight: Array | None, bias: Array | None
    ) -> Statistics:
        rows = self.batch_norm_line(sums, n, lambda: eps, weight, bias)
        return Statistics(*(rows[k] for k in range(len(rows))))

    @kernel()
    def batch_norm_line(
        self,
        sums: Array,
        n: int,
        eps: Callable[[], float],
        weight: Array | None = None,
        bias: Array | None = None,
        out: Array = None,
    ) -> Iterator[Call]:
        C, given = sums.shape[1], [array for array in (weight, bias) if array is not None]
        any_of_them = given[0] if given else sums  # stands for one that is not given; the kernel does not read it
        w, b = (any_of_them if array is None else array for array in (weight, bias))

        @lru_cache(maxsize=1)  # eps may be another one at the next call
        def write(eps: float) -> Call:
            arguments = C, float(n), eps, weight is not None, bias is not None
            return prepared(FILE, "statistics", w, sums, w, b, out, *arguments, elements=C)

        yield lambda: write(float(eps()))()

    def batch_norm_input_grad(self, sums: Array, n: int, of: Statistics) -> tuple[Array, Array]:
        line = self.batch_norm_grad_line(sums, n, of)
        return line[0], line[1]

    @kernel()
    def batch_norm_grad_line(self, sums: Array, n: int, of: Statistics, out: Array = None) -> Iterator[Call]:
        C = sums.shape[1]
        yield prepared(FILE, "input_grad", out, sums, of.mean, of.inverse, of.scale, out, C, float(n), elements=C)

    @kernel()
    def batch_norm_running(self, of: Statistics, n: int, momentum: float, mean: Array, var: Array) -> Iterator[Call]:
        numbers = mean.size, float(momentum), n / (n - 1)
        yield prepared(FILE, "running", mean, of.mean, of.var, mean, var, *numbers)

    @kernel()
    def channel_affine(
        self,
        x: Array,
        scale: Array,
        shift: Array,
        other: Array | None = None,
        other_scale: Array | None = None,
        activation: str | None = None,
        out: Array = None,
        scratch: Any = None,
    ) -> Iterator[Call]:
        second, b = (x, scale) if other is None else (other, other_scale)
        H, C, M = sums.matrices(x)
        arguments, grid = (H, C, M, other is not None, *kind_arguments(activation)), cuda.row_grid(H * C, M)
        yield prepared(FILE, "affine", out, x, scale, shift, second, b, out, *arguments, grid=grid)

    @kernel(scratch=_set_norm)
    def set_norm(
        self,
        x: Array,
        over: tuple[int, ...],
        eps: float | Callable[[], float],
        weight: Array | None = None,
        bias: Array | None = None,
        inverse: Array = None,
        mean: Array | None = None,
        rest: Array | None = None,
        out: Array = None,
        scratch: Any = None,
    ) -> Iterator[Call]:
        sets = sets_of(x.shape, over, weight, bias)
        if sets is None:
            yield from super().set_norm.prepare(
                x, over, eps, weight, bias, inverse, mean, rest, out=out, scratch=scratch
            )
            return
        parts, *of_places = scratch
        statistics = (inverse, inverse, inverse) if mean is None else (inverse, mean, rest)
        centred, of = mean is not None, sets.arguments
        yield prepared(FILE, "set_sums", x, x, parts, *of, sets.width, centred, grid=sets.grid)

        @lru_cache(maxsize=1)  # eps may be another one at the next call
        def write_statistics(eps: float) -> Call:
            arguments = *statistics, len(parts), *of, eps, centred
            return prepared(FILE, "set_statistics", x, parts, x, *arguments, elements=inverse.size)

        yield lambda: write_statistics(float(eps() if callable(eps) else eps))()
        affine = [inverse, inverse]  # stands for one that is not given, as above
        for k, parameter in enumerate((weight, bias)):
            if parameter is not None:
                affine[k] = of_places.pop()
                yield partial(setitem, affine[k].reshape((*x.shape[:-1], 1)), ..., parameter)
        given = centred, weight is not None, bias is not None
        yield prepared(FILE, "set_norm", out, x, *statistics, *affine, out, *of, *given)

    @kernel(scratch=_set_norm_grads)
    def set_norm_grads(
        self,
        x: Array,
        dy: Array,
        over: tuple[int, ...],
        inverse: Array,
        mean: Array | None = None,
        rest: Array | None = None,
        weight: Array | None = None,
        dweight: Array | None = None,
        dbias: Array | None = None,
        dx: Array | None = None,
        scratch: Any = None,
    ) -> Iterator[Call]:
        sets = sets_of(x.shape, over, weight, dweight, dbias)
        if sets is None:
            yield from super().set_norm_grads.prepare(
                x, dy, over, inverse, mean, rest, weight, dweight, dbias, dx, scratch=scratch
            )
            return
        parts, means, *others = scratch
        statistics = (inverse, inverse, inverse) if mean is None else (inverse, mean, rest)
        centred, of = mean is not None, sets.arguments
        factor = inverse if weight is None else others.pop(0)
        if others:
            of_places, total = others
            grid = (-(-sets.places // (cuda.THREADS // sets.width)),)
            arguments = of_places, *of, sets.width, centred
            yield prepared(FILE, "set_place_sums", x, x, dy, *statistics, *arguments, grid=grid)
            axes = tuple(axis for axis, n in enumerate(total.shape) if n == 1)
            for k, gradient in enumerate((dbias, dweight)):
                if gradient is not None:
                    yield partial(self.xp.sum, of_places[k], axis=axes, keepdims=True, out=total)
                    yield partial(setitem, gradient, ..., total)
        if dx is None:
            return
        if weight is not None:
            yield partial(setitem, factor.reshape((*x.shape[:-1], 1)), ..., weight)
        given = centred, weight is not None
        inputs = x, dy, *statistics, factor
        yield prepared(FILE, "set_grad_sums", x, *inputs, parts, *of, sets.width, *given, grid=sets.grid)
        yield sums.join(parts, means, sets.members)
        yield prepared(FILE, "set_norm_grad", dx, *inputs, means, dx, *of, *given)
