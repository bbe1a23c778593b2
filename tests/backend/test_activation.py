"""Elementwise functions: the table, and what is fused. tests/testing/test_check_backend.py has their values."""

import numpy as np
import pytest
import strict_cupy
from helpers import GenericBackend, normal
from numpy.testing import assert_allclose

import im2colnet as ic
from im2colnet.backend import FORMULAS, formula
from im2colnet.testing.conformance.activation import EXACT


def test_a_training_step_saves_the_slope_in_place_of_the_input():
    """On the CPU, where a pass costs more than memory does; without it what is saved is the input."""
    for name, saves in ("numpy", True), ("generic", False):
        backend = ic.get_backend("numpy") if name == "numpy" else GenericBackend()
        needs = ic.GELU().needs((2, 3, 4, 5), (2, 3, 4, 5), "float32", backend, training=True)
        assert (list(needs.saved), needs.input, needs.inplace) == (["slope"] * saves, not saves, saves)
        needs = ic.GELU().needs((2, 3, 4, 5), (2, 3, 4, 5), "float32", backend, training=False)
        assert not needs.saved


def test_an_unknown_kind_lists_those_there_are(backend):
    with pytest.raises(ic.BackendError, match="no activation 'swish'; there are: relu, leaky_relu, sigmoid"):
        backend.activation(np.ones(3), "swish")


def test_what_is_fused_is_listed():
    for backend in GenericBackend(), ic.get_backend("numpy"), strict_cupy.cupy_backend():
        assert backend.fuses("relu")
        assert not backend.fuses(None)
        assert backend.epilogues <= set(FORMULAS)
    assert strict_cupy.cupy_backend().fuses("leaky_relu:0.2")


def test_the_cuda_source_has_every_row():
    kinds = strict_cupy.cupy_modules()["im2colnet_cupy.activation"].KINDS
    assert kinds.keys() - {"none"} == FORMULAS.keys()


@pytest.mark.parametrize("kind", EXACT)
def test_cuda_kernels_need_no_scratch(kind):
    backend, x = strict_cupy.cupy_backend(), np.ones((3, 4), "float32")
    assert backend.fuses(kind)
    assert backend.activation.scratch(x, kind) == backend.activation_grad.scratch(x, x, kind) == []


def test_constants_that_a_kind_does_not_give_are_the_table_s():
    assert formula("softplus").constants == (1, 20)
    assert formula("softplus:3").constants == (3, 20)
    assert formula("softplus:3,4").constants == (3, 4)
    with pytest.raises(ic.BackendError, match="'elu' has 1 constants, got 'elu:1,2'"):
        formula("elu:1,2")


def test_a_row_that_the_cuda_source_lacks_goes_by_the_table(monkeypatch):
    def cube(xp, x, y):
        xp.power(x, 3, out=y)

    def thrice_the_square(xp, x, s):
        xp.multiply(x, x, out=s)
        xp.multiply(s, 3, out=s)

    monkeypatch.setitem(FORMULAS, "cube", FORMULAS["tanh"]._replace(value=cube, slope=thrice_the_square, reads="x"))
    backend = strict_cupy.cupy_backend()
    x, dy = normal(3, 4), normal(3, 4, seed=1)
    X, DY = backend.asarray(x), backend.asarray(dy)
    assert not backend.fuses("cube")
    assert_allclose(backend.activation(X, "cube").get(), x**3)
    assert_allclose(backend.activation_grad(X, DY, "cube").get(), 3 * x**2 * dy)
