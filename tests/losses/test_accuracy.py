"""Losses of every kind through all that trains: steps, epochs, workers, checkpoints, evaluation, profile.

Their values and gradients are compared in tests/reference/test_torch_values.py.
"""

import json

import numpy as np
import pytest
from helpers import assert_same_bits, normal, workers
from numpy.testing import assert_allclose
from reference.torch_values import every_case

import im2colnet as ic
from im2colnet.datasets import Dataset
from im2colnet.parallel import processes
from im2colnet.reports.profile import profile
from im2colnet.testing import oracles
from im2colnet.training import checkpoint

pytestmark = [
    pytest.mark.usefixtures("one_thread"),
    pytest.mark.filterwarnings("ignore:This process.*is multi-threaded:DeprecationWarning"),
]


class Distance(ic.Loss):
    """Mean absolute error times ``weight``; counts the squared error, and the samples that are nearly right."""

    metrics = ("squared_error", "near")
    stateless = True

    def __init__(self, weight=1.0):
        self.weight = weight

    def targets(self, labels, output_shape):
        return np.asarray(labels, "float32").reshape(output_shape)

    def __call__(self, output, targets, scale, metrics, doutput, backend):
        xp = backend.xp
        difference = output - targets.T
        metrics[0] = scale * self.weight * xp.abs(difference).mean(0).sum()
        metrics[1] = xp.square(difference).mean(0).sum()
        metrics[2] = (xp.abs(difference).max(0) < 0.5).sum()
        if doutput is not None:
            doutput[...] = scale * self.weight / len(output) * xp.sign(difference)


class SeveralLabels(ic.Loss):
    """Each class is there or is not: the labels are a mask (N, classes) of bools."""

    metrics = ("accuracy",)
    stateless = True

    def targets(self, labels, output_shape):
        assert labels.shape == output_shape
        assert labels.dtype == bool
        return labels

    def __call__(self, output, targets, scale, metrics, doutput, backend):
        xp, there = backend.xp, targets.T
        p = 1 / (1 + xp.exp(-output))
        metrics[0] = -scale * xp.log(xp.where(there, p, 1 - p)).sum()
        metrics[1] = ((output > 0) == there).all(0).sum()
        if doutput is not None:
            doutput[...] = scale * (p - there)

    def random_targets(self, output_shape, rng):
        return rng.random(output_shape) < 0.5


def denoiser():
    """Images to images."""
    layers = [ic.Conv2d(1, 6, 3, padding=1), ic.BatchNorm2d(6), ic.ReLU(), ic.Conv2d(6, 1, 3, padding=1)]
    return ic.Sequential(layers)


def regressor(outputs=3):
    """Images to numbers."""
    layers = [ic.Conv2d(1, 4, 3), ic.ReLU(), ic.Flatten(), ic.Dropout(0.2), ic.Linear(144, outputs)]
    return ic.Sequential(layers)


def data(n=22, seed=0, dtype="float32"):
    """Images, and the images, numbers and masks that belong to them."""
    rng = np.random.default_rng(seed)
    images = rng.standard_normal((n, 1, 8, 8)).astype(dtype)
    numbers = images.reshape(n, 8, 8)[:, :3, :].mean(-1)
    return images, {"images": images / 2, "numbers": numbers, "mask": numbers > 0}


KINDS = {
    "images": (denoiser, ic.MSELoss, "images", ()),
    "numbers": (regressor, ic.MSELoss, "numbers", ()),
    "own": (regressor, lambda: Distance(0.5), "numbers", ("squared_error", "near")),
    "mask": (regressor, SeveralLabels, "mask", ("accuracy",)),
}


def trained_with(kind, seed=1, **options):
    make, loss, *_ = KINDS[kind]
    return ic.Trainer(make().init(0), loss(), ic.SGD(ic.Cosine(0.05, steps=60), 0.9), seed=seed, **options)


def pair(kind, n=22, seed=0):
    images, targets = data(n, seed)
    return images, targets[KINDS[kind][2]]


# The mean squared error ---------------------------------------------------------------------------------------------
@pytest.mark.parametrize("kind", ["float32", "float64", "float16", "int64", "uint8", ">f4", "list"])
def test_targets_of_every_type_are_taken_as_they_are(kind):
    images, targets = data()[0], np.arange(22.0)[:, None] % 7
    given = targets.tolist() if kind == "list" else targets.astype(kind)

    def losses(targets):
        trainer = ic.Trainer(regressor(1).init(0), ic.MSELoss(), ic.SGD(0.001))
        return [trainer.step(images, targets) for _ in range(3)]

    assert_allclose(losses(given), losses(targets), rtol=1e-6)


def test_mse_never_writes_to_its_targets():
    (images, targets) = pair("images")
    targets.flags.writeable = False
    trained_with("images").step(images, targets)
    shared = images.copy()
    trained_with("images").step(shared, shared)
    assert_same_bits(shared, images)


WRONG = {
    "a column is missing": (np.zeros(22), ic.ShapeError, r"\(22, 3\), got \(22,\)"),
    "one number each": (np.zeros((22, 1)), ic.ShapeError, r"\(22, 3\), got \(22, 1\)"),
    "too few": (np.zeros((21, 3)), ic.ShapeError, r"\(22, 3\), got \(21, 3\)"),
    "NaN": (np.full((22, 3), np.nan), ic.NonFiniteError, "target 0 holds NaN"),
    "infinity": (np.where(np.arange(66).reshape(22, 3) == 40, np.inf, 0), ic.NonFiniteError, "target 13 holds"),
    "complex": (np.zeros((22, 3), complex), ic.DTypeError, "numbers, got complex128"),
    "bools": (np.zeros((22, 3), bool), ic.DTypeError, "numbers, got bool"),
    "a masked array": (np.ma.zeros((22, 3)), ic.DTypeError, "masked array"),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_targets_are_named_before_the_first_step(case):
    targets, error, message = WRONG[case]
    trainer = trained_with("numbers")
    with pytest.raises(error, match=message):
        trainer.step(data()[0], targets)
    if len(targets) == 22:
        with pytest.raises(ic.Im2colnetError, match=r"target|masked array"):
            trainer.fit((data()[0], targets), 1, 4)
    assert not trainer.history


def test_a_column_of_targets_is_asked_for():
    with pytest.raises(ic.ShapeError, match=r"targets\[:, None\]"):
        ic.Trainer(regressor(1).init(0), ic.MSELoss()).step(data()[0], np.zeros(22))


# Every kind through the trainer -------------------------------------------------------------------------------------
@pytest.mark.parametrize("kind", KINDS)
def test_fit_learns_and_tells_what_the_loss_counts(kind, tmp_path):
    seen, names = [], KINDS[kind][3]

    class Display:
        def step(self, progress):
            seen.append(progress)

        def epoch(self, record):
            seen.append(record)

    trainer, test = trained_with(kind), pair(kind, seed=1)
    history = trainer.fit(pair(kind), 8, 4, validation=test, directory=tmp_path, display=Display())
    assert history["loss"][-1] < 0.8 * history["loss"][0]
    expected = ["epoch", "loss", *names, "validation_loss", *(f"validation_{name}" for name in names)]
    assert [*history[-1]] == [*expected, "lr", "seconds", "images_per_second"]
    assert json.loads((tmp_path / "metrics.jsonl").read_text().splitlines()[-1]) == history[-1]
    evaluation = trainer.evaluate(test)
    assert [*evaluation] == ["loss", *names]
    assert evaluation == {name: history[-1][f"validation_{name}"] for name in evaluation}
    last = seen[-2]
    assert last.metrics == {name: history[-1][name] for name in names}
    assert (last.accuracy == last.accuracy) == ("accuracy" in names)


@pytest.mark.parametrize("kind", ["own", "mask"])
def test_what_a_loss_counts_is_its_mean_over_the_samples(kind):
    trainer, (images, targets) = trained_with(kind, shard=3), pair(kind)
    output, found = trainer.net.predict(images), trainer.evaluate(pair(kind))
    if kind == "own":
        near = (np.abs(output - targets).max(1) < 0.5).mean()
        assert_allclose(found["loss"], 0.5 * np.abs(output - targets).mean(), rtol=1e-5)
        assert_allclose([found["squared_error"], found["near"]], [oracles.mse(output, targets), near], rtol=1e-5)
    else:
        assert found["accuracy"] == ((output > 0) == targets).all(1).mean()


@pytest.mark.parametrize("kind", KINDS)
def test_training_goes_on_from_the_middle_of_an_epoch(kind, tmp_path):
    whole = trained_with(kind)
    whole.fit(pair(kind), 3, 4)

    class Stop(Exception):
        pass

    class Display:
        def step(self, progress):
            if (progress.epoch, progress.batch) == (2, 3):
                raise Stop

    first = trained_with(kind)
    with pytest.raises(Stop):
        first.fit(pair(kind), 3, 4, display=type("Display", (Display,), {"epoch": lambda *_: None})())
    first.save(tmp_path / "a")
    second = ic.Trainer.load(tmp_path / "a")
    assert type(second.loss) is type(whole.loss)
    assert vars(second.loss) == vars(whole.loss)
    second.fit(pair(kind), 3, 4)
    assert_same_bits(second.net.state_dict(), whole.net.state_dict())
    for name in ("loss", *KINDS[kind][3]):
        assert_allclose(second.history[name], whole.history[name], rtol=1e-12)
    assert second.evaluate(pair(kind)) == whole.evaluate(pair(kind))


@pytest.mark.parametrize("team", ["threads", "processes"])
@pytest.mark.parametrize("kind", KINDS)
def test_the_result_does_not_depend_on_the_workers(kind, team):
    if team == "processes" and not processes.available():
        pytest.skip("needs Linux on x86-64")

    def train(number):
        with workers(number, team):
            trainer = trained_with(kind, shard=4)
            losses = [trainer.step(*pair(kind, seed=seed)) for seed in range(6)]
            kinds = {trainer.workers}
            return trainer.net.state_dict() | {"losses": losses, **trainer.evaluate(pair(kind))}, kinds

    (one, _), (three, kinds) = train(1), train(3)
    assert_same_bits(three, one)
    assert kinds == {f"3 {team}"}


@pytest.mark.parametrize("kind", KINDS)
def test_the_textbook_s_kernels_do_as_well(kind):
    class Generic(ic.Backend):
        name, xp = "generic", np

    def losses(backend):
        trainer = ic.Trainer(KINDS[kind][0]().init(0, "float64", backend), KINDS[kind][1](), ic.SGD(0.02), shard=8)
        return [trainer.step(*pair(kind)) for _ in range(3)] + [trainer.evaluate(pair(kind))["loss"]]

    assert_allclose(losses(Generic()), losses("numpy"), rtol=1e-6 if kind == "own" else 1e-9)


@pytest.mark.parametrize("kind", KINDS)
def test_a_profile_times_the_loss_of_a_checkpoint(kind):
    make, loss, *_ = KINDS[kind]
    report = profile(make().init(0), (1, 8, 8), 6, ic.SGD(0.1), steps=1, loss=loss())
    assert report["loss_seconds"] > 0


def test_another_loss_holds_from_the_next_step_on():
    """Also with other metrics, while others are planned for."""
    images, targets = pair("numbers")
    trainer = trained_with("numbers", shard=4)
    for loss in (ic.MSELoss(), Distance(), ic.MSELoss()):
        trainer.loss = loss
        fresh = ic.Trainer(regressor().init(1), loss, shard=4)
        fresh.net.load_state_dict(trainer.net.state_dict())
        assert trainer.evaluate((images, targets)) == fresh.evaluate((images, targets))
        before = trainer.net.predict(images)
        trainer.net.predict(images[:3])
        trainer.step(images, targets)
        assert (trainer.net.predict(images) != before).any()
    trainer.loss = ic.CrossEntropyLoss()
    labels = np.arange(22) % 3
    assert [*trainer.evaluate((images, labels))] == ["loss", "accuracy"]


def test_an_epoch_tells_only_what_was_counted_in_all_of_its_batches():
    trainer = trained_with("own")

    class Display:
        def step(self, progress):
            if progress.batch == 2:
                trainer.loss = ic.MSELoss()

        def epoch(self, record):
            pass

    first, second = trainer.fit(pair("own"), 2, 8, display=Display())
    assert "near" not in first
    assert "near" not in second


def test_targets_must_be_an_array_for_each_sample():
    class Wrong(ic.MSELoss):
        def targets(self, labels, output_shape):
            return list(labels)

    class Short(ic.MSELoss):
        def targets(self, labels, output_shape):
            return labels[1:]

    for loss, got in ((Wrong(), "list"), (Short(), r"\(21, 3\)")):
        with pytest.raises(ic.ShapeError, match=rf"targets must return a NumPy array.*returned {got}"):
            ic.Trainer(regressor().init(0), loss).step(*pair("numbers"))


@pytest.mark.parametrize("names", [("loss",), ("lr", "error"), "error", ("a", "a"), ("validation_a",), ("a b",), (3,)])
def test_names_of_metrics_that_a_history_cannot_have_are_refused(names):
    loss = type("Named", (ic.MSELoss,), {"metrics": names})()
    with pytest.raises(ic.ShapeError, match="metrics must be a tuple of names"):
        ic.Trainer(regressor(), loss)


def test_a_loss_defines_both_methods():
    with pytest.raises(NotImplementedError, match="must define targets"):
        ic.Trainer(regressor(), ic.Loss()).step(*pair("numbers"))
    with pytest.raises(ic.CheckpointError, match="only the base of other classes"):
        checkpoint.rebuild({"type": "Loss", "arguments": {}})


# Data sets ----------------------------------------------------------------------------------------------------------
def test_a_data_set_of_targets(tmp_path):
    images, targets = pair("numbers")
    whole = Dataset(images, targets)
    assert whole.classes == ()
    assert repr(whole) == "Dataset('data': 22 images 1×8×8 float32, targets (3,))"
    assert_same_bits(whole[3:5].labels, targets[3:5])
    np.savez(tmp_path / "a.npz", images=images, labels=targets)
    train, test = ic.datasets.load(tmp_path / "a.npz")
    assert (len(train), len(test)) == (18, 4)
    found = np.concatenate([train.labels, test.labels])
    assert_same_bits(found[np.lexsort(found.T)], targets[np.lexsort(targets.T)])
    for wrong in (np.array([None] * 22), np.full((22, 3), "a")):
        with pytest.raises(ic.DTypeError, match="targets numbers"):
            Dataset(images, wrong)
    with pytest.raises(ic.ShapeError, match="each of the 22 images"):
        Dataset(images, targets[1:])


def test_a_classifier_refuses_targets_before_the_first_step():
    trainer = ic.Trainer(regressor().init(0))
    with pytest.raises(ic.ShapeError, match="labels must be integers, or probabilities from 0 to 1, got -"):
        trainer.fit(pair("numbers"), 1, 4)
    with pytest.raises(ic.DTypeError, match="labels must be integers, got float32"):
        trainer.fit((data()[0], data()[0][:, 0, 0, 0]), 1, 4)
    with pytest.raises(ic.ShapeError, match="end it with Flatten"):
        ic.Trainer(denoiser().init(0)).fit((data()[0], np.zeros(22, int)), 1, 4)


# What cross-entropy counts ------------------------------------------------------------------------------------------
@every_case("cross_entropy")
def test_accuracy_is_the_share_of_right_predictions(config, arrays):
    logits, labels = arrays["logits"].astype("float64"), arrays["labels"]
    net = ic.Sequential([ic.Linear(logits.shape[1], logits.shape[1], bias=False)]).init(0, "float64")
    net.parameters()["0.weight"][...] = np.eye(logits.shape[1])
    found = ic.Trainer(net).evaluate((logits, labels))
    assert found["accuracy"] == (logits.argmax(1) == labels).mean()
    assert found["loss"] * (len(labels) if config["reduction"] == "sum" else 1) == pytest.approx(float(arrays["loss"]))


def test_the_first_of_equal_scores_is_the_prediction():
    net = ic.Sequential([ic.Linear(3, 3, bias=False)]).init(0)
    net.parameters()["0.weight"][...] = 0
    images = normal(4, 3, dtype="float32")
    assert ic.Trainer(net).evaluate((images, np.array([0, 0, 1, 2])))["accuracy"] == 0.5
