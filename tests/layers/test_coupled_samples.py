"""Layers of users' own that join the samples of a batch."""

import numpy as np
import pytest
from helpers import normal
from numpy.testing import assert_allclose

import im2colnet as ic


class Centre(ic.Layer):
    """Subtracts the mean over the batch from features: a layer that joins samples."""

    batch_sums = 1

    def shard_sums(self, x, ctx):
        ctx.sums[0] = x.sum(1)

    def forward(self, x, ctx):
        return x - (ctx.sums[0] / ctx.samples)[:, None] if ctx.training else x

    def shard_grad_sums(self, dy, ctx):
        ctx.sums[0] = dy.sum(1)

    def backward(self, dy, ctx):
        return dy - (ctx.sums[0] / ctx.samples)[:, None]


def test_a_layer_that_joins_samples_by_the_old_names_works_and_is_told_the_new_ones():
    class Number:
        couples = 1

    with pytest.warns(DeprecationWarning, match="is now called") as told:

        class Old(Number, ic.Layer):
            partial_sums, partial_grad_sums = Centre.shard_sums, Centre.shard_grad_sums
            forward, backward = Centre.forward, Centre.backward

    class Derived(Old):
        pass

    assert [str(one.message) for one in told] == [
        "Old.couples is now called batch_sums",
        "Old.partial_sums is now called shard_sums",
        "Old.partial_grad_sums is now called shard_grad_sums",
    ]
    x, losses = normal(20, 5), []
    for layer in Centre(), Old(), Derived():
        net = ic.Sequential([ic.Linear(5, 4), layer, ic.Linear(4, 3)]).init(0)
        losses.append([ic.Trainer(net, shard=3).step(x, np.arange(20) % 3) for _ in range(2)])
    assert losses[1:] == losses[:1] * 2


@pytest.mark.parametrize("shard", [3, 20])
def test_layers_on_features_may_join_samples(shard):
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
