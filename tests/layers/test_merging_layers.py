"""Functions of two values and of a constant: where their slopes are special, and what a constant is in a network."""

import numpy as np
import pytest
from helpers import Probe, assert_close, normal
from numpy.testing import assert_allclose, assert_array_equal

import im2colnet as ic
from im2colnet.functional.applying import apply
from im2colnet.graph.passes import lowered
from im2colnet.layers.convolution import NormalizedConv2d
from im2colnet.testing import evaluate
from im2colnet.testing.inputs import network_of

pytestmark = pytest.mark.usefixtures("one_thread")


def passes(layer, a, b, dy):
    """Return value and gradients of a layer of two values (N, features)."""
    probe = Probe([network_of(layer, a.shape[1:], b.shape[1:])], np.concatenate([a, b], axis=1), dy)
    result = probe.step()
    return result.y, np.split(result.dx, [a.shape[1]], axis=1)


@pytest.mark.parametrize("kind", [ic.Maximum, ic.Minimum])
def test_equal_numbers_share_the_gradient(kind):
    a, b = np.array([[1.0, 2.0, 0.0]]), np.array([[1.0, 1.0, -0.0]])
    _, (da, db) = passes(kind(), a, b, np.ones((1, 3)))
    first = [0.5, float(kind is ic.Maximum), 0.5]
    assert_array_equal(da, [first])
    assert_array_equal(db, [[1 - n for n in first]])


def test_a_power_whose_base_or_exponent_is_0():
    """As in PyTorch: the gradient of ``x**0`` is 0, and a base of 0 gives its exponent none."""
    a, b = np.array([[0.0, 0.0, 0.0, -2.0, 3.0]]), np.array([[0.0, 1.0, 2.0, 3.0, 0.0]])
    y, (da, db) = passes(ic.Pow(), a, np.concatenate([b[:, :3], b[:, :2]], axis=1), np.ones((1, 5)))
    assert_array_equal(y, [[1, 0, 0, 1, 3]])
    assert_array_equal(da, [[0, 1, 0, 0, 1]])
    assert_array_equal(db[0, :3], [0, 0, 0])
    with np.errstate(invalid="ignore"):
        y, (da, _) = passes(ic.Pow(), a[:, 3:], b[:, 3:], np.ones((1, 2)))
    assert_array_equal(y, [[-8, 1]])
    assert_array_equal(da, [[12, 0]])


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("operation", ["add", "sub", "mul", "div", "pow", "maximum", "minimum"])
@pytest.mark.parametrize(
    ("sample", "shape"),
    [
        ((3, 5, 4), (3, 1, 1)),
        ((3, 5, 4), (5, 1)),
        ((3, 5, 4), (4,)),
        ((3, 5, 4), (3, 5, 4)),
        ((3, 5, 4), ()),
        ((3, 1, 1), (3, 5, 4)),
        ((6,), (6,)),
        ((6, 2), (6, 1)),
        ((2, 3, 4, 2), (3, 1, 2)),
    ],
)
def test_each_number_of_a_constant_is_where_numpy_has_it(sample, shape, operation, reverse):
    layer = ic.WithConstant(operation, shape, reverse=reverse)
    x, constant = 0.2 + abs(normal(3, *sample)), 0.2 + abs(normal(*shape, seed=1))
    probe = Probe([layer], x)
    probe.net.load_state_dict(probe.net.state_dict() | {"1.constant": constant})
    result = probe.step()
    function = {"add": "add", "sub": "subtract", "mul": "multiply", "div": "divide", "pow": "power"}.get(operation)
    function = getattr(np, function or operation)
    assert_allclose(result.y, function(constant, x) if reverse else function(x, constant), rtol=1e-12)
    probe.check_gradients()
    assert_array_equal(probe.net.state_dict()["1.constant"], constant)


def test_a_constant_is_state_that_training_leaves_alone():
    net = ic.Sequential([ic.WithConstant("mul", (2, 1, 1), 0.5), ic.Conv2d(2, 3, 3), ic.Flatten(), ic.Linear(12, 2)])
    assert set(net.init().parameters()) == {"1.weight", "1.bias", "3.weight", "3.bias"}
    assert_array_equal(net.state_dict()["0.constant"], np.full((2, 1, 1), 0.5))
    trainer = ic.Trainer(net, optimizer=ic.SGD(0.1, momentum=0.9, weight_decay=0.1))
    trainer.step(normal(4, 2, 4, 4, dtype="float32"), [0, 1, 1, 0])
    assert_array_equal(net.state_dict()["0.constant"], np.full((2, 1, 1), 0.5))


@pytest.mark.parametrize("size", [3, 9], ids=["a weight larger than the images", "or smaller"])
@pytest.mark.parametrize("shape", [(8, 1, 1), (1, 1, 1), (), None])
@pytest.mark.parametrize(("operation", "reverse"), [("add", 0), ("sub", 0), ("sub", 1), ("mul", 1), ("div", 0)])
def test_a_convolution_absorbs_a_line(operation, reverse, shape, size, every_backend):
    x, layer = normal(2, 4, size, size), ic.WithConstant(operation, shape, 1.5, bool(reverse))
    net = ic.Sequential([ic.Conv2d(4, 8, 3, padding=1), layer, ic.ReLU()]).init(0, "float64", every_backend)
    if shape is not None:
        net.load_state_dict(net.state_dict() | {"1.constant": 1.5 + abs(normal(*shape, seed=1))})
    assert isinstance(lowered(net.graph, net.backend, training=False).nodes[0].layer, NormalizedConv2d)
    assert_close(net.predict(x), evaluate(net, x), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(
    ("filters", "layer"),
    [
        (8, ic.WithConstant("mul", (8, 3, 3), 1.5)),
        (8, ic.WithConstant("mul", (3, 1), 1.5)),
        (1, ic.WithConstant("mul", (8, 1, 1), 1.5)),
        (8, ic.WithConstant("div", (8, 1, 1), 1.5, reverse=True)),
        (8, ic.WithConstant("maximum", (8, 1, 1), 0.1)),
    ],
    ids=repr,
)
def test_a_convolution_absorbs_nothing_else(filters, layer):
    x = normal(2, 4, 3, 3)
    net = ic.Sequential([ic.Conv2d(4, filters, 3, padding=1), layer]).init(0, "float64")
    assert not isinstance(lowered(net.graph, net.backend, training=False).nodes[0].layer, NormalizedConv2d)
    assert_close(net.predict(x), evaluate(net, x), rtol=1e-10, atol=1e-10)


def test_a_convolution_of_sequences_absorbs_a_number():
    x = normal(2, 4, 9)
    net = ic.Sequential([ic.Conv1d(4, 8, 3), ic.WithConstant("mul", (), 1.5)]).init(0, "float64")
    assert_close(net.predict(x), evaluate(net, x), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("operation", ["add", "div", "pow", "maximum"])
def test_in_16_bits(operation, every_backend):
    """The constant stays float32, as parameters do."""
    x, constant = abs(normal(5, 3, 4, 2)).astype("float16"), np.float32([[[0.1], [1.5], [2]]])
    layer = ic.WithConstant(operation, (3, 1, 1))
    backend = every_backend
    rows, state = backend.asarray(np.ascontiguousarray(x)), {"constant": backend.asarray(constant.reshape(3, 1, 1))}
    y = backend.to_numpy(apply(layer, rows, backend, state=state))
    assert y.dtype == "float16"
    exact = apply(layer, x.astype("float64"), ic.get_backend("numpy"), state={"constant": constant.reshape(3, 1, 1)})
    assert_allclose(y, exact, rtol=1e-3)


def test_values_that_two_layers_read():
    """Gradients of a value that is both inputs of a layer, and an input of others, are added."""
    net = ic.Net(
        {
            "conv": ic.Conv2d(2, 3, 3),
            "square": (ic.Mul(), "conv", "conv"),
            "one": (ic.WithConstant("add", value=1), "square"),
            "ratio": (ic.Div(), "conv", "one"),
            "least": (ic.Minimum(), "ratio", "conv"),
        }
    )
    Probe([net], normal(3, 2, 5, 5)).check_gradients()
    net = net.init(0, "float64")
    assert_allclose(net.predict(normal(3, 2, 5, 5)), evaluate(net, normal(3, 2, 5, 5)), rtol=1e-10)
