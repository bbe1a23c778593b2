"""The functions on plain arrays: PyTorch's values, naive loops, arrays of every kind, and errors."""

import numpy as np
import pytest
from helpers import LAYOUTS, Probe, assert_close, normal, strided
from hypothesis import given, settings
from hypothesis import strategies as st
from narrow_module import NarrowBackend
from numpy.testing import assert_array_equal

import im2colnet as ic
import im2colnet.functional as F
from im2colnet.testing import oracles

searching = settings(max_examples=60)
dtypes = pytest.mark.parametrize("dtype", ["float64", "float32"])


def assert_result(actual, expected, dtype="float64"):
    """Assert that a function's result is right, and a new array in C order."""
    assert actual.flags.c_contiguous
    assert_close(actual, expected, dtype)


def test_arguments_have_pytorch_s_names_order_and_defaults():
    x, w, b = normal(2, 4, 6, 6), normal(6, 2, 3, 3, seed=1), normal(6, seed=2)
    assert_result(F.conv2d(x, w, b, 2, 1, 1, 2), oracles.conv2d(x, w, b, stride=2, padding=1, groups=2))
    assert_array_equal(F.conv2d(input=x, weight=w, groups=2), F.conv2d(x, w, None, 1, 0, 1, 2))
    w, b = normal(4, 3, 3, 3, seed=1), normal(6, seed=2)
    expected = oracles.conv_transpose2d(x, w, b, stride=2, padding=1, output_padding=2, groups=2, dilation=3)
    assert_result(F.conv_transpose2d(x, w, b, 2, 1, 2, 2, 3), expected)
    assert_array_equal(F.conv_transpose2d(input=x, weight=w), F.conv_transpose2d(x, w, None, 1, 0, 0, 1, 1))
    assert_result(F.max_pool2d(x, 3, 1, 1, 1), oracles.max_pool2d(x, 3, 1, 1))
    assert_result(F.max_pool2d(x, 2), oracles.max_pool2d(x, 2, 2))
    assert_result(F.avg_pool2d(x, 3, 2, 1, True, False), oracles.avg_pool2d(x, 3, 2, 1, True, False))
    assert_result(F.unfold(x, 3, 2, 1, 2), oracles.unfold(x, 3, dilation=2, padding=1, stride=2))
    cols = oracles.unfold(x, 3, dilation=2, padding=1, stride=2)
    assert_result(F.fold(cols, (6, 6), 3, 2, 1, 2), oracles.fold(cols, 6, 3, 2, 1, 2))
    assert_result(F.fold(cols, 6, 3, 2, 1, 2), oracles.fold(cols, 6, 3, 2, 1, 2))


# Naive loops --------------------------------------------------------------------------------------------------------
small, seeds = st.integers(1, 3), st.integers(0, 2**32 - 1)
numbers = st.one_of(small, st.tuples(small, small))


@st.composite
def problems(draw, pooling=False):
    """Size (H, W) and window arguments, in every form that users may write."""
    kernel = draw(st.one_of(st.integers(1, 4), st.tuples(st.integers(1, 4), st.integers(1, 4))))
    stride, dilation = draw(numbers), draw(numbers)
    extents = [d * (k - 1) + 1 for k, d in zip(oracles.pair(kernel), oracles.pair(dilation), strict=True)]
    halves = [k // 2 for k in oracles.pair(kernel)]
    sides = [st.integers(0, half if pooling else 4) for half in halves]
    forms = [
        st.just("valid"),
        st.integers(0, min(halves) if pooling else 4),
        st.tuples(*sides),
        st.tuples(*(st.tuples(side, side) for side in sides)),
    ]
    if oracles.pair(stride) == (1, 1) and not pooling:
        forms.append(st.just("same"))
    padding = draw(st.one_of(forms))
    pads = oracles.padding_pairs(padding, kernel, dilation, stride)
    least = [max(1, e - before - after) for e, (before, after) in zip(extents, pads, strict=True)]
    size = tuple(n + draw(st.integers(0, 4)) for n in least)
    return size, {"kernel_size": kernel, "stride": stride, "padding": padding, "dilation": dilation}


@searching
@given(problem=problems(), groups=small, channels=small, filters=small, seed=seeds, layout=st.sampled_from(LAYOUTS))
def test_conv2d(problem, groups, channels, filters, seed, layout):
    size, config = problem
    kernel, config["groups"] = oracles.pair(config.pop("kernel_size")), groups
    x, w = normal(2, groups * channels, *size, seed=seed), normal(groups * filters, channels, *kernel, seed=seed + 1)
    b = normal(len(w), seed=seed + 2)
    expected = oracles.conv2d(x, w, b, **config)
    assert_result(F.conv2d(strided(x, layout), strided(w, layout), strided(b, layout), **config), expected)
    dy = normal(*expected.shape, seed=seed + 3)
    dx = F.conv2d_input(x.shape, strided(w, layout), strided(dy, layout), **config)
    assert_result(dx, oracles.conv2d_input(x.shape, w, dy, **config))
    dw = F.conv2d_weight(strided(x, layout), w.shape, strided(dy, layout), **config)
    assert_result(dw, oracles.conv2d_weight(x, w.shape, dy, **config))


@st.composite
def transposed_problems(draw):
    """Size (H, W) and the window arguments of a transposed convolution that leave an output."""
    _, config = draw(problems())
    axes = list(zip(*(oracles.pair(config[name]) for name in ("kernel_size", "stride", "dilation")), strict=True))
    more = tuple(draw(st.integers(0, max(s, d) - 1)) for _, s, d in axes)
    pads = oracles.padding_pairs(config["padding"], config["kernel_size"], config["dilation"], config["stride"])
    least = [  # (size - 1)·stride + extent + more > padding
        max(0, -((d * (k - 1) + m - sum(sides)) // s)) + 1 for (k, s, d), sides, m in zip(axes, pads, more, strict=True)
    ]
    return tuple(n + draw(st.integers(0, 3)) for n in least), {**config, "output_padding": more}


@searching
@given(problem=transposed_problems(), groups=small, channels=small, filters=small, seed=seeds)
def test_conv_transpose2d(problem, groups, channels, filters, seed):
    """The function, and the layer in a step of training."""
    size, config = problem
    kernel, config["groups"] = oracles.pair(config.pop("kernel_size")), groups
    x, w = normal(2, groups * channels, *size, seed=seed), normal(groups * channels, filters, *kernel, seed=seed + 1)
    b = normal(groups * filters, seed=seed + 2)
    expected = oracles.conv_transpose2d(x, w, b, **config)
    assert_result(F.conv_transpose2d(x, w, b, **config), expected)
    dy = normal(*expected.shape, seed=seed + 3)
    layer = ic.ConvTranspose2d(groups * channels, groups * filters, kernel, **config)
    result = Probe([layer], x, dy, {"1.weight": w, "1.bias": b}).step()
    found = result.y, result.dx, result.gradients["1.weight"], result.gradients["1.bias"]
    for actual, wanted in zip(found, (expected, *oracles.conv_transpose2d_grad(x, w, dy, **config)), strict=True):
        assert_close(actual, wanted, "float64")


@searching
@given(problem=problems(pooling=True), ceil_mode=st.booleans(), seed=seeds, layout=st.sampled_from(LAYOUTS))
def test_max_pool2d(problem, ceil_mode, seed, layout):
    size, config = problem
    x = np.round(normal(2, 3, *size, seed=seed))  # with ties
    expected, at = oracles.max_pool2d(x, **config, ceil_mode=ceil_mode, return_indices=True)
    y, indices = F.max_pool2d(strided(x, layout), **config, ceil_mode=ceil_mode, return_indices=True)
    assert_array_equal(y, expected)
    seen = at >= 0  # a dilated window may hold nothing but padding: there is no index then
    assert_array_equal(indices[seen], at[seen])
    dy = normal(*expected.shape, seed=seed + 1)
    dx = F.max_pool2d_input(strided(x, layout), strided(dy, layout), **config, ceil_mode=ceil_mode)
    assert_result(dx, oracles.max_pool2d_grad(x, dy, **config, ceil_mode=ceil_mode))


@searching
@given(
    problem=problems(pooling=True),
    ceil_mode=st.booleans(),
    include=st.booleans(),
    seed=seeds,
    layout=st.sampled_from(LAYOUTS),
)
def test_avg_pool2d(problem, ceil_mode, include, seed, layout):
    size, config = problem
    kernel, stride = oracles.pair(config["kernel_size"]), config["stride"]
    pads = oracles.padding_pairs(config["padding"], kernel, config["dilation"], stride)
    padding = tuple((min(a, k // 2), min(b, k // 2)) for (a, b), k in zip(pads, kernel, strict=True))
    size = tuple(max(n, k) for n, k in zip(size, kernel, strict=True))
    config = {"kernel_size": kernel, "stride": stride, "padding": padding, "ceil_mode": ceil_mode}
    config["count_include_pad"] = include
    x = normal(2, 3, *size, seed=seed)
    expected = oracles.avg_pool2d(x, **config)
    assert_result(F.avg_pool2d(strided(x, layout), **config), expected)
    dy = normal(*expected.shape, seed=seed + 1)
    assert_result(
        F.avg_pool2d_input(x.shape, strided(dy, layout), **config), oracles.avg_pool2d_grad(x.shape, dy, **config)
    )


@searching
@given(problem=problems(), seed=seeds, layout=st.sampled_from(LAYOUTS))
def test_unfold_and_fold(problem, seed, layout):
    size, config = problem
    x = normal(2, 3, *size, seed=seed)
    expected = oracles.unfold(x, **config)
    assert_result(F.unfold(strided(x, layout), **config), expected)
    cols = normal(*expected.shape, seed=seed + 1)
    assert_result(F.fold(strided(cols, layout), size, **config), oracles.fold(cols, size, **config))


# Arrays of every kind -----------------------------------------------------------------------------------------------
X, W, B, DY = normal(2, 3, 6, 7), normal(4, 3, 3, 2, seed=1), normal(4, seed=2), normal(2, 4, 4, 6, seed=3)
COLS = normal(2, 18, 24, seed=4)
#: name -> (function of arrays, the arrays, the oracle)
FUNCTIONS = {
    "conv2d": (F.conv2d, [X, W, B], oracles.conv2d),
    "conv2d_input": (
        lambda w, dy: F.conv2d_input(X.shape, w, dy),
        [W, DY],
        lambda w, dy: oracles.conv2d_input(X.shape, w, dy),
    ),
    "conv2d_weight": (
        lambda x, dy: F.conv2d_weight(x, W.shape, dy),
        [X, DY],
        lambda x, dy: oracles.conv2d_weight(x, W.shape, dy),
    ),
    "conv_transpose2d": (
        lambda x, w, b: F.conv_transpose2d(x, w, b, (2, 1), dilation=(1, 2), output_padding=1),
        [X, W[:3], B[:3]],
        lambda x, w, b: oracles.conv_transpose2d(x, w, b, (2, 1), dilation=(1, 2), output_padding=1),
    ),
    "max_pool2d": (lambda x: F.max_pool2d(x, 2), [X], lambda x: oracles.max_pool2d(x, 2)),
    "max_pool2d_input": (
        lambda x, dy: F.max_pool2d_input(x, dy, (3, 2), 1),
        [X, DY[:, :3]],
        lambda x, dy: oracles.max_pool2d_grad(x, dy, (3, 2), 1),
    ),
    "avg_pool2d": (lambda x: F.avg_pool2d(x, 2), [X], lambda x: oracles.avg_pool2d(x, 2)),
    "avg_pool2d_input": (
        lambda dy: F.avg_pool2d_input((2, 4, 6, 7), dy, (3, 2), 1),
        [DY],
        lambda dy: oracles.avg_pool2d_grad((2, 4, 6, 7), dy, (3, 2), 1),
    ),
    "unfold": (lambda x: F.unfold(x, (3, 2)), [X], lambda x: oracles.unfold(x, (3, 2))),
    "fold": (lambda cols: F.fold(cols, (6, 7), (3, 2)), [COLS], lambda cols: oracles.fold(cols, (6, 7), (3, 2))),
}


@dtypes
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("name", FUNCTIONS)
def test_arrays_of_any_strides_that_may_not_be_written(name, layout, dtype):
    function, arrays, oracle = FUNCTIONS[name]
    assert_result(function(*(strided(a.astype(dtype), layout) for a in arrays)), oracle(*arrays), dtype)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_results_are_the_caller_s(name):
    """A result neither shares memory with the arguments nor with that of another call."""
    function, arrays, oracle = FUNCTIONS[name]
    first = function(*arrays)
    second = function(*arrays)
    assert not any(np.shares_memory(first, other) for other in (second, *arrays))
    first[...] = np.nan
    assert_result(second, oracle(*arrays))


@pytest.mark.parametrize("x", [normal(1, 1, 1, 1), normal(3, 1, 1, 1), normal(1, 1, 1, 5)], ids=lambda x: str(x.shape))
def test_a_result_is_a_copy_even_where_nothing_is_to_be_done(x):
    w = np.ones((1, 1, 1, 1))
    for y in (F.max_pool2d(x, 1), F.avg_pool2d(x, 1), F.unfold(x, 1), F.conv2d(x, w), F.conv_transpose2d(x, w)):
        assert_array_equal(y.ravel(), x.ravel())
        assert not np.shares_memory(x, y)


def test_padding_never_is_a_maximum():
    x = np.full((1, 1, 3, 3), -5.0)
    y, indices = F.max_pool2d(x, 3, 1, 1, return_indices=True)
    assert_array_equal(y, x)
    assert_array_equal(indices[0, 0], [[0, 0, 1], [0, 0, 1], [3, 3, 4]])
    x[...] = -np.inf
    y, indices = F.max_pool2d(x, 3, 1, 1, return_indices=True)
    assert_array_equal(y, x)
    assert_array_equal(indices[0, 0], [[0, 0, 1], [0, 0, 1], [3, 3, 4]])


def test_the_backend_in_use_does_not_matter_for_arrays_of_numpy():
    with ic.use_backend(NarrowBackend()):
        assert_result(F.conv2d(X, W, B), oracles.conv2d(X, W, B))


def test_arrays_of_two_backends():
    text = "input is an array of the backend 'narrow' but weight one of 'numpy'"
    with ic.use_backend(NarrowBackend()) as narrow, pytest.raises(ic.BackendError, match=text):
        F.conv2d(narrow.asarray(X), W)


# Errors: each names the argument and says what was expected ---------------------------------------------------------
def ones(shape, dtype="float64"):
    return np.ones(shape, dtype)


x4, w4, dy4, SHAPE = ones((2, 4, 5, 6)), ones((6, 4, 3, 3)), ones((2, 6, 3, 4)), (2, 6, 3, 4)
ERRORS = [
    # rank
    (lambda: F.conv2d(ones((5, 6)), w4), ic.ShapeError, "input must have 4 dimensions, (N, C, H, W)", "(5, 6)"),
    (lambda: F.conv2d(x4, ones((6, 4, 3))), ic.ShapeError, "weight must have 4 dimensions", "(6, 4, 3)"),
    (lambda: F.conv2d(x4, w4, ones((6, 1))), ic.ShapeError, "bias must have shape (6,)", "(6, 1)"),
    (lambda: F.conv2d(ones(()), w4), ic.ShapeError, "input must have 4 dimensions", "got 0"),
    (
        lambda: F.conv2d_input((2, 4, 5, 6), w4, ones((2, 6))),
        ic.ShapeError,
        "grad_output must have 4 dimensions",
        "(2, 6)",
    ),
    (lambda: F.max_pool2d(ones((5, 6)), 2), ic.ShapeError, "input must have 4 dimensions", "(5, 6)"),
    (lambda: F.avg_pool2d(ones((5, 6)), 2), ic.ShapeError, "input must have 4 dimensions", "(5, 6)"),
    (lambda: F.unfold(ones((5, 6)), 2), ic.ShapeError, "input must have 4 dimensions", "(5, 6)"),
    (lambda: F.fold(x4, 5, 2), ic.ShapeError, "input must have 3 dimensions, (N, C·KH·KW, L)", "(2, 4, 5, 6)"),
    # channels, groups, filters
    (
        lambda: F.conv2d(x4, ones((6, 3, 3, 3))),
        ic.ShapeError,
        "input has 4 channels",
        "(6, 3, 3, 3)",
        "expects 3 * 1 = 3",
    ),
    (lambda: F.conv2d(x4, w4, groups=2), ic.ShapeError, "input has 4 channels", "groups=2 expects 4 * 2 = 8"),
    (lambda: F.conv2d(x4, ones((6, 1, 3, 3)), groups=3), ic.ShapeError, "groups must divide", "groups=3 for 4 and 6"),
    (lambda: F.conv2d(x4, ones((6, 1, 3, 3)), groups=4), ic.ShapeError, "groups must divide", "groups=4 for 4 and 6"),
    (lambda: F.conv2d(x4, w4, groups=0), ic.ShapeError, "groups must", "groups=0"),
    (lambda: F.conv2d(x4, w4, groups=-1), ic.ShapeError, "groups must", "groups=-1"),
    (lambda: F.conv2d(x4, w4, groups=1.0), ic.ShapeError, "groups must", "groups=1.0"),
    (lambda: F.conv2d(x4, w4, ones((4,))), ic.ShapeError, "bias must have shape (6,)", "(4,)"),
    (lambda: F.conv2d_input((2, 3, 5, 6), w4, dy4), ic.ShapeError, "input_size has 3 channels", "expects 4"),
    (
        lambda: F.conv2d_weight(x4, (6, 3, 3, 3), dy4),
        ic.ShapeError,
        "input has 4 channels",
        "weight_size",
        "(6, 3, 3, 3)",
    ),
    (
        lambda: F.conv_transpose2d(x4, w4),
        ic.ShapeError,
        "input has 4 channels",
        "weight of shape (6, 4, 3, 3) expects 6",
    ),
    (lambda: F.conv_transpose2d(x4, w4[:4], groups=3), ic.ShapeError, "groups must divide", "groups=3 for 4"),
    (lambda: F.conv_transpose2d(x4, w4[:4], groups="2"), ic.ShapeError, "groups must divide", "groups='2' for 4"),
    (lambda: F.conv_transpose2d(x4, w4[:4], ones((4,)), groups=2), ic.ShapeError, "bias must have shape (8,)", "(4,)"),
    # sizes
    (lambda: F.conv_transpose2d(x4, w4[:4], padding=5), ic.ShapeError, "height", "input 5 - 1", "padding 5+5", "= -3"),
    (lambda: F.conv_transpose2d(x4, w4[:4], output_padding=1), ic.ShapeError, "output_padding 1 along the height"),
    (lambda: F.conv2d(ones((1, 4, 2, 6)), w4), ic.ShapeError, "height", "input 2 + padding 0+0", "kernel 3", "= 0"),
    (lambda: F.conv2d(ones((1, 4, 6, 2)), w4), ic.ShapeError, "width", "(input 2 + padding 0+0", "kernel 3", "= 0"),
    (lambda: F.conv2d(x4, w4, dilation=3), ic.ShapeError, "height", "dilation 3 * (kernel 3 - 1)"),
    (lambda: F.conv2d_input((2, 4, 2, 6), w4, dy4), ic.ShapeError, "height", "input 2"),
    (lambda: F.conv2d_weight(x4, (6, 4, 7, 3), dy4), ic.ShapeError, "height", "kernel 7"),
    (lambda: F.max_pool2d(x4, 7), ic.ShapeError, "height", "kernel 7"),
    (lambda: F.avg_pool2d(x4, (1, 7)), ic.ShapeError, "width", "kernel 7"),
    (lambda: F.unfold(x4, 7), ic.ShapeError, "height", "kernel 7"),
    (lambda: F.fold(ones((2, 16, 4)), 1, 2), ic.ShapeError, "height", "kernel 2"),
    # empty
    (lambda: F.conv2d(ones((2, 0, 5, 6)), w4), ic.ShapeError, "input is empty", "(2, 0, 5, 6)"),
    (lambda: F.conv2d(x4, ones((0, 4, 3, 3))), ic.ShapeError, "weight is empty", "(0, 4, 3, 3)"),
    (lambda: F.max_pool2d(ones((1, 4, 0, 6)), 2), ic.ShapeError, "input is empty", "(1, 4, 0, 6)"),
    (lambda: F.fold(ones((2, 0, 4)), 3, 2), ic.ShapeError, "input must have shape", "(2, 0, 4)"),
    # element types
    (
        lambda: F.conv2d(ones((2, 4, 5, 6), "int64"), w4),
        ic.DTypeError,
        "input must be float32, float64 or float16, got int64",
    ),
    (
        lambda: F.conv2d(x4, ones((6, 4, 3, 3), "uint8")),
        ic.DTypeError,
        "weight must be float32, float64 or float16, got uint8",
    ),
    (lambda: F.conv2d(ones((2, 4, 5, 6), "float16"), w4), ic.DTypeError, "weight is float64 but input is float16"),
    (lambda: F.conv2d(ones((2, 4, 5, 6), "complex64"), w4), ic.DTypeError, "input must be", "complex64"),
    (lambda: F.max_pool2d(ones((2, 4, 5, 6), "bool"), 2), ic.DTypeError, "input must be", "bool", "astype"),
    (lambda: F.conv2d(x4, w4.astype("float32")), ic.DTypeError, "weight is float32 but input is float64"),
    (lambda: F.conv2d(x4, w4, ones((6,), "float32")), ic.DTypeError, "bias is float32 but input is float64"),
    (
        lambda: F.conv2d_weight(x4, w4.shape, dy4.astype("float32")),
        ic.DTypeError,
        "grad_output is float32 but input is float64",
    ),
    (lambda: F.max_pool2d_input(x4, ones((2, 4, 2, 3), "float32"), 2), ic.DTypeError, "grad_output is float32"),
    # window arguments
    (lambda: F.conv2d(x4, w4, stride=0), ic.ShapeError, "stride must be an integer or a pair", "at least 1, got 0"),
    (lambda: F.conv2d(x4, w4, stride=1.5), ic.ShapeError, "stride must be", "1.5"),
    (lambda: F.conv2d(x4, w4, stride=(1, 2, 3)), ic.ShapeError, "stride must be", "(1, 2, 3)"),
    (lambda: F.conv2d(x4, w4, dilation=0), ic.ShapeError, "dilation must be", "got 0"),
    (lambda: F.conv2d(x4, w4, dilation="2"), ic.ShapeError, "dilation must be", "'2'"),
    (lambda: F.conv2d(x4, w4, padding=-1), ic.ShapeError, "padding must be", "got -1"),
    (lambda: F.conv2d(x4, w4, padding="full"), ic.ShapeError, "padding must be", '"same"', "'full'"),
    (lambda: F.conv2d(x4, w4, padding=((0, 1),)), ic.ShapeError, "padding must be", "((0, 1),)"),
    (lambda: F.conv2d(x4, w4, padding=None), ic.ShapeError, "padding must be", "None"),
    (lambda: F.conv2d(x4, w4, stride=2, padding="same"), ic.ShapeError, "needs stride 1", "(2, 2)"),
    (lambda: F.conv2d_input(x4.shape, w4, dy4, stride=0), ic.ShapeError, "stride must be", "got 0"),
    (lambda: F.conv2d_weight(x4, w4.shape, dy4, padding=0.5), ic.ShapeError, "padding must be", "0.5"),
    (lambda: F.max_pool2d(x4, 0), ic.ShapeError, "kernel_size must be", "got 0"),
    (lambda: F.max_pool2d(x4, 2, stride=0), ic.ShapeError, "stride must be", "got 0"),
    (lambda: F.max_pool2d(x4, 2, padding=2), ic.ShapeError, "padding (2, 2)", "half", "kernel's 2"),
    (lambda: F.max_pool2d(x4, 3, dilation=0), ic.ShapeError, "dilation must be", "got 0"),
    (lambda: F.avg_pool2d(x4, 3, divisor_override=0), ic.ShapeError, "divisor_override must be a positive", "got 0"),
    (lambda: F.avg_pool2d(x4, 3, padding=((0, 0), (0, 2))), ic.ShapeError, "padding (0, 2)", "width", "half"),
    (lambda: F.unfold(x4, None), ic.ShapeError, "kernel_size must be", "None"),
    (lambda: F.fold(ones((2, 16, 4)), 0, 2), ic.ShapeError, "output_size must be", "got 0"),
    # shapes of gradients and columns
    (
        lambda: F.conv2d_input(x4.shape, w4, ones((2, 6, 3, 3))),
        ic.ShapeError,
        "grad_output must",
        str(SHAPE),
        "(2, 6, 3, 3)",
    ),
    (
        lambda: F.conv2d_weight(x4, w4.shape, ones((1, 6, 3, 4))),
        ic.ShapeError,
        "grad_output must",
        str(SHAPE),
        "(1, 6, 3, 4)",
    ),
    (lambda: F.conv2d_weight(x4, (5, 4, 3, 3), dy4), ic.ShapeError, "grad_output must", "(2, 5, 3, 4)", "(2, 6, 3, 4)"),
    (
        lambda: F.max_pool2d_input(x4, ones((2, 4, 3, 3)), 2),
        ic.ShapeError,
        "grad_output must",
        "(2, 4, 2, 3)",
        "(2, 4, 3, 3)",
    ),
    (lambda: F.avg_pool2d_input(x4.shape, ones((2, 3, 2, 3)), 2), ic.ShapeError, "grad_output must", "(2, 4, 2, 3)"),
    (lambda: F.fold(ones((2, 15, 4)), 3, 2), ic.ShapeError, "input must have shape (N, C·4, 4)", "(2, 15, 4)"),
    (lambda: F.fold(ones((2, 16, 5)), 3, 2), ic.ShapeError, "input must have shape (N, C·4, 4)", "(2, 16, 5)"),
    (lambda: F.conv2d_input((2, 4, 5), w4, dy4), ic.ShapeError, "input_size must be four positive", "(2, 4, 5)"),
    (lambda: F.conv2d_input((2, 4, 5, 0), w4, dy4), ic.ShapeError, "input_size must be", "(2, 4, 5, 0)"),
    (lambda: F.conv2d_input((2, 4, 5.0, 6), w4, dy4), ic.ShapeError, "input_size must be", "5.0"),
    (lambda: F.conv2d_input(5, w4, dy4), ic.ShapeError, "input_size must be four positive integers", "5"),
    (lambda: F.conv2d_weight(x4, (6, 4, 3), dy4), ic.ShapeError, "weight_size must be", "(6, 4, 3)"),
    (lambda: F.conv2d_weight(x4, None, dy4), ic.ShapeError, "weight_size must be", "None"),
    (lambda: F.avg_pool2d_input((4, 5, 6), dy4, 2), ic.ShapeError, "input_size must be", "(4, 5, 6)"),
    # not an array
    (lambda: F.conv2d([[1.0]], w4), ic.BackendError, "input must be an array of a backend", "list", "numpy.asarray"),
    (lambda: F.conv2d(x4, 3.0), ic.BackendError, "weight must be an array of a backend", "float"),
    (lambda: F.conv2d(x4, w4, 1), ic.BackendError, "bias must be an array of a backend", "int"),
    (lambda: F.conv2d_input(x4.shape, w4, None), ic.Im2colnetError, "grad_output"),
    (lambda: F.conv2d(None, w4), ic.Im2colnetError, "input"),
    (lambda: F.max_pool2d("image.png", 2), ic.BackendError, "input must be an array of a backend", "str"),
]


@pytest.mark.parametrize("case", ERRORS, ids=[f"{i}: {case[2]}" for i, case in enumerate(ERRORS)])
def test_errors(case):
    call, kind, *texts = case
    with pytest.raises(kind) as error:
        call()
    assert isinstance(error.value, ic.Im2colnetError)
    for text in texts:
        assert text in str(error.value)


def test_errors_are_also_the_usual_python_ones():
    for kind, usual in [(ic.ShapeError, ValueError), (ic.DTypeError, TypeError), (ic.BackendError, RuntimeError)]:
        assert issubclass(kind, usual)
        assert issubclass(kind, ic.Im2colnetError)


def test_arrays_in_the_other_byte_order():
    x, w = normal(2, 3, 6, 5), normal(4, 3, 3, 3, seed=1)
    y, swapped = F.conv2d(x, w), [a.astype(a.dtype.newbyteorder()) for a in (x, w)]
    assert_array_equal(F.conv2d(*swapped), y)
    assert_array_equal(F.conv2d(x, swapped[1]), y)
    for result in F.conv2d(*swapped), F.max_pool2d(swapped[0], 2), F.unfold(swapped[0], 2):
        assert result.dtype.isnative
