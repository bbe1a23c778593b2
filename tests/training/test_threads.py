"""A training gives the same bits for any number of threads, whatever its buffers held before."""

import numpy as np
import pytest
from helpers import assert_same_bits, normal
from small_networks import plain, with_batch_norm, with_both, with_dropout

import im2colnet as ic

pytestmark = pytest.mark.usefixtures("one_thread")


def outcome(make, sizes, threads, dtype="float32", shard=4, optimizer=None):
    """Losses, state and predictions after a step for each batch size; ``threads`` may change from step to step."""
    net = make().init(3, dtype)
    trainer = ic.Trainer(net, optimizer=optimizer or ic.SGD(0.05, 0.9), seed=5, shard=shard)
    rng, found = np.random.default_rng(0), {"loss": []}
    for i, n in enumerate(sizes):
        ic.set_num_threads(threads[i % len(threads)])
        x, labels = rng.standard_normal((n, 3, 8, 8)).astype(dtype), rng.integers(0, 4, n)
        found["loss"].append(trainer.step(x, labels))
    found |= net.state_dict()
    found["predictions"] = net.predict(x)
    evaluation = trainer.evaluate(ic.datasets.Dataset(x, labels, classes=tuple("abcd")))
    return found | {"evaluation": [evaluation["loss"], evaluation["accuracy"]]}


@pytest.mark.parametrize("make", [plain, with_batch_norm, with_dropout, with_both])
@pytest.mark.parametrize(
    ("sizes", "shard"),
    [([37, 37, 37], 4), ([37, 37, 3], 4), ([8, 5, 8, 2], 1), ([64, 64], 32), ([5, 40, 5], 7)],
    ids=["not whole shards", "a small last batch", "shards of one", "the default", "growing batches"],
)
def test_threads_do_not_change_a_bit(make, sizes, shard):
    one = outcome(make, sizes, [1], shard=shard)
    assert len(set(one["loss"])) == len(sizes)
    assert_same_bits(outcome(make, sizes, [2], shard=shard), one)
    assert_same_bits(outcome(make, sizes, [3], shard=shard), one)
    assert_same_bits(outcome(make, sizes, [1, 4, 2], shard=shard), one)


def test_float64_threads():
    assert_same_bits(outcome(with_both, [19, 4], [3], "float64"), outcome(with_both, [19, 4], [1], "float64"))


def test_more_threads_than_shards_or_samples():
    assert_same_bits(outcome(with_batch_norm, [3, 2], [6], shard=2), outcome(with_batch_norm, [3, 2], [1], shard=2))


def test_the_seed_and_the_shard_matter():
    one = outcome(with_dropout, [37], [1])
    assert one["loss"] != outcome(with_dropout, [37], [1], shard=8)["loss"]  # other masks
    assert_same_bits(one, outcome(with_dropout, [37], [1]))


def test_what_a_batch_was_before_does_not_matter():
    """Buffers are used again and again: nothing of a former step may be left in them."""
    x, labels = normal(13, 3, 8, 8, dtype="float32"), np.arange(13) % 4
    for make in (plain, with_batch_norm):
        fresh = ic.Trainer(make().init(1), optimizer=ic.SGD(0.1), shard=4)
        used = ic.Trainer(make().init(1), optimizer=ic.SGD(0.1), shard=4)
        before = used.net.state_dict()
        for n in (40, 13, 1, 5):
            used.step(1e3 * normal(n, 3, 8, 8, dtype="float32"), np.arange(n) % 4)
        used.net.load_state_dict(before)
        assert used.step(x, labels) == fresh.step(x, labels)
        assert_same_bits(used.net.state_dict(), fresh.net.state_dict())
