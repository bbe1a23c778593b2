"""Depthwise convolution, one channel to a group."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import prod
from typing import Any

from im2colnet.types import Call, Shape, Spec
from im2colnet.window import Window
from im2colnet_cupy import sums
from im2colnet_cupy.activation import kind_arguments
from im2colnet_cupy.cuda import prepared, row_grid
from im2colnet_cupy.rows import window_arguments

Array = Any


class Depthwise:
    """The convolution of images ``x`` (H, C, W, N) channel by channel, by kernels that read the images as they are."""

    why = "a channel to a group"

    def __init__(self, x: Shape, window: Window) -> None:
        self.x, self.window = x, window
        parts = Spec((min(sums.SUM_BLOCKS, window.output_size((x[0], x[2]))[0]), x[1], *window.kernel), "float64")
        self.scratch: dict[str, list[Spec]] = {"conv2d": [], "conv2d_weight_grad": [parts], "conv2d_input_grad": []}

    def _arguments(self) -> tuple[int, ...]:
        H, C, W, N = self.x
        return C, N, *window_arguments(self.window, (H, W))

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
        (C, N, *window), kind = self._arguments(), kind_arguments(activation)
        arguments = x, w, w if b is None else b, y, C, N, b is not None, *kind, *window
        yield prepared("convolution.cu", "depthwise", y, *arguments, grid=_row_grid(y))

    def weight_grad(self, x: Array, dy: Array, dw: Array, scratch: Sequence[Array], tf32: bool) -> Iterator[Call]:
        (parts,) = scratch
        grid = self.x[1], prod(self.window.kernel), len(parts)
        yield prepared("convolution.cu", "depthwise_weight_grad", x, x, dy, parts, *self._arguments(), grid=grid)
        yield sums.join(parts, dw)

    def input_grad(self, dy: Array, w: Array, dx: Array, scratch: Sequence[Array], tf32: bool) -> Iterator[Call]:
        yield prepared("convolution.cu", "depthwise_input_grad", dx, dy, w, dx, *self._arguments(), grid=_row_grid(dx))


def _row_grid(images: Array) -> tuple[int, int]:
    H, C, W, N = images.shape
    return row_grid(H * C, W * N)
