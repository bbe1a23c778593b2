"""Callbacks: when they are called, what they may do, and what a training keeps of them."""

import json

import numpy as np
import pytest
from helpers import CtrlC, assert_same_bits, everything, normal

import im2colnet as ic

pytestmark = pytest.mark.usefixtures("one_thread")

DATA = normal(40, 1, 6, 6, dtype="float32"), np.arange(40) % 3
TEST = normal(12, 1, 6, 6, seed=1, dtype="float32"), np.arange(12) % 3


def new_trainer(optimizer=None):
    net = ic.Sequential([ic.Conv2d(1, 2, 3), ic.BatchNorm2d(2), ic.ReLU(), ic.Flatten(), ic.Linear(32, 3)]).init(0)
    return ic.Trainer(net, optimizer=optimizer or ic.SGD(ic.Cosine(0.05), momentum=0.9), seed=1, shard=5)


def fit(trainer, epochs=3, callbacks=(), **more):
    return trainer.fit(DATA, epochs, 10, validation=TEST, callbacks=callbacks, progress=False, **more)


class Noting(ic.Callback):
    """Notes each call."""

    def __init__(self, notes=None):
        self.notes = [] if notes is None else notes

    def start(self, trainer):
        self.trainer = trainer
        self.notes.append("start")

    def step(self, progress):
        self.notes.append(f"step {progress.epoch}.{progress.batch}")

    def validate(self):
        self.notes.append("validate")

    def epoch(self, record):
        self.notes.append(f"epoch {record['epoch']} of {len(self.trainer.history)}")

    def after_epoch(self, record):
        self.notes.append(f"after {record['epoch']} of {len(self.trainer.history)}")

    def end(self):
        self.notes.append(f"end: {self.trainer.fitting.outcome}")


def test_the_order_of_calls():
    noting = Noting()
    fit(new_trainer(), 2, [noting])
    steps = [[f"step {epoch}.{batch}" for batch in range(1, 5)] for epoch in (1, 2)]
    assert noting.notes == [
        "start",
        *[*steps[0], "validate", "epoch 1 of 0", "after 1 of 1"],
        *[*steps[1], "validate", "epoch 2 of 1", "after 2 of 2"],
        "end: completed",
    ]


def test_an_object_with_some_of_the_methods_will_do():
    records = []

    class Some:
        def epoch(self, record):
            records.append(record["epoch"])

    fit(new_trainer(), 2, [Some()])
    assert records == [1, 2]


@pytest.mark.parametrize("wrong", [3, "EarlyStopping", ic.Callback, [ic.Callback()], None, object()])
def test_what_is_no_callback_is_refused(wrong):
    with pytest.raises(ic.ShapeError, match="callbacks must be objects with methods"):
        fit(new_trainer(), 1, [wrong])


def test_numbers_that_a_callback_adds_are_kept(tmp_path):
    class Adds(ic.Callback):
        def epoch(self, record):
            record["twice"] = np.float32(2 * record["loss"])
            record["count"] = np.array([3])

    class Uses(ic.Callback):
        def epoch(self, record):
            record["thrice"] = 1.5 * record["twice"]

    trainer = new_trainer()
    history = fit(trainer, 2, [Adds(), Uses()], directory=tmp_path)
    assert history["thrice"] == pytest.approx([3 * loss for loss in history["loss"]])
    assert {type(value) for record in history for value in record.values()} <= {int, float}
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert lines == history == ic.Trainer.load(tmp_path / "checkpoint.safetensors").history


@pytest.mark.parametrize("value", ["0.5", None, [0.5], np.zeros(2), True, 1j])
def test_what_is_no_number_is_refused(value):
    class Adds(ic.Callback):
        def epoch(self, record):
            record["wrong"] = value

    trainer = new_trainer()
    with pytest.raises(ic.ShapeError, match="callback Adds must add numbers by name to the record, got 'wrong'"):
        fit(trainer, 2, [Adds()])
    assert trainer.history == []
    assert len(fit(trainer, 2)) == 2


def test_a_number_that_is_not_finite_is_left_out():
    class Adds(ic.Callback):
        def epoch(self, record):
            record["strange"] = float("nan")

    with pytest.warns(ic.TrainingWarning, match="callback Adds: strange is nan after epoch 1") as warned:
        assert "strange" not in fit(new_trainer(), 1, [Adds()])[0]
    assert warned[0].filename == __file__


class Stops(ic.Callback):
    def __init__(self, method, at):
        self.method, self.at = method, at

    def start(self, trainer):
        self.trainer, self.count = trainer, 0
        self.called("start")

    def called(self, method):
        self.count += method == self.method
        if self.count == self.at:
            self.trainer.stop("enough")

    def step(self, progress):
        self.called("step")

    def epoch(self, record):
        self.called("epoch")


@pytest.mark.parametrize(
    ("method", "at", "steps", "said"),
    [
        ("start", 1, 0, "after epoch 0"),
        ("step", 3, 3, "within epoch 1"),
        ("step", 4, 4, "after epoch 1"),
        ("epoch", 2, 8, "after epoch 2"),
    ],
)
def test_a_callback_stops_the_training_and_another_fit_goes_on(method, at, steps, said, tmp_path, capsys):
    expected, trainer, noting = new_trainer(), new_trainer(), Noting()
    noting.say = noting.notes.append
    fit(expected, 4)
    fit(trainer, 4, [Stops(method, at), noting], directory=tmp_path)
    assert trainer.steps == steps
    assert noting.notes[-2:] == [f"training ends {said}: enough", "end: stopped"]
    if steps:
        trainer = ic.Trainer.load(tmp_path / "checkpoint.safetensors")
    fit(trainer, 4)
    assert_same_bits(everything(trainer), everything(expected))


@pytest.mark.parametrize("method", ["start", "step", "validate", "weights", "epoch", "after_epoch", "end"])
def test_an_error_of_a_callback_leaves_a_trainer_that_goes_on(method, tmp_path):
    class Own(Exception):
        pass

    class Fails(ic.Callback):
        pass

    def fail(*arguments):
        raise Own("no good")

    expected, trainer, noting = new_trainer(), new_trainer(), Noting()
    fit(expected)
    fails = Fails()
    setattr(fails, method, fail)
    with pytest.raises(Own, match="no good"):
        fit(trainer, 3, [noting, fails], directory=tmp_path)
    assert noting.notes[-1] == ("end: completed" if method == "end" else "end: failed")
    fit(trainer, 3, directory=tmp_path)
    assert_same_bits(everything(trainer), everything(expected))


def test_every_callback_ends_even_if_another_one_raises():
    class Raises(ic.Callback):
        def __init__(self, text):
            self.text = text

        def end(self):
            raise ValueError(self.text)

    noting = Noting()
    with pytest.raises(ValueError, match="second") as raised:
        fit(new_trainer(), 1, [Raises("first"), noting, Raises("second")])
    assert "first" in str(raised.value.__context__)
    assert noting.notes[-1] == "end: completed"


def test_a_callback_may_look_at_everything(tmp_path):
    class Looks(ic.Callback):
        def start(self, trainer):
            self.trainer = trainer

        def look(self, *argument):
            self.trainer.evaluate(TEST)
            self.trainer.net.predict(TEST[0])
            self.trainer.save(tmp_path / "looked")

        step = validate = epoch = after_epoch = end = look

    expected, trainer = new_trainer(), new_trainer()
    fit(expected)
    fit(trainer, 3, [Looks()])
    assert_same_bits(everything(trainer), everything(expected))
    assert_same_bits(everything(ic.Trainer.load(tmp_path / "looked")), everything(expected))


def test_a_callback_may_change_optimizer_and_loss():
    class Changes(ic.Callback):
        def start(self, trainer):
            self.trainer = trainer

        def epoch(self, record):
            self.trainer.optimizer = ic.SGD(0.0, momentum=0.9)
            self.trainer.loss = ic.CrossEntropyLoss(label_smoothing=0.5)

    trainer = new_trainer()
    history = fit(trainer, 2, [Changes()])
    assert history["lr"][1] == 0


@pytest.mark.parametrize("method", ["step", "epoch", "after_epoch"])
def test_a_callback_that_calls_fit_is_refused(method):
    class Fits(ic.Callback):
        def start(self, trainer):
            self.trainer = trainer

        def again(self, argument):
            fit(self.trainer, 3)

    setattr(Fits, method, Fits.again)
    with pytest.raises(ic.ShapeError, match=r"a callback must not call trainer\.fit"):
        fit(new_trainer(), 3, [Fits()])


# States -------------------------------------------------------------------------------------------------------------
class Counts(ic.Callback):
    """Counts its calls, and adds up losses in an array."""

    def start(self, trainer):
        self.count, self.sums = 0, np.zeros(2)

    def step(self, progress):
        self.count += 1

    def epoch(self, record):
        self.sums += record["loss"], 1

    def state(self):
        return {"count": self.count, "sums": self.sums, "nested": {"list": [1, "ü", None]}}

    def load_state(self, state):
        assert state["nested"] == {"list": [1, "ü", None]}
        self.count, self.sums = state["count"], np.array(state["sums"])


@pytest.mark.parametrize("again", ["the same object", "another object", "a checkpoint", "a copy"])
def test_states_go_on(again, tmp_path):
    import copy

    trainer, one, two = new_trainer(), Counts(), Counts()
    fit(trainer, 3, [Stops("step", 6), one, two], directory=tmp_path)
    assert one.count == two.count == 6
    if again == "a checkpoint":
        trainer = ic.Trainer.load(tmp_path / "checkpoint.safetensors")
        trainer.save(tmp_path / "once more")
        trainer = ic.Trainer.load(tmp_path / "once more")
    if again == "a copy":
        trainer = copy.deepcopy(trainer)
    rest = [one, two] if again == "the same object" else [Counts(), Counts()]
    fit(trainer, 3, rest)
    whole, expected = new_trainer(), Counts()
    fit(whole, 3, [expected])
    for counts in rest:
        assert counts.count == expected.count == 12
        assert_same_bits(counts.sums, expected.sums)
    fit(new_trainer(), 1, rest)  # another training: from the beginning
    assert rest[0].count == 4


def test_a_callback_that_is_missing_is_told():
    trainer = new_trainer()
    fit(trainer, 1, [Counts(), Counts()])
    with (
        pytest.warns(ic.TrainingWarning, match="epochs=2 and was called with epochs=1"),
        pytest.warns(ic.TrainingWarning, match="the callback Counts-2 took part in this training"),
    ):
        fit(trainer, 2, [Counts()])


@pytest.mark.parametrize(
    ("state", "problem"),
    [
        ({"a": {1, 2}}, "not JSON serializable"),
        ({"a": float("nan")}, "not JSON compliant"),
        ({"a": np.zeros(2, int)}, "a is an array of int"),
    ],
)
def test_a_state_that_cannot_be_stored_is_named(state, problem, tmp_path):
    class Keeps(ic.Callback):
        def state(self):
            return state

    with pytest.raises(ic.CheckpointError, match=f"the state of the callback Keeps cannot be stored: .*{problem}"):
        fit(new_trainer(), 1, [Keeps()], directory=tmp_path)


# save_every ---------------------------------------------------------------------------------------------------------
def test_checkpoints_within_an_epoch(tmp_path):
    found = []

    class Looks(ic.Callback):
        def step(self, progress):
            path = tmp_path / "checkpoint.safetensors"
            found.append(ic.Trainer.load(path).steps if path.exists() else 0)

    fit(new_trainer(), 2, [Looks()], directory=tmp_path, save_every=3)
    assert found == [0, 0, 0, 3, 4, 4, 4, 7]


@pytest.mark.parametrize("minute", ["1 min", "60 s", "60s", "60 seconds", "1 minute", "1.0 mins"])
def test_checkpoints_after_a_time(minute, tmp_path, monkeypatch):
    now, saved = [0.0], []
    monkeypatch.setattr("im2colnet.training.callbacks.checkpoints.time.monotonic", lambda: now[0])

    class Passes(ic.Callback):
        def start(self, trainer):
            self.trainer, save = trainer, trainer.save
            trainer.save = lambda path: (saved.append(now[0]), save(path))

        def step(self, progress):
            now[0] += 25

    fit(new_trainer(), 2, [Passes()], directory=tmp_path, save_every=minute)
    assert saved == [75, 100, 175, 200]  # 60 s after the one before, and at the ends of the epochs


@pytest.mark.parametrize("wrong", [0, -1, 2.5, "often", "0 min", "10 lightyears", "0", True, "1.5"])
def test_other_save_every_are_refused(wrong, tmp_path):
    with pytest.raises(ic.ShapeError, match="save_every must be"):
        fit(new_trainer(), 1, directory=tmp_path, save_every=wrong)
    with pytest.raises(ic.ShapeError, match=r"save_every needs a folder .*directory="):
        fit(new_trainer(), 1, save_every=3)


@pytest.mark.parametrize(
    "array", [np.array(2.0), np.ones((2, 3)).T, np.arange(6.0)[::2], np.zeros(0), np.ones(2, "f2")]
)
def test_arrays_of_a_state_come_back(array, tmp_path):
    found = []

    class Keeps(ic.Callback):
        def state(self):
            return {"some.array": array, "step": 3}

        def load_state(self, state):
            found.append(state)

    fit(new_trainer(), 2, [Stops("epoch", 1), Keeps()], directory=tmp_path)
    fit(ic.Trainer.load(tmp_path / "checkpoint.safetensors"), 2, [Keeps()])
    assert found[0]["step"] == 3
    assert_same_bits(found[0]["some.array"], array)


@pytest.mark.parametrize("callbacks", [None, 3, "EMA", ic.Callback(), {"a": ic.Callback()}])
def test_callbacks_are_a_list(callbacks):
    with pytest.raises(ic.ShapeError, match=r"callbacks must be a list"):
        fit(new_trainer(), 1, callbacks)


def test_the_same_object_twice_is_refused():
    one = Counts()
    with pytest.raises(ic.ShapeError, match="the same Counts is in callbacks twice"):
        fit(new_trainer(), 1, [one, one])


@pytest.mark.filterwarnings("ignore::im2colnet.TrainingWarning")
def test_what_a_checkpoint_says_of_callbacks_is_checked(tmp_path):
    """A forged file: its checksums are right."""
    from im2colnet.training import checkpoint

    trainer = new_trainer()
    fit(trainer, 1, [ic.callbacks.EMA(0.9)], directory=tmp_path)
    path = tmp_path / "checkpoint.safetensors"
    tensors, information = checkpoint.read(path)
    del information["crc32"]
    own = "own.0.weight"
    forgeries = [
        (tensors, information | {"callbacks": [1]}, "callbacks must be an object"),
        (tensors, information | {"callbacks": {"EMA": 3}}, r"callbacks\.EMA must be an object"),
        ({k: v for k, v in tensors.items() if k != own}, information, r"0\.weight must have shape .* it is missing"),
        (tensors | {own: np.zeros(3, "f4")}, information, r"0\.weight must have shape .* it is \(3,\)"),
    ]
    for changed, described, problem in forgeries:
        path.write_bytes(checkpoint.encode(changed, described)[0])
        with pytest.raises(ic.CheckpointError, match=problem):
            ic.Trainer.load(path)
    for state in ({"count": "1"}, {"count": -1, "step": 0}, {"count": 1}, {"count": 1, "step": 1.5}):
        path.write_bytes(checkpoint.encode(tensors, information | {"callbacks": {"EMA": state}})[0])
        with pytest.raises(ic.CheckpointError, match=r"callbacks\.EMA\.(count|step)"):
            fit(ic.Trainer.load(path), 2, [ic.callbacks.EMA(0.9)])


def test_the_data_of_a_training_that_has_ended_are_let_go():
    trainer = new_trainer()
    fit(trainer, 1, [Noting()])
    assert trainer.fitting.loader is trainer.fitting.validation is None


def test_an_interruption_says_how_to_go_on(capsys):
    trainer = new_trainer()
    with pytest.raises(KeyboardInterrupt):
        trainer.fit(DATA, 3, 10, callbacks=[CtrlC(6)])  # 4 steps an epoch
    assert "interrupted in epoch 2: fit with the same arguments continues exactly there" in capsys.readouterr().err
