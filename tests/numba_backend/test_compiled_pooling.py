"""Pooling as compiled loops, beside the textbook's kernels: windows of every kind, over runs of every length."""

import numpy as np
import pytest
from helpers import GenericBackend, assert_same_bits, normal, strided
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("numba")
from im2colnet_numba import NumbaBackend
from im2colnet_numba.pooling import inputs_see, outputs_see

from im2colnet.backend import position_type
from im2colnet.window import Window

NUMBA, GENERIC = NumbaBackend(), GenericBackend()
SPECIAL = np.array([np.nan, np.inf, -np.inf, 0.0, -0.0, 1.0, 2.0], "float32")
#: one number, less than a vector, whole vectors and not, of both lengths
SAMPLES = [1, 3, 8, 9, 16, 31, 32, 37, 64, 70]


@st.composite
def axis_windows(draw):
    """Along one axis: size, kernel, stride, padding and dilation, such that an output is left."""
    kernel, stride, dilation = draw(st.integers(1, 4)), draw(st.integers(1, 3)), draw(st.integers(1, 3))
    extent = dilation * (kernel - 1) + 1
    padding = draw(st.integers(0, extent - 1)), draw(st.integers(0, extent - 1))
    least = max(1, extent - sum(padding))
    return draw(st.integers(least, least + 6)), kernel, stride, padding, dilation


@st.composite
def problems(draw):
    """A window, images (H, C, W, N) and a gradient of the outputs: normal, or with ties and special numbers."""
    size, kernel, stride, padding, dilation = zip(draw(axis_windows()), draw(axis_windows()), strict=True)
    window = Window(kernel, stride, padding, dilation, draw(st.booleans()))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    shape = size[0], draw(st.integers(1, 3)), size[1], draw(st.sampled_from(SAMPLES))
    among = draw(st.sampled_from([None, SPECIAL, SPECIAL[2:]]))
    x = rng.standard_normal(shape).astype("float32") if among is None else rng.choice(among, shape)
    OH, OW = window.output_size(size)
    return window, x, rng.standard_normal((OH, shape[1], OW, shape[3])).astype("float32")


@settings(max_examples=150, deadline=None)
@given(problems())
def test_the_largest_are_the_textbooks_and_so_is_their_gradient(problem):
    window, x, dy = problem
    y, where = np.full(dy.shape, np.nan, "float32"), np.full(dy.shape, 99, position_type(window))
    NUMBA.max_pool2d(x, window, where, out=y)
    with np.errstate(all="ignore"):
        np.testing.assert_array_equal(y, GENERIC.max_pool2d(x, window))
        sees = GENERIC.avg_pool2d(np.ones_like(x), window, True, 1) > 0  # others see padding alone
        np.testing.assert_array_equal(where[sees], GENERIC.first_maximum(x, window)[sees])
        np.testing.assert_array_equal(NUMBA.max_pool2d(x, window), y)
        exact = GENERIC.max_pool2d_grad(x.astype("float64"), y.astype("float64"), dy.astype("float64"), window)
        dx = NUMBA.max_pool2d_grad(None, None, dy, window, where, out=np.full_like(x, np.nan))
    np.testing.assert_allclose(dx, exact, rtol=1e-6, atol=1e-5)
    assert_same_bits(NUMBA.max_pool2d_grad(x, y, dy, window), dx)


@settings(max_examples=100, deadline=None)
@given(problems(), st.sampled_from([(True, None), (False, None), (True, 5)]))
def test_means_are_the_textbooks_and_so_is_their_gradient(problem, how):
    window, x, dy = problem
    x = np.nan_to_num(x, posinf=3, neginf=-3)
    size = x.shape[0], x.shape[2]
    y = NUMBA.avg_pool2d(x, window, *how, out=np.full(dy.shape, np.nan, "float32"))
    np.testing.assert_allclose(y, GENERIC.avg_pool2d(x.astype("float64"), window, *how), rtol=1e-5, atol=1e-5)
    dx = NUMBA.avg_pool2d_grad(dy, size, window, *how, out=np.full_like(x, np.nan))
    exact = GENERIC.avg_pool2d_grad(dy.astype("float64"), size, window, *how)
    np.testing.assert_allclose(dx, exact, rtol=1e-5, atol=1e-5)


@settings(max_examples=100, deadline=None)
@given(axis_windows(), st.booleans())
def test_what_sees_what_is_the_same_from_both_sides(axis, ceil_mode):
    size, kernel, stride, padding, dilation = axis
    window = Window((kernel, 1), (stride, 1), (padding, (0, 0)), (dilation, 1), ceil_mode)
    out, _ = window.output_size((size, 1))
    forward, back = outputs_see(window, 0, size, out, (1,) * out), inputs_see(window, 0, size, out)

    def meetings(along):
        return {
            (position, first + n * along.step, tap + n * along.taps)
            for position, (first, tap, places, _) in enumerate(along.seen)
            for n in range(places)
        }

    expected = {
        (lo + n, start + n * stride, k)
        for k, (lo, hi, start) in enumerate(window.taps(0, size, out))
        for n in range(hi - lo)
    }
    assert meetings(forward) == expected
    assert {(o, i, k) for i, o, k in meetings(back)} == expected


def test_neighbours_that_see_the_same_taps_are_one_run():
    window = Window((3, 3), padding=((1, 1), (1, 1)))
    starts, lengths = outputs_see(window, 1, 8, 8, (3,) * 8).runs(16)[:, :2].T
    assert lengths.tolist() == [16, 6 * 16, 16]
    assert starts.tolist() == [0, 16, 7 * 16]


@pytest.mark.parametrize("taps", [256, 257, 33_000])
def test_positions_of_wide_windows_are_wider_integers(taps):
    window = Window((1, taps))
    x = np.zeros((1, 1, taps, 9), "float32")
    x[0, 0, [0, taps - 1, taps // 2] * 3, range(9)] = 1
    where = np.empty((1, 1, 1, 9), position_type(window))
    y = NUMBA.max_pool2d(x, window, where)
    assert where.ravel().tolist() == [0, taps - 1, taps // 2] * 3
    assert (y == 1).all()
    dx = NUMBA.max_pool2d_grad(None, None, 2 * y, window, where, out=np.empty_like(x))
    np.testing.assert_array_equal(dx, 2 * x)


@pytest.mark.parametrize("how", ["fortran", "reversed", "transposed", "gaps", "contiguous"])
def test_strides_change_no_bit(how):
    window, x, dy = Window((3, 2), (2, 1)), normal(7, 2, 6, 16, dtype="float32"), normal(3, 2, 5, 16, dtype="float32")
    where = np.empty(dy.shape, "uint8")
    y = NUMBA.max_pool2d(x, window, where)
    again = np.empty(dy.shape, "uint8")
    assert_same_bits(NUMBA.max_pool2d(strided(x, how), window, again), y)
    assert_same_bits(again, where)
    dx = NUMBA.max_pool2d_grad(None, None, dy, window, where, out=np.empty_like(x))
    apart = strided(dy, how), window, strided(where, how)
    assert_same_bits(NUMBA.max_pool2d_grad(None, None, *apart, out=np.empty_like(x)), dx)
    assert_same_bits(NUMBA.avg_pool2d(strided(x, how), window), NUMBA.avg_pool2d(x, window))


@pytest.mark.parametrize("dtype", ["float64", "float16"])
def test_other_types_are_pooled_by_numpy(dtype):
    window, x, dy = Window((2, 2), (2, 2)), normal(6, 2, 6, 16).astype(dtype), normal(3, 2, 3, 16).astype(dtype)
    where = np.empty(dy.shape, "uint8")
    y = NUMBA.max_pool2d(x, window, where)
    np.testing.assert_array_equal(y, GENERIC.max_pool2d(x, window))
    dx = NUMBA.max_pool2d_grad(None, None, dy, window, where, out=np.empty_like(x))
    np.testing.assert_array_equal(dx, GENERIC.max_pool2d_grad(x, y, dy, window))


def test_an_empty_batch_has_no_pixels():
    window, x = Window((2, 2), (2, 2)), np.empty((4, 2, 4, 0), "float32")
    where = np.empty((2, 2, 2, 0), "uint8")
    assert NUMBA.max_pool2d(x, window, where).shape == where.shape
    assert NUMBA.avg_pool2d(x, window).shape == where.shape
