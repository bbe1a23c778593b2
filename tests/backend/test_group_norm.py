"""The CPU normalises groups of channels, and whole samples, in tiles of any size as the textbook kernel does."""

import numpy as np
import pytest
from helpers import GenericBackend, normal
from im2colnet_numpy import NumpyBackend
from numpy.testing import assert_allclose

OVER = (0, 2, 3)


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
    expected = results(GenericBackend(), x, dy, weight, bias)
    for name in expected.keys() - {"rest"}:
        assert_allclose(found[name], expected[name], rtol=1e-9, atol=1e-11, err_msg=name)
    assert np.abs(found["rest"]).max() < 1e-15


@pytest.mark.parametrize("shape", [(1, 1, 1, 1, 3), (1, 64, 1, 16, 2), (56, 8, 32, 56, 2), (33, 2, 5, 9, 1)])
@pytest.mark.parametrize("offset", [0, 3000])
def test_planned_tiles_in_float32(shape, offset):
    x, dy = normal(*shape, dtype="float32") + np.float32(offset), normal(*shape, seed=1, dtype="float32")
    weight, bias = (normal(1, *shape[1:3], 1, 1, seed=seed, dtype="float32") for seed in (2, 3))
    found = results(NumpyBackend(), x, dy, weight, bias)
    expected = results(GenericBackend(), *(each.astype("float64") for each in (x, dy, weight, bias)))
    for name in ("y", "dx", "dweight", "dbias"):
        scale = max(1, np.abs(expected[name]).max())
        assert_allclose(found[name], expected[name], rtol=0, atol=1e-5 * scale, err_msg=name)


def test_without_a_gradient_of_the_images():
    x, dy, weight = normal(3, 2, 2, 4, 5), normal(3, 2, 2, 4, 5, seed=1), normal(1, 2, 2, 1, 1, seed=2)
    saved = {name: np.empty((1, 2, 1, 1, 5)) for name in ("inverse", "mean", "rest")}
    for backend in NumpyBackend(), GenericBackend():
        backend.set_norm(x, OVER, 1e-5, weight, **saved)
        both = np.empty((2, *weight.shape))
        backend.set_norm_grads(x, dy, OVER, **saved, weight=weight, dweight=both[0], dbias=both[1])
        if isinstance(backend, NumpyBackend):
            found = both
    assert_allclose(found, both)


def of_whole_samples(backend, x, dy, weight, bias, centred=True, scratch=(None, None)):
    """Both passes of a norm over all axes but the batch, by name."""
    over, of_sets = tuple(range(x.ndim - 1)), (*(1,) * (x.ndim - 1), x.shape[-1])
    names = ("inverse", "mean", "rest") if centred else ("inverse",)
    saved = {name: np.full(of_sets, np.nan, x.dtype) for name in names}
    affine = {"weight": weight, "bias": bias}
    found = {"y": backend.set_norm(x, over, 1e-3, weight, bias, **saved, scratch=scratch[0])}
    grads = {f"d{name}": np.full_like(each, np.nan) for name, each in affine.items() if each is not None}
    found["dx"] = np.full_like(x, np.nan)
    backend.set_norm_grads(x, dy, over, **saved, weight=weight, **grads, dx=found["dx"], scratch=scratch[1])
    return found | grads


@pytest.mark.parametrize(("rows", "members"), [(1, 1), (2, 4), (7, 15)])
@pytest.mark.parametrize("has", ["weight and bias", "weight", "bias", ""])
@pytest.mark.parametrize("centred", [True, False])
def test_tiles_of_whole_samples(rows, members, has, centred):
    x, dy = normal(7, 3, 5, 4), normal(7, 3, 5, 4, seed=1)
    weight, bias = (
        normal(7, 3, 5, 1, seed=seed) if name in has else None for seed, name in ((2, "weight"), (3, "bias"))
    )
    scratch = [[np.full((2, rows, members, 4), np.nan), np.full((n, members, 4), np.nan)] for n in (1, 3)]
    found = of_whole_samples(NumpyBackend(), x, dy, weight, bias, centred, scratch)
    expected = of_whole_samples(GenericBackend(), x, dy, weight, bias, centred)
    for name in expected:
        assert_allclose(found[name], expected[name], rtol=1e-9, atol=1e-11, err_msg=name)


@pytest.mark.parametrize("shape", [(1, 1, 3), (33, 5, 7, 1), (5, 700, 9), (16, 32, 16, 8)])
@pytest.mark.parametrize("offset", [0, 3000])
def test_whole_samples_in_float32(shape, offset):
    x, dy = normal(*shape, dtype="float32") + np.float32(offset), normal(*shape, seed=1, dtype="float32")
    weight, bias = (normal(*shape[:-1], 1, seed=seed, dtype="float32") for seed in (2, 3))
    found = of_whole_samples(NumpyBackend(), x, dy, weight, bias)
    expected = of_whole_samples(GenericBackend(), *(each.astype("float64") for each in (x, dy, weight, bias)))
    for name, wanted in expected.items():
        scale = max(1, np.abs(wanted).max())
        assert_allclose(found[name], wanted, rtol=0, atol=1e-5 * scale, err_msg=name)
