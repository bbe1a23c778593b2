"""Winograd's convolution in one compiled pass: all sizes of images, and what no exact result says."""

import numpy as np
import pytest
from helpers import GenericBackend, assert_same_bits, images, normal, rows
from hypothesis import given, settings
from hypothesis import strategies as st

from im2colnet.window import make_window

pytest.importorskip("numba")
from im2colnet_numba import NumbaBackend
from im2colnet_numba.algorithms import algorithm
from im2colnet_numba.direct import Direct
from im2colnet_numba.winograd import Winograd
from im2colnet_numpy.tuning import Tuning

TEXTBOOK = GenericBackend()
#: a tuning with which it is taken wherever it exists
EVERYWHERE = Tuning(
    winograd_min_channels=(1,) * 5,
    winograd_min_samples=1,
    winograd_min_rows=1,
    winograd_min_products=1,
    winograd_more_columns=-(1 << 20),
)
NUMBA = NumbaBackend(tuning=EVERYWHERE)
SAMPLES = [1, 8, 15, 16, 37]  # vectors of one number, of 8 and of 16; whole ones, and such that overlap


def results(backend, x, w, b, dy, window, activation=None):
    """The convolution, and its gradients one by one and together; images (N, C, H, W) and rows inside."""
    x, dy = rows(x), rows(dy)
    size = x.shape[0], x.shape[2]
    both = np.empty_like(w), np.empty_like(x)
    backend.conv2d_grads(x, dy, w, window, dw=both[0], dx=both[1])
    return {
        "y": images(backend.conv2d(x, w, b, window, activation=activation)),
        "dx": images(backend.conv2d_input_grad(dy, w, size, window)),
        "dw": backend.conv2d_weight_grad(x, dy, window),
        "dx at once": images(both[1]),
        "dw at once": both[0],
    }


def problem(n, channels, filters, size, r, padding, seed=0):
    window = make_window(r, 1, padding)
    x, w = normal(n, channels, *size, seed=seed, dtype="f4"), normal(filters, channels, r, r, seed=seed + 1, dtype="f4")
    dy = normal(n, filters, *window.output_size(size), seed=seed + 2, dtype="f4")
    taken = algorithm(rows(x).shape, filters, window, 1, x.dtype, EVERYWHERE)
    assert type(taken) is Winograd
    return x, w, normal(filters, seed=seed + 3, dtype="f4"), dy, window


@st.composite
def problems(draw):
    """Sizes of convolutions whose tiles are all, partly or not at all beyond the image and its padding."""
    r = draw(st.sampled_from([3, 3, 5, 7]))
    padding = tuple((draw(st.integers(0, r - 1)), draw(st.integers(0, r - 1))) for _ in range(2))
    size = [draw(st.integers(max(1, r - sum(pads)), 14)) for pads in padding]
    channels, filters = draw(st.integers(4, 40)), draw(st.integers(4, 40))
    return problem(draw(st.sampled_from(SAMPLES)), channels, filters, size, r, padding, draw(st.integers(0, 1 << 32)))


@settings(max_examples=60)
@given(problem=problems(), activation=st.sampled_from([None, "relu", "relu6", "tanh"]))
def test_results_are_those_of_the_textbook(problem, activation):
    *arrays, window = problem
    exact = [a.astype("f8") for a in arrays]
    expected = results(TEXTBOOK, *exact, window, activation)
    x, w, b, dy = map(np.abs, exact)
    largest = results(TEXTBOOK, x, w, b, dy, window)  # what the sums would be if nothing cancelled
    for name, value in results(NUMBA, *arrays, window, activation).items():
        assert value.dtype == "float32"
        error = np.abs(value - expected[name]).max()
        assert error <= 2e-5 * largest[name].max(), f"{name}: {error / largest[name].max():.1e}"


@pytest.mark.parametrize("r", [3, 4, 5, 6, 7])
@pytest.mark.parametrize(("channels", "size"), [(32, 16), (256, 8)])
def test_errors_are_at_most_2e_5_of_the_largest_output(channels, size, r):
    """As NumPy's are documented; images that are not centred, as after a ReLU, are the worse case."""
    x, w, b, dy, window = problem(8, channels, channels, (size, size), r, (r - 1) // 2)
    x, b = np.abs(x), np.zeros_like(b)
    expected = results(TEXTBOOK, *(a.astype("f8") for a in (x, w, b, dy)), window)
    for name, value in results(NUMBA, x, w, b, dy, window).items():
        bound = 3e-5 if r > 3 and name.startswith("dw") else 2e-5
        assert np.abs(value - expected[name]).max() < bound * np.abs(expected[name]).max(), name


def test_images_have_the_same_bits_in_any_company():
    """Each sample is a lane of its own, whatever the vector's length and where it begins."""
    x, w, b, dy, window = problem(37, 16, 20, (9, 11), 3, 1)
    together = results(NUMBA, x, w, b, dy, window, "relu")
    for some in slice(8), slice(8, 24), slice(24, 37):
        alone = results(NUMBA, x[some], w, b, dy[some], window, "relu")
        for name in "y", "dx", "dx at once":
            assert_same_bits(alone[name], together[name][some])


def test_it_is_the_same_every_time_whatever_the_scratch_held():
    x, w, b, dy, window = problem(13, 18, 17, (7, 10), 3, (1, 0))
    expected = results(NUMBA, x, w, b, dy, window)
    x4, dy4 = rows(x), rows(dy)
    for value in np.nan, 1e38:
        scratch = [np.full(*spec[:1], value, spec.dtype) for spec in NUMBA.conv2d_grads.scratch(x4, dy4, w, window)]
        dw, dx = np.empty_like(w), np.empty_like(x4)
        for call in NUMBA.conv2d_grads.prepare(x4, dy4, w, window, dw=dw, dx=dx, scratch=scratch) * 2:
            call()
        assert_same_bits({"dw": dw, "dx": images(dx)}, {"dw": expected["dw at once"], "dx": expected["dx at once"]})


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("value", [1e4, 1e15, 3e38, np.nan, np.inf])
@pytest.mark.parametrize("which", ["x", "dy"])
def test_an_extreme_number_stays_within_its_windows(which, value):
    """As in tests/backend/test_locality.py, for the sums of pixels that this pass makes itself."""
    x, w, b, dy, window = problem(21, 16, 16, (10, 9), 3, 1)
    given = {"x": x, "dy": dy}
    expected = results(TEXTBOOK, *(a.astype("f8") for a in (x, w, b, dy)), window)
    given[which] = given[which].copy()
    given[which][17, 5, 4, 8] = value
    changed = results(NUMBA, given["x"], w, b, given["dy"], window)
    far = np.ones((21, 10, 9), bool)
    far[17, 3:6, 7:] = False
    for name in {"x": ["y"], "dy": ["dx", "dx at once"]}[which]:
        error = np.abs(changed[name] - expected[name]).max(axis=1)
        assert error[far].max() < 1e-4
        assert not np.isfinite(error[~far]).all() or error[~far].max() > value / 1e3
    for name in "dw", "dw at once":
        np.testing.assert_array_equal(np.isfinite(changed[name]), np.isfinite(results_dw(given, window)), name)


def results_dw(given, window):
    return TEXTBOOK.conv2d_weight_grad(rows(given["x"]), rows(given["dy"]), window)


@pytest.mark.parametrize("data", ["normal", "positive", "half black", "scales"])
def test_ordinary_numbers_are_not_convolved_by_rows(data, monkeypatch):
    x, w, b, dy, window = problem(16, 16, 16, (16, 16), 3, 1)
    if data == "positive":
        x = np.abs(x)
    if data == "half black":
        x[:, :, 8:] = 0
    if data == "scales":
        x *= 10.0 ** np.arange(-8, 8, dtype="f4")[:, None, None, None]

    def refuse(*args):
        raise AssertionError("convolved by rows")

    for name in "_conv2d_rows", "_input_grad_rows", "_weight_grad_rows":
        monkeypatch.setattr(Winograd, name, refuse)
    results(NUMBA, x, w, b, dy, window)


@pytest.mark.parametrize(
    ("shape", "taken"),
    [
        ((4, 512, 4, 16), False),  # one tile an image: direct convolution is twice as fast
        ((7, 64, 7, 8), True),
        ((8, 256, 8, 8), True),
        ((16, 3, 16, 32), False),
    ],
)
def test_it_is_taken_where_there_are_tiles_enough(shape, taken):
    found = algorithm(shape, shape[1], make_window(3, 1, 1), 1, np.dtype("float32"), Tuning())
    assert isinstance(found, Winograd) is taken
    assert isinstance(found, Winograd | Direct)
