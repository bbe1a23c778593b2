"""Optimisers against PyTorch's ten steps and the oracle's single ones, schedules against their formulas."""

import math
import warnings
from functools import partial

import numpy as np
import pytest
import strict_cupy
from helpers import assert_same_bits, normal, updates
from hypothesis import given, settings
from hypothesis import strategies as st
from im2colnet_numpy import NumpyBackend
from numpy.testing import assert_allclose
from reference.torch_values import every_case

import im2colnet as ic
from im2colnet.testing import oracles
from im2colnet.testing.cases import OPTIMIZERS

rates = st.floats(1e-4, 1.0)
decays = st.sampled_from([0.0, 1e-3, 0.3])


@settings(max_examples=60)
@given(lr=rates, momentum=st.sampled_from([0.0, 0.5, 0.95]), weight_decay=decays, nesterov=st.booleans())
def test_sgd(lr, momentum, weight_decay, nesterov):
    arguments = {"lr": lr, "momentum": momentum, "weight_decay": weight_decay, "nesterov": nesterov and momentum > 0}
    initial, gradients = normal(5), normal(6, 5, seed=1)
    p, state, found = initial, (), updates(ic.SGD(**arguments), initial, gradients)
    for t, (step, gradient) in enumerate(zip(found, gradients, strict=True)):
        p, state = oracles.sgd_step(p, gradient, state, t + 1, **arguments)
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
    p, state, found = initial, (), updates(optimizer(**arguments), initial, gradients)
    for t, (step, gradient) in enumerate(zip(found, gradients, strict=True)):
        p, state = oracle(p, gradient, state, t + 1, **arguments)
        assert_allclose(step, p, rtol=1e-10, atol=1e-12)


def test_defaults_are_pytorch_s():
    assert ic.Adam() == ic.Adam(lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.0)
    assert ic.AdamW() == ic.AdamW(lr=1e-3, betas=[0.9, 0.999], eps=1e-8, weight_decay=1e-2)
    assert ic.SGD(0.1) == ic.SGD(lr=0.1, momentum=0.0, weight_decay=0.0, nesterov=False)
    assert ic.SGD(0.1).state_slots() == ()
    assert len(ic.SGD(0.1, momentum=0.9).state_slots()) == 1
    assert len(ic.Adam().state_slots()) == len(ic.AdamW().state_slots()) == 2
    assert ic.RMSprop() == ic.RMSprop(0.01, 0.99, 1e-8, 0.0, 0.0, False, False)
    assert ic.Adagrad() == ic.Adagrad(0.01, 0.0, 0.0, 0.0, 1e-10, False)


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: ic.SGD(0.1, 0.9, nesterov=True, dampening=0.1), "nesterov needs dampening=0, got dampening=0.1"),
        (lambda: ic.SGD(0.1, nesterov=True), "nesterov needs a momentum"),
        (lambda: ic.SGD(0.1, maximize=2), "maximize must be True or False, got 2"),
        (lambda: ic.SGD(0.1, dampening=-1), "dampening must be a number of at least 0"),
        (lambda: ic.Adam(amsgrad="no"), "amsgrad must be True or False, got 'no'"),
        (lambda: ic.RMSprop(alpha=1), "alpha must be a number of at least 0 and less than 1"),
        (lambda: ic.RMSprop(centered=None), "centered must be True or False, got None"),
        (lambda: ic.Adagrad(lr_decay=np.nan), "lr_decay must be a number of at least 0"),
    ],
)
def test_wrong_arguments(make, match):
    with pytest.raises(ic.ShapeError, match=match):
        make()


PIECEWISE = [ic.SGD(0.1, 0.9, 0.01, True), ic.Adam(0.01, weight_decay=0.1), ic.AdamW(0.01, amsgrad=True)]
PIECEWISE += [ic.RMSprop(0.01, momentum=0.5, centered=True), ic.Adagrad(0.1)]


@pytest.mark.parametrize("optimizer", PIECEWISE, ids=repr)
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


@every_case("schedule")
def test_schedules_give_pytorch_s_rates(config, arrays):
    """Where PyTorch's optimiser has made as many steps, which are a plateau's epochs."""
    config = dict(config)
    name, steps, lr, metrics = (config.pop(key) for key in ("name", "steps", "lr", "metrics"))
    kind, parts, total = getattr(ic, name), config.pop("parts"), None
    if name == "OneCycleLR":
        total = config.pop("total_steps")
        schedule = kind(**config)
    elif name == "SequentialLR":
        schedule = kind([getattr(ic, part)(lr, **given) for part, given in parts], **config)
    elif name == "PolynomialLR":
        schedule = kind(lr, steps=config.pop("total_iters"), **config)
    else:
        schedule = kind(lr, **config)
    if metrics:
        found = [schedule(0, None, [{"loss": value} for value in metrics[:step]]) for step in range(steps)]
    elif name == "SequentialLR":
        found = [schedule(step, total, []) for step in range(steps)]
    else:
        found = [schedule(step, total) for step in range(steps)]
    assert_allclose(found, arrays["rates"], rtol=1e-12)


def test_milestones_as_parts_of_the_training():
    schedule = ic.MultiStepLR(1.0, [0.5, 0.75])
    assert [schedule(step, 8) for step in (0, 3, 4, 5, 6, 7)] == pytest.approx([1, 1, 0.1, 0.1, 0.01, 0.01])
    chain = ic.SequentialLR([ic.Constant(1.0, warmup=1), 0.5], [0.25])
    assert [chain(step, 8) for step in range(4)] == [0.5, 1.0, 0.5, 0.5]
    assert ic.SequentialLR([0.5, ic.Cosine(1.0)], [0.5])(9, 16) == ic.Cosine(1.0)(1, 8)


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: ic.MultiStepLR(1.0, [3, 2]), "milestones must grow"),
        (lambda: ic.MultiStepLR(1.0, [0.5, 2]), "all steps .* or all parts of the training"),
        (lambda: ic.MultiStepLR(1.0, 3), "milestones must be a sequence of steps"),
        (lambda: ic.MultiStepLR(1.0, [1.5]), "each of milestones must be a positive integer, got 1.5"),
        (lambda: ic.StepLR(1.0, 0), "step_size must be a positive integer"),
        (lambda: ic.ExponentialLR(1.0, -1), "gamma must be a number of at least 0"),
        (lambda: ic.PolynomialLR(1.0)(0, None), "needs its length"),
        (lambda: ic.MultiStepLR(1.0, [0.5])(0, None), "needs its length"),
        (lambda: ic.OneCycleLR(1.0, pct_start=1.5), "pct_start must be at most 1, got 1.5"),
        (lambda: ic.OneCycleLR(1.0, pct_start=0.6, three_phase=True), "pct_start must be at most 0.5"),
        (lambda: ic.OneCycleLR(1.0, anneal_strategy="sin"), "anneal_strategy must be 'cos' or 'linear'"),
        (lambda: ic.SequentialLR([1.0], [3]), "one milestone between two schedules, got 1 schedules and 1 milestones"),
        (lambda: ic.SequentialLR(1.0, [3]), "one milestone between two schedules"),
        (lambda: ic.ReduceLROnPlateau(1.0, mode="least"), "mode must be 'min' or 'max', got 'least'"),
        (lambda: ic.ReduceLROnPlateau(1.0, factor=1), "factor must be a number of at least 0 and less than 1"),
        (lambda: ic.ReduceLROnPlateau(1.0, monitor="acc")(0, 1, [{"loss": 1.0}]), "no 'acc' in the history"),
    ],
)
def test_wrong_arguments_of_schedules(make, match):
    with pytest.raises(ic.ShapeError, match=match):
        make()


@pytest.mark.parametrize(
    "lr", [ic.ReduceLROnPlateau(0.5, patience=0, threshold=0.5, factor=0.1), ic.OneCycleLR(0.1)], ids=repr
)
def test_a_schedule_goes_on_where_a_checkpoint_stands(lr, tmp_path):
    """Also one that depends on the history: the rates after a resumption are those without an interruption."""
    data = normal(24, 1, 8, 8, dtype="float32"), np.arange(24) % 2
    whole, first = (ic.Trainer(ic.models.notebook().init(0), optimizer=ic.SGD(lr)) for _ in range(2))
    whole.fit(data, 6, 8)
    first.fit(data, 3, 8)
    first.save(tmp_path / "c.safetensors")
    again = ic.Trainer.load(tmp_path / "c.safetensors")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ic.errors.TrainingWarning)
        again.fit(data, 6, 8)
    if isinstance(lr, ic.ReduceLROnPlateau):
        assert again.history["lr"] == whole.history["lr"]
        assert min(again.history["lr"]) < 0.5
        assert_same_bits(again.net.flat, whole.net.flat)
    assert again.history["lr"][3:] == whole.history["lr"][3:]


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


class Drifting(ic.Optimizer):
    """Has an argument of its own."""

    def __init__(self, lr, drift=0.9):
        super().__init__(lr)
        self.drift = drift


def test_classes_of_one_s_own_are_shown_and_compared_with_their_own_arguments():
    assert repr(Halving(0.1)) == "Halving(0.1)"
    assert repr(Drifting(Halving(0.1), 0.5)) == "Drifting(lr=Halving(0.1), drift=0.5)"
    assert Drifting(0.1, 0.5) == Drifting(0.1, 0.5)
    assert Drifting(0.1, 0.5) != Drifting(0.1, 0.7)
    assert repr(ic.SGD(0.1)).startswith("SGD(lr=0.1, momentum=0.0,")


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
    [
        (ic.SGD, "sgd"),
        (partial(ic.SGD, momentum=0.5, dampening=0.1, maximize=True), "sgd"),
        (ic.Adam, "adam"),
        (partial(ic.Adam, amsgrad=True, maximize=True), "adam"),
        (ic.AdamW, "adam"),
        (ic.RMSprop, "rmsprop"),
        (ic.Adagrad, "adagrad"),
        (Shifted, None),
        (StillSGD, "sgd"),
        (Renamed, "adam"),
    ],
)
def test_a_kernel_is_only_taken_for_the_update_that_it_stands_for(optimizer, rule):
    assert optimizer(0.1).kernel() == rule
    assert optimizer(0.1).works_elementwise() == (optimizer not in (Shifted, StillSGD))


@pytest.mark.parametrize("optimizer", [case.optimizer for case in OPTIMIZERS if case.optimizer.kernel()], ids=repr)
def test_every_rule_has_a_cuda_kernel(optimizer):
    """It changes the parameters and every vector of the state, and takes as many scalars as there are."""
    backend = strict_cupy.cupy_backend()
    assert optimizer.kernel() in backend.updates
    p, g = (backend.asarray(normal(3, seed=seed)) for seed in (0, 1))
    state = {name: backend.asarray(normal(3, seed=2) ** 2 / 100) for name in optimizer.state_slots()}
    before = {name: vector.get() for name, vector in state.items()}
    backend.update(optimizer, p, g, state, 0.1, 2, None)
    assert (p.get() != normal(3)).all()
    assert {name for name, vector in state.items() if (vector.get() != before[name]).all()} == state.keys()


def test_scalars_and_vectors_that_are_not_the_kernel_s():
    class Old(ic.SGD):
        def scalars(self, lr, t):
            return lr, 0.9, 0.0, False

    backend = strict_cupy.cupy_backend()
    p, g, v = (backend.asarray(normal(3, seed=seed)) for seed in (0, 1, 2))
    with pytest.raises(ic.BackendError, match=r"'sgd' takes .* scalars lr, .* sign; .* gave 4 numbers"):
        backend.update(Old(0.1), p, g, {}, 0.1, 1, None)
    with pytest.raises(ic.BackendError, match=r"'sgd' takes the vectors velocity .* state_slots\(\) are \(speed\)"):
        backend.update(ic.SGD(0.1, 0.9), p, g, {"speed": v}, 0.1, 1, None)
    assert (p.get() == normal(3)).all()


def test_the_largest_square_of_amsgrad_stays_nan(every_backend):
    p, g, work = (every_backend.asarray(normal(2, seed=seed)) for seed in (0, 1, 2))
    state = {name: every_backend.asarray(np.array([np.nan, 1.0])) for name in ("mean", "square", "max_square")}
    state["square"] = every_backend.asarray(np.array([0.5, np.nan]))
    with every_backend.context():
        every_backend.update(ic.Adam(amsgrad=True), p, g, state, 0.1, 2, work)
    assert np.isnan(every_backend.to_numpy(state["max_square"])).all()


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
