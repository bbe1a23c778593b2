"""Convolution, its gradients, and the transposed one."""

from __future__ import annotations

from typing import Any

from im2colnet.checks import groups_divide
from im2colnet.errors import ShapeError
from im2colnet.functional.arguments import (
    _check,
    _check_channels,
    _check_grad,
    _images,
    _native,
    _rows,
    _shape,
    _told,
    _zeros,
)
from im2colnet.types import Array, Shape
from im2colnet.window import make_output_padding, make_window


@_told
def conv2d(
    x: Array, w: Array, b: Array | None = None, stride: Any = 1, padding: Any = 0, dilation: Any = 1, groups: int = 1
) -> Array:
    """Cross-correlate images with filters.

    Parameters
    ----------
    x : (N, C, H, W)
    w : (F, C / groups, KH, KW)
    b : (F,), optional
    stride, dilation : int or (height, width)
    padding : int, (height, width), ((top, bottom), (left, right)), "same" or "valid"
    groups : int
        Each group of C / groups channels meets its own F / groups filters.

    Returns
    -------
    (N, F, OH, OW), with ``OH = (H + padding - dilation·(KH - 1) - 1) // stride + 1``.

    Raises
    ------
    ShapeError, DTypeError, BackendError
        If the arguments do not fit together; the message names them.

    Notes
    -----
    NaN and infinity reach the outputs whose windows hold them and no other. A finite outlier, however large, changes
    other outputs by less than 1e-3 of the largest of these: products of 3×3 kernels in float32 may take Winograd's
    algorithm (docs/how-it-works.md says where, and what remains), unless ``IM2COLNET_WINOGRAD=0`` is set.
    """
    backend = _check(("x", x, 4), ("w", w, 4), *([] if b is None else [("b", b, 1)]))
    groups = _check_channels(x.shape, w.shape, groups)
    if b is not None and b.shape != (w.shape[0],):
        raise ShapeError(f"b must have shape ({w.shape[0]},), one number for each filter of w, got {b.shape}")
    window = make_window(w.shape[2:], stride, padding, dilation)
    if not len(x):
        return _zeros(backend, x, (0, len(w), *window.output_size(x.shape[2:])))
    return _images(backend, backend.conv2d(_rows(backend, x), _native(w), b, window, groups))


@_told
def conv2d_input(
    input_shape: Shape, w: Array, dy: Array, stride: Any = 1, padding: Any = 0, dilation: Any = 1, groups: int = 1
) -> Array:
    """Gradient of :func:`conv2d` with respect to its input of shape ``input_shape``, for a gradient ``dy``."""
    backend = _check(("w", w, 4), ("dy", dy, 4))
    N, _, H, W = _shape(input_shape, "input_shape")
    groups = _check_channels(input_shape, w.shape, groups, "input_shape")
    window = make_window(w.shape[2:], stride, padding, dilation)
    _check_grad(dy, (N, w.shape[0], *window.output_size((H, W))))
    if not N:
        return _zeros(backend, dy, input_shape)
    return _images(backend, backend.conv2d_input_grad(_rows(backend, dy), _native(w), (H, W), window, groups))


@_told
def conv2d_weight(
    x: Array, weight_shape: Shape, dy: Array, stride: Any = 1, padding: Any = 0, dilation: Any = 1, groups: int = 1
) -> Array:
    """Gradient of :func:`conv2d` with respect to its weight of shape ``weight_shape``, for a gradient ``dy``."""
    backend = _check(("x", x, 4), ("dy", dy, 4))
    F, _, KH, KW = _shape(weight_shape, "weight_shape", least=1)
    groups = _check_channels(x.shape, weight_shape, groups, "x", "weight_shape")
    window = make_window((KH, KW), stride, padding, dilation)
    _check_grad(dy, (x.shape[0], F, *window.output_size(x.shape[2:])))
    if not len(x):
        return _zeros(backend, x, weight_shape)
    return backend.conv2d_weight_grad(_rows(backend, x), _rows(backend, dy), window, groups)


@_told
def conv_transpose2d(
    x: Array,
    w: Array,
    b: Array | None = None,
    stride: Any = 1,
    padding: Any = 0,
    output_padding: Any = 0,
    groups: int = 1,
    dilation: Any = 1,
) -> Array:
    """Transposed convolution: each pixel adds its multiple of the filter to the output, at every stride-th place.

    Parameters
    ----------
    x : (N, C, H, W)
    w : (C, F / groups, KH, KW)
    b : (F,), optional
    stride, dilation : int or (height, width)
    padding : int, (height, width), ((top, bottom), (left, right)), "same" or "valid"
        Rows and columns that are cut off the output.
    output_padding : int or (height, width)
        Rows and columns more at the bottom and on the right: less than the stride or the dilation.
    groups : int
        Each group of C / groups channels makes its own F / groups channels.

    Returns
    -------
    (N, F, OH, OW), with ``OH = (H - 1)·stride - padding + dilation·(KH - 1) + output_padding + 1``; padding counts both
    sides.

    Raises
    ------
    ShapeError, DTypeError, BackendError
        If the arguments do not fit together; the message names them.

    Notes
    -----
    Its gradients are :func:`conv2d` of ``dy`` with ``w``, of which the first H rows and W columns count, and
    :func:`conv2d_weight` with ``dy`` for the images and ``x`` for the gradient of their output.
    """
    backend = _check(("x", x, 4), ("w", w, 4), *([] if b is None else [("b", b, 1)]))
    (N, C, H, W), groups = x.shape, _check_transposed(x.shape, w.shape, groups)
    F = w.shape[1] * groups
    if b is not None and b.shape != (F,):
        raise ShapeError(f"b must have shape ({F},), one number for each output channel, got {b.shape}")
    window = make_window(w.shape[2:], stride, padding, dilation)
    size = window.image_size((H, W), make_output_padding(output_padding, window))
    if not N:
        return _zeros(backend, x, (0, F, *size))
    rows, (more_h, more_w) = _rows(backend, x), window.output_size(size)
    with backend.context():
        if (more_h, more_w) != (H, W):  # output_padding makes room for more windows: none of them adds anything
            padded = backend.xp.zeros((more_h, C, more_w, N), dtype=rows.dtype.name)
            padded[:H, :, :W] = rows
            rows = padded
        y = backend.conv2d_input_grad(rows, _native(w), size, window, groups)
        if b is not None:
            y += _native(b)[:, None, None]
    return _images(backend, y)


def _check_transposed(x: Shape, w: Shape, groups: Any) -> int:
    """Return ``groups`` as an integer, or raise a ShapeError if images, weight and groups do not fit together."""
    if x[1] != w[0]:
        raise ShapeError(f"x has {x[1]} channels (shape {tuple(x)}), but w of shape {tuple(w)} expects {w[0]}")
    try:
        return groups_divide(x[1], x[1], groups)
    except ShapeError:
        raise ShapeError(f"groups must divide the input channels, got groups={groups!r} for {x[1]}") from None
