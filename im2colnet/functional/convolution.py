"""Convolution, its gradients, and the transposed one."""

from __future__ import annotations

from typing import Any

from im2colnet.backend import Backend
from im2colnet.checks import groups_divide
from im2colnet.errors import ShapeError
from im2colnet.functional.applying import apply_to_samples
from im2colnet.functional.arguments import (
    check_channels,
    check_grad,
    check_images,
    check_sequences,
    check_sizes,
    check_vector,
    check_weight,
    from_rows,
    on_arrays,
    to_rows,
    zeros,
)
from im2colnet.layers import Conv1d, ConvTranspose1d
from im2colnet.types import Array, Shape
from im2colnet.window import make_output_padding, make_window

__all__ = ["conv1d", "conv2d", "conv2d_input", "conv2d_weight", "conv_transpose1d", "conv_transpose2d"]


@on_arrays("input", "weight", "bias", samples=3)
def conv1d(
    backend: Backend,
    input: Array,
    weight: Array,
    bias: Array | None = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> Array:
    """1-D convolution of sequences with filters (cross-correlation).

    Parameters
    ----------
    input : Array, (N, C, L) or (C, L)
        Sequences.
    weight : Array, (F, C / groups, K)
        Filters.
    bias : Array, (F,), optional
        Number to add to each output channel.
    stride : int
        Step of the window.
    padding : int, ((left, right),), "same" or "valid"
        Number of zeros added before and after the sequence.
    dilation : int
        Spacing between the positions that a window reads; 1 means adjacent positions.
    groups : int
        Number of groups. Each group of C / groups channels is convolved with its own F / groups filters.

    Returns
    -------
    Array, (N, F, OL) or (F, OL)
        ``OL = (L + padding - dilation·(K - 1) - 1) // stride + 1``, where padding is the sum of both sides.

    Raises
    ------
    ShapeError, DTypeError, BackendError
        If the arguments do not fit together; the message names them.

    Examples
    --------
    >>> x = np.array([[0.0, 1.0, 4.0, 9.0, 16.0]])
    >>> F.conv1d(x, np.array([[[-1.0, 1.0]]]))
    array([[1., 3., 5., 7.]])
    """
    check_sequences(input=input)
    check_weight(weight, "F", "C / groups", "K")
    groups = check_channels(input.shape, weight.shape, groups)
    check_vector("bias", bias, len(weight), "filter of weight")
    sizes = input.shape[1], len(weight), weight.shape[2]
    layer = Conv1d(*sizes, stride, padding, dilation, groups, bias is not None)
    return apply_to_samples(layer, input, backend, _parameters(backend, weight, bias))


@on_arrays("input", "weight", "bias", samples=3)
def conv_transpose1d(
    backend: Backend,
    input: Array,
    weight: Array,
    bias: Array | None = None,
    stride: Any = 1,
    padding: Any = 0,
    output_padding: Any = 0,
    groups: int = 1,
    dilation: Any = 1,
) -> Array:
    """1-D transposed convolution of sequences.

    Parameters
    ----------
    input : Array, (N, C, L) or (C, L)
        Sequences.
    weight : Array, (C, F / groups, K)
        Filters.
    bias : Array, (F,), optional
        Number to add to each output channel.
    stride : int
        Distance between the positions where the filter is added.
    padding : int, ((left, right),), "same" or "valid"
        Number of positions that are removed from the output.
    output_padding : int
        Number of additional positions at the end of the output; less than the stride or the dilation.
    groups : int
        Number of groups. Each group of C / groups channels gives its own F / groups channels.
    dilation : int
        Spacing between the positions of the filter; 1 means adjacent positions.

    Returns
    -------
    Array, (N, F, OL) or (F, OL)
        ``OL = (L - 1)·stride - padding + dilation·(K - 1) + output_padding + 1``, where padding is the sum of both
        sides.

    Raises
    ------
    ShapeError, DTypeError, BackendError
        If the arguments do not fit together; the message names them.

    Examples
    --------
    >>> x, w = np.array([[1.0, 10.0]]), np.array([[[1.0, 2, 3]]])
    >>> F.conv_transpose1d(x, w, stride=2)
    array([[ 1.,  2., 13., 20., 30.]])
    """
    check_sequences(input=input)
    check_weight(weight, "C", "F / groups", "K")
    groups = _check_transposed(input.shape, weight.shape, groups)
    F = weight.shape[1] * groups
    check_vector("bias", bias, F, "output channel")
    sizes = input.shape[1], F, weight.shape[2]
    layer = ConvTranspose1d(*sizes, stride, padding, output_padding, groups, bias is not None, dilation)
    return apply_to_samples(layer, input, backend, _parameters(backend, weight, bias))


@on_arrays("input", "weight", "bias", samples=4)
def conv2d(
    backend: Backend,
    input: Array,
    weight: Array,
    bias: Array | None = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> Array:
    """2-D convolution of images with filters (cross-correlation).

    Parameters
    ----------
    input : Array, (N, C, H, W) or (C, H, W)
        Images.
    weight : Array, (F, C / groups, KH, KW)
        Filters.
    bias : Array, (F,), optional
        Number to add to each output channel.
    stride : int or (height, width)
        Step of the window, in pixels.
    padding : int, (height, width), ((top, bottom), (left, right)), "same" or "valid"
        Number of zeros added around the image.
    dilation : int or (height, width)
        Spacing between the pixels that a window reads; 1 means adjacent pixels.
    groups : int
        Number of groups. Each group of C / groups channels is convolved with its own F / groups filters.

    Returns
    -------
    Array, (N, F, OH, OW) or (F, OH, OW)
        ``OH = (H + padding - dilation·(KH - 1) - 1) // stride + 1``, where padding is the sum of both sides.

    Raises
    ------
    ShapeError, DTypeError, BackendError
        If the arguments do not fit together; the message names them.

    See Also
    --------
    im2colnet.Conv2d : The layer, with references.
    conv2d_input, conv2d_weight : The gradients.
    unfold : The lowered matrix.

    Notes
    -----
    NaN and infinity only change the outputs whose windows contain them. A finite outlier, however large, changes the
    other outputs by less than 1e-3 of the largest other output: 3×3 to 7×7 kernels in float32 may use Winograd's
    algorithm (see docs/how-it-works.md), unless ``IM2COLNET_WINOGRAD=0`` is set.

    Examples
    --------
    >>> image = np.arange(16.0).reshape(1, 1, 4, 4)
    >>> F.conv2d(image, np.array([[[[-1.0, 1.0], [0.0, 0.0]]]]))
    array([[[[1., 1., 1.],
             [1., 1., 1.],
             [1., 1., 1.]]]])
    """
    check_images(input=input)
    check_weight(weight, "F", "C / groups", "KH", "KW")
    groups = check_channels(input.shape, weight.shape, groups)
    check_vector("bias", bias, len(weight), "filter of weight")
    window = make_window(weight.shape[2:], stride, padding, dilation)
    if not len(input):
        return zeros(backend, input, (0, len(weight), *window.output_size(input.shape[2:])))
    return from_rows(backend, backend.conv2d(to_rows(backend, input), weight, bias, window, groups))


@on_arrays("weight", "grad_output")
def conv2d_input(
    backend: Backend,
    input_size: Shape,
    weight: Array,
    grad_output: Array,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> Array:
    """Gradient of :func:`conv2d` with respect to its input.

    Parameters
    ----------
    input_size : (N, C, H, W)
        Shape of the input.
    weight : Array, (F, C / groups, KH, KW)
        Filters.
    grad_output : Array, (N, F, OH, OW)
        Gradient of the output.
    stride : int or (height, width)
        Step of the window, in pixels.
    padding : int, (height, width), ((top, bottom), (left, right)), "same" or "valid"
        Number of zeros added around the image.
    dilation : int or (height, width)
        Spacing between the pixels that a window reads; 1 means adjacent pixels.
    groups : int
        Number of groups of channels. An output channel depends only on the input channels of its group.

    Returns
    -------
    Array, (N, C, H, W)
        Gradient of the input.

    Raises
    ------
    ShapeError, DTypeError, BackendError
        If the arguments do not fit together; the message names them.

    Notes
    -----
    ``dx = col2im(wᵀ · dy)``, computed as a convolution of ``dy`` with the flipped filters. The order of the
    additions is fixed, so the result is the same each time.

    Examples
    --------
    How often a 2×2 window reads each pixel of a 3×3 image:

    >>> ones = np.ones((1, 1, 2, 2))
    >>> F.conv2d_input((1, 1, 3, 3), ones, ones)
    array([[[[1., 2., 1.],
             [2., 4., 2.],
             [1., 2., 1.]]]])
    """
    check_weight(weight, "F", "C / groups", "KH", "KW")
    check_images(grad_output=grad_output)
    N, _, H, W = check_sizes(input_size, "input_size")
    groups = check_channels(input_size, weight.shape, groups, "input_size")
    window = make_window(weight.shape[2:], stride, padding, dilation)
    check_grad(grad_output, (N, len(weight), *window.output_size((H, W))))
    if not N:
        return zeros(backend, grad_output, input_size)
    rows = backend.conv2d_input_grad(to_rows(backend, grad_output), weight, (H, W), window, groups)
    return from_rows(backend, rows)


@on_arrays("input", "grad_output")
def conv2d_weight(
    backend: Backend,
    input: Array,
    weight_size: Shape,
    grad_output: Array,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> Array:
    """Gradient of :func:`conv2d` with respect to its weight.

    Parameters
    ----------
    input : Array, (N, C, H, W)
        Images.
    weight_size : (F, C / groups, KH, KW)
        Shape of the weight.
    grad_output : Array, (N, F, OH, OW)
        Gradient of the output.
    stride : int or (height, width)
        Step of the window, in pixels.
    padding : int, (height, width), ((top, bottom), (left, right)), "same" or "valid"
        Number of zeros added around the image.
    dilation : int or (height, width)
        Spacing between the pixels that a window reads; 1 means adjacent pixels.
    groups : int
        Number of groups of channels. An output channel depends only on the input channels of its group.

    Returns
    -------
    Array, (F, C / groups, KH, KW)
        Gradient of the weight, summed over the images. The gradient of the bias is ``grad_output.sum((0, 2, 3))``.

    Raises
    ------
    ShapeError, DTypeError, BackendError
        If the arguments do not fit together; the message names them.

    Notes
    -----
    ``dw = dy · im2col(x)ᵀ``.

    Examples
    --------
    >>> image = np.arange(9.0).reshape(1, 1, 3, 3)
    >>> F.conv2d_weight(image, (1, 1, 2, 2), np.ones((1, 1, 2, 2)))
    array([[[[ 8., 12.],
             [20., 24.]]]])
    """
    check_images(input=input, grad_output=grad_output)
    F, _, KH, KW = check_sizes(weight_size, "weight_size", least=1)
    groups = check_channels(input.shape, weight_size, groups, "input", "weight_size")
    window = make_window((KH, KW), stride, padding, dilation)
    check_grad(grad_output, (len(input), F, *window.output_size(input.shape[2:])))
    if not len(input):
        return zeros(backend, input, weight_size)
    return backend.conv2d_weight_grad(to_rows(backend, input), to_rows(backend, grad_output), window, groups)


@on_arrays("input", "weight", "bias", samples=4)
def conv_transpose2d(
    backend: Backend,
    input: Array,
    weight: Array,
    bias: Array | None = None,
    stride: Any = 1,
    padding: Any = 0,
    output_padding: Any = 0,
    groups: int = 1,
    dilation: Any = 1,
) -> Array:
    """2-D transposed convolution (deconvolution): each pixel adds a multiple of the filter to the output.

    Parameters
    ----------
    input : Array, (N, C, H, W) or (C, H, W)
        Images.
    weight : Array, (C, F / groups, KH, KW)
        Filters.
    bias : Array, (F,), optional
        Number to add to each output channel.
    stride : int or (height, width)
        Distance between the positions where the filter is added, in pixels.
    padding : int, (height, width), ((top, bottom), (left, right)), "same" or "valid"
        Number of rows and columns that are removed from the output.
    output_padding : int or (height, width)
        Number of additional rows at the bottom and columns on the right; less than the stride or the dilation.
    groups : int
        Number of groups. Each group of C / groups channels gives its own F / groups channels.
    dilation : int or (height, width)
        Spacing between the pixels of the filter; 1 means adjacent pixels.

    Returns
    -------
    Array, (N, F, OH, OW) or (F, OH, OW)
        ``OH = (H - 1)·stride - padding + dilation·(KH - 1) + output_padding + 1``, where padding is the sum of both
        sides.

    Raises
    ------
    ShapeError, DTypeError, BackendError
        If the arguments do not fit together; the message names them.

    See Also
    --------
    im2colnet.ConvTranspose2d : The layer, with references.

    Notes
    -----
    The gradient of the input is :func:`conv2d` of the output's gradient with ``weight``, cropped to the first H rows
    and W columns. The gradient of the weight is :func:`conv2d_weight`, with the output's gradient as images and
    ``input`` as ``grad_output``.

    Examples
    --------
    >>> filters = np.eye(2).reshape(1, 1, 2, 2)
    >>> x = np.array([[[1.0, 2.0]]])
    >>> F.conv_transpose2d(x, filters, stride=2)
    array([[[1., 0., 2., 0.],
            [0., 1., 0., 2.]]])
    """
    check_images(input=input)
    check_weight(weight, "C", "F / groups", "KH", "KW")
    (N, C, H, W), groups = input.shape, _check_transposed(input.shape, weight.shape, groups)
    F = weight.shape[1] * groups
    check_vector("bias", bias, F, "output channel")
    window = make_window(weight.shape[2:], stride, padding, dilation)
    size = window.image_size((H, W), make_output_padding(output_padding, window))
    if not N:
        return zeros(backend, input, (0, F, *size))
    rows, (more_h, more_w) = to_rows(backend, input), window.output_size(size)
    if (more_h, more_w) != (H, W):  # output_padding makes room for more windows: none of them adds anything
        padded = zeros(backend, rows, (more_h, C, more_w, N))
        padded[:H, :, :W] = rows
        rows = padded
    y = backend.conv2d_input_grad(rows, weight, size, window, groups)
    if bias is not None:
        y += bias[:, None, None]
    return from_rows(backend, y)


def _check_transposed(x: Shape, w: Shape, groups: Any) -> int:
    """Return ``groups`` as an integer, or raise a ShapeError if images, weight and groups do not fit together."""
    if x[1] != w[0]:
        raise ShapeError(f"input has {x[1]} channels (shape {tuple(x)}), but weight of shape {tuple(w)} expects {w[0]}")
    try:
        return groups_divide(x[1], x[1], groups)
    except ShapeError:
        raise ShapeError(f"groups must divide the input channels, got groups={groups!r} for {x[1]}") from None


def _parameters(backend: Backend, weight: Array, bias: Array | None) -> dict[str, Array]:
    """Return the parameters of a layer by name."""
    found = {"weight": weight} if bias is None else {"weight": weight, "bias": bias}
    return {name: backend.xp.ascontiguousarray(array) for name, array in found.items()}
