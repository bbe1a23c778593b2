"""Cross-entropy as a compiled loop."""

import numpy as np
import pytest
from helpers import GenericBackend, assert_same_bits, normal, strided

pytest.importorskip("numba")
from im2colnet_numba import NumbaBackend

NUMBA, GENERIC = NumbaBackend(), GenericBackend()


def labels_of(logits, seed=0):
    return np.random.default_rng(seed).integers(0, len(logits), logits.shape[1])


@pytest.mark.parametrize("shape", [(10, 64), (10, 37), (3, 1), (1, 5), (1000, 17)])
@pytest.mark.parametrize("spread", [1, 1000])
def test_loss_and_gradient_are_those_of_float64(shape, spread):
    logits = spread * normal(*shape, dtype="float32")
    labels, gradient, exact = labels_of(logits), np.empty(shape, "float32"), np.empty(shape)
    expected = GENERIC.cross_entropy(logits.astype("float64"), labels, 0.25, dlogits=exact)
    out = NUMBA.cross_entropy(logits, labels, 0.25, dlogits=gradient)
    np.testing.assert_allclose(out, expected, rtol=1e-6)
    np.testing.assert_allclose(gradient, exact, rtol=1e-5, atol=1e-7)
    assert_same_bits(NUMBA.cross_entropy(logits, labels, 0.25), out)


@pytest.mark.parametrize("dtype", ["uint8", "int32", "int64"])
def test_labels_are_integers_of_any_type_and_of_equal_scores_the_first_counts(dtype):
    logits = np.ones((4, 3), "float32")
    assert NUMBA.cross_entropy(logits, np.array([0, 1, 0], dtype), 1.0)[1] == 2


def test_scores_that_are_not_finite_spoil_their_sample_alone():
    logits = normal(5, 16, dtype="float32")
    logits[2, 3], logits[1, 4], logits[0, 5] = np.nan, np.inf, -np.inf
    labels, gradient, exact = labels_of(logits), np.empty_like(logits), np.empty_like(logits)
    with np.errstate(all="ignore"):
        out = NUMBA.cross_entropy(logits, labels, 1.0, dlogits=gradient)
        expected = GENERIC.cross_entropy(logits, labels, 1.0, dlogits=exact)
    np.testing.assert_allclose(gradient, exact, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(out, expected, rtol=1e-6)


def test_the_gradient_may_go_over_the_scores():
    logits = normal(5, 16, dtype="float32")
    labels, gradient = labels_of(logits), np.empty_like(logits)
    out = NUMBA.cross_entropy(logits, labels, 0.1, dlogits=gradient)
    assert_same_bits(NUMBA.cross_entropy(logits, labels, 0.1, dlogits=logits), out)
    assert_same_bits(logits, gradient)


@pytest.mark.parametrize("label", [5, -6, 1 << 40])
def test_a_label_that_is_no_class_is_an_error(label):
    with pytest.raises(IndexError):
        NUMBA.cross_entropy(normal(5, 2, dtype="float32"), np.array([0, label]), 1.0)


@pytest.mark.parametrize("how", ["fortran", "reversed", "gaps", "contiguous"])
def test_strides_change_no_bit(how):
    logits = normal(5, 16, dtype="float32")
    labels = labels_of(logits)
    apart = strided(logits, how), strided(labels, how)
    assert_same_bits(NUMBA.cross_entropy(*apart, 0.1), NUMBA.cross_entropy(logits, labels, 0.1))


def test_float64_is_left_to_numpy():
    logits = normal(5, 16)
    labels = labels_of(logits)
    assert_same_bits(NUMBA.cross_entropy(logits, labels, 0.1), GENERIC.cross_entropy(logits, labels, 0.1))
