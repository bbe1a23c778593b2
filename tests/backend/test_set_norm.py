"""Normalisation of sets of numbers of one sample: each division into sets, on every backend, against plain formulas."""

from itertools import chain, combinations

import numpy as np
import pytest
from helpers import normal
from numpy.testing import assert_allclose

from im2colnet.testing.conformance.normalization import PARTS, exact_set_norm

SHAPE = (3, 2, 4, 5)  # of a sample
EVERY = list(chain.from_iterable(combinations(range(4), n) for n in range(1, 5)))


def found(backend, x, dy, over, weight, bias, eps, centred, asked):
    """The same of a backend; gradients of a weight and a bias are of the shape ``asked``."""
    to = backend.asarray
    dtype, of_sets = x.dtype.name, tuple(1 if axis in over else n for axis, n in enumerate(x.shape))
    saved = {name: to(np.full(of_sets, np.nan, dtype)) for name in (PARTS if centred else PARTS[:1])}
    w, b = (None if each is None else to(each) for each in (weight, bias))
    results = {name: to(np.full(shape, np.nan, dtype)) for name, shape in asked.items()}
    y = backend.set_norm(to(x), over, eps, w, b, **saved)
    backend.set_norm_grads(to(x), to(dy), over, **saved, weight=w, **results)
    return {name: backend.to_numpy(array) for name, array in (results | {"y": y}).items()}


def check(backend, x, dy, over, weight=None, bias=None, centred=True, eps=1e-3, tolerance=1e-11, **asked):
    expected = exact_set_norm(x, dy, over, weight, bias, eps, centred)
    for name, value in found(backend, x, dy, over, weight, bias, eps, centred, {"dx": x.shape} | asked).items():
        wanted = expected[name]
        if name in asked:
            wanted = wanted.sum(tuple(axis for axis, n in enumerate(asked[name]) if n == 1), keepdims=True)
        scale = max(1, np.abs(wanted).max())
        assert_allclose(value, wanted, rtol=0, atol=tolerance * scale, err_msg=name)


@pytest.mark.parametrize("over", EVERY, ids=str)
@pytest.mark.parametrize("N", [1, 3, 9])
def test_every_division(every_backend, over, N):
    """With a number for each place of a set, as LayerNorm has; without a mean, as RMSNorm has none."""
    x, dy = normal(*SHAPE, N), normal(*SHAPE, N, seed=1)
    affine = *(n if axis in over else 1 for axis, n in enumerate(SHAPE)), 1
    weight, bias = normal(*affine, seed=2), normal(*affine, seed=3)
    check(every_backend, x, dy, over, weight, bias, dweight=affine, dbias=affine)
    check(every_backend, x, dy, over, weight, centred=False, dweight=affine)


@pytest.mark.parametrize("affine", [(1, 2, 4, 1, 1), (1, 1, 1, 1, 1), (3, 2, 4, 5, 1), (1, 1, 1, 5, 3)], ids=str)
@pytest.mark.parametrize("given", ["weight", "bias", "neither"])
def test_a_weight_and_a_bias_of_any_shape(every_backend, affine, given):
    """Also of one for each sample, and a gradient of one that is not multiplied or added."""
    x, dy, parameter = normal(*SHAPE, 3), normal(*SHAPE, 3, seed=1), normal(*affine, seed=2)
    parameters = {} if given == "neither" else {given: parameter}
    check(every_backend, x, dy, (0, 2, 3), **parameters, dbias=affine)
    check(every_backend, x, dy, (0, 2, 3), **parameters, dweight=affine)


@pytest.mark.parametrize("shape", [(40, 3, 40, 37), (1, 7, 1, 300), (600, 2), (4, 33)], ids=str)
@pytest.mark.parametrize("offset", [0, 3000])
def test_many_members_in_float32(every_backend, shape, offset):
    over = (0, 2) if len(shape) == 4 else (0,)
    x, dy = (normal(*shape, seed=seed, dtype="float32") for seed in (0, 1))
    check(every_backend, x + np.float32(offset), dy, over, tolerance=2e-5)


def test_far_from_0_no_large_squares_are_subtracted(every_backend):
    x, dy = 1e7 + normal(50, 4, 3), normal(50, 4, 3, seed=1)
    check(every_backend, x, dy, (0,), tolerance=1e-7)


def test_the_first_number_may_lie_far_from_the_others(every_backend):
    x, dy = 1 + normal(50, 4, 3) / 1e3, normal(50, 4, 3, seed=1)
    x[0] = 1e5
    check(every_backend, x, dy, (0,), tolerance=1e-9)
