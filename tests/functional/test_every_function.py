"""All functions alike: on every backend, on arrays of any kind, of single samples and of none; and their errors.

That they compute what PyTorch does is in tests/reference/test_torch_values.py.
"""

import ast
import inspect
import json
from pathlib import Path

import numpy as np
import pytest
from helpers import LAYOUTS, assert_close, normal, strided
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

import im2colnet as ic
import im2colnet.functional as F
from im2colnet.testing import oracles

searching = settings(max_examples=40)
X, W, B, DY = normal(2, 4, 6, 5), normal(3, 4, 3, 2, seed=1), normal(3, seed=2), normal(2, 3, 4, 4, seed=3)
C1, C2, POOLED = normal(4, seed=4), normal(4, seed=5), normal(2, 4, 3, 2, seed=6)
SCORES, PIXELS, AT = normal(5, 3, seed=7), normal(2, 3, 2, 4, seed=8), np.arange(48).reshape(2, 4, 3, 2) % 6 * 4
LABELS, PLACES = np.array([0, 2, 1, -100, 2]), np.arange(16).reshape(2, 2, 4) % 3
MEAN, VAR = normal(4, seed=9), 1 + abs(normal(4, seed=10))
SEQUENCES = normal(2, 4, 7, seed=11)
#: name -> (function of arrays, the arrays)
CALLS = {
    **{
        name: (getattr(F, name), [X])
        for name in (
            *("relu", "leaky_relu", "sigmoid", "tanh", "silu", "elu", "selu", "celu", "gelu", "mish", "softplus"),
            *("softsign", "logsigmoid", "hardtanh", "relu6", "hardsigmoid", "hardswish"),
        )
    },
    "threshold": (lambda x: F.threshold(x, 0.5, -1), [X]),
    "prelu": (F.prelu, [X, C1]),
    "softmax": (lambda x: F.softmax(x, -1), [X]),
    "log_softmax": (lambda x: F.log_softmax(x, 1), [X]),
    "glu": (lambda x: F.glu(x, 1), [X]),
    "linear": (lambda x, w, b: F.linear(x, w, b), [X, normal(3, 5), B]),
    "conv2d": (F.conv2d, [X, W, B]),
    "conv2d_input": (lambda w, dy: F.conv2d_input(X.shape, w, dy), [W, DY]),
    "conv2d_weight": (lambda x, dy: F.conv2d_weight(x, W.shape, dy), [X, DY]),
    "conv_transpose2d": (lambda x, w, b: F.conv_transpose2d(x, w, b, 2), [DY, W, C1]),
    "conv1d": (lambda x, w, b: F.conv1d(x, w, b, 2, 1), [SEQUENCES, W[:, :, 0], B]),
    "conv_transpose1d": (lambda x, w, b: F.conv_transpose1d(x, w, b, 2), [SEQUENCES[:, :3], W[:, :, 0], C1]),
    "max_pool1d": (lambda x: F.max_pool1d(x, 2), [SEQUENCES]),
    "avg_pool1d": (lambda x: F.avg_pool1d(x, 2, padding=1), [SEQUENCES]),
    "adaptive_avg_pool1d": (lambda x: F.adaptive_avg_pool1d(x, 4), [SEQUENCES]),
    "adaptive_max_pool1d": (lambda x: F.adaptive_max_pool1d(x, 4), [SEQUENCES]),
    "lp_pool2d": (lambda x: F.lp_pool2d(x, 2, 2), [X]),
    "max_pool2d": (lambda x: F.max_pool2d(x, 2), [X]),
    "max_pool2d_input": (lambda x, dy: F.max_pool2d_input(x, dy, 2), [X, POOLED]),
    "max_unpool2d": (lambda x: F.max_unpool2d(x, ic.get_backend().asarray(AT), 2), [POOLED]),
    "avg_pool2d": (lambda x: F.avg_pool2d(x, 2, divisor_override=3), [X]),
    "avg_pool2d_input": (lambda dy: F.avg_pool2d_input(X.shape, dy, 2), [POOLED]),
    "adaptive_avg_pool2d": (lambda x: F.adaptive_avg_pool2d(x, (4, 2)), [X]),
    "adaptive_max_pool2d": (lambda x: F.adaptive_max_pool2d(x, (4, 2), return_indices=True)[0], [X]),
    "unfold": (lambda x: F.unfold(x, 2), [X]),
    "fold": (lambda x: F.fold(x, (3, 4), 2), [normal(2, 8, 6)]),
    "batch_norm": (lambda x, m, v, w, b: F.batch_norm(x, m, v, w, b), [X, MEAN, VAR, C1, C2]),
    "instance_norm": (lambda x, w, b: F.instance_norm(x, None, None, w, b), [X, C1, C2]),
    "group_norm": (lambda x, w, b: F.group_norm(x, 2, w, b), [X, C1, C2]),
    "layer_norm": (lambda x, w, b: F.layer_norm(x, (5,), w, b), [X, normal(5), normal(5, seed=1)]),
    "rms_norm": (lambda x, w: F.rms_norm(x, (6, 5), w), [X, normal(6, 5)]),
    "local_response_norm": (lambda x: F.local_response_norm(x, 3), [X]),
    "normalize": (F.normalize, [X]),
    "dropout": (lambda x: F.dropout(x, 0.3, seed=1), [X]),
    "dropout2d": (lambda x: F.dropout2d(x, 0.3, seed=1), [X]),
    "pad": (lambda x: F.pad(x, (1, 2, 0, 3), value=0.5), [X]),
    "interpolate": (lambda x: F.interpolate(x, (4, 7), mode="bilinear"), [X]),
    "pixel_shuffle": (lambda x: F.pixel_shuffle(x, 2), [X]),
    "pixel_unshuffle": (lambda x: F.pixel_unshuffle(x, 2), [X[..., :4]]),
    "channel_shuffle": (lambda x: F.channel_shuffle(x, 2), [X]),
    "cross_entropy": (lambda x: F.cross_entropy(x, LABELS, reduction="none"), [SCORES]),
    "nll_loss": (lambda x: F.nll_loss(x, PLACES, reduction="none"), [PIXELS]),
    "focal_loss": (lambda x: F.focal_loss(x, PLACES, reduction="none"), [PIXELS]),
    "dice_loss": (lambda x: F.dice_loss(x, PLACES, reduction="none"), [PIXELS]),
    "binary_cross_entropy_with_logits": (
        lambda x, w: F.binary_cross_entropy_with_logits(x, x > 0, w, pos_weight=w, reduction="none"),
        [X, normal(5)],
    ),
    "mse_loss": (lambda x, t: F.mse_loss(x, t, reduction="none"), [X, X[::-1]]),
    "l1_loss": (lambda x, t: F.l1_loss(x, t, reduction="none"), [X, X[::-1]]),
    "smooth_l1_loss": (lambda x, t: F.smooth_l1_loss(x, t, reduction="none"), [X, X[::-1]]),
    "huber_loss": (lambda x, t: F.huber_loss(x, t, reduction="none"), [X, X[::-1]]),
}
every_function = pytest.mark.parametrize("name", CALLS)


def test_every_function_is_called():
    assert sorted(CALLS) == sorted(F.__all__)


# Arrays of every kind ------------------------------------------------------------------------------------------------
@every_function
@pytest.mark.parametrize("dtype", ["float64", "float32", "float16"])
def test_every_backend_gives_numpy_s_result_in_the_type_of_the_input(name, dtype, every_backend):
    function, arrays = CALLS[name]
    draws = name.startswith("dropout")  # other numbers for each type
    wide = "float32" if draws and dtype != "float64" else "float64"
    exact = function(*(a.astype(dtype).astype(wide) for a in arrays))
    with ic.use_backend(every_backend):
        found = function(*(every_backend.asarray(a.astype(dtype)) for a in arrays))
    assert every_backend.owns(found)
    assert found.dtype == dtype
    assert (found if hasattr(found, "flags") else every_backend.to_numpy(found)).flags.c_contiguous
    tolerance = {"float64": 1e-11, "float32": 1e-4, "float16": 1e-2}[dtype]
    assert_allclose(every_backend.to_numpy(found), exact, rtol=tolerance, atol=tolerance)


@every_function
@pytest.mark.parametrize("layout", LAYOUTS)
def test_arrays_of_any_strides_that_may_not_be_written(name, layout):
    function, arrays = CALLS[name]
    found = function(*(strided(a, layout) for a in arrays))
    assert_close(found, function(*arrays), "float64")


@every_function
def test_results_are_the_caller_s(name):
    function, arrays = CALLS[name]
    first, second = function(*arrays), function(*arrays)
    assert not any(np.shares_memory(first, other) for other in (second, *arrays))
    swapped = function(*(a.astype(a.dtype.newbyteorder()) for a in arrays))
    assert swapped.dtype.isnative
    assert_array_equal(swapped, second)


def test_running_statistics_are_changed_in_place_as_pytorch_does(every_backend):
    """The values are PyTorch's (tests/reference); here those of other types and strides."""
    x, w = every_backend.asarray(X.astype("f4")), every_backend.asarray(C1.astype("f4"))
    exact_mean, exact_var = MEAN.copy(), VAR.copy()
    exact = F.batch_norm(X, exact_mean, exact_var, C1, None, True, 0.3)
    for dtype, step in ("float32", 1), ("float16", 1), ("float32", 2):
        mean, var = (every_backend.asarray(np.repeat(a.astype(dtype), step))[::step] for a in (MEAN, VAR))
        with ic.use_backend(every_backend):
            y = F.batch_norm(x, mean, var, w, None, True, 0.3)
            F.batch_norm(x, mean, var, w)
        for found, wanted in ((y, exact), (mean, exact_mean), (var, exact_var)):
            assert_allclose(every_backend.to_numpy(found), wanted, rtol=1e-2, atol=2e-3)


# Single samples, and none --------------------------------------------------------------------------------------------
SINGLE = ["conv2d", "conv_transpose2d", "max_pool2d", "avg_pool2d", "adaptive_avg_pool2d", "adaptive_max_pool2d"]
SINGLE += ["conv1d", "conv_transpose1d", "max_pool1d", "avg_pool1d", "adaptive_avg_pool1d", "adaptive_max_pool1d"]
SINGLE += ["lp_pool2d", "unfold", "fold", "pixel_shuffle", "pixel_unshuffle", "pad"]


@pytest.mark.parametrize("name", SINGLE)
def test_a_single_sample_is_a_batch_of_one(name):
    function, (x, *others) = CALLS[name]
    assert_array_equal(function(x[1], *others), function(x[1:], *others)[0])


def test_a_single_sample_and_what_belongs_to_it():
    y, at = F.max_pool2d(X[0], 2, return_indices=True)
    assert_array_equal(at, F.max_pool2d(X, 2, return_indices=True)[1][0])
    assert_array_equal(
        F.max_unpool2d(y, at, 2, None, 0, (6, 5)), F.max_unpool2d(y[None], at[None], 2, None, 0, (6, 5))[0]
    )
    assert_array_equal(F.max_pool2d_input(X[0], y, 2), F.max_pool2d_input(X[:1], y[None], 2)[0])
    for function in F.cross_entropy, F.nll_loss, F.focal_loss:
        for reduction in "none", "mean", "sum":
            found = function(SCORES[0], 2, reduction=reduction)
            assert found.shape == ()
            assert found == function(SCORES[:1], np.array([2]), reduction="sum")


BATCHES = [n for n in CALLS if not n.startswith(("conv2d_", "avg_pool2d_", "max_unpool")) and "loss" not in n]
BATCHES = [name for name in BATCHES if "entropy" not in name]


@pytest.mark.parametrize("name", BATCHES)
def test_a_batch_of_no_samples_gives_none(name):
    function, arrays = CALLS[name]
    arrays = [arrays[0][:0], *(a[:0] if a.ndim == 4 and a is not W else a for a in arrays[1:])]
    wanted = function(*CALLS[name][1]).shape
    assert function(*arrays).shape == (0, *wanted[1:])


def test_no_samples_of_what_remains():
    y, at = F.max_pool2d(X[:0], 2, return_indices=True)
    assert F.max_unpool2d(y, at, 2).shape == (0, 4, 6, 4)
    y, at = F.adaptive_max_pool2d(X[:0], 3, return_indices=True)
    assert (y.shape, at.shape, at.dtype) == ((0, 4, 3, 3), (0, 4, 3, 3), "int64")
    for function in F.cross_entropy, F.nll_loss, F.focal_loss, F.dice_loss:
        assert np.isnan(function(SCORES[:0], LABELS[:0]))
        assert function(SCORES[:0], LABELS[:0], reduction="sum") == 0
        assert function(SCORES[:0], LABELS[:0], reduction="none").shape == (0,)
    for function in F.mse_loss, F.l1_loss, F.huber_loss, F.smooth_l1_loss, F.binary_cross_entropy_with_logits:
        assert np.isnan(function(X[:0], X[:0]))
        assert function(X[:0], X[:0], reduction="none").shape == (0, 4, 6, 5)


# Formulas of many shapes ---------------------------------------------------------------------------------------------
shapes = st.lists(st.integers(1, 4), min_size=1, max_size=5).map(tuple)


@searching
@given(shape=shapes, axis=st.integers(-5, 4), seed=st.integers(0, 99))
def test_functions_along_any_axis(shape, axis, seed):
    axis = axis % len(shape)
    x = normal(*shape, seed=seed)
    e = np.exp(x)
    assert_close(F.softmax(x, axis), e / e.sum(axis=axis, keepdims=True), "float64")
    assert_close(F.log_softmax(x, axis - x.ndim), x - np.log(e.sum(axis=axis, keepdims=True)), "float64")
    a, b = np.split(np.concatenate([x, 2 * x], axis), 2, axis)
    assert_close(F.glu(np.concatenate([x, 2 * x], axis), axis), a / (1 + np.exp(-b)), "float64")
    assert_close(F.normalize(x, 2, axis), x / np.sqrt((x * x).sum(axis=axis, keepdims=True)), "float64")


@searching
@given(shape=shapes, data=st.data())
def test_pad(shape, data):
    """NumPy's ``pad`` takes no negative numbers: what they cut off is cut first."""
    axes = data.draw(st.integers(0, len(shape)))
    sides = data.draw(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=axes, max_size=axes))
    x, flat = normal(*shape), [n for both in sides for n in both]
    everywhere = [*[(0, 0)] * (len(shape) - axes), *sides[::-1]]
    assert_array_equal(F.pad(x, flat, value=7), np.pad(x, everywhere, constant_values=7))
    if flat and flat[0] == 0 and shape[-1] > 1:
        assert_array_equal(F.pad(x, [-1, *flat[1:]]), np.pad(x[..., 1:], everywhere))
    if axes in (1, 2) and len(shape) - axes in (1, 2):
        assert_array_equal(F.pad(x, flat, "replicate"), np.pad(x, everywhere, mode="edge"))
        if all(max(both) < n for both, n in zip(sides, shape[::-1], strict=False)):
            assert_array_equal(F.pad(x, flat, "reflect"), np.pad(x, everywhere, mode="reflect"))


@searching
@given(
    size=st.tuples(st.integers(1, 7), st.integers(1, 7)),
    out=st.tuples(st.integers(1, 9), st.integers(1, 9)),
    seed=st.integers(0, 99),
)
def test_indices_of_adaptive_pooling(size, out, seed):
    x = np.round(normal(2, 2, *size, seed=seed))  # with ties, of which the first counts
    x[0, 0, 0, 0] = np.nan if seed % 2 else 0
    y, at = F.adaptive_max_pool2d(x, out, return_indices=True)
    assert at.dtype == "int64"
    for i, j in np.ndindex(*out):
        rows = slice(i * size[0] // out[0], -(-(i + 1) * size[0] // out[0]))
        columns = slice(j * size[1] // out[1], -(-(j + 1) * size[1] // out[1]))
        places = np.arange(size[0] * size[1]).reshape(size)[rows, columns].ravel()
        window = x[:, :, rows, columns].reshape(2, 2, -1)
        assert_array_equal(at[:, :, i, j], places[window.argmax(-1)])
        assert_array_equal(y[:, :, i, j], window.max(-1))


@searching
@given(kernel=st.integers(1, 3), stride=st.integers(1, 3), seed=st.integers(0, 99))
def test_what_pooling_found_is_put_back(kernel, stride, seed):
    x = normal(2, 2, 7, 8, seed=seed)
    y, at = F.max_pool2d(x, kernel, stride, return_indices=True)
    back = F.max_unpool2d(y, at, kernel, stride, output_size=(7, 8))
    expected = np.where(F.max_pool2d_input(x, np.ones_like(y), kernel, stride) != 0, x, 0)
    assert_array_equal(back, expected)
    assert_array_equal(F.max_unpool2d(y, at, kernel, stride, output_size=x.shape), back)


def test_shuffles_of_pixels_are_inverse():
    for r in 1, 2, 3:
        x = normal(2, 3, 6 * r, 4 * r)
        assert_array_equal(F.pixel_shuffle(F.pixel_unshuffle(x, r), r), x)
        assert_array_equal(
            F.pixel_unshuffle(normal(2, 1, 2 * r, r), r),
            oracles.pixel_shuffle_grad(np.zeros((2, r * r, 2, 1)), normal(2, 1, 2 * r, r), r),
        )


def test_losses_of_the_library_s_own():
    """They have no values of PyTorch's; single losses are those of batches of one."""
    for function, oracle in (F.focal_loss, oracles.focal), (F.dice_loss, oracles.dice):
        each = [function(PIXELS[i : i + 1], PLACES[i : i + 1]) for i in range(2)]
        assert_allclose(function(PIXELS, PLACES), oracle(PIXELS, PLACES), rtol=1e-12)
        assert_allclose(function(PIXELS, PLACES), np.mean(each), rtol=1e-12)
        assert_allclose(function(PIXELS, PLACES, reduction="none").mean(), np.mean(each), rtol=1e-12)


def test_dropout():
    x = normal(50, 40) + 10
    assert_array_equal(F.dropout(x, 0.3, False), x)
    assert_array_equal(F.dropout(x, 0.3, seed=4), F.dropout(x, 0.3, seed=4))
    assert (F.dropout(x, 0.3) != F.dropout(x, 0.3)).any()
    dropped = F.dropout(x, 0.3, seed=5)
    kept = dropped != 0
    assert 0.65 < kept.mean() < 0.75
    assert_allclose(dropped[kept], x[kept] / 0.7, rtol=1e-12)
    assert not F.dropout(x, 1.0).any()
    assert_array_equal(F.dropout(x, 1, False), x)


def test_dropout_of_channels():
    x = normal(50, 40, 3, 2) + 10
    assert_array_equal(F.dropout2d(x, 0.3, False), x)
    assert_array_equal(F.dropout2d(x, 0.3, seed=4), F.dropout2d(x, 0.3, seed=4))
    dropped = F.dropout2d(x, 0.3, seed=5)
    kept = dropped[:, :, 0, 0] != 0
    assert 0.65 < kept.mean() < 0.75
    assert kept.any(0).all()
    assert kept.any(1).all()
    assert not dropped[~kept].any()
    assert_allclose(dropped[kept], x[kept] / 0.7, rtol=1e-12)
    assert not F.dropout2d(x, 1.0).any()
    assert F.dropout2d(x[:0]).shape == (0, 40, 3, 2)
    assert F.dropout2d(x[:, :, 0]).shape == (50, 40, 2)
    assert F.dropout2d(x[:, :, 0, 0]).shape == (50, 40)


def test_indices_of_wide_windows_take_the_memory_of_few_images():
    import tracemalloc

    x = normal(2, 4, 64, 64, dtype="float32")
    F.max_pool2d(x, 11, 1, 5, return_indices=True)
    tracemalloc.start()
    F.max_pool2d(x, 11, 1, 5, return_indices=True)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 20 * x.nbytes


# Names ---------------------------------------------------------------------------------------------------------------
def test_names_order_and_defaults_are_pytorch_s():
    """But for what is not here, such as ``inplace``, and for what stands behind a star here."""
    recorded = json.loads((Path(__file__).parents[1] / "reference" / "torch_signatures.json").read_text())
    theirs = recorded["torch.nn.functional"] | recorded["torch.nn.grad"]
    own = {"avg_pool2d_input", "dice_loss", "focal_loss", "max_pool2d_input"}
    assert set(F.__all__) - theirs.keys() == own
    for name in set(F.__all__) - own:
        parameters = inspect.signature(getattr(F, name)).parameters.values()
        wanted = dict(theirs[name])
        ours = {p.name: p.default for p in parameters if p.name in wanted or p.kind is not p.KEYWORD_ONLY}
        assert list(ours) == [argument for argument in wanted if argument in ours], name
        positional = [p.name for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD]
        assert positional == list(wanted)[: len(positional)], name
        for argument, default in ours.items():
            if default is inspect.Parameter.empty:
                assert wanted[argument] is None or argument == "dim", name  # softmax guesses it, with a warning
            else:
                assert ast.literal_eval(wanted[argument]) == default, (name, argument)


@pytest.mark.parametrize(
    ("call", "old", "new"),
    [
        (lambda: F.conv2d(x=X, weight=W), "x of conv2d", "input"),
        (lambda: F.conv2d(X, w=W), "w of conv2d", "weight"),
        (lambda: F.conv2d(X, W, b=B), "b of conv2d", "bias"),
        (
            lambda: F.conv2d_input(input_shape=X.shape, weight=W, grad_output=DY),
            "input_shape of conv2d_input",
            "input_size",
        ),
        (
            lambda: F.conv2d_weight(X, weight_shape=W.shape, grad_output=DY),
            "weight_shape of conv2d_weight",
            "weight_size",
        ),
        (lambda: F.conv2d_weight(X, W.shape, dy=DY), "dy of conv2d_weight", "grad_output"),
        (lambda: F.fold(cols=normal(2, 8, 6), output_size=(3, 4), kernel_size=2), "cols of fold", "input"),
    ],
)
def test_names_of_version_0_1_still_do(call, old, new):
    with pytest.warns(DeprecationWarning, match=f"the argument {old} is now called {new}") as found:
        call()
    assert [warning.filename for warning in found] == [__file__]


def test_calls_that_do_not_fit():
    for call, text in [
        (lambda: F.conv2d(X), "missing 1 required positional argument: 'weight'"),
        (lambda: F.conv2d(weight=W), "missing 1 required positional argument: 'input'"),
        (lambda: F.relu(X, 1), "positional argument"),
        (lambda: F.relu(X, inplace=True), "unexpected keyword argument 'inplace'"),
        (lambda: F.conv2d(X, W, weight=W), "multiple values for argument 'weight'"),
        (lambda: F.conv2d(X, W, x=X), "unexpected keyword argument 'x'"),
    ]:
        with pytest.raises(TypeError, match=text):
            call()


# Errors: each names the argument and says what was expected ----------------------------------------------------------
INDICES = np.zeros((2, 4, 3, 2), int)
ERRORS = [
    (lambda: F.relu([1.0]), ic.BackendError, "input must be an array of a backend"),
    (lambda: F.relu(np.ones(3, int)), ic.DTypeError, "input must be float32, float64 or float16, got int64"),
    (lambda: F.leaky_relu(X, -1), ic.ShapeError, "negative_slope must be", "-1"),
    (lambda: F.gelu(X, "tan"), ic.ShapeError, "approximate must be", "'tan'"),
    (lambda: F.hardtanh(X, 1, 0), ic.ShapeError, "min_val must be less than max_val"),
    (lambda: F.prelu(X, C1[:3]), ic.ShapeError, "weight must be one number", "(2, 4, 6, 5)", "(3,)"),
    (lambda: F.prelu(X, C1.astype("f4")), ic.DTypeError, "weight is float32 but input is float64"),
    (lambda: F.softmax(X, 4), ic.ShapeError, "dim must be an axis of input", "(2, 4, 6, 5)", "got 4"),
    (lambda: F.softmax(X, None), ic.ShapeError, "dim must be an axis of input", "None"),
    (lambda: F.log_softmax(X, 1.0), ic.ShapeError, "dim must be an axis of input", "1.0"),
    (lambda: F.softmax(X, True), ic.ShapeError, "dim must be an axis of input", "True"),
    (lambda: F.glu(X), ic.ShapeError, "dim=-1 of input must have an even length", "(2, 4, 6, 5)"),
    (lambda: F.conv1d(X, W[:, :, 0]), ic.ShapeError, "input must have 3 dimensions, (N, C, L), or 2 without N, got 4"),
    (lambda: F.conv1d(SEQUENCES, W), ic.ShapeError, "weight must have 3 dimensions, (F, C / groups, K), got 4"),
    (lambda: F.conv1d(SEQUENCES[:, :2], W[:, :, 0]), ic.ShapeError, "input has 2 channels", "expects 4 * 1 = 4"),
    (lambda: F.conv1d(SEQUENCES, W[:, :, 0], C1), ic.ShapeError, "bias must have shape (3,)"),
    (lambda: F.conv1d(SEQUENCES[..., :0], W[:, :, 0]), ic.ShapeError, "input is empty: shape (2, 4, 0)"),
    (lambda: F.conv1d(SEQUENCES, W[:, :0, 0]), ic.ShapeError, "weight is empty: shape (3, 0, 2)"),
    (lambda: F.conv1d(SEQUENCES[..., :1], W[:, :, 0]), ic.ShapeError, "kernel 2"),
    (lambda: F.conv_transpose1d(SEQUENCES, W[:, :, 0]), ic.ShapeError, "input has 4 channels", "expects 3"),
    (lambda: F.max_pool1d(X, 2), ic.ShapeError, "input must have 3 dimensions, (N, C, L), or 2 without N, got 4"),
    (lambda: F.avg_pool1d(SEQUENCES[..., :0], 2), ic.ShapeError, "input is empty"),
    (lambda: F.lp_pool2d(SEQUENCES[0], 2, 2), ic.ShapeError, "input must have 4 dimensions"),
    (lambda: F.lp_pool2d(X, 0, 2), ic.ShapeError, "norm_type"),
    (lambda: F.linear(X, normal(3, 4)), ic.ShapeError, "input must end in the 4 features", "(2, 4, 6, 5)"),
    (lambda: F.linear(X, normal(5)), ic.ShapeError, "weight must have 2 dimensions", "(5,)"),
    (lambda: F.linear(X, normal(3, 5), C1), ic.ShapeError, "bias must have shape (3,)", "(4,)"),
    (lambda: F.avg_pool2d(X, 2, divisor_override=0), ic.ShapeError, "divisor_override must be a positive integer"),
    (lambda: F.adaptive_avg_pool2d(X, 0), ic.ShapeError, "output_size must be", "0"),
    (lambda: F.adaptive_max_pool2d(X, (1, 2, 3)), ic.ShapeError, "output_size must be", "(1, 2, 3)"),
    (lambda: F.adaptive_avg_pool2d(X[0, 0], 2), ic.ShapeError, "input must have 4 dimensions", "(6, 5)"),
    (lambda: F.max_unpool2d(POOLED, INDICES[:1], 2), ic.ShapeError, "indices must have the shape of input"),
    (lambda: F.max_unpool2d(POOLED, INDICES + 24, 2), ic.ShapeError, "indices must be 0 to 23", "6×4"),
    (lambda: F.max_unpool2d(POOLED, INDICES - 1, 2), ic.ShapeError, "indices must be 0 to 23"),
    (lambda: F.max_unpool2d(POOLED, POOLED, 2), ic.DTypeError, "indices must be integers", "float64"),
    (lambda: F.max_unpool2d(POOLED, None, 2), ic.Im2colnetError, "indices must be integers", "NoneType"),
    (lambda: F.batch_norm(X, None, None), ic.ShapeError, "running_mean and running_var must be given"),
    (lambda: F.batch_norm(X, MEAN[:3], VAR), ic.ShapeError, "running_mean must have shape (4,)", "(3,)"),
    (lambda: F.batch_norm(X, MEAN.astype(int), VAR), ic.DTypeError, "running_mean must be", "int64"),
    (lambda: F.batch_norm(X, MEAN, VAR, C1[:2]), ic.ShapeError, "weight must have shape (4,)", "(2,)"),
    (lambda: F.batch_norm(X, MEAN, VAR, eps=-1), ic.ShapeError, "eps must be", "-1"),
    (lambda: F.batch_norm(X[0, 0, 0], MEAN, VAR), ic.ShapeError, "input must have channels", "(5,)"),
    (lambda: F.batch_norm(X[:1, :, 0, 0], None, None, training=True), ic.ShapeError, "more than one value"),
    (lambda: F.batch_norm(np.full((2, 4), np.nan), None, None, training=True), ic.NonFiniteError, "mean or variance"),
    (lambda: F.instance_norm(X[:, :, :1, :1]), ic.ShapeError, "more than one value per channel", "(2, 4, 1, 1)"),
    (lambda: F.instance_norm(X, use_input_stats=False), ic.ShapeError, "running_mean and running_var"),
    (lambda: F.group_norm(X, 3), ic.ShapeError, "num_groups must divide", "3"),
    (lambda: F.group_norm(X, 2, bias=C1[:2]), ic.ShapeError, "bias must have shape (4,)", "(2,)"),
    (lambda: F.layer_norm(X, (6,)), ic.ShapeError, "ends in normalized_shape=(6,)", "(2, 4, 6, 5)"),
    (lambda: F.layer_norm(X, 5, C1), ic.ShapeError, "weight must have the shape normalized_shape=(5,)", "(4,)"),
    (lambda: F.rms_norm(X, ()), ic.ShapeError, "normalized_shape must be", "()"),
    (lambda: F.local_response_norm(X, 0), ic.ShapeError, "size must be a positive integer", "0"),
    (lambda: F.normalize(X, -1), ic.ShapeError, "p must be", "-1"),
    (lambda: F.normalize(X, 2, 9), ic.ShapeError, "dim must be an axis", "9"),
    (lambda: F.dropout(X, 1.5), ic.ShapeError, "p must be a probability", "1.5"),
    (lambda: F.dropout(X, seed=-1), ic.ShapeError, "seed must be", "-1"),
    (lambda: F.dropout2d(X, -0.1), ic.ShapeError, "p must be", "-0.1"),
    (lambda: F.dropout2d(X[0, 0, 0]), ic.ShapeError, "input must have channels", "(5,)"),
    (lambda: F.pad(X, (1,)), ic.ShapeError, "pad must be two integers for each", "(1,)"),
    (lambda: F.pad(X, 2), ic.ShapeError, "pad must be two integers for each", "2"),
    (lambda: F.pad(X, [1, 1] * 5), ic.ShapeError, "at most 8"),
    (lambda: F.pad(X, (-4, -2)), ic.ShapeError, "leaves nothing of axis 3", "5 long"),
    (lambda: F.pad(X, (1, 1), "wrap"), ic.ShapeError, "mode must be", "'wrap'"),
    (lambda: F.pad(X, (5, 1), "reflect"), ic.ShapeError, "input of shape (2, 4, 6, 5)"),
    (lambda: F.pad(X, (5, 1, 0, 0), "reflect"), ic.ShapeError, "padding (5, 1) along the width"),
    (lambda: F.pad(X, (1, 1, 1, 1), "replicate", 3.0), ic.ShapeError, 'value is for mode="constant"', "3.0"),
    (lambda: F.interpolate(X), ic.ShapeError, "one of size and scale_factor"),
    (lambda: F.interpolate(X, 2, 2), ic.ShapeError, "one of size and scale_factor"),
    (lambda: F.interpolate(X, scale_factor=(1, 0.1)), ic.ShapeError, "scale_factor=(1, 0.1) leaves no pixel", "(6, 5)"),
    (lambda: F.interpolate(X, 3, recompute_scale_factor=True), ic.ShapeError, "for scale_factor, not for size"),
    (lambda: F.interpolate(X, scale_factor=(1, 2, 3)), ic.ShapeError, "scale_factor must be a number or two"),
    (lambda: F.interpolate(X, 3, mode="cubic"), ic.ShapeError, "mode must be", "'cubic'"),
    (lambda: F.interpolate(X[0], 3), ic.ShapeError, "input must have 4 dimensions", "(4, 6, 5)"),
    (lambda: F.interpolate(X, 3, align_corners=True), ic.ShapeError, "align_corners"),
    (lambda: F.pixel_shuffle(X, 3), ic.ShapeError, "upscale_factor² = 9", "4"),
    (lambda: F.pixel_shuffle(X[0, 0], 1), ic.ShapeError, "input must be images", "(6, 5)"),
    (lambda: F.pixel_unshuffle(X, 2), ic.ShapeError, "downscale_factor=2 must divide", "(2, 4, 6, 5)"),
    (lambda: F.channel_shuffle(X, 3), ic.ShapeError, "groups must divide the channels"),
    (lambda: F.channel_shuffle(SCORES, 3), ic.ShapeError, "input must have channels and spatial axes", "(5, 3)"),
    (lambda: F.cross_entropy(SCORES, LABELS[:3]), ic.ShapeError, "labels must have shape (5,)", "(3,)"),
    (lambda: F.cross_entropy(SCORES, LABELS + 1), ic.ShapeError, "labels must be 0 to 2"),
    (lambda: F.cross_entropy(SCORES, SCORES[:, 0]), ic.DTypeError, "labels must be integers"),
    (lambda: F.cross_entropy(SCORES, LABELS, VAR), ic.ShapeError, "weight has 4 numbers", "3 classes"),
    (lambda: F.cross_entropy(SCORES, LABELS, reduction="max"), ic.ShapeError, "reduction must be", "'max'"),
    (lambda: F.cross_entropy(np.ones(()), 1), ic.ShapeError, "input must be scores of classes", "()"),
    (lambda: F.cross_entropy(SCORES[:0], LABELS), ic.ShapeError, "target must have shape (0,)", "(5,)"),
    (lambda: F.dice_loss(SCORES[0], 1), ic.ShapeError, "input must be scores of classes", "(3,)"),
    (lambda: F.mse_loss(X, X[:1]), ic.ShapeError, "targets must have the shape", "(1, 4, 6, 5)"),
    (lambda: F.mse_loss(X[:0], X), ic.ShapeError, "target must have the shape of input", "(2, 4, 6, 5)"),
    (lambda: F.huber_loss(X, X, delta=0), ic.ShapeError, "delta must be more than 0"),
    (lambda: F.binary_cross_entropy_with_logits(X, X), ic.ShapeError, "targets must be 0 to 1"),
    (
        lambda: F.binary_cross_entropy_with_logits(SCORES, SCORES * 0, X),
        ic.ShapeError,
        "weight must be broadcast",
        "(2, 4, 6, 5)",
    ),
]


@pytest.mark.parametrize("case", ERRORS, ids=[f"{i}: {case[2]}" for i, case in enumerate(ERRORS)])
def test_errors(case):
    call, kind, *texts = case
    with pytest.raises(kind) as error:
        call()
    assert isinstance(error.value, ic.Im2colnetError)
    for text in texts:
        assert text in str(error.value)
