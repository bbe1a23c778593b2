"""im2col and col2im."""

from __future__ import annotations

from typing import Any

from im2colnet.backend import Backend
from im2colnet.errors import ShapeError
from im2colnet.functional.arguments import check_images, check_rank, from_rows, on_arrays, to_rows, zeros
from im2colnet.types import Array
from im2colnet.window import make_window, pair

__all__ = ["fold", "unfold"]


@on_arrays("input", samples=4)
def unfold(
    backend: Backend, input: Array, kernel_size: Any, dilation: Any = 1, padding: Any = 0, stride: Any = 1
) -> Array:
    """im2col: the windows of images (N, C, H, W) as columns, (N, C·KH·KW, OH·OW)."""
    check_images(input=input)
    window = make_window(kernel_size, stride, padding, dilation)
    if not len(input):
        OH, OW = window.output_size(input.shape[2:])
        return zeros(backend, input, (0, input.shape[1] * window.kernel[0] * window.kernel[1], OH * OW))
    columns = backend.im2col(to_rows(backend, input), window)  # (OH, C, KH, KW, OW, N)
    OH, C, KH, KW, OW, N = columns.shape
    return backend.xp.ascontiguousarray(columns.transpose(5, 1, 2, 3, 0, 4)).reshape(N, C * KH * KW, OH * OW)


@on_arrays("input", samples=3)
def fold(
    backend: Backend,
    input: Array,
    output_size: Any,
    kernel_size: Any,
    dilation: Any = 1,
    padding: Any = 0,
    stride: Any = 1,
) -> Array:
    """col2im, the adjoint of :func:`unfold`: add columns (N, C·KH·KW, OH·OW) up to images (N, C, *output_size)."""
    check_rank("input", input, 3, meaning=", (N, C·KH·KW, L), or 2 without N")
    window, size = make_window(kernel_size, stride, padding, dilation), pair(output_size, "output_size")
    (OH, OW), (KH, KW), (N, K, L) = window.output_size(size), window.kernel, input.shape
    if not K or K % (KH * KW) or L != OH * OW:
        raise ShapeError(
            f"input must have shape (N, C·{KH * KW}, {OH * OW}) for a kernel {KH}×{KW} and"
            f" {OH}×{OW} windows, got {input.shape}"
        )
    if not N:
        return zeros(backend, input, (0, K // (KH * KW), *size))
    columns = input.reshape(N, K // (KH * KW), KH, KW, OH, OW).transpose(4, 1, 2, 3, 5, 0)
    return from_rows(backend, backend.col2im(columns, window, size))
