"""The gradient of the images in evaluation mode, beside finite differences of predictions."""

import numpy as np
import pytest
from helpers import layer_examples, normal
from numpy.testing import assert_allclose

import im2colnet as ic
from im2colnet.testing.inputs import input_shape_of, network_of

EXAMPLES = layer_examples()
STEP = 1e-6  # small, since maxima have kinks


def slope(function, x, direction):
    """The derivative of a function along a direction, by differences of the fourth order."""

    def value(t):
        return function(x + t * direction)

    return (8 * (value(STEP) - value(-STEP)) - (value(2 * STEP) - value(-2 * STEP))) / (12 * STEP)


def check(net, x, of=lambda net, x: net.predict(x), **options):
    """Compare along a random direction, for a random gradient of the output."""
    dy, direction = normal(*of(net, x).shape, seed=2), normal(*x.shape, seed=1)
    expected = slope(lambda x: (of(net, x) * dy).sum(), x, direction)
    found = net.input_gradient(x, dy, **options)
    assert found.shape == x.shape
    assert_allclose((found * direction).sum(), expected, rtol=1e-6, atol=1e-6)


def in_evaluation(net):
    """Give every running statistic numbers of its own."""
    state = net.state_dict()
    for name, array in state.items():
        if name.endswith(("running_mean", "running_var")):
            array[...] = np.random.default_rng(2).uniform(0.5, 1.5, array.shape)
    net.load_state_dict(state)
    return net


@pytest.mark.parametrize(("case", "layer", "shapes"), EXAMPLES)
def test_every_layer(case, layer, shapes, every_backend):
    net = in_evaluation(network_of(layer, *shapes).init(0, "float64", every_backend))
    check(net, case.domain(normal(3, *input_shape_of(*shapes))))


def network():
    block = ic.Residual(ic.Sequential([ic.Conv2d(4, 4, 3, padding=1), ic.BatchNorm2d(4), ic.SiLU()]))
    layers = [ic.Conv2d(3, 4, 3, padding=1), ic.BatchNorm2d(4), ic.ReLU(), block, ic.Dropout(0.5), ic.AvgPool2d(2)]
    return in_evaluation(ic.Sequential([*layers, ic.Flatten(), ic.Linear(48, 5)]).init(0, "float64"))


def test_a_network_with_batch_norm_dropout_and_a_shortcut():
    check(network(), normal(4, 3, 8, 6))


def test_the_gradient_is_that_of_images_before_they_are_normalised():
    net = network()
    net.normalization = (0.1, 0.2, 0.3), (0.5, 2.0, 1.0)
    check(net, normal(4, 3, 8, 6))


def test_of_a_layer_s_output():
    check(network(), normal(4, 3, 8, 6), lambda net, x: net.features(x, "3"), layer="3")


def test_a_function_is_given_the_output():
    net, x, seen = network(), normal(4, 3, 8, 6), []

    def gradient(output):
        seen.append(output)
        return np.ones_like(output)

    found = net.input_gradient(x, gradient)
    assert_allclose(seen[0], net.predict(x), rtol=1e-12)
    assert_allclose(found, net.input_gradient(x, np.ones((4, 5))), rtol=1e-12)


def test_several_outputs_have_a_gradient_each():
    layers = {"stem": ic.Conv2d(3, 4, 3), "left": (ic.Conv2d(4, 2, 1), "stem"), "right": (ic.Conv2d(4, 3, 3), "stem")}
    net, x = ic.Net(layers, outputs=["left", "right"]).init(0, "float64"), normal(2, 3, 6, 6)
    dys, direction = (normal(2, 2, 4, 4), normal(2, 3, 2, 2)), normal(2, 3, 6, 6, seed=1)
    expected = slope(lambda x: sum((y * dy).sum() for y, dy in zip(net.predict(x), dys, strict=True)), x, direction)
    assert_allclose((net.input_gradient(x, dys) * direction).sum(), expected, rtol=1e-7)
    with pytest.raises(ic.ShapeError, match="2 outputs"):
        net.input_gradient(x, dys[0])


def test_uint8_images_are_scaled_first():
    net, images = network(), np.arange(3 * 8 * 6, dtype=np.uint8).reshape(1, 3, 8, 6)
    dy = normal(1, 5)
    assert_allclose(net.input_gradient(images, dy), net.input_gradient(images / 255, dy), rtol=1e-9)


def test_nothing_of_the_network_changes():
    net, x = network(), normal(4, 3, 8, 6)
    before, output = net.state_dict(), net.predict(x)
    net.input_gradient(x, np.ones((4, 5)))
    assert all(np.array_equal(before[name], value) for name, value in net.state_dict().items())
    assert np.array_equal(net.predict(x), output)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((np.ones((1, 3, 8, 6)), np.ones((1, 4))), "doutput has shape"),
        ((np.ones((1, 3, 8, 6)), np.ones((1, 5)), "9"), "no layer '9'"),
        ((np.ones((1, 3, 8)), np.ones((1, 5))), "expected"),
        ((np.full((1, 3, 8, 6), np.nan), np.ones((1, 5))), "NaN"),
    ],
)
def test_what_does_not_fit_is_refused(arguments, message):
    with pytest.raises(ic.Im2colnetError, match=message):
        network().input_gradient(*arguments)


class BatchMean(ic.Layer):
    """Subtracts the mean of the batch in training, nothing in evaluation."""

    batch_sums = 1

    def shard_sums(self, x, ctx):
        ctx.sums[0] = x.sum(axis=(0, 2, 3))

    def forward(self, x, ctx):
        return x - ctx.sums[0][:, None, None] / ctx.samples if ctx.training else x

    def shard_grad_sums(self, dy, ctx):
        ctx.sums[0] = dy.sum(axis=(0, 2, 3))

    def backward(self, dy, ctx):
        return dy - ctx.sums[0][:, None, None] / ctx.samples


def test_a_layer_whose_gradient_in_evaluation_is_not_known_says_so():
    net = ic.Sequential([ic.Conv2d(3, 4, 3), BatchMean()]).init(0, "float64")
    with pytest.raises(ic.LayerError, match=r"layer '1', BatchMean\(\): its backward pass is for training"):
        net.input_gradient(normal(2, 3, 4, 4), np.ones((2, 4, 2, 2)))
