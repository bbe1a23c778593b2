"""Optimisers against PyTorch's ten steps and the oracle's single ones, schedules against their formulas."""

import math

import numpy as np
import pytest
from helpers import assert_same_bits, normal, updates
from hypothesis import given, settings
from hypothesis import strategies as st
from im2colnet_numpy import NumpyBackend
from numpy.testing import assert_allclose

import im2colnet as ic
from im2colnet.testing import oracles

rates = st.floats(1e-4, 1.0)
decays = st.sampled_from([0.0, 1e-3, 0.3])


@settings(max_examples=60)
@given(lr=rates, momentum=st.sampled_from([0.0, 0.5, 0.95]), weight_decay=decays, nesterov=st.booleans())
def test_sgd(lr, momentum, weight_decay, nesterov):
    arguments = {"lr": lr, "momentum": momentum, "weight_decay": weight_decay, "nesterov": nesterov and momentum > 0}
    initial, gradients = normal(5), normal(6, 5, seed=1)
    p, velocity = initial, None
    for step, gradient in zip(updates(ic.SGD(**arguments), initial, gradients), gradients, strict=True):
        p, velocity = oracles.sgd_step(p, gradient, velocity, **arguments)
        assert_allclose(step, p, rtol=1e-11, atol=1e-13)


@settings(max_examples=60)
@given(
    lr=rates,
    b1=st.floats(0, 0.99),
    b2=st.floats(0, 0.999),
    eps=st.sampled_from([1e-8, 1e-3]),
    weight_decay=decays,
    decoupled=st.booleans(),
)
def test_adam(lr, b1, b2, eps, weight_decay, decoupled):
    arguments = {"lr": lr, "betas": (b1, b2), "eps": eps, "weight_decay": weight_decay}
    initial, gradients = normal(5), normal(6, 5, seed=1)
    optimizer, oracle = (ic.AdamW, oracles.adamw_step) if decoupled else (ic.Adam, oracles.adam_step)
    p, m, v = initial, 0.0, 0.0
    for t, (step, gradient) in enumerate(
        zip(updates(optimizer(**arguments), initial, gradients), gradients, strict=True)
    ):
        p, m, v = oracle(p, gradient, m, v, t + 1, **arguments)
        assert_allclose(step, p, rtol=1e-10, atol=1e-12)


def test_defaults_are_pytorch_s():
    assert ic.Adam() == ic.Adam(lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.0)
    assert ic.AdamW() == ic.AdamW(lr=1e-3, betas=[0.9, 0.999], eps=1e-8, weight_decay=1e-2)
    assert ic.SGD(0.1) == ic.SGD(lr=0.1, momentum=0.0, weight_decay=0.0, nesterov=False)
    assert ic.SGD(0.1).state_slots() == ()
    assert len(ic.SGD(0.1, momentum=0.9).state_slots()) == 1
    assert len(ic.Adam().state_slots()) == len(ic.AdamW().state_slots()) == 2


@pytest.mark.parametrize("optimizer", [ic.SGD(0.1, 0.9, 0.01, True), ic.Adam(0.01, weight_decay=0.1), ic.AdamW(0.01)])
@pytest.mark.parametrize("chunk", [1, 7, 1000])
def test_an_update_in_parts_is_the_whole_update(optimizer, chunk):
    """Workers share the elements out, and update them in chunks that stay in the cache."""
    x, labels = normal(8, 1, 8, 8, dtype="float32"), [0, 1] * 4

    class Chunked(NumpyBackend):
        update_chunk = chunk

    def trained(threads, backend=None):
        net = ic.models.notebook().init(0, backend=backend)
        teacher = ic.Trainer(net, optimizer=optimizer, shard=2)
        with ic.num_threads(threads):
            for _ in range(3):
                teacher.step(x, labels)
        return net.state_dict()

    whole = trained(1)
    assert_same_bits(trained(1, Chunked()), whole)
    assert_same_bits(trained(3, Chunked()), whole)


# Schedules ----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("warmup", [0, 1, 4])
def test_constant(warmup):
    schedule = ic.Constant(0.5, warmup)
    rates = [schedule(step, None) for step in range(8)]
    assert rates == pytest.approx([0.5 * min(1, (step + 1) / (warmup + 1)) for step in range(8)])
    assert rates[warmup:] == [0.5] * (8 - warmup)


@pytest.mark.parametrize("warmup", [0, 3])
def test_cosine(warmup):
    """Linear to ``lr``, then eq. 5 of Loshchilov & Hutter 2017 over what is left."""
    schedule = ic.Cosine(0.8, warmup=warmup, final=0.1, steps=10)
    for step in range(10):
        if step < warmup:
            expected = 0.8 * (step + 1) / (warmup + 1)
        else:
            expected = 0.1 + (0.8 - 0.1) / 2 * (1 + math.cos(math.pi * (step - warmup) / (10 - warmup)))
        assert schedule(step, None) == pytest.approx(expected, rel=1e-14)
    assert schedule(warmup, None) == 0.8
    assert schedule(10, None) == schedule(500, None) == pytest.approx(0.1)
    assert ic.Cosine(0.8, warmup, 0.1)(7, 10) == schedule(7, 99)  # the training's length, unless it has one of its own


def test_cosine_without_a_length():
    with pytest.raises(ic.ShapeError, match="steps"):
        ic.Cosine(0.1)(0, None)
    with pytest.raises(ic.ShapeError, match="steps"):
        ic.Trainer(ic.models.notebook(), optimizer=ic.SGD(ic.Cosine(0.1))).step(normal(2, 1, 8, 8), [0, 1])


def test_a_schedule_sets_the_rate_of_each_step():
    x, labels = normal(4, 1, 8, 8), [0, 1, 1, 0]
    schedule = ic.Cosine(0.3, warmup=2, steps=6)
    scheduled = ic.Trainer(ic.models.notebook().init(0, "float64"), optimizer=ic.SGD(schedule))
    net = ic.models.notebook().init(0, "float64")
    for step in range(6):
        scheduled.step(x, labels)
        ic.Trainer(net, optimizer=ic.SGD(schedule(step, None))).step(x, labels)
        assert_allclose(scheduled.net.flat, net.flat, rtol=1e-13)


def test_numbers_and_schedules():
    assert ic.SGD(0.1).schedule(7, None) == 0.1
    assert ic.SGD(ic.Constant(0.1, 1)).schedule(0, None) == 0.05
    assert ic.Adam(ic.Cosine(1, steps=2)).schedule(1, None) == pytest.approx(0.5)
    assert ic.SGD(1).schedule(0, None) == 1.0


class Halving(ic.Schedule):
    """Halves every other step."""

    def __init__(self, lr):
        self.lr = lr

    def __call__(self, step, total):
        return self.lr * 0.5 ** (step // 2)


def halving(step, total):
    return 0.1 * 0.5 ** (step // 2)


@pytest.mark.parametrize("lr", [Halving(0.1), halving, lambda step, total: halving(step, total)])
def test_a_schedule_of_one_s_own(lr):
    images, labels = normal(8, 1, 8, 8), np.arange(8) % 2
    trainer = ic.Trainer(ic.models.notebook(), optimizer=ic.SGD(lr))
    assert trainer.fit((images, labels), 3, 4)["lr"] == [0.1, 0.05, 0.025]
    assert trainer.optimizer.schedule is lr


def test_a_checkpoint_holds_schedules_but_no_functions(tmp_path):
    images, labels = normal(8, 1, 8, 8), np.arange(8) % 2
    trainer = ic.Trainer(ic.models.notebook(), optimizer=ic.SGD(Halving(0.2), momentum=0.9))
    trainer.step(images, labels)
    trainer.save(tmp_path / "a")
    again = ic.Trainer.load(tmp_path / "a")
    assert (type(again.optimizer.lr), again.optimizer.lr.lr) == (Halving, 0.2)
    assert again.step(images, labels) == trainer.step(images, labels)
    trainer = ic.Trainer(ic.models.notebook(), optimizer=ic.SGD(halving))
    for save in (lambda: trainer.save(tmp_path / "b"), lambda: trainer.fit((images, labels), 1, directory=tmp_path)):
        with pytest.raises(
            ic.CheckpointError, match=r"cannot hold <function halving.*derive a class from ic\.Schedule"
        ):
            save()
    assert trainer.epoch == 0


def test_a_schedule_must_say_what_it_does():
    with pytest.raises(NotImplementedError, match="must define __call__"):
        ic.Trainer(ic.models.notebook(), optimizer=ic.SGD(ic.Schedule())).step(normal(2, 1, 8, 8), [0, 1])


# Kernels of backends ------------------------------------------------------------------------------------------------
class Shifted(ic.SGD):
    """Has an ``update`` of its own."""

    def update(self, p, g, state, lr, t, work, xp):
        p -= 1


class StillSGD(Shifted):
    """Says again what holds for that."""

    rule = "sgd"


class Renamed(ic.Adam):
    """Is nothing but another name, with other settings."""

    eps = 1e-7


@pytest.mark.parametrize(
    ("optimizer", "rule"),
    [(ic.SGD, "sgd"), (ic.Adam, "adam"), (ic.AdamW, "adam"), (Shifted, None), (StillSGD, "sgd"), (Renamed, "adam")],
)
def test_a_kernel_is_only_taken_for_the_update_that_it_stands_for(optimizer, rule):
    assert optimizer.kernel() == rule
    assert optimizer.works_elementwise() == (optimizer not in (Shifted, StillSGD))


# Errors -------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: ic.SGD(-0.1), "lr must be a number of at least 0, or Constant(...) or Cosine(...); got -0.1"),
        (lambda: ic.SGD(float("nan")), "lr must be a number of at least 0, or Constant(...) or Cosine(...); got nan"),
        (lambda: ic.SGD("0.1"), "or Constant(...) or Cosine(...); got '0.1'"),
        (lambda: ic.SGD(None), "lr must be a number"),
        (lambda: ic.SGD(True), "lr must be a number"),
        (lambda: ic.Adam(ic.Cosine), "lr must be a number"),
        (lambda: ic.SGD(0.1, momentum=1.0), "momentum must be a number of at least 0 and less than 1; got 1.0"),
        (lambda: ic.SGD(0.1, momentum=-0.5), "momentum must be"),
        (lambda: ic.SGD(0.1, weight_decay=-1e-3), "weight_decay must be a number of at least 0"),
        (lambda: ic.SGD(0.1, nesterov=True), "nesterov needs a momentum"),
        (lambda: ic.Adam(betas=(0.9, 1.0)), "betas must be a number of at least 0 and less than 1; got 1.0"),
        (lambda: ic.Adam(betas=(-0.1, 0.9)), "betas must be"),
        (lambda: ic.Adam(eps=-1e-8), "eps must be a number of at least 0"),
        (lambda: ic.AdamW(weight_decay=-1.0), "weight_decay must be a number of at least 0"),
        (lambda: ic.AdamW(lr=-1.0), "lr must be a number of at least 0"),
    ],
)
def test_bad_arguments(make, text):
    with pytest.raises(ic.ShapeError) as error:
        make()
    assert text in str(error.value)


def test_optimizers_do_not_change():
    with pytest.raises(AttributeError):
        ic.SGD(0.1).lr = 0.2


@pytest.mark.parametrize("number", [np.float32(0.25), np.float64(0.25), np.int64(1)])
def test_a_rate_may_be_any_number(number):
    assert ic.SGD(number).schedule(0, None) == float(number)


@pytest.mark.parametrize(
    "make",
    [
        lambda: ic.Constant(-0.1),
        lambda: ic.Constant(0.1, warmup=-1),
        lambda: ic.Cosine(-0.1),
        lambda: ic.Cosine(0.1, warmup=-1),
        lambda: ic.Cosine(0.1, steps=-5),
        lambda: ic.Adam(betas=(0.9,)),
    ],
)
def test_bad_schedules_and_betas_are_refused_when_they_are_made(make):
    with pytest.raises(ic.ShapeError):
        make()
