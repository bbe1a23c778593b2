"""Layers in small networks: gradients by differences along random directions, and values by a plain evaluation."""

import numpy as np
import pytest
from helpers import Probe, assert_close, loss_and_gradient, normal
from own_layers import CASES
from small_networks import residual

import im2colnet as ic
from im2colnet.testing import evaluate

pytestmark = pytest.mark.usefixtures("one_thread")


def bottleneck():
    """Two convolutions with batch norm, and another one as the shortcut."""
    shortcut = ic.Sequential([ic.Conv2d(3, 4, 1, 2, bias=False), ic.BatchNorm2d(4)])
    body = [ic.Conv2d(3, 4, 3, 2, padding=1, bias=False), ic.BatchNorm2d(4), ic.ReLU(), ic.Conv2d(4, 4, 3, padding=1)]
    return [residual(*body, ic.BatchNorm2d(4), shortcut=shortcut), ic.ReLU()]


NETS = {
    "conv": lambda: [ic.Conv2d(3, 4, 3)],
    "conv without bias": lambda: [ic.Conv2d(3, 4, (2, 3), bias=False)],
    "conv strided, dilated, padded on one side": lambda: [
        ic.Conv2d(3, 4, 3, stride=(2, 1), padding=((2, 0), (1, 3)), dilation=(1, 2))
    ],
    "conv in groups": lambda: [ic.Conv2d(3, 4, 1), ic.Conv2d(4, 6, 3, padding=1, groups=2)],
    "conv depthwise": lambda: [ic.Conv2d(3, 6, 3, padding="same", groups=3)],
    "conv, many channels": lambda: [ic.Conv2d(3, 12, 1), ic.Conv2d(12, 13, 3, padding=1), ic.Conv2d(13, 2, 1)],
    "conv, its image mirrored": lambda: [ic.Conv2d(3, 4, 3, padding=2, padding_mode="reflect"), ic.ReLU()],
    "conv depthwise, its image repeated": lambda: [
        ic.Conv2d(3, 6, 3, 2, padding=1, groups=3, padding_mode="circular"),
        ic.Conv2d(6, 2, 3, padding=1, padding_mode="replicate"),
    ],
    "linear": lambda: [ic.Flatten(), ic.Linear(3 * 7 * 6, 5), ic.Linear(5, 4, bias=False)],
    "relu after each": lambda: [ic.Conv2d(3, 4, 3), ic.ReLU(), ic.Flatten(), ic.Linear(80, 6), ic.ReLU()],
    "relu alone": lambda: [ic.ReLU(), ic.ReLU()],
    "max pool": lambda: [ic.MaxPool2d(2)],
    "max pool, overlapping": lambda: [ic.MaxPool2d(3, 2, padding=1)],
    "max pool, dilated": lambda: [ic.MaxPool2d((3, 2), 1, dilation=(1, 2), ceil_mode=True)],
    "max pool, relu after": lambda: [ic.MaxPool2d(3, 1), ic.ReLU()],
    "max pool, padded to a whole": lambda: [ic.MaxPool2d((3, 2), padding=((1, 1), (0, 0)))],
    "avg pool": lambda: [ic.AvgPool2d(2)],
    "avg pool, ceil_mode": lambda: [ic.AvgPool2d(3, 2, padding=1, ceil_mode=True, count_include_pad=False)],
    "global avg pool": lambda: [ic.GlobalAvgPool2d()],
    "global avg pool, then linear": lambda: [ic.GlobalAvgPool2d(), ic.Flatten(), ic.Linear(3, 4)],
    "batch norm": lambda: [ic.BatchNorm2d(3)],
    "batch norm without parameters": lambda: [ic.BatchNorm2d(3, affine=False)],
    "batch norm, relu": lambda: [ic.Conv2d(3, 4, 3, bias=False), ic.BatchNorm2d(4), ic.ReLU(), ic.Conv2d(4, 2, 1)],
    "batch norm twice": lambda: [ic.BatchNorm2d(3), ic.BatchNorm2d(3)],
    "dropout": lambda: [ic.Dropout(0.4), ic.Conv2d(3, 2, 3), ic.Dropout(0.2)],
    "zero-pad shortcut": lambda: [ic.ZeroPadShortcut(3, 5, 2)],
    "residual": lambda: [residual(ic.Conv2d(3, 3, 3, padding=1))],
    "residual, relu after": lambda: [residual(ic.Conv2d(3, 3, 3, padding=1), ic.ReLU()), ic.ReLU()],
    "residual of a relu": lambda: [residual(ic.ReLU())],
    "residual of a view": lambda: [ic.Flatten(), residual(ic.Flatten())],
    "residual with a view as shortcut": lambda: [ic.Flatten(), residual(ic.ReLU(), shortcut=ic.Flatten())],
    "residual of dropout": lambda: [residual(ic.Dropout(0.3), ic.ReLU()), ic.ReLU()],
    "residual with a relu as shortcut": lambda: [residual(ic.Conv2d(3, 3, 1), shortcut=ic.ReLU())],
    "residual with a shortcut": bottleneck,
    "residual with zero-padding": lambda: [
        residual(ic.Conv2d(3, 5, 3, 2, padding=1), shortcut=ic.ZeroPadShortcut(3, 5, 2)),
        ic.ReLU(),
    ],
    "residual, nested": lambda: [
        residual(
            ic.Conv2d(3, 3, 1),
            residual(ic.ReLU(), ic.Conv2d(3, 3, 3, padding=1)),
            ic.ReLU(),
            shortcut=residual(ic.BatchNorm2d(3), ic.ReLU()),
        )
    ],
    "residual of residuals alone": lambda: [ic.Residual(ic.Residual(ic.Residual(ic.ReLU())))],
    "pre-activation": lambda: [
        ic.Conv2d(3, 4, 1),
        residual(ic.ReLU(), ic.Conv2d(4, 4, 3, padding=1), ic.ReLU(), ic.Conv2d(4, 4, 1)),
    ],
    "pre-activation with batch norm": lambda: [
        ic.Conv2d(3, 4, 1),
        residual(ic.BatchNorm2d(4), ic.ReLU(), ic.Conv2d(4, 4, 3, padding=1)),
        ic.BatchNorm2d(4),
        ic.ReLU(),
    ],
    "a relu'd value read twice": lambda: [ic.Conv2d(3, 4, 1), ic.ReLU(), residual(ic.Conv2d(4, 4, 1), ic.ReLU())],
    "sequential in sequential": lambda: [
        ic.Sequential([ic.Conv2d(3, 4, 3), ic.Sequential([ic.ReLU()])]),
        ic.MaxPool2d(2),
    ],
}


@pytest.mark.parametrize("shard", [None, 2], ids=["one shard", "shards"])
@pytest.mark.parametrize("name", NETS)
def test_gradients(name, shard):
    Probe(NETS[name](), normal(3, 3, 7, 6), shard=shard if "global" not in name else None).check_gradients()


def test_gradients_of_the_loss():
    """Cross-entropy through a whole network, by all parameters at once."""
    net = ic.Sequential([ic.Conv2d(1, 3, 3), ic.BatchNorm2d(3), ic.ReLU(), ic.Flatten(), ic.Linear(48, 4)])
    net.init(0, "float64")
    x, labels = normal(5, 1, 6, 6), np.array([0, 3, 1, 1, 2])
    _, gradient = loss_and_gradient(net, x, labels, shard=2)
    start, direction, h = net.flat.copy(), normal(net.flat.size), 1e-5

    def loss(t):
        net.flat[...] = start + t * direction
        return loss_and_gradient(net, x, labels, shard=2)[0]

    assert np.dot(gradient, direction) == pytest.approx((loss(h) - loss(-h)) / (2 * h), rel=1e-7)


@pytest.mark.parametrize("name", NETS)
def test_forward(name):
    x = normal(3, 3, 7, 6)
    probe = Probe(NETS[name](), x)
    if "dropout" not in name:
        result = probe.step()
        assert_close(result.y.reshape(3, -1), evaluate(probe.net, x, training=True, own=CASES))
        assert result.value == pytest.approx(np.vdot(result.y, probe.dy), rel=1e-10)
    state = probe.net.state_dict()
    probe.net.load_state_dict({name: value + 0.1 * ("running" in name) for name, value in state.items()})
    assert_close(probe.net.predict(x), evaluate(probe.net, x, own=CASES))


@pytest.mark.parametrize("name", ["residual", "dropout", "view", "flatten"])
def test_a_shortcut_that_is_a_view_keeps_its_input(name):
    """Nothing is computed in a view, so what it shows must not be overwritten while it is needed."""
    layers = {
        "residual": [ic.Residual(ic.ReLU(), ic.Residual(ic.ReLU()))],
        "dropout": [ic.Residual(ic.ReLU(), ic.Dropout(0.5))],
        "view": [ic.Residual(ic.BatchNorm2d(3), ic.Sequential([ic.Dropout(0.5), ic.Dropout(0.5)]))],
        "flatten": [ic.Flatten(), ic.Residual(ic.ReLU(), ic.Flatten())],
    }[name]
    net, x = ic.Sequential(layers).init(0, "float64"), normal(3, 3, 4, 5)
    assert_close(net.predict(x), evaluate(net, x))
