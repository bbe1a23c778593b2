"""Pooling of what is not finite: NaN, infinity, and windows that see padding alone, against loops."""

import numpy as np
import pytest
from helpers import images, rows
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

import im2colnet.functional as F
from im2colnet.testing import oracles
from im2colnet.testing.conformance import Subject, pooling
from im2colnet.window import pooling_window

VALUES = [*pooling.SPECIAL]


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
def test_max_pooling_of_special_values(every_backend, problem):
    x, dy, window = problem
    subject = Subject(every_backend)
    pooling.max_pool2d(subject, x, window)
    pooling.max_pool2d_grad(subject, x, dy, window)
    arguments = window.kernel, window.stride, window.padding, window.dilation, window.ceil_mode
    _, expected = oracles.max_pool2d(x, *arguments, return_indices=True)
    _, index = F.max_pool2d(x, *arguments, return_indices=True)
    seen = expected >= 0
    assert_array_equal(index[seen], expected[seen])
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
