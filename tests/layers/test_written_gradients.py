"""What a layer's ``backward`` writes, and does not write, of its parameters' gradients."""

import numpy as np
import pytest
from helpers import batches
from numpy.testing import assert_allclose

import im2colnet as ic

batch = batches((1, 8, 8), classes=2, n=20)


class Frozen(ic.Layer):
    """A parameter that ``backward`` says nothing about."""

    stateless = True

    def parameters(self):
        return {"weight": ic.Parameter((1,), value=1.0)}

    def forward(self, x, ctx):
        return x * ctx.params["weight"]

    def backward(self, dy, ctx):
        return dy * ctx.params["weight"]


def test_a_gradient_that_is_not_written_is_zero_in_every_step():
    net = ic.Sequential([Frozen(), ic.Flatten(), ic.Linear(64, 2)]).init(0, "float64")
    trainer = ic.Trainer(net, optimizer=ic.SGD(0.1, weight_decay=0.1), shard=4)
    for step in range(1, 5):
        trainer.step(*batch())
        assert_allclose(net.state_dict()["0.weight"], [0.99**step], rtol=1e-12)


class Rebinding(Frozen):
    def backward(self, dy, ctx):
        ctx.grads["weight"] = np.ones(1)
        return dy


def test_a_gradient_that_would_be_lost_is_refused():
    with pytest.raises(TypeError, match="item assignment"):
        ic.Trainer(ic.Sequential([Rebinding(), ic.Flatten(), ic.Linear(64, 2)])).step(*batch())
