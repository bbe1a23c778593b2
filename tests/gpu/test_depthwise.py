"""Convolution channel by channel on the GPU's kernels, beside loops in float64."""

import numpy as np
import pytest

from im2colnet.window import make_window


def by_loops(x, w, b, dy, window):
    """The output after a ReLU, and the gradients with respect to input and weight."""
    (top, _), (left, _) = window.padding
    y, dx, dw = np.zeros_like(dy), np.zeros_like(x), np.zeros_like(w)
    for r, s, i, j in np.ndindex(dy.shape[0], dy.shape[2], *window.kernel):
        h = r * window.stride[0] + i * window.dilation[0] - top
        v = s * window.stride[1] + j * window.dilation[1] - left
        if 0 <= h < len(x) and 0 <= v < x.shape[2]:
            y[r, :, s] += w[:, 0, i, j, None] * x[h, :, v]
            dx[h, :, v] += w[:, 0, i, j, None] * dy[r, :, s]
            dw[:, 0, i, j] += (dy[r, :, s] * x[h, :, v]).sum(-1)
    return np.maximum(y + b[:, None, None], 0), dx, dw


@pytest.mark.parametrize(
    ("kernel", "stride", "padding", "dilation"),
    [
        (3, 1, 1, 1),
        (3, 2, 1, 1),
        (2, 3, 0, 1),
        (5, 1, 2, 2),
        (3, 3, 2, 2),
        ((3, 1), (2, 1), (1, 0), 1),
        (3, (1, 2), ((0, 1), (2, 0)), 1),
    ],
)
def test_every_window(gpu, kernel, stride, padding, dilation):
    rng, window = np.random.default_rng(0), make_window(kernel, stride, padding, dilation)
    x, w, b = (rng.standard_normal(shape) for shape in ((9, 5, 11, 3), (5, 1, *window.kernel), (5,)))
    OH, OW = window.output_size((9, 11))
    dy = rng.standard_normal((OH, 5, OW, 3))
    there = [gpu.asarray(array) for array in (x, w, b, dy)]
    found = (
        gpu.conv2d(*there[:3], window, 5, "relu"),
        gpu.conv2d_input_grad(there[3], there[1], (9, 11), window, 5),
        gpu.conv2d_weight_grad(there[0], there[3], window, 5),
    )
    for mine, expected in zip(found, by_loops(x, w, b, dy, window), strict=True):
        np.testing.assert_allclose(gpu.to_numpy(mine), expected, atol=1e-12)
