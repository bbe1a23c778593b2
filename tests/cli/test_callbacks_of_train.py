"""Early stopping, averages, the best epoch, logs: as options of ``im2colnet train``."""

import json
import shlex
import signal
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from helpers import assert_same_bits

from im2colnet.cli.commands import train
from im2colnet.show.progress import PlainDisplay
from im2colnet.training import checkpoint
from im2colnet.training.trainer import Trainer

FAST = ("train", "--model", "notebook", "--threads", "1", "--batch-size", "128")
pytestmark = pytest.mark.usefixtures("folder")


def test_early_stopping_and_the_best_epoch(run):
    options = ("--early-stopping", "1", "--monitor", "accuracy", "--keep-best", "--lr", "3")
    out, _ = run(*FAST, "--epochs", "30", *options, "--out", "run", "--json")
    facts = json.loads(out)
    scores = [record["validation_accuracy"] for record in facts["history"]]
    assert facts["epochs"] == len(scores) < 30
    assert max(scores) == scores[-2]
    assert facts["test"]["accuracy"] == max(scores)
    assert facts["best"] == str(Path("run/best.safetensors"))
    for name in "best", "checkpoint":
        out, _ = run("evaluate", f"run/{name}.safetensors", "--json")
        assert json.loads(out)["accuracy"] == max(scores)
    # it stays stopped, and goes on without
    assert json.loads(run("train", "--resume", "run/checkpoint.safetensors", "--json")[0])["epochs"] == len(scores)
    more = ("--early-stopping", "0", "--epochs", str(len(scores) + 1))
    out, err = run("train", "--resume", "run/checkpoint.safetensors", "--json", *more)
    assert json.loads(out)["epochs"] == len(scores) + 1
    assert "EarlyStopping took part" in err


@pytest.mark.skipif(sys.platform == "win32", reason="Windows sends no SIGINT to one process")
@pytest.mark.parametrize("options", [("--ema", "0.8"), ("--swa", "2")])
def test_an_interrupted_run_goes_on_with_its_options(run, monkeypatch, options):
    options = (*options, "--early-stopping", "2", "--save-every", "5", "--epochs", "3")
    run(*FAST, *options, "--out", "whole")

    class Interrupting(PlainDisplay):
        steps = 0

        def step(self, progress):
            self.steps += 1
            if self.steps == 17:
                signal.raise_signal(signal.SIGINT)

    with monkeypatch.context() as patch:
        patch.setattr(train, "make_display", Interrupting)
        _, err = run(*FAST, *options, "--out", "run", code=130)
    run(*shlex.split(err.splitlines()[-1])[1:])
    whole, resumed = (checkpoint.read(f"{name}/checkpoint.safetensors")[0] for name in ("whole", "run"))
    assert_same_bits(resumed, whole)
    assert any(name.startswith("own.") for name in whole)


def test_quiet_and_lines(run):
    out, err = run(*FAST, "--epochs", "2", "--quiet")
    assert out.startswith("\ntest ")
    assert err == ""
    out, _ = run(*FAST, "--epochs", "2", "--log-interval", "1e-9")
    assert "epoch 1/2  batch 1/12  loss " in out
    assert run(*FAST, "--epochs", "1", "--quiet", "--json")[1] == ""


def test_tensorboard(run, monkeypatch):
    """With a stand-in for the package, whose import takes seconds."""
    folders = []

    class Writer:
        add_scalar = flush = close = lambda *arguments: None

        def __init__(self, folder, **options):
            folders.append(Path(folder))

    monkeypatch.setitem(sys.modules, "tensorboardX", SimpleNamespace(SummaryWriter=Writer))
    run(*FAST, "--epochs", "1", "--tensorboard", "--out", "run")
    assert folders == [Path("run/tensorboard")]


@pytest.mark.parametrize(
    "options",
    [
        ("--ema", "1"),
        ("--ema", "nan"),
        ("--swa", "1.5"),
        ("--swa", "inf"),
        ("--ema", "0.9", "--swa", "2"),
        ("--early-stopping", "-1"),
        ("--early-stopping", "1.5"),
        ("--monitor", "loss"),
        ("--save-every", "0"),
        ("--save-every", "soon"),
        ("--log-interval", "0"),
        ("--quiet", "--log-interval", "3"),
    ],
)
def test_wrong_usage(run, options):
    _, err = run(*FAST, *options, code=2)
    assert options[0] in err


def test_a_number_that_is_not_measured(run):
    _, err = run(*FAST, "--epochs", "2", "--early-stopping", "1", "--monitor", "f7", "--out", "run", code=1)
    assert "validation_accuracy" in err


@pytest.mark.parametrize("value", [[], {"ema": "much"}, {"ema": [1]}, {"keep_best": "yes"}, {"save_every": {}}, 3])
def test_a_damaged_record_is_refused(run, folder, value):
    run(*FAST, "--epochs", "1", "--out", "run")
    record = json.loads((folder / "run/run.json").read_text()) | {"callbacks": value}
    (folder / "run/run.json").write_text(json.dumps(record))
    _, err = run("train", "--resume", "run/checkpoint.safetensors", "--epochs", "2", code=1)
    assert "'callbacks' must be options of im2colnet train by name" in err
    assert Trainer.load("run/checkpoint.safetensors").epoch == 1
