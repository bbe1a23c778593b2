"""Loops that are written from the table of formulas, and the elementary functions that they call."""

import numpy as np
import pytest
from helpers import GenericBackend, assert_same_bits, normal, strided

from im2colnet.backend import FORMULAS, formula

pytest.importorskip("numba")
import numba
from im2colnet_numba import NumbaBackend, elementary
from im2colnet_numba.activation import Number, Unwritable, Writer, both_loop, gradient_loop, statements, value_loop
from im2colnet_numba.cache import described
from im2colnet_numba.compile import IN_ORDER

NUMBA, GENERIC = NumbaBackend(), GenericBackend()
#: one of each way in which a formula is written
KINDS = ["relu", "leaky_relu:0.2", "sigmoid", "silu", "elu", "softplus", "hardswish", "threshold:0.5,-1", "gelu", "erf"]
SPECIAL = np.array([np.nan, np.inf, -np.inf, 0.0, -0.0, 1e-42, -1e-42, 3e38, -3e38, 1.0, -1.0], "float32")


@pytest.mark.parametrize(("name", "units"), [("exp", 1.2), ("expm1", 1.6), ("log1p", 1.5)])
def test_elementary_functions_are_those_of_float64(name, units):
    function = getattr(elementary, name)

    @numba.njit(error_model="numpy", fastmath=IN_ORDER)
    def loop(x, y):
        for i in range(x.size):
            y[i] = function(x[i])

    small = np.logspace(-40, 0, 20_000)
    x = np.concatenate([np.linspace(-103, 88.7, 400_001), np.linspace(-1, 1, 400_001), small, -small]).astype("float32")
    if name == "log1p":
        x = np.concatenate([x[x > -1], np.logspace(0, 38, 20_000).astype("float32")])
    y = np.empty_like(x)
    loop(x, y)
    exact = getattr(np, name)(x.astype("float64"))
    last_place = np.maximum(np.spacing(np.abs(exact).astype("float32")), 1e-45).astype("float64")
    assert np.all(np.abs(y - exact) <= units * last_place)
    found = np.empty_like(SPECIAL)
    loop(SPECIAL, found)
    with np.errstate(all="ignore"):
        np.testing.assert_allclose(found, getattr(np, name)(SPECIAL), rtol=3e-7)


def test_most_formulas_have_loops():
    without = {kind for kind in FORMULAS if value_loop(kind) is None}
    assert without == {"tanh", "log", "sin", "cos"}
    assert {kind for kind in FORMULAS if gradient_loop(kind) is None} == {"sin", "cos"}
    assert {kind for kind in FORMULAS if both_loop(kind)} == {kind for kind, row in FORMULAS.items() if row.both}


def test_loops_of_different_functions_are_kept_apart_on_disk():
    kinds = ["silu", "gelu", "elu", "elu:0.2", "leaky_relu:0.1", "leaky_relu:0.3", "hardtanh:-1,2", "hardtanh:-1,3"]
    loops = [make(kind) for make in (value_loop, gradient_loop) for kind in kinds]
    assert len({repr(described(loop.py_func, {})) for loop in loops}) == len(loops)


def test_a_formula_is_written_call_by_call():
    assert statements(formula("sigmoid").slope, "xs", 0) == ["s = number(1) - x", "s = s * x"]
    with pytest.raises(Unwritable, match="cosh"):
        Writer().cosh(Number("x", []), out=Number("y", []))


def numbers(shape):
    """Normal numbers with special ones among them."""
    x = 3 * normal(*shape, dtype="float32")
    x.reshape(-1)[: min(x.size, SPECIAL.size)] = SPECIAL[: x.size]
    return x


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape", [(2, 3, 4, 16), (5, 37), (3, 1), (2, 0)])
def test_values_and_gradients_are_the_textbook_ones(kind, shape):
    x, dy = numbers(shape), normal(*shape, seed=1, dtype="float32")
    with np.errstate(all="ignore"):
        y, expected = NUMBA.activation(x, kind), GENERIC.activation(x, kind)
        read = x if formula(kind).reads == "x" else expected
        dx, expected_dx = NUMBA.activation_grad(read, dy, kind), GENERIC.activation_grad(read, dy, kind)
    np.testing.assert_allclose(y, expected, rtol=2e-6, atol=1e-6)
    np.testing.assert_allclose(dx, expected_dx, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_results_may_go_over_what_is_read(kind):
    x, dy = 3 * normal(2, 5, 48, dtype="float32")
    y, slope, again = NUMBA.activation(x, kind), np.empty_like(x), np.empty_like(x)
    over = x.copy()
    NUMBA.activation(over, kind, out=over)
    assert_same_bits(over, y)
    over = dy.copy()
    NUMBA.activation_grad(x, over, kind, out=over)
    assert_same_bits(over, NUMBA.activation_grad(x, dy, kind))
    both = NUMBA.activation_and_slope(x, kind, slope)
    over = x.copy()
    NUMBA.activation_and_slope(over, kind, again, out=over)
    assert_same_bits(over, both)
    assert_same_bits(again, slope)


@pytest.mark.parametrize("how", ["fortran", "reversed", "transposed", "gaps", "contiguous"])
def test_strides_change_no_bit(how):
    x, dy = normal(2, 3, 5, 16, dtype="float32")
    apart, dy_apart = strided(x, how), strided(dy, how)  # which are read-only, too
    assert_same_bits(NUMBA.activation(apart, "silu"), NUMBA.activation(x, "silu"))
    assert_same_bits(NUMBA.activation_grad(apart, dy_apart, "silu"), NUMBA.activation_grad(x, dy, "silu"))


def test_an_activations_gradient_stops_what_is_not_finite():
    y, dy = np.array([0, 0, 1, 2], "float32"), np.array([np.inf, np.nan, -np.inf, 3], "float32")
    np.testing.assert_array_equal(NUMBA.activation_grad(y, dy, "relu"), np.array([0, 0, -np.inf, 3], "float32"))


def test_other_types_are_numpys():
    x = normal(3, 5)
    np.testing.assert_allclose(NUMBA.activation(x, "gelu"), GENERIC.activation(x, "gelu"), rtol=1e-14)
    assert NUMBA.activation.scratch(x, "gelu")
    assert not NUMBA.activation.scratch(x.astype("float32"), "gelu")
