"""Checkpoints and state_dicts: training goes on exactly, files are whole or not there, and what is wrong is said."""

import errno
import json
import os
import signal
import stat
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from helpers import assert_same_bits, everything, normal, quick, timeless
from reference.torch_values import every_case
from safetensors.numpy import load_file, save_file

import im2colnet as ic
from im2colnet.datasets.dataset import Dataset
from im2colnet.layers import Layer, Parameter
from im2colnet.optim import Optimizer

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(autouse=True)
def ctrl_c():
    """Ctrl-C does what it does in a script."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


class ScaleByConstant(Layer):
    """A layer of a user's own with arguments of many kinds, a parameter and a state."""

    def __init__(self, channels, factor=1.0, name="x", sides=((0, 1), (2, 3)), nothing=None, inner=None, flag=True):
        self.channels, self.factor, self.name, self.sides = channels, factor, name, sides
        self.nothing, self.inner, self.flag = nothing, inner, flag

    def parameters(self):
        return {"weight": Parameter((self.channels,), value=self.factor)}

    def state(self):
        return {"seen": Parameter((1,))}

    def forward(self, x, ctx):
        return x * ctx.params["weight"][:, None, None]

    def backward(self, dy, ctx):
        ctx.grads["weight"][...] = (dy * ctx.x).sum((0, 2, 3))
        return dy * ctx.params["weight"][:, None, None]


def small_net():
    """Everything that a checkpoint has to hold."""
    body = ic.Sequential([ic.Conv2d(4, 4, 3, padding=((1, 1), (0, 2)), groups=2, bias=False), ic.BatchNorm2d(4)])
    stem = [ic.Conv2d(1, 4, (3, 3), padding="same"), ic.BatchNorm2d(4, momentum=0.2), ic.ReLU(), ScaleByConstant(4, 2)]
    head = [ic.AvgPool2d(2, count_include_pad=False), ic.Dropout(0.3), ic.Flatten(), ic.Linear(64, 3)]
    return ic.Sequential([*stem, ic.Residual(body, ic.Conv2d(4, 4, 1)), ic.ReLU(), *head])


def batches(count, n=7, shape=(1, 8, 8), classes=3):
    return [(normal(n, *shape, seed=i, dtype="float32"), (np.arange(n) + i) % classes) for i in range(count)]


# Training goes on exactly -------------------------------------------------------------------------------------------
OPTIMIZERS = [
    ic.SGD(0.1),
    ic.SGD(ic.Cosine(0.1, warmup=2, steps=9), momentum=0.9, weight_decay=1e-3, nesterov=True),
    ic.Adam(0.01, betas=(0.8, 0.99), weight_decay=0.1),
    ic.AdamW(ic.Constant(0.01, 3)),
]


def described(net):
    """Every layer with its arguments; tuples may come back as lists."""
    return [(n.name, type(n.layer), json.dumps(n.layer.config(), default=repr)) for n in net.graph.nodes]


def stepped_trainer():
    trainer = ic.Trainer(small_net(), optimizer=ic.SGD(0.1, momentum=0.9))
    trainer.step(*batches(1)[0])
    return trainer


def check_continuation(net, optimizer, path, steps, shape, classes=3, seed=4, dtype="float32"):
    """3 + 3 steps with a checkpoint between are 6 steps, to the last bit."""
    data = batches(2 * steps, shape=shape, classes=classes)
    trainer = ic.Trainer(net.init(1, dtype), optimizer=optimizer, seed=seed, shard=3)
    for batch in data[:steps]:
        trainer.step(*batch)
    trainer.save(path)
    saved = everything(trainer)
    expected = [trainer.step(*batch) for batch in data[steps:]]
    again = ic.Trainer.load(path)
    assert again.net is not net
    assert_same_bits(everything(again), saved)
    assert again.net.dtype == dtype
    assert again.net.input_shape == shape
    assert again.optimizer == optimizer
    assert again.seed == seed
    assert [again.step(*batch) for batch in data[steps:]] == expected
    assert_same_bits(everything(again), everything(trainer))
    assert described(again.net) == described(net)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=lambda optimizer: type(optimizer).__name__)
def test_training_goes_on_exactly_with_every_optimizer(optimizer, dtype, tmp_path):
    check_continuation(small_net(), optimizer, tmp_path / "a.safetensors", 3, (1, 8, 8), dtype=dtype)


@pytest.mark.parametrize("name", [name for name in ic.models.MODELS if name not in ("resnet34", "resnet50", "vgg16")])
def test_training_goes_on_exactly_with_every_model(name, tmp_path):
    """But for the largest, which have the blocks of others."""
    optimizer = ic.SGD(0.01) if name == "resnet18" else ic.SGD(0.01, momentum=0.9)  # a big one: 45 MB for each vector
    size = max(8, ic.models.MODELS[name].smallest)
    check_continuation(ic.models.make(name, 3, 1, size, **quick(name)), optimizer, tmp_path / "a", 1, (1, size, size))


def test_arguments_of_layers_come_back(tmp_path):
    own = ScaleByConstant(1, 0.5, "ü", ((1, 2), (3, 4)), None, ic.Conv2d(1, 2, 3), False)
    inner = ic.Sequential([own, ic.Flatten()])
    trainer = ic.Trainer(ic.Sequential([ic.Residual(ic.ReLU(), ic.ReLU()), inner, ic.Linear(4, 2)]))
    trainer.save(tmp_path / "a")
    layer = ic.Trainer.load(tmp_path / "a").net.layers[1].layers[0]
    assert (layer.factor, layer.name, layer.nothing, layer.flag) == (0.5, "ü", None, False)
    assert [list(side) for side in layer.sides] == [[1, 2], [3, 4]]
    assert isinstance(layer.inner, ic.Conv2d)


@dataclass(frozen=True)
class SignDescent(Optimizer):
    """An optimiser of a user's own."""

    decay: float = 0.5

    def state_slots(self):
        return ("sum",)

    def update(self, p, g, state, lr, t, work, xp):
        state["sum"] *= self.decay
        state["sum"] += g
        p -= lr * xp.sign(state["sum"])


def test_a_user_s_optimizer(tmp_path):
    check_continuation(small_net(), SignDescent(0.01, decay=0.7), tmp_path / "a", 2, (1, 8, 8))


def test_loading_into_a_network_that_is_there(tmp_path):
    trainer = ic.Trainer(small_net(), optimizer=ic.Adam())
    trainer.step(*batches(1)[0])
    trainer.save(tmp_path / "a")
    for net in (small_net(), small_net().init(7)):
        again = ic.Trainer.load(tmp_path / "a", net)
        assert again.net is net
        assert_same_bits(everything(again), everything(trainer))


# Within an epoch ----------------------------------------------------------------------------------------------------
class Interrupter:
    """A display that presses Ctrl-C after a number of steps."""

    def __init__(self, after=None, times=1):
        self.after, self.times, self.steps, self.epochs = after, times, [], []

    def step(self, progress):
        self.steps.append((progress.epoch, progress.batch, progress.batches, progress.epochs))
        if len(self.steps) == self.after:
            for _ in range(self.times):
                signal.raise_signal(signal.SIGINT)

    def epoch(self, record):
        self.epochs.append(record["epoch"])


def data(n=50):
    images = np.random.default_rng(0).integers(0, 256, (n, 1, 8, 8)).astype("uint8")
    return Dataset(images, np.arange(n) % 3)


def new_trainer():
    return ic.Trainer(small_net(), optimizer=ic.SGD(ic.Cosine(0.05, warmup=4), momentum=0.9), seed=3)


FIT = {"epochs": 3, "batch_size": 16, "validation": data(20)}  # 4 steps an epoch, the last of 2 images


@pytest.fixture(scope="module")
def uninterrupted():
    trainer = new_trainer()
    trainer.fit(data(), **FIT)
    return trainer


@pytest.mark.parametrize("after", range(1, 13))
def test_training_goes_on_within_an_epoch(after, tmp_path, uninterrupted):
    display = Interrupter(after)
    with pytest.raises(KeyboardInterrupt):
        new_trainer().fit(data(), **FIT, directory=tmp_path, display=display)
    assert len(display.steps) == after  # the step was finished, and no other begun
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    trainer = ic.Trainer.load(tmp_path / "checkpoint.safetensors")
    assert trainer.epoch == after // 4
    rest = Interrupter()
    history = trainer.fit(data(), **FIT, directory=tmp_path, display=rest)
    assert display.steps + rest.steps == [(e, b, 4, 3) for e in (1, 2, 3) for b in (1, 2, 3, 4)]
    assert display.epochs + rest.epochs == [1, 2, 3]
    assert_same_bits(everything(trainer), everything(uninterrupted))
    assert timeless(history) == timeless(uninterrupted.history)
    assert all(record["seconds"] > 0 for record in history)
    lines = (tmp_path / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == history if rest.epochs else True


def test_interrupted_again_and_again(tmp_path, uninterrupted):
    trainer = new_trainer()
    for _ in range(12):
        with pytest.raises(KeyboardInterrupt):
            trainer.fit(data(), **FIT, directory=tmp_path, display=Interrupter(1))
        trainer = ic.Trainer.load(tmp_path / "checkpoint.safetensors")
    assert timeless(trainer.fit(data(), **FIT)) == timeless(uninterrupted.history)
    assert_same_bits(everything(trainer), everything(uninterrupted))


def test_without_a_directory_the_trainer_itself_goes_on(uninterrupted):
    trainer = new_trainer()
    with pytest.raises(KeyboardInterrupt):
        trainer.fit(data(), **FIT, display=Interrupter(6))
    trainer.fit(data(), **FIT)
    assert_same_bits(everything(trainer), everything(uninterrupted))


def test_a_second_ctrl_c_is_the_usual_one(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        new_trainer().fit(data(), **FIT, directory=tmp_path, display=Interrupter(1, times=2))
    assert list(tmp_path.iterdir()) == []  # no time for a checkpoint
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_within_an_epoch_another_batch_size_begins_it_again():
    trainer = new_trainer()
    with pytest.raises(KeyboardInterrupt):
        trainer.fit(data(), **FIT, display=Interrupter(2))
    with pytest.warns(ic.TrainingWarning, match=r"begins again.* 2 of 4 .*batch_size=16, .* 7 batches of batch_size=8"):
        trainer.fit(data(), epochs=3, batch_size=8)
    assert trainer.epoch == len(trainer.history) == 3


def test_epochs_are_counted_in_all(tmp_path, uninterrupted):
    trainer = new_trainer()
    trainer.fit(data(), **FIT, directory=tmp_path)
    assert_same_bits(everything(trainer), everything(uninterrupted))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoint.safetensors", "metrics.jsonl"]
    again = ic.Trainer.load(tmp_path / "checkpoint.safetensors")
    before = everything(again)
    assert again.fit(data(), **FIT) == trainer.history
    assert_same_bits(everything(again), before)
    assert again.epoch == 3
    with pytest.warns(ic.TrainingWarning, match="epochs=4 and was called with epochs=3"):
        assert len(again.fit(data(), **{**FIT, "epochs": 4})) == 4


def test_what_a_history_holds(uninterrupted):
    history = uninterrupted.history
    assert isinstance(history, ic.History)
    keys = ["epoch", "loss", "accuracy", "validation_loss", "validation_accuracy", "lr", "seconds", "images_per_second"]
    assert [list(record) for record in history] == [keys] * 3
    assert history["epoch"] == [1, 2, 3]
    assert history["loss"] == [record["loss"] for record in history]
    assert history["lr"] == pytest.approx([ic.Cosine(0.05, warmup=4)(step, 12) for step in (3, 7, 11)])
    assert history[-1] == list(history)[-1]
    with pytest.raises(KeyError, match="there are: epoch, loss"):
        history["nothing"]
    evaluation = uninterrupted.evaluate(FIT["validation"])
    assert {f"validation_{k}": v for k, v in evaluation.items()}.items() <= history[-1].items()


def test_means_of_an_epoch_are_over_its_images(tmp_path):
    """Of batches of 16, 16, 16 and 2 images; a rate of zero, so that every image has the same loss all the time."""
    net = ic.models.notebook(classes=3).init(0)
    trainer = ic.Trainer(net, optimizer=ic.SGD(0.0))
    record = trainer.fit(data(), epochs=1, batch_size=16)[0]
    expected = trainer.evaluate(data())
    assert record["loss"] == pytest.approx(expected["loss"], rel=1e-6)
    assert record["accuracy"] == expected["accuracy"]


def test_training_stops_at_a_loss_that_is_not_finite(tmp_path):
    trainer = ic.Trainer(ic.models.notebook(classes=3), optimizer=ic.SGD(1e30))
    with pytest.raises(ic.NonFiniteError):
        trainer.fit(data(), epochs=3, directory=tmp_path)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    good = ic.Trainer(ic.models.notebook(classes=3), optimizer=ic.SGD(0.1))
    good.fit(data(), epochs=1, directory=tmp_path / "good")
    before = (tmp_path / "good" / "checkpoint.safetensors").read_bytes()
    bad = Dataset(np.full((50, 1, 8, 8), np.nan, "float32"), np.arange(50) % 3)
    with pytest.raises(ic.NonFiniteError):
        good.fit(bad, epochs=2, directory=tmp_path / "good")
    assert (tmp_path / "good" / "checkpoint.safetensors").read_bytes() == before


@pytest.mark.parametrize("name", ["epochs", "batch_size"])
@pytest.mark.parametrize("value", [0, -1, 1.5, "2", None])
def test_bad_arguments_of_fit(name, value):
    with pytest.raises(ic.ShapeError, match=name):
        new_trainer().fit(data(), **{"epochs": 1, name: value})


# Files are whole or not there ---------------------------------------------------------------------------------------
def no_space(*args, **kwargs):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


class FullDisk:
    """A file that takes the first bytes and no more."""

    def __init__(self, file):
        self.file = file

    def __enter__(self):
        self.file.__enter__()
        return self

    def __exit__(self, *error):
        return self.file.__exit__(*error)

    def __getattr__(self, name):
        return getattr(self.file, name)

    def write(self, content):
        self.file.write(content[:100])
        no_space()


@pytest.mark.parametrize("fails", ["replace", "fsync", "write"])
@pytest.mark.parametrize("there", [True, False])
def test_a_full_disk_leaves_the_old_file(fails, there, tmp_path, monkeypatch):
    path, trainer = tmp_path / "a.safetensors", stepped_trainer()
    if there:
        trainer.save(path)
    before = {p.name: p.read_bytes() for p in tmp_path.iterdir()}
    trainer.step(*batches(1)[0])
    if fails == "write":
        original = open
        monkeypatch.setattr("builtins.open", lambda *a, **k: FullDisk(original(*a, **k)))
    else:
        monkeypatch.setattr(os, fails, no_space)
    with pytest.raises(ic.CheckpointError, match=f"cannot write .*a.safetensors: {os.strerror(errno.ENOSPC)}"):
        trainer.save(path)
    monkeypatch.undo()
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == before
    trainer.save(path)
    assert_same_bits(everything(ic.Trainer.load(path)), everything(trainer))


def test_an_interruption_while_writing_leaves_the_old_file(tmp_path, monkeypatch):
    path, trainer = tmp_path / "a.safetensors", stepped_trainer()
    trainer.save(path)
    before = path.read_bytes()
    trainer.step(*batches(1)[0])

    def interrupted(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupted)
    with pytest.raises(KeyboardInterrupt):
        trainer.save(path)
    assert [p.read_bytes() for p in tmp_path.iterdir()] == [before]


def test_a_file_is_as_readable_as_others(tmp_path):
    mask = os.umask(0o027)
    try:
        new_trainer().save(tmp_path / "a")
    finally:
        os.umask(mask)
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o640


@pytest.mark.parametrize("path", ["missing/a", "file/a", "."])
def test_where_nothing_can_be_written(path, tmp_path):
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(ic.CheckpointError, match="cannot write"):
        new_trainer().save(tmp_path / path)
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(ic.CheckpointError, match="cannot make the folder"):
        new_trainer().fit(data(), **FIT, directory=tmp_path / "file" / "run")


def test_paths_of_every_kind(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    trainer = new_trainer()
    for path in ("plain", str(tmp_path / "a b ü"), Path("sub.safetensors")):
        trainer.save(path)
        assert_same_bits(everything(ic.Trainer.load(path)), everything(trainer))
    assert len(list(tmp_path.iterdir())) == 3


# What cannot be read ------------------------------------------------------------------------------------------------
@pytest.fixture
def saved(tmp_path):
    path = tmp_path / "a.safetensors"
    stepped_trainer().save(path)
    return path


def information(path):
    content = path.read_bytes()
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    return json.loads(header["__metadata__"]["im2colnet"])


def rewrite(path, change_info=lambda info: None, change_tensors=lambda tensors: None):
    """Change a file, and leave out its checksums, as in one of version 0.1."""
    tensors, info = load_file(path), information(path)
    info.pop("crc32", None)
    change_tensors(tensors)
    info = change_info(info) or info
    save_file(tensors, path, {"im2colnet": info if isinstance(info, str) else json.dumps(info)})


@pytest.mark.parametrize("keep", [0, 7, 8, 100, 1000, 0.5, -1])
def test_a_truncated_file(keep, saved):
    content = saved.read_bytes()
    saved.write_bytes(content[: int(keep * len(content)) if keep == 0.5 else keep])
    with pytest.raises(ic.CheckpointError, match=r"cannot read .*a\.safetensors: .*damaged"):
        ic.Trainer.load(saved)


@pytest.mark.parametrize("content", [b"garbage", b"\xff" * 1000, b"\x00" * 64, b"PK\x03\x04" * 40])
def test_garbage(content, tmp_path):
    path = tmp_path / "a"
    path.write_bytes(content)
    with pytest.raises(ic.CheckpointError, match=r"cannot read .*damaged or no checkpoint"):
        ic.Trainer.load(path)


def test_no_file_and_a_folder(tmp_path):
    with pytest.raises(ic.CheckpointError, match="there is no such file"):
        ic.Trainer.load(tmp_path / "nothing")
    with pytest.raises(ic.CheckpointError, match="is a folder: give the checkpoint"):
        ic.Trainer.load(tmp_path)


def test_tensors_that_are_no_checkpoint(tmp_path):
    save_file({"weight": np.zeros(3)}, tmp_path / "a")
    with pytest.raises(ic.CheckpointError, match=r"holds tensors but no im2colnet checkpoint.*load_state_dict"):
        ic.Trainer.load(tmp_path / "a")


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda info: "{", "damaged"),
        (lambda info: "[1, 2]", "damaged"),
        (lambda info: "{}", "damaged"),
        (lambda info: info.update(format=2), "has format 2, this version reads 1; update im2colnet"),
        (lambda info: info.pop("network"), "damaged"),
        (lambda info: info.pop("optimizer"), "damaged"),
        (lambda info: info.pop("state"), "damaged"),
        (lambda info: info.update(network=3), "damaged"),
        (lambda info: info.update(network="Sequential"), "damaged"),
        (lambda info: info.update(optimizer=3), "optimizer"),
        (lambda info: info.update(state={"step": 0}), "damaged"),
        (lambda info: info.update(state=[]), "damaged"),
        (lambda info: info.update(dtype="float16"), "dtype must be"),
        (lambda info: info.update(seed="x"), "a.safetensors"),
        (lambda info: info.update(shard=0), "a.safetensors"),
        (lambda info: info.update(history=3), "damaged"),
        (lambda info: info["network"].update(type="Nonsense"), "a 'Nonsense', .*define or import"),
        (
            lambda info: info["network"]["arguments"]["layers"][3].update(type="Theirs"),
            "'Theirs'.*define or import that class",
        ),
        (
            lambda info: info["network"]["arguments"]["layers"][0]["arguments"].update(kernel_size=0),
            "Conv2d does not fit.*kernel_size",
        ),
        (
            lambda info: info["network"]["arguments"]["layers"][0]["arguments"].update(colour="red"),
            "Conv2d does not fit.*colour",
        ),
        (lambda info: info["optimizer"].update(type="LBFGS"), "a 'LBFGS', .*define or import"),
        (lambda info: info["optimizer"]["arguments"].update(momentum=7), "SGD does not fit.*momentum"),
    ],
)
def test_a_description_that_cannot_be_used(change, text, saved):
    rewrite(saved, lambda info: value if isinstance(value := change(info), str) and value[0] in "{[" else None)
    with pytest.raises(ic.CheckpointError, match=f"(?s){text}") as error:
        ic.Trainer.load(saved)
    assert "a.safetensors" in str(error.value)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda t: t.pop("net.0.weight"), "0.weight is missing"),
        (lambda t: t.update({"net.0.weight": np.zeros((4, 1, 5, 5), "f4")}), r"0.weight has shape \(4, 1, 5, 5\)"),
        (lambda t: t.update({"net.99.weight": np.zeros(3, "f4")}), r"99.weight \(3,\) is not in this network"),
        (lambda t: t.pop("optimizer.velocity.0.weight"), "optimizer.velocity.0.weight"),
        (lambda t: t.update({"optimizer.velocity.0.weight": np.zeros((4, 1, 5, 5), "f4")}), "velocity"),
    ],
)
def test_tensors_that_do_not_fit(change, text, saved):
    rewrite(saved, change_tensors=change)
    with pytest.raises(ic.CheckpointError, match=f"(?s){text}"):
        ic.Trainer.load(saved)


def test_a_checkpoint_of_another_network_lists_the_differences(saved):
    net = ic.Sequential([ic.Conv2d(1, 4, 5), ic.BatchNorm2d(4), ic.Flatten(), ic.Linear(64, 3)]).init(0)
    before = net.state_dict()
    with pytest.raises(ic.CheckpointError) as error:
        ic.Trainer.load(saved, net)
    for text in (
        "a.safetensors",
        "another network",
        "3.bias is missing",
        "3.weight has shape (4,), this network's has (3, 64)",
        "4.body.0.weight (4, 2, 3, 3) is not in this network",
        "0.weight has shape (4, 1, 3, 3), this network's has (4, 1, 5, 5)",
    ):
        assert text in str(error.value)
    assert_same_bits(net.state_dict(), before)


def test_what_cannot_be_described_is_refused_before_a_file_is_written(tmp_path):
    class Strange(Layer):
        def __init__(self, table):
            self.table = table

        def forward(self, x, ctx):
            return x

    trainer = ic.Trainer(ic.Sequential([Strange({"a"}), ic.Flatten(), ic.Linear(4, 2)]))
    with pytest.raises(ic.CheckpointError, match=r"cannot store .*set.*state_dict"):
        trainer.save(tmp_path / "a")
    assert list(tmp_path.iterdir()) == []


def test_a_layer_with_an_argument_called_type(tmp_path):
    class Typed(Layer):
        def __init__(self, type="soft"):
            self.type = type

        def forward(self, x, ctx):
            return x

        def backward(self, dy, ctx):
            return dy

    ic.Trainer(ic.Sequential([Typed("hard"), ic.Flatten(), ic.Linear(4, 2)])).save(tmp_path / "a")
    assert ic.Trainer.load(tmp_path / "a").net.layers[0].type == "hard"


# state_dict ---------------------------------------------------------------------------------------------------------
@every_case("net")
def test_state_dicts_have_pytorch_s_names(config, arrays):
    state = {name.removeprefix("final/"): value for name, value in arrays.items() if name.startswith("final/")}
    tracked = {name for name in state if name.endswith("num_batches_tracked")}
    assert len(tracked) == 3

    def conv(channels):
        return ic.Conv2d(channels, 4, 3, padding=1)

    body = [conv(4), ic.BatchNorm2d(4), ic.ReLU(), conv(4), ic.BatchNorm2d(4)]
    stem = [conv(2), ic.BatchNorm2d(4), ic.ReLU(), ic.MaxPool2d(2)]
    head = [ic.ReLU(), ic.Flatten(), ic.Linear(64, 3)]
    net = ic.Sequential([*stem, ic.Residual(ic.Sequential(body)), *head]).init(0, "float64")
    net.load_state_dict(state)  # with PyTorch's counters
    own = net.state_dict()
    assert list(own) == [name for name in state if name not in tracked]
    assert_same_bits(own, {name: state[name] for name in own})
    assert set(net.parameters()) == {name for name in own if "running" not in name}


def test_state_dicts_are_copies():
    net = small_net().init(0)
    state = net.state_dict()
    before = {name: value.copy() for name, value in state.items()}
    for value in state.values():
        assert value.flags.c_contiguous
        value[...] = 7
    assert_same_bits(net.state_dict(), before)
    net.load_state_dict(state)
    state["0.weight"][...] = 8
    assert (net.flat == 7).all()


def test_loading_gives_parameters_to_a_network_without():
    net, other = small_net(), small_net().init(5)
    net.load_state_dict(other.state_dict())
    assert_same_bits(net.state_dict(), other.state_dict())


def test_a_state_may_have_other_types_and_orders():
    net, state = small_net().init(0), small_net().init(5, "float64").state_dict()
    net.load_state_dict({name: np.asfortranarray(value).astype(">f8") for name, value in reversed(state.items())})
    assert_same_bits(net.state_dict(), {name: value.astype("f4") for name, value in state.items()})
    net.load_state_dict({name: value.tolist() for name, value in state.items()})
    assert_same_bits(net.state_dict(), {name: value.astype("f4") for name, value in state.items()})


def test_a_wrong_state_changes_nothing():
    net = small_net().init(0)
    before, state = net.state_dict(), small_net().init(5).state_dict()
    for change in ({"0.weight": state["0.weight"][:3]}, {"more": np.zeros(2)}, {"0.bias": np.zeros((4, 1))}):
        with pytest.raises(ic.CheckpointError):
            net.load_state_dict({**state, **change})
    with pytest.raises(ic.CheckpointError, match=r"0\.bias is missing"):
        net.load_state_dict({name: value for name, value in state.items() if name != "0.bias"})
    with pytest.raises((ic.Im2colnetError, ValueError)):
        net.load_state_dict({**state, "10.bias": np.array(["a", "b", "c"])})
    assert_same_bits(net.state_dict(), before)
