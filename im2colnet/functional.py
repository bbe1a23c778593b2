"""Convolution, pooling and lowering on plain arrays (N, C, H, W) of any backend.

Arguments and results are those of ``torch.nn.functional`` and ``torch.nn.grad``; ``padding`` may also be "same",
"valid" or ((top, bottom), (left, right)). The backend is the one that owns the arrays. float32 and float64 keep their
type, inputs are never changed and may have any strides, results are C-contiguous. A batch of no images gives a result
of none, and gradients of weights that are 0; no other dimension may be 0. (The NumPy backend limits BLAS to one
thread, for the whole process, when it starts.) Where there is not enough memory, an OutOfMemoryError says so.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, ParamSpec, TypeVar

from im2colnet.backend import Array, Backend, Shape, memory_for
from im2colnet.checks import groups_divide, whole
from im2colnet.errors import DTypeError, ShapeError
from im2colnet.registry import backend_of
from im2colnet.window import make_window, pair, pooling_window

__all__ = [
    "avg_pool2d",
    "avg_pool2d_input",
    "conv2d",
    "conv2d_input",
    "conv2d_weight",
    "fold",
    "max_pool2d",
    "max_pool2d_input",
    "unfold",
]

P = ParamSpec("P")
R = TypeVar("R")


def _told(function: Callable[P, R]) -> Callable[P, R]:
    """Let a lack of memory be an OutOfMemoryError."""

    @wraps(function)
    def call(*args: P.args, **options: P.kwargs) -> R:
        with memory_for():
            return function(*args, **options)

    return call


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
) -> Array:
    """Mean of each window of ``x`` (N, C, H, W); ``stride`` defaults to ``kernel_size``."""
    backend, window = _check(("x", x, 4)), pooling_window(kernel_size, stride, padding, 1, ceil_mode)
    if not len(x):
        return _zeros(backend, x, (*x.shape[:2], *window.output_size(x.shape[2:])))
    return _images(backend, backend.avg_pool2d(_rows(backend, x), window, count_include_pad))


@_told
def avg_pool2d_input(
    input_shape: Shape,
    dy: Array,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
) -> Array:
    """Gradient of :func:`avg_pool2d` with respect to its input of shape ``input_shape``."""
    backend, window = _check(("dy", dy, 4)), pooling_window(kernel_size, stride, padding, 1, ceil_mode)
    N, C, H, W = _shape(input_shape, "input_shape")
    _check_grad(dy, (N, C, *window.output_size((H, W))))
    if not N:
        return _zeros(backend, dy, input_shape)
    return _images(backend, backend.avg_pool2d_grad(_rows(backend, dy), (H, W), window, count_include_pad))


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


def _check(*arrays: tuple[str, Array, int]) -> Backend:
    """Check backend, rank, element type and emptiness of the named arrays; return their backend."""
    backend = backend_of(**{name: array for name, array, _ in arrays})
    for name, array, rank in arrays:
        if array.ndim != rank:
            meaning = {4: ", (N, C, H, W) or (F, C, KH, KW)", 3: ", (N, C·KH·KW, L)", 1: ""}[rank]
            raise ShapeError(f"{name} must have {rank} dimensions{meaning}, got {array.ndim}: shape {array.shape}")
        if 0 in array.shape[name in ("x", "dy", "cols") :]:  # but a batch may be
            raise ShapeError(f"{name} is empty: shape {array.shape}")
        if array.dtype.name not in ("float32", "float64"):
            raise DTypeError(
                f"{name} must be float32 or float64, got {array.dtype.name}; convert it with {name}.astype('float32')"
            )
        if array.dtype.name != arrays[0][1].dtype.name:
            raise DTypeError(
                f"{name} is {array.dtype.name} but {arrays[0][0]} is {arrays[0][1].dtype.name}; convert one of them"
            )
    return backend


def _shape(shape: Any, name: str, least: int = 0) -> tuple[int, int, int, int]:
    """Read four sizes, of which the first is ``least`` or more, as that of a batch may be 0."""
    try:
        n, c, h, w = shape
        return whole(name, n, least), whole(name, c), whole(name, h), whole(name, w)
    except (TypeError, ValueError):  # ShapeError is a ValueError
        batch = "" if least else " (the batch size may be 0)"
        raise ShapeError(f"{name} must be four positive integers{batch}, got {shape!r}") from None


def _check_channels(x: Shape, w: Shape, groups: Any, x_name: str = "x", w_name: str = "w") -> int:
    """Return ``groups`` as an integer, if images and weight fit together by it."""
    found = groups_divide(x[1], w[0], groups)
    if x[1] != w[1] * found:
        raise ShapeError(
            f"{x_name} has {x[1]} channels (shape {tuple(x)}), but {w_name} of shape {tuple(w)}"
            f" with groups={found} expects {w[1]} * {found} = {w[1] * found}"
        )
    return found


def _check_grad(dy: Array, shape: Shape) -> None:
    if tuple(dy.shape) != tuple(shape):
        raise ShapeError(f"dy must have the shape of the output, {tuple(shape)}, got {tuple(dy.shape)}")


def _zeros(backend: Backend, like: Array, shape: Shape) -> Array:
    return backend.xp.zeros(tuple(shape), dtype=like.dtype.name)


def _native(x: Array) -> Array:
    """Return an array in the machine's byte order; files of other machines keep theirs."""
    return x if x.dtype.isnative else x.astype(x.dtype.newbyteorder("="))


def _rows(backend: Backend, x: Array) -> Array:
    with backend.context():
        return backend.xp.ascontiguousarray(_native(x).transpose(2, 1, 3, 0))  # (H, C, W, N)


def _images(backend: Backend, rows: Array) -> Array:
    with backend.context():
        return backend.xp.ascontiguousarray(rows.transpose(3, 1, 0, 2))  # (N, C, H, W)
