"""What one number of the input can reach: the outputs, and the gradients, whose windows hold it, and no other.

Each fast algorithm is compared with textbook arithmetic: the generic backend, for finite numbers in float64.
"""

from functools import cache

import numpy as np
import pytest
from helpers import images, normal, numba_backend, rows
from hypothesis import given, settings
from hypothesis import strategies as st
from im2colnet_numpy.algorithms import algorithm
from im2colnet_numpy.locality import LIMIT, UNEVEN, Pixels, taps
from im2colnet_numpy.winograd import Winograd

import im2colnet as ic
import im2colnet.functional as F
from im2colnet import get_backend
from im2colnet.backend import Backend
from im2colnet.types import run
from im2colnet.window import make_window

pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")
searching = settings(max_examples=40)
seeds = st.integers(0, 2**32 - 1)
extremes = st.one_of(st.floats(3, 38.4).map(lambda e: 10.0**e), st.sampled_from([np.nan, np.inf, -np.inf]))


class Textbook(Backend):
    """The generic backend."""

    name = "textbook"
    xp = np

    def matmul(self, a, b, out=None):
        return np.matmul(a, b, out=out)


def results(backend, x, w, dy, window, groups, prepared=False):
    """The convolution of images with a weight, and its gradients for dy: both of them also at once."""
    x, dy = rows(x), rows(dy)
    y, dx, dw = np.empty_like(dy), np.empty_like(x), np.empty_like(w)
    both = np.empty_like(w), np.empty_like(x)
    for kernel, args, out in [
        ("conv2d", (x, w, None, window, groups), {"out": y}),
        ("conv2d_input_grad", (dy, w, (x.shape[0], x.shape[2]), window, groups), {"out": dx}),
        ("conv2d_weight_grad", (x, dy, window, groups), {"out": dw}),
        ("conv2d_grads", (x, dy, w, window, groups), {"dw": both[0], "dx": both[1]}),
    ]:
        call = getattr(backend, kernel)
        if prepared:
            run(call.prepare(*args, **out))
        else:
            call(*args, **out)
    return {"y": images(y), "dx": images(dx), "dw": dw, "dw at once": both[0], "dx at once": images(both[1])}


@st.composite
def problems(draw):
    """Images, weight, gradient and window: of Winograd's, depthwise, grouped, strided, dilated and other kinds."""
    kind = draw(st.sampled_from(["winograd", "winograd", "depthwise", "depthwise", "any"]))
    stride, dilation, groups, kernel = 1, 1, 1, 3
    n, size = draw(st.integers(8, 10)), [draw(st.integers(7, 22)) for _ in range(2)]
    channels = filters = draw(st.integers(16, 40))
    padding = draw(st.integers(0, 2))
    if kind == "winograd":
        kernel = draw(st.integers(3, 7))
    else:
        n, kernel = draw(st.integers(1, 4)), draw(st.integers(1, 4))
        stride, dilation = draw(st.sampled_from([(1, 1), (2, 1), (3, 1), (1, 2)]))
        padding = draw(st.integers(0, kernel - 1))
        groups = draw(st.integers(2, 5))
        channels = filters = groups if kind == "depthwise" else groups * draw(st.integers(1, 3))
        size = [draw(st.integers(dilation * (kernel - 1) + 1, 22)) for _ in range(2)]
    window = make_window(kernel, stride, padding, dilation)
    seed = draw(seeds)
    x = normal(n, channels, *size, seed=seed, dtype="f4")
    w = normal(filters, channels // groups, kernel, kernel, seed=seed + 1, dtype="f4")
    dy = normal(n, filters, *window.output_size(size), seed=seed + 2, dtype="f4")
    return x, w, dy, window, groups


def reached(x, w, dy, window, groups, which, at):
    """Where textbook arithmetic lets one number reach each of the results: those are NaN."""
    arrays = {"x": x.copy(), "w": w.copy(), "dy": dy.copy()}
    arrays[which][at] = np.nan
    return {k: np.isnan(v) for k, v in results(Textbook(), *arrays.values(), window, groups).items()}


@pytest.fixture(params=["numpy", "numba"], scope="module")
def fast(request):
    """A backend with such algorithms."""
    return {"numpy": get_backend, "numba": lambda _: numba_backend()}[request.param]("numpy")


def unchanged(problem, which, at):
    """The exact results without an extreme number, and where it reaches them."""
    *arrays, window, groups = problem
    exact = results(Textbook(), *(a.astype("f8") for a in arrays), window, groups)
    return exact, reached(*arrays, window, groups, which, at)


def assert_like_the_textbook(fast, problem, changed, exact, reach, prepared=False):
    """NaN and infinity as there; elsewhere what the change cannot reach is right to 1e-3 of the largest of that.

    Compiled loops do not multiply by padding, so some of what is NaN there is not.
    """
    *_, window, groups = problem
    actual = results(fast, *changed.values(), window, groups, prepared)
    textbook = results(Textbook(), *changed.values(), window, groups)
    for name, value in actual.items():
        for strange in np.isnan, lambda a: ~np.isfinite(a):
            here, there = strange(value), strange(textbook[name])
            np.testing.assert_array_equal(here if fast.name == "numpy" else here | there, there, name)
        other = ~reach[name] & np.isfinite(textbook[name])
        if other.any():
            largest = np.abs(exact[name][other]).max()
            assert np.abs(value[other] - exact[name][other]).max() <= 1e-3 * largest, name


@searching
@given(problem=problems(), extreme=extremes, which=st.sampled_from(["x", "dy", "w"]), draw=st.data())
def test_an_extreme_number_reaches_what_it_reaches_in_the_textbook(fast, problem, extreme, which, draw):
    arrays = dict(zip(("x", "w", "dy"), problem[:3], strict=True))
    if which == "w" and np.isfinite(extreme):
        extreme = min(extreme, 1e15)
    at = tuple(draw.draw(st.integers(0, length - 1)) for length in arrays[which].shape)
    arrays[which] = arrays[which].copy()
    arrays[which][at] = extreme
    assert_like_the_textbook(fast, problem, arrays, *unchanged(problem, which, at), draw.draw(st.booleans()))


@cache
def winograd_problem(r, size, which):
    """A convolution that Winograd's algorithm computes, the place of its extreme number, and `unchanged`."""
    window = make_window(r, 1, r // 2)
    x, w, dy = (
        normal(16, 32, size, size, dtype="f4"),
        normal(32, 32, r, r, seed=1, dtype="f4") / 16,
        normal(16, 32, *window.output_size((size, size)), seed=2, dtype="f4"),
    )
    assert isinstance(algorithm(rows(x).shape, 32, window, 1, x.dtype), Winograd)
    problem, at = (x, w, dy, window, 1), (3, 5, 1, size - 1)
    return problem, at, *unchanged(problem, which, at)


@pytest.mark.parametrize("size", [4, 9, 16])
@pytest.mark.parametrize("value", [1e3, 3e4, 65535, 1e6, 1e15, 3e38, np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("which", ["x", "dy"])
@pytest.mark.parametrize("r", range(3, 8))
def test_winograd_keeps_an_extreme_number_within_its_windows(fast, r, which, value, size):
    problem, at, exact, reach = winograd_problem(r, size, which)
    changed = dict(zip(("x", "w", "dy"), problem[:3], strict=True))
    changed[which] = changed[which].copy()
    changed[which][at] = value
    assert_like_the_textbook(fast, problem, changed, exact, reach)


def test_a_dead_pixel_in_a_batch():
    net = ic.Sequential([ic.Conv2d(1, 32, 3, padding=1), ic.ReLU(), ic.Conv2d(32, 32, 3, padding=1)]).init(0)
    x = np.random.default_rng(0).random((64, 1, 24, 24), dtype="f4")
    x[3, 0, 4, 4] = 65535
    batch, alone = net.predict(x)[3], net.predict(x[3:4])[0]
    far = np.ones((24, 24), bool)
    far[2:7, 2:7] = False
    assert np.abs(batch - alone)[:, far].max() < 2e-6


def test_infinity_makes_no_nan():
    x, w = np.random.default_rng(0).random((8, 32, 16, 16), dtype="f4"), np.ones((32, 32, 3, 3), "f4")
    x[0, 0, 5, 5] = np.inf
    y = F.conv2d(x, w, padding=1)
    assert not np.isnan(y).any()
    assert np.isinf(y).sum() == 288
    assert np.isnan(F.conv2d_input(x.shape, w, x, padding=1)).sum() == 0


def test_depthwise_nan_reaches_nine_outputs():
    x, w = np.ones((2, 3, 20, 20), "f4"), np.ones((3, 1, 3, 3), "f4")
    x[1, 2, 10, 10] = np.nan
    for result in F.conv2d(x, w, padding=1, groups=3), F.conv2d_input(x.shape, w, x, padding=1, groups=3):
        assert np.isnan(result).sum() == 9


@pytest.mark.parametrize("value", [1e4, 1e15, 1e30])
@pytest.mark.parametrize("end", [[], [ic.ReLU()], [ic.BatchNorm2d(32), ic.ReLU()]])
def test_what_is_fused_with_a_convolution_keeps_it_too(end, value):
    net = ic.Sequential([ic.Conv2d(32, 32, 3, padding=1), *end]).init(0)
    x = normal(16, 32, 12, 12, dtype="f4")
    expected = net.predict(x).copy()
    x[5, 3, 6, 6] = value
    change = np.abs(net.predict(x) - expected)
    assert change[5, :, 5:8, 5:8].max() > value / 1e3
    change[5, :, 5:8, 5:8] = 0
    assert change.max() < 1e-5 * np.abs(expected).max()


@pytest.mark.parametrize("r", range(3, 8))
def test_products_that_overflow_only_between_are_finite(r):
    """Winograd's sums of a tile would overflow."""
    x, w = np.full((32, 16, 8, 8), 1e35, "f4"), np.full((16, 16, r, r), 1.0, "f4")
    w[:, ::2] = -1
    assert isinstance(algorithm(rows(x).shape, 16, make_window(r, 1, r // 2), 1, x.dtype), Winograd)
    y = F.conv2d(x, w, padding=r // 2)
    assert np.isfinite(y).all()
    assert np.isfinite(F.conv2d_input(x.shape, w, np.full_like(y, 1e35), padding=r // 2)).all()


@pytest.mark.parametrize("r", range(3, 8))
def test_winograd_is_finite_up_to_its_limit(r):
    """Where images and weights are just accepted, the sums of products of 512 channels are far from infinity."""
    size = 0.5 * LIMIT / 512**0.5
    x, w = normal(16, 512, 8, 8, dtype="f4"), normal(16, 512, r, r, seed=1, dtype="f4")
    x, w = (a * np.float32(size / np.abs(a).max()) for a in (x, w))
    accepted = [*Pixels(rows(x), np.empty(x.size, "f4")).until(8), *taps(w.transpose(0, 2, 3, 1))]
    assert all(call() is not UNEVEN for call in accepted)
    assert isinstance(algorithm(rows(x).shape, 16, make_window(r, 1, r // 2), 1, x.dtype), Winograd)
    y = F.conv2d(x, w, padding=r // 2)
    dw = F.conv2d_weight(x, w.shape, normal(*y.shape, seed=2, dtype="f4") * np.float32(size), padding=r // 2)
    assert np.isfinite(y).all()
    assert np.isfinite(dw).all()


@pytest.mark.parametrize("data", ["normal", "positive", "sparse", "half black", "scales", "gradients"])
def test_ordinary_numbers_take_the_fast_algorithm(data):
    x = normal(16, 32, 16, 16, dtype="f4")
    if data == "positive":
        x = np.abs(x)
    if data == "sparse":
        x[normal(*x.shape, seed=1) < 1.6] = 0
    if data == "half black":
        x[:, :, 8:] = 0
    if data == "scales":
        x *= 10.0 ** np.arange(-8, 8, dtype="f4")[:, None, None, None]
    if data == "gradients":
        x *= np.exp(normal(*x.shape[:1], 1, *x.shape[2:], seed=1)).astype("f4")
    w = normal(32, 3, 3, 32, seed=2, dtype="f4")
    calls = [*Pixels(rows(x), np.empty(x.size, "f4")).until(len(rows(x))), *taps(w)]
    assert all(call() is not UNEVEN for call in calls)
    assert len(calls) == 4
