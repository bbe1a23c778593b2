"""Pooling and its gradients."""

from __future__ import annotations

from typing import Any

from im2colnet.checks import whole
from im2colnet.functional.arguments import _check, _check_grad, _images, _rows, _shape, _told, _zeros
from im2colnet.types import Array, Shape
from im2colnet.window import pooling_window


@_told
def max_pool2d(
    x: Array,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Any:
    """Largest value of each window of ``x`` (N, C, H, W); ``stride`` defaults to ``kernel_size``.

    With ``return_indices`` also its position in the flattened image, ``row · W + column``: the first if there are
    several, of NaN the last. A window that meets padding alone (where its dilation is wide) is -infinity, and names a
    pixel of the image that is nearest to it.
    """
    backend, window = _check(("x", x, 4)), pooling_window(kernel_size, stride, padding, dilation, ceil_mode)
    if not len(x):
        y = _zeros(backend, x, (*x.shape[:2], *window.output_size(x.shape[2:])))
        return (y, y.astype("int64")) if return_indices else y
    rows = _rows(backend, x)
    y = _images(backend, backend.max_pool2d(rows, window))
    if not return_indices:
        return y
    tap, xp, KW = backend.first_maximum(rows, window), backend.xp, window.kernel[1]  # (OH, C, OW, N)
    (sh, sw), (dh, dw), ((top, _), (left, _)) = window.stride, window.dilation, window.padding
    H, W = x.shape[2:]
    with backend.context():
        row = xp.arange(tap.shape[0])[:, None, None, None] * sh + tap // KW * dh - top
        column = xp.arange(tap.shape[2])[:, None] * sw + tap % KW * dw - left
        place = xp.minimum(xp.maximum(row, 0), H - 1) * W + xp.minimum(xp.maximum(column, 0), W - 1)
        return y, _images(backend, place)


@_told
def max_pool2d_input(
    x: Array,
    dy: Array,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
) -> Array:
    """Gradient of :func:`max_pool2d` with respect to ``x``: ``dy`` goes to the first maximum of each window.

    In a window with NaN it goes to the last NaN, as in PyTorch; in one that meets padding alone to no pixel.
    """
    backend = _check(("x", x, 4), ("dy", dy, 4))
    window = pooling_window(kernel_size, stride, padding, dilation, ceil_mode)
    _check_grad(dy, (*x.shape[:2], *window.output_size(x.shape[2:])))
    if not len(x):
        return _zeros(backend, x, x.shape)
    rows = _rows(backend, x)
    y = backend.max_pool2d(rows, window)
    return _images(backend, backend.max_pool2d_grad(rows, y, _rows(backend, dy), window))


@_told
def avg_pool2d(
    x: Array,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
    dilation: Any = 1,
) -> Array:
    """Mean of each window of ``x`` (N, C, H, W), or its sum by ``divisor_override``; ``stride`` defaults to the kernel.

    ``dilation`` is the distance of a window's pixels from each other.
    """
    backend, window = _check(("x", x, 4)), pooling_window(kernel_size, stride, padding, dilation, ceil_mode)
    divisor = _divisor(divisor_override)
    if not len(x):
        return _zeros(backend, x, (*x.shape[:2], *window.output_size(x.shape[2:])))
    return _images(backend, backend.avg_pool2d(_rows(backend, x), window, count_include_pad, *divisor))


@_told
def avg_pool2d_input(
    input_shape: Shape,
    dy: Array,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
    dilation: Any = 1,
) -> Array:
    """Gradient of :func:`avg_pool2d` with respect to its input of shape ``input_shape``."""
    backend, window = _check(("dy", dy, 4)), pooling_window(kernel_size, stride, padding, dilation, ceil_mode)
    N, C, H, W = _shape(input_shape, "input_shape")
    _check_grad(dy, (N, C, *window.output_size((H, W))))
    divisor = _divisor(divisor_override)
    if not N:
        return _zeros(backend, dy, input_shape)
    return _images(backend, backend.avg_pool2d_grad(_rows(backend, dy), (H, W), window, count_include_pad, *divisor))


def _divisor(divisor_override: int | None) -> list[int]:
    """Return the divisor as the argument that kernels take, none if there is none."""
    return [] if divisor_override is None else [whole("divisor_override", divisor_override)]
