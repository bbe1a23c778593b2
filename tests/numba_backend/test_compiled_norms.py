"""Batch norm, the normalisation of sets, and optimisers' updates as compiled loops.

The checks of the contract compare them with exact results on small shapes; here are those that whole vectors take, and
what no exact result says: arguments that share memory, numbers that are not finite, what falls back.
"""

import numpy as np
import pytest
from helpers import GenericBackend, assert_same_bits, normal, strided

import im2colnet as ic

pytest.importorskip("numba")
from im2colnet_numba import NumbaBackend
from im2colnet_numba.normalization import ABREAST, Sets, bounds

from im2colnet.backend import Statistics

NUMBA, GENERIC = NumbaBackend(), GenericBackend()
#: (H, C, W, N): whole vectors and not, one sample, rows longer than the sums abreast
BATCHES = [(4, 3, 4, 16), (5, 2, 3, 37), (3, 4, 5, 1), (2, 2, 40, 64), (1, 7, 1, 8), (9, 1, 1, 2)]


def close(actual, expected, factor=1.0):
    """Numbers of float32 differ by rounding, each beside the largest."""
    bound = factor * 4e-6 * max(1, np.abs(expected).max(initial=0))
    assert np.abs(actual - expected).max(initial=0) <= bound


@pytest.mark.parametrize("shape", BATCHES)
@pytest.mark.parametrize("mean", [0, 300])
def test_sums_are_those_of_float64(shape, mean):
    x = (normal(*shape) + mean).astype("float32")
    dy, exact = normal(*shape, seed=1, dtype="float32"), x.astype("float64")
    axes, n = (0, 2, 3), x[:, 0].size
    sums = NUMBA.batch_norm_sums(x)
    close(sums[0] / n, exact.mean(axes))
    close(sums[1] / n, exact.var(axes), 4)
    centre = exact.mean(axes)
    grad_sums = NUMBA.batch_norm_grad_sums(x, centre, dy)
    close(grad_sums[0], dy.astype("float64").sum(axes), np.sqrt(n))
    close(grad_sums[1], (dy * (exact - centre[:, None, None])).sum(axes), np.sqrt(n))


@pytest.mark.parametrize("shape", BATCHES)
@pytest.mark.parametrize("kind", ["relu", "relu6", "hardtanh:-0.5,0.25", "sigmoid"])
def test_gradients_of_what_was_activated_are_summed_in_the_same_pass(shape, kind):
    x, dy = normal(2, *shape, dtype="float32")
    mean, y = normal(shape[1]), GENERIC.activation(normal(*shape, seed=1, dtype="float32"), kind)
    y.reshape(-1)[:3] = np.inf, np.nan, 0
    expected_dz = np.empty_like(dy)
    expected = GENERIC.batch_norm_grad_sums(x.astype("f8"), mean, dy.astype("f8"), y.astype("f8"), kind, expected_dz)
    dz = np.full_like(dy, np.nan)
    sums = NUMBA.batch_norm_grad_sums(x, mean, dy, y, kind, dz)
    finite = np.isfinite(expected_dz)
    close(dz[finite], expected_dz[finite])
    np.testing.assert_array_equal(np.isnan(dz), np.isnan(expected_dz))
    channels = np.isfinite(expected).all(0)
    close(sums[:, channels], expected[:, channels], 4 * np.sqrt(x[:, 0].size))
    over = dy.copy()
    assert_same_bits(NUMBA.batch_norm_grad_sums(x, mean, over, y, kind, over), sums)
    assert_same_bits(over, dz)


def test_sums_of_what_is_not_finite_are_not():
    x = normal(3, 3, 4, 16, dtype="float32")
    x[1, 0, 2, 5], x[2, 1, 0, 0] = np.nan, np.inf
    sums = NUMBA.batch_norm_sums(x)
    assert np.isnan(sums[:, 0]).all()
    assert not np.isfinite(sums[:, 1]).any()
    assert np.isfinite(sums[:, 2]).all()


@pytest.mark.parametrize("shape", BATCHES)
@pytest.mark.parametrize("kind", [None, "relu", "relu6", "hardtanh:-0.5,0.25", "sigmoid", "tanh"])
@pytest.mark.parametrize("with_other", [False, True])
def test_an_affine_map_is_the_textbook_one_and_may_go_over_its_input(shape, kind, with_other):
    x, other = normal(2, *shape, dtype="float32")
    scale, shift, other_scale = normal(3, shape[1], seed=1)
    more = (other, other_scale) if with_other else (None, None)
    y = NUMBA.channel_affine(x, scale, shift, *more, activation=kind)
    close(y, GENERIC.channel_affine(x, scale, shift, *more, activation=kind))
    over = x.copy()
    NUMBA.channel_affine(over, scale, shift, *more, activation=kind, out=over)
    assert_same_bits(over, y)
    if with_other:
        over = other.copy()
        NUMBA.channel_affine(x, scale, shift, over, other_scale, activation=kind, out=over)
        assert_same_bits(over, y)


@pytest.mark.parametrize("kind", [None, "relu", "relu6", "hardtanh:-0.5,0.25"])
def test_an_affine_map_keeps_what_is_not_finite(kind):
    x = np.tile(np.array([np.nan, np.inf, -np.inf, -0.0, 1e-40, 1, 2, -3], "float32"), 4).reshape(1, 1, 1, 32)
    one, zero = np.ones(1), np.zeros(1)
    y = NUMBA.channel_affine(x, one, zero, activation=kind)
    expected = x if kind is None else GENERIC.activation(x, kind)
    np.testing.assert_array_equal(y, expected)


def test_what_bounds_an_activation_has():
    assert bounds("relu6") == (0, 6)
    assert bounds("hardtanh:-2,3") == (-2, 3)
    assert bounds("sigmoid") is None
    low, high = bounds("relu")
    assert low == 0
    assert np.isnan(high)


@pytest.mark.parametrize("dtype", ["float64", "float16"])
def test_other_types_are_normalised_by_numpy(dtype):
    numpy = ic.get_backend("numpy")
    x, dy = normal(2, 3, 4, 5, 6).astype(dtype)
    scale, shift = normal(2, 4)
    assert_same_bits(NUMBA.batch_norm_sums(x), numpy.batch_norm_sums(x))
    assert_same_bits(NUMBA.batch_norm_grad_sums(x, scale, dy), numpy.batch_norm_grad_sums(x, scale, dy))
    assert_same_bits(NUMBA.channel_affine(x, scale, shift), numpy.channel_affine(x, scale, shift))


@pytest.mark.parametrize("how", ["fortran", "reversed", "transposed", "gaps"])
def test_strides_change_no_bit(how):
    x, dy = normal(2, 3, 4, 5, 16, dtype="float32")
    scale, shift = normal(2, 4)
    apart, dy_apart = strided(x, how), strided(dy, how)
    assert_same_bits(NUMBA.batch_norm_sums(apart), NUMBA.batch_norm_sums(x))
    assert_same_bits(NUMBA.batch_norm_grad_sums(apart, scale, dy_apart), NUMBA.batch_norm_grad_sums(x, scale, dy))
    assert_same_bits(NUMBA.channel_affine(apart, scale, shift), NUMBA.channel_affine(x, scale, shift))


def test_an_empty_batch_has_no_sums():
    x, of_channels = np.empty((3, 2, 4, 0), "float32"), np.zeros(2)
    assert not NUMBA.batch_norm_grad_sums(x, of_channels, x).any()
    assert NUMBA.channel_affine(x, of_channels, of_channels).shape == x.shape


@pytest.mark.parametrize("with_weight", [False, True])
@pytest.mark.parametrize("with_bias", [False, True])
def test_the_lines_of_channels_are_those_of_float64(with_weight, with_bias):
    sums, gradients = np.abs(normal(2, 2, 37))
    weight, bias = (
        normal(37, seed=k, dtype="float32") if given else None for k, given in ((1, with_weight), (2, with_bias))
    )
    args = sums, 9, lambda: 1e-3, weight, bias
    line, expected = NUMBA.batch_norm_line(*args), GENERIC.batch_norm_line(*args)
    np.testing.assert_allclose(line, expected, rtol=1e-13, atol=1e-13)
    of = Statistics(*expected)
    found, exact = (backend.batch_norm_grad_line(gradients, 9, of) for backend in (NUMBA, GENERIC))
    np.testing.assert_allclose(found, exact, rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize("row", [0, 1])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_statistics_that_are_not_finite_are_an_error(row, value):
    sums = np.ones((2, 20))
    sums[row, 11] = value
    with pytest.raises(ic.NonFiniteError, match="parameters and running statistics are unchanged"):
        NUMBA.batch_norm_line(sums, 4, lambda: 1e-3)


# Sets ----------------------------------------------------------------------------------------------------------------
#: shape, axes of a set, shape of weight and bias
SETS = [
    ((4, 2, 3, 5, 16), (0, 2, 3), (1, 2, 3, 1, 1)),  # group norm
    ((4, 2, 3, 5, 37), (0, 2, 3), None),
    ((4, 2, 3, 40, 64), (0, 2, 3), (1, 2, 3, 1, 1)),  # rows longer than the sums abreast
    ((4, 2, 3, 9, 1), (0, 2, 3), (1, 2, 3, 1, 1)),  # one sample
    ((4, 3, 5, 16), (0, 1, 2), (4, 3, 5, 1)),  # layer norm
    ((4, 3, 5, 16), (1,), (1, 3, 1, 1)),  # of the channels of a pixel
    ((6, 32), (0,), (6, 1)),
    ((7, 3, 4, 16), (0, 2), None),  # instance norm
    ((1, 1, 1, 16), (0, 1, 2), (1, 1, 1, 1)),
]


def set_norm(backend, shape, over, affine, x, dy, centred=True, eps=1e-3):
    """Everything that the two kernels write."""
    of_sets = tuple(1 if axis in over else n for axis, n in enumerate(shape))
    kept = {
        name: np.full(of_sets, np.nan, x.dtype) for name in (["inverse", "mean", "rest"] if centred else ["inverse"])
    }
    weight, bias = (None, None) if affine is None else normal(2, *affine, seed=2, dtype=x.dtype.name)
    gradients = {} if affine is None else {name: np.full(affine, np.nan, x.dtype) for name in ("dweight", "dbias")}
    dx = np.full(shape, np.nan, x.dtype)
    y = backend.set_norm(x, over, eps, weight, bias, **kept)
    backend.set_norm_grads(x, dy, over, weight=weight, **kept, **gradients, dx=dx)
    return {"y": y, "dx": dx, "inverse": kept["inverse"]} | gradients


@pytest.mark.parametrize(("shape", "over", "affine"), SETS)
@pytest.mark.parametrize("centred", [True, False])
def test_sets_are_normalised_as_in_float64(shape, over, affine, centred):
    x, dy = normal(2, *shape)
    x += 3
    expected = set_norm(GENERIC, shape, over, affine, x, dy, centred)
    found = set_norm(NUMBA, shape, over, affine, x.astype("f4"), dy.astype("f4"), centred)
    for name, exact in expected.items():
        close(found[name], exact, 3)


def test_sets_of_a_large_mean_keep_their_digits():
    x, dy = normal(2, 4, 2, 3, 5, 16)
    x += 5000
    x = x.astype("f4")
    args = x.shape, (0, 2, 3), None
    expected = set_norm(GENERIC, *args, x.astype("f8"), dy)
    found = set_norm(NUMBA, *args, x, dy.astype("f4"))
    for name, exact in expected.items():
        close(found[name], exact, 3)


def test_a_constant_set_is_its_bias():
    x = np.full((4, 2, 3, 5, 16), 0.1, "float32")
    weight, bias = normal(2, 1, 2, 3, 1, 1, dtype="float32")
    kept = (np.empty((1, 2, 1, 1, 16), "float32") for _ in range(3))
    y = NUMBA.set_norm(x, (0, 2, 3), 1e-5, weight, bias, *kept)
    close(y, np.broadcast_to(bias, y.shape))


def test_a_sample_that_is_not_finite_spoils_no_other():
    x = normal(4, 2, 3, 5, 16, dtype="float32")
    x[0, 0, 0, 0, 3] = np.nan
    kept = (np.empty((1, 2, 1, 1, 16), "float32") for _ in range(3))
    y = NUMBA.set_norm(x, (0, 2, 3), 1e-5, None, None, *kept)
    assert np.isnan(y[:, 0, :, :, 3]).all()
    y[:, 0, :, :, 3] = 0
    assert np.isfinite(y).all()


def test_normalisation_may_go_over_its_input():
    x = normal(4, 2, 3, 5, 16, dtype="float32")
    args = (0, 2, 3), 1e-5, *normal(2, 1, 2, 3, 1, 1, dtype="float32")
    kept = [np.empty((1, 2, 1, 1, 16), "float32") for _ in range(3)]
    y = NUMBA.set_norm(x, *args, *kept)
    NUMBA.set_norm(x, *args, *kept, out=x)
    assert_same_bits(x, y)


@pytest.mark.parametrize(
    ("shape", "over", "affine"),
    [
        ((4, 3, 5, 2), (0, 1, 2), (4, 3, 5, 1)),  # a weight for each number of few samples
        ((3, 2, 4, 5, 16), (1, 3), None),  # axes of sets, and of none, in turn
        ((4, 3, 0, 16), (0, 1, 2), None),
    ],
)
def test_other_sets_are_left_to_numpy(shape, over, affine):
    assert Sets.of(np.empty(shape, "f4"), over, None if affine is None else np.empty(affine, "f4")) is None


def test_few_numbers_are_held_abreast():
    for shape, over, affine in SETS:
        found = Sets.of(np.empty(shape, "f4"), over, None if affine is None else np.empty(affine, "f4"))
        assert found is not None
        assert found.B * found.L % found.abreast == 0
        assert found.spread <= max(ABREAST, found.L)


# Updates -------------------------------------------------------------------------------------------------------------
OPTIMIZERS = [
    ic.SGD(0.1),
    ic.SGD(0.1, momentum=0.9, weight_decay=0.01, dampening=0.2),
    ic.SGD(0.1, momentum=0.9, nesterov=True, maximize=True),
    ic.Adam(weight_decay=0.1),
    ic.AdamW(amsgrad=True),
    ic.RMSprop(),
    ic.RMSprop(momentum=0.5, centered=True, weight_decay=0.1),
    ic.Adagrad(lr_decay=0.1, initial_accumulator_value=0.2),
]


@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=repr)
@pytest.mark.parametrize("size", [1, 37, 4096])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_an_update_is_that_of_the_optimizer(optimizer, size, dtype):
    p = normal(size, dtype=dtype)
    exact, work = p.astype("float64"), np.empty(size)
    state = {name: np.zeros(size, dtype) for name in optimizer.state_slots()}
    exact_state = {name: np.zeros(size) for name in optimizer.state_slots()}
    for t in range(1, 4):
        g = normal(size, seed=t, dtype=dtype)
        optimizer.update(exact, g.astype("float64"), exact_state, 0.1, t, work, np)
        NUMBA.update(optimizer, p, g, state, 0.1, t, work.astype(dtype))
    np.testing.assert_allclose(
        p, exact, rtol=1e-4 if dtype == "float32" else 1e-11, atol=1e-5 if dtype == "float32" else 0
    )


def test_a_rule_with_another_state_is_refused():
    class Other(ic.SGD):
        rule = "sgd"

        def state_slots(self):
            return ("speed",)

    p = np.ones(3, "float32")
    with pytest.raises(ic.BackendError, match=r"'sgd' takes the vectors velocity; .* state_slots\(\) are \(speed\)"):
        NUMBA.update(Other(0.1), p, p.copy(), {"speed": p.copy()}, 0.1, 1, p.copy())
