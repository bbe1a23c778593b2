"""Normalization: each sum and each map of images (H, C, W, N) is one pass over rows (H, C, W·N) of float32."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import lru_cache, partial
from math import inf, prod
from operator import setitem
from typing import Any, NamedTuple

import numpy as np
from im2colnet_numpy.normalization import NumpyNormalization

from im2colnet.backend.kernel import kernel
from im2colnet.backend.normalization import Statistics, slope_scratch
from im2colnet.types import Call, Shape, Spec
from im2colnet_numba.activation import NONE, bounds
from im2colnet_numba.arrays import as_lines, fits, lying, seen_as, to_read, to_write
from im2colnet_numba.compile import compiled, inlined

Array = np.ndarray
ABREAST = 2048  # numbers, at most, whose sums and coefficients are held in the first-level cache
FEW = 8  # numbers in a row that has one weight, below which NumPy's kernels are faster


@compiled
def sums(x: Array, out: Array) -> None:
    """Write Σx and Σ(x - Σx/n)² of each channel to ``out`` (2, C), summed about the mean k of its first row.

    Then float32 is enough for a row's sums (Chan, Golub, LeVeque 1983):

        Σx = Σ(x - k) + n·k,     Σ(x - Σx/n)² = Σ(x - k)² - (Σ(x - k))²/n
    """
    H, C, M = x.shape
    k = np.empty(C, x.dtype)
    for c in range(C):
        row, total = x[0, c], x.dtype.type(0)
        for i in range(M):
            total += row[i]
        k[c] = total / x.dtype.type(M)
    out[...] = 0
    for h in range(H):
        for c in range(C):
            row, centre = x[h, c], k[c]
            first = second = x.dtype.type(0)
            for i in range(M):
                v = row[i] - centre
                first += v
                second += v * v
            out[0, c] += first
            out[1, c] += second
    n = float(H * M)
    for c in range(C):
        about = out[0, c]
        out[1, c] = max(out[1, c] - about * about / n, 0.0)
        out[0, c] = about + n * k[c]


@compiled
def grad_sums(x: Array, mean: Array, dy: Array, out: Array) -> None:
    """Write Σdy and Σdy·(x - mean) of each channel to ``out`` (2, C)."""
    H, C, M = x.shape
    out[...] = 0
    for h in range(H):
        for c in range(C):
            row, gradient, k = x[h, c], dy[h, c], x.dtype.type(mean[c])
            first = second = x.dtype.type(0)
            for i in range(M):
                g = gradient[i]
                first += g
                second += g * (row[i] - k)
            out[0, c] += first
            out[1, c] += second
    for c in range(C):
        out[1, c] -= (mean[c] - x.dtype.type(mean[c])) * out[0, c]  # float32 has rounded the mean


@compiled
def statistics(sums: Array, n: int, eps: float, weight: Array, bias: Array, out: Array) -> bool:
    """Write the rows of :class:`Statistics` (5, C) from the sums of a batch; return whether all are finite."""
    finite = True
    for c in range(sums.shape[1]):
        mean, var = sums[0, c] / n, sums[1, c] / n
        inverse = 1 / np.sqrt(var + eps)
        scale = inverse * weight[c]
        out[0, c], out[1, c], out[2, c], out[3, c], out[4, c] = mean, var, inverse, scale, bias[c] - mean * scale
        finite &= abs(mean + var) < inf
    return finite


@compiled
def gradient_line(sums: Array, n: int, mean: Array, inverse: Array, scale: Array, out: Array) -> None:
    """Write b and c of ``dx = scale·dy + b·x + c`` to ``out`` (2, C)."""
    for c in range(sums.shape[1]):
        out[0, c] = -scale[c] * inverse[c] * inverse[c] * sums[1, c] / n
        out[1, c] = -scale[c] * sums[0, c] / n - out[0, c] * mean[c]


@inlined
def passed(x: Array, k: Any, dy: Array, y: Array, low: Any, high: Any, dz: Array) -> Any:
    """Write dz, which is dy where y is between its bounds; return its sum, and that of dz·(x - k)."""
    first = second = zero = x.dtype.type(0)
    for i in range(dz.size):
        g = dy[i] if (y[i] > low) & (not y[i] >= high) else zero
        dz[i] = g
        first += g
        second += g * (x[i] - k)
    return first, second


@compiled
def bounded_grad_sums(
    x: Array, mean: Array, dy: Array, y: Array, low: float, high: float, dz: Array, out: Array
) -> None:
    """Write dz, the gradient of what was bounded to y, over dy or elsewhere; and its sums as :func:`grad_sums` does."""
    H, C, _ = x.shape
    number, in_place = x.dtype.type, dy.ctypes.data == dz.ctypes.data
    least, most = number(low), number(high)
    out[...] = 0
    for h in range(H):
        for c in range(C):
            k, of_z = number(mean[c]), dz[h, c]
            if in_place:
                first, second = passed(x[h, c], k, of_z, y[h, c], least, most, of_z)
            else:
                first, second = passed(x[h, c], k, dy[h, c], y[h, c], least, most, of_z)
            out[0, c] += first
            out[1, c] += second
    for c in range(C):
        out[1, c] -= (mean[c] - number(mean[c])) * out[0, c]  # float32 has rounded the mean


@inlined
def bounded(v: Any, low: Any, high: Any) -> Any:
    """The number of [low, high] next to v; NaN stays."""
    v = low if v <= low else v
    return high if v >= high else v


@inlined
def line(x: Array, a: Any, c: Any, low: Any, high: Any, y: Array) -> None:
    """Write ``a·x + c``, from ``low`` to ``high``."""
    for i in range(y.size):
        y[i] = bounded(a * x[i] + c, low, high)


@inlined
def plane(x: Array, a: Any, z: Array, b: Any, c: Any, low: Any, high: Any, y: Array) -> None:
    """Write ``a·x + b·z + c``, from ``low`` to ``high``."""
    for i in range(y.size):
        y[i] = bounded(a * x[i] + b * z[i] + c, low, high)


@compiled
def affine(x: Array, scale: Array, shift: Array, low: float, high: float, y: Array) -> None:
    """Write ``x·scale + shift`` for each channel, from ``low`` to ``high``, into y, which may be x."""
    H, C, _ = x.shape
    number, in_place = x.dtype.type, x.ctypes.data == y.ctypes.data
    least, most = number(low), number(high)
    for h in range(H):
        for c in range(C):
            out, a, s = y[h, c], number(scale[c]), number(shift[c])
            if in_place:
                line(out, a, s, least, most, out)
            else:
                line(x[h, c], a, s, least, most, out)


@compiled
def affine_of_two(
    x: Array, scale: Array, shift: Array, other: Array, other_scale: Array, low: float, high: float, y: Array
) -> None:
    """Write ``x·scale + other·other_scale + shift``, from ``low`` to ``high``, into y, which may be x."""
    H, C, _ = x.shape
    number, in_place = x.dtype.type, x.ctypes.data == y.ctypes.data
    least, most = number(low), number(high)
    for h in range(H):
        for c in range(C):
            out, a, s, z, b = y[h, c], number(scale[c]), number(shift[c]), other[h, c], number(other_scale[c])
            if in_place:
                plane(out, a, z, b, s, least, most, out)
            else:
                plane(x[h, c], a, z, b, s, least, most, out)


class Sets(NamedTuple):
    """Sets of numbers of samples as an array (A, S, B·L): S·L sets, of A·B numbers each, L of them abreast.

    L is the batch, with the axes before it that a set does not span.
    """

    A: int
    S: int
    B: int
    L: int
    abreast: int  #: numbers that are summed abreast: a multiple of L that divides B·L
    members: Shape  #: shape of what has a number for each weight, with 1 along the axes that share it

    @property
    def weights(self) -> Shape:
        """Shape of what has a number for each weight, as the kernels take it."""
        return self.A, self.S, prod(self.members) // (self.A * self.S)

    @property
    def spread(self) -> int:
        """Numbers in a row that are combined with a number of each of the sets abreast."""
        return max(self.abreast, self.B * self.L // self.weights[2])

    @property
    def shape(self) -> Shape:
        """Shape of the array as the kernels take it."""
        return self.A, self.S, self.B * self.L

    def statistics(
        self, inverse: Array, mean: Array | None, rest: Array | None, seen: Callable[..., tuple[Array, list[Call]]]
    ) -> tuple[tuple[bool, Array, Array, Array], list[Call]]:
        """Return whether there is a mean, and what there is one of for each set, as (S, L); and what copies these.

        ``seen`` is :func:`to_read` or :func:`to_write`. If there is no mean, ``inverse`` is in its place.
        """
        kept, copies = [], list[Call]()
        for each in (inverse, mean, rest):
            if each is not None:
                one, calls = seen(each, (self.S, self.L))
                kept.append(one)
                copies += calls
        first, *others = kept
        k, left = others or (first, first)
        return (mean is not None, first, k, left), copies

    @classmethod
    def of(cls, x: Spec | Array, over: tuple[int, ...], *affine: Spec | Array | None) -> Sets | None:
        """Return the sets of ``x`` that span the axes ``over``, or None if the kernels do not take them.

        ``affine`` are the arrays that have a number for each weight.
        """
        shape, axes = x.shape, [*range(len(x.shape))]
        if np.dtype(x.dtype) != np.float32 or not prod(shape):
            return None

        def take(spanned: bool) -> list[int]:
            taken: list[int] = []
            while axes and (shape[axes[-1]] == 1 or (axes[-1] in over) == spanned):
                taken.insert(0, axes.pop())
            return taken

        of_L, of_B, of_S, of_A = (take(spanned) for spanned in (False, True, False, True))
        A, S, B, L = (prod(shape[axis] for axis in some) for some in (of_A, of_S, of_B, of_L))
        shared = {axis for axis in range(len(shape)) if all(each is None or each.shape[axis] == 1 for each in affine)}
        if axes or not shared.issuperset(of_L):
            return None
        members = [1 if axis in of_L else n for axis, n in enumerate(shape)]
        run = L
        for axis in reversed(of_B):
            if axis not in shared or run * shape[axis] > ABREAST:
                break
            run, members[axis] = run * shape[axis], 1
        return cls(A, S, B, L, L * _divisor(B, max(1, ABREAST // L)), tuple(members)) if run >= FEW else None


@lru_cache(maxsize=1024)
def _divisor(n: int, most: int) -> int:
    """Return the largest divisor of n that is at most ``most``."""
    return next(d for d in range(min(n, most), 0, -1) if n % d == 0)


@inlined
def normalized(x: Array, mean: Array, a: Array, c: Array, weight: Any, bias: Any, y: Array) -> None:
    """Write ``weight·((x - mean)·a + c) + bias``."""
    for i in range(y.size):
        y[i] = weight * ((x[i] - mean[i]) * a[i] + c[i]) + bias


@inlined
def spread_out(row: Array, L: int) -> None:
    """Repeat the first L numbers of a row over all of it."""
    for i in range(L, row.size):
        row[i] = row[i - L]


@inlined
def folded(row: Array, i: int, L: int) -> Any:
    """The sum of each L-th number of a row, from the i-th on."""
    total = 0.0
    for j in range(i, row.size, L):
        total += row[j]
    return total


@compiled
def norm(
    x: Array,
    weight: Array,
    bias: Array,
    eps: float,
    centred: bool,
    inverse: Array,
    mean: Array,
    rest: Array,
    total: Array,
    spread: Array,
    y: Array,
) -> None:
    """Normalize sets x (A, S, B·L), with a weight and a bias (A, S, weights), to y, which may be x.

    The mean is summed in float64, the variance about the mean as float32 has it. ``inverse``, ``mean`` and ``rest`` are
    (S, L). ``total`` (P,) float64 and ``spread`` (3, Q) are scratch: P numbers are summed abreast, and a weight belongs
    to at most Q numbers that follow each other; both are multiples of L.
    """
    (A, S, M), L, P = x.shape, inverse.shape[1], total.size
    R = M // weight.shape[2]
    in_place, n = x.ctypes.data == y.ctypes.data, A * (M // L)
    k, a, c = spread[0], spread[1], spread[2]
    for s in range(S):
        for i in range(L):
            k[i] = a[i] = c[i] = 0
        if centred:
            for i in range(P):
                total[i] = 0
            for h in range(A):
                for j in range(0, M, P):
                    row = x[h, s, j : j + P]
                    for i in range(P):
                        total[i] += row[i]
            for i in range(L):
                exact = folded(total, i, L) / n
                mean[s, i] = k[i] = exact
                rest[s, i] = c[i] = exact - k[i]
        spread_out(k, L)
        for i in range(P):
            total[i] = 0
        for h in range(A):
            for j in range(0, M, P):
                row = x[h, s, j : j + P]
                for i in range(P):
                    v = row[i] - k[i]
                    total[i] += v * v
        for i in range(L):
            left = float(c[i])
            inverse[s, i] = a[i] = 1 / np.sqrt(max(folded(total, i, L) / n - left * left, 0.0) + eps)
            c[i] = -left * a[i]
        spread_out(a, L)
        spread_out(c, L)
        for h in range(A):
            for b in range(M // R):
                out, w, of_bias = y[h, s, b * R : (b + 1) * R], weight[h, s, b], bias[h, s, b]
                if in_place:
                    normalized(out, k, a, c, w, of_bias, out)
                else:
                    normalized(x[h, s, b * R : (b + 1) * R], k, a, c, w, of_bias, out)


@inlined
def input_gradient(
    x: Array, mean: Array, dy: Array, weight: Any, a: Array, slope: Array, shift: Array, dx: Array
) -> None:
    """Write ``a·weight·dy + slope·(x - mean) + shift``."""
    for i in range(dx.size):
        dx[i] = a[i] * weight * dy[i] + slope[i] * (x[i] - mean[i]) + shift[i]


@compiled
def norm_grads(
    x: Array,
    dy: Array,
    weight: Array,
    centred: bool,
    inverse: Array,
    mean: Array,
    rest: Array,
    sums: Array,
    spread: Array,
    dweight: Array,
    dbias: Array,
    with_dx: bool,
    dx: Array,
) -> None:
    """Write the gradients of :func:`norm`: of weight and bias for each of the sets, and with ``with_dx`` of x.

    With s = ``inverse``, n = s·(x - mean) and g = dy·weight, and means over a set,

        dx = s·(g - n·mean(g·n) - mean(g)) = s·weight·dy + slope·(x - mean) + shift

    ``sums`` (2, Q) float64 and ``spread`` (5, Q) are scratch.
    """
    (A, S, M), L = x.shape, inverse.shape[1]
    R, n, number = M // weight.shape[2], A * (M // L), x.dtype.type
    products, total = sums[0, :R], sums[1, :R]
    k, a, c, slope, shift = spread[0, :R], spread[1, :R], spread[2, :R], spread[3, :R], spread[4, :R]
    for s in range(S):
        for i in range(L):
            a[i], k[i], c[i] = inverse[s, i], 0, 0
            if centred:
                k[i], c[i] = mean[s, i], -rest[s, i] * inverse[s, i]
        spread_out(k, L)
        spread_out(a, L)
        spread_out(c, L)
        for i in range(R):
            products[i] = total[i] = 0
        for h in range(A):
            for b in range(M // R):
                row, gradient, w = x[h, s, b * R : (b + 1) * R], dy[h, s, b * R : (b + 1) * R], weight[h, s, b]
                of_weight = of_bias = number(0)
                for i in range(R):
                    g = gradient[i]
                    product = g * ((row[i] - k[i]) * a[i] + c[i])
                    of_weight += product
                    of_bias += g
                    products[i] += w * product
                    total[i] += w * g
                dweight[h, s, b], dbias[h, s, b] = of_weight, of_bias
        if not with_dx:
            continue
        for i in range(L):
            along = folded(products, i, L) / n
            level = folded(total, i, L) / n if centred else 0.0
            slope[i] = -float(a[i]) * a[i] * along
            shift[i] = -float(a[i]) * (c[i] * along + level)
        spread_out(slope, L)
        spread_out(shift, L)
        for h in range(A):
            for b in range(M // R):
                row, gradient = x[h, s, b * R : (b + 1) * R], dy[h, s, b * R : (b + 1) * R]
                input_gradient(row, k, gradient, weight[h, s, b], a, slope, shift, dx[h, s, b * R : (b + 1) * R])


def _set_norm(backend: Any, x: Spec, over: tuple[int, ...], **others: Any) -> list[Spec]:
    sets = Sets.of(x, over, others.get("weight"), others.get("bias"))
    if sets is None:
        return NumpyNormalization.set_norm.scratch(backend, {"x": x, "over": over} | others)
    return [Spec((sets.abreast,), "float64"), Spec((3, sets.spread), x.dtype), Spec((2, *sets.weights), x.dtype)]


def _set_norm_grads(backend: Any, x: Spec, over: tuple[int, ...], **others: Any) -> list[Spec]:
    affine = [others.get(name) for name in ("weight", "dweight", "dbias")]
    sets = Sets.of(x, over, *affine)
    if sets is None:
        return NumpyNormalization.set_norm_grads.scratch(backend, {"x": x, "over": over} | others)
    row, of_weight = sets.spread, next((each.shape for each in affine if each is not None), ())
    of_type = Spec((5, row), x.dtype), Spec((3, *sets.weights), x.dtype)
    return [Spec((2, row), "float64"), *of_type, Spec(of_weight, "float64")]


def _of_numpy(name: str) -> Callable[..., list[Spec]]:
    """Return the rule of scratch that images of float32 do not need, and others as NumPy's kernel does."""

    def scratch(backend: Any, x: Spec, **others: Any) -> list[Spec]:
        if x.dtype == "float32":
            return []
        found: list[Spec] = getattr(NumpyNormalization, name).scratch(backend, {"x": x} | others)
        return found

    return scratch


def _grad_sums(backend: Any, x: Spec, **others: Any) -> list[Spec]:
    """Scratch: of images of float32 that of the activation's gradient alone."""
    if x.dtype == "float32":
        return slope_scratch(backend, **others)
    return NumpyNormalization.batch_norm_grad_sums.scratch(backend, {"x": x} | others)


class NumbaNormalization(NumpyNormalization):
    """Normalization on the CPU."""

    @kernel(scratch=_of_numpy("batch_norm_sums"))
    def batch_norm_sums(self, x: Array, out: Any = None, scratch: Any = None) -> Iterator[Call]:
        if fits(x):
            yield from seen_as(as_lines, sums, x, out)
        else:
            yield from super().batch_norm_sums.prepare(x, out=out, scratch=scratch)

    @kernel(scratch=_grad_sums)
    def batch_norm_grad_sums(
        self,
        x: Array,
        mean: Array,
        dy: Array,
        y: Array | None = None,
        activation: str | None = None,
        dz: Any = None,
        out: Any = None,
        scratch: Any = None,
    ) -> Iterator[Call]:
        if not fits(x, dy, y, dz):
            yield from super().batch_norm_grad_sums.prepare(x, mean, dy, y, activation, dz, out=out, scratch=scratch)
            return
        between = bounds(activation)
        if activation is None:
            yield from seen_as(as_lines, grad_sums, x, mean, dy, out)
        elif between is None:
            yield from self.activation_grad.prepare(y, dy, activation, out=dz, scratch=scratch)
            yield from seen_as(as_lines, grad_sums, x, mean, dz, out)
        else:
            yield from seen_as(as_lines, bounded_grad_sums, x, mean, dy, y, *between, dz, out, writes=(-2, -1))

    @kernel()
    def batch_norm_line(
        self,
        sums: Array,
        n: int,
        eps: Callable[[], float],
        weight: Array | None = None,
        bias: Array | None = None,
        out: Any = None,
    ) -> Iterator[Call]:
        C, of_type = sums.shape[1], np.float32 if weight is None else weight.dtype
        w, b = (np.full(C, k, of_type) if each is None else each for k, each in ((1, weight), (0, bias)))

        def compute() -> None:
            given, of_weight, of_bias = (lying(each, each.shape) for each in (sums, w, b))
            if not statistics(given, n, float(eps()), of_weight, of_bias, out):
                self.batch_norm_statistics(sums, n, eps(), weight, bias)  # it says why not

        yield compute

    @kernel()
    def batch_norm_grad_line(self, sums: Array, n: int, of: Statistics, out: Any = None) -> Iterator[Call]:
        yield from seen_as(np.shape, gradient_line, sums, n, of.mean, of.inverse, of.scale, out)

    @kernel(scratch=_of_numpy("channel_affine"))
    def channel_affine(
        self,
        x: Array,
        scale: Array,
        shift: Array,
        other: Array | None = None,
        other_scale: Array | None = None,
        activation: str | None = None,
        out: Any = None,
        scratch: Any = None,
    ) -> Iterator[Call]:
        if not fits(x, other, out):
            yield from super().channel_affine.prepare(
                x, scale, shift, other, other_scale, activation, out=out, scratch=scratch
            )
            return
        between = bounds(activation)
        limits = between or NONE
        if other is None:
            yield from seen_as(as_lines, affine, x, scale, shift, *limits, out)
        else:
            yield from seen_as(as_lines, affine_of_two, x, scale, shift, other, other_scale, *limits, out)
        if between is None and activation is not None:
            yield from self.activation.prepare(out, activation, out=out)

    @kernel(scratch=_set_norm)
    def set_norm(
        self,
        x: Array,
        over: tuple[int, ...],
        eps: float | Callable[[], float],
        weight: Array | None = None,
        bias: Array | None = None,
        inverse: Any = None,
        mean: Any = None,
        rest: Any = None,
        out: Any = None,
        scratch: Any = None,
    ) -> Iterator[Call]:
        sets = Sets.of(x, over, weight, bias)
        if sets is None:
            yield from super().set_norm.prepare(
                x, over, eps, weight, bias, inverse, mean, rest, out=out, scratch=scratch
            )
            return
        total, spread, (w, b) = scratch
        for each, value, default in zip((w, b), (weight, bias), (1, 0), strict=True):
            yield partial(setitem, each.reshape(sets.members), ..., default if value is None else value)
        kept, after = sets.statistics(inverse, mean, rest, to_write)
        (of_x, before), (y, last) = to_read(x, sets.shape), to_write(out, sets.shape)

        def compute() -> None:
            norm(of_x, w, b, float(eps() if callable(eps) else eps), *kept, total, spread, y)

        yield from (*before, compute, *after, *last)

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
        dx: Any = None,
        scratch: Any = None,
    ) -> Iterator[Call]:
        sets = Sets.of(x, over, weight, dweight, dbias)
        if sets is None:
            yield from super().set_norm_grads.prepare(
                x, dy, over, inverse, mean, rest, weight, dweight, dbias, dx, scratch=scratch
            )
            return
        total, spread, (w, dw, db), of_weight = scratch
        yield partial(setitem, w.reshape(sets.members), ..., 1 if weight is None else weight)
        kept, of_kept = sets.statistics(inverse, mean, rest, to_read)
        (of_x, copy_x), (of_dy, copy_dy) = to_read(x, sets.shape), to_read(dy, sets.shape)
        out, after = (of_x, []) if dx is None else to_write(dx, sets.shape)
        yield from (*of_kept, *copy_x, *copy_dy)
        yield partial(norm_grads, of_x, of_dy, w, *kept, total, spread, dw, db, dx is not None, out)
        yield from after
        for gradient, of_sets in ((dweight, dw), (dbias, db)):
            if gradient is not None:
                axes = tuple(axis for axis, n in enumerate(gradient.shape) if n == 1)
                yield partial(
                    np.sum, of_sets.reshape(sets.members), axis=axes, dtype="f8", keepdims=True, out=of_weight
                )
                yield partial(setitem, gradient, ..., of_weight)
