"""Pooling, its gradients, and what puts the largest values back."""

from __future__ import annotations

from typing import Any

from im2colnet.backend import Backend, position_type
from im2colnet.checks import whole
from im2colnet.errors import DTypeError, ShapeError
from im2colnet.functional.applying import apply_to_samples
from im2colnet.functional.arguments import (
    check_grad,
    check_images,
    check_sequences,
    check_sizes,
    from_rows,
    on_arrays,
    to_rows,
    zeros,
)
from im2colnet.layers import (
    AdaptiveAvgPool1d,
    AdaptiveAvgPool2d,
    AdaptiveMaxPool1d,
    AdaptiveMaxPool2d,
    AvgPool1d,
    Layer,
    LPPool2d,
    MaxPool1d,
)
from im2colnet.layers.pooling import shares
from im2colnet.types import Array, Shape
from im2colnet.window import make_window, pair, pooling_window

__all__ = [
    "adaptive_avg_pool1d",
    "adaptive_avg_pool2d",
    "adaptive_max_pool1d",
    "adaptive_max_pool2d",
    "avg_pool1d",
    "avg_pool2d",
    "avg_pool2d_input",
    "lp_pool2d",
    "max_pool1d",
    "max_pool2d",
    "max_pool2d_input",
    "max_unpool2d",
]


@on_arrays("input", samples=4)
def max_pool2d(
    backend: Backend,
    input: Array,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Any:
    """2-D max pooling: the largest value of each window of images.

    Parameters
    ----------
    input : Array, (N, C, H, W) or (C, H, W)
        Images.
    kernel_size, stride : int or (height, width)
        Size of the window and its step, in pixels. The stride defaults to the kernel size.
    padding : int, (height, width) or ((top, bottom), (left, right))
        Number of pixels added around the image, at most half of the kernel size, as in PyTorch. The padding is never
        the maximum.
    dilation : int or (height, width)
        Spacing between the pixels that a window reads; 1 means adjacent pixels.
    ceil_mode : bool
        Whether to round the output's size up, so that the last window may reach beyond the padding.
    return_indices : bool
        Whether to return the positions of the maxima too, for :func:`max_unpool2d`.

    Returns
    -------
    Array, (N, C, OH, OW) or (C, OH, OW)
        The maxima, ``OH = (H + padding - dilation·(KH - 1) - 1) // stride + 1``.
        With ``return_indices`` the result is a pair. The second array has the integer position of each maximum in its
        flattened image, ``row · W + column``: the first position if several are equal, the last position for NaN.

    Raises
    ------
    ShapeError, DTypeError, BackendError
        If the arguments do not fit together; the message names them.

    Notes
    -----
    If a window contains only padding (possible with a large dilation), its maximum is -infinity and its index is that
    of the nearest pixel of the image.

    Examples
    --------
    >>> x = np.array([[[1.0, 2, 0, 0], [3, 4, 0, 8]]])
    >>> F.max_pool2d(x, 2, return_indices=True)
    (array([[[4., 8.]]]), array([[[5, 7]]]))
    """
    check_images(input=input)
    window = pooling_window(kernel_size, stride, padding, dilation, ceil_mode)
    if not len(input):
        y = zeros(backend, input, (*input.shape[:2], *window.output_size(input.shape[2:])))
        return (y, y.astype("int64")) if return_indices else y
    rows = to_rows(backend, input)
    if not return_indices:
        return from_rows(backend, backend.max_pool2d(rows, window))
    xp, KW, (shape, _) = backend.xp, window.kernel[1], backend.max_pool2d.result(rows, window)
    if backend.max_pool2d.takes("positions"):
        positions = backend.empty(shape, position_type(window))
        y, tap = backend.max_pool2d(rows, window, positions), positions.astype("int64")  # (OH, C, OW, N)
    else:
        y, tap = backend.max_pool2d(rows, window), backend.first_maximum(rows, window)
    (sh, sw), (dh, dw), ((top, _), (left, _)) = window.stride, window.dilation, window.padding
    H, W = input.shape[2:]
    row = xp.arange(tap.shape[0])[:, None, None, None] * sh + tap // KW * dh - top
    column = xp.arange(tap.shape[2])[:, None] * sw + tap % KW * dw - left
    place = xp.minimum(xp.maximum(row, 0), H - 1) * W + xp.minimum(xp.maximum(column, 0), W - 1)
    return from_rows(backend, y), from_rows(backend, place)


@on_arrays("input", "grad_output", samples=4, like="grad_output")
def max_pool2d_input(
    backend: Backend,
    input: Array,
    grad_output: Array,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
) -> Array:
    """Gradient of :func:`max_pool2d` with respect to its input: each window's gradient goes to its first maximum.

    Parameters
    ----------
    input : Array, (N, C, H, W) or (C, H, W)
        Images.
    grad_output : Array, (N, C, OH, OW) or (C, OH, OW)
        Gradient of the output.
    kernel_size, stride : int or (height, width)
        Size of the window and its step, in pixels. The stride defaults to the kernel size.
    padding : int, (height, width) or ((top, bottom), (left, right))
        Number of pixels added around the image, at most half of the kernel size, as in PyTorch.
    dilation : int or (height, width)
        Spacing between the pixels that a window reads; 1 means adjacent pixels.
    ceil_mode : bool
        Whether to round the output's size up, so that the last window may reach beyond the padding.

    Returns
    -------
    Array, (N, C, H, W) or (C, H, W)
        Gradient of the input. In a window with NaN it goes to the last NaN, as in PyTorch; in a window with only
        padding it is dropped.

    Raises
    ------
    ShapeError, DTypeError, BackendError
        If the arguments do not fit together; the message names them.

    Examples
    --------
    >>> x = np.array([[[1.0, 2, 0, 0], [3, 4, 0, 8]]])
    >>> F.max_pool2d_input(x, np.array([[[10.0, 20.0]]]), 2)
    array([[[ 0.,  0.,  0.,  0.],
            [ 0., 10.,  0., 20.]]])
    """
    check_images(input=input, grad_output=grad_output)
    window = pooling_window(kernel_size, stride, padding, dilation, ceil_mode)
    check_grad(grad_output, (*input.shape[:2], *window.output_size(input.shape[2:])))
    if not len(input):
        return zeros(backend, input, input.shape)
    rows = to_rows(backend, input)
    y = backend.max_pool2d(rows, window)
    return from_rows(backend, backend.max_pool2d_grad(rows, y, to_rows(backend, grad_output), window))


@on_arrays("input", samples=4, like="indices")
def max_unpool2d(
    backend: Backend,
    input: Array,
    indices: Array,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    output_size: Any = None,
) -> Array:
    """Put the largest values of windows back where :func:`max_pool2d` found them; all other pixels are 0.

    Parameters
    ----------
    input : Array, (N, C, OH, OW) or (C, OH, OW)
        The values.
    indices : Array of int, like ``input``
        The second result of ``max_pool2d(..., return_indices=True)``.
    kernel_size, stride : int or (height, width)
        Size of the window and its step, in pixels. The stride defaults to the kernel size.
    padding : int, (height, width) or ((top, bottom), (left, right))
        The padding of the pooling.
    output_size : (H, W), optional
        Size of the result; by default the size of the smallest image that has these windows. The shape of the whole
        result, (N, C, H, W), is also accepted.

    Returns
    -------
    Array, (N, C, H, W) or (C, H, W)
        The images. If several windows have the same pixel as maximum, the value of the last window is used.

    Raises
    ------
    ShapeError, DTypeError, BackendError
        If the arguments do not fit together; the message names them.

    Examples
    --------
    >>> x = np.array([[[1.0, 2, 0, 0], [3, 4, 0, 8]]])
    >>> largest, places = F.max_pool2d(x, 2, return_indices=True)
    >>> F.max_unpool2d(largest, places, 2)
    array([[[0., 0., 0., 0.],
            [0., 4., 0., 8.]]])
    """
    check_images(input=input)
    window = make_window(kernel_size, kernel_size if stride is None else stride, padding)
    (N, C, OH, OW), xp = input.shape, backend.xp
    if output_size is not None and hasattr(output_size, "__len__") and len(output_size) > 2:
        output_size = output_size[-2:]
    H, W = window.image_size((OH, OW)) if output_size is None else pair(output_size, "output_size")
    if not backend.owns(indices) or indices.dtype.kind not in "iu":
        raise DTypeError(
            f"indices must be integers of the backend {backend.full_name!r}, got {type(indices).__name__} of"
            f" {getattr(indices, 'dtype', 'no type')}"
        )
    if indices.shape != input.shape:
        raise ShapeError(f"indices must have the shape of input, {tuple(input.shape)}, got {tuple(indices.shape)}")
    y = zeros(backend, input, (N, C, H * W))
    if N:
        outside = (indices < 0) | (indices >= H * W)
        if backend.to_numpy(outside.any()):
            raise ShapeError(f"indices must be 0 to {H * W - 1} for an output of {H}×{W} pixels")
        first = xp.arange(N * C).reshape(N, C, 1, 1) * (H * W)  # of each channel's pixels
        y.reshape(-1)[(first + indices).reshape(-1)] = input.reshape(-1)
    return y.reshape(N, C, H, W)


@on_arrays("input", samples=4)
def avg_pool2d(
    backend: Backend,
    input: Array,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
    *,
    dilation: Any = 1,
) -> Array:
    """2-D average pooling: the mean of each window of images.

    Parameters
    ----------
    input : Array, (N, C, H, W) or (C, H, W)
        Images.
    kernel_size, stride : int or (height, width)
        Size of the window and its step, in pixels. The stride defaults to the kernel size.
    padding : int, (height, width) or ((top, bottom), (left, right))
        Number of pixels added around the image, at most half of the kernel size, as in PyTorch.
    ceil_mode : bool
        Whether to round the output's size up, so that the last window may reach beyond the padding.
    count_include_pad : bool
        Whether the padding counts in the number that the sum of a window is divided by.
    divisor_override : int, optional
        Number that the sum of a window is divided by, in place of the number of its pixels; at least 1.
    dilation : int or (height, width)
        Spacing between the pixels that a window reads; PyTorch does not have this argument.

    Returns
    -------
    Array, (N, C, OH, OW) or (C, OH, OW)
        The means, ``OH = (H + padding - dilation·(KH - 1) - 1) // stride + 1``.

    Raises
    ------
    ShapeError, DTypeError, BackendError
        If the arguments do not fit together; the message names them.

    Examples
    --------
    >>> F.avg_pool2d(np.array([[[1.0, 2, 0, 0], [3, 4, 0, 8]]]), 2)
    array([[[2.5, 2. ]]])
    """
    check_images(input=input)
    window = pooling_window(kernel_size, stride, padding, dilation, ceil_mode)
    divisor = _divisor(divisor_override)
    if not len(input):
        return zeros(backend, input, (*input.shape[:2], *window.output_size(input.shape[2:])))
    return from_rows(backend, backend.avg_pool2d(to_rows(backend, input), window, count_include_pad, *divisor))


@on_arrays("grad_output")
def avg_pool2d_input(
    backend: Backend,
    input_size: Shape,
    grad_output: Array,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
    *,
    dilation: Any = 1,
) -> Array:
    """Gradient of :func:`avg_pool2d` with respect to its input: each pixel of a window gets an equal part.

    Parameters
    ----------
    input_size : (N, C, H, W)
        Shape of the input.
    grad_output : Array, (N, C, OH, OW)
        Gradient of the output.
    kernel_size, stride : int or (height, width)
        Size of the window and its step, in pixels. The stride defaults to the kernel size.
    padding : int, (height, width) or ((top, bottom), (left, right))
        Number of pixels added around the image, at most half of the kernel size, as in PyTorch.
    ceil_mode : bool
        Whether to round the output's size up, so that the last window may reach beyond the padding.
    count_include_pad : bool
        Whether the padding counts in the number that the sum of a window is divided by.
    divisor_override : int, optional
        Number that the sum of a window is divided by, in place of the number of its pixels; at least 1.
    dilation : int or (height, width)
        Spacing between the pixels that a window reads; 1 means adjacent pixels.

    Returns
    -------
    Array, (N, C, H, W)
        Gradient of the input.

    Raises
    ------
    ShapeError, DTypeError, BackendError
        If the arguments do not fit together; the message names them.

    Examples
    --------
    >>> dy = np.array([[[[4.0, 8.0]]]])
    >>> F.avg_pool2d_input((1, 1, 2, 4), dy, 2)
    array([[[[1., 1., 2., 2.],
             [1., 1., 2., 2.]]]])
    """
    check_images(grad_output=grad_output)
    window = pooling_window(kernel_size, stride, padding, dilation, ceil_mode)
    N, C, H, W = check_sizes(input_size, "input_size")
    check_grad(grad_output, (N, C, *window.output_size((H, W))))
    divisor = _divisor(divisor_override)
    if not N:
        return zeros(backend, grad_output, input_size)
    rows = backend.avg_pool2d_grad(to_rows(backend, grad_output), (H, W), window, count_include_pad, *divisor)
    return from_rows(backend, rows)


def _divisor(divisor_override: int | None) -> list[int]:
    """Return the divisor as the argument that kernels take, none if there is none."""
    return [] if divisor_override is None else [whole("divisor_override", divisor_override)]


@on_arrays("input", samples=4)
def adaptive_avg_pool2d(backend: Backend, input: Array, output_size: Any) -> Array:
    """Adaptive average pooling of images to a given size.

    Parameters
    ----------
    input : Array, (N, C, H, W) or (C, H, W)
        Images.
    output_size : int or (height, width)
        Size of the output. None for an axis keeps the size of the input.

    Returns
    -------
    Array, (N, C, OH, OW) or (C, OH, OW)
        The means of the windows of :class:`im2colnet.AdaptiveAvgPool2d`.

    Raises
    ------
    ShapeError, DTypeError, BackendError
        If the arguments do not fit together; the message names them.

    Examples
    --------
    >>> x = np.array([[[1.0, 2, 0, 0], [3, 4, 0, 8]]])
    >>> F.adaptive_avg_pool2d(x, (1, 3))
    array([[[2.5, 1.5, 2. ]]])
    """
    check_images(input=input)
    return apply_to_samples(AdaptiveAvgPool2d(output_size), input, backend)


@on_arrays("input", samples=4)
def adaptive_max_pool2d(backend: Backend, input: Array, output_size: Any, return_indices: bool = False) -> Any:
    """Adaptive max pooling of images to a given size.

    Parameters
    ----------
    input : Array, (N, C, H, W) or (C, H, W)
        Images.
    output_size : int or (height, width)
        Size of the output. None for an axis keeps the size of the input.
    return_indices : bool
        Whether to return the positions of the maxima too, as in :func:`max_pool2d`.

    Returns
    -------
    Array, (N, C, OH, OW) or (C, OH, OW)
        The maxima of the windows of :class:`im2colnet.AdaptiveMaxPool2d`; with ``return_indices`` a pair.

    Raises
    ------
    ShapeError, DTypeError, BackendError
        If the arguments do not fit together; the message names them.

    Examples
    --------
    >>> x = np.array([[[1.0, 2, 0, 0], [3, 4, 0, 8]]])
    >>> F.adaptive_max_pool2d(x, (1, 3))
    array([[[4., 4., 8.]]])
    """
    check_images(input=input)
    layer = AdaptiveMaxPool2d(output_size)
    y = apply_to_samples(layer, input, backend)
    if not return_indices:
        return y
    (N, _, H, W), (OH, OW), xp = input.shape, y.shape[2:], backend.xp
    if not N:
        return y, xp.zeros(y.shape, dtype="int64")
    rows, columns = _equal_windows(H, OH), _equal_windows(W, OW)
    KH, KW = len(rows) // OH, len(columns) // OW
    image = input[:, :, xp.asarray(rows)[:, None], xp.asarray(columns)]  # (N, C, OH·KH, OW·KW)
    window = make_window((KH, KW), (KH, KW))
    tap = from_rows(backend, backend.first_maximum(to_rows(backend, image), window))
    row = xp.arange(OH)[:, None] * KH + tap // KW
    column = xp.arange(OW) * KW + tap % KW
    return y, xp.asarray(rows)[row] * W + xp.asarray(columns)[column]


def _equal_windows(length: int, outputs: int) -> list[int]:
    """Return the pixels of an axis that belong to each output, the last one repeated until all have equally many."""
    each = list(shares(length, outputs))
    most = max(of.stop - of.start for of in each)
    return [min(of.start + k, of.stop - 1) for of in each for k in range(most)]


@on_arrays("input", samples=4)
def lp_pool2d(
    backend: Backend,
    input: Array,
    norm_type: float,
    kernel_size: Any,
    stride: Any = None,
    ceil_mode: bool = False,
) -> Array:
    """2-D power-average pooling, ``(Σ x^p)^(1/p)`` of each window of images, p = ``norm_type``.

    Parameters
    ----------
    input : Array, (N, C, H, W) or (C, H, W)
        Images.
    norm_type : float
        The exponent p, more than 0. If it is not an even number, the pixels should not be negative.
    kernel_size, stride : int or (height, width)
        Size of the window and its step, in pixels. The stride defaults to the kernel size.
    ceil_mode : bool
        Whether to round the output's size up, so that the last window may reach beyond the image.

    Returns
    -------
    Array, (N, C, OH, OW) or (C, OH, OW)
        See :class:`im2colnet.LPPool2d`.

    Raises
    ------
    ShapeError, DTypeError, BackendError
        If the arguments do not fit together; the message names them.

    Examples
    --------
    >>> x = np.array([[[1.0, 2, 0, 0], [3, 4, 0, 8]]])
    >>> F.lp_pool2d(x, 2, 2).round(2)
    array([[[5.48, 8.  ]]])
    """
    check_images(input=input)
    return apply_to_samples(LPPool2d(norm_type, kernel_size, stride, ceil_mode), input, backend)


@on_arrays("input", samples=3)
def max_pool1d(
    backend: Backend,
    input: Array,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
) -> Array:
    """1-D max pooling: the largest value of each window of sequences.

    Parameters
    ----------
    input : Array, (N, C, L) or (C, L)
        Sequences.
    kernel_size, stride : int
        Length of the window and its step. The stride defaults to the kernel size.
    padding : int or ((left, right),)
        Number of positions added before and after the sequence, less than the window size (PyTorch: at most half of
        the kernel size). The padding is never the maximum.
    dilation : int
        Spacing between the positions that a window reads; 1 means adjacent positions.
    ceil_mode : bool
        Whether to round the output's size up, so that the last window may reach beyond the padding.

    Returns
    -------
    Array, (N, C, OL) or (C, OL)
        The maxima.

    Raises
    ------
    ShapeError, DTypeError, BackendError
        If the arguments do not fit together; the message names them.

    Examples
    --------
    >>> F.max_pool1d(np.array([[1.0, 3.0, 5.0, 4.0, 9.0]]), 2)
    array([[3., 5.]])
    """
    return _of_sequences(MaxPool1d(kernel_size, stride, padding, dilation, ceil_mode), input, backend)


@on_arrays("input", samples=3)
def avg_pool1d(
    backend: Backend,
    input: Array,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
) -> Array:
    """1-D average pooling: the mean of each window of sequences.

    Parameters
    ----------
    input : Array, (N, C, L) or (C, L)
        Sequences.
    kernel_size, stride : int
        Length of the window and its step. The stride defaults to the kernel size.
    padding : int or ((left, right),)
        Number of zeros added before and after the sequence, less than the window size (PyTorch: at most half of the
        kernel size).
    ceil_mode : bool
        Whether to round the output's size up, so that the last window may reach beyond the padding.
    count_include_pad : bool
        Whether the padding counts in the number that the sum of a window is divided by.

    Returns
    -------
    Array, (N, C, OL) or (C, OL)
        The means.

    Raises
    ------
    ShapeError, DTypeError, BackendError
        If the arguments do not fit together; the message names them.

    Examples
    --------
    >>> F.avg_pool1d(np.array([[1.0, 3.0, 5.0, 4.0, 9.0]]), 2)
    array([[2. , 4.5]])
    """
    return _of_sequences(AvgPool1d(kernel_size, stride, padding, ceil_mode, count_include_pad), input, backend)


@on_arrays("input", samples=3)
def adaptive_avg_pool1d(backend: Backend, input: Array, output_size: Any) -> Array:
    """Adaptive average pooling of sequences to a given length.

    Parameters
    ----------
    input : Array, (N, C, L) or (C, L)
        Sequences.
    output_size : int
        Length of the output.

    Returns
    -------
    Array, (N, C, OL) or (C, OL)
        The means of windows that are as equal as possible.

    Raises
    ------
    ShapeError, DTypeError, BackendError
        If the arguments do not fit together; the message names them.

    Examples
    --------
    >>> x = np.array([[1.0, 3.0, 5.0, 4.0, 9.0]])
    >>> F.adaptive_avg_pool1d(x, 2)
    array([[3., 6.]])
    """
    return _of_sequences(AdaptiveAvgPool1d(output_size), input, backend)


@on_arrays("input", samples=3)
def adaptive_max_pool1d(backend: Backend, input: Array, output_size: Any) -> Array:
    """Adaptive max pooling of sequences to a given length.

    Parameters
    ----------
    input : Array, (N, C, L) or (C, L)
        Sequences.
    output_size : int
        Length of the output.

    Returns
    -------
    Array, (N, C, OL) or (C, OL)
        The maxima of windows that are as equal as possible.

    Raises
    ------
    ShapeError, DTypeError, BackendError
        If the arguments do not fit together; the message names them.

    Examples
    --------
    >>> x = np.array([[1.0, 3.0, 5.0, 4.0, 9.0]])
    >>> F.adaptive_max_pool1d(x, 2)
    array([[5., 9.]])
    """
    return _of_sequences(AdaptiveMaxPool1d(output_size), input, backend)


def _of_sequences(layer: Layer, input: Array, backend: Backend) -> Array:
    """Return what a layer makes of sequences, or raise a ShapeError if the input is none."""
    check_sequences(input=input)
    return apply_to_samples(layer, input, backend)
