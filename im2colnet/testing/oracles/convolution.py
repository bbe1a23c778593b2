"""Convolution, its gradients, and the columns that it is a product with, as loops.

Letters: N batch, C channels, H, W height and width, F filters, KH, KW kernel, OH, OW output.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from typing import Any

from im2colnet.host import np
from im2colnet.testing.oracles.arrays import floats
from im2colnet.testing.oracles.windows import (
    crop_image,
    of_row,
    output_size,
    pad_image,
    padding_of_row,
    padding_pairs,
    pair,
)


def _conv2d_windows(padded_shape: Any, weight_shape: Any, stride: Any, dilation: Any, groups: int) -> Iterator[Any]:
    """Yield (n, f, oh, ow) and the index of the window of the padded input that this output is made from."""
    N, C, H, W = padded_shape
    F, C_group, KH, KW = weight_shape
    if C_group * groups != C or F % groups:
        raise ValueError(f"{C} channels and weights {weight_shape} do not fit {groups} groups")
    (SH, SW), (DH, DW) = pair(stride), pair(dilation)
    OH, OW = output_size((H, W), (KH, KW), stride, 0, dilation)
    for n, f, oh, ow in product(range(N), range(F), range(OH), range(OW)):
        first_channel = f // (F // groups) * C_group
        window = (
            n,
            slice(first_channel, first_channel + C_group),
            slice(oh * SH, oh * SH + DH * (KH - 1) + 1, DH),
            slice(ow * SW, ow * SW + DW * (KW - 1) + 1, DW),
        )
        yield (n, f, oh, ow), window


def conv2d(x: Any, w: Any, b: Any = None, stride: Any = 1, padding: Any = 0, dilation: Any = 1, groups: int = 1) -> Any:
    """``y[n, f, oh, ow] = sum(window of x * w[f]) + b[f]``."""
    x, w, b = floats(x, w, b)
    xp = pad_image(x, padding_pairs(padding, w.shape[2:], dilation, stride))
    y = np.zeros((len(xp), len(w), *output_size(xp.shape[2:], w.shape[2:], stride, 0, dilation)))
    for out, window in _conv2d_windows(xp.shape, w.shape, stride, dilation, groups):
        f = out[1]
        y[out] = np.sum(xp[window] * w[f]) + (0.0 if b is None else b[f])
    return y


def conv2d_input(
    input_shape: Any, w: Any, dy: Any, stride: Any = 1, padding: Any = 0, dilation: Any = 1, groups: int = 1
) -> Any:
    """Gradient with respect to the input: each output hands ``dy * w[f]`` back to its window."""
    w, dy = floats(w, dy)
    pads = padding_pairs(padding, w.shape[2:], dilation, stride)
    dxp = pad_image(np.zeros(input_shape), pads)
    for out, window in _conv2d_windows(dxp.shape, w.shape, stride, dilation, groups):
        dxp[window] += dy[out] * w[out[1]]
    return crop_image(dxp, pads)


def conv2d_weight(
    x: Any, weight_shape: Any, dy: Any, stride: Any = 1, padding: Any = 0, dilation: Any = 1, groups: int = 1
) -> Any:
    """Gradient with respect to the weight: each output adds ``dy * window`` to its filter."""
    x, dy = floats(x, dy)
    dw = np.zeros(weight_shape)
    xp = pad_image(x, padding_pairs(padding, weight_shape[2:], dilation, stride))
    for out, window in _conv2d_windows(xp.shape, weight_shape, stride, dilation, groups):
        dw[out[1]] += dy[out] * xp[window]
    return dw


def conv2d_bias(dy: Any) -> Any:
    """Gradient with respect to the bias."""
    (dy,) = floats(dy)
    return np.array([np.sum(dy[:, f]) for f in range(dy.shape[1])])


def _transposed_pairs(
    input_shape: Any, weight_shape: Any, stride: Any, padding: Any, output_padding: Any, groups: int, dilation: Any
) -> tuple[Any, Iterator[Any]]:
    """Return the output's shape, and the indices of a pixel, a number of the weight and where their product is added.

    Every such triple whose place is within the output.
    """
    (N, C, H, W), (C_weight, F_group, KH, KW) = input_shape, weight_shape
    if C_weight != C or C % groups:
        raise ValueError(f"{C} channels and weights {weight_shape} do not fit {groups} groups")
    (SH, SW), (DH, DW), (more_h, more_w) = pair(stride), pair(dilation), pair(output_padding)
    (top, bottom), (left, right) = padding_pairs(padding, (KH, KW), dilation, stride)
    OH = (H - 1) * SH - top - bottom + DH * (KH - 1) + more_h + 1
    OW = (W - 1) * SW - left - right + DW * (KW - 1) + more_w + 1

    def pairs() -> Iterator[Any]:
        for n, c, h, w, f, kh, kw in np.ndindex(N, C, H, W, F_group, KH, KW):
            oh, ow = h * SH + kh * DH - top, w * SW + kw * DW - left
            if 0 <= oh < OH and 0 <= ow < OW:
                yield (n, c, h, w), (c, f, kh, kw), (n, c // (C // groups) * F_group + f, oh, ow)

    return (N, F_group * groups, OH, OW), pairs()


def conv_transpose2d(
    x: Any,
    w: Any,
    b: Any = None,
    stride: Any = 1,
    padding: Any = 0,
    output_padding: Any = 0,
    groups: int = 1,
    dilation: Any = 1,
) -> Any:
    """Each pixel times its channel's filters, added to the output at ``pixel * stride``."""
    x, w, b = floats(x, w, b)
    shape, pairs = _transposed_pairs(x.shape, w.shape, stride, padding, output_padding, groups, dilation)
    y = np.zeros(shape)
    for pixel, number, place in pairs:
        y[place] += x[pixel] * w[number]
    return y if b is None else y + b[:, None, None]


def conv_transpose2d_grad(
    x: Any,
    w: Any,
    dy: Any,
    stride: Any = 1,
    padding: Any = 0,
    output_padding: Any = 0,
    groups: int = 1,
    dilation: Any = 1,
) -> Any:
    """Gradients (dx, dw, db): each product hands the gradient of its place to its two factors."""
    x, w, dy = floats(x, w, dy)
    dx, dw = np.zeros(x.shape), np.zeros(w.shape)
    _, pairs = _transposed_pairs(x.shape, w.shape, stride, padding, output_padding, groups, dilation)
    for pixel, number, place in pairs:
        dx[pixel] += dy[place] * w[number]
        dw[number] += dy[place] * x[pixel]
    return dx, dw, conv2d_bias(dy)


def conv1d(x: Any, w: Any, b: Any = None, stride: Any = 1, padding: Any = 0, dilation: Any = 1, groups: int = 1) -> Any:
    """The convolution of sequences (N, C, L), as images of one row, with a weight (F, C/G, K)."""
    x, w, b = floats(x, w, b)
    window = of_row(stride), padding_of_row(padding), of_row(dilation), groups
    return conv2d(x[:, :, None], w[:, :, None], b, *window)[:, :, 0]


def conv1d_grad(x: Any, w: Any, dy: Any, stride: Any = 1, padding: Any = 0, dilation: Any = 1, groups: int = 1) -> Any:
    """Gradients (dx, dw, db) of the same."""
    x, w, dy = (array[:, :, None] for array in floats(x, w, dy))
    window = of_row(stride), padding_of_row(padding), of_row(dilation), groups
    dx, dw = conv2d_input(x.shape, w, dy, *window), conv2d_weight(x, w.shape, dy, *window)
    return dx[:, :, 0], dw[:, :, 0], conv2d_bias(dy)


def conv_transpose1d(
    x: Any,
    w: Any,
    b: Any = None,
    stride: Any = 1,
    padding: Any = 0,
    output_padding: Any = 0,
    groups: int = 1,
    dilation: Any = 1,
) -> Any:
    """The transposed convolution of sequences (N, C, L), as images of one row, with a weight (C, F/G, K)."""
    x, w, b = floats(x, w, b)
    window = of_row(stride), padding_of_row(padding), of_row(output_padding, 0), groups, of_row(dilation)
    return conv_transpose2d(x[:, :, None], w[:, :, None], b, *window)[:, :, 0]


def conv_transpose1d_grad(
    x: Any,
    w: Any,
    dy: Any,
    stride: Any = 1,
    padding: Any = 0,
    output_padding: Any = 0,
    groups: int = 1,
    dilation: Any = 1,
) -> Any:
    """Gradients (dx, dw, db) of the same."""
    x, w, dy = (array[:, :, None] for array in floats(x, w, dy))
    window = of_row(stride), padding_of_row(padding), of_row(output_padding, 0), groups, of_row(dilation)
    dx, dw, db = conv_transpose2d_grad(x, w, dy, *window)
    return dx[:, :, 0], dw[:, :, 0], db


def _unfold_pairs(input_shape: Any, kernel_size: Any, dilation: Any, padding: Any, stride: Any) -> Iterator[Any]:
    """Yield the index of each pixel of the image, once per window that holds it, and of its place in the columns."""
    N, C, H, W = input_shape
    (KH, KW), (SH, SW), (DH, DW) = pair(kernel_size), pair(stride), pair(dilation)
    pads = padding_pairs(padding, kernel_size, dilation, stride)
    (top, _), (left, _) = pads
    OH, OW = output_size((H, W), kernel_size, stride, pads, dilation)
    for n, c, kh, kw, oh, ow in np.ndindex(N, C, KH, KW, OH, OW):
        h = oh * SH - top + kh * DH
        w = ow * SW - left + kw * DW
        if 0 <= h < H and 0 <= w < W:
            yield (n, c, h, w), (n, (c * KH + kh) * KW + kw, oh * OW + ow)


def unfold(x: Any, kernel_size: Any, dilation: Any = 1, padding: Any = 0, stride: Any = 1) -> Any:
    """Every window as a column: (N, C, H, W) -> (N, C*KH*KW, OH*OW)."""
    (x,) = floats(x)
    N, C, H, W = x.shape
    KH, KW = pair(kernel_size)
    OH, OW = output_size((H, W), kernel_size, stride, padding, dilation)
    cols = np.zeros((N, C * KH * KW, OH * OW))
    for pixel, place in _unfold_pairs(x.shape, kernel_size, dilation, padding, stride):
        cols[place] = x[pixel]
    return cols


def fold(cols: Any, output_size: Any, kernel_size: Any, dilation: Any = 1, padding: Any = 0, stride: Any = 1) -> Any:
    """The sum of every pixel's copies, the adjoint of ``unfold``: (N, C*KH*KW, OH*OW) -> (N, C, *output_size)."""
    (cols,) = floats(cols)
    KH, KW = pair(kernel_size)
    x = np.zeros((cols.shape[0], cols.shape[1] // (KH * KW), *pair(output_size)))
    for pixel, place in _unfold_pairs(x.shape, kernel_size, dilation, padding, stride):
        x[pixel] += cols[place]
    return x
