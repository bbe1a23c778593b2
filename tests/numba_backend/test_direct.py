"""Direct convolution and its gradients, against the textbook's in float64, for any window and number of samples."""

import os
import subprocess
import sys

import numpy as np
import pytest
from helpers import GenericBackend
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from im2colnet.errors import ShapeError
from im2colnet.types import run
from im2colnet.window import Window, make_window

pytest.importorskip("numba")
import im2colnet_numba
from im2colnet_numba import direct, regions
from im2colnet_numba.direct import Blocks, Direct, Few
from im2colnet_numpy.rows import WEIGHT_ORDER, Rows
from im2colnet_numpy.tuning import DEFAULT

TEXTBOOK = GenericBackend()
KERNELS = "conv2d", "conv2d_input_grad", "conv2d_weight_grad"


class Problem:
    """A convolution of random images, and its direct algorithm."""

    def __init__(self, x, F, window, groups=1, seed=0):
        H, C, W, N = x
        rng = np.random.default_rng(seed)
        self.window, self.groups = window, groups
        self.x = rng.standard_normal(x, dtype="f4")
        self.w = np.ascontiguousarray(rng.standard_normal((F, *window.kernel, C // groups), dtype="f4"))
        self.w = self.w.transpose(np.argsort(WEIGHT_ORDER))
        self.b = rng.standard_normal(F, dtype="f4")
        OH, OW = window.output_size((H, W))
        self.dy = rng.standard_normal((OH, F, OW, N), dtype="f4")
        self.algorithm = Direct(x, F, window, groups, DEFAULT)

    def scratch(self, kernel):
        """Scratch that is full of what no result may depend on."""
        return [
            np.full(shape, np.nan if dtype == "float32" else -1, dtype)
            for shape, dtype in self.algorithm.scratch[kernel]
        ]

    def results(self, activation=None):
        """The convolution and its gradients, made twice in the same arrays."""
        y, dx = np.full_like(self.dy, np.nan), np.full_like(self.x, np.nan)
        dw = np.full(self.w.transpose(WEIGHT_ORDER).shape, np.nan, "f4").transpose(np.argsort(WEIGHT_ORDER))
        conv2d, input_grad, weight_grad = map(self.scratch, KERNELS)
        calls = [
            *self.algorithm.conv2d(self.x, self.w, self.b, activation, y, conv2d),
            *self.algorithm.input_grad(self.dy, self.w, dx, input_grad),
            *self.algorithm.weight_grad(self.x, self.dy, dw, weight_grad),
        ]
        run(calls)
        first = y.copy(), dx.copy(), dw.copy()
        run(calls)
        for a, b in zip(first, (y, dx, dw), strict=True):
            assert_array_equal(a, b)
        return first

    def textbook(self, activation=None, of=np.asarray):
        x, w, b, dy = (of(array.astype("f8")) for array in (self.x, self.w, self.b, self.dy))
        size = self.x.shape[0], self.x.shape[2]
        return (
            TEXTBOOK.conv2d(x, w, b, self.window, self.groups, activation),
            TEXTBOOK.conv2d_input_grad(dy, w, size, self.window, self.groups),
            TEXTBOOK.conv2d_weight_grad(x, dy, self.window, self.groups),
        )

    def check(self, activation=None):
        """Compare: a sum is off by a few roundings of the sum of its terms' sizes; no activation is steeper than 1."""
        sizes = self.textbook(of=np.abs)
        for found, wanted, size in zip(self.results(activation), self.textbook(activation), sizes, strict=True):
            excess = np.abs(found - wanted) - 4 * np.finfo("f4").eps * (size + np.abs(wanted))
            assert not (excess > 1e-30).any(), excess.max()


@st.composite
def windows(draw, size):
    """Windows that have outputs of images of a size, with padding up to more than they reach."""

    def pair(least, most):
        return tuple(draw(st.integers(least, most)) for _ in range(2))

    kernel, stride, dilation = pair(1, 7), pair(1, 3), pair(1, 3)
    padding = tuple(
        tuple(draw(st.integers(0, d * (k - 1) + 2)) for _ in range(2)) for k, d in zip(kernel, dilation, strict=True)
    )
    window = Window(kernel, stride, padding, dilation)
    try:
        window.output_size(size)
    except ShapeError:
        return window._replace(padding=tuple((d * k, d * k) for k, d in zip(kernel, dilation, strict=True)))
    return window


@st.composite
def problems(draw):
    H, W = draw(st.integers(1, 12)), draw(st.integers(1, 12))
    groups = draw(st.sampled_from([1, 1, 1, 2, 3]))
    C, F = (groups * draw(st.integers(1, 40 // groups)) for _ in range(2))
    N = draw(st.one_of(st.sampled_from([8, 16, 32]), st.integers(1, 40)))
    return Problem((H, C, W, N), F, draw(windows((H, W))), groups, draw(st.integers(0, 2**32 - 1)))


@settings(max_examples=150, deadline=None)
@given(problem=problems(), activation=st.sampled_from([None, "relu", "relu6", "hardtanh:-0.5,0.25", "sigmoid"]))
def test_it_is_the_textbooks(problem, activation):
    if problem.algorithm.exists:
        problem.check(activation)


@pytest.fixture(params=[(8, 12, 4, ((4, 3), (3, 3))), (4, 24, 8, ((4, 6), (3, 7)))], ids=["AVX2", "NEON"])
def other_processor(request, monkeypatch):
    """Vectors and blocks of another processor, which this one can run."""
    lanes, *blocks = request.param
    monkeypatch.setattr(regions, "lanes", lambda: lanes)
    monkeypatch.setattr(direct, "blocks", lambda: Blocks(*blocks))
    return lanes


@pytest.mark.parametrize("samples", [4, 7, 8, 19, 32])
@pytest.mark.parametrize("stride", [1, 2])
def test_other_processors_vectors(other_processor, samples, stride):
    problem = Problem((9, 5, 11, samples), 13, make_window((3, 5), stride, (1, 2)))
    if samples >= other_processor // 2:
        assert problem.algorithm.exists
        problem.check()


@st.composite
def few(draw):
    """A convolution of images of a size with few samples."""
    H, W = draw(st.integers(1, 24)), draw(st.integers(1, 24))
    groups = draw(st.sampled_from([1, 1, 2, 3]))
    C, F = (groups * draw(st.integers(1, 40 // groups)) for _ in range(2))
    x = H, C, W, draw(st.integers(1, 9))
    return x, F, draw(windows((H, W))), groups


@settings(max_examples=150, deadline=None)
@given(problem=few(), activation=st.sampled_from([None, "relu", "sigmoid"]), seed=st.integers(0, 99))
def test_few_images(problem, activation, seed):
    x, F, window, groups = problem
    algorithm = Few(x, F, window, groups, Rows(x, F, window, groups, "float32", DEFAULT))
    if not algorithm.exists:
        return
    problem = Problem(x, F, window, groups, seed)
    problem.algorithm = algorithm
    problem.check(activation)


def test_few_images_whose_windows_hold_what_is_not_finite():
    problem = Problem((6, 3, 20, 1), 4, make_window((3, 5), (1, 2), (1, 2)))
    problem.algorithm = Few((6, 3, 20, 1), 4, problem.window, 1, problem.algorithm.rows)
    assert problem.algorithm.exists
    problem.x[2, 1, 7, 0], problem.x[5, 0, 19, 0] = np.inf, np.nan
    found, wanted = problem.results()[0], _by_taps(problem)[0]
    assert_array_equal(np.isfinite(found), np.isfinite(wanted))
    assert_allclose(found[np.isfinite(found)], wanted[np.isfinite(found)], atol=1e-5)


def test_what_is_large_takes_more_than_one_chunk():
    Problem((40, 3, 37, 19), 6, make_window(5, 1, 2)).check()


@settings(max_examples=60, deadline=None)
@given(data=st.data(), value=st.sampled_from([np.inf, -np.inf, np.nan]))
def test_what_is_not_finite_touches_its_windows_alone(data, value):
    """Also beside the padding, and in the weight: a tap that sees padding is not multiplied."""
    size = data.draw(st.integers(1, 8)), data.draw(st.integers(1, 8))
    window = data.draw(windows(size))
    problem = Problem((size[0], 3, size[1], 16), 4, window, seed=data.draw(st.integers(0, 99)))

    def place(shape):
        return tuple(data.draw(st.integers(0, n - 1)) for n in shape)

    one, other = place(problem.x.shape), place(problem.dy.shape)
    plain = problem.results()
    problem.x[one], problem.dy[other] = value, value
    for found, wanted, before in zip(problem.results(), _by_taps(problem), plain, strict=True):
        assert_array_equal(np.isfinite(found), np.isfinite(wanted))
        assert_array_equal(found[np.isfinite(wanted)], before[np.isfinite(wanted)])


def _by_taps(problem):
    """Results in float64, each tap on its own: what it sees, and no padding."""
    x, w, b, dy = (array.astype("f8") for array in (problem.x, problem.w, problem.b, problem.dy))
    y, dx, dw = np.zeros(dy.shape) + b[:, None, None], np.zeros(x.shape), np.zeros(w.shape)
    with np.errstate(invalid="ignore"):
        for i, j, outputs, inputs in problem.window.pairs((x.shape[0], x.shape[2])):
            y[outputs] += np.einsum("fc,hcwn->hfwn", w[:, :, i, j], x[inputs])
            dx[inputs] += np.einsum("fc,hfwn->hcwn", w[:, :, i, j], dy[outputs])
            dw[:, :, i, j] += np.einsum("hcwn,hfwn->fc", x[inputs], dy[outputs])
    return y, dx, dw


def test_infinite_weights_are_not_multiplied_by_the_padding_of_the_gradient():
    problem = Problem((5, 3, 6, 16), 4, make_window(3, 1, 2))
    problem.w[1, 2, 0, 2] = np.inf
    _, found, _ = problem.results()
    _, wanted, _ = _by_taps(problem)
    assert_array_equal(np.isfinite(found), np.isfinite(wanted))
    assert np.isfinite(found).any()
    assert not np.isfinite(found).all()


@pytest.mark.parametrize(("first", "second"), [(16, 32), (8, 40), (24, 24), (17, 31)])
def test_a_sample_has_the_same_outputs_in_any_batch(first, second):
    window = make_window((3, 5), (1, 2), (1, 2))
    problem = Problem((7, 5, 9, first + second), 6, window)
    y, dx, _ = problem.results("relu")
    for part in slice(0, first), slice(first, None):
        some = Problem((7, 5, 9, problem.x[..., part].shape[-1]), 6, window)
        some.x, some.dy = (np.ascontiguousarray(array[..., part]) for array in (problem.x, problem.dy))
        some.w, some.b = problem.w, problem.b
        assert_array_equal(some.results("relu")[0], y[..., part])
        assert_array_equal(some.results()[1], dx[..., part])


def test_arrays_that_are_not_contiguous():
    problem = Problem((6, 5, 7, 16), 4, make_window(3, 1, 1))
    wanted = problem.results()

    def spread(array):
        return np.full((2 * array.shape[0], *array.shape[1:]), np.nan, "f4")[::2]

    for name in "x", "dy":
        array = getattr(problem, name)
        setattr(problem, name, spread(array))
        getattr(problem, name)[...] = array
    problem.b = np.repeat(problem.b, 2)[::2]
    y, dx, dw = spread(problem.dy), spread(problem.x), np.empty_like(problem.w)
    conv2d, input_grad, weight_grad = map(problem.scratch, KERNELS)
    run(problem.algorithm.conv2d(problem.x, problem.w, problem.b, None, y, conv2d))
    run(problem.algorithm.input_grad(problem.dy, problem.w, dx, input_grad))
    run(problem.algorithm.weight_grad(problem.x, problem.dy, dw, weight_grad))
    for found, expected in zip((y, dx, dw), wanted, strict=True):
        assert_array_equal(found, expected)


def test_shapes_choose_it_and_the_plan_says_why():
    backend = im2colnet_numba.NumbaBackend()

    def choose(*shape, kernel=5, dtype="float32"):
        return backend.algorithm(shape, (shape[0], 32, shape[2], shape[3]), dtype, make_window(kernel, 1, kernel // 2))

    assert choose(16, 3, 16, 32, kernel=3) == ("direct", Direct.why)
    assert choose(16, 32, 16, 32, kernel=1).name == "direct"
    assert choose(16, 32, 16, 32, kernel=3).name == "winograd"
    assert choose(16, 3, 16, 32, kernel=3, dtype="float64").name == "rows"
    assert choose(16, 32, 16, 1, kernel=3) == ("few", Few.why)
    assert choose(3, 32, 3, 1, kernel=3).name == "im2col"


@pytest.mark.parametrize("cpu", ["haswell", "x86-64"])
def test_code_for_older_processors(cpu, tmp_path):
    """The vectors and blocks that the compiler's processor has, not those of this one."""
    if not sys.platform.startswith("linux") or os.uname().machine != "x86_64":
        pytest.skip("it is code for x86-64")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-k", "chunk or contiguous", __file__],
        env={**os.environ, "NUMBA_CPU_NAME": cpu, "NUMBA_CPU_FEATURES": "", "XDG_CACHE_HOME": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout
