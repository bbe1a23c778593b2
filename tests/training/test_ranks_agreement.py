"""What differs, fails or ends on one rank is an error or an end on every rank, and no rank waits for ever."""

import signal
import threading
from contextlib import contextmanager
from itertools import product

import numpy as np
import pytest
from fake_ranks import run_ranks
from helpers import assert_same_bits, everything, normal, timeless

import im2colnet as ic
from im2colnet.errors import CheckpointError, NonFiniteError, ShapeError, WorkerError
from im2colnet.interrupt import Interruption
from im2colnet.training import trainer as trainer_module

pytestmark = pytest.mark.usefixtures("one_thread")

DATA = normal(22, 2, 6, 6, dtype="float32"), np.arange(22) % 3
TEST = normal(13, 2, 6, 6, seed=1, dtype="float32"), np.arange(13) % 3


class PlantedError(Exception):
    """No code of the library expects it."""


def new_trainer(comm, seed=1, lr=0.05, width=4, shard=3, **options):
    net = ic.Sequential(
        [ic.Conv2d(2, width, 3), ic.BatchNorm2d(width), ic.ReLU(), ic.Flatten(), ic.Linear(16 * width, 3)]
    ).init(options.pop("init", 0))
    return ic.Trainer(net, optimizer=ic.Adam(lr), seed=seed, shard=shard, ranks=comm or "none", **options)


def fit(trainer, data=DATA, epochs=3, batch_size=10, validation=TEST, **more):
    return trainer.fit(data, epochs, batch_size, validation=validation, progress=False, **more)


def outcomes(size, work):
    """Return what ``work`` returns on each rank, or the error that it raises there."""

    def tried(comm):
        try:
            return work(comm)
        except threading.BrokenBarrierError:
            raise
        except BaseException as error:
            return error

    return run_ranks(size, tried)


def assert_agreed(errors, *words):
    """Assert that every rank has an error of the library with these words, which it knows all others to have too."""
    for error in errors:
        assert isinstance(error, WorkerError), error
        assert error.agreed
        assert all(word in str(error) for word in words), str(error)


def assert_failed(errors, failed, own, *words):
    """Assert that a rank has its own error, and that the others have one that names the rank, with these words."""
    for rank, error in enumerate(errors):
        assert getattr(error, "agreed", False), error
        if rank == failed:
            assert isinstance(error, own), error
        else:
            assert isinstance(error, ic.errors.Im2colnetError)
            assert f"rank {failed} failed" in str(error)
        assert all(word in str(error) for word in words), str(error)


# What differs from the beginning -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "what"),
    [
        ({"seed": 2}, "seed"),
        ({"lr": 0.06}, "optimizer"),
        ({"shard": 4}, "shard"),
        ({"width": 5}, "network"),
        ({"init": 1}, "weights"),
        ({"clip_norm": 1.0}, "clip_norm"),
        ({"accumulate": 2}, "accumulate"),
        ({"groups": {"*.bias": {"lr": 0.01}}}, "groups"),
        ({"loss": ic.CrossEntropyLoss(label_smoothing=0.1)}, "loss"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_trainers_that_differ(options, what):
    found = outcomes(3, lambda comm: new_trainer(comm, **(options if comm.rank == 2 else {})))
    assert_agreed(found, "rank 2", what, "IM2COLNET_RANKS=none")


def test_a_trainer_that_cannot_be_made_on_one_rank():
    found = outcomes(2, lambda comm: new_trainer(comm, accumulate=0 if comm.rank else 1))
    assert_failed(found, 1, ShapeError, "accumulate")


def test_a_layer_that_no_checkpoint_can_describe_trains_with_ranks():
    class Scale(ic.Layer):
        def __init__(self, factor):
            self._hidden = factor

        def forward(self, x, ctx):
            return x * self._hidden

        def backward(self, dy, ctx):
            return dy * self._hidden

    def work(comm):
        net = ic.Sequential([Scale(2.0), ic.Flatten(), ic.Linear(72, 3)]).init(0)
        trainer = ic.Trainer(net, seed=1, shard=3, ranks=comm or "none")
        trainer.step(*DATA)
        return everything(trainer)

    for of_rank in run_ranks(2, work):
        assert_same_bits(of_rank, work(None))


# Other calls, other batches, other data ------------------------------------------------------------------------------


def test_other_calls():
    def work(comm):
        trainer = new_trainer(comm)
        return trainer.evaluate(TEST) if comm.rank else trainer.step(*DATA)

    assert_agreed(outcomes(2, work), "rank 1 calls trainer.evaluate", "rank 0", "step")


@pytest.mark.parametrize(
    ("call", "what"),
    [
        (lambda t, n: t.step(DATA[0][:n], DATA[1][:n]), "batch size"),
        (lambda t, n: t.step(DATA[0][:5], (DATA[1][:5] + n) % 3), "labels"),
        (lambda t, n: t.gradients(DATA[0][:n], DATA[1][:n]), "batch size"),
        (lambda t, n: t.evaluate((DATA[0][:n], DATA[1][:n])), "images"),
        (lambda t, n: t.predict(DATA[0][:n]), "images"),
        (lambda t, n: t.mistakes((DATA[0][:n], DATA[1][:n])), "images"),
        (lambda t, n: fit(t, epochs=n), "epochs"),
        (lambda t, n: fit(t, batch_size=n), "batch size"),
        (lambda t, n: fit(t, (DATA[0][:n], DATA[1][:n])), "images"),
        (lambda t, n: fit(t, (DATA[0] * n, DATA[1])), "training data"),
        (lambda t, n: fit(t, (DATA[0], (DATA[1] + n) % 3)), "training data"),
        (lambda t, n: fit(t, validation=(TEST[0] * n, TEST[1])), "validation data"),
        (lambda t, n: fit(t, augment=[ic.transforms.RandomCrop(padding=n)]), "transforms"),
    ],
)
def test_other_arguments(call, what):
    found = outcomes(3, lambda comm: call(new_trainer(comm), 7 if comm.rank == 1 else 9))
    assert_agreed(found, "rank 1", what, "IM2COLNET_RANKS=none")


def test_a_rank_that_trains_less():
    """Rank 1 goes on with something else while rank 0 trains: both are told."""

    def work(comm):
        trainer = new_trainer(comm)
        for _ in range(3 - comm.rank):
            trainer.step(*DATA)
        return trainer.evaluate(TEST)

    assert_agreed(outcomes(2, work), "rank 1 calls trainer.evaluate")


# Failures of one rank ------------------------------------------------------------------------------------------------


def alone_with(event):
    """Return what one process has trained that goes on after the same error as the ranks."""
    trainer = new_trainer(None)
    trainer.step(*DATA)
    with pytest.raises(Exception, match=r"."):
        event(trainer)
    trainer.step(*DATA)
    return everything(trainer)


BAD = DATA[0].copy()
BAD[20, 1, 2, 3] = np.nan
EVENTS = {
    "an image that is not finite": lambda trainer: trainer.step(BAD, DATA[1]),
    "wrong labels": lambda trainer: trainer.step(DATA[0], DATA[1] + 5),
    "wrong images": lambda trainer: trainer.step(DATA[0][:, :1], DATA[1]),
    "labels that cannot be evaluated": lambda trainer: trainer.evaluate((TEST[0], TEST[1] + 5)),
    "an image that cannot be evaluated": lambda trainer: trainer.evaluate((BAD, DATA[1])),
    "an image that cannot be predicted": lambda trainer: trainer.predict(BAD),
    "a metric": lambda trainer: trainer.evaluate(TEST, metrics={"bad": lambda outputs, targets: "no number"}),
}


@pytest.mark.parametrize("event", EVENTS)
def test_training_goes_on_after_an_error(event):
    def work(comm):
        trainer = new_trainer(comm)
        trainer.step(*DATA)
        with pytest.raises(ic.errors.Im2colnetError):
            EVENTS[event](trainer)
        trainer.step(*DATA)
        return everything(trainer)

    for of_rank in run_ranks(3, work):
        assert_same_bits(of_rank, alone_with(EVENTS[event]))


@pytest.mark.parametrize("failing", [0, 1])
def test_training_goes_on_after_an_error_of_one_rank(failing):
    """One rank is given wrong images in its call, and never comes to what the others wait for."""

    def work(comm):
        trainer = new_trainer(comm)
        trainer.step(*DATA)
        with pytest.raises(ic.errors.Im2colnetError) as error:
            EVENTS["wrong images"](trainer) if comm.rank == failing else trainer.step(*DATA)
        trainer.step(*DATA)
        return error.value, everything(trainer)

    found = run_ranks(3, work)
    assert_failed([error for error, _ in found], failing, ShapeError)
    for _, bits in found:
        assert_same_bits(bits, alone_with(EVENTS["wrong images"]))


def test_an_image_that_is_not_finite_is_named_on_every_rank():
    found = outcomes(3, lambda comm: new_trainer(comm).step(BAD, DATA[1]))
    for error in found:
        assert isinstance(error, NonFiniteError), repr(error)
        assert "image 20" in str(error)


@pytest.mark.parametrize(
    ("method", "failing"),
    [
        *product(["start", "step", "validate", "epoch", "after_epoch", "end"], [0, 1]),
        ("state", 0),  # of rank 0 alone it is written into a checkpoint
    ],
)
def test_a_callback_that_raises_on_one_rank(method, failing, tmp_path):
    """Every rank raises, and another call of fit ends with the bits of a training without the error."""

    def work(comm):
        class Raises(ic.Callback):
            left = 2 if method == "step" else 1

        def planted(self, *arguments):
            self.left -= 1
            if comm.rank == failing and not self.left:
                raise PlantedError("planted")
            return {}

        setattr(Raises, method, planted)
        trainer, callback = new_trainer(comm), Raises()
        try:
            fit(trainer, callbacks=[callback], directory=tmp_path)
        except (PlantedError, WorkerError) as error:
            caught = error
        callback.left = -1
        fit(trainer, callbacks=[callback], directory=tmp_path)
        return caught, everything(trainer), timeless(trainer.history)

    alone = new_trainer(None)
    fit(alone)
    found = outcomes(2, work)
    assert not any(isinstance(each, BaseException) for each in found), found
    assert_failed([error for error, _, _ in found], failing, PlantedError, "planted")
    for _, bits, history in found:
        assert_same_bits(bits, everything(alone))
        assert history == timeless(alone.history)


@pytest.mark.parametrize("failing", [0, 1])
def test_batches_that_end_on_one_rank(failing):
    def work(comm):
        def batches():
            for start in (0, 10):
                if start and comm.rank == failing:
                    raise PlantedError("planted")
                yield DATA[0][start : start + 10], DATA[1][start : start + 10]

        fit(new_trainer(comm), batches, steps=2)

    assert_failed(outcomes(3, work), failing, PlantedError, "planted")


@pytest.mark.parametrize("failing", [0, 1])
def test_images_that_one_rank_cannot_read(failing):
    """Each rank reads its own images only, so it alone knows that one of them cannot be read."""
    from im2colnet.lazy import LazyArray

    def work(comm):
        class Rows:
            varies, checksums = False, None
            shape, dtype = DATA[0].shape, DATA[0].dtype
            broken = False

            def read(self, places, out):
                if self.broken:
                    raise PlantedError("planted")
                out[...] = DATA[0][places]

        class Breaks(ic.Callback):
            def start(self, trainer):
                source.broken = comm.rank == failing

        source = Rows()
        fit(new_trainer(comm), (LazyArray(source), DATA[1]), callbacks=[Breaks()])

    assert_failed(outcomes(2, work), failing, PlantedError, "planted")


def test_a_file_that_cannot_be_written(tmp_path):
    """Only rank 0 would write it."""

    def work(comm):
        trainer = new_trainer(comm)
        trainer.step(*DATA)
        with pytest.raises(ic.errors.Im2colnetError, match="missing") as error:
            trainer.save(tmp_path / "missing" / "checkpoint.safetensors")
        trainer.step(*DATA)
        return error.value, everything(trainer)

    alone = new_trainer(None)
    alone.step(*DATA)
    alone.step(*DATA)
    found = run_ranks(2, work)
    assert_failed([error for error, _ in found], 0, CheckpointError)
    for _, bits in found:
        assert_same_bits(bits, everything(alone))


def test_a_folder_of_another_training(tmp_path):
    new_trainer(None).save(tmp_path / "checkpoint.safetensors")
    assert_failed(outcomes(2, lambda comm: fit(new_trainer(comm), directory=tmp_path)), 0, CheckpointError)


# The end of a training -----------------------------------------------------------------------------------------------


class OnRank(ic.Callback):
    """Does something after a number of steps on one rank."""

    def __init__(self, comm, rank, steps, action):
        self.left, self.action = steps if comm is None or comm.rank == rank else 0, action

    def start(self, trainer):
        self.trainer = trainer

    def step(self, progress):
        self.left -= 1
        if not self.left:
            self.action(self.trainer)


@pytest.mark.parametrize("steps", [1, 2, 3, 4, 9])
def test_one_rank_stops_the_training(steps):
    """All ranks make the same steps; a training that goes on has the bits of one that was not stopped."""

    def work(comm):
        trainer = new_trainer(comm)
        stops = OnRank(comm, 1, steps, lambda trainer: trainer.stop("enough"))
        fit(trainer, callbacks=[stops])
        done = trainer.steps, trainer.fitting.outcome
        fit(trainer)
        return done, everything(trainer), timeless(trainer.history)

    alone = new_trainer(None)
    fit(alone)
    found = outcomes(3, work)
    assert not any(isinstance(each, BaseException) for each in found), found
    assert {done for done, _, _ in found} == {(steps, "completed" if steps == 9 else "stopped")}
    for _, bits, history in found:
        assert_same_bits(bits, everything(alone))
        assert history == timeless(alone.history)


@pytest.fixture
def signals(monkeypatch):
    """Threads get no signals: a function that notes one for the rank that calls it."""
    own = threading.local()

    @contextmanager
    def deferred():
        outer, own.interruption = getattr(own, "interruption", None), Interruption()
        try:
            yield own.interruption
        finally:
            own.interruption = outer

    monkeypatch.setattr(trainer_module, "deferred", deferred)

    def send(number):
        own.interruption.number = number

    return send


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("steps", [2, 3, 9])
def test_a_signal_to_one_rank_ends_the_training_of_all(number, steps, signals, tmp_path):
    """Afterwards three ranks go on from the checkpoint, and then one process: with the bits of no interruption."""

    def work(comm):
        trainer = new_trainer(comm)
        pressed = OnRank(comm, 1, steps, lambda trainer: signals(number))
        try:
            fit(trainer, callbacks=[pressed], directory=tmp_path)
        except BaseException as error:
            return type(error), getattr(error, "agreed", False), trainer.steps, len(trainer.history)
        return None

    kinds = set(run_ranks(2, work))
    (found,) = kinds
    kind, agreed, done, records = found
    assert kind is (KeyboardInterrupt if number == signal.SIGINT else ic.interrupt.Terminated)
    assert agreed
    assert done - steps in (0, 1)
    if done < 9:

        def further(comm):
            trainer = ic.Trainer.load(tmp_path / "checkpoint.safetensors", ranks=comm)
            assert trainer.steps == done
            fit(trainer, callbacks=[OnRank(comm, 2, 2, lambda trainer: trainer.stop("enough"))], directory=tmp_path)
            return trainer.steps

        run_ranks(3, further)
    trainer = ic.Trainer.load(tmp_path / "checkpoint.safetensors")
    fit(trainer, directory=tmp_path)
    alone = new_trainer(None)
    fit(alone)
    assert_same_bits(everything(trainer), everything(alone))
    assert timeless(trainer.history) == timeless(alone.history)
