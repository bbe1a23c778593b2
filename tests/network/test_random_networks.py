"""Random networks: what the planner puts into the same memory must not be needed at the same time."""

import numpy as np
import pytest
from helpers import Probe, assert_close, normal
from hypothesis import example, given, settings
from hypothesis import strategies as st
from own_layers import CASES, Mirror, Through
from small_networks import residual

import im2colnet as ic
from im2colnet.testing import differentiate, evaluate

pytestmark = pytest.mark.usefixtures("one_thread")

SAME_SIZE = {
    "relu": ic.ReLU,
    "sigmoid": ic.Sigmoid,
    "silu": ic.SiLU,
    "dropout": lambda: ic.Dropout(0.0),
    "batch norm": lambda: ic.BatchNorm2d(3),
    "conv": lambda: ic.Conv2d(3, 3, 3, padding=1),
    "depthwise": lambda: ic.Conv2d(3, 3, 1, groups=3),
    "max pool": lambda: ic.MaxPool2d(3, 1, padding=1),
    "avg pool": lambda: ic.AvgPool2d(3, 1, padding=1),
    "zero-pad": lambda: ic.ZeroPadShortcut(3, 3),
    "own, a view": lambda: Mirror(),
    "own": lambda: Through(),
}

FEATURES = {
    "relu": ic.ReLU,
    "silu": ic.SiLU,
    "dropout": lambda: ic.Dropout(0.0),
    "flatten": ic.Flatten,
    "linear": lambda: ic.Linear(27, 27),
    "own": lambda: Through(),
}


def descriptions(makers):
    """Lists of names and, for residual blocks within residual blocks, pairs (body, shortcut) of lists."""

    def several(one):
        return st.lists(one, min_size=1, max_size=4)

    names = st.sampled_from(sorted(makers))
    return several(st.recursive(names, lambda one: st.tuples(several(one), st.none() | several(one)), max_leaves=8))


def make(description, makers):
    def shortcut(parts):
        return None if parts is None else ic.Sequential(make(parts, makers))

    return [
        makers[part]() if isinstance(part, str) else residual(*make(part[0], makers), shortcut=shortcut(part[1]))
        for part in description
    ]


@settings(max_examples=150)
@example(  # its batch norm is of nearly equal numbers
    images=[
        (["avg pool", "avg pool", (["depthwise", "batch norm"], None)], None),
        (["conv", "conv"], None),
        "conv",
        (["avg pool"], None),
    ],
    features=["linear", "linear", (["dropout"], None)],
    shard=1,
)
@given(images=descriptions(SAME_SIZE), features=descriptions(FEATURES), shard=st.sampled_from([1, 2, 3]))
def test_random_networks(images, features, shard):
    x = normal(3, 3, 3, 3, seed=5)
    probe = Probe([*make(images, SAME_SIZE), ic.Flatten(), *make(features, FEATURES)], x, shard=shard)
    result = probe.step()
    assert_close(result.y.reshape(3, -1), evaluate(probe.net, x, training=True, own=CASES), rtol=1e-8, atol=1e-8)
    assert_close(probe.net.predict(x), evaluate(probe.net, x, own=CASES), rtol=1e-8, atol=1e-8)
    dx, gradients = differentiate(probe.net, x, probe.dy.reshape(3, -1), own=CASES)
    assert_close(result.dx, dx, rtol=1e-8, atol=1e-8)
    assert {"0.offset", *result.gradients} == gradients.keys()
    # a bias before batch norm has the gradient 0, of terms as large as the other gradients that cancel but for rounding
    rounding = 1e-11 * max((np.abs(gradient).max() for gradient in gradients.values()), default=0)
    for name, gradient in result.gradients.items():
        assert_close(gradient, gradients[name], rtol=1e-8, atol=1e-8 + rounding)
