"""Training, evaluation and prediction on ranks, here in threads: all that one process computes, to the bit."""

from dataclasses import dataclass
from zlib import crc32

import numpy as np
import pytest
import strict_cupy
from fake_ranks import run_ranks
from im2colnet_numpy import NumpyBackend

import im2colnet as ic
from im2colnet.backend import registry
from im2colnet.engine import Engine, Moment
from im2colnet.parallel.ranks import Ranks
from im2colnet.training.update import Gradient, Update

BATCHES, ADAM = (12, 5, 1, 23, 12), ic.Adam(0.01)


@dataclass(frozen=True)
class OfOneLength(ic.Optimizer):
    """Makes steps of one length, so it must see the whole gradient of its parameters."""

    lr: float = 0.1

    def state_slots(self):
        return ("steps",)

    def update(self, p, g, state, lr, t, work, xp):
        p -= lr * g / xp.sqrt((g * g).sum())
        state["steps"] += t


class Centred(ic.Layer):
    """Less the batch's mean: the shards' sums are added by the layer's base class."""

    stateless = True
    batch_sums = 1

    def shard_sums(self, x, ctx):
        ctx.sums[0] = x.sum(axis=(0, 2, 3))

    def shard_grad_sums(self, dy, ctx):
        ctx.sums[0] = dy.sum(axis=(0, 2, 3))

    def forward(self, x, ctx):
        return x - self.mean(x, ctx) if ctx.training else x

    def backward(self, dy, ctx):
        return dy - self.mean(dy, ctx)

    def mean(self, x, ctx):
        return (ctx.sums[0] / (ctx.samples * x.shape[0] * x.shape[2]))[:, None, None]


class OwnNorm(ic.BatchNorm2d):
    """A batch norm that computes its statistics in ``forward``, and keeps them for ``finish_step`` in its own way."""

    stateless = True

    def forward(self, x, ctx):
        if not ctx.training:
            return x - ctx.buffers["running_mean"][:, None, None]
        ctx.own_mean = ctx.sums[0] / (ctx.samples * x.shape[0] * x.shape[2])
        return x - ctx.own_mean[:, None, None]

    def shard_grad_sums(self, dy, ctx):
        ctx.sums[...] = dy.sum(axis=(0, 2, 3))
        for grad in ctx.grads.values():
            grad[...] = 0

    def backward(self, dy, ctx):
        return dy - (ctx.sums[0] / (ctx.samples * dy.shape[0] * dy.shape[2]))[:, None, None]

    def finish_step(self, ctx):
        ctx.buffers["running_mean"] += ctx.own_mean


def of_layers(*layers):
    first = [ic.Conv2d(1, 4, 3, padding=1), *layers]
    return ic.Sequential([*first, ic.MaxPool2d(2), ic.Flatten(), ic.Linear(64, 10)])


def plain():
    return of_layers(ic.ReLU())


def normed():
    return of_layers(ic.BatchNorm2d(4), ic.ReLU(), ic.Dropout(0.2))


def normed_in_evaluation():
    return of_layers(ic.BatchNorm2d(4, track_running_stats=False), ic.InstanceNorm2d(4, track_running_stats=True))


def users():
    return of_layers(Centred(), OwnNorm(4))


def two_outputs():
    layers = {"conv": ic.Conv2d(1, 4, 3), "norm": ic.BatchNorm2d(4), "flat": ic.Flatten()}
    heads = {"a": (ic.Linear(144, 10), "flat"), "b": (ic.Linear(144, 3), "flat")}
    return ic.Net({**layers, **heads}, outputs=["a", "b"])


def trained(
    ranks=None,
    make=normed,
    optimizer=ADAM,
    dtype="float32",
    backend=None,
    precision=None,
    shard=3,
    batches=BATCHES,
    groups=None,
    frozen=(),
    accumulate=1,
    scale=lambda step: 1.0,
    **clip,
):
    """All that some steps have changed or told, then what an evaluation and a prediction tell."""
    net = make().init(seed=1, dtype=dtype, backend=backend)
    if frozen:
        net.freeze(*frozen)
    before = net.backend.to_numpy(net.held.flat.copy())
    if precision is not None:
        net.precision = precision
    loss = ic.SumLoss([ic.CrossEntropyLoss(), ic.MSELoss()]) if make is two_outputs else ic.CrossEntropyLoss()
    engine = Engine(net.held, net.graph.for_loss(), True, loss=loss, shard=shard, ranks=ranks)
    update, rng = Update(optimizer, net.held, groups), np.random.default_rng(0)
    told, held, updates = [], 0.0, 0

    def batch(n):
        labels = rng.integers(0, 10, n)
        if make is two_outputs:
            labels = labels, rng.random((n, 3), dtype="float32")
        return rng.random((n, 1, 8, 8), dtype="float32"), labels

    for step, n in enumerate(batches):
        images, labels = batch(n)
        last = (step + 1) % accumulate == 0
        if held or not last:
            update.hold_sum()
        rates = (0.01,) * len(update.rules)
        moment = Moment(3, step, rates, scale(step), updates + 1 if last else None, held, **clip)
        with engine.alone():
            own = images[engine.part((1, 8, 8), n)]
            told.append((*engine.train(own, labels, update, moment, samples=n), engine.overflowed, engine.weight))
            engine.changing = False
        held, updates = (0.0, updates + 1) if last else (held + engine.weight, updates)
    if ranks is not None:
        update.gather(ranks)
    images, labels = batch(17)
    told.append(update.norm)
    evaluation = Engine(net.held, net.graph.for_loss(), False, shard=shard, ranks=ranks)
    means, outputs = evaluation.evaluate(images, labels, loss, keep=True)
    predicted = Engine(net.held, net.graph, False, shard=shard, ranks=ranks).predict(images)
    predicted = predicted if isinstance(predicted, tuple) else (predicted,)
    host = net.backend.to_numpy
    assert np.mean(host(net.held.flat) != before) > 0.8
    arrays = [net.held.flat, net.held.state, *update.slots.values(), *([] if update.sum is None else [update.sum])]
    return told, means, [crc32(np.ascontiguousarray(host(array))) for array in [*arrays, *outputs, *predicted]]


CASES = {
    "plain": {"make": plain, "optimizer": ic.SGD(0.1, momentum=0.9)},
    "batch norm, dropout, Adam": {},
    "float64": {"dtype": "float64"},
    "sums in evaluation, sums at the end": {"make": normed_in_evaluation},
    "a user's layers": {"make": users},
    "several outputs": {"make": two_outputs},
    "the default shard": {"shard": None, "batches": (70, 3)},
    "accumulate, clip_value": {"accumulate": 2, "clip_value": 1e-3},
    "clip_norm": {"clip_norm": 0.1},
    "clip_norm, not elementwise": {"clip_norm": 0.1, "optimizer": OfOneLength()},
    "accumulate, not elementwise": {"accumulate": 2, "optimizer": OfOneLength()},
    "groups": {"groups": {"*.bias": {"weight_decay": 0.5}}},
    "frozen": {"frozen": ["0.*", "1.*"]},
    "frozen, not elementwise": {"frozen": ["0.weight"], "optimizer": OfOneLength()},
}


def on_ranks(size, workers=1, **case):
    def work(comm):
        with ic.num_threads(workers):
            return trained(Ranks(comm), **case)

    return run_ranks(size, work)


@pytest.fixture(autouse=True)
def small_chunks_on_threads(monkeypatch):
    """So that each rank has parameters of a small network to update. Forked workers would not see the other threads."""
    monkeypatch.setattr(NumpyBackend, "update_chunk", 50)
    ic.set_workers("threads")
    yield
    ic.set_workers("auto")


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize(("size", "workers"), [(2, 1), (3, 2), (4, 1), (8, 1)])
def test_the_bits_of_one_process(case, size, workers):
    with ic.num_threads(1):
        expected = trained(**CASES[case])
    with ic.num_threads(workers):
        for found in on_ranks(size, workers, **CASES[case]):
            assert found == expected


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("size", [1, 2, 3, 4, 8])
def test_the_bits_of_one_process_with_any_number_of_workers(size, workers):
    with ic.num_threads(1):
        expected = trained()
    for found in on_ranks(size, workers):
        assert found == expected


@pytest.mark.parametrize("whole", [True, False])
def test_a_rank_is_given_the_whole_batch_or_its_own_images(whole):
    images, labels = np.random.default_rng(0).random((12, 1, 8, 8), dtype="float32"), np.arange(12) % 10

    def loss(ranks=None, images=images, samples=None):
        net = normed().init(seed=1)
        engine = Engine(net.held, net.graph.for_loss(), True, loss=ic.CrossEntropyLoss(), shard=3, ranks=ranks)
        with engine.alone():
            return engine.train(images, labels, Gradient(net.held.flat.size), Moment(3, 0, ()), samples=samples)

    def work(comm):
        ranks = Ranks(comm)
        return loss(ranks) if whole else loss(ranks, images[ranks.partition(4).start * 3 :][: 3 * 2], 12)

    assert run_ranks(2, work) == [loss()] * 2
    with pytest.raises(ic.Im2colnetError, match=r"computes 3 of the 12 samples .*, from sample \d on, got 12"):
        run_ranks(4, lambda comm: loss(Ranks(comm), images, 12))


@pytest.fixture
def device(monkeypatch):
    """A device's backend, as if it had been chosen by name."""
    backend = strict_cupy.cupy_backend()
    monkeypatch.setitem(registry.started, "strict", backend)
    monkeypatch.setattr(type(backend), "update_chunk", 50)
    return backend


def test_float16_leaves_out_a_gradient_that_overflows_on_one_rank(device):
    class Overflows(ic.Layer):
        stateless = True

        def parameters(self):
            return {"weight": ic.Parameter((1,))}

        def forward(self, x, ctx):
            return x.copy()

        def backward(self, dy, ctx):
            ctx.grads["weight"][...] = float("inf") if ctx.key[1] == 2 else 0
            return dy.copy()

    case = {"make": lambda: of_layers(ic.ReLU(), Overflows()), "backend": device, "precision": "float16"}
    case["scale"] = lambda step: 128.0
    expected = trained(**case)
    assert [step[-2:] for step in expected[0][1:4]] == [(False, 5.0), (True, 0.0), (False, 23.0)]
    for size in 2, 3:
        assert on_ranks(size, **case) == [expected] * size


def test_a_device_divides_its_batch_among_any_ranks_alike(device):
    """By default a device takes a batch as one shard; on ranks it takes eighths, as one process can by ``shard``."""
    case = {"backend": device, "batches": (16, 16)}
    expected = trained(shard=2, **case)  # the stand-in compiles in one thread
    for size in 2, 3:
        for found in on_ranks(size, shard=None, **case):
            assert found[0][:2] == expected[0][:2]


def test_gradients_are_whole_on_every_rank():
    net = normed().init(seed=1)
    rng = np.random.default_rng(0)
    images, labels = rng.random((12, 1, 8, 8), dtype="float32"), rng.integers(0, 10, 12)

    def gradient(ranks=None):
        engine = Engine(net.held, net.graph.for_loss(), True, loss=ic.CrossEntropyLoss(), shard=3, ranks=ranks)
        found = Gradient(net.held.flat.size)
        with engine.alone():
            engine.train(images[engine.part((1, 8, 8), 12)], labels, found, Moment(3, 0, ()), samples=12)
        return found.flat

    expected = gradient()
    assert np.any(expected)
    for size in 2, 3, 5:
        for found in run_ranks(size, lambda comm: gradient(Ranks(comm))):
            np.testing.assert_array_equal(found, expected)


def test_a_gradient_that_a_layer_does_not_write_is_zero():
    """What is left of a sum in another rank's elements is not taken for the gradient of the next step."""

    class Sometimes(ic.Layer):
        stateless = True

        def parameters(self):
            return {"weight": ic.Parameter((200,))}

        def forward(self, x, ctx):
            return x.copy()

        def backward(self, dy, ctx):
            if ctx.key[1] == 0:
                ctx.grads["weight"][...] = 1
            return dy.copy()

    def trained_sometimes(ranks=None):
        net = of_layers(Sometimes()).init(seed=1)
        engine = Engine(net.held, net.graph.for_loss(), True, loss=ic.CrossEntropyLoss(), shard=4, ranks=ranks)
        update, images = Update(ic.SGD(0.1), net.held), np.ones((4, 1, 8, 8), "float32")
        for step in range(3):
            with engine.alone():
                own = images[engine.part((1, 8, 8), 4)]
                engine.train(own, np.arange(4), update, Moment(0, step, (0.1,)), samples=4)
                engine.changing = False
        return net.parameters()["1.weight"].copy()

    expected = trained_sometimes()
    np.testing.assert_array_equal(expected, np.full(200, expected[0]))
    for found in run_ranks(3, lambda comm: trained_sometimes(Ranks(comm))):
        np.testing.assert_array_equal(found, expected)


def test_each_rank_has_memory_for_its_own_shards():
    net = normed().init(seed=1)

    def arrays(ranks=None):
        engine = Engine(net.held, net.graph.for_loss(), True, loss=ic.CrossEntropyLoss(), shard=3, ranks=ranks)
        with engine.alone():
            own = np.zeros((24, 1, 8, 8), "float32")[engine.part((1, 8, 8), 24)]
            engine.train(own, np.zeros(24, int), Gradient(net.held.flat.size), Moment(0, 0, ()), samples=24)
        return own.shape[0], sum(array.nbytes for array in engine.arrays())

    _, whole = arrays()
    for samples, found in run_ranks(4, lambda comm: arrays(Ranks(comm))):
        assert samples == 6
        assert found < whole / 2
