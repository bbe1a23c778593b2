"""Dropout keeps its share, and draws anew for every step, layer, shard and seed."""

import numpy as np
import pytest
from helpers import Probe, assert_close, assert_same_bits, normal

import im2colnet as ic

pytestmark = pytest.mark.usefixtures("one_thread")


def test_dropout():
    x = normal(8, 3, 10, 10) + 5
    probe = Probe([ic.Dropout(0.3)], x, np.ones_like(x))
    result = probe.step()
    kept = result.dx != 0
    assert abs(kept.mean() - 0.7) < 0.02
    assert_close(result.dx[kept], np.full(kept.sum(), 1 / 0.7))
    assert_close(result.y, np.where(kept, x / 0.7, 0))
    assert_same_bits(probe.step().dx, result.dx)  # the same key, the same mask
    assert_same_bits(Probe([ic.Dropout(0.3)], x, np.ones_like(x)).step().dx, result.dx)
    assert_close(ic.Sequential([ic.Dropout(0.3)]).init(0, "float64").predict(x), x)


def test_dropout2d_drops_whole_channels_of_a_sample():
    x = normal(20, 30, 3, 4) + 5
    probe = Probe([ic.Dropout2d(0.3)], x, np.ones_like(x))
    result = probe.step()
    kept = result.dx[:, :, 0, 0] != 0
    assert abs(kept.mean() - 0.7) < 0.05
    assert len(np.unique(kept, axis=0)) > 15, "samples share their channels"
    factors = np.broadcast_to(kept[:, :, None, None] / 0.7, x.shape)
    assert_close(result.dx, factors)
    assert_close(result.y, x * factors)
    assert_same_bits(probe.step().dx, result.dx)  # the same key, the same mask
    assert_close(ic.Sequential([ic.Dropout2d(0.3)]).init(0, "float64").predict(x), x)


def test_dropout2d_draws_the_same_for_any_number_of_workers():
    x, results = normal(8, 3, 6, 6, dtype="float32"), []
    for threads in (1, 2):
        net = ic.Sequential([ic.Conv2d(3, 6, 3), ic.Dropout2d(0.5), ic.Flatten(), ic.Linear(96, 2)]).init(0)
        trainer = ic.Trainer(net, optimizer=ic.SGD(lr=0.1), shard=2)
        with ic.num_threads(threads):
            for _ in range(3):
                trainer.step(x, [0, 1] * 4)
        results.append(net.flat.copy())
    assert_same_bits(*results)


@pytest.mark.parametrize("mode", ["row", "batch"])
def test_stochastic_depth_drops_whole_samples(mode):
    x = normal(400, 2, 3, 4) + 5
    probe = Probe([ic.StochasticDepth(0.3, mode)], x, np.ones_like(x))
    result = probe.step()
    kept = result.dx[:, 0, 0, 0] != 0
    assert abs(kept.mean() - 0.7) < 0.07 if mode == "row" else kept.min() == kept.max()
    factors = np.broadcast_to(kept[:, None, None, None] / 0.7, x.shape)
    assert_close(result.dx, factors)
    assert_close(result.y, x * factors)
    assert_same_bits(probe.step().dx, result.dx)  # the same key, the same mask
    assert_close(ic.Sequential([ic.StochasticDepth(0.3, mode)]).init(0, "float64").predict(x), x)


def test_stochastic_depth_of_a_batch_is_one_draw_for_all_shards():
    class Watched(ic.StochasticDepth):
        def forward(self, x, ctx):
            y = super().forward(x, ctx)
            found.append(bool((y != 0).any()))
            return y

    found = []
    trainer = ic.Trainer(
        ic.Sequential([Watched(0.5, "batch"), ic.Linear(4, 2)]).init(0), optimizer=ic.SGD(0.0), shard=2
    )
    for _ in range(40):
        trainer.step(np.ones((8, 4), "float32"), [0, 1] * 4)
    by_step = np.reshape(found, (40, 4))
    assert (by_step == by_step[:, :1]).all()
    assert 8 < by_step[:, 0].sum() < 32


def test_dropout_draws_anew_for_every_step_layer_shard_and_seed():
    class Watched(ic.Dropout):
        def forward(self, x, ctx):
            y = super().forward(x, ctx)
            found.append((y != 0).ravel())
            return y

    found, x = [], np.ones((8, 500), "float32")
    for seed, steps, shard in [(0, 2, 8), (1, 1, 8), (2, 1, 4)]:
        net = ic.Sequential([Watched(0.5), ic.Linear(500, 500, bias=False), Watched(0.5), ic.Linear(500, 2)])
        trainer = ic.Trainer(net.init(0), optimizer=ic.SGD(lr=0.0), seed=seed, shard=shard)
        for _ in range(steps):
            trainer.step(x, [0] * 8)
    assert len(found) == 2 * 2 + 2 + 2 * 2
    for i, a in enumerate(found):
        assert abs(a.mean() - 0.5) < 0.05
        for b in found[:i]:
            n = min(len(a), len(b))
            assert abs((a[:n] == b[:n]).mean() - 0.5) < 0.05, "two masks are alike"
