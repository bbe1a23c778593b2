"""Learning rates of a training that goes on in another way than it began, and what changes of a trainer do."""

import math
import warnings

import numpy as np
import pytest
from helpers import assert_same_bits, everything, normal

import im2colnet as ic

pytestmark = pytest.mark.usefixtures("one_thread")


class ByThirds(ic.Constant):
    """Half of the rate after each third of the training."""

    def __call__(self, step, total):
        return self.lr * 0.5 ** int(3 * step / total) if step else self.lr


class ByThirtySteps(ic.Constant):
    """Half of the rate after each 30 steps, however many there are."""

    def __call__(self, step, total):
        return self.lr * 0.5 ** (step // 30)


class Watched(ic.SGD):
    """Remembers the rates."""

    elementwise = True

    def __init__(self, lr):
        super().__init__(lr)
        object.__setattr__(self, "seen", {})

    def update(self, p, g, state, lr, t, work, xp):
        self.seen[t] = lr
        super().update(p, g, state, lr, t, work, xp)


def linear():
    return ic.Sequential([ic.Flatten(), ic.Linear(64, 3)])


def data(n=40):
    return normal(n, 1, 8, 8, dtype="float32"), np.arange(n) % 3


def rates(schedule, *fits):
    """The rate of each step of several fits (images, epochs, batch size), and the part of the epochs done before it."""
    optimizer = Watched(schedule)
    trainer, plan, done = ic.Trainer(linear(), optimizer=optimizer), [], 0
    for n, epochs, batch_size in fits:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ic.TrainingWarning)
            trainer.fit(data(n), epochs, batch_size)
        steps = -(-n // batch_size)
        plan += [((epoch + batch / steps) / epochs) for epoch in range(done, epochs) for batch in range(steps)]
        done = epochs
        assert trainer.history[-1]["lr"] == optimizer.seen[max(optimizer.seen)]
    assert list(optimizer.seen) == list(range(1, len(plan) + 1))
    return list(optimizer.seen.values()), plan


CHANGES = {
    "a larger batch": [(40, 2, 4), (40, 4, 20)],
    "a smaller batch": [(40, 2, 20), (40, 4, 4)],
    "more images": [(8, 2, 4), (40, 4, 4)],
    "fewer images": [(40, 2, 4), (10, 4, 4)],
    "batch and images": [(40, 3, 4), (13, 4, 5), (40, 6, 3)],
    "nothing": [(40, 4, 4)],
    "a fit for each epoch": [(40, epochs, 8) for epochs in (1, 2, 3, 4)],
}


@pytest.mark.parametrize("fits", CHANGES.values(), ids=CHANGES)
def test_a_cosine_follows_the_epochs_done(fits):
    found, progress = rates(ic.Cosine(0.8, final=0.1), *fits)
    expected = [0.1 + 0.7 * (1 + math.cos(math.pi * p)) / 2 for p in progress]
    assert found == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("fits", CHANGES.values(), ids=CHANGES)
def test_a_schedule_of_one_s_own_follows_the_epochs_done(fits):
    found, progress = rates(ByThirds(0.8), *fits)
    # where a third ends at a step, rounding may put it on either side
    near = [(rate, p) for rate, p in zip(found, progress, strict=True) if abs(3 * p - round(3 * p)) > 1e-9]
    assert len(near) > 3
    assert [rate for rate, _ in near] == [0.8 * 0.5 ** int(3 * p) for _, p in near]


@pytest.mark.parametrize("fits", CHANGES.values(), ids=CHANGES)
@pytest.mark.parametrize("make", [ic.Constant, ic.Cosine])
def test_a_warm_up_counts_steps_whatever_the_batch_size(make, fits):
    warmup = 15
    found, _ = rates(make(0.8, warmup), *fits)
    count = min(warmup, len(found))
    assert found[:count] == pytest.approx([0.8 * (step + 1) / (warmup + 1) for step in range(count)])
    if make is ic.Constant:
        assert found[warmup:] == [0.8] * (len(found) - count)
    else:
        (n, epochs, batch_size), before = fits[-1], fits[-2][1] if len(fits) > 1 else 0
        last = (epochs - before) * -(-n // batch_size)  # steps of the last fit
        falling = found[max(warmup, len(found) - last) :]
        assert falling == sorted(falling, reverse=True)
        assert falling[-1] < 0.3


@pytest.mark.parametrize("fits", CHANGES.values(), ids=CHANGES)
def test_a_length_of_its_own_counts_steps_whatever_fit_asks_for(fits):
    found, _ = rates(ic.Cosine(0.8, warmup=3, steps=25), *fits)
    assert found == [ic.Cosine(0.8, warmup=3, steps=25)(step, None) for step in range(len(found))]
    found, _ = rates(ByThirtySteps(0.8), *fits)
    assert found == [0.8 * 0.5 ** (step // 30) for step in range(len(found))]


def test_an_unchanged_training_has_a_whole_total_and_the_same_bits(tmp_path):
    seen = []

    class Asked(ic.Cosine):
        def __call__(self, step, total):
            seen.append((step, total))
            return super().__call__(step, total)

    trainer = ic.Trainer(linear(), optimizer=ic.SGD(Asked(0.1, warmup=2)))
    trainer.fit(data(), 3, 16)
    assert sorted(set(seen)) == [(step, 9) for step in range(9)]
    assert all(type(total) is int for _, total in seen)


class Stop:
    """A display that raises after a number of steps."""

    def __init__(self, steps, error=KeyboardInterrupt):
        self.left, self.error = steps, error

    def step(self, progress):
        self.left -= 1
        if not self.left:
            raise self.error

    def epoch(self, record):
        pass


def test_steps_of_one_s_own_before_fit_are_no_progress():
    optimizer = Watched(ic.Cosine(0.8, steps=None))
    trainer = ic.Trainer(linear(), optimizer=Watched(0.5))
    for _ in range(5):
        trainer.step(*data(8))
    trainer.optimizer = optimizer
    trainer.fit(data(), 2, 10)
    expected = [0.8 * (1 + math.cos(math.pi * i / 8)) / 2 for i in range(8)]
    assert list(optimizer.seen.values()) == pytest.approx(expected)
    assert trainer.step(*data(8)) > 0
    assert optimizer.seen[max(optimizer.seen)] == pytest.approx(0)  # the training is over


# What is said -------------------------------------------------------------------------------------------------------
def test_a_longer_training_says_that_the_rate_rises_again():
    trainer = ic.Trainer(linear(), optimizer=ic.SGD(ic.Cosine(0.1)))
    trainer.fit(data(), 5, 10)
    with pytest.warns(
        ic.TrainingWarning, match=r"continues at 0\.05, not at 0, .*epochs=10 .*epochs=5 .*Cosine\(steps"
    ):
        trainer.fit(data(), 10, 10)
    trainer = ic.Trainer(linear(), optimizer=ic.SGD(ic.Cosine(0.1)))
    trainer.fit(data(), 1, 10)
    for epoch in range(2, 5):
        with pytest.warns(ic.TrainingWarning, match=r"one for each epoch, .* Cosine\(steps=\.\.\.\)"):
            trainer.fit(data(), epoch, 10)


@pytest.mark.parametrize("schedule", [0.1, ic.Constant(0.1, warmup=3), ic.Cosine(0.1, steps=100)])
def test_nothing_is_said_where_the_rate_stays(schedule):
    trainer = ic.Trainer(linear(), optimizer=ic.SGD(schedule))
    for n, epochs, batch_size in ((40, 1, 10), (40, 2, 20), (20, 4, 5), (20, 3, 5)):
        trainer.fit(data(n), epochs, batch_size)
    assert trainer.epoch == 4
    trainer = ic.Trainer(linear(), optimizer=ic.SGD(ic.Cosine(0.1)))
    with pytest.raises(KeyboardInterrupt):
        trainer.fit(data(), 4, 10, display=Stop(8))
    trainer.fit(data(24), 4, 8)  # as far as before


def test_a_display_may_say_it(capsys):
    from im2colnet.show.progress import PlainDisplay

    class Said(PlainDisplay):
        def __init__(self):
            self.texts = []

        def say(self, text):
            self.texts.append(text)

        def epoch(self, record):
            pass

    display, trainer = Said(), ic.Trainer(linear(), optimizer=ic.SGD(ic.Cosine(0.1)))
    trainer.fit(data(), 1, 10, display=display)
    assert display.texts == []
    trainer.fit(data(), 2, 10, display=display)
    assert len(display.texts) == 1
    assert "epochs=2" in display.texts[0]


def test_a_fit_that_has_nothing_to_do_changes_nothing():
    trainer = ic.Trainer(linear(), optimizer=ic.SGD(ic.Cosine(0.1)))
    trainer.fit(data(), 4, 10)
    before = trainer.steps, trainer.epoch, list(trainer.history)
    trainer.fit(data(20), 2, 5)
    assert (trainer.steps, trainer.epoch, list(trainer.history)) == before


@pytest.mark.parametrize("rate", [float("nan"), float("inf"), -0.1, "0.1", None, True, 1j, [0.1], np.array([0.1, 0.2])])
def test_a_schedule_that_gives_no_rate_is_named(rate):
    class Wrong(ic.Constant):
        def __call__(self, step, total):
            return rate if step == 2 else self.lr

    trainer = ic.Trainer(linear(), optimizer=ic.SGD(Wrong(0.1)))
    with pytest.raises(ic.ShapeError, match=r"the learning rate that .*Wrong.* gives for step 2 of 8 must be a number"):
        trainer.fit(data(), 2, 10)
    assert everything(trainer)["step"] == 2


@pytest.mark.parametrize("kind", [np.float32, np.float64, np.array, int])
def test_a_schedule_may_give_any_number(kind, tmp_path):
    class Numbers(ic.Constant):
        def __call__(self, step, total):
            return kind(1)

    trainer = ic.Trainer(linear(), optimizer=ic.SGD(Numbers(0.1)))
    trainer.fit(data(), 1, 20, directory=tmp_path)
    other = ic.Trainer(linear(), optimizer=ic.SGD(1.0))
    other.fit(data(), 1, 20)
    assert_same_bits(trainer.net.state_dict(), other.net.state_dict())
    assert type(trainer.history["lr"][0]) is float


@pytest.mark.parametrize(
    "make",
    [
        lambda: ic.SGD(10**400),
        lambda: ic.SGD(b"0.1"),
        lambda: ic.SGD(np.True_),
        lambda: ic.SGD(np.array([0.1])),
        lambda: ic.SGD(float("inf")),
        lambda: ic.Constant(float("nan")),
        lambda: ic.Cosine("0.1"),
        lambda: ic.Cosine(0.1, final=float("nan")),
        lambda: ic.Cosine(0.1, final="0"),
        lambda: ic.SGD(ic.Cosine),
        lambda: ic.SGD(0.1, 0.9, nesterov="no"),
        lambda: ic.Adam(eps=float("inf")),
        lambda: ic.Cosine(0.1, steps=0),
        lambda: ic.Cosine(0.1, steps=True),
        lambda: ic.Constant(0.1, warmup="3"),
    ],
)
def test_bad_numbers_are_refused(make):
    with pytest.raises(ic.ShapeError):
        make()


# What a trainer's attributes do -------------------------------------------------------------------------------------
class TwiceTheLoss(ic.CrossEntropyLoss):
    stateless = True

    def __call__(self, logits, labels, scale, metrics, dlogits, backend):
        super().__call__(logits, labels, scale, metrics, dlogits, backend)
        metrics[0] *= 2
        if dlogits is not None:
            dlogits *= 2


@pytest.mark.parametrize("threads", [1, 2])
def test_another_loss_holds_for_steps_and_evaluation(threads, monkeypatch):
    ic.set_num_threads(threads)
    x, labels = data(64)
    trainers = [ic.Trainer(linear(), optimizer=ic.SGD(0.1), shard=8) for _ in range(2)]
    for trainer in trainers:
        for _ in range(6):  # so many that processes take over
            trainer.step(x, labels)
    trainers[0].loss = TwiceTheLoss()
    trainers[1].optimizer = ic.SGD(0.2)
    for _ in range(4):
        doubled, single = (trainer.step(x, labels) for trainer in trainers)
        assert doubled == pytest.approx(2 * single)
    doubled, single = (trainer.evaluate((x, labels))["loss"] for trainer in trainers)
    assert doubled == pytest.approx(2 * single)
    np.testing.assert_allclose(trainers[0].net.flat, trainers[1].net.flat, rtol=1e-5, atol=1e-7)


def test_another_optimizer_goes_on_with_the_state_or_is_refused():
    x, labels = data()
    trainer = ic.Trainer(linear(), optimizer=ic.SGD(0.1))
    trainer.optimizer = ic.SGD(0.1, momentum=0.9)  # nothing has been kept yet
    other = ic.Trainer(linear(), optimizer=ic.SGD(0.1, momentum=0.9))
    for each in (trainer, other):
        each.step(x, labels)
    for wrong in (ic.Adam(), ic.SGD(0.1)):
        with pytest.raises(ic.FrozenError, match=r"after 1 step: its state is velocity.*make a new Trainer"):
            trainer.optimizer = wrong
    trainer.optimizer = ic.SGD(0.01, momentum=0.5)
    velocity = everything(trainer)["slot velocity"]
    trainer.step(x, labels)
    other.step(x, labels)
    assert not np.array_equal(velocity, everything(trainer)["slot velocity"])
    assert not np.array_equal(trainer.net.flat, other.net.flat)
    with pytest.raises(ic.ShapeError, match="optimizer must be"):
        trainer.optimizer = "adam"
    with pytest.raises(ic.ShapeError, match="loss must be"):
        trainer.loss = ic.SGD(0.1)


@pytest.mark.parametrize(
    ("make", "name", "value"),
    [
        (lambda: ic.Trainer(linear()), "net", linear()),
        (lambda: ic.Trainer(linear()), "seed", 3),
        (lambda: ic.Conv2d(1, 2, 3), "stride", 2),
        (lambda: ic.Conv2d(1, 2, 3), "padding", "same"),
        (lambda: ic.Conv2d(1, 2, 3), "bias", False),
        (lambda: ic.Linear(3, 2), "out_features", 5),
        (lambda: ic.MaxPool2d(2), "kernel_size", 3),
        (lambda: ic.AvgPool2d(2), "ceil_mode", True),
        (lambda: ic.BatchNorm2d(2), "affine", False),
        (lambda: ic.ZeroPadShortcut(2, 4), "stride", 2),
        (lambda: linear().init(0), "backend", None),
        (lambda: linear().init(0), "dtype", "float64"),
        (lambda: ic.Loader(ic.Dataset(*data()), 4), "batch_size", 8),
        (lambda: ic.Loader(ic.Dataset(*data()), 4), "dataset", None),
    ],
)
def test_what_something_else_was_built_from_cannot_change(make, name, value):
    it = make()
    before = getattr(it, name)
    with pytest.raises(ic.FrozenError, match=rf"\b{name}\b|keeps"):
        setattr(it, name, value)
    assert getattr(it, name) is before


def test_what_a_layer_reads_at_every_step_may_change():
    x, labels = data()
    nets = [
        ic.Sequential([ic.Conv2d(1, 4, 3), ic.BatchNorm2d(4), ic.Dropout(0.2), ic.Flatten(), ic.Linear(144, 3)])
        for _ in range(2)
    ]
    nets[1].layers[2].p, nets[1].layers[1].momentum, nets[1].layers[1].eps = 0.6, 0.5, 0.1
    trainers = [ic.Trainer(net, seed=1) for net in nets]
    nets[0].graph  # noqa: B018 - built before they change
    nets[0].layers[2].p, nets[0].layers[1].momentum, nets[0].layers[1].eps = 0.6, 0.5, 0.1
    for trainer in trainers:
        trainer.step(x, labels)
    assert_same_bits(nets[0].state_dict(), nets[1].state_dict())
    assert_same_bits(nets[0].predict(x), nets[1].predict(x))


def replaced(net):
    net.layers[2] = ic.ReLU()


def appended(net):
    net.layers.append(ic.ReLU())


def other_list(net):
    net.layers = net.layers[:-1]


def other_body(net):
    net.layers[0].body = ic.Conv2d(1, 1, 1)


def inner(net):
    net.layers[0].body.layers[0] = ic.Conv2d(1, 1, 1)


@pytest.mark.parametrize("change", [replaced, appended, other_list, other_body, inner])
def test_layers_replaced_in_a_network_that_is_built(change):
    def make():
        body = ic.Sequential([ic.Conv2d(1, 1, 3, padding=1)])
        return ic.Sequential([ic.Residual(body), ic.Flatten(), ic.ReLU(), ic.Linear(64, 3)])

    net = make()
    if change is not other_list:  # before, it is as if it had been made so
        change(net)
        net.init(0).predict(data()[0])
    net = make().init(0)
    trainer = ic.Trainer(net)
    change(net)
    with pytest.raises(ic.FrozenError, match="was changed after the network was built"):
        trainer.step(*data())
    with pytest.raises(ic.FrozenError, match="make a new network"):
        net.predict(data()[0])


# What fit finds out before the first step ---------------------------------------------------------------------------
def narrow():
    return ic.Sequential([ic.Conv2d(1, 4, 8), ic.BatchNorm2d(4), ic.Flatten(), ic.Linear(4, 3)])


@pytest.mark.parametrize(("n", "batch_size"), [(9, 8), (9, 4), (9, 2), (41, 40), (41, 5)])
def test_a_last_batch_that_is_too_small(n, batch_size):
    trainer = ic.Trainer(narrow())
    with pytest.raises(ic.ShapeError, match=r"the last batch of an epoch, of 1 image, .*drop_last=True") as error:
        trainer.fit(data(n), 2, batch_size)
    assert everything(trainer)["step"] == 0
    other = int(str(error.value).split("such as ")[1].split(".")[0])
    assert n % other != 1
    trainer.fit(data(n), 1, other)
    trainer.fit(data(n), 2, batch_size, drop_last=True)
    assert everything(trainer)["step"] == -(-n // other) + n // batch_size


def test_batches_of_one_image():
    with pytest.raises(ic.ShapeError, match=r"a batch of 1 image is too small.*layer '1'"):
        ic.Trainer(narrow()).fit(data(), 1, 1)
    with pytest.raises(ic.ShapeError, match="a batch of 1 image is too small"):
        ic.Trainer(narrow()).fit(data(1), 1, 8)
    ic.Trainer(linear()).fit(data(9), 1, 8)  # nothing couples the images
    with pytest.raises(ic.ShapeError, match="drop_last leaves nothing"):
        ic.Trainer(linear()).fit(data(9), 1, 10, drop_last=True)


def test_drop_last_is_resumed_exactly(tmp_path):
    whole = ic.Trainer(narrow(), optimizer=ic.SGD(ic.Cosine(0.05, warmup=2), 0.9))
    whole.fit(data(21), 3, 5, drop_last=True)
    assert everything(whole)["step"] == 12
    part = ic.Trainer(narrow(), optimizer=ic.SGD(ic.Cosine(0.05, warmup=2), 0.9))
    with pytest.raises(KeyboardInterrupt):
        part.fit(data(21), 3, 5, drop_last=True, display=Stop(6))
    part.save(tmp_path / "a.safetensors")
    loaded = ic.Trainer.load(tmp_path / "a.safetensors")
    loaded.fit(data(21), 3, 5, drop_last=True)
    assert everything(loaded)["step"] == 12
    assert_same_bits(loaded.net.state_dict(), whole.net.state_dict())
    assert loaded.history["lr"] == whole.history["lr"]


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e300])
@pytest.mark.parametrize("name", ["train", "validation"])
def test_images_that_are_no_numbers_are_found_before_the_first_step(name, value):
    x, labels = data()
    bad = x.astype("float64")
    bad[17, 0, 3, 3] = value
    sets = {"train": (x, labels), "validation": (x, labels), name: (bad, labels)}
    trainer = ic.Trainer(linear())
    with pytest.raises(ic.NonFiniteError, match=f"{name}: image 17 of the data holds (NaN|numbers too large)"):
        trainer.fit(sets["train"], 1, 16, validation=sets["validation"])
    assert everything(trainer)["step"] == 0
    if value == 1e300:
        ic.Trainer(linear().init(0, "float64"), optimizer=ic.SGD(0.0)).evaluate((np.abs(x), labels))


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
@pytest.mark.parametrize("steps", [1, 3, 4, 5])
def test_after_an_error_training_goes_on_exactly(error, steps):
    trainer, whole = (ic.Trainer(linear(), optimizer=ic.SGD(ic.Cosine(0.1))) for _ in range(2))
    with pytest.raises(error):
        trainer.fit(data(), 3, 10, display=Stop(steps, error))
    trainer.fit(data(), 3, 10)
    whole.fit(data(), 3, 10)
    assert_same_bits(trainer.net.state_dict(), whole.net.state_dict())
    assert trainer.history["loss"] == whole.history["loss"]


def test_after_an_error_within_an_epoch_other_batches_begin_it_again():
    for n, batch_size in ((40, 20), (24, 10)):
        trainer = ic.Trainer(linear(), optimizer=ic.SGD(ic.Cosine(0.1)))
        with pytest.raises(ValueError):
            trainer.fit(data(), 3, 10, display=Stop(6, ValueError))
        with pytest.warns(ic.TrainingWarning, match=r"epoch 2 begins again: training stopped after 2 of 4 batches"):
            trainer.fit(data(n), 3, batch_size)
        assert trainer.history["epoch"] == [1, 2, 3]


@pytest.mark.parametrize("call", ["fit with epochs", "fit", "fit of lists", "evaluate"])
def test_images_and_labels_apart(call):
    x, labels = data()
    trainer = ic.Trainer(linear())
    with pytest.raises(ic.ShapeError, match=r"as a pair: trainer.(fit|evaluate)\(\(images, labels\)"):
        {
            "fit with epochs": lambda: trainer.fit(x, labels, epochs=1),
            "fit": lambda: trainer.fit(x, labels, 1),
            "fit of lists": lambda: trainer.fit(x.tolist(), labels.tolist(), epochs=1),
            "evaluate": lambda: trainer.evaluate(x, labels),
        }[call]()
    with pytest.raises(ic.ShapeError, match="epochs must be a positive integer"):
        trainer.fit((x, labels), 1.5)


# Losses and optimisers of one's own ---------------------------------------------------------------------------------
class HalfAPoint(ic.CrossEntropyLoss):
    """Half a point for each image."""

    def __call__(self, logits, labels, scale, metrics, dlogits, backend):
        super().__call__(logits, labels, scale, metrics, dlogits, backend)
        metrics[1] = len(labels) / 2


def test_what_a_loss_counts_may_be_a_fraction(tmp_path):
    trainer = ic.Trainer(linear(), loss=HalfAPoint())
    assert trainer.evaluate(data(7))["accuracy"] == 0.5
    assert trainer.fit(data(7), 1, 7, directory=tmp_path)["accuracy"] == [0.5]
    assert ic.Trainer.load(tmp_path / "checkpoint.safetensors").history["accuracy"] == [0.5]


class ClippedByNorm(ic.SGD):
    """The gradient's norm over all parameters is at most 0.01."""

    stateless = True

    def update(self, p, g, state, lr, t, work, xp):
        g *= min(1.0, 0.01 / float(xp.sqrt((g * g).sum())))
        super().update(p, g, state, lr, t, work, xp)


class SaysElementwise(ClippedByNorm):
    """Says that it sees pieces."""

    elementwise = True


@pytest.mark.parametrize("threads", [1, 3])
def test_an_optimizer_of_one_s_own_sees_the_whole_gradient(threads, monkeypatch):
    """Clipping by the norm, against the definition; more parameters than a piece has, and processes too."""
    ic.set_num_threads(threads)
    x, labels = normal(16, 1, 20, 20, dtype="float64"), np.arange(16) % 3

    def net():
        return ic.Sequential([ic.Flatten(), ic.Linear(400, 60), ic.ReLU(), ic.Linear(60, 3)]).init(0, "float64")

    trainer = ic.Trainer(net(), optimizer=ClippedByNorm(0.5), shard=4)
    assert trainer.net.flat.size > trainer.net.backend.update_chunk
    for _ in range(5):
        plain = ic.Trainer(net(), optimizer=ic.SGD(1.0), shard=4)
        plain.net.load_state_dict(trainer.net.state_dict())
        before = np.array(trainer.net.flat)
        plain.step(x, labels)
        gradient = before - plain.net.flat
        trainer.step(x, labels)
        norm = np.linalg.norm(gradient)
        assert norm > 0.01
        np.testing.assert_allclose(trainer.net.flat, before - 0.5 * 0.01 / norm * gradient, rtol=1e-9, atol=1e-12)


def test_who_is_given_pieces():
    class Renamed(ic.Adam):
        pass

    class Again(SaysElementwise):
        def update(self, p, g, state, lr, t, work, xp):
            pass

    assert [kind.works_elementwise() for kind in (ic.SGD, ic.Adam, ic.AdamW, Renamed, SaysElementwise)] == [True] * 5
    assert [kind.works_elementwise() for kind in (ClippedByNorm, Again, ic.Optimizer)] == [False] * 3
