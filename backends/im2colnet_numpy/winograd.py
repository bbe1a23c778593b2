"""Winograd's convolution F(m×m, r×r): few multiplications, and products of matrices all the way.

A tile of m×m outputs of an r×r convolution comes from n×n inputs d, n = m + r - 1, by n² multiplications for each
channel, not m²·r² (Lavin & Gray 2015, arXiv:1509.09308):

    y = Aᵀ [(G w Gᵀ) ⊙ (Bᵀ d B)] A

F(4×4, 3×3) has 36 multiplications instead of 144, F(4×4, 4×4) 49 instead of 256, F(4×4, 5×5) 64 instead of 400,
F(3×3, 6×6) 64 instead of 324, F(2×2, 7×7) 64 instead of 196.

All tiles of a strip of an axis are transformed at once, by a matrix that holds the transform of a tile for each of
them, shifted by m: B (n·tiles, inputs), and A (outputs, n·tiles) back. A tile's inputs in the padding have no column in
B, its outputs beyond the image no row in A, so nothing is copied before or after. Summed over the channels c, and with
one such matrix for the height and one for the width,

    U[k]    = (G w Gᵀ)[k]                               n² matrices (F, C)
    V[:, c] = B_h · x[:, c] · B_wᵀ                      n² numbers of each channel, tile and sample
    M[k]    = U[k] · V[k]                               n² products (F, C) · (C, P), P = tiles · samples
    y[:, f] = A_h · M[:, f] · A_wᵀ

for a block of the images, h by w tiles, at a time. V is stored as (n, C, n·h, w·N): along the width a tile's n come
first, then the channel, then the height's n, so that both transforms and the products are of matrices whose rows lie in
memory. The adjoint of each line gives the weight's gradient. If the input's is wanted as well it is the adjoint of that
convolution of dy (see :mod:`im2colnet_numpy.rows`), whose V serves both.

The algorithm is exact in exact arithmetic. In float32 the error of an output is about 3e-6 of the largest output with
3×3 taps, and 5e-6 to 1e-5 with more taps; the error of the products of rows is 4e-7. With 512 channels, tests keep the
error below 2e-5, and the error of a weight's gradient of more than 3×3 taps below 3e-5. The errors are relative to the
largest output of the tile, also for an output whose window does not contain the large numbers. So images with outliers,
NaN or infinity are convolved by rows, and so are all images of the same call (see :mod:`im2colnet_numpy.locality`).
``IM2COLNET_WINOGRAD=0`` turns the algorithm off.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from functools import partial
from itertools import chain, pairwise
from math import prod
from operator import setitem
from typing import NamedTuple

import numpy as np

from im2colnet.errors import BackendError
from im2colnet.types import Call, Shape, Spec, run
from im2colnet.window import Window
from im2colnet_numpy.activation import activating
from im2colnet_numpy.locality import Pixels, checked, taps
from im2colnet_numpy.rows import WEIGHT_ORDER, Rows
from im2colnet_numpy.tuning import Tuning

FEW_IMAGES = 8  # images that are convolved by rows at a time, where they must be
POINTS = (0.0, 1.0, -1.0, 0.5, -2.0, -0.5, 2.0)  # and infinity (Barabasz et al. 2020, arXiv:1803.10986)
MOST_POINTS = len(POINTS) + 1
FEWEST_TAPS, MOST_TAPS = 3, 7  # of a kernel along an axis


def enabled() -> bool:
    """Whether Winograd's algorithm may be used: not with ``IM2COLNET_WINOGRAD=0``."""
    value = os.environ.get("IM2COLNET_WINOGRAD") or "1"
    if value not in ("0", "1"):
        raise BackendError(f"IM2COLNET_WINOGRAD must be 0 or 1, it is {value!r}")
    return value == "1"


def transforms(points: Sequence[float], m: int, r: int) -> tuple[np.ndarray, ...]:
    """Return Aᵀ (m, n), G (n, r) and Bᵀ (n, n) of F(m, r), n = m + r - 1, in float64.

    The product of polynomials of degrees m - 1 and r - 1 is known by its values at n - 1 points and at infinity (Toom,
    Cook); transposed, it is a correlation.
    """
    n = m + r - 1
    infinity = np.eye(n)[-1:]
    others = [[q for q in points if q != p] for p in points]
    powers = np.vander(points, n, increasing=True)
    scale = np.array([[np.prod([p - q for q in rest])] for p, rest in zip(points, others, strict=True)])
    a = np.vstack([powers[:, :m], infinity[:, -m:]])
    g = np.vstack([powers[:, :r] / scale, infinity[:, -r:]])
    b = np.vstack([*(np.append(np.poly(rest)[::-1], 0) for rest in others), np.poly(points)[::-1]])
    return a.T, g, b


class Tile:
    """The tile of F(m×m, r×r): its sizes and transforms.

    Attributes
    ----------
    m, r, n : int
        Outputs, taps of the kernel, and inputs along each axis.
    AT, G, BT : array
        Aᵀ (m, n) and Bᵀ (n, n) of an axis; G (n·n, r·r) of both.
    one : int
        The point whose number in M each output of the tile contains once.
    """

    def __init__(self, m: int, r: int) -> None:
        self.m, self.r, self.n = m, r, m + r - 1
        points = POINTS[: self.n - 1]
        self.AT, G, self.BT = transforms(points, m, r)
        self.G = np.einsum("aj,bi->abij", G, G).reshape(self.n**2, r**2).astype("float32")
        self.one = points.index(1)


#: By the kernel: 4 outputs along an axis, or what 8 points give. With 9 points F(3×3, 7×7) is off by 2e-4.
TILES = {(r, r): Tile(min(4, MOST_POINTS + 1 - r), r) for r in range(FEWEST_TAPS, MOST_TAPS + 1)}


class Strip(NamedTuple):
    """Tiles that follow each other along an axis, and the matrices that transform them."""

    tiles: range
    inputs: slice
    outputs: slice
    B: np.ndarray  # (n·tiles, inputs)
    A: np.ndarray  # (outputs, n·tiles)
    AT: np.ndarray  # its transpose: small products take twice as long if its rows do not lie together


def strips(tile: Tile, size: int, out: int, before: int, most: int) -> list[Strip]:
    """Cut an axis of ``size`` inputs, with ``before`` of padding, and ``out`` outputs into strips of similar length."""
    tiles = -(-out // tile.m)
    count = -(-tiles // most)
    cuts = [tiles * i // count for i in range(count + 1)]
    return [_strip(tile, range(*ends), size, out, before) for ends in pairwise(cuts)]


def longest(strips: Sequence[Strip]) -> int:
    """Tiles of the longest strip."""
    return max(len(strip.tiles) for strip in strips)


def _strip(tile: Tile, tiles: range, size: int, out: int, before: int) -> Strip:
    m, n, count, first = tile.m, tile.n, len(tiles), tile.m * tiles.start
    B, A = np.zeros((n, count, m * count + tile.r - 1), "f4"), np.zeros((m * count, n, count), "f4")
    for t in range(count):
        B[:, t, m * t : m * t + n] = tile.BT
        A[m * t : m * t + m, :, t] = tile.AT
    start = first - before
    inputs, outputs = slice(max(0, start), min(size, start + B.shape[2])), slice(first, min(out, m * tiles.stop))
    there = np.ascontiguousarray(B[:, :, inputs.start - start : inputs.stop - start].reshape(n * count, -1))
    back = A[: outputs.stop - first].reshape(-1, n * count)
    return Strip(tiles, inputs, outputs, there, back, np.ascontiguousarray(back.T))


class Winograd:
    """The r×r convolution at stride 1 of images (H, C, W, N) with F filters: sizes and transforms, but no images.

    Attributes
    ----------
    scratch : dict
        The scratch arrays of each kernel, by its name.
    why : str
        The reason for choosing this algorithm.
    """

    def __init__(self, x: Shape, F: int, window: Window, tuning: Tuning) -> None:
        C, (OH, OW), flipped = x[1], window.output_size((x[0], x[2])), window.flipped
        if flipped is None:
            raise ValueError(f"the input's gradient is no convolution, with {window}")
        self.x, self.F, self.window, self.tuning, self.tile = x, F, window, tuning, TILES[window.kernel]
        tile = self.tile
        r, part = tile.r, tile.n**2 / (tile.m * tile.r) ** 2
        self.why = f"{r}×{r} at stride 1 with many channels and images: {part:.0%} of the multiplications"
        self.forward = Tiles(tile, x, F, window, tuning)
        self.gradient = Tiles(tile, (OH, F, OW, x[3]), C, flipped, tuning)
        U, taps = Spec((tile.n, tile.n, F, C), "float32"), Spec((tile.r**2, F, C), "float32")
        summand = [taps if len(tiles.blocks) == 1 else U for tiles in (self.forward, self.gradient)]
        y = OH, F, OW, x[3]
        self.scratch = {
            "conv2d": [U, *self.forward.scratch, Pixels.spec(x)],
            "conv2d_weight_grad": [U, summand[0], *self.forward.scratch, Pixels.spec(x), Pixels.spec(y)],
            "conv2d_input_grad": [U, *self.gradient.scratch, Pixels.spec(y)],
        }
        if len(self.gradient.blocks) == 1:
            self.scratch["conv2d_grads"] = [U, summand[1], *self.gradient.scratch, Pixels.spec(x), Pixels.spec(y)]
        elif prod(U.shape) <= prod(x) + prod(y):  # or the sums of weights take the time, and the memory
            self.scratch["conv2d_grads"] = [U, summand[1], *self.gradient.scratch, U, Pixels.spec(x), Pixels.spec(y)]

    @staticmethod
    def pays(x: Shape, F: int, window: Window, groups: int, dtype: str, tuning: Tuning) -> bool:
        """Whether it exists for this convolution and is faster than the products of rows."""
        tile = TILES.get(window.kernel)
        if tile is None or window.stride != (1, 1) or window.dilation != (1, 1):
            return False
        if groups > 1 or dtype != "float32" or window.flipped is None:
            return False
        C, N, (OH, OW), taps = x[1], x[3], window.output_size((x[0], x[2])), tile.r**2
        few, many = sorted((C, F))
        enough = few >= tuning.winograd_min_channels[tile.r - FEWEST_TAPS] and tuning.winograd_min_samples <= N
        rows = taps * few * N
        enough = enough and rows >= tuning.winograd_min_rows and rows * many >= tuning.winograd_min_products
        # multiplications for each channel and filter: with few tiles, the n² products have too few columns to repay the
        # transform of the filters; with small images, most outputs of a tile are beyond the image
        columns = -(-OH // tile.m) * -(-OW // tile.m) * N + tuning.winograd_more_columns
        return enough and tile.n**2 * columns <= taps * OH * OW * N and enabled()

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
        U, *arrays, sums = scratch
        calls = chain(
            filters(w, self.tile, U),
            *self.forward.convolve(Pixels(x, sums), U, b, activation, y, arrays),
        )
        yield checked(calls, partial(self._conv2d_rows, x, w, b, activation, y))

    def input_grad(
        self, dy: np.ndarray, w: np.ndarray, dx: np.ndarray, scratch: Sequence[np.ndarray]
    ) -> Iterator[Call]:
        """Write the convolution of dy with the flipped weight into dx (H, C, W, N)."""
        U, *arrays, sums = scratch
        convolution = self.gradient.convolve(Pixels(dy, sums), U.swapaxes(2, 3), None, None, dx, arrays)
        calls = chain(filters(w, self.tile, U, flip=True), *convolution)
        yield checked(calls, partial(self._input_grad_rows, dy, w, dx))

    def weight_grad(
        self, x: np.ndarray, dy: np.ndarray, dw: np.ndarray, scratch: Sequence[np.ndarray]
    ) -> Iterator[Call]:
        """Write ``dw = Gᵀ · Σ dM · Vᵀ · G``, where ``dM = A_hᵀ · dy · A_w``, into dw (F, C, r, r)."""
        *scratch, of_x, of_dy = scratch
        calls = self._weight_grad(Pixels(x, of_x), Pixels(dy, of_dy), dw, scratch)
        yield checked(calls, partial(self._weight_grad_rows, x, dy, dw))

    def _weight_grad(self, x: Pixels, dy: Pixels, dw: np.ndarray, scratch: Sequence[np.ndarray]) -> Iterator[Call]:
        dU, summand, *arrays = scratch
        for i, block in enumerate(self.forward.blocks):
            V, dM, half = self.forward.arrays(block, arrays)
            yield from self.forward.inputs(block, x, V, half)
            yield from self.forward.adjoint(block, dy, dM, half)
            yield from self.tuning.products.add_product(matrices(dM), matrices(V), dU, summand if i else None)
        yield from store(dU, self.tile, summand, dw)

    def grads(
        self,
        x: np.ndarray,
        dy: np.ndarray,
        w: np.ndarray,
        dw: np.ndarray,
        dx: np.ndarray,
        scratch: Sequence[np.ndarray],
    ) -> Iterator[Call]:
        """Write both gradients of the tiles of dy, transformed once: dx is their convolution, dw its adjoint at x."""
        *scratch, of_x, of_dy = scratch
        by_rows = [partial(self._weight_grad_rows, x, dy, dw), partial(self._input_grad_rows, dy, w, dx)]
        yield checked(
            self._grads(Pixels(x, of_x), Pixels(dy, of_dy), w, dw, dx, scratch),
            partial(run, by_rows),
        )

    def _grads(
        self, x: Pixels, dy: Pixels, w: np.ndarray, dw: np.ndarray, dx: np.ndarray, scratch: Sequence[np.ndarray]
    ) -> Iterator[Call]:
        U, summand, *arrays = scratch
        tiles = self.gradient
        dU = U if len(tiles.blocks) == 1 else arrays.pop()  # when dx is there, U is not needed any more
        yield from filters(w, self.tile, U, flip=True)
        convolutions = tiles.convolve(dy, U.swapaxes(2, 3), None, None, dx, arrays)
        for i, (block, convolution) in enumerate(zip(tiles.blocks, convolutions, strict=True)):
            V, dM, half = tiles.arrays(block, arrays)
            yield from convolution
            yield from tiles.adjoint(block, x, dM, half)
            yield from self.tuning.products.add_product(matrices(V), matrices(dM), dU, summand if i else None)
        yield from store(dU, self.tile, summand, dw, flip=True)

    def _conv2d_rows(
        self, x: np.ndarray, w: np.ndarray, b: np.ndarray | None, activation: str | None, y: np.ndarray
    ) -> None:
        for images, rows, scratch in self._few("conv2d"):
            few = np.empty_like(y[..., images], order="C")
            run(rows.conv2d(np.ascontiguousarray(x[..., images]), w, b, activation, few, scratch))
            y[..., images] = few

    def _input_grad_rows(self, dy: np.ndarray, w: np.ndarray, dx: np.ndarray) -> None:
        for images, rows, scratch in self._few("conv2d_input_grad"):
            few = np.empty_like(dx[..., images], order="C")
            run(rows.input_grad(np.ascontiguousarray(dy[..., images]), w, few, scratch))
            dx[..., images] = few

    def _weight_grad_rows(self, x: np.ndarray, dy: np.ndarray, dw: np.ndarray) -> None:
        summand = np.empty_like(dw)
        for images, rows, scratch in self._few("conv2d_weight_grad"):
            few_x, few_dy = np.ascontiguousarray(x[..., images]), np.ascontiguousarray(dy[..., images])
            run(rows.weight_grad(few_x, few_dy, summand if images.start else dw, scratch))
            if images.start:
                np.add(dw, summand, dw)

    def _few(self, kernel: str) -> Iterator[tuple[slice, Rows, list[np.ndarray]]]:
        """Yield a few images at a time, their products of rows, and scratch: it is seldom wanted, so no plan has it."""
        *size, N = self.x
        for n in range(0, N, FEW_IMAGES):
            rows = Rows((*size, min(FEW_IMAGES, N - n)), self.F, self.window, 1, "float32", self.tuning)
            yield slice(n, n + FEW_IMAGES), rows, [np.empty(*spec) for spec in rows.scratch[kernel]]


class Block(NamedTuple):
    """A block of the images: where strips of columns cross one of rows."""

    rows: Strip
    columns: list[Strip]

    @property
    def size(self) -> tuple[int, int]:
        """Tiles along both axes."""
        return len(self.rows.tiles), sum(len(strip.tiles) for strip in self.columns)


class Tiles:
    """The tiles of images x (H, C, W, N) for a convolution with F filters, and the blocks that are made at a time."""

    def __init__(self, tile: Tile, x: Shape, F: int, window: Window, tuning: Tuning) -> None:
        (H, C, W, N), (OH, OW) = x, window.output_size((x[0], x[2]))
        (top, _), (left, _) = window.padding
        self.tile, self.C, self.F, self.N, self.products = tile, C, F, N, tuning.products
        most, n = tuning.winograd_max_tiles, tile.n
        wanted = min(tuning.winograd_min_columns, tuning.winograd_min_columns_per_channel * max(C, F))
        columns = strips(tile, W, OW, left, most)
        w = longest(columns)
        rows = strips(tile, H, OH, top, min(most, -(-wanted // (w * N))))
        h = longest(rows)
        together = -(-wanted // (h * w * N))
        self.blocks = [Block(r, columns[i : i + together]) for r in rows for i in range(0, len(columns), together)]
        row = max(block.size[1] for block in self.blocks) * N
        H = tile.m * h + tile.r - 1
        most = tuning.winograd_half_bytes // (4 * H * n * row)
        self.channels = max(1, min(max(C, F), most))  # transformed at a time
        sizes = n * C * n * h * row, n * F * n * h * row, H * self.channels * n * w * N
        self.scratch = [Spec((size,), "float32") for size in sizes]

    def arrays(self, block: Block, scratch: Sequence[np.ndarray]) -> tuple[np.ndarray, ...]:
        """Return V (n, C, n·h, w·N) for a block of h by w tiles, M (n, F, n·h, w·N), and scratch between the axes."""
        V, M, half = scratch
        (h, w), n = block.size, self.tile.n
        shape = n, -1, n * h, w * self.N
        per = n * prod(shape[2:])
        return V[: self.C * per].reshape(shape), M[: self.F * per].reshape(shape), half

    def convolve(
        self,
        x: Pixels,
        U: np.ndarray,
        b: np.ndarray | None,
        activation: str | None,
        y: np.ndarray,
        scratch: Sequence[np.ndarray],
    ) -> Iterator[Iterator[Call]]:
        """For each block yield the calls that write its convolution, bias and activation into y (OH, F, OW, N)."""
        for block in self.blocks:
            V, M, half = self.arrays(block, scratch)
            once = matrices(M)[self.tile.one, self.tile.one]
            target = y[block.rows.outputs, :, block.columns[0].outputs.start : block.columns[-1].outputs.stop]
            yield chain(
                self.inputs(block, x, V, half),
                [self.products.product(U, matrices(V), matrices(M))],
                [] if b is None else [partial(np.add, once, b[:, None], once)],
                self.outputs(block, M, y, half),
                [activating(target, activation, target)] if activation else [],
            )

    def inputs(self, block: Block, pixels: Pixels, V: np.ndarray, half: np.ndarray) -> Iterator[Call]:
        """Make ``V[:, c] = B_h · x[:, c] · B_wᵀ``."""
        yield from pixels.until(block.rows.inputs.stop)  # just before they are wanted: then they are in cache
        x = pixels.x[block.rows.inputs]
        for channels, columns, between, piece in self._pieces(block, len(x), half, V):
            yield partial(np.matmul, columns.B, x[:, channels, columns.inputs], by_pixel(between, self.N))
            yield partial(np.matmul, block.rows.B, between.transpose(2, 1, 0, 3), piece)

    def adjoint(self, block: Block, pixels: Pixels, M: np.ndarray, half: np.ndarray) -> Iterator[Call]:
        """Make ``M[:, f] = A_hᵀ · y[:, f] · A_w``, the adjoint of :meth:`outputs`."""
        yield from pixels.until(block.rows.outputs.stop)
        y = pixels.x[block.rows.outputs]
        for channels, columns, between, piece in self._pieces(block, len(y), half, M):
            yield partial(np.matmul, columns.AT, y[:, channels, columns.outputs], by_pixel(between, self.N))
            yield partial(np.matmul, block.rows.AT, between.transpose(2, 1, 0, 3), piece)

    def outputs(self, block: Block, M: np.ndarray, y: np.ndarray, half: np.ndarray) -> Iterator[Call]:
        """Write ``y[:, f] = A_h · M[:, f] · A_wᵀ``."""
        y = y[block.rows.outputs]
        for channels, columns, between, piece in self._pieces(block, len(y), half, M):
            yield partial(np.matmul, block.rows.A, piece, between.transpose(2, 1, 0, 3))
            yield partial(np.matmul, columns.A, by_pixel(between, self.N), y[:, channels, columns.outputs])

    def _pieces(
        self, block: Block, H: int, half: np.ndarray, V: np.ndarray
    ) -> Iterator[tuple[slice, Strip, np.ndarray, np.ndarray]]:
        """Yield channels, columns, their scratch between the axes (H, C, n, w·N), and their V (n, C, n·h, w·N)."""
        first = block.columns[0].tiles.start
        for c in range(0, V.shape[1], self.channels):
            channels = slice(c, min(c + self.channels, V.shape[1]))
            for columns in block.columns:
                samples = slice((columns.tiles.start - first) * self.N, (columns.tiles.stop - first) * self.N)
                piece = V[:, channels, :, samples]
                shape = H, piece.shape[1], self.tile.n, piece.shape[3]
                yield channels, columns, half[: prod(shape)].reshape(shape), piece


def by_pixel(between: np.ndarray, N: int) -> np.ndarray:
    """Return (H, C, n, tiles·N) as (H, C, n·tiles, N), a view."""
    return between.reshape(*between.shape[:2], -1, N)


def matrices(V: np.ndarray) -> np.ndarray:
    """Return the matrices (n, n, C, P) of V (n, C, n·h, P/h), a view."""
    return V.reshape(len(V), V.shape[1], len(V), -1).swapaxes(1, 2)


def filters(w: np.ndarray, tile: Tile, U: np.ndarray, flip: bool = False) -> Iterator[Call]:
    """``U = G w Gᵀ`` (n, n, F, C) of the weight or of the flipped one, unless it is uneven."""
    by_filter = w.transpose(WEIGHT_ORDER)  # (F, r, r, C)
    G = tile.G[:, ::-1] if flip else tile.G
    yield partial(np.matmul, G, by_filter.reshape(len(w), tile.r**2, -1), _points(U))
    yield from taps(by_filter)


def store(dU: np.ndarray, tile: Tile, taps: np.ndarray, dw: np.ndarray, flip: bool = False) -> Iterator[Call]:
    """``dw = Gᵀ · dU · G``, the adjoint of :func:`filters`; scratch for what is sorted by taps."""
    by_tap = taps.reshape(-1)[: dw.size].reshape(len(dw), tile.r**2, -1)
    G = tile.G[:, ::-1] if flip else tile.G
    yield partial(np.matmul, G.T, _points(dU), by_tap)  # (F, r², C)
    yield partial(setitem, dw.transpose(WEIGHT_ORDER), ..., by_tap.reshape(len(dw), tile.r, tile.r, -1))


def _points(U: np.ndarray) -> np.ndarray:
    """U (n, n, F, C) as (F, n², C), a view."""
    return U.reshape(-1, *U.shape[2:]).swapaxes(0, 1)
