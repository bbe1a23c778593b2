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
    """im2col: write the windows of images as columns of a matrix.

    Parameters
    ----------
    input : Array, (N, C, H, W) or (C, H, W)
        Images.
    kernel_size, dilation : int or (height, width)
        Size of the window, and the spacing between the pixels that it reads.
    padding : int, (height, width), ((top, bottom), (left, right)), "same" or "valid"
        Number of zeros added around the image.
    stride : int or (height, width)
        Step of the window, in pixels.

    Returns
    -------
    Array, (N, C·KH·KW, OH·OW) or (C·KH·KW, OH·OW)
        Row ``(c·KH + i)·KW + j`` holds pixel (i, j) of each window in channel c.

    Raises
    ------
    ShapeError, DTypeError, BackendError
        If the arguments do not fit together; the message names them.

    See Also
    --------
    fold : The adjoint.
    conv2d : Without bias and groups equal to ``weight.reshape(F, -1) @ unfold(input, ...)``, except for the shape.

    Examples
    --------
    The four 2×2 windows of a 3×3 image:

    >>> F.unfold(np.arange(9.0).reshape(1, 3, 3), 2)
    array([[0., 1., 3., 4.],
           [1., 2., 4., 5.],
           [3., 4., 6., 7.],
           [4., 5., 7., 8.]])
    """
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
    """col2im, the adjoint of :func:`unfold`: add columns up to images.

    Parameters
    ----------
    input : Array, (N, C·KH·KW, OH·OW) or (C·KH·KW, OH·OW)
        Columns, in the order of :func:`unfold`.
    output_size : int or (height, width)
        Size of the images.
    kernel_size, dilation : int or (height, width)
        Size of the window, and the spacing between the pixels that it reads.
    padding : int, (height, width), ((top, bottom), (left, right)), "same" or "valid"
        Number of pixels around the image; their numbers are discarded.
    stride : int or (height, width)
        Step of the window, in pixels.

    Returns
    -------
    Array, (N, C, H, W) or (C, H, W)
        Each pixel is the sum of the numbers that :func:`unfold` would take from it.

    Raises
    ------
    ShapeError, DTypeError, BackendError
        If the arguments do not fit together; the message names them.

    Notes
    -----
    The adjoint is the map for which ``(unfold(x) * c).sum() == (x * fold(c)).sum()`` for all x and c.

    Examples
    --------
    How often a 2×2 window reads each pixel of a 3×3 image:

    >>> F.fold(np.ones((4, 4)), 3, 2)
    array([[[1., 2., 1.],
            [2., 4., 2.],
            [1., 2., 1.]]])
    """
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
