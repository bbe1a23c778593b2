"""Elementwise functions: each row of the table on every backend, over the whole range of float32."""

import numpy as np
import pytest
import strict_cupy
from helpers import GenericBackend, normal
from numpy.testing import assert_allclose

import im2colnet as ic
from im2colnet.backend import FORMULAS, formula
from im2colnet.testing import oracles

#: kinds, with what float64 says of value and gradient
EXACT = {
    "relu": (oracles.relu, oracles.relu_grad),
    "leaky_relu": (oracles.leaky_relu, oracles.leaky_relu_grad),
    "leaky_relu:0.2": (lambda x: oracles.leaky_relu(x, 0.2), lambda x, dy: oracles.leaky_relu_grad(x, dy, 0.2)),
    "leaky_relu:3": (lambda x: oracles.leaky_relu(x, 3), lambda x, dy: oracles.leaky_relu_grad(x, dy, 3)),
    "sigmoid": (oracles.sigmoid, oracles.sigmoid_grad),
    "tanh": (oracles.tanh, oracles.tanh_grad),
    "silu": (oracles.silu, oracles.silu_grad),
    "elu": (oracles.elu, oracles.elu_grad),
    "elu:0.2": (lambda x: oracles.elu(x, alpha=0.2), lambda x, dy: oracles.elu_grad(x, dy, alpha=0.2)),
    "selu": (oracles.selu, oracles.selu_grad),
    "celu": (oracles.celu, oracles.celu_grad),
    "celu:3": (lambda x: oracles.celu(x, alpha=3.0), lambda x, dy: oracles.celu_grad(x, dy, alpha=3.0)),
    "softplus": (oracles.softplus, oracles.softplus_grad),
    "softplus:2,30": (
        lambda x: oracles.softplus(x, beta=2.0, threshold=30.0),
        lambda x, dy: oracles.softplus_grad(x, dy, beta=2.0, threshold=30.0),
    ),
    "softsign": (oracles.softsign, oracles.softsign_grad),
    "log_sigmoid": (oracles.log_sigmoid, oracles.log_sigmoid_grad),
    "hardtanh": (oracles.hardtanh, oracles.hardtanh_grad),
    "hardtanh:-2,30": (
        lambda x: oracles.hardtanh(x, min_val=-2.0, max_val=30.0),
        lambda x, dy: oracles.hardtanh_grad(x, dy, min_val=-2.0, max_val=30.0),
    ),
    "relu6": (oracles.relu6, oracles.relu6_grad),
    "hardsigmoid": (oracles.hardsigmoid, oracles.hardsigmoid_grad),
    "hardswish": (oracles.hardswish, oracles.hardswish_grad),
    "threshold:5,-7": (
        lambda x: oracles.threshold(x, threshold=5.0, value=-7.0),
        lambda x, dy: oracles.threshold_grad(x, dy, threshold=5.0, value=-7.0),
    ),
    "mish": (oracles.mish, oracles.mish_grad),
    "gelu": (oracles.gelu, oracles.gelu_grad),
    "gelu_tanh": (oracles.gelu_tanh, oracles.gelu_tanh_grad),
    "exp": (oracles.exp, oracles.exp_grad),
    "log": (oracles.log, oracles.log_grad),
    "sqrt": (oracles.sqrt, oracles.sqrt_grad),
    "abs": (oracles.absolute, oracles.absolute_grad),
    "neg": (oracles.negative, oracles.negative_grad),
    "reciprocal": (oracles.reciprocal, oracles.reciprocal_grad),
    "square": (oracles.square, oracles.square_grad),
    "erf": (oracles.erf, oracles.erf_grad),
    "sin": (oracles.sin, oracles.sin_grad),
    "cos": (oracles.cos, oracles.cos_grad),
}
#: relative error in float32, where it is more than 1e-6: of numbers whose square stands in an exponent
LESS_EXACT = {"gelu": 3e-5, "gelu_tanh": 1e-4}
#: numbers that a function is of, where that is not all of them, or where it overflows
DOMAINS = {
    "exp": lambda x: x.clip(-80, 80),
    "log": lambda x: abs(x).clip(1e-37),
    "sqrt": lambda x: abs(x).clip(1e-37),
    "reciprocal": lambda x: abs(x).clip(1e-18, 1e18),
    "square": lambda x: x.clip(-1e18, 1e18),
}


def whole_range(kind):
    """Numbers of float32 of every size whose function is one too, close to each other where the functions bend."""
    constant = 2 if kind == "selu" else abs(float(kind.partition(":")[2].partition(",")[0] or 1))
    far = np.logspace(-37, 38, 300)
    numbers = np.concatenate([np.linspace(-120, 120, 961), far, -far, [0.0, np.finfo("float32").max]])
    return DOMAINS.get(kind, lambda x: x)(numbers / max(1, constant))


def test_every_row_is_tested():
    assert {kind.partition(":")[0] for kind in EXACT} == set(FORMULAS)


@pytest.mark.parametrize("kind", EXACT)
def test_values_are_exact_over_the_whole_range(backend, kind):
    """Without overflow, which would be a warning, and those are errors."""
    x = whole_range(kind).astype("float32").reshape(-1, 1)
    value, _ = EXACT[kind]
    y = backend.activation(x, kind)
    assert y.dtype == "float32"
    assert_allclose(y, value(x), rtol=LESS_EXACT.get(kind, 1e-6), atol=1e-36)
    over = x.copy()
    assert backend.activation(over, kind, out=over) is over
    assert over.tobytes() == y.tobytes()


@pytest.mark.parametrize("kind", EXACT)
def test_gradients_are_exact_over_the_whole_range(backend, kind):
    x, dy = whole_range(kind).astype("float32").reshape(-1, 1), normal(1563, 1, dtype="float32")
    _, gradient = EXACT[kind]
    read = x if formula(kind).reads == "x" else backend.activation(x, kind)
    dx = backend.activation_grad(read, dy, kind)
    assert dx.dtype == "float32"
    assert_allclose(dx, gradient(x, dy), rtol=1e-5, atol=4e-7)
    over = dy.copy()
    assert backend.activation_grad(read, over, kind, out=over) is over
    assert over.tobytes() == dx.tobytes()


@pytest.mark.parametrize("kind", EXACT)
@pytest.mark.parametrize("name", ["numpy", "generic"])
def test_value_and_slope_at_once(name, kind):
    backend = ic.get_backend("numpy") if name == "numpy" else GenericBackend()
    x = whole_range(kind).astype("float32").reshape(-1, 1)
    value, gradient = EXACT[kind]
    slope = np.full_like(x, np.nan)
    y = backend.activation_and_slope(x, kind, slope)
    assert_allclose(y, value(x), rtol=LESS_EXACT.get(kind, 1e-6), atol=1e-36)
    assert_allclose(slope, gradient(x, np.ones_like(x)), rtol=1e-5, atol=4e-7)
    over, again = x.copy(), np.full_like(x, np.nan)
    assert backend.activation_and_slope(over, kind, again, out=over) is over
    assert (over.tobytes(), again.tobytes()) == (y.tobytes(), slope.tobytes())


@pytest.mark.parametrize("kind", ["gelu", "gelu_tanh", "silu", "mish", "softplus", "softplus:2,1", "hardswish", "erf"])
def test_formulas_in_float64(kind):
    x = np.linspace(-30, 30, 3001)
    name, _, constants = kind.partition(":")
    constants = dict(zip(("beta", "threshold"), map(float, constants.split(",") if constants else ()), strict=False))
    y, slope, backend = np.empty_like(x), np.empty_like(x), ic.get_backend("numpy")
    backend.activation_and_slope(x, kind, slope, out=y)
    assert_allclose(y, getattr(oracles, name)(x, **constants), rtol=2e-12, atol=1e-100)
    assert_allclose(slope, getattr(oracles, f"{name}_grad")(x, np.ones_like(x), **constants), rtol=1e-10, atol=1e-12)


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
