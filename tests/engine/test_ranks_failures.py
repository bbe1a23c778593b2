"""A rank that fails within a step: all ranks raise, nothing has changed, and training can go on."""

from zlib import crc32

import numpy as np
import pytest
from fake_ranks import run_ranks

import im2colnet as ic
from im2colnet.engine import Engine, Moment, memory
from im2colnet.parallel.ranks import Ranks
from im2colnet.training.update import Update

SHARD, BATCH, STEPS, FAILING = 3, 12, 4, 2


class Fails(ic.Layer):
    """Fails in one pass of one shard, while it is told to."""

    stateless = True

    def __init__(self, fault):
        self.fault = fault

    def forward(self, x, ctx):
        if self.fault["now"] and self.fault["where"] == "forward" and ctx.key[3] == self.fault["shard"]:
            raise ValueError("a planted fault")
        return x.copy()

    def backward(self, dy, ctx):
        if self.fault["now"] and self.fault["where"] == "backward" and ctx.key[3] == self.fault["shard"]:
            raise ValueError("a planted fault")
        return dy.copy()


def network(fault):
    layers = [ic.Conv2d(1, 4, 3, padding=1), ic.BatchNorm2d(4), Fails(fault), ic.ReLU(), ic.Dropout(0.2)]
    layers += [ic.Conv2d(4, 4, 3, padding=1), ic.BatchNorm2d(4), Fails(fault)]
    return ic.Sequential([*layers, ic.MaxPool2d(2), ic.Flatten(), ic.Linear(64, 10)]).init(seed=1)


def trained(ranks=None, where=None, shard=0):
    """What some steps have changed and told, and the error of one that fails and is repeated."""
    fault = {"now": False, "where": where, "shard": shard}
    net = network(fault)
    engine = Engine(net.held, net.graph.for_loss(), True, loss=ic.CrossEntropyLoss(), shard=SHARD, ranks=ranks)
    update, rng, told, error = Update(ic.Adam(0.01), net.held), np.random.default_rng(0), [], None

    def step(number, images, labels):
        moment = Moment(3, number, (0.01,), update=number + 1)
        with engine.alone():
            own = images[engine.part((1, 8, 8), BATCH)]
            told.append(engine.train(own, labels, update, moment, samples=BATCH))
            engine.changing = False

    for number in range(STEPS):
        images, labels = rng.random((BATCH, 1, 8, 8), dtype="float32"), rng.integers(0, 10, BATCH)
        if number == FAILING and where:
            bad = images.copy()
            if where == "image":
                bad[SHARD * shard + 1] = np.nan
            fault["now"] = True
            with pytest.raises((ic.Im2colnetError, ValueError)) as info:
                step(number, bad, labels)
            error, fault["now"] = info.value, False
            assert not engine.changing
        step(number, images, labels)
    if ranks is not None:
        update.gather(ranks)
    arrays = [net.held.flat, net.held.state, *update.slots.values()]
    return (told, [crc32(array.tobytes()) for array in arrays]), error


@pytest.fixture(autouse=True)
def threads():
    """Forked workers would not see the ranks' threads."""
    ic.set_workers("threads")
    yield
    ic.set_workers("auto")


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("size", [2, 3, 6])
@pytest.mark.parametrize("shard", [0, 3])
@pytest.mark.parametrize("where", ["forward", "backward", "image"])
def test_all_ranks_raise_and_training_goes_on(where, shard, size, workers):
    expected, _ = trained()

    def work(comm):
        with ic.num_threads(workers):
            return trained(Ranks(comm), where, shard)

    found = run_ranks(size, work)
    assert [everything for everything, _ in found] == [expected] * size
    owner = next(rank for rank in range(size) if shard in range(4 * rank // size, 4 * (rank + 1) // size))
    cause = f"image {SHARD * shard + 1} of the batch" if where == "image" else "a planted fault"
    for rank, (_, error) in enumerate(found):
        assert cause in str(error)
        assert error.agreed
        if rank == owner:
            assert isinstance(error, ic.NonFiniteError if where == "image" else ValueError)
        else:
            assert f"rank {owner} failed" in str(error)


def test_a_loss_that_is_not_finite_is_an_error_of_every_rank_alike():
    def work(comm):
        net = network({"now": False})
        engine = Engine(net.held, net.graph.for_loss(), True, ic.CrossEntropyLoss(), SHARD, Ranks(comm))
        net.held.flat[-1] = np.nan
        before, update = net.held.flat.copy(), Update(ic.SGD(0.1), net.held)
        own = np.ones((BATCH, 1, 8, 8), "float32")[engine.part((1, 8, 8), BATCH)]
        with engine.alone(), pytest.raises(ic.NonFiniteError, match="the loss is nan") as info:
            engine.train(own, [0] * BATCH, update, Moment(0, 0, (0.1,)), samples=BATCH)
        np.testing.assert_array_equal(net.held.flat, before)
        return info.value.agreed

    assert run_ranks(3, work) == [True] * 3


def test_a_rank_that_cannot_have_its_memory_tells_the_others(monkeypatch):
    """It fails before anything is bound to memory, and knows from the plan in which joins the others wait for it."""
    bind = memory.BoundBatch

    def refuse(name, plan, *others):
        if plan.own.start == 1:  # 4 shards on 3 ranks: the second rank
            raise ic.OutOfMemoryError("no memory for this rank")
        return bind(name, plan, *others)

    monkeypatch.setattr(memory, "BoundBatch", refuse)

    def work(comm):
        with pytest.raises((ic.OutOfMemoryError, ic.WorkerError), match="no memory for this rank") as info:
            trained(Ranks(comm))
        return info.value.agreed

    assert run_ranks(3, work) == [True] * 3


@pytest.mark.parametrize("what", ["predict", "evaluate"])
def test_inference_fails_on_all_ranks_and_then_works(what):
    def work(comm):
        net = network({"now": False})
        loss = ic.CrossEntropyLoss()
        engine = Engine(net.held, net.graph, False, loss=loss, shard=SHARD, ranks=Ranks(comm))
        images = np.ones((BATCH, 1, 8, 8), "float32")
        bad = images.copy()
        bad[-1] = np.nan

        def call(images):
            return engine.predict(images) if what == "predict" else engine.evaluate(images, [0] * BATCH, loss)[0]

        with pytest.raises(ic.Im2colnetError, match="image 11 of the batch") as info:
            call(bad)
        return info.value.agreed, np.array(call(images)).tolist()

    found = run_ranks(3, work)
    assert found == [(True, found[0][1])] * 3
