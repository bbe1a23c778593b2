"""In evaluation a batch norm is joined to the convolution before it."""

import numpy as np
import pytest
from helpers import assert_close, normal

import im2colnet as ic
from im2colnet.layers.convolution import NormalizedConv2d
from im2colnet.testing import evaluate

pytestmark = pytest.mark.usefixtures("one_thread")


def joined(net, x):
    """The layers that the network runs to predict ``x``."""
    return [node.layer for node in net.plan(len(x), x.shape[1:], training=False).graph.nodes]


def with_statistics(layers):
    """A network of these layers whose batch norms have something to do."""
    net, rng = ic.Sequential(layers).init(0, dtype="float64"), np.random.default_rng(1)
    net.load_state_dict(
        {
            name: rng.uniform(0.5, 2, value.shape) if "running" in name else rng.standard_normal(value.shape)
            for name, value in net.state_dict().items()
        }
    )
    return net


@pytest.mark.parametrize("size", [3, 9], ids=["a weight larger than the images", "or smaller"])
@pytest.mark.parametrize("groups", [1, 2, 4])
@pytest.mark.parametrize(("bias", "relu", "affine"), [(True, True, True), (False, False, True), (True, True, False)])
def test_a_batch_norm_is_joined_to_the_convolution_before_it(size, groups, bias, relu, affine):
    layers = [
        ic.Conv2d(4, 8, 3, stride=2, padding=1, groups=groups, bias=bias),
        ic.BatchNorm2d(8, affine=affine),
        *[ic.ReLU()] * relu,
    ]
    x = normal(2, 4, size, size)
    net = with_statistics(layers)
    assert isinstance(joined(net, x)[0], NormalizedConv2d)
    assert_close(net.predict(x), evaluate(net, x), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("size", [3, 9], ids=["a weight larger than the images", "or smaller"])
@pytest.mark.parametrize("mode", ["reflect", "replicate", "circular"])
def test_what_pads_the_images_stays_before_the_joined_one(mode, size):
    x = normal(2, 4, size, size)
    net = with_statistics([ic.Conv2d(4, 8, 3, padding=1, padding_mode=mode), ic.BatchNorm2d(8), ic.ReLU()])
    assert isinstance(joined(net, x)[0], NormalizedConv2d)
    assert_close(net.predict(x), evaluate(net, x), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("size", [3, 9], ids=["a weight larger than the images", "or smaller"])
@pytest.mark.parametrize(
    "norm",
    [
        ic.BatchNorm2d(8, bias=False),
        ic.InstanceNorm2d(8, track_running_stats=True),
        ic.InstanceNorm2d(8, affine=True, track_running_stats=True),
        ic.InstanceNorm2d(8, affine=True, bias=False, track_running_stats=True),
    ],
    ids=repr,
)
def test_what_keeps_running_statistics_is_joined(norm, size):
    x = normal(2, 4, size, size)
    net = with_statistics([ic.Conv2d(4, 8, 3, stride=2, padding=1), norm, ic.ReLU()])
    assert isinstance(joined(net, x)[0], NormalizedConv2d)
    assert_close(net.predict(x), evaluate(net, x), rtol=1e-10, atol=1e-10)


class Mine(ic.BatchNorm2d):
    def forward(self, x, ctx):
        return super().forward(x, ctx) + 1


def test_what_a_convolution_is_not_joined_to():
    x = normal(2, 3, 5, 5)
    own = joined(with_statistics([ic.Conv2d(3, 3, 1), Mine(3)]), x)
    two = joined(with_statistics([ic.Conv2d(3, 3, 1), ic.Residual(ic.BatchNorm2d(3))]), x)
    each = joined(with_statistics([ic.Conv2d(3, 3, 1), ic.InstanceNorm2d(3)]), x)
    first = joined(with_statistics([ic.BatchNorm2d(3), ic.Conv2d(3, 3, 1), ic.ReLU(), ic.BatchNorm2d(3)]), x)
    for layers in own, two, each, first:
        assert not any(isinstance(layer, NormalizedConv2d) for layer in layers)
