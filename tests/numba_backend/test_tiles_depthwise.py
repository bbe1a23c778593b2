"""The compiled depthwise convolution: kernels, strides and sizes of all kinds, and what reaches what."""

import numpy as np
import pytest
from helpers import GenericBackend, assert_same_bits, images, normal, rows
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from im2colnet.window import make_window

pytest.importorskip("numba")
from im2colnet_numba import NumbaBackend
from im2colnet_numba.algorithms import algorithm
from im2colnet_numba.depthwise import Depthwise
from im2colnet_numpy.tuning import DEFAULT

NUMBA, TEXTBOOK = NumbaBackend(), GenericBackend()


def results(backend, x, w, b, dy, window, activation=None):
    """The convolution, and its gradients one by one and together."""
    x, dy, C = rows(x), rows(dy), len(w)
    both = np.empty_like(w), np.empty_like(x)
    backend.conv2d_grads(x, dy, w, window, C, dw=both[0], dx=both[1])
    return {
        "y": images(backend.conv2d(x, w, b, window, C, activation)),
        "dx": images(backend.conv2d_input_grad(dy, w, (x.shape[0], x.shape[2]), window, C)),
        "dw": backend.conv2d_weight_grad(x, dy, window, C),
        "dx at once": images(both[1]),
        "dw at once": both[0],
    }


def problem(n, channels, size, window, seed=0):
    x, w = normal(n, channels, *size, seed=seed, dtype="f4"), normal(channels, 1, *window.kernel, seed=seed, dtype="f4")
    dy = normal(n, channels, *window.output_size(size), seed=seed + 2, dtype="f4")
    return x, w, normal(channels, seed=seed + 3, dtype="f4"), dy, window


@st.composite
def problems(draw):
    def pair(least, most):
        return draw(st.integers(least, most)), draw(st.integers(least, most))

    kernel, stride, dilation = pair(1, 7), pair(1, 3), draw(st.sampled_from([(1, 1), (1, 1), (2, 1), (1, 3), (2, 2)]))
    assume(kernel != (1, 1))
    padding = pair(0, 4), pair(0, 4)
    extents = [d * (k - 1) + 1 for k, d in zip(kernel, dilation, strict=True)]
    size = [draw(st.integers(max(1, e - sum(pads)), e + 10)) for e, pads in zip(extents, padding, strict=True)]
    n, channels = draw(st.sampled_from([8, 9, 16, 21, 40])), draw(st.integers(2, 9))
    return problem(n, channels, size, make_window(kernel, stride, padding, dilation), draw(st.integers(0, 1 << 32)))


@settings(max_examples=100)
@given(problem=problems(), activation=st.sampled_from([None, "relu", "relu6", "tanh"]))
def test_results_are_those_of_the_textbook(problem, activation):
    x, w, b, dy, window = problem
    taken = algorithm(rows(x).shape, len(w), window, len(w), x.dtype, DEFAULT)
    assert type(taken) is Depthwise
    expected = results(TEXTBOOK, *(a.astype("f8") for a in (x, w, b, dy)), window, activation)
    for name, value in results(NUMBA, x, w, b, dy, window, activation).items():
        assert value.dtype == "float32"
        # so many products are added up
        sums = window.kernel[0] * window.kernel[1] if "w" not in name else dy[:, 0].size
        largest = np.abs(w).max() * max(np.abs(x).max(), np.abs(dy).max()) if "w" not in name else np.abs(x).max() * 4
        assert np.abs(value - expected[name]).max() <= 2e-7 * (sums + 1) * (largest + 1), name


def test_channels_that_are_not_together_are_summed_up_apart():
    """As many as stay in cache are gone through at a time; the last ones are fewer."""
    window = make_window(5, 1, 2)
    x, w, b, dy, _ = problem(16, 8, (24, 23), window)
    channels, together, _ = algorithm(rows(x).shape, 8, window, 8, x.dtype, DEFAULT).sizes
    assert 1 < together < channels
    assert channels % together
    expected = results(TEXTBOOK, *(a.astype("f8") for a in (x, w, b, dy)), window)
    for name, value in results(NUMBA, x, w, b, dy, window).items():
        assert np.abs(value - expected[name]).max() < 2e-6 * np.abs(expected[name]).max(), name


def test_images_have_the_same_bits_in_any_company():
    window = make_window(3, 2, 1)
    x, w, b, dy, _ = problem(40, 5, (9, 12), window)
    together = results(NUMBA, x, w, b, dy, window, "relu")
    for some in slice(8), slice(8, 19), slice(19, 40):
        alone = results(NUMBA, x[some], w, b, dy[some], window, "relu")
        for name in "y", "dx", "dx at once":
            assert_same_bits(alone[name], together[name][some])


def by_taps(x, w, b, dy, window):
    """The convolution and its gradients as sums over what each tap meets of the image, which leave out its padding."""
    x, dy = rows(x), rows(dy)
    y, dx, dw = np.zeros_like(dy) + b[:, None, None], np.zeros_like(x), np.zeros_like(w)
    for i, j, outputs, inputs in window.pairs((x.shape[0], x.shape[2])):
        tap = w[:, 0, i, j][:, None, None]
        y[outputs] += tap * x[inputs]
        dx[inputs] += tap * dy[outputs]
        dw[:, 0, i, j] = (x[inputs] * dy[outputs]).sum((0, 2, 3))
    return {"y": images(y), "dx": images(dx), "dw": dw, "dx at once": images(dx), "dw at once": dw}


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("value", [np.nan, np.inf, 3e38])
@pytest.mark.parametrize("at", [(0, 0), (4, 5), (8, 11)])
@pytest.mark.parametrize("which", ["x", "w", "dy"])
def test_what_is_not_finite_reaches_only_what_it_meets(which, value, at):
    """At the border too: it is not multiplied by padding."""
    window = make_window((3, 5), (2, 1), (1, 2))
    x, w, b, dy, _ = problem(19, 3, (9, 12), window)
    arrays = {"x": x, "w": w, "b": b, "dy": dy}
    arrays[which] = arrays[which].copy()
    arrays[which][(-1, 0, *(min(a, n - 1) for a, n in zip(at, arrays[which].shape[2:], strict=True)))] = value
    expected = by_taps(*arrays.values(), window)
    for name, result in results(NUMBA, *arrays.values(), window).items():
        np.testing.assert_array_equal(np.isnan(result), np.isnan(expected[name]), name)
        np.testing.assert_array_equal(np.isinf(result), np.isinf(expected[name]), name)


@pytest.mark.parametrize(("n", "dtype"), [(1, "float32"), (3, "float32"), (16, "float64"), (16, "float16")])
def test_what_has_no_vectors_is_numpys(n, dtype):
    window = make_window(3, 1, 1)
    x, w, b, dy, _ = (a.astype(dtype) if isinstance(a, np.ndarray) else a for a in problem(n, 4, (5, 6), window))
    assert type(algorithm(rows(x).shape, 4, window, 4, x.dtype, DEFAULT)) is not Depthwise
    expected = results(TEXTBOOK, *(a.astype("f8") for a in (x, w, b, dy)), window)
    for name, value in results(NUMBA, x, w, b, dy, window).items():
        assert np.abs(value - expected[name]).max() < 2e-2 * max(1, np.abs(expected[name]).max()), name
