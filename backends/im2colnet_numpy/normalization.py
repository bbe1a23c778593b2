"""Normalization: sums and affine maps of images (H, C, W, N), in tiles that stay in cache.

A number for each channel is spread over a whole row, (C, W, N), before it is combined with the rows (see
:mod:`im2colnet_numpy.activation` for why). So is one for each group of channels of each sample.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from math import prod
from typing import Any

import numpy as np

from im2colnet.backend.kernel import kernel
from im2colnet.backend.normalization import Normalization, slope_scratch
from im2colnet.types import Call, Shape, Spec
from im2colnet_numpy.activation import activating, ones

Array = np.ndarray
SUMMED = 1024  # members of a set, at most, that are summed in their own type; these sums are then summed in float64


def _sums(backend: Any, x: Spec, **others: Any) -> list[Spec]:
    return [*_tile_and_spread(backend, x, spread=1), Spec((2, *x.shape[:2]), x.dtype)]


def _grad_sums(backend: Any, x: Spec, **others: Any) -> list[Spec]:
    return _sums(backend, x) + slope_scratch(backend, **others)


def _affine(backend: Any, x: Spec, **others: Any) -> list[Spec]:
    return _tile_and_spread(backend, x, spread=3)


def _groups(backend: Any, x: Spec) -> list[Spec]:
    """Scratch: a tile of rows of some groups of channels, four spread rows of these, and the sums of a tile's rows."""
    (H, G, *row), dtype, most = x.shape, x.dtype, backend.tuning.tile_bytes
    of_group = prod(row) * np.dtype(dtype).itemsize  # bytes of a group in one row
    groups = max(1, min(G, most // 32 // of_group))
    rows = max(1, min(H, most // 4 // (groups * of_group)))
    return [Spec((rows, groups, *row), dtype), Spec((4, groups, *row), dtype), Spec((2, groups, *row), dtype)]


def in_groups(x: Spec | Array, over: tuple[int, ...], mean: Spec | Array | None, *affine: Spec | Array | None) -> bool:
    """Whether x is images (H, G, C/G, W, N) of 32 or 64 bits, whose groups of channels are centred and scaled."""
    if mean is None or len(x.shape) != 5 or over != (0, 2, 3) or np.dtype(x.dtype).itemsize < 4:
        return False
    return all(each is None or tuple(each.shape) == (1, *x.shape[1:3], 1, 1) for each in affine)


def _of_samples(backend: Any, x: Spec, spread: int) -> list[Spec]:
    """Scratch: two tiles (rows, members, N) of whole samples, and ``spread`` tiles of one row."""
    (A, *members, N), dtype, most = x.shape, x.dtype, backend.tuning.tile_bytes
    sample = N * np.dtype(dtype).itemsize  # bytes of a number of all samples
    some = max(1, min(prod(members), SUMMED, most // 16 // sample))
    rows = max(1, min(A, most // 2 // (some * sample)))
    return [Spec((2, rows, some, N), dtype), Spec((spread, some, N), dtype)]


def whole_samples(x: Spec | Array, over: tuple[int, ...]) -> bool:
    """Whether a set is all of a sample of 32 or 64 bits that has more axes than one."""
    sets = prod(n for axis, n in enumerate(x.shape[:-1]) if axis not in over)
    return sets == 1 and len(x.shape) > 2 and np.dtype(x.dtype).itemsize >= 4 and prod(x.shape) > 0


def _set_norm(backend: Any, x: Spec, over: tuple[int, ...], **others: Any) -> list[Spec]:
    if whole_samples(x, over):
        return _of_samples(backend, x, spread=1)
    if in_groups(x, over, others.get("mean"), others.get("weight"), others.get("bias")):
        return _groups(backend, x)
    return Normalization.set_norm.scratch(backend, {"x": x, "over": over} | others)


def _set_norm_grads(backend: Any, x: Spec, over: tuple[int, ...], **others: Any) -> list[Spec]:
    if whole_samples(x, over):
        return _of_samples(backend, x, spread=3)
    affine = (others.get(name) for name in ("weight", "dweight", "dbias"))
    if in_groups(x, over, others.get("mean"), *affine):
        return _groups(backend, x)
    return Normalization.set_norm_grads.scratch(backend, {"x": x, "over": over} | others)


class NumpyNormalization(Normalization):
    """Normalization on the CPU."""

    @kernel(scratch=_set_norm)
    def set_norm(
        self,
        x: Array,
        over: tuple[int, ...],
        eps: float | Callable[[], float],
        weight: Array | None = None,
        bias: Array | None = None,
        inverse: Any = None,
        mean: Array | None = None,
        rest: Array | None = None,
        out: Any = None,
        scratch: Any = None,
    ) -> Iterator[Call]:
        if whole_samples(x, over):
            yield partial(sample_norm, x, eps, weight, bias, inverse, mean, rest, out, scratch)
        elif in_groups(x, over, mean, weight, bias):
            yield partial(group_norm, x, eps, weight, bias, inverse, mean, rest, out, scratch)
        else:
            yield from super().set_norm.prepare(
                x, over, eps, weight, bias, inverse, mean, rest, out=out, scratch=scratch
            )

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
        if whole_samples(x, over):
            yield partial(sample_norm_grads, x, dy, inverse, mean, rest, weight, dweight, dbias, dx, scratch)
        elif in_groups(x, over, mean, weight, dweight, dbias):
            yield partial(group_norm_grads, x, dy, inverse, mean, rest, weight, dweight, dbias, dx, scratch)
        else:
            yield from super().set_norm_grads.prepare(
                x, dy, over, inverse, mean, rest, weight, dweight, dbias, dx, scratch=scratch
            )

    @kernel(scratch=_sums)
    def batch_norm_sums(self, x: Array, out: Any = None, scratch: Any = None) -> Iterator[Call]:
        yield partial(sums, x, out, scratch)

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
        if activation:  # as a pass of its own: in tiles it takes longer, by the calls of NumPy
            yield from self.activation_grad.prepare(y, dy, activation, out=dz, scratch=scratch[3:])
            dy = dz
        yield partial(grad_sums, x, mean, dy, out, scratch[:3])

    @kernel(scratch=_affine)
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
        yield partial(affine, x, scale, shift, other, other_scale, activation, out, scratch)


def _tile_and_spread(backend: Any, x: Spec, spread: int) -> list[Spec]:
    """Scratch: a tile, and ``spread`` rows for numbers of each channel spread over them.

    A tile is as many rows and channels as stay in cache, those that are spread in the first-level cache.
    """
    (H, C, W, N), dtype, most = x.shape, x.dtype, backend.tuning.tile_bytes
    row = W * N * np.dtype(dtype).itemsize  # bytes of one channel
    channels = max(1, min(C, most // 32 // row))
    rows = max(1, min(H, most // 4 // (channels * row)))
    return [Spec((rows, channels, W, N), dtype), Spec((spread, channels, W, N), dtype)]


def channel_blocks(C: int, spread: Array, *values: Array) -> Iterator[tuple[slice, list[Array]]]:
    """Yield channels, and their ``values`` (C,) spread over a row of ``spread``."""
    values = tuple(value.astype(spread.dtype) for value in values)  # once: spreading converts each copy
    for c in range(0, C, spread.shape[1]):
        channels = slice(c, min(c + spread.shape[1], C))
        rows = [row[: channels.stop - c] for row in spread]
        for row, value in zip(rows, values, strict=False):
            row[...] = value[channels, None, None]
        yield channels, rows


def sums(x: Array, out: Array, scratch: Sequence[Array]) -> None:
    """Write Σx and Σ(x - Σx/n)² of each channel to ``out`` (2, C), summed about the mean k of its first row.

    Then float32 is enough for all but the last step, in float64 (Chan, Golub, LeVeque 1983):

        Σx = Σ(x - k) + n·k,     Σ(x - Σx/n)² = Σ(x - k)² - (Σ(x - k))²/n
    """
    tile, spread, sums = scratch
    H, C, W, N = x.shape
    m = W * N
    k = np.matmul(x[0].reshape(C, m), ones(m, x.dtype)) * x.dtype.type(1 / m)
    for channels, (shift,) in channel_blocks(C, spread, k):
        for r in range(0, H, len(tile)):
            rows = slice(r, r + len(tile)), channels
            centred = _centred(x[rows], shift, tile)
            np.matmul(centred, ones(m, x.dtype), out=sums[0][rows])
            np.vecdot(centred, centred, out=sums[1][rows])
    np.add.reduce(sums, axis=1, dtype="f8", out=out)
    first, second = out
    second -= first * first / (H * m)
    np.maximum(second, 0, out=second)
    first += H * m * k.astype("f8")


def grad_sums(x: Array, mean: Array, dy: Array, out: Array, scratch: Sequence[Array]) -> None:
    """Write Σdy and Σdy·(x - mean) of each channel to ``out`` (2, C)."""
    tile, spread, sums = scratch
    H, C, W, N = x.shape
    dy = dy.reshape(H, C, W * N)
    for channels, (shift,) in channel_blocks(C, spread, mean):
        for r in range(0, H, len(tile)):
            rows = slice(r, r + len(tile)), channels
            centred = _centred(x[rows], shift, tile)
            np.matmul(dy[rows], ones(W * N, x.dtype), out=sums[0][rows])
            np.vecdot(centred, dy[rows], out=sums[1][rows])
    np.add.reduce(sums, axis=1, dtype="f8", out=out)
    out[1] -= (mean - mean.astype(x.dtype)) * out[0]  # float32 has rounded the mean


def _centred(rows: Array, shift: Array, tile: Array) -> Array:
    """Some rows of images less what their channels are shifted by, (rows, C, W·N), in a part of ``tile``."""
    centred = tile[: rows.shape[0], : rows.shape[1]]
    np.subtract(rows, shift, out=centred)
    return centred.reshape(*rows.shape[:2], -1)


def affine(
    x: Array,
    scale: Array,
    shift: Array,
    other: Array | None,
    other_scale: Array | None,
    activation: str | None,
    y: Array,
    scratch: Sequence[Array],
) -> None:
    """Write ``x·scale + other·other_scale + shift``, with the activation if there is one, into y, which may be x."""
    tile, spread = scratch
    values = (scale, shift) if other_scale is None else (scale, shift, other_scale)
    for channels, (a, c, *b) in channel_blocks(x.shape[1], spread, *values):
        for r in range(0, len(x), len(tile)):
            rows = slice(r, r + len(tile)), channels
            target = y[rows]
            np.multiply(x[rows], a, out=target)
            if other is not None:
                scaled = tile[: target.shape[0], : target.shape[1]]
                np.multiply(other[rows], b[0], out=scaled)
                np.add(target, scaled, out=target)
            np.add(target, c, out=target)
            if activation:
                activating(target, activation, target)()


def group_norm(
    x: Array,
    eps: float | Callable[[], float],
    weight: Array | None,
    bias: Array | None,
    inverse: Array,
    mean: Any,
    rest: Any,
    y: Array,
    scratch: Sequence[Array],
) -> None:
    """Normalize groups of channels of images (H, G, C/G, W, N).

    The variance is found about the mean k of the first row, as in :func:`sums`. With ``mean`` in the type of x and
    ``rest`` what its rounding has left, ``y = (x - mean)·a + (bias - rest·a)``, ``a = weight / √(var + eps)``.
    """
    tile, spread, of_rows = scratch
    H, G, C, W, N = x.shape
    members, least = H * C * W, eps() if callable(eps) else eps
    for groups, (centre, a, c, _), (first, second) in _some_groups(G, spread, of_rows):
        k = x[0, groups].mean(axis=(1, 2), keepdims=True)  # (groups, 1, 1, N)
        centre[...] = k
        total, square = (np.zeros((len(k), N)) for _ in range(2))
        for rows in _rows_of(x[:, groups], tile):
            centred = np.subtract(rows, centre, out=tile[: len(rows), : len(k)])
            np.add.reduce(centred, axis=0, out=first)
            np.multiply(centred, centred, out=centred)
            np.add.reduce(centred, axis=0, out=second)
            total += first.sum(axis=(1, 2), dtype="f8")
            square += second.sum(axis=(1, 2), dtype="f8")
        total /= members
        variance = np.maximum(square / members - total * total, 0)
        exact, scale = k[:, 0, 0] + total, 1 / np.sqrt(variance + least)  # (groups, N)
        mean[0, groups, 0, 0], inverse[0, groups, 0, 0] = exact, scale
        rest[0, groups, 0, 0] = exact - mean[0, groups, 0, 0]
        factor = scale[:, None] * (1 if weight is None else weight[0, groups, :, :, 0])  # (groups, C or 1, N)
        shift = (0 if bias is None else bias[0, groups, :, :, 0]) - rest[0, groups, :, 0] * factor
        centre[...], a[...], c[...] = mean[0, groups], factor[:, :, None], shift[:, :, None]
        for rows, out in zip(_rows_of(x[:, groups], tile), _rows_of(y[:, groups], tile), strict=True):
            np.subtract(rows, centre, out=out)
            np.multiply(out, a, out=out)
            np.add(out, c, out=out)


def group_norm_grads(
    x: Array,
    dy: Array,
    inverse: Array,
    mean: Any,
    rest: Any,
    weight: Array | None,
    dweight: Array | None,
    dbias: Array | None,
    dx: Array | None,
    scratch: Sequence[Array],
) -> None:
    """Write the gradients of :func:`group_norm`.

    All sums follow from ``p = Σ dy·(x - mean)`` and ``d = Σ dy`` over the pixels of each channel of each sample:
    with s = 1 / √(var + eps), ``dweight = Σ_n s·p``, ``dbias = Σ_n d``, and over a group's channels, of M numbers,

        dx = s·weight·dy - s³·(x - mean)·Σ weight·p / M - s·Σ weight·d / M
    """
    tile, spread, of_rows = scratch
    H, G, C, W, N = x.shape
    for groups, (centre, a, b, c), (first, second) in _some_groups(G, spread, of_rows):
        s, w = inverse[0, groups, 0, 0].astype("f8")[:, None], 1 if weight is None else weight[0, groups, :, :, 0]
        centre[...] = mean[0, groups]
        p, d = (np.zeros((len(s), C, N)) for _ in range(2))
        for rows, grads in zip(_rows_of(x[:, groups], tile), _rows_of(dy[:, groups], tile), strict=True):
            products = np.subtract(rows, centre, out=tile[: len(rows), : len(s)])
            np.multiply(products, grads, out=products)
            np.add.reduce(products, axis=0, out=first)
            np.add.reduce(grads, axis=0, out=second)
            p += first.sum(axis=2, dtype="f8")
            d += second.sum(axis=2, dtype="f8")
        p -= rest[0, groups, :, 0] * d
        if dweight is not None:
            dweight[0, groups, :, 0, 0] = (s * p).sum(axis=2)
        if dbias is not None:
            dbias[0, groups, :, 0, 0] = d.sum(axis=2)
        if dx is None:
            continue
        slope = -(s**3) * (w * p).sum(axis=1, keepdims=True) / (H * C * W)  # (groups, 1, N)
        shift = -s * (w * d).sum(axis=1, keepdims=True) / (H * C * W) - slope * rest[0, groups, :, 0]
        a[...], b[...], c[...] = (s * w)[:, :, None], slope[:, :, None], shift[:, :, None]
        of_all = (_rows_of(each[:, groups], tile) for each in (x, dy, dx))
        for rows, grads, out in zip(*of_all, strict=True):
            line = np.subtract(rows, centre, out=tile[: len(rows), : len(s)])
            np.multiply(line, b, out=line)
            np.add(line, c, out=line)
            np.multiply(grads, a, out=out)
            np.add(out, line, out=out)


def _some_groups(G: int, spread: Array, of_rows: Array) -> Iterator[tuple[slice, Array, Array]]:
    """Yield the groups that a tile holds, and as much of the other arrays."""
    most = spread.shape[1]
    for g in range(0, G, most):
        groups = slice(g, min(g + most, G))
        yield groups, spread[:, : groups.stop - g], of_rows[:, : groups.stop - g]


def _rows_of(x: Array, tile: Array) -> Iterator[Array]:
    """Yield as many rows of images as a tile holds, after each other."""
    for r in range(0, len(x), len(tile)):
        yield x[r : r + len(tile)]


def sample_norm(
    x: Array,
    eps: float | Callable[[], float],
    weight: Array | None,
    bias: Array | None,
    inverse: Any,
    mean: Any,
    rest: Any,
    y: Array,
    scratch: Sequence[Array],
) -> None:
    """Normalize whole samples (A, M, N), a tile (rows, members, N) after the other.

    The variance is found about the mean k of a sample's first numbers, as in :func:`sums`. With ``mean`` in the type of
    x and ``rest`` what its rounding has left, ``y = (x - mean)·a + c``, with s = 1 / √(var + eps), ``a = weight·s`` and
    ``c = bias - weight·s·rest``: products of the matrix [weight, bias] with [s, 0] and with [-s·rest, 1].
    """
    affine = np.stack([_as_matrix(each, n, x.shape[:-1], x.dtype) for n, each in ((1, weight), (0, bias))], axis=-1)
    (x, y), cells = _tiles_of_samples((x, y), scratch)
    inverse, mean, rest = (None if each is None else each.reshape(-1) for each in (inverse, mean, rest))
    members = x[..., 0].size
    k: Any = None if mean is None else x[0, :SUMMED].mean(axis=0)  # (N,)
    total, square = np.zeros((2, x.shape[2]))
    for at, (tile, _), (centre,) in cells:
        centred, one = _less(x[at], k, centre, tile), ones(tile.shape[1], x.dtype)
        total += np.matmul(one, centred).sum(axis=0, dtype="f8")
        square += np.matmul(one, np.multiply(centred, centred, out=tile)).sum(axis=0, dtype="f8")
    total, square = total / members, square / members
    variance = square if mean is None else np.maximum(square - total * total, 0)
    s: Array = 1 / np.sqrt(variance + (eps() if callable(eps) else eps))
    zero, one = np.zeros_like(s), np.ones_like(s)
    left, inverse[...] = zero, s
    if mean is not None:
        mean[...] = exact = k + total
        rest[...] = left = exact - mean
    for_a, for_c = (np.array(rows, x.dtype) for rows in ((s, zero), (-s * left, one)))
    for at, (tile, line), (centre,) in cells:
        np.multiply(_less(x[at], mean, centre, tile), np.matmul(affine[at], for_a, out=line), out=tile)
        np.add(tile, np.matmul(affine[at], for_c, out=line), out=y[at])


def sample_norm_grads(
    x: Array,
    dy: Array,
    inverse: Any,
    mean: Any,
    rest: Any,
    weight: Array | None,
    dweight: Array | None,
    dbias: Array | None,
    dx: Array | None,
    scratch: Sequence[Array],
) -> None:
    """Write the gradients of :func:`sample_norm`.

    With s = 1 / √(var + eps) and p = dy·(x - mean), ``dweight = Σ s·p`` and ``dbias = Σ dy`` over the samples, and with
    sums over a sample of m numbers

        dx = s·weight·dy - s³·(x - mean)·Σ weight·p / m - s·Σ weight·dy / m
    """
    axes, members = x.shape[:-1], x[..., 0].size
    w = _as_matrix(weight, 1, axes, x.dtype)
    (x, dy, dx), cells = _tiles_of_samples((x, dy, dx), scratch)
    inverse, mean, rest = (None if each is None else each.reshape(-1) for each in (inverse, mean, rest))
    s = inverse.astype("f8")
    zero, one, left = np.zeros_like(s), np.ones_like(s), np.zeros_like(s) if mean is None else rest.astype("f8")
    for_p, for_dy = (np.stack(columns, axis=1).astype(x.dtype) for columns in ((s, zero), (-s * left, one)))
    of_members = None if dweight is None and dbias is None else np.empty((*w.shape, 2), x.dtype)
    of_p, of_dy = np.zeros((2, x.shape[2]))
    for at, (tile, _), (centre, *_) in cells:
        p, weights = np.multiply(_less(x[at], mean, centre, tile), dy[at], out=tile), w[at][:, None]
        of_p += np.matmul(weights, p)[:, 0].sum(axis=0, dtype="f8")
        of_dy += np.matmul(weights, dy[at])[:, 0].sum(axis=0, dtype="f8")
        if of_members is not None:
            np.add(np.matmul(p, for_p), np.matmul(dy[at], for_dy), out=of_members[at])
    for i, gradient in enumerate((dweight, dbias)):
        if gradient is not None and of_members is not None:
            same = tuple(axis for axis, n in enumerate(gradient.shape[:-1]) if n == 1)  # for all along these axes
            gradient[..., 0] = of_members[..., i].reshape(axes).sum(axis=same, keepdims=True, dtype="f8")
    if dx is None:
        return
    slope = -(s**3) * (of_p - left * of_dy) / members
    shift = (zero if mean is None else -s * of_dy / members) - slope * left
    for_a, pairs = np.array((s, zero), x.dtype), np.stack((w, w), axis=-1)
    for at, (tile, line), (centre, b, c) in cells:
        b[...], c[...] = slope, shift
        np.multiply(_less(x[at], mean, centre, tile), b, out=tile)
        np.add(tile, c, out=tile)
        np.multiply(dy[at], np.matmul(pairs[at], for_a, out=line), out=line)
        np.add(tile, line, out=dx[at])


def _tiles_of_samples(
    arrays: Sequence[Any], scratch: Sequence[Array]
) -> tuple[list[Any], list[tuple[Any, Array, Array]]]:
    """Return the arrays as (A, M, N); and for each tile the slices of its rows and members, and scratch of its size."""
    tiles, spread = scratch
    arrays = [None if each is None else each.reshape(len(each), -1, each.shape[-1]) for each in arrays]
    (A, M, _), (_, rows, members, _) = arrays[0].shape, tiles.shape
    cells = []
    for m in range(0, M, members):
        for r in range(0, A, rows):
            at = slice(r, min(r + rows, A)), slice(m, min(m + members, M))
            n, some = (each.stop - each.start for each in at)
            cells.append((at, tiles[:, :n, :some], spread[:, :some]))
    return arrays, cells


def _less(x: Array, k: Array | None, spread: Array, out: Array) -> Any:
    """Return ``x - k``, x being a tile and k (N,) first spread over a row of it; or x if there is no k."""
    if k is None:
        return x
    spread[...] = k
    return np.subtract(x, spread, out=out)


def _as_matrix(parameter: Array | None, default: int, axes: Shape, dtype: Any) -> Any:
    """Return weight or bias (..., 1) as (A, M), the axes of a sample; where there is none, its ``default``."""
    values = np.asarray(default) if parameter is None else parameter[..., 0]
    return np.broadcast_to(values, axes).astype(dtype).reshape(axes[0], -1)
