"""Averages of the weights, early stopping and the best epoch: by arithmetic, and after any interruption."""

import json
import sys

import numpy as np
import pytest
from helpers import CtrlC, assert_same_bits, everything, normal, timeless

import im2colnet as ic
from im2colnet.training.callbacks import EMA, SWA, EarlyStopping, KeepBest

pytestmark = pytest.mark.usefixtures("one_thread")

DATA = normal(38, 1, 6, 6, dtype="float32"), np.arange(38) % 3
TEST = normal(12, 1, 6, 6, seed=1, dtype="float32"), np.arange(12) % 3


def new_trainer(norm=True, optimizer=None):
    layers = [ic.Conv2d(1, 2, 3), *[ic.BatchNorm2d(2)] * norm, ic.ReLU(), ic.Flatten(), ic.Linear(32, 3)]
    optimizer = optimizer or ic.SGD(ic.Cosine(0.05), momentum=0.9)
    return ic.Trainer(ic.Sequential(layers).init(0), optimizer=optimizer, seed=1, shard=5)


def fit(trainer, epochs=3, callbacks=(), **more):
    return trainer.fit(DATA, epochs, 10, validation=TEST, callbacks=callbacks, progress=False, **more)


class Follows(ic.Callback):
    """Keeps the weights after each step, and those that are evaluated after each epoch."""

    def start(self, trainer):
        self.trainer, self.steps, self.epochs = trainer, [trainer.net.state_dict()], []

    def step(self, progress):
        self.steps.append(self.trainer.net.state_dict())

    def epoch(self, record):
        self.epochs.append(self.trainer.net.state_dict())


def assert_near(found, expected):
    assert found.keys() == expected.keys()
    for name, values in expected.items():
        np.testing.assert_allclose(found[name], values, rtol=2e-5, atol=1e-6)


# Arithmetic ---------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("decay", [0.0, 0.5, 0.9])
def test_ema_beside_its_definition(decay):
    trainer, follows = new_trainer(), Follows()
    history = fit(trainer, 3, [EMA(decay), follows])
    average = {name: array.astype("float64") for name, array in follows.steps[0].items()}
    expected = []
    for n, weights in enumerate(follows.steps[1:], 1):
        d = min(decay, (1 + n) / (10 + n))
        average = {name: d * average[name] + (1 - d) * weights[name] for name in average}
        if n % 4 == 0:
            expected.append(average)
    for found, wanted in zip(follows.epochs, expected, strict=True):
        assert_near(found, wanted)
    assert_near(trainer.net.state_dict(), expected[-1])
    found = {name: value for name, value in history[-1].items() if name.startswith("validation_")}
    assert found == {f"validation_{name}": value for name, value in trainer.evaluate(TEST).items()}


def test_training_does_not_feel_the_averages():
    plain, averaged, follows = new_trainer(), new_trainer(), Follows()
    fit(plain)
    fit(averaged, 3, [EMA(0.9), follows])
    assert_same_bits(follows.steps[-1], plain.net.state_dict())
    assert averaged.history["loss"] == plain.history["loss"]
    assert averaged.history["validation_loss"] != plain.history["validation_loss"]
    averaged.step(*TEST)
    plain.step(*TEST)
    assert_same_bits(everything(averaged), everything(plain))


@pytest.mark.parametrize("start", [2, 0.5])
def test_swa_beside_its_definition(start):
    trainer, follows = new_trainer(), Follows()
    fit(trainer, 4, [SWA(start), follows])
    first = 2 if start == 2 else 3
    ends = follows.steps[4::4]
    for epoch, found in enumerate(follows.epochs, 1):
        part = ends[first - 1 : epoch]
        if not part:
            assert_same_bits(found, ends[epoch - 1])
            continue
        mean = {name: np.mean([weights[name] for weights in part], axis=0, dtype="float64") for name in found}
        assert_near(
            {n: a for n, a in found.items() if "running" not in n}, {n: mean[n] for n in mean if "running" not in n}
        )
        # the statistics of the averages, from the definition: of each batch, then their mean
        batches = ic.Loader(ic.Dataset(*DATA), 10, seed=1).epoch(epoch - 1)
        convolution = ic.Sequential([ic.Conv2d(1, 2, 3)])
        convolution.load_state_dict({"0.weight": found["0.weight"], "0.bias": found["0.bias"]})
        values = [convolution.predict(images).transpose(1, 0, 2, 3).reshape(2, -1) for images, _ in batches]
        np.testing.assert_allclose(found["1.running_mean"], np.mean([v.mean(1) for v in values], 0), rtol=1e-4)
        np.testing.assert_allclose(found["1.running_var"], np.mean([v.var(1, ddof=1) for v in values], 0), rtol=1e-4)


def test_swa_leaves_the_training_alone():
    plain, averaged, follows = new_trainer(), new_trainer(), Follows()
    fit(plain)
    fit(averaged, 3, [SWA(1), follows])
    assert_same_bits(follows.steps[-1], plain.net.state_dict())
    assert averaged.history["loss"] == plain.history["loss"]


def test_weights_that_are_loaded_after_the_training_are_trained_on():
    trainer, expected = new_trainer(), new_trainer()
    fit(trainer, 1, [EMA(0.5)])
    fit(expected, 1)
    for one in trainer, expected:
        one.net.load_state_dict(new_trainer().net.state_dict())
        one.step(*TEST)
    assert_same_bits(everything(trainer), everything(expected))


def test_two_averages_are_refused():
    with pytest.raises(ic.ShapeError, match="only one callback can average the weights, got EMA and SWA"):
        fit(new_trainer(), 1, [EMA(), SWA(1)])


WRONG = [lambda: EMA(1), lambda: EMA("much"), lambda: SWA(0), lambda: SWA(1.5), lambda: SWA("2")]


@pytest.mark.parametrize("wrong", WRONG)
def test_wrong_numbers(wrong):
    with pytest.raises(ic.ShapeError, match=r"decay must be|start.* must be"):
        wrong()


def test_averages_that_would_never_begin():
    with pytest.raises(ic.ShapeError, match=r"SWA\(start=4\) would never begin, .*epochs=3"):
        fit(new_trainer(), 3, [SWA(4)])
    fit(new_trainer(), 1, [SWA(0.99)])


@pytest.mark.parametrize("make", [lambda: EMA(0.9), lambda: SWA(1)])
def test_the_same_bits_for_any_number_of_workers(make):
    found = []
    for threads in (1, 2):
        ic.set_num_threads(threads)
        trainer = new_trainer()
        fit(trainer, 3, [make()])
        found.append(everything(trainer))
    assert_same_bits(*found)


# The best epoch -----------------------------------------------------------------------------------------------------
class Scores(ic.Callback):
    """Adds given numbers to the records."""

    def __init__(self, *scores, name="score"):
        self.scores, self.key = scores, name

    def epoch(self, record):
        record[self.key] = self.scores[record["epoch"] - 1]


@pytest.mark.parametrize(
    ("scores", "options", "epochs"),
    [
        ([1, 2, 3, 2, 2, 2, 9], {"patience": 3}, 6),
        ([1, 2, 3, 3, 3, 3, 9], {"patience": 3}, 6),
        ([1, 2, 3, 2, 2, 4, 9], {"patience": 3}, 7),
        ([9, 8, 7, 8, 8, 6, 5], {"patience": 2, "mode": "min"}, 5),
        ([1, 1.1, 1.2, 1.3, 9], {"patience": 2, "min_delta": 0.5}, 3),
        ([5, 5, 5], {"patience": 1}, 2),
        ([-3, -2, -4], {"patience": 1}, 3),
    ],
)
def test_early_stopping(scores, options, epochs):
    trainer = new_trainer()
    stopping = EarlyStopping("score", **options)
    fit(trainer, len(scores), [Scores(*scores), stopping])
    assert trainer.epoch == epochs
    assert trainer.fitting.outcome == ("completed" if epochs == len(scores) else "stopped")


def test_less_is_better_but_for_accuracies():
    for name, more in {"loss": 0, "validation_loss": 0, "mae": 0, "validation_accuracy": 1, "f1": 1, "iou": 1}.items():
        assert EarlyStopping(name).more_is_better == bool(more)
        assert EarlyStopping(name, mode="max").more_is_better


def test_a_number_that_is_missing_in_one_epoch_is_no_improvement():
    trainer = new_trainer()
    with pytest.warns(ic.TrainingWarning, match="score is nan"):
        fit(trainer, 5, [Scores(1, float("nan"), float("nan"), 2, 3), EarlyStopping("score", patience=2)])
    assert trainer.epoch == 3


@pytest.mark.parametrize("kind", [EarlyStopping, KeepBest])
def test_what_to_watch_must_be_there(kind, tmp_path):
    with pytest.raises(ic.ShapeError, match=f"{kind.__name__} watches 'f2', which is not .* there are epoch, loss"):
        fit(new_trainer(), 2, [kind("f2")], directory=tmp_path)
    with pytest.raises(ic.ShapeError, match=r"needs validation data: .* monitor='loss'"):
        new_trainer().fit(DATA, 2, callbacks=[kind()], directory=tmp_path / "b")
    for wrong in ({"monitor": 3}, {"mode": "more"}):
        with pytest.raises(ic.ShapeError):
            kind(**wrong)


@pytest.mark.parametrize("callbacks", [list, lambda: [EMA(0.8)]])
def test_the_best_weights_are_restored(callbacks, tmp_path):
    trainer, follows = new_trainer(), Follows()
    scores = Scores(1, 2, 5, 3, 4, 6)
    fit(trainer, 6, [*callbacks(), scores, EarlyStopping("score", 2, restore_best=True), follows], directory=tmp_path)
    assert trainer.epoch == 5
    assert_same_bits(trainer.net.state_dict(), follows.epochs[2])
    again = ic.Trainer.load(tmp_path / "checkpoint.safetensors")
    assert_same_bits(again.net.state_dict(), follows.epochs[2])
    # and the training can go on, as if it had never been stopped
    whole = new_trainer()
    fit(whole, 6, callbacks())
    for one in trainer, again:
        fit(one, 6, [*callbacks(), scores, EarlyStopping("score", 4, restore_best=True)])
        assert one.epoch == 6
        assert_same_bits(everything(one), everything(whole))


def test_a_stopped_training_stays_stopped(tmp_path):
    def callbacks():
        return [Scores(5, 4, 3, 2, 1), EarlyStopping("score", 2)]

    fit(new_trainer(), 5, callbacks(), directory=tmp_path)
    again = ic.Trainer.load(tmp_path / "checkpoint.safetensors")
    fit(again, 5, callbacks())
    assert again.epoch == 3
    assert again.fitting.outcome == "stopped"
    with pytest.warns(ic.TrainingWarning, match="the callback EarlyStopping took part"):
        fit(again, 5, [Scores(5, 4, 3, 2, 1)])
    assert again.epoch == 5


def test_the_best_epoch_is_kept(tmp_path):
    trainer, follows = new_trainer(), Follows()
    fit(trainer, 4, [EMA(0.8), Scores(1, 3, 2, 1), KeepBest("score"), follows], directory=tmp_path)
    best = ic.Trainer.load(tmp_path / "best.safetensors")
    assert best.epoch == len(best.history) == 2
    assert_same_bits(best.net.state_dict(), follows.epochs[1])
    whole = new_trainer()
    fit(whole, 4, [EMA(0.8)])
    fit(best, 4, [EMA(0.8), Scores(1, 3, 2, 1), KeepBest("score", path=tmp_path / "other")])
    assert_same_bits(everything(best), everything(whole))


def test_the_best_epoch_of_another_training_is_not_overwritten(tmp_path):
    fit(new_trainer(), 1, [KeepBest()], directory=tmp_path)
    (tmp_path / "checkpoint.safetensors").unlink()
    with pytest.raises(ic.CheckpointError, match=r"best\.safetensors is not overwritten"):
        fit(new_trainer(), 1, [KeepBest()], directory=tmp_path)
    again = ic.Trainer.load(tmp_path / "best.safetensors")
    fit(again, 1, [KeepBest()], directory=tmp_path)
    with pytest.raises(ic.ShapeError, match="KeepBest needs a folder"):
        fit(new_trainer(), 1, [KeepBest()])


# Interruptions ------------------------------------------------------------------------------------------------------
class CtrlCAnywhere(CtrlC):
    """Presses Ctrl-C in the n-th of its calls."""

    validate = epoch = after_epoch = CtrlC.press


EVERYTHING = {
    "ema": lambda: [EMA(0.8), Scores(5, 6, 4, 3), EarlyStopping("score", 2, restore_best=True)],
    "swa": lambda: [SWA(2), EarlyStopping("validation_loss", 3, restore_best=True), KeepBest()],
}


@pytest.fixture(scope="module", params=EVERYTHING)
def undisturbed(request, tmp_path_factory):
    trainer, follows = new_trainer(), Follows()
    fit(trainer, 4, [*EVERYTHING[request.param](), follows], directory=tmp_path_factory.mktemp("whole"))
    return EVERYTHING[request.param], trainer, follows


@pytest.mark.parametrize("loaded", [True, False])
@pytest.mark.parametrize("after", [1, 4, 5, 6, 7, 8, 13, 15, 20])
def test_a_training_that_is_interrupted_goes_on_with_the_same_bits(after, loaded, undisturbed, tmp_path):
    callbacks, whole, _ = undisturbed
    trainer, pressed = new_trainer(), CtrlCAnywhere(after)
    with pytest.raises(KeyboardInterrupt):
        fit(trainer, 4, [*callbacks(), pressed], directory=tmp_path)
    if loaded:
        trainer = ic.Trainer.load(tmp_path / "checkpoint.safetensors")
    fit(trainer, 4, callbacks(), directory=tmp_path)
    assert_same_bits(everything(trainer), everything(whole))
    assert timeless(trainer.history) == timeless(whole.history)
    again = ic.Trainer.load(tmp_path / "checkpoint.safetensors")
    assert_same_bits(everything(again), everything(whole))
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert lines == trainer.history


@pytest.mark.parametrize("after", [2, 13, 20])
def test_interrupted_with_everything(after, tmp_path):
    """Augmentation, normalisation, accumulation, clipping, dropout, checkpoints within an epoch, averages."""
    augment = [ic.transforms.RandomCrop(padding=1), ic.transforms.RandomHorizontalFlip(), ic.transforms.MixUp(0.4)]

    def make():
        layers = [ic.Conv2d(1, 2, 3), ic.BatchNorm2d(2), ic.ReLU(), ic.Dropout(0.2), ic.Flatten(), ic.Linear(32, 3)]
        net = ic.Sequential(layers).init(0)
        return ic.Trainer(net, optimizer=ic.Adam(ic.Cosine(0.02)), seed=1, shard=5, accumulate=3, clip_norm=1.0)

    def train(trainer, *callbacks, **more):
        callbacks = [EMA(0.8), EarlyStopping(patience=2, restore_best=True), *callbacks]
        fit(trainer, 4, callbacks, augment=augment, normalize=True, save_every=2, **more)

    whole = make()
    train(whole, directory=tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        train(make(), CtrlCAnywhere(after), directory=tmp_path / "part")
    again = ic.Trainer.load(tmp_path / "part" / "checkpoint.safetensors")
    train(again, directory=tmp_path / "part")
    assert_same_bits(everything(again), everything(whole))
    assert timeless(again.history) == timeless(whole.history)


class Planted(BaseException):
    """No code of the library expects it."""


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_an_error_anywhere_in_the_callbacks_and_the_seam(undisturbed):
    """At any line of what this is about; then the trainer goes on exactly, or says that it cannot."""
    make, whole, _ = undisturbed

    def callbacks():
        return [one for one in make() if not isinstance(one, KeepBest)]  # which needs a folder

    files = ("trainer.py", "weights.py", "statistics.py", "averaging.py", "base.py", "monitoring.py")

    class Raises:
        def __init__(self, n):
            self.left = n

        def __call__(self, frame, event, argument):
            if "training" not in frame.f_code.co_filename or not frame.f_code.co_filename.endswith(files):
                return None
            if event == "line":
                self.left -= 1
                if self.left == 0:
                    raise Planted
            return self

    def run(n):
        trainer, raises, before = new_trainer(), Raises(n), sys.gettrace()
        sys.settrace(raises)
        try:
            fit(trainer, 4, callbacks())
        except Planted:
            pass
        finally:
            sys.settrace(before)
        return trainer, -1 - raises.left

    count = run(-1)[1]
    refused = 0
    for n in range(1, count + 1, count // 20):
        trainer, _ = run(n)
        try:
            fit(trainer, 4, callbacks())
        except ic.InterruptedStepError:
            refused += 1
            continue
        assert_same_bits(everything(trainer), everything(whole))
        assert timeless(trainer.history) == timeless(whole.history)
    assert refused < 10


@pytest.mark.parametrize(
    "make", [lambda: EMA(0.8), lambda: SWA(2), lambda: EarlyStopping("score", 1, restore_best=True)]
)
def test_on_every_backend(make, every_backend, tmp_path):
    """In steps with other kernels the last bits differ, but not what the callbacks do."""
    nets = [new_trainer().net.init(0, backend=backend) for backend in (None, every_backend)]
    trainers = [ic.Trainer(net, optimizer=ic.SGD(0.05), seed=1, shard=5) for net in nets]
    for number, trainer in enumerate(trainers):
        fit(trainer, 4, [Scores(1, 3, 2, 4), make()], directory=tmp_path / str(number))
        again = ic.Trainer.load(tmp_path / str(number) / "checkpoint.safetensors", backend=trainer.net.backend)
        assert_same_bits(again.net.state_dict(), trainer.net.state_dict())
        trainer.step(*TEST)
        again.step(*TEST)
        assert_same_bits(again.net.state_dict(), trainer.net.state_dict())
    for name, array in nets[0].state_dict().items():
        np.testing.assert_allclose(nets[1].state_dict()[name], array, rtol=1e-3, atol=1e-4)
