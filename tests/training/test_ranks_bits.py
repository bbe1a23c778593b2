"""A training that several ranks share: each of them ends with the bits that one process alone has."""

import numpy as np
import pytest
import strict_cupy
from fake_ranks import run_ranks
from helpers import Stop, assert_same_bits, everything, normal, timeless

import im2colnet as ic
from im2colnet.backend import registry
from im2colnet.metrics import f1_score

pytestmark = pytest.mark.usefixtures("one_thread")

# the last batch of an epoch has two images, which are two shards at most
DATA = normal(22, 2, 6, 6, dtype="float32"), np.arange(22) % 3
TEST = normal(13, 2, 6, 6, seed=1, dtype="float32"), np.arange(13) % 3
CROPS = [ic.transforms.RandomCrop(padding=1), ic.transforms.RandomHorizontalFlip()]


class Normalized(ic.Optimizer):
    """Steps of one length along the gradient: it must see all parameters at once."""

    def update(self, p, g, state, lr, t, work, xp):
        p -= lr / max(float(xp.sqrt(xp.square(g, dtype="float64").sum())), 1e-12) * g


def network(dropout=0.0):
    return ic.Sequential(
        [ic.Conv2d(2, 4, 3), ic.BatchNorm2d(4), ic.ReLU(), ic.Flatten(), ic.Dropout(dropout), ic.Linear(64, 3)]
    ).init(0)


def stream(epoch):
    order = np.random.default_rng(epoch).permutation(22)
    return ((DATA[0][rows], DATA[1][rows]) for rows in np.array_split(order, 3))


# the name of a case, then: what trains, arguments of Trainer, arguments of fit
CASES = {
    "sgd": ({}, {}),
    "adam and dropout": ({"optimizer": ic.Adam(0.01)}, {}),
    "an optimiser that sees all": ({"optimizer": Normalized(0.1)}, {}),
    "clipped and accumulated": ({"clip_norm": 0.5, "accumulate": 2, "optimizer": ic.Adam(ic.Cosine(0.01))}, {}),
    "groups": ({"groups": {"*.bias": {"lr": 0.01}}}, {}),
    "augmented": ({}, {"augment": CROPS}),
    "mixed": ({}, {"augment": [*CROPS, ic.transforms.MixUp(0.5)]}),
    "cut": ({}, {"augment": [ic.transforms.CutMix()]}),
    "normalized": ({}, {"normalize": True}),
    "batches": ({}, {"data": stream, "steps": 3}),
    "no last batch": ({}, {"drop_last": True}),
}
CALLBACKS = {
    "averages": lambda: [ic.callbacks.EMA(0.5)],
    "averages of epochs": lambda: [ic.callbacks.SWA(1)],
    "early stopping": lambda: [ic.callbacks.EarlyStopping(patience=1, min_delta=9.0, restore_best=True)],
    "stopped within an epoch": lambda: [Stop(5)],
}


def trained(comm, case="sgd", callbacks=list, dropout=0.3):
    options, more = CASES[case]
    trainer = ic.Trainer(network(dropout), seed=1, shard=3, ranks=comm or "none", metrics={"f1": f1_score}, **options)
    more = {"data": DATA} | more
    trainer.fit(more.pop("data"), 3, 10, validation=TEST, progress=False, callbacks=callbacks(), **more)
    return trainer


def found(trainer):
    """All that a training has led to, and what its trainer says of other images."""
    loss = trainer.step(DATA[0][:7], DATA[1][:7])
    return {
        **everything(trainer),
        "history": np.array([[*record.values()] for record in timeless(trainer.history)]),
        "loss": np.array(loss),
        "evaluation": np.array([*trainer.evaluate(TEST).values()]),
        "prediction": trainer.predict(TEST[0]),
        "scores": trainer.predict(TEST[0], scores=True),
        "mistakes": np.array([(each.index, each.predicted, each.probability) for each in trainer.mistakes(TEST)]),
        **{f"gradient of {name}": np.array(g) for name, g in trainer.gradients(TEST[0][:5], TEST[1][:5]).items()},
    }


@pytest.mark.parametrize("case", CASES)
def test_a_training_has_the_bits_of_one_process(case):
    alone = found(trained(None, case))
    assert len(alone["history"]) == 3
    for size in 2, 3:
        for of_rank in run_ranks(size, lambda comm: found(trained(comm, case))):
            assert_same_bits(of_rank, alone)


@pytest.mark.parametrize("callbacks", CALLBACKS)
def test_callbacks_do_the_same_on_every_rank(callbacks):
    alone = found(trained(None, callbacks=CALLBACKS[callbacks]))
    for of_rank in run_ranks(2, lambda comm: found(trained(comm, callbacks=CALLBACKS[callbacks]))):
        assert_same_bits(of_rank, alone)


@pytest.mark.parametrize("size", [1, 5, 8])
def test_any_number_of_ranks(size):
    """With 8 ranks some of them have no image of any batch."""
    alone = found(trained(None))
    for of_rank in run_ranks(size, lambda comm: found(trained(comm))):
        assert_same_bits(of_rank, alone)


def test_a_rank_and_the_number_of_ranks():
    assert run_ranks(3, lambda comm: (t := ic.Trainer(network(), ranks=comm)) and (t.rank, t.rank_count)) == [
        *((0, 3), (1, 3), (2, 3))
    ]
    trainer = ic.Trainer(network())
    assert (trainer.rank, trainer.rank_count) == (0, 1)


def test_predict_without_ranks_is_that_of_the_network():
    trainer = ic.Trainer(network())
    assert_same_bits(trainer.predict(TEST[0]), trainer.net.predict(TEST[0]))
    assert_same_bits(trainer.predict(TEST[0], scores=True), trainer.net.predict(TEST[0], scores=True))


def test_the_network_predicts_on_one_rank_alone():
    def work(comm):
        trainer = trained(comm)
        own = trainer.net.predict(TEST[0]) if trainer.rank == 1 else None
        return own, trainer.predict(TEST[0])

    (_, whole), (own, _) = run_ranks(2, work)
    assert_same_bits(own, whole)


def test_predictions_of_no_image_and_of_fewer_images_than_ranks():
    def work(comm):
        trainer = ic.Trainer(network(), shard=3, ranks=comm)
        return [trainer.predict(TEST[0][:n]) for n in (0, 1, 2)]

    expected = [network().predict(TEST[0][:n]) for n in (0, 1, 2)]
    for of_rank in run_ranks(3, work):
        for one, other in zip(of_rank, expected, strict=True):
            assert_same_bits(one, other)


def test_two_trainings_in_the_halves_of_a_job():
    """Ranks of different communicators know nothing of each other, and make different numbers of steps."""

    def half(comm):
        def work(_):
            return run_ranks(2, lambda own: found(trained(own, "adam and dropout" if comm.rank else "sgd")))

        return work(comm)

    first, second = run_ranks(2, half)
    for case, halves in (("sgd", first), ("adam and dropout", second)):
        alone = found(trained(None, case))
        for of_rank in halves:
            assert_same_bits(of_rank, alone)


# the stand-in's NumPy warns where CuPy is silent
@pytest.mark.filterwarnings("ignore:(overflow|invalid value) encountered:RuntimeWarning")
def test_float16_overflow_is_joined(monkeypatch):
    """The gradient overflows in the parameters of one rank only: the scale is halved on every rank."""
    backend = strict_cupy.cupy_backend()
    monkeypatch.setitem(registry.started, "strict", backend)  # as if it had been chosen by name
    monkeypatch.setattr(type(backend), "update_chunk", 72)  # the weights of one output
    targets = normal(8, 3, dtype="float32")
    targets[:, 0] *= 10

    def work(comm):
        net = ic.Sequential([ic.Flatten(), ic.Linear(72, 3, bias=False)]).init(0, backend=backend)
        trainer = ic.Trainer(net, ic.MSELoss(), seed=1, shard=4, ranks=comm, precision="float16")
        losses = [trainer.step(DATA[0][:8], targets) for _ in range(3)]
        return {**everything(trainer), "losses": np.array(losses), "scale": np.array(trainer.loss_scale.value)}

    (alone,) = run_ranks(1, work)
    assert alone["scale"] < 2**16
    for of_rank in run_ranks(2, work):
        assert_same_bits(of_rank, alone)
