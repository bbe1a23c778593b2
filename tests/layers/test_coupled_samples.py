"""Layers of users' own that couple the samples of a batch."""

import numpy as np
import pytest
from helpers import normal
from numpy.testing import assert_allclose

import im2colnet as ic


class Centre(ic.Layer):
    """Subtracts the mean over the batch from features: a layer that couples samples."""

    couples = 1

    def partial_sums(self, x, ctx):
        ctx.sums[0] = x.sum(1)

    def forward(self, x, ctx):
        return x - (ctx.sums[0] / ctx.samples)[:, None] if ctx.training else x

    def partial_grad_sums(self, dy, ctx):
        ctx.sums[0] = dy.sum(1)

    def backward(self, dy, ctx):
        return dy - (ctx.sums[0] / ctx.samples)[:, None]


@pytest.mark.parametrize("shard", [3, 20])
def test_layers_on_features_may_couple_samples(shard):
    x, labels = normal(20, 5), np.arange(20) % 3
    plain = ic.Sequential([ic.Linear(5, 4), ic.Linear(4, 3)]).init(0, "float64")
    net = ic.Sequential([ic.Linear(5, 4), Centre(), ic.Linear(4, 3)]).init(0, "float64")
    w, v = (net.state_dict()[k] for k in ("0.weight", "2.weight"))
    hidden = x @ w.T + net.state_dict()["0.bias"]
    logits = (hidden - hidden.mean(0)) @ v.T + net.state_dict()["2.bias"]
    p = np.exp(logits - logits.max(1, keepdims=True))
    expected = -np.log((p / p.sum(1, keepdims=True))[np.arange(20), labels]).mean()
    trainer = ic.Trainer(net, optimizer=ic.SGD(0.1), shard=shard)
    assert trainer.step(x, labels) == pytest.approx(expected, rel=1e-12)
    assert_allclose(net.state_dict()["0.bias"], plain.state_dict()["0.bias"])  # a centred bias has no gradient
