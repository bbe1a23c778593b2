"""Pooling and its gradients as loops.

Letters: N batch, C channels, H, W height and width, KH, KW kernel, OH, OW output.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import product
from typing import Any

from im2colnet.host import np
from im2colnet.testing.oracles.arrays import floats
from im2colnet.testing.oracles.windows import of_row, output_size, padding_of_row, padding_pairs, pair


def max_pool2d(
    x: Any,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Any:
    """Maximum of each window; padding never wins.

    An index is ``h * W + w`` in the unpadded image, of the first maximum in row-major order, or of the last NaN. A
    window that holds nothing but padding gives -inf and the index -1.
    """
    (x,) = floats(x)
    N, C, H, W = x.shape
    stride = kernel_size if stride is None else stride
    (KH, KW), (SH, SW), (DH, DW) = pair(kernel_size), pair(stride), pair(dilation)
    pads = padding_pairs(padding, kernel_size, dilation, stride)
    (top, _), (left, _) = pads
    OH, OW = output_size((H, W), kernel_size, stride, pads, dilation, ceil_mode)
    y = np.full((N, C, OH, OW), -np.inf)
    indices = np.full((N, C, OH, OW), -1, np.int64)
    for out in np.ndindex(N, C, OH, OW):
        n, c, oh, ow = out
        for kh, kw in product(range(KH), range(KW)):
            h = oh * SH - top + kh * DH
            w = ow * SW - left + kw * DW
            if not (0 <= h < H and 0 <= w < W):
                continue
            number = x[n, c, h, w]
            if indices[out] == -1 or number > y[out] or number != number:
                y[out] = number
                indices[out] = h * W + w
    return (y, indices) if return_indices else y


def max_pool2d_grad(
    x: Any, dy: Any, kernel_size: Any, stride: Any = None, padding: Any = 0, dilation: Any = 1, ceil_mode: bool = False
) -> Any:
    """Gradient with respect to the input: all of ``dy`` goes to the first maximum of the window."""
    x, dy = floats(x, dy)
    _, indices = max_pool2d(x, kernel_size, stride, padding, dilation, ceil_mode, return_indices=True)
    dx = np.zeros(x.shape)
    for n, c, oh, ow in np.ndindex(dy.shape):
        index = indices[n, c, oh, ow]
        if index >= 0:
            dx[n, c, index // x.shape[3], index % x.shape[3]] += dy[n, c, oh, ow]
    return dx


def _avg_pool2d_windows(
    input_shape: Any,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: Any = None,
    dilation: Any = 1,
) -> tuple[Any, Iterator[Any]]:
    """Return the output's shape, and the index of each output, the pixels of its window in the image, and its divisor.

    PyTorch's divisor: with ``count_include_pad`` the window's pixels in the image or its padding (those that
    ``ceil_mode`` lets reach beyond the padding never count), otherwise only those in the image.
    """
    N, C, H, W = input_shape
    stride = kernel_size if stride is None else stride
    (KH, KW), (SH, SW), (DH, DW) = pair(kernel_size), pair(stride), pair(dilation)
    pads = padding_pairs(padding, kernel_size, dilation, stride)
    (top, bottom), (left, right) = pads
    shape = (N, C, *output_size((H, W), kernel_size, stride, pads, dilation, ceil_mode))

    def windows() -> Iterator[Any]:
        for n, c, oh, ow in np.ndindex(shape):
            rows = [h for h in (oh * SH - top + i * DH for i in range(KH)) if h < H + bottom]
            columns = [w for w in (ow * SW - left + j * DW for j in range(KW)) if w < W + right]
            inside = [(n, c, h, w) for h, w in product(rows, columns) if 0 <= h < H and 0 <= w < W]
            counted = len(rows) * len(columns) if count_include_pad else len(inside)
            yield (n, c, oh, ow), inside, divisor_override or max(counted, 1)

    return shape, windows()


def avg_pool2d(x: Any, kernel_size: Any, *arguments: Any, **others: Any) -> Any:
    """Mean of each window, with PyTorch's divisor; a window with nothing of the image gives 0.

    The other arguments are stride, padding, ceil_mode, count_include_pad, divisor_override and dilation.
    """
    (x,) = floats(x)
    shape, windows = _avg_pool2d_windows(x.shape, kernel_size, *arguments, **others)
    y = np.zeros(shape)
    for out, inside, divisor in windows:
        y[out] = sum(x[pixel] for pixel in inside) / divisor
    return y


def avg_pool2d_grad(input_shape: Any, dy: Any, kernel_size: Any, *arguments: Any, **others: Any) -> Any:
    """Gradient with respect to the input: ``dy / divisor`` goes to each pixel of the window."""
    (dy,) = floats(dy)
    dx = np.zeros(input_shape)
    for out, inside, divisor in _avg_pool2d_windows(input_shape, kernel_size, *arguments, **others)[1]:
        for pixel in inside:
            dx[pixel] += dy[out] / divisor
    return dx


def lp_pool2d(x: Any, norm_type: float, kernel_size: Any, stride: Any = None, ceil_mode: bool = False) -> Any:
    """``(Σ x^p)^(1/p)`` of each window, where the sum is the mean of its pixels times the size of the kernel."""
    (x,) = floats(x)
    K = math.prod(pair(kernel_size))
    shape, windows = _avg_pool2d_windows(x.shape, kernel_size, stride, 0, ceil_mode)
    y = np.zeros(shape)
    for out, inside, divisor in windows:
        y[out] = (K / divisor * sum(x[pixel] ** norm_type for pixel in inside)) ** (1 / norm_type)
    return y


def lp_pool2d_grad(
    x: Any, dy: Any, norm_type: float, kernel_size: Any, stride: Any = None, ceil_mode: bool = False
) -> Any:
    """Gradient with respect to the input; 0 where the output is."""
    x, dy = floats(x, dy)
    y, dx, K = lp_pool2d(x, norm_type, kernel_size, stride, ceil_mode), np.zeros(x.shape), math.prod(pair(kernel_size))
    for out, inside, divisor in _avg_pool2d_windows(x.shape, kernel_size, stride, 0, ceil_mode)[1]:
        for pixel in inside if y[out] else []:
            dx[pixel] += dy[out] * K / divisor * (x[pixel] / y[out]) ** (norm_type - 1)
    return dx


def global_avg_pool2d(x: Any) -> Any:
    """Mean of each channel's image, (N, C, 1, 1): ``adaptive_avg_pool2d(x, 1)``."""
    (x,) = floats(x)
    y = np.zeros((*x.shape[:2], 1, 1))
    for n, c in np.ndindex(x.shape[:2]):
        y[n, c, 0, 0] = np.mean(x[n, c])
    return y


def global_avg_pool2d_grad(input_shape: Any, dy: Any) -> Any:
    """Gradient with respect to the input: the same number for each pixel of an image."""
    (dy,) = floats(dy)
    dx = np.zeros(input_shape)
    for n, c in np.ndindex(*input_shape[:2]):
        dx[n, c] = dy[n, c, 0, 0] / (input_shape[2] * input_shape[3])
    return dx


def _adaptive_windows(input_shape: Any, output_size: Any) -> Iterator[Any]:
    """Yield the index of each output and the indices of the pixels in its window, in row-major order."""
    N, C, H, W = input_shape
    height, width = output_size if isinstance(output_size, (tuple, list)) else (output_size, output_size)
    OH, OW = H if height is None else height, W if width is None else width
    for n, c, oh, ow in np.ndindex(N, C, OH, OW):
        rows = range(math.floor(oh * H / OH), math.ceil((oh + 1) * H / OH))
        columns = range(math.floor(ow * W / OW), math.ceil((ow + 1) * W / OW))
        yield (n, c, oh, ow), [(n, c, h, w) for h, w in product(rows, columns)]


def _filled(numbers: dict[tuple[int, ...], float]) -> Any:
    """Return an array from numbers by index; the largest index is the last element."""
    return np.reshape(list(numbers.values()), [i + 1 for i in max(numbers)])


def adaptive_avg_pool2d(x: Any, output_size: Any) -> Any:
    """Mean of each window; output i of O is of the pixels floor(i·L/O) to ceil((i+1)·L/O) of an axis of length L."""
    (x,) = floats(x)
    windows = list(_adaptive_windows(x.shape, output_size))
    return _filled({out: sum(x[pixel] for pixel in pixels) / len(pixels) for out, pixels in windows})


def adaptive_avg_pool2d_grad(x: Any, dy: Any, output_size: Any) -> Any:
    """Gradient with respect to the input: ``dy / pixels`` goes to each pixel of the window."""
    x, dy = floats(x, dy)
    dx = np.zeros(x.shape)
    for out, pixels in _adaptive_windows(x.shape, output_size):
        for pixel in pixels:
            dx[pixel] += dy[out] / len(pixels)
    return dx


def adaptive_max_pool2d(x: Any, output_size: Any) -> Any:
    """Maximum of each window of adaptive pooling."""
    (x,) = floats(x)
    return _filled({out: max(x[pixel] for pixel in pixels) for out, pixels in _adaptive_windows(x.shape, output_size)})


def adaptive_max_pool2d_grad(x: Any, dy: Any, output_size: Any) -> Any:
    """Gradient with respect to the input: all of ``dy`` goes to the first maximum of the window."""
    x, dy = floats(x, dy)
    dx = np.zeros(x.shape)
    for out, pixels in _adaptive_windows(x.shape, output_size):
        dx[max(pixels, key=lambda pixel: x[pixel])] += dy[out]
    return dx


def _sets(x: Any, dim: Any) -> dict[tuple[int, ...], list[tuple[int, ...]]]:
    """Return the places of the numbers that are reduced to one number, by its place; axes ``dim`` have length 1."""
    axes = [axis % x.ndim for axis in (dim if isinstance(dim, (tuple, list)) else [dim])]
    found: dict[tuple[int, ...], list[tuple[int, ...]]] = {}
    for place in np.ndindex(x.shape):
        found.setdefault(tuple(0 if axis in axes else i for axis, i in enumerate(place)), []).append(place)
    return found


def _reduced(x: Any, dim: Any, keepdim: bool, function: Any) -> Any:
    """Return a function of the numbers along one axis or several, which go or stay with the length 1."""
    (x,) = floats(x)
    sets = _sets(x, dim)
    y = np.zeros([i + 1 for i in max(sets)])
    for place, of in sets.items():
        y[place] = function([x[each] for each in of])
    axes = [axis % x.ndim for axis in (dim if isinstance(dim, (tuple, list)) else [dim])]
    return y if keepdim else y.reshape([length for axis, length in enumerate(x.shape) if axis not in axes])


def _reduced_grad(x: Any, dy: Any, dim: Any, shares: Any) -> Any:
    """Return the gradient of a reduction; ``shares`` returns the factor of ``dy`` for each of its numbers."""
    x, dy = floats(x, dy)
    sets = _sets(x, dim)
    dx, gradients = np.zeros(x.shape), dy.reshape([i + 1 for i in max(sets)])
    for place, of in sets.items():
        for each, share in zip(of, shares([x[each] for each in of]), strict=True):
            dx[each] = share * gradients[place]
    return dx


def _shares_of(best: float, numbers: list[float]) -> list[float]:
    """Return equal shares for the numbers that equal ``best``, and 0 for all others."""
    return [(number == best) / numbers.count(best) for number in numbers]


def mean(x: Any, dim: Any, keepdim: bool = False) -> Any:
    """The mean along one axis or several, which go or stay with the length 1."""
    return _reduced(x, dim, keepdim, lambda numbers: sum(numbers) / len(numbers))


def mean_grad(x: Any, dy: Any, dim: Any, keepdim: bool = False) -> Any:
    """Gradient with respect to the input: ``dy`` divided by the number of elements."""
    return _reduced_grad(x, dy, dim, lambda numbers: [1 / len(numbers)] * len(numbers))


def total(x: Any, dim: Any, keepdim: bool = False) -> Any:
    """The sum along one axis or several, which go or stay with the length 1."""
    return _reduced(x, dim, keepdim, sum)


def total_grad(x: Any, dy: Any, dim: Any, keepdim: bool = False) -> Any:
    """Gradient with respect to the input: ``dy`` for each element."""
    return _reduced_grad(x, dy, dim, lambda numbers: [1] * len(numbers))


def amax(x: Any, dim: Any, keepdim: bool = False) -> Any:
    """The largest number along one axis or several, which go or stay with the length 1."""
    return _reduced(x, dim, keepdim, max)


def amax_grad(x: Any, dy: Any, dim: Any, keepdim: bool = False) -> Any:
    """Gradient with respect to the input: the largest numbers share ``dy`` equally."""
    return _reduced_grad(x, dy, dim, lambda numbers: _shares_of(max(numbers), numbers))


def amin(x: Any, dim: Any, keepdim: bool = False) -> Any:
    """The smallest number along one axis or several, which go or stay with the length 1."""
    return _reduced(x, dim, keepdim, min)


def amin_grad(x: Any, dy: Any, dim: Any, keepdim: bool = False) -> Any:
    """Gradient with respect to the input: the smallest numbers share ``dy`` equally."""
    return _reduced_grad(x, dy, dim, lambda numbers: _shares_of(min(numbers), numbers))


def _pool_of_row(kernel_size: Any, stride: Any = None, padding: Any = 0, dilation: Any = 1, **others: Any) -> Any:
    """Convert arguments of a pooling of sequences to arguments for images of one row."""
    others |= {"dilation": of_row(dilation)} if dilation != 1 else {}
    return {"kernel_size": of_row(kernel_size), "stride": of_row(stride), "padding": padding_of_row(padding), **others}


def max_pool1d(x: Any, kernel_size: Any, **others: Any) -> Any:
    """Maximum of each window of sequences (N, C, L), as images of one row; arguments as of ``max_pool2d``."""
    (x,) = floats(x)
    return max_pool2d(x[:, :, None], **_pool_of_row(kernel_size, **others))[:, :, 0]


def max_pool1d_grad(x: Any, dy: Any, kernel_size: Any, **others: Any) -> Any:
    """Gradient with respect to the input."""
    x, dy = floats(x, dy)
    return max_pool2d_grad(x[:, :, None], dy[:, :, None], **_pool_of_row(kernel_size, **others))[:, :, 0]


def avg_pool1d(x: Any, kernel_size: Any, **others: Any) -> Any:
    """Mean of each window of sequences (N, C, L), as images of one row; arguments as of ``avg_pool2d``."""
    (x,) = floats(x)
    return avg_pool2d(x[:, :, None], **_pool_of_row(kernel_size, **others))[:, :, 0]


def avg_pool1d_grad(x: Any, dy: Any, kernel_size: Any, **others: Any) -> Any:
    """Gradient with respect to the input."""
    x, dy = floats(x, dy)
    return avg_pool2d_grad(x[:, :, None].shape, dy[:, :, None], **_pool_of_row(kernel_size, **others))[:, :, 0]


def adaptive_avg_pool1d(x: Any, output_size: Any) -> Any:
    """Mean of each of the windows of ``adaptive_avg_pool2d`` along sequences (N, C, L)."""
    (x,) = floats(x)
    return adaptive_avg_pool2d(x[:, :, None], of_row(output_size))[:, :, 0]


def adaptive_avg_pool1d_grad(x: Any, dy: Any, output_size: Any) -> Any:
    """Gradient with respect to the input."""
    x, dy = floats(x, dy)
    return adaptive_avg_pool2d_grad(x[:, :, None], dy[:, :, None], of_row(output_size))[:, :, 0]


def adaptive_max_pool1d(x: Any, output_size: Any) -> Any:
    """Maximum of each window of adaptive pooling."""
    (x,) = floats(x)
    return adaptive_max_pool2d(x[:, :, None], of_row(output_size))[:, :, 0]


def adaptive_max_pool1d_grad(x: Any, dy: Any, output_size: Any) -> Any:
    """Gradient with respect to the input."""
    x, dy = floats(x, dy)
    return adaptive_max_pool2d_grad(x[:, :, None], dy[:, :, None], of_row(output_size))[:, :, 0]
