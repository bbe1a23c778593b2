"""``im2colnet train``: gradients that are clipped and added up, and weights of another checkpoint to begin with."""

import json

import numpy as np
import pytest

import im2colnet as ic
from im2colnet.training.trainer import Trainer

pytestmark = pytest.mark.usefixtures("folder")


def write(name, classes, n=24, channels=1, size=8):
    """An .npz file of random images of these classes."""
    rng = np.random.default_rng(len(classes))
    images, labels = rng.integers(0, 256, (n, channels, size, size), dtype="uint8"), np.arange(n) % len(classes)
    np.savez(name, images=images, labels=labels, classes=np.array(classes))
    return name


def checkpoint(report):
    return Trainer.load(report["checkpoint"])


def trained(run, *options):
    report = json.loads(run("train", "--epochs", "1", "--batch-size", "8", "--json", *options)[0])
    return report, checkpoint(report)


def first():
    """A trainer with a checkpoint ``first.safetensors``, whose network tells the classes of ``first.npz`` apart."""
    trainer = ic.Trainer(ic.models.notebook(2, 1, 8))
    trainer.fit(ic.datasets.load(write("first.npz", ["a", "b"]))[0], epochs=1, progress=False)
    trainer.save("first.safetensors")
    return trainer


def test_gradients(run):
    options = ["--clip-norm", "0.5", "--clip-value", "0.1", "--accumulate", "2", "--no-decay-on-norms"]
    data = write("few.npz", ["a", "b"])
    options = ["--data", data, "--model", "notebook", "--epochs", "1", "--batch-size", "8", *options]
    out, _ = run("train", *options, "--out", "made")
    assert "an update after 2 batches, gradient norm at most 0.5, gradient values at most 0.1" in out
    trainer = Trainer.load("made/checkpoint.safetensors")
    assert (trainer.clip_norm, trainer.clip_value, trainer.accumulate) == (0.5, 0.1, 2)
    assert trainer.groups == ic.optim.decay_weights_only(trainer.net) != {}
    assert (trainer.steps, trainer.updates) == (3, 2)


def test_frozen_parameters_stay(run):
    data = write("few.npz", ["a", "b"])
    options = ["--data", data, "--model", "resnet20", "--seed", "3", "--freeze", "[0-9].*", "--freeze", "1?.*"]
    report, trainer = trained(run, *options, "--freeze-statistics")
    drawn = ic.models.resnet20(2, 1, 8).init(3).state_dict()
    for name, found in trainer.net.state_dict().items():
        assert np.array_equal(found, drawn[name]) == (name in trainer.net.frozen)
        assert (name in trainer.net.frozen) == (name.split(".")[0] in [str(i) for i in range(20)])
    resumed = run("train", "--resume", report["checkpoint"], "--epochs", "2")[0]
    assert "of them frozen, and running statistics" in resumed


@pytest.mark.parametrize("classes", [["c", "d", "e"], ["c", "d"]])
def test_other_classes_get_a_new_last_layer(run, classes):
    """Also where there are as many as before."""
    trainer = first()
    options = ["--init-from", "first.safetensors", "--lr", "1e-9"]
    out, _ = run("train", "--data", write("second.npz", classes), "--epochs", "1", "--batch-size", "8", *options)
    last = [*trainer.net.parameters()][-1].rpartition(".")[0]
    assert f"the last layer {last} is replaced, since the classes differ: Linear(" in out
    assert "entries of the network loaded" in out
    report, tuned = trained(run, "--data", "second.npz", *options)
    assert report["model"] == "network"
    assert tuned.net.predict(np.zeros((1, 1, 8, 8), "uint8")).shape == (1, len(classes))
    old, new = trainer.net.state_dict(), tuned.net.state_dict()
    for name in old:
        same = old[name].shape == new[name].shape and np.allclose(old[name], new[name], atol=1e-6)
        assert same != name.startswith(f"{last}.")
    assert run("predict", report["checkpoint"], "second.npz", "--json")[0]


def test_the_same_classes_keep_the_last_layer(run):
    trainer, data = first(), write("more.npz", ["a", "b"], n=32)
    _, tuned = trained(run, "--data", data, "--init-from", "first.safetensors", "--lr", "1e-9")
    old, new = trainer.net.state_dict(), tuned.net.state_dict()
    assert all(np.allclose(old[name], new[name], atol=1e-6) for name in old)


def test_another_model_takes_what_fits(run):
    before, _ = trained(run, "--data", write("first.npz", ["a", "b"]), "--model", "notebook")
    options = ["--data", write("larger.npz", ["x", "y", "z"], size=12), "--init-from", before["checkpoint"]]
    out, _ = run("train", *options, "--model", "notebook", "--epochs", "1", "--batch-size", "8")
    assert "2 of 4 entries of the network loaded\nmissing in the state, kept as they were:\n  4.weight" in out
    assert "the last layer" not in out
    report, _ = trained(run, "--data", write("others.npz", ["x", "y"]), "--init-from", before["folder"])
    assert report["model"] == "notebook"
    _, err = run("train", *options, "--model", "mobilenet", "--width", "0.1", code=1)
    assert "no entry of the state fits this network" in err


def test_a_network_of_ones_own(run):
    """Which is no model of the library, and whose checkpoint lies beside no run."""
    net = ic.Net(
        {"body": ic.Conv2d(1, 4, 3), "pool": ic.GlobalAvgPool2d(), "flat": ic.Flatten(), "fc": ic.Linear(4, 5)}
    )
    ic.Trainer(net).save("own.safetensors")
    _, tuned = trained(run, "--data", write("first.npz", ["a", "b"]), "--init-from", "own.safetensors")
    assert repr(tuned.net["fc"]) == "Linear(4, 2)"


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        (["--freeze", "features.*"], 1, "the pattern 'features.*' matches no name; there are: "),
        (["--freeze-statistics"], 2, "--freeze-statistics needs --freeze PATTERN"),
        (["--clip-norm", "0"], 2, "must be a number above 0"),
        (["--accumulate", "0"], 2, "must be a whole number of at least 1"),
        (["--init-from", "missing.safetensors"], 1, "there is no such file"),
        (["--init-from", "first.safetensors", "--width", "0.5"], 2, "give --model too"),
        (["--init-from", "first.safetensors", "--data", "color.npz"], 1, "expected 1 input channels, got 3"),
        (["--init-from", "no_head.safetensors"], 2, "does not end with a linear layer"),
        (["--init-from", "floats.safetensors"], 1, "uint8"),
    ],
)
def test_what_does_not_go_together(run, options, code, message):
    first()
    write("color.npz", ["a", "b", "c"], channels=3)
    ic.Trainer(ic.Sequential([ic.Conv2d(1, 3, 8), ic.Flatten()])).save("no_head.safetensors")
    net = ic.Sequential([ic.Flatten(), ic.Linear(64, 2)])
    trainer = ic.Trainer(net)
    trainer.fit((np.random.default_rng(0).standard_normal((8, 1, 8, 8)), np.arange(8) % 2), epochs=1, progress=False)
    trainer.save("floats.safetensors")
    _, err = run("train", "--data", "first.npz", "--epochs", "1", *options, code=code)
    assert message in " ".join(err.split())


def test_settings_of_a_checkpoint_stay(run):
    first()
    for option in (["--clip-norm", "1"], ["--accumulate", "2"], ["--freeze", "*"], ["--no-decay-on-norms"]):
        _, err = run("train", "--resume", "first.safetensors", "--epochs", "2", *option, code=2)
        assert f"leave out {option[0]}" in err
