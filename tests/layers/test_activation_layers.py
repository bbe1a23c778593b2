"""Elementwise functions in networks: the layer before them applies those that the backend lists."""

import numpy as np
import pytest
import strict_cupy
from helpers import normal
from numpy.testing import assert_allclose

import im2colnet as ic
from im2colnet.testing import oracles


class Generic(ic.Backend):
    """The textbook's kernels."""

    name, xp = "generic", np


def leaky(x):
    return oracles.leaky_relu(x, 0.3)


def leaky_grad(x, dy):
    return oracles.leaky_relu_grad(x, dy, 0.3)


BACKENDS = {"numpy": lambda: ic.get_backend("numpy"), "generic": Generic, "stand-in": strict_cupy.cupy_backend}
LAYERS = {
    "relu": (ic.ReLU(), oracles.relu, oracles.relu_grad),
    "leaky": (ic.LeakyReLU(0.3), leaky, leaky_grad),
    "sigmoid": (ic.Sigmoid(), oracles.sigmoid, oracles.sigmoid_grad),
    "tanh": (ic.Tanh(), oracles.tanh, oracles.tanh_grad),
    "silu": (ic.SiLU(), oracles.silu, oracles.silu_grad),
}


def fused(net, x, training):
    """Whether the layer before the last one applies it."""
    return net.plan(len(x), x.shape[1:], training=training).graph.nodes[-1].fused


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("kind", ["conv", "linear"])
def test_a_step_and_a_prediction_are_those_of_loops(kind, backend, name):
    layer, value, slope = LAYERS[name]
    conv = kind == "conv"
    before, x = (ic.Conv2d(2, 5, 3, padding=1), normal(3, 2, 6, 5)) if conv else (ic.Linear(7, 5), normal(4, 7))
    net = ic.Sequential([before, layer]).init(0, "float64", BACKENDS[backend]())
    state = net.state_dict()
    w, b = state["0.weight"], state["0.bias"]
    z = oracles.conv2d(x, w, b, padding=1) if conv else oracles.linear(x, w, b)
    y, target = value(z), normal(*z.shape, seed=1)
    assert_allclose(net.predict(x), y, atol=1e-12)
    assert fused(net, x, False) == net.backend.fuses(layer.kind)

    dz = slope(z, 2 * (y - target) / y.size)
    dw = oracles.conv2d_weight(x, w.shape, dz, padding=1) if conv else oracles.linear_grad(x, w, dz)[1]
    trainer = ic.Trainer(net, loss=ic.MSELoss(), optimizer=ic.SGD(1.0), shard=2)
    assert trainer.step(x, target) == pytest.approx(np.mean((y - target) ** 2), rel=1e-12)
    assert_allclose(net.state_dict()["0.weight"], w - dw, atol=1e-12)
    assert_allclose(net.state_dict()["0.bias"], b - dz.sum(axis=(0, *range(2, dz.ndim))), atol=1e-12)
    # SiLU's gradient needs its input, which nobody would keep
    assert fused(net, x, True) == (net.backend.fuses(layer.kind) and name != "silu")


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("backend", BACKENDS)
def test_a_normalised_convolution_is_followed_by_it(backend, name):
    layer, value, _ = LAYERS[name]
    net = ic.Sequential([ic.Conv2d(2, 5, 3, padding=1), ic.BatchNorm2d(5), layer]).init(
        0, "float64", BACKENDS[backend]()
    )
    x, state = normal(3, 2, 6, 5), net.state_dict()
    state |= {"1.running_mean": normal(5, seed=1), "1.running_var": np.abs(normal(5, seed=2)) + 0.5}
    state |= {"1.weight": normal(5, seed=3), "1.bias": normal(5, seed=4)}
    net.load_state_dict(state)
    z = oracles.conv2d(x, state["0.weight"], state["0.bias"], padding=1)
    arguments = (state[f"1.{key}"] for key in ("running_mean", "running_var", "weight", "bias"))
    assert_allclose(net.predict(x), value(oracles.batch_norm(z, *arguments, False)[0]), atol=1e-10)
    assert fused(net, x, False) == net.backend.fuses(layer.kind)


def test_the_slope_of_a_leaky_relu_is_not_negative():
    with pytest.raises(ic.ShapeError, match=r"negative_slope must be a number of at least 0; got -0\.1"):
        ic.LeakyReLU(-0.1)
    assert repr(ic.LeakyReLU(0.2)) == "LeakyReLU(negative_slope=0.2)"
    assert repr(ic.LeakyReLU()) == "LeakyReLU()"
