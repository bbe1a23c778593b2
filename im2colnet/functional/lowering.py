"""im2col and col2im."""

from __future__ import annotations

from typing import Any

from im2colnet.errors import ShapeError
from im2colnet.functional.arguments import _check, _images, _native, _rows, _told, _zeros
from im2colnet.types import Array
from im2colnet.window import make_window, pair


@_told
def unfold(x: Array, kernel_size: Any, dilation: Any = 1, padding: Any = 0, stride: Any = 1) -> Array:
    """im2col: the windows of ``x`` (N, C, H, W) as columns, (N, C·KH·KW, OH·OW)."""
    backend, window = _check(("x", x, 4)), make_window(kernel_size, stride, padding, dilation)
    if not len(x):
        OH, OW = window.output_size(x.shape[2:])
        return _zeros(backend, x, (0, x.shape[1] * window.kernel[0] * window.kernel[1], OH * OW))
    columns = backend.im2col(_rows(backend, x), window)  # (OH, C, KH, KW, OW, N)
    OH, C, KH, KW, OW, N = columns.shape
    with backend.context():
        return backend.xp.ascontiguousarray(columns.transpose(5, 1, 2, 3, 0, 4)).reshape(N, C * KH * KW, OH * OW)


@_told
def fold(
    cols: Array, output_size: Any, kernel_size: Any, dilation: Any = 1, padding: Any = 0, stride: Any = 1
) -> Array:
    """col2im, the adjoint of :func:`unfold`: add columns (N, C·KH·KW, OH·OW) up to images (N, C, *output_size)."""
    backend, window = _check(("cols", cols, 3)), make_window(kernel_size, stride, padding, dilation)
    size = pair(output_size, "output_size")
    (OH, OW), (KH, KW), (N, K, _) = window.output_size(size), window.kernel, cols.shape
    if K % (KH * KW) or cols.shape[2] != OH * OW:
        raise ShapeError(
            f"cols must have shape (N, C·{KH * KW}, {OH * OW}) for a kernel {KH}×{KW} and"
            f" {OH}×{OW} windows, got {cols.shape}"
        )
    if not N:
        return _zeros(backend, cols, (0, K // (KH * KW), *size))
    columns = _native(cols).reshape(N, K // (KH * KW), KH, KW, OH, OW).transpose(4, 1, 2, 3, 5, 0)
    return _images(backend, backend.col2im(columns, window, size))
