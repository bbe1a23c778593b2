"""Layers that normalise within a sample: numbers that are hard to normalise, 16 bits, what they say of themselves."""

import numpy as np
import pytest
import strict_cupy
from helpers import Probe, images, normal, rows
from im2colnet_numpy import NumpyBackend
from numpy.testing import assert_allclose

import im2colnet as ic
from im2colnet.layers import Context
from im2colnet.testing import oracles
from im2colnet.types import run

pytestmark = pytest.mark.usefixtures("one_thread")

LAYERS = {
    "group": lambda: ic.GroupNorm(2, 4),
    "instance": lambda: ic.InstanceNorm2d(4, affine=True),
    "layer": lambda: ic.LayerNorm((4, 16, 16)),
    "rms": lambda: ic.RMSNorm((4, 16, 16)),
    "local response": lambda: ic.LocalResponseNorm(3, alpha=0.5),
}
CENTRED = ["group", "instance", "layer"]


def oracle(name, x):
    """What a layer gives at first."""
    return {
        "group": lambda: oracles.group_norm(x, 2),
        "instance": lambda: oracles.instance_norm(x),
        "layer": lambda: oracles.layer_norm(x, x.shape[1:]),
        "rms": lambda: oracles.rms_norm(x, x.shape[1:], eps=2.0**-23),
        "local response": lambda: oracles.local_response_norm(x, 3, alpha=0.5),
    }[name]()


def predicted(name, x):
    return ic.Sequential([LAYERS[name]()]).init(0).predict(x)


@pytest.mark.parametrize("name", CENTRED)
@pytest.mark.parametrize("value", [0.0, 0.1, -1234.567, 1e10])
def test_constant_numbers_become_zeros(name, value):
    x = np.full((3, 4, 16, 16), value, "float32")
    assert not predicted(name, x).any()
    result = Probe([LAYERS[name]()], x).step()
    assert np.isfinite(result.dx).all()
    assert all(np.isfinite(gradient).all() for gradient in result.gradients.values())


@pytest.mark.parametrize("name", ["rms", "local response"])
def test_zeros_stay_zeros(name):
    x = np.zeros((3, 4, 16, 16), "float32")
    assert not predicted(name, x).any()
    assert np.isfinite(Probe([LAYERS[name]()], x).step().dx).all()


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("offset", [0, 1000, 1e5])
def test_numbers_far_from_zero_keep_their_digits(name, offset):
    x = (offset + normal(3, 4, 16, 16)).astype("float32")
    assert_allclose(predicted(name, x), oracle(name, x), rtol=2e-6, atol=2e-6)


def passes(layer, x, dy, backend):
    """What both passes give in a network whose numbers have the type of ``x``, as a run makes them."""
    x, dy = (backend.asarray(rows(a)) for a in (x, dy))
    dtype, ctx = x.dtype.name, Context()
    needs = layer.needs(x.shape, x.shape, dtype, backend, True)

    def arrays(specs):
        return [backend.empty(*spec) for spec in specs]

    def filled(value):
        shapes = layer.parameters()
        return {name: backend.asarray(np.full(p.shape, p.value + value, "float32")) for name, p in shapes.items()}

    ctx.backend, ctx.training, ctx.activation, ctx.buffers = backend, True, None, {}
    ctx.xs, ctx.y, ctx.dxs = (x,), backend.empty(x.shape, dtype), [backend.empty(x.shape, dtype)]
    ctx.params, ctx.grads = filled(0.25), filled(0.0)
    ctx.saved = {name: backend.empty(*spec) for name, spec in needs.saved.items()}
    ctx.scratch = {name: arrays(specs) for name, specs in needs.forward.items()}
    run(layer.prepare_forward(x, ctx))
    ctx.scratch = {name: arrays(specs) for name, specs in needs.backward.items()}
    run(layer.prepare_backward(dy, ctx))
    results = {"y": images(backend.to_numpy(ctx.y)), "dx": images(backend.to_numpy(ctx.dx))}
    return results | {name: backend.to_numpy(gradient) for name, gradient in ctx.grads.items()}


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("scale", [1, 2000], ids=["near 0", "squares overflow in float16"])
@pytest.mark.parametrize("backend", [NumpyBackend, strict_cupy.cupy_backend], ids=["numpy", "stand-in"])
def test_numbers_of_16_bits_are_computed_in_32(name, scale, backend):
    x, dy = ((f * normal(3, 4, 16, 16, seed=seed)).astype("float16") for seed, f in enumerate((scale, 1)))
    found = passes(LAYERS[name](), x, dy, backend())
    expected = passes(LAYERS[name](), x.astype("float64"), dy.astype("float64"), NumpyBackend())
    assert found["y"].dtype == found["dx"].dtype == np.float16
    for key, value in found.items():
        assert_allclose(value, expected[key], rtol=2e-3, atol=1e-5, err_msg=key)


@pytest.mark.parametrize(
    "layer",
    [
        ic.GroupNorm(2, 4),
        ic.GroupNorm(1, 4, eps=0.1, affine=False),
        ic.GroupNorm(2, 4, bias=False),
        ic.BatchNorm2d(3, bias=False),
        ic.InstanceNorm2d(3),
        ic.InstanceNorm2d(3, affine=True, track_running_stats=True, bias=False),
        ic.LayerNorm((3, 4)),
        ic.RMSNorm(3),
        ic.LocalResponseNorm(5),
    ],
    ids=repr,
)
def test_reprs_are_the_calls_that_make_them(layer):
    again = eval(repr(layer), vars(ic))
    assert type(again) is type(layer)
    assert again.config() == layer.config()


def test_parameters_have_pytorch_s_names_shapes_and_first_values():
    net = ic.Sequential([ic.LayerNorm((3, 4, 5)), ic.GroupNorm(1, 3), ic.RMSNorm((4, 5)), ic.InstanceNorm2d(3)])
    state = net.init(0).state_dict()
    assert {name: value.shape for name, value in state.items()} == {
        "0.weight": (3, 4, 5),
        "0.bias": (3, 4, 5),
        "1.weight": (3,),
        "1.bias": (3,),
        "2.weight": (4, 5),
    }
    assert all((value == name.endswith("weight")).all() for name, value in state.items())
