"""``im2colnet train``: what it prints and leaves, its exit codes, and going on after Ctrl-C."""

import json
import os
import re
import shlex
import signal
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from starting import FAST, ONE_EPOCH, ROOT, start

import im2colnet as ic
from im2colnet.backend import registry
from im2colnet.cli.commands import train
from im2colnet.optim.defaults import OPTIMIZERS
from im2colnet.training import checkpoint
from im2colnet.training.trainer import Trainer

pytestmark = pytest.mark.usefixtures("folder")


def test_every_model_and_optimiser_is_in_the_help(run):
    out, _ = run("train", "--help")
    assert f"--model {{{','.join(ic.models.MODELS)}}}" in out
    assert f"--optimizer {{{','.join(OPTIMIZERS)}}}" in out
    for name, model in ic.models.MODELS.items():
        assert re.search(rf"^  {name} +{model.recipe.epochs} epochs, batch size {model.recipe.batch_size}, ", out, re.M)


def test_train_leaves_a_run_folder(run, folder):
    out, err = run(*FAST, "--epochs", "2")
    assert err == ""
    lines = out.splitlines()
    assert lines[0] == "data     digits, 1,438 training and 359 test images of 1×8×8"
    assert [line.split("  ")[0] for line in lines if line.startswith("epoch")] == ["epoch 1/2", "epoch 2/2"]
    assert "folder   runs/digits-notebook-1" in lines
    made = folder / "runs" / "digits-notebook-1"
    drawn = ["curves.png"] if find_spec("matplotlib") else []
    assert sorted(f.name for f in made.iterdir()) == ["checkpoint.safetensors", *drawn, "metrics.jsonl", "run.json"]
    metrics = [json.loads(line) for line in (made / "metrics.jsonl").read_text().splitlines()]
    assert [record["epoch"] for record in metrics] == [1, 2]
    assert f"test     loss {metrics[1]['validation_loss']:.4f}" in out
    assert all((made / name).read_bytes().startswith(b"\x89PNG") for name in drawn)


@pytest.mark.parametrize("model", ["notebook", "resnet20"])
def test_train_takes_images_that_are_not_square(run, model):
    images = np.random.default_rng(0).integers(0, 256, (20, 8, 13), dtype=np.uint8)
    np.savez("wide.npz", images=images, labels=np.arange(20) % 2)
    report = json.loads(run("train", "--data", "wide.npz", "--model", model, "--epochs", "1", "--json")[0])
    predicted = json.loads(run("predict", report["checkpoint"], "wide.npz", "--json")[0])["predictions"]
    assert len(predicted) == 20
    assert "input (1, 1, 8, 13)" in run("summary", "--model", model, "--data", "wide.npz")[0]


def test_train_reports_json(run):
    out, err = run(*FAST, "--epochs", "2", "--seed", "3", "--optimizer", "sgd", "--lr", "0.1", "--json")
    report = json.loads(out)
    assert "epoch 2/2" in err
    assert report["model"] == "notebook"
    assert report["parameters"] == 20 + 18 * 10 + 10
    assert report["seed"] == 3
    assert report["optimizer"]["type"] == "SGD"
    assert report["optimizer"]["arguments"]["lr"]["arguments"]["lr"] == 0.1
    assert (report["backend"], report["threads"], report["workers"]) == ("numpy", 1, "1 worker")
    last = report["history"][-1]
    assert report["test"] == {"loss": last["validation_loss"], "accuracy": last["validation_accuracy"]}
    assert report["seconds"] == pytest.approx(sum(record["seconds"] for record in report["history"]))
    trainer = Trainer.load(report["checkpoint"])
    assert trainer.evaluate(ic.datasets.load("digits")[1]) == pytest.approx(report["test"])


def test_the_default_learns_the_digits(run):
    out, _ = run("train", "--epochs", "4", "--json")
    report = json.loads(out)
    assert report["model"] == "resnet20"
    assert report["test"]["accuracy"] > 0.95


def test_the_same_seed_gives_the_same_network(run, folder):
    for out, seed in (("a", 1), ("b", 1), ("c", 2)):
        run(*FAST, "--epochs", "1", "--seed", seed, "--out", out)
    a, b, c = (folder / out / "checkpoint.safetensors" for out in "abc")
    assert equal(a, b)
    assert not equal(a, c)


def test_train_on_a_file_of_ones_own(run, folder):
    train, _ = ic.datasets.load("digits")
    np.savez(folder / "mine.npz", images=train.images[:200, 0], labels=train.labels[:200] % 3)
    out, _ = run(*FAST, "--data", "mine.npz", "--epochs", "1", "--json")
    report = json.loads(out)
    assert report["folder"] == str(Path("runs", "mine-notebook-1"))
    os.chdir("runs")  # the run knows its data from any working directory
    out, _ = run("evaluate", "mine-notebook-1/checkpoint.safetensors", "--json")
    assert json.loads(out)["images"] == 40
    assert [row["class"] for row in json.loads(out)["classes"]] == ["0", "1", "2"]


def test_train_on_another_backend(run, monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "tests" / "plugin"))
    monkeypatch.setitem(registry.BUILT_IN, "demo", "im2colnet_demo:DemoBackend")
    out, _ = run(*FAST, "--epochs", "1", "--backend", "demo", "--json")
    assert json.loads(out)["backend"] == "demo"
    monkeypatch.setenv("IM2COLNET_BACKEND", "demo")
    out, _ = run("evaluate", json.loads(out)["checkpoint"], "--json")
    assert json.loads(out)["backend"] == "demo"


def test_without_rich_and_matplotlib(run, monkeypatch):
    for module in ("rich", "matplotlib", "im2colnet.show.plots"):
        monkeypatch.setitem(sys.modules, module, None)
    out, _ = run(*FAST, "--epochs", "1")
    assert "epoch 1/1  loss " in out
    assert out.count("pip install matplotlib (the extra viz") == 1
    out, _ = run(*FAST, "--epochs", "1", "--json")
    assert json.loads(out)["curves"] is None


def test_curves_that_cannot_be_drawn_are_no_failure(run, monkeypatch):
    pytest.importorskip("matplotlib")

    def fails(*arguments):
        raise FileNotFoundError("No usable temporary directory found")

    monkeypatch.setattr("im2colnet.show.plots.save_curves", fails)
    assert "hint     the curves could not be drawn: No usable temporary directory found" in run(*ONE_EPOCH)[0]


def test_the_last_batch_can_be_left_out(run, monkeypatch, folder):
    fit, given = Trainer.fit, []

    def recording(self, *arguments, drop_last=False, **options):
        given.append(drop_last)
        return fit(self, *arguments, **options)

    monkeypatch.setattr(Trainer, "fit", recording)
    run(*ONE_EPOCH, "--drop-last", "--out", "a")
    run(*ONE_EPOCH, "--out", "b")
    run("train", "--resume", "a/checkpoint.safetensors", "--epochs", "2")  # it goes on as it began
    assert given == [True, False, True]


def test_diverging_before_a_checkpoint(run, folder):
    _, err = run(*FAST, "--optimizer", "sgd", "--lr", "1e30", "--out", "run", code=1)
    assert "lower learning rate" in err
    assert err.endswith("there is no checkpoint yet\n")


def test_diverging_after_a_checkpoint(run, folder, monkeypatch):
    fit = Trainer.fit

    def diverge(self, train, epochs, *arguments, **options):
        fit(self, train, 1, *arguments, **options)
        raise ic.NonFiniteError("the loss is nan")

    monkeypatch.setattr(Trainer, "fit", diverge)
    _, err = run(*FAST, "--out", "run", code=1)
    assert err.endswith(f"the loss is nan; the last good checkpoint stays: {Path('run/checkpoint.safetensors')}\n")
    assert Trainer.load("run/checkpoint.safetensors").epoch == 1


def tensors(path):
    return checkpoint.read(path)[0]


def equal(a, b):
    """Whether two checkpoints hold the same tensors, bit for bit."""
    a, b = tensors(a), tensors(b)
    return a.keys() == b.keys() and all(a[name].tobytes() == b[name].tobytes() for name in a)


#: main() with a display that sends its own process Ctrl-C after a number of steps: 45 are an epoch
INTERRUPT = """
import os, signal, sys
from im2colnet.cli import main
from im2colnet.cli.commands import train
from im2colnet.show.progress import PlainDisplay

class Interrupting(PlainDisplay):
    steps = 0
    def step(self, progress):
        self.steps += 1
        if self.steps == int(sys.argv[1]):
            os.kill(os.getpid(), signal.SIGINT)

signal.signal(signal.SIGINT, signal.default_int_handler)    # it may be ignored where the tests run
train.make_display = Interrupting
sys.exit(main(sys.argv[2:]))
"""


needs_sigint = pytest.mark.skipif(sys.platform == "win32", reason="Windows sends no SIGINT to one process")


@needs_sigint
@pytest.mark.parametrize("steps", [20, 45, 77])
def test_going_on_after_ctrl_c_is_exact(run, folder, steps):
    """Within the first epoch, at its end, and within the second: as if there had been no interruption."""
    run(*FAST, "--epochs", "3", "--seed", "5", "--out", "whole")
    child = start(steps, *FAST, "--epochs", "3", "--seed", "5", "--out", "run", script=INTERRUPT)
    out, err = child.communicate(timeout=120)
    assert child.returncode == 130, err
    assert out.count("epoch") == steps // 45
    assert "Traceback" not in err
    command = shlex.split(err.splitlines()[-1])
    assert command[:4] == ["im2colnet", "train", "--resume", str(Path("run/checkpoint.safetensors"))]
    assert not equal("whole/checkpoint.safetensors", "run/checkpoint.safetensors")
    run(*command[1:])
    assert equal("whole/checkpoint.safetensors", "run/checkpoint.safetensors")
    whole, resumed = (Trainer.load(f"{out}/checkpoint.safetensors").history for out in ("whole", "run"))
    for key in ("loss", "accuracy", "validation_loss", "validation_accuracy", "lr"):
        assert whole[key] == resumed[key]


@needs_sigint
def test_ctrl_c_from_outside(folder):
    script = (
        "import signal, sys\nsignal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "from im2colnet.cli import main\nsys.exit(main(sys.argv[1:]))"
    )
    with start(*FAST, "--epochs", "100000", "--out", "a run", "--json", script=script) as child:
        for line in child.stderr:
            if line.startswith("epoch"):
                break
        child.send_signal(signal.SIGINT)
        out, err = child.communicate(timeout=60)
    assert child.returncode == 130
    assert out == ""
    assert "Traceback" not in err
    checkpoint_file = str(Path("a run/checkpoint.safetensors"))
    assert shlex.split(err.splitlines()[-1]) == [
        "im2colnet",
        "train",
        "--resume",
        checkpoint_file,
        "--data",
        "digits",
        "--epochs",
        "100000",
        "--threads",
        "1",
    ]
    assert Trainer.load(checkpoint_file).epoch >= 1


def test_ctrl_c_before_there_is_a_checkpoint(run, monkeypatch):
    def interrupt(*arguments, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr(Trainer, "fit", interrupt)
    assert run(*FAST, code=130)[1] == "\ninterrupted before there was a checkpoint\n"
    monkeypatch.setattr(ic.datasets, "load", interrupt)
    assert run(*FAST, code=130)[1] == "im2colnet: interrupted\n"


def test_more_epochs(run, folder):
    run(*FAST, "--epochs", "1", "--schedule", "constant", "--out", "run")
    out, _ = run("train", "--resume", "run/checkpoint.safetensors", "--epochs", "3", "--json")
    report = json.loads(out)
    assert report["epochs"] == 3
    assert report["folder"] == "run"
    run(*FAST, "--epochs", "3", "--schedule", "constant", "--out", "whole")
    assert equal("whole/checkpoint.safetensors", "run/checkpoint.safetensors")


def test_nothing_left_to_do(run, folder, trained):
    for file in trained.parent.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    before = (folder / "run.json").read_text()
    out, _ = run("train", "--resume", "checkpoint.safetensors", "--epochs", "2", "--out", "other")
    assert "already done: 3 epochs;" in out
    assert "for 3 epochs" in out
    assert (folder / "run.json").read_text() == before
    assert not (folder / "other").exists()


def test_a_training_that_was_begun_in_python(run, folder):
    train, test = ic.datasets.load("digits")
    trainer = ic.Trainer(ic.models.notebook(classes=10), optimizer=ic.Adam())
    trainer.fit(train, epochs=1, batch_size=100)
    trainer.save("mine.safetensors")
    given = ("--data", "digits", "--batch-size", "100", "--epochs")
    out, err = run("train", "--resume", "mine.safetensors", *given, "1", "--json")
    report = json.loads(out)
    assert "already done: 1 epoch;" in err
    assert report["test"] == pytest.approx(trainer.evaluate(test))
    assert report["checkpoint"] is report["metrics"] is None
    out, _ = run("train", "--resume", "mine.safetensors", *given, "2", "--json")
    assert [len(record) for record in json.loads(out)["history"]] == [6, 8]


def test_resume_into_another_folder(run, folder, trained):
    before = trained.read_bytes()
    run("train", "--resume", trained, "--epochs", "4", "--out", "other")
    assert trained.read_bytes() == before
    assert Trainer.load("other/checkpoint.safetensors").epoch == 4


def test_resume_has_its_own_settings(run, trained):
    given = ("--lr", "0.1", "--weight-decay", "0", "--shard", "8", "--width", "1")
    _, err = run("train", "--resume", trained, *given, code=2)
    assert "leave out --lr, --weight-decay, --shard, --width" in err


def test_the_shard_is_said_kept_and_resumed_with(run):
    """Dividing a batch otherwise changes the last digits, so that a training goes on as it was divided."""
    out, _ = run(*ONE_EPOCH, "--shard", "8", "--out", "run")
    assert "shards   32 images in 4 shards on 1 worker" in out.splitlines()
    out, _ = run("train", "--resume", "run/checkpoint.safetensors", "--epochs", "2", "--threads", "2", "--json")
    resumed = json.loads(out)
    assert resumed["shard"] == 8
    assert json.loads(run(*ONE_EPOCH, "--json")[0])["shard"] is None


def test_head_of_a_training_says_how_many_workers_get_work(run):
    out, _ = run("train", "--model", "notebook", "--epochs", "1", "--shard", "16", "--threads", "3")
    assert "shards   32 images in 2 shards on 2 of 3 workers" in out.splitlines()


def test_record_says_whether_the_training_is_done(run, trained):
    """A program that starts the command again and again sees by it whether a run has come to its end."""
    record = trained.with_name("run.json")
    done = json.loads(record.read_text())
    assert done["done"] is True
    seen = []

    class Watched(Trainer):
        def fit(self, *args, **options):
            seen.append(json.loads(Path("run/run.json").read_text())["done"])
            return super().fit(*args, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(train, "Trainer", Watched)
        run(*ONE_EPOCH, "--out", "run")
        assert json.loads(Path("run/run.json").read_text())["done"] is True
        run("train", "--resume", "run/checkpoint.safetensors", "--epochs", "2")
    assert seen == [False, False]


def test_run_that_was_killed_before_its_end_was_noted(run, trained):
    Path("run").mkdir()
    for file in trained.parent.iterdir():
        (Path("run") / file.name).write_bytes(file.read_bytes())
    record = json.loads(Path("run/run.json").read_text())
    Path("run/run.json").write_text(json.dumps(record | {"done": False}))
    resume = "train", "--resume", "run/checkpoint.safetensors"
    assert "already done: 3 epochs" in run(*resume, "--epochs", "2")[0]
    assert json.loads(Path("run/run.json").read_text())["done"] is False, "the run is one of 3 epochs"
    assert "already done: 3 epochs" in run(*resume)[0]
    assert json.loads(Path("run/run.json").read_text())["done"] is True
    del record["done"]  # of an earlier version
    Path("run/run.json").write_text(json.dumps(record))
    assert "recall" in run("evaluate", "run")[0]


def test_resume_another_network(run, trained):
    _, err = run("train", "--resume", trained, "--model", "vgg8", code=1)
    assert "the state belongs to another network" in err
    assert "0.weight has shape (2, 1, 3, 3), this network's has (32, 1, 3, 3)" in err


def test_resume_with_other_images(run, folder, trained):
    train, _ = ic.datasets.load("digits")
    np.savez(folder / "other.npz", images=train.images[::-1], labels=train.labels[::-1])
    _, err = run("train", "--resume", trained, "--data", "other.npz", code=1)
    assert "was trained on images that differ from those of other" in err


def test_resume_a_checkpoint_without_its_run(run, folder, trained):
    (folder / "lone.safetensors").write_bytes(trained.read_bytes())
    _, err = run("train", "--resume", "lone.safetensors", code=2)
    assert "give --data, --epochs and --batch-size" in err
    out, _ = run(
        "train", "--resume", "lone.safetensors", "--data", "digits", "--epochs", "4", "--batch-size", "32", "--json"
    )
    assert json.loads(out)["folder"] == str(Path("runs/digits-network-1"))
