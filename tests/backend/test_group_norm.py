"""The CPU's normalisation of groups of channels gives what the textbook kernel gives, whatever tiles it works in."""

import numpy as np
import pytest
from helpers import normal
from im2colnet_numpy import NumpyBackend
from numpy.testing import assert_allclose

from im2colnet.backend import Backend

OVER = (0, 2, 3)


class Textbook(Backend):
    name = "textbook"
    xp = np


def results(backend, x, dy, weight, bias, scratch=None):
    """Both passes, by name."""
    of_sets = (1, x.shape[1], 1, 1, x.shape[4])
    saved = {name: np.full(of_sets, np.nan, x.dtype) for name in ("inverse", "mean", "rest")}
    found = {
        "y": backend.set_norm(x, OVER, 1e-3, weight, bias, **saved, scratch=scratch),
        "dx": np.full_like(x, np.nan),
    }
    affine = {} if weight is None else {name: np.full_like(weight, np.nan) for name in ("dweight", "dbias")}
    backend.set_norm_grads(x, dy, OVER, **saved, weight=weight, **affine, dx=found["dx"], scratch=scratch)
    return found | affine | saved


@pytest.mark.parametrize("rows", [1, 2, 7, 17])
@pytest.mark.parametrize("groups", [1, 4, 6])
@pytest.mark.parametrize("affine", [True, False])
def test_tiles(rows, groups, affine):
    x, dy = normal(17, 6, 3, 5, 4), normal(17, 6, 3, 5, 4, seed=1)
    weight, bias = (normal(1, 6, 3, 1, 1, seed=seed) if affine else None for seed in (2, 3))
    scratch = [np.full((n, groups, 3, 5, 4), np.nan) for n in (rows, 4, 2)]
    found = results(NumpyBackend(), x, dy, weight, bias, scratch)
    expected = results(Textbook(), x, dy, weight, bias)
    for name in expected.keys() - {"rest"}:
        assert_allclose(found[name], expected[name], rtol=1e-9, atol=1e-11, err_msg=name)
    assert np.abs(found["rest"]).max() < 1e-15


@pytest.mark.parametrize("shape", [(1, 1, 1, 1, 3), (1, 64, 1, 16, 2), (56, 8, 32, 56, 2), (33, 2, 5, 9, 1)])
@pytest.mark.parametrize("offset", [0, 3000])
def test_planned_tiles_in_float32(shape, offset):
    x, dy = normal(*shape, dtype="float32") + np.float32(offset), normal(*shape, seed=1, dtype="float32")
    weight, bias = (normal(1, *shape[1:3], 1, 1, seed=seed, dtype="float32") for seed in (2, 3))
    found = results(NumpyBackend(), x, dy, weight, bias)
    expected = results(Textbook(), *(each.astype("float64") for each in (x, dy, weight, bias)))
    for name in ("y", "dx", "dweight", "dbias"):
        scale = max(1, np.abs(expected[name]).max())
        assert_allclose(found[name], expected[name], rtol=0, atol=1e-5 * scale, err_msg=name)


def test_without_a_gradient_of_the_images():
    x, dy, weight = normal(3, 2, 2, 4, 5), normal(3, 2, 2, 4, 5, seed=1), normal(1, 2, 2, 1, 1, seed=2)
    saved = {name: np.empty((1, 2, 1, 1, 5)) for name in ("inverse", "mean", "rest")}
    for backend in NumpyBackend(), Textbook():
        backend.set_norm(x, OVER, 1e-5, weight, **saved)
        both = np.empty((2, *weight.shape))
        backend.set_norm_grads(x, dy, OVER, **saved, weight=weight, dweight=both[0], dbias=both[1])
        if isinstance(backend, NumpyBackend):
            found = both
    assert_allclose(found, both)
