"""A copy of a network is one of its own; networks may share layers."""

import copy
import pickle

import numpy as np
import pytest
from helpers import (
    assert_same_bits,
)
from numpy.testing import assert_allclose
from small_networks import GOOD, LABELS, plain, with_batch_norm

import im2colnet as ic

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda net: pickle.loads(pickle.dumps(net))], ids=["copy", "pickle"])
@pytest.mark.parametrize("used", [False, True])
def test_a_copy_is_a_network_of_its_own(copied, used):
    net, other = with_batch_norm().init(0), with_batch_norm().init(0)
    if used:
        for each in (net, other):
            each.predict(GOOD)
            ic.Trainer(each).step(GOOD, LABELS)
    twin, before = copied(net), net.state_dict()
    assert_same_bits(twin.state_dict(), before)
    assert_same_bits(twin.predict(GOOD), net.predict(GOOD))
    for each in (twin, other):
        ic.Trainer(each, optimizer=ic.SGD(0.5)).step(GOOD, LABELS)
    assert_same_bits(twin.state_dict(), other.state_dict())
    assert_same_bits(net.state_dict(), before)


def test_networks_may_share_layers_but_not_parameters():
    net = plain().init(0)
    before = net.predict(GOOD)
    part = ic.Sequential(net.layers[:-1]).init(5)
    drawn = part.predict(GOOD)
    assert_same_bits(net.predict(GOOD), before)
    part.load_state_dict({k: v for k, v in net.state_dict().items() if k in part.parameters()})
    weight, bias = (net.state_dict()[f"{len(net.layers) - 1}.{name}"] for name in ("weight", "bias"))
    assert_allclose(part.predict(GOOD) @ weight.T + bias, before, rtol=1e-5, atol=1e-6)
    assert not np.array_equal(part.predict(GOOD), drawn)
