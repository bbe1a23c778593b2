"""Convolution as products of lowered rows by cuBLAS (see :mod:`im2colnet_numpy.rows` for the formulas)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import prod
from typing import Any

from im2colnet.types import Call, Shape, Spec, accumulator
from im2colnet.window import Pair, Window
from im2colnet_cupy import cuda
from im2colnet_cupy.activation import kind_arguments
from im2colnet_cupy.cuda import prepared, product

Array = Any
WEIGHT_ORDER = (0, 2, 3, 1)  # (F, KH, KW, C/G): the order in which rows are lowered
PRODUCT_BYTES = 1 << 26  # bytes of rows' products that are added up at a time


def window_arguments(window: Window, size: Pair) -> tuple[int, ...]:
    """Return a window's arguments of a kernel: WINDOW in ``common.cu``."""
    (top, _), (left, _) = window.padding
    return (*size, *window.output_size(size), *window.kernel, *window.stride, *window.dilation, top, left)


class Rows:
    """Any convolution of images ``x`` (H, C, W, N) with F filters: sizes, but no array.

    Attributes
    ----------
    scratch : dict
        The scratch arrays of each kernel, by its name.
    flipped : Rows, optional
        The input's gradient as a convolution of ``dy``.
    """

    why = "the general one"

    def __init__(self, x: Shape, F: int, window: Window, groups: int, dtype: str, flipped: Rows | None = None) -> None:
        (H, C, W, N), self.window, self.G = x, window, groups
        (OH, OW), (KH, KW) = window.output_size((H, W)), window.kernel
        self.x, self.y = x, (OH, F, OW, N)
        self.shared = window.dilation[0] == 1 and window.stride[0] < KH  # neighbouring windows share rows
        self.pitch = window.stride[0] if self.shared else KH  # lowered rows from one window to the next
        self.direct = window.kernel == window.stride == (1, 1) and window.padding == ((0, 0), (0, 0))
        self.K = KH * KW * (C // groups)
        rows = groups, (OH - 1) * self.pitch + KH, KW, C // groups, OW, N
        self.lowered: tuple[int, ...] = () if self.direct else rows
        self.rows = max(1, min(OH, PRODUCT_BYTES // (F * self.K * 4)))
        L = Spec(self.lowered or (1,), dtype)
        self.flipped = flipped
        products = Spec((self.rows + 1, F, self.K), accumulator(dtype))
        self.scratch = {"conv2d": [L], "conv2d_weight_grad": [L, products]}
        if self.flipped:
            self.scratch["conv2d_input_grad"] = [Spec((F * self.K,), dtype), *self.flipped.scratch["conv2d"]]
        else:
            self.scratch["conv2d_input_grad"] = [Spec((OH, groups, self.K, OW, N), dtype)]

    def lower(self, x: Array, L: Array) -> Iterator[Call]:
        """Lower ``x`` into L, where it is not what is multiplied already."""
        if not self.direct:
            H, C, W, N = self.x
            arguments = self.G, C // self.G, N, self.lowered[1], self.shared, *window_arguments(self.window, (H, W))
            stretches, length = prod(self.lowered[:4]), prod(self.lowered[4:])
            width = 16  # threads that copy a stretch, a power of two: each 4 numbers, if there are as many threads
            while width < min(cuda.THREADS, length // 4):
                width *= 2
            block = min(width, cuda.THREADS), max(1, cuda.THREADS // width)
            grid = (min(-(-stretches // block[1]), cuda.MAX_BLOCKS),)
            yield prepared("convolution.cu", "lower", L, x, L, *arguments, grid=grid, block=block)

    def steps(self) -> tuple[int, int, int]:
        """Return strides of the windows' matrices (K, OW·N), in elements: to the next group, output row, matrix row."""
        _, C, W, N = self.x
        if self.direct:
            return C // self.G * W * N, C * W * N, W * N
        row = prod(self.lowered[2:])
        return self.lowered[1] * row, self.pitch * row, self.lowered[4] * N

    def conv2d(
        self,
        x: Array,
        w: Array,
        b: Array | None,
        activation: str | None,
        y: Array,
        scratch: Sequence[Array],
        tf32: bool,
    ) -> Iterator[Call]:
        """Write the products of w, stored (F, KH, KW, C/G), with the lowered rows, bias and activation into y."""
        L = x if self.direct else scratch[0]
        yield from self.lower(x, L)
        (OH, F, OW, N), (group, row, columns) = self.y, self.steps()
        f = F // self.G
        for g in range(self.G):
            yield product(
                w,
                L,
                y,
                f,
                columns,
                self.K,
                self.K,
                columns,
                (0, row, F * OW * N),
                OH,
                offsets=(g * f * self.K, g * group, g * f * columns),
                tf32=tf32,
            )
        yield from self.finish(y, b, activation)

    def finish(self, y: Array, b: Array | None, activation: str | None) -> Iterator[Call]:
        """Add a bias to y, and apply the activation."""
        OH, F, OW, N = self.y
        if b is not None or activation:
            arguments = y if b is None else b, OH, F, OW * N, b is not None, *kind_arguments(activation)
            grid = cuda.row_grid(OH * F, OW * N)
            yield prepared("convolution.cu", "add_bias", y, y, *arguments, grid=grid)

    def weight_grad(self, x: Array, dy: Array, dw: Array, scratch: Sequence[Array], tf32: bool) -> Iterator[Call]:
        """Write ``Σ_r dy[r] · L[r·stride : r·stride + KH]ᵀ`` into dw, stored (F, KH, KW, C/G)."""
        (OH, F, _, _), (group, row, columns) = self.y, self.steps()
        L, products, f = x if self.direct else scratch[0], scratch[1], F // self.G
        yield from self.lower(x, L)
        for r in range(0, OH, self.rows):
            m = min(self.rows, OH - r)
            at = 1 if r else 0  # the sum of those before comes first
            for g in range(self.G):
                yield product(
                    dy,
                    L,
                    products,
                    f,
                    self.K,
                    columns,
                    columns,
                    columns,
                    (F * columns, row, F * self.K),
                    m,
                    transposed=(False, True),
                    tf32=tf32,
                    offsets=(r * F * columns + g * f * columns, g * group + r * row, (at * F + g * f) * self.K),
                )
            target = dw if r + m == OH else products[0]
            size = F * self.K
            yield prepared("convolution.cu", "sum_rows", target, products, target, at + m, size, elements=size)

    def input_grad(self, dy: Array, w: Array, dx: Array, scratch: Sequence[Array], tf32: bool) -> Iterator[Call]:
        """Write the gradient with respect to the input into dx (H, C, W, N)."""
        (H, C, W, N), (OH, F, OW, _), G = self.x, self.y, self.G
        if self.flipped:
            flipped, *scratch = scratch
            yield prepared("convolution.cu", "flip", flipped, w, flipped, G, F // G, C // G, *self.window.kernel)
            yield from self.flipped.conv2d(dy, flipped, None, None, dx, scratch, tf32)
            return
        (columns,), f, n = scratch, F // G, OW * N
        for g in range(G):  # columns[r] = wᵀ · dy[r]
            yield product(
                w,
                dy,
                columns,
                self.K,
                n,
                f,
                self.K,
                n,
                (0, F * n, G * self.K * n),
                OH,
                transposed=(True, False),
                offsets=(g * f * self.K, g * f * n, g * self.K * n),
                tf32=tf32,
            )
        window = window_arguments(self.window, (H, W))
        yield prepared("convolution.cu", "col2im", dx, columns, dx, G, C // G, N, True, *window)
