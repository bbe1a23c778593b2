"""A step that the device repeats: the same bits as started by the host, and nothing is repeated that may change."""

import numpy as np
import pytest
from helpers import assert_same_bits, batches

import im2colnet as ic

draw = batches((3, 12, 12), classes=4, n=8, pixels=True)


def network(gpu, *more):
    layers = [ic.Conv2d(3, 8, 3, padding=1), ic.BatchNorm2d(8), ic.ReLU(), *more]
    layers += [ic.Residual(ic.Sequential([ic.Conv2d(8, 8, 3, padding=1, bias=False), ic.BatchNorm2d(8)]))]
    layers += [ic.MaxPool2d(2), ic.GlobalAvgPool2d(), ic.Flatten(), ic.Linear(8, 4)]
    return ic.Sequential(layers).init(0, backend=gpu)


@pytest.fixture
def recorded(gpu, monkeypatch):
    """How often work was recorded, and how often that was possible."""
    counts, record = {"asked": 0, "made": 0, "repeated": 0, "wanted": True}, type(gpu).recorded

    def counted(self, work):
        if not counts["wanted"]:
            return None
        call = record(self, work)
        counts["asked"] += 1
        counts["made"] += call is not None

        def repeat():
            counts["repeated"] += 1
            call()

        return call and repeat

    monkeypatch.setattr(type(gpu), "recorded", counted)
    monkeypatch.delenv("IM2COLNET_CUDA_GRAPHS", raising=False)
    return counts


def trained(gpu, recorded, graphs, precision=None, steps=7, loss=None, more=(), **options):
    recorded["wanted"] = graphs
    trainer = ic.Trainer(
        network(gpu, *more), loss, ic.SGD(ic.Cosine(0.05, steps=9), 0.9), precision=precision, seed=1, **options
    )
    losses = [trainer.step(*draw(seed=seed)) for seed in range(steps)]
    outputs = [trainer.net.predict(draw(seed=seed)[0]) for seed in range(5)]
    return losses, trainer.net.state_dict(), outputs


@pytest.mark.parametrize("precision", ["float32", "tf32", "float16"])
def test_the_same_bits_as_without(gpu, recorded, precision):
    losses, state, outputs = trained(gpu, recorded, False, precision)
    assert recorded["asked"] == 0
    found = trained(gpu, recorded, True, precision)
    assert recorded["made"] == 2  # a training step, and a prediction
    assert recorded["repeated"] >= 5 + 3
    assert found[0] == losses
    assert_same_bits(found[1], state)
    for mine, expected in zip(found[2], outputs, strict=True):
        np.testing.assert_array_equal(mine, expected)


def test_the_environment_switches_it_off(gpu, recorded, monkeypatch):
    monkeypatch.setenv("IM2COLNET_CUDA_GRAPHS", "0")
    losses, _, _ = trained(gpu, recorded, True)
    assert recorded["asked"] == 0
    monkeypatch.delenv("IM2COLNET_CUDA_GRAPHS")
    assert trained(gpu, recorded, True)[0] == pytest.approx(losses, rel=1e-4)
    assert recorded["made"] == 2


def test_a_change_of_a_layer_or_of_the_loss_is_seen(gpu, recorded):
    def train(graphs):
        recorded["wanted"] = graphs
        net, loss = network(gpu), ic.CrossEntropyLoss()
        trainer, losses = ic.Trainer(net, loss, ic.SGD(0.05), seed=1), []
        for seed in range(12):
            if seed == 5:
                net.layers[1].eps = 0.5
            if seed == 9:
                loss.label_smoothing = 0.3
            losses.append(trainer.step(*draw(seed=seed)))
        return losses

    expected = train(False)
    assert train(True) == expected
    assert recorded["made"] == 2
    assert recorded["asked"] == 3  # with label smoothing the loss brings numbers of the host


def test_a_batch_of_another_size_has_its_own(gpu, recorded):
    def train(graphs):
        recorded["wanted"] = graphs
        trainer = ic.Trainer(network(gpu), optimizer=ic.SGD(0.05), seed=1)
        return [trainer.step(*draw(n, seed=n)) for n in (8, 6) * 5]

    expected = train(False)
    assert train(True) == expected
    assert recorded["made"] == 2


def test_what_draws_on_the_host_is_started_each_time(gpu, recorded):
    losses, state, _ = trained(gpu, recorded, False, more=[ic.Dropout(0.3)])
    found = trained(gpu, recorded, True, more=[ic.Dropout(0.3)])
    assert found[0] == losses
    assert_same_bits(found[1], state)
    assert recorded["asked"] == 2
    assert recorded["made"] == 1  # the predictions


def test_a_layer_or_loss_of_one_s_own_is_started_each_time(gpu, recorded):
    class Grows(ic.Layer):
        factor = 1.0

        def forward(self, x, ctx):
            self.factor += 0.25
            return ctx.xp.multiply(x, self.factor, out=ctx.y)

        def backward(self, dy, ctx):
            return dy

    class Mine(ic.CrossEntropyLoss):
        pass

    trained(gpu, recorded, True, more=[Grows()])
    trained(gpu, recorded, True, loss=Mine(), steps=5)
    assert recorded["made"] == 1  # the predictions of the second network


def test_a_loss_that_is_not_finite_is_found(gpu, recorded):
    trainer = ic.Trainer(network(gpu), optimizer=ic.SGD(0.05), seed=1)
    for seed in range(5):
        trainer.step(*draw(seed=seed))
    assert recorded["repeated"] > 1
    before = trainer.net.state_dict()
    with pytest.raises(ic.NonFiniteError, match="holds NaN"):
        trainer.step(np.full((8, 3, 12, 12), np.nan, "float32"), draw()[1])
    with pytest.raises(ic.NonFiniteError, match="the loss is"):
        trainer.step(np.full((8, 3, 12, 12), 3e38, "float32"), draw()[1])
    assert_same_bits(trainer.net.state_dict(), before)
    trainer.step(*draw(seed=9))
