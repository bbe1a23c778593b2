"""Winograd's convolution F(4×4, 3×3): a quarter of the multiplications, and products of matrices all the way.

A tile of 4×4 outputs of a 3×3 convolution comes from 6×6 inputs d by 36 multiplications for each channel, not 144
(Lavin & Gray 2015, arXiv:1509.09308):

    y = Aᵀ [(G w Gᵀ) ⊙ (Bᵀ d B)] A

With tiles as vectors that is y = (A⊗A)ᵀ [(G⊗G) w ⊙ (B⊗B)ᵀ d], and summed over the channels, for all tiles at once,

    U = (G⊗G) · w        (36, F·C)
    V = (B⊗B)ᵀ · d       (36, C·P)
    M = U · V            36 products (F, C) · (C, P)
    y = (A⊗A)ᵀ · M       (16, F·P)

The tiles d are windows of size 6 and stride 4, so the rows of :mod:`im2colnet_numpy.lowering` already are the matrix
(36, C·P), where P = tiles along a row · samples. The adjoint of each line gives the weight's gradient. If the input's
is wanted as well it is the adjoint of that convolution of dy (see :mod:`im2colnet_numpy.rows`), whose V serves both.

Exact in exact arithmetic. In float32 an output is off by some 3e-6 of the largest, where the products of rows are off
by 4e-7; with 512 channels a test keeps it below 2e-5. ``IM2COLNET_WINOGRAD=0`` switches it off.
"""
from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from functools import partial
from math import prod
from operator import setitem

import numpy as np

from im2colnet.backend import Call, Shape, Spec
from im2colnet.errors import BackendError
from im2colnet.window import Window
from im2colnet_numpy.channels import rectifying
from im2colnet_numpy.lowering import Lowering, pixel_copy
from im2colnet_numpy.products import product, transposed_product
from im2colnet_numpy.rows import WEIGHT_ORDER

OUT, TAPS = 4, 3                           # outputs of a tile and taps of the kernel, along each axis,
IN = OUT + TAPS - 1                        # and inputs of a tile
LEAST_COLUMNS = 256                        # of the products, where the images have as many
LEAST_CHANNELS = 32                        # with fewer the transforms cost more than the products they save
LEAST_SAMPLES = 8                          # of fewer, what lies together in memory is too short for fast copies
POINTS = (0.0, 1.0, -1.0, 0.5, -2.0)       # and infinity (Barabasz et al. 2020, arXiv:1803.10986)


def enabled() -> bool:
    """Whether it may be used: not with ``IM2COLNET_WINOGRAD=0``."""
    value = os.environ.get("IM2COLNET_WINOGRAD", "1")
    if value not in ("0", "1"):
        raise BackendError(f"IM2COLNET_WINOGRAD must be 0 or 1, it is {value!r}")
    return value == "1"


def transforms(points: Sequence[float] = POINTS, m: int = OUT, r: int = TAPS) -> tuple[np.ndarray, ...]:
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


A, G, B = (np.kron(t, t).astype("float32") for t in transforms())     # (A⊗A)ᵀ (16, 36), G⊗G (36, 9), (B⊗B)ᵀ (36, 36)
EVERYWHERE = (IN + 1) * POINTS.index(1)                               # the row of M that all outputs hold once


class Winograd:
    """The 3×3 convolution at stride 1 of images (H, C, W, N) with F filters: sizes, but no array.

    Attributes
    ----------
    work : dict
        Of each kernel, the scratch arrays that it wants.
    """

    why = "3×3 at stride 1 with many channels and images: a quarter of the multiplications"

    def __init__(self, x: Shape, F: int, window: Window) -> None:
        C, (OH, OW), turned = x[1], window.output_size((x[0], x[2])), window.turned
        if turned is None:
            raise ValueError(f"the input's gradient is no convolution, with {window}")
        self.C, self.F = C, F
        self.forward, self.gradient = Tiles(x, F, window), Tiles((OH, F, OW, x[3]), C, turned)
        U, taps = Spec((IN * IN, F, C), "float32"), Spec((TAPS * TAPS, F, C), "float32")
        part = [taps if tiles.at_once else U for tiles in (self.forward, self.gradient)]
        self.work = {
            "conv2d": [U, *self.forward.work],
            "conv2d_weight_grad": [U, part[0], *self.forward.work],
            "conv2d_input_grad": [U, *self.gradient.work],
        }
        if self.gradient.at_once:
            self.work["conv2d_grads"] = [U, part[1], *self.gradient.work]
        elif prod(U.shape) <= prod(x) + OH * F * OW * x[3]:     # or the sums of weights take the time, and the memory
            self.work["conv2d_grads"] = [U, part[1], *self.gradient.work, U, self.gradient.outputs.spec]

    @staticmethod
    def pays(x: Shape, F: int, window: Window, groups: int, dtype: str) -> bool:
        """Whether it exists for this convolution and is faster than the products of rows."""
        exists = window.kernel == (TAPS, TAPS) and window.stride == window.dilation == (1, 1) and groups == 1
        exists = exists and dtype == "float32" and window.turned is not None
        return exists and min(x[1], F) >= LEAST_CHANNELS and x[3] >= LEAST_SAMPLES and enabled()

    def conv2d(
        self, x: np.ndarray, w: np.ndarray, b: np.ndarray | None, relu: bool, y: np.ndarray, work: Sequence[np.ndarray]
    ) -> Iterator[Call]:
        """Write the convolution with w (F, C, 3, 3), bias and ReLU into y (OH, F, OW, N)."""
        U, *arrays = work
        L, V, M, Y = self.forward.arrays(arrays)
        yield filters(w, G, U)
        for r, m, v, transform in self.forward.transformed(x, L, V):
            yield from transform
            yield from self.forward.multiply(U, r, m, v, b, relu, y, M, Y)

    def input_grad(
        self, dy: np.ndarray, w: np.ndarray, dx: np.ndarray, work: Sequence[np.ndarray]
    ) -> Iterator[Call]:
        """Write the convolution of dy with the weight turned by half a turn into dx (H, C, W, N)."""
        U, *arrays = work
        L, V, M, Y = self.gradient.arrays(arrays)
        yield filters(w, G[:, ::-1], U)
        for r, m, v, transform in self.gradient.transformed(dy, L, V):
            yield from transform
            yield from self.gradient.multiply(U.swapaxes(1, 2), r, m, v, None, False, dx, M, Y)

    def weight_grad(
        self, x: np.ndarray, dy: np.ndarray, dw: np.ndarray, work: Sequence[np.ndarray]
    ) -> Iterator[Call]:
        """Write ``dw = (G⊗G)ᵀ · Σ dM · Vᵀ``, where ``dM = (A⊗A) · dy``, into dw (F, C, 3, 3)."""
        dU, part, *arrays = work
        tiles = self.forward
        L, V, M, Ly = tiles.arrays(arrays)
        both = zip(tiles.transformed(x, L, V), tiles.spread(dy, Ly, M), strict=True)
        for (r, _, v, transform), (dm, spread) in both:
            yield from (*transform, *spread)
            yield from add_product(dm, v, r, dU, part)
        yield from store(dU, G, part, dw)

    def grads(
        self, x: np.ndarray, dy: np.ndarray, w: np.ndarray, dw: np.ndarray, dx: np.ndarray, work: Sequence[np.ndarray]
    ) -> Iterator[Call]:
        """Write both gradients of the tiles of dy, transformed once: dx is their convolution, dw its adjoint at x."""
        U, part, *arrays = work
        tiles = self.gradient
        L, V, M, Y = tiles.arrays(arrays)
        dU, Lx = (U, Y) if tiles.at_once else work[-2:]     # when dx is there, U and Y are not needed any more
        yield filters(w, G[:, ::-1], U)
        both = zip(tiles.transformed(dy, L, V), tiles.spread(x, Lx, M), strict=True)
        for (r, m, v, transform), (dm, spread) in both:
            yield from transform
            yield from tiles.multiply(U.swapaxes(1, 2), r, m, v, None, False, dx, M, Y)
            yield from spread
            yield from add_product(v, dm, r, dU, part)
        yield from store(dU, G[:, ::-1], part, dw)


def filters(w: np.ndarray, G: np.ndarray, U: np.ndarray) -> Call:
    """``U = (G⊗G) · w``."""
    taps = w.transpose(WEIGHT_ORDER).reshape(len(w), TAPS * TAPS, -1)                     # (F, 9, C)
    return partial(np.matmul, G, taps, U.swapaxes(0, 1))


def add_product(a: np.ndarray, b: np.ndarray, r: int, dU: np.ndarray, part: np.ndarray) -> Iterator[Call]:
    """Add ``a · bᵀ`` of the tiles from row r on to dU (36, F, C); the first are all there is so far."""
    yield transposed_product(a, b, part if r else dU)
    if r:
        yield partial(np.add, dU, part, dU)


def store(dU: np.ndarray, G: np.ndarray, part: np.ndarray, dw: np.ndarray) -> Iterator[Call]:
    """``dw = (G⊗G)ᵀ · dU``."""
    taps = part.reshape(-1)[: dw.size].reshape(len(dw), TAPS * TAPS, -1)
    yield partial(np.matmul, G.T, dU.swapaxes(0, 1), taps)                              # (F, 9, C)
    yield partial(setitem, dw.transpose(WEIGHT_ORDER), ..., taps.reshape(len(dw), TAPS, TAPS, -1))


class Tiles:
    """Images x (H, C, W, N) as tiles, m rows of them at a time, P = tiles along a row · samples."""

    def __init__(self, x: Shape, F: int, window: Window) -> None:
        H, C, W, N = x
        OH, OW = window.output_size((H, W))
        rows, self.columns = -(-OH // OUT), -(-OW // OUT)                               # of tiles
        self.C, self.F, self.N, self.P = C, F, N, self.columns * N
        m = min(rows, -(-LEAST_COLUMNS // self.P))
        self.at_once = m == rows
        (top, _), (left, _) = window.padding
        pads = (top, OUT * rows + TAPS - 1 - top - H), (left, OUT * self.columns + TAPS - 1 - left - W)
        self.inputs = Lowering(x, Window((IN, IN), (OUT, OUT), pads), 1, "float32", m)
        pads = (0, OUT * rows - OH), (0, OUT * self.columns - OW)
        self.outputs = Lowering((OH, F, OW, N), Window((OUT, OUT), (OUT, OUT), pads), 1, "float32", m)
        self.V, self.M, self.Y = (IN * IN, C, m, self.P), (IN * IN, F, m, self.P), (m, OUT * OUT, F, self.P)
        L = self.inputs.spec.shape
        # M may lie where L does, which is not needed any more; but of several tiles it keeps the padding
        memory = [(max(prod(L), prod(self.M)),)] if self.at_once else [L, self.M]
        self.work = [Spec(shape, "float32") for shape in (self.V, self.Y, *memory)]

    def arrays(self, work: Sequence[np.ndarray]) -> tuple[np.ndarray, ...]:
        """Return L, V, M and Y of scratch as ``self.work`` lists it."""
        V, Y, *memory = work
        if self.at_once:
            memory = [memory[0][: prod(shape)].reshape(shape) for shape in (self.inputs.spec.shape, self.M)]
        return memory[0], V, memory[1], Y

    def transformed(
        self, x: np.ndarray, L: np.ndarray, V: np.ndarray
    ) -> Iterator[tuple[int, int, np.ndarray, list[Call]]]:
        """Yield ``(r, m, V, calls)``: rows r to r + m of tiles, calls that make ``V = (B⊗B)ᵀ · d`` (36, C, m·P)."""
        for r, m, d, copies in self.inputs.tiles(x, L):
            d = d.reshape(m, IN * IN, self.C, self.P).swapaxes(1, 2)
            transform = partial(np.matmul, B, d, V[:, :, :m].transpose(2, 1, 0, 3))     # (m, C, 36, P)
            yield r, m, V[:, :, :m].reshape(IN * IN, self.C, -1), [*copies, transform]

    def spread(self, y: np.ndarray, L: np.ndarray, M: np.ndarray) -> Iterator[tuple[np.ndarray, list[Call]]]:
        """Yield ``(M, calls)``: calls that make ``(A⊗A) · d`` (36, F, m·P) of tiles d of y, the last step's adjoint."""
        for _, m, d, copies in self.outputs.tiles(y, L.reshape(self.outputs.spec.shape)):
            d = d.reshape(m, OUT * OUT, self.F, self.P).swapaxes(1, 2)
            transform = partial(np.matmul, A.T, d, M[:, :, :m].transpose(2, 1, 0, 3))   # (m, F, 36, P)
            yield M[:, :, :m].reshape(IN * IN, self.F, -1), [*copies, transform]

    def multiply(
        self, U: np.ndarray, r: int, m: int, v: np.ndarray, b: np.ndarray | None, relu: bool, y: np.ndarray,
        M: np.ndarray, Y: np.ndarray,
    ) -> Iterator[Call]:
        """Write ``y = (A⊗A)ᵀ · (U · V)``, plus bias and with ReLU, into these tiles of y (OH, F, OW, N)."""
        yield product(U, v, M[:, :, :m].reshape(IN * IN, self.F, -1))
        if b is not None:
            once = M[EVERYWHERE, :, :m]
            yield partial(np.add, once, b[:, None, None], once)
        yield partial(np.matmul, A, M[:, :, :m].transpose(2, 1, 0, 3), Y[:m].swapaxes(1, 2))   # (m, F, 16, P)
        tile = y[OUT * r : OUT * (r + m)]                                               # still in cache
        rows = Y[:m].reshape(m * OUT, OUT, self.F, self.columns, self.N)[: len(tile)]
        for j in range(min(OUT, tile.shape[2])):
            target = tile[:, :, j::OUT]
            yield pixel_copy(target, rows[:, j, :, : target.shape[2]])
        if relu:
            yield rectifying(tile, tile)
