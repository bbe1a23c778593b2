"""Pooling of what is not finite: NaN, infinity, and windows that see padding alone, against loops."""

from itertools import product

import numpy as np
import pytest
from helpers import images, rows
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

import im2colnet.functional as F
from im2colnet.window import pooling_window

VALUES = [np.nan, np.inf, -np.inf, 0.0, -0.0, 1.0, 2.0]


def winners(x, window):
    """Of each window of images x the place of the first maximum or last NaN, None if it sees padding alone."""
    N, C, H, W = x.shape
    OH, OW = window.output_size((H, W))
    (top, _), (left, _) = window.padding
    (sh, sw), (dh, dw) = window.stride, window.dilation
    for n, c, r, s in np.ndindex(N, C, OH, OW):
        best = None
        for i, j in product(*map(range, window.kernel)):
            h, w = r * sh + i * dh - top, s * sw + j * dw - left
            if 0 <= h < H and 0 <= w < W:
                v = x[n, c, h, w]
                if best is None or v > x[n, c, best[0], best[1]] or v != v:
                    best = h, w
        yield (n, c, r, s), best


def max_pooled(x, dy, window):
    """Output, gradient, and indices (-1: none)."""
    y, index = np.full(dy.shape, -np.inf), np.full(dy.shape, -1)
    dx = np.zeros(x.shape)
    with np.errstate(invalid="ignore"):
        for out, best in winners(x, window):
            if best is not None:
                y[out], index[out] = x[out[:2] + best], best[0] * x.shape[3] + best[1]
                dx[out[:2] + best] += dy[out]
    return y, dx, index


@st.composite
def problems(draw):
    """Images and gradients of special values, and a window."""
    kernel, stride, dilation = ([draw(st.integers(1, most)) for _ in range(2)] for most in (4, 3, 3))
    padding = [draw(st.integers(0, k // 2)) for k in kernel]
    size = [
        max(1, d * (k - 1) + 1 - 2 * p) + draw(st.integers(0, 4))
        for k, d, p in zip(kernel, dilation, padding, strict=True)
    ]
    window = pooling_window(tuple(kernel), tuple(stride), tuple(padding), tuple(dilation), draw(st.booleans()))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    values = draw(st.sampled_from([VALUES, VALUES[1:], [-np.inf], [0.0, -0.0], [np.nan]]))
    dtype = draw(st.sampled_from(["float32", "float64"]))
    x = rng.choice(values, (2, 2, *size)).astype(dtype)
    dy = rng.choice([np.inf, 1.0, -2.0, 0.0], (2, 2, *window.output_size(size)), p=[0.2, 0.4, 0.2, 0.2]).astype(dtype)
    return x, dy, window


@settings(max_examples=150)
@given(problem=problems())
def test_max_pooling_of_special_values(backend, problem):
    x, dy, window = problem
    expected_y, expected_dx, expected_index = max_pooled(x, dy, window)
    y = backend.max_pool2d(rows(x), window)
    assert_array_equal(images(y), expected_y)
    with np.errstate(invalid="ignore"):
        dx = backend.max_pool2d_grad(rows(x), y, rows(dy), window)
    assert dx.dtype == x.dtype
    assert_array_equal(images(dx), expected_dx)
    tap = images(backend.first_maximum(rows(x), window))
    (top, _), (left, _) = window.padding
    for out, best in winners(x, window):
        i, j = divmod(int(tap[out]), window.kernel[1])
        place = (
            out[2] * window.stride[0] + i * window.dilation[0] - top,
            out[3] * window.stride[1] + j * window.dilation[1] - left,
        )
        assert best in (None, place)
    arguments = window.kernel, window.stride, window.padding, window.dilation, window.ceil_mode
    _, index = F.max_pool2d(x, *arguments, return_indices=True)
    seen = expected_index >= 0
    assert_array_equal(index[seen], expected_index[seen])
    assert (index >= 0).all()
    assert (index < x.shape[2] * x.shape[3]).all()


def test_an_infinite_gradient_of_a_mean_stays_in_its_window(backend):
    for window in (pooling_window(2, None, 0), pooling_window(3, 1, 1), pooling_window(3, 2, 1, ceil_mode=True)):
        dy = np.ones((1, 1, *window.output_size((6, 6))))
        dy[0, 0, 0, 0] = np.inf
        dx = images(backend.avg_pool2d_grad(rows(dy), (6, 6), window))
        # loops: the mean of a window spreads over its pixels
        (top, _), (left, _) = window.padding
        reached = np.zeros((6, 6), bool)
        reached[: window.kernel[0] - top, : window.kernel[1] - left] = True
        assert_array_equal(np.isposinf(dx[0, 0]), reached)
        assert np.isfinite(dx[0, 0][~reached]).all()


def test_relu_stops_an_infinite_gradient(backend):
    y, dy = np.array([[[[0.0, 0.0, 1.0, 2.0]]]]), np.array([[[[np.inf, np.nan, -np.inf, 3.0]]]])
    assert_array_equal(images(backend.activation_grad(rows(y), rows(dy), "relu")), [[[[0, 0, -np.inf, 3]]]])


def test_a_nan_in_a_window_gets_the_gradient():
    x = np.array([[[[1, np.nan, 3, 2]]]], "f4")
    assert_array_equal(F.max_pool2d_input(x, np.array([[[[5, 7]]]], "f4"), (1, 2)), [[[[0, 5, 7, 0]]]])
    both = np.array([[[[np.nan, np.nan, 3, 2]]]], "f4")  # PyTorch 2.13 names the last
    assert_array_equal(F.max_pool2d_input(both, np.array([[[[5, 7]]]], "f4"), (1, 2)), [[[[0, 5, 7, 0]]]])
    assert F.max_pool2d(both, (1, 4), return_indices=True)[1].item() == 1


@pytest.mark.parametrize("operator", ["indices", "gradient", "mean"])
def test_a_large_window_costs_no_memory(plain, operator):
    """Not so many images as the window has taps."""
    import tracemalloc

    x, window = np.zeros((96, 2, 96, 8), "float32"), pooling_window(15, 1, 7)
    y = plain.max_pool2d(x, window)
    call = {
        "indices": lambda: plain.first_maximum(x, window),
        "gradient": lambda: plain.max_pool2d_grad(x, y, y, window),
        "mean": lambda: plain.avg_pool2d_grad(plain.avg_pool2d(x, window), (96, 96), window),
    }[operator]
    tracemalloc.start()
    try:
        call()
        assert tracemalloc.get_traced_memory()[1] < 12 * x.nbytes
    finally:
        tracemalloc.stop()
