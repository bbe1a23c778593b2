"""The folder of a run: its record, and that it is for one run at a time."""

import json
import os
import shlex
import signal
import sys
import threading
from contextlib import ExitStack
from pathlib import Path

import pytest
from starting import FAST, ONE_EPOCH, finish

import im2colnet as ic
from im2colnet.cli import main
from im2colnet.cli.command_line import make_parser
from im2colnet.cli.commands.train import how_to_go_on
from im2colnet.cli.run_folder import RunRecord, take_folder
from im2colnet.training.trainer import Trainer

pytestmark = pytest.mark.usefixtures("folder")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("data", 1),
        ("data", None),
        ("data", ""),
        ("data", "x\0.npz"),
        ("folder", 7),
        ("folder", ""),
        ("folder", []),
        ("model", None),
        ("model", "../../x"),
        ("epochs", "9"),
        ("epochs", 0),
        ("epochs", True),
        ("epochs", 1e3),
        ("epochs", 10**30),
        ("batch_size", -1),
        ("batch_size", None),
        ("classes", None),
        ("classes", {"a": 1}),
        ("classes", [1, 2]),
        ("classes", "0123456789"),
        ("checksum", "1"),
        ("checksum", 1.5),
        ("drop_last", 1),
        ("process", 3),
    ],
)
def test_a_run_of_wrong_types(run, folder, trained, field, value):
    (folder / "checkpoint.safetensors").write_bytes(trained.read_bytes())
    information = json.loads(trained.with_name("run.json").read_text())
    (folder / "run.json").write_text(json.dumps(information | {field: value}))
    for command in (("evaluate", "checkpoint.safetensors"), ("train", "--resume", "checkpoint.safetensors")):
        _, err = run(*command, code=1)
        assert f"cannot read run.json, which belongs to the checkpoint: '{field}' must be " in err


def test_a_run_of_another_version(run, folder, trained):
    """Without what was added later it is still read, and with what a later version adds."""
    (folder / "checkpoint.safetensors").write_bytes(trained.read_bytes())
    information = json.loads(trained.with_name("run.json").read_text())
    del information["process"], information["drop_last"]
    (folder / "run.json").write_text(json.dumps(information | {"of_the_future": [1]}))
    run("evaluate", "checkpoint.safetensors")
    for content in (b"[" * 100_000, b"\xff\xfe\0", b'{"epochs": ' + b"9" * 5000 + b"}", b"null", b"{}"):
        (folder / "run.json").write_bytes(content)
        assert "cannot read run.json" in run("evaluate", "checkpoint.safetensors", code=1)[1]
    (folder / "run.json").unlink()
    if hasattr(os, "mkfifo"):
        os.mkfifo("run.json")  # nobody will ever write to it
        assert "it is not a file" in run("evaluate", "checkpoint.safetensors", code=1)[1]


def test_damaged_run_file(run, folder, trained):
    (folder / "checkpoint.safetensors").write_bytes(trained.read_bytes())
    for content in ("{", "[]", '{"data": 1}'):
        (folder / "run.json").write_text(content)
        assert "cannot read run.json" in run("evaluate", "checkpoint.safetensors", code=1)[1]


def test_new_run_folders_take_the_lowest_free_number(run, folder):
    for number in (1, 3):
        (folder / "runs" / f"digits-notebook-{number}").mkdir(parents=True)
    out, _ = run(*FAST, "--epochs", "1", "--json")
    assert json.loads(out)["folder"] == str(Path("runs", "digits-notebook-2"))


def test_no_run_folder_is_overwritten(run, trained):
    before = trained.read_bytes()
    _, err = run(*FAST, "--out", trained.parent, code=1)
    assert "is the folder of another run" in err
    assert trained.read_bytes() == before


needs_locks = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no flock")


def during_fit(monkeypatch, do):
    """Do something while a training is under way, before it has a checkpoint."""
    fit = Trainer.fit

    def with_it(self, *arguments, **options):
        monkeypatch.setattr(Trainer, "fit", fit)
        do()
        return fit(self, *arguments, **options)

    monkeypatch.setattr(Trainer, "fit", with_it)


@needs_locks
def test_a_folder_is_for_one_run(run, folder, monkeypatch, capsys):
    codes = []
    during_fit(monkeypatch, lambda: codes.append(main([*ONE_EPOCH, "--out", "run", "--seed", "1"])))
    assert main([*ONE_EPOCH, "--out", "run"]) == 0
    assert codes == [1]
    assert f"run is the folder of a run that is still training (process {os.getpid()} on " in capsys.readouterr().err
    assert Trainer.load("run/checkpoint.safetensors").seed == 0


@needs_locks
def test_a_run_that_goes_on_has_its_folder_for_itself(run, folder, monkeypatch):
    again = ["train", "--resume", "run/checkpoint.safetensors", "--epochs"]
    record = RunRecord("digits", None, "notebook", 1, 32, ["0"], 1)

    def another():
        for resumed in (None, "run/checkpoint.safetensors"):
            with pytest.raises(ic.CheckpointError, match="is the folder of a run that is still training"):
                take_folder(record, "run", resumed, ExitStack(), patience=0.1)

    run(*ONE_EPOCH, "--out", "run")
    during_fit(monkeypatch, another)
    run(*again, "3")
    run(*again, "4")  # the folder is free again


def test_a_folder_is_for_one_run_without_locks(run, folder, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "fcntl", None)
    codes = []
    during_fit(monkeypatch, lambda: codes.append(main([*ONE_EPOCH, "--out", "run", "--seed", "1"])))
    assert main([*ONE_EPOCH, "--out", "run"]) == 0
    assert codes == [1]
    assert "which has no checkpoint yet: if that run has ended, remove" in capsys.readouterr().err
    assert Trainer.load("run/checkpoint.safetensors").seed == 0


def test_of_many_runs_one_gets_the_folder(run, folder, monkeypatch):
    """Without locks, all at the same moment."""
    monkeypatch.setitem(sys.modules, "fcntl", None)
    record = RunRecord("digits", None, "notebook", 1, 32, ["0"], 1)
    gate, got = threading.Barrier(8), []

    def take():
        gate.wait()
        try:
            take_folder(record, "run", None, ExitStack())
            got.append("run")
        except ic.CheckpointError:
            got.append("refused")

    threads = [threading.Thread(target=take) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(got) == ["refused"] * 7 + ["run"]


def test_the_folder_of_a_run_that_came_to_nothing_can_be_taken(run, folder):
    run(*ONE_EPOCH, "--optimizer", "sgd", "--lr", "1e30", "--out", "run", code=1)
    assert os.listdir("run") == []
    run(*ONE_EPOCH, "--out", "run")


@needs_locks
def test_the_folder_of_a_run_that_was_killed_can_be_taken(run, folder):
    script = (
        "import os, signal, sys\nfrom im2colnet.cli import main\nfrom im2colnet.training.trainer import Trainer\n"
        "Trainer.fit = lambda *a, **k: os.kill(os.getpid(), signal.SIGKILL)\nmain(sys.argv[1:])"
    )
    assert finish(*ONE_EPOCH, "--out", "run", script=script).returncode == -signal.SIGKILL
    assert os.listdir("run") == ["run.json"]
    run(*ONE_EPOCH, "--out", "run")


@pytest.mark.parametrize("name", ["a run; rm -rf x", "-dash", "it's $HOME"])
def test_a_command_that_is_printed_works_when_pasted(run, folder, name):
    run(*ONE_EPOCH, f"--out={name}")
    _, err = run(*ONE_EPOCH, f"--out={name}", code=1)
    command = shlex.split(next(line for line in err.splitlines() if line.startswith("  im2colnet ")))
    assert json.loads(run(*command[1:], "--json")[0])["folder"] == name
    args = make_parser().parse_args(["train"])
    record = RunRecord("/a b/x.npz", "-f", "notebook", 7, 32, ["0"], 1)
    told = shlex.split(how_to_go_on(args, record, Path(name)).splitlines()[-1])
    again = make_parser().parse_args(told[1:])
    assert (again.resume, again.data, again.folder) == (str(Path(name, "checkpoint.safetensors")), "/a b/x.npz", "-f")
