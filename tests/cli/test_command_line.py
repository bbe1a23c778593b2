"""The command line where something is amiss: unused arguments, two runs at once, broken streams, memory, Ctrl-C."""

import csv
import errno
import io
import json
import os
import shlex
import signal
import subprocess
import sys
import threading
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest

import im2colnet as ic
from im2colnet import datasets, startup
from im2colnet.cli import main
from im2colnet.cli.command_line import DEBUG, FAULT, make_parser
from im2colnet.cli.commands.train import how_to_go_on
from im2colnet.cli.run_folder import RunRecord, take_folder
from im2colnet.show import terminal as output
from im2colnet.show.progress import LiveDisplay, PlainDisplay
from im2colnet.text import count, table
from im2colnet.training.trainer import Trainer

pytestmark = pytest.mark.usefixtures("folder")
ROOT = Path(__file__).parents[2]
FAST = ("train", "--model", "notebook", "--threads", "1", "--epochs", "1")
needs_locks = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no flock")


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    out = tmp_path_factory.mktemp("trained")
    assert main([*FAST, "--out", str(out), "--json"]) == 0
    return out / "checkpoint.safetensors"


def process(*arguments, variables=None, script=None, **options):
    """Run the command in a process of its own."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, (ROOT, ROOT / "backends")))} | (variables or {})
    environment = {name: value for name, value in environment.items() if value is not None}
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "timeout": 120, **options}
    what = ["-c", script] if script else ["-m", "im2colnet"]
    return subprocess.run([sys.executable, *what, *map(str, arguments)], env=environment, **options)


# Arguments ---------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("train --folder pics", "--folder is where the files of --data are: give that too"),
        ("train --data digits --folder pics", "--folder is not used, since the data set digits comes with the library"),
        ("train --data /somewhere/x.npz --folder pics", "is a whole path"),
        ("evaluate CHECKPOINT --folder pics", "--folder is not used, since the data set digits"),
        ("train --resume CHECKPOINT --folder pics", "--folder is not used, since the data set digits"),
        ("predict CHECKPOINT x.npy --folder pics", "give that too"),
        ("plan --folder pics", "give that too"),
        ("summary --model lenet5 --folder pics", "give that too"),
        ("summary --data digits --folder pics", "is not used"),
        ("plan --checkpoint CHECKPOINT --folder pics", "leave out --model, --data, --folder"),
        ("predict CHECKPOINT x.npy --out x.txt", "must end with one of .csv, .json, .npy, .npz, got 'x.txt'"),
        ("predict CHECKPOINT x.npy --out x", "must end with one of"),
        ("predict CHECKPOINT x.npy --out ./x.npy", "would overwrite a file that is read"),
        ("profile --steps 1000000000000", "--steps"),
        ("plan --batch-size 1000000000000", "--batch-size: must be at most 2,147,483,647"),
        ("plan --batch-size " + "9" * 400, "--batch-size: must be at most 2,147,483,647, got more"),
        ("plan --input-shape 3,10000000000,1", "three sizes"),
    ],
)
def test_what_would_not_be_used_is_refused(run, folder, trained, arguments, message):
    np.save("x.npy", np.zeros((8, 8), np.uint8))
    before = Path("x.npy").read_bytes()
    _, err = run(*(trained if word == "CHECKPOINT" else word for word in arguments.split()), code=2)
    assert message in err
    assert err.startswith(f"usage: im2colnet {arguments.split()[0]} ")
    assert os.listdir(folder) == ["x.npy"]
    assert Path("x.npy").read_bytes() == before


@pytest.mark.parametrize(
    "arguments",
    [
        ["train", "--resume", ""],
        ["train", "--out", ""],
        ["train", "--data", ""],
        ["train", "--folder", ""],
        ["plan", "--checkpoint", ""],
        ["plan", "--backend", ""],
        ["profile", "--picture", ""],
        ["backends", "--backend", ""],
    ],
)
def test_an_empty_value_is_not_the_default(run, folder, arguments):
    """A script's variable that is not set must not begin a new training where one should go on."""
    assert f"{arguments[1]}: must not be empty" in run(*arguments, code=2)[1]
    assert os.listdir(folder) == []


def test_a_folder_that_is_used(run, folder, trained):
    train, _ = datasets.load("digits")
    (folder / "pics").mkdir()
    np.savez(folder / "pics" / "mine.npz", images=train.images[:100], labels=train.labels[:100])
    run(*FAST, "--data", "mine.npz", "--folder", "pics")
    assert json.loads(run("evaluate", trained, "--data", "mine.npz", "--folder", "pics", "--json")[0])["images"] == 20


def test_without_arguments_there_is_help(run):
    out, err = run(code=2)
    assert out == ""
    assert all(f"\n    {command} " in err for command in ("train", "predict", "doctor"))


def test_the_last_batch_can_be_left_out(run, monkeypatch, folder):
    fit, given = Trainer.fit, []

    def recording(self, *arguments, drop_last=False, **options):
        given.append(drop_last)
        return fit(self, *arguments, **options)

    monkeypatch.setattr(Trainer, "fit", recording)
    run(*FAST, "--drop-last", "--out", "a")
    run(*FAST, "--out", "b")
    run("train", "--resume", "a/checkpoint.safetensors", "--epochs", "2")  # it goes on as it began
    assert given == [True, False, True]


@pytest.mark.parametrize(
    "arguments",
    [
        ("plan", "--batch-size", "2147483647"),
        ("plan", "--input-shape", "3,100000,100000"),
        ("plan", "--model", "mobilenet", "--input-shape", "3,2147483647,2147483647"),
    ],
)
def test_numbers_that_are_too_large_to_plan_for(run, arguments):
    assert "than can be planned" in run(*arguments, code=1)[1]


def test_large_numbers_that_can_be_planned(run):
    report = json.loads(run("plan", "--batch-size", "1000000", "--json")[0])
    assert sum(report["training"]["shards"]) == 1_000_000
    assert json.loads(run("plan", "--input-shape", "3,4000,4000", "--json")[0])["training"]["total"] > 1e9


# predict -----------------------------------------------------------------------------------------------------------
def test_predictions_in_the_format_that_the_name_asks_for(run, folder, trained):
    images = datasets.load("digits")[1].images[:3]
    np.save("a,b.npy", images[:2])
    np.save("c.npy", images[2])
    logits = Trainer.load(trained).net.predict(images).astype(float)
    expected = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    best = expected.argmax(axis=1).tolist()
    for name in ("p.csv", "p.json", "p.npy", "p.npz", "P.CSV"):
        run("predict", trained, "a,b.npy", "c.npy", "--out", name)
    with open("p.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["file", "index", "label", "class", *(f"probability_{n}" for n in range(10))]
    assert [(row["file"], row["index"]) for row in rows] == [("a,b.npy", "0"), ("a,b.npy", "1"), ("c.npy", "0")]
    assert [int(row["label"]) for row in rows] == [int(row["class"]) for row in rows] == best
    found = np.array([[float(row[f"probability_{n}"]) for n in range(10)] for row in rows], np.float32)
    np.testing.assert_array_equal(found, np.load("p.npy"))  # exactly
    np.testing.assert_allclose(found, expected, rtol=1e-4)
    assert Path("P.CSV").read_bytes() == Path("p.csv").read_bytes()
    with np.load("p.npz", allow_pickle=False) as arrays:
        np.testing.assert_array_equal(arrays["probabilities"], found)
        assert arrays["files"].tolist() == ["a,b.npy", "a,b.npy", "c.npy"]
        assert arrays["indices"].tolist() == [0, 1, 0]
        assert arrays["labels"].tolist() == best
        assert arrays["classes"].tolist() == list("0123456789")
    report = json.loads(Path("p.json").read_text())
    np.testing.assert_array_equal(np.float32([row["probabilities"] for row in report["predictions"]]), found)


# run.json ----------------------------------------------------------------------------------------------------------
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


@pytest.mark.parametrize("name", ["~nosuchuser/x.npz", "a" * 5000 + ".npz", "\udcff.npz", "x\0y.npz"])
def test_names_that_no_file_has(run, folder, trained, name):
    assert "there is no such file" in run("train", "--data", name, code=1)[1]
    assert "there is no such file" in run("predict", trained, name, code=1)[1]
    assert "no such folder" in run("train", "--data", "mnist", "--folder", name, code=1)[1]
    run("evaluate", name, code=1)


# Run folders -------------------------------------------------------------------------------------------------------
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
    monkeypatch.setattr("im2colnet.cli.run_folder.LOCK_PATIENCE", 0.1)
    codes = []

    def another():
        codes.extend(main([*FAST, "--out", "run", "--seed", seed]) for seed in "12")

    during_fit(monkeypatch, another)
    assert main([*FAST, "--out", "run"]) == 0
    assert codes == [1, 1]
    assert f"run is the folder of a run that is going on (process {os.getpid()} on " in capsys.readouterr().err
    assert Trainer.load("run/checkpoint.safetensors").seed == 0
    again = ["train", "--resume", "run/checkpoint.safetensors", "--epochs"]
    during_fit(monkeypatch, lambda: codes.append(main([*again, "2"])))
    run(*again, "3")
    assert codes == [1, 1, 1]
    run(*again, "4")  # it is free again


def test_a_folder_is_for_one_run_without_locks(run, folder, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "fcntl", None)
    codes = []
    during_fit(monkeypatch, lambda: codes.append(main([*FAST, "--out", "run", "--seed", "1"])))
    assert main([*FAST, "--out", "run"]) == 0
    assert codes == [1]
    assert "which has no checkpoint yet: if that is not running any more, remove" in capsys.readouterr().err
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
    run(*FAST, "--optimizer", "sgd", "--lr", "1e30", "--out", "run", code=1)
    assert os.listdir("run") == []
    run(*FAST, "--out", "run")


@needs_locks
def test_the_folder_of_a_run_that_was_killed_can_be_taken(run, folder):
    script = (
        "import os, signal, sys\nfrom im2colnet.cli import main\nfrom im2colnet.training.trainer import Trainer\n"
        "Trainer.fit = lambda *a, **k: os.kill(os.getpid(), signal.SIGKILL)\nmain(sys.argv[1:])"
    )
    assert process(*FAST, "--out", "run", script=script).returncode == -signal.SIGKILL
    assert os.listdir("run") == ["run.json"]
    run(*FAST, "--out", "run")


@pytest.mark.parametrize("name", ["a run; rm -rf x", "-dash", "it's $HOME"])
def test_a_command_that_is_printed_works_when_pasted(run, folder, name):
    run(*FAST, f"--out={name}")
    _, err = run(*FAST, f"--out={name}", code=1)
    command = shlex.split(next(line for line in err.splitlines() if line.startswith("  im2colnet ")))
    assert json.loads(run(*command[1:], "--json")[0])["folder"] == name
    args = make_parser().parse_args(["train"])
    record = RunRecord("/a b/x.npz", "-f", "notebook", 7, 32, ["0"], 1)
    told = shlex.split(how_to_go_on(args, record, Path(name)).splitlines()[-1])
    again = make_parser().parse_args(told[1:])
    assert (again.resume, again.data, again.folder) == (str(Path(name, "checkpoint.safetensors")), "/a b/x.npz", "-f")


# Streams -----------------------------------------------------------------------------------------------------------
CLOSED = "import os, sys\nos.close({})\nos.execv(sys.executable, [sys.executable, '-m', 'im2colnet', *sys.argv[1:]])"


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no exec")
def test_closed_streams(folder):
    child = process(*FAST, "--out", "run", script=CLOSED.format(1))
    assert child.returncode == 1
    assert child.stderr.startswith("im2colnet: error: cannot write the output: stdout is closed; redirect it")
    assert os.listdir(folder) == []
    child = process(*FAST, "--out", "run", script=CLOSED.format(2))
    assert child.returncode == 0
    assert "epoch 1/1" in child.stdout
    child = process("evaluate", "nothing", script=CLOSED.format(2))
    assert (child.returncode, child.stdout) == (1, "")


def test_only_stdout_is_called_the_output(run, monkeypatch):
    def fails(*arguments):
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(datasets, "load", fails)
    assert run("train", code=1)[1] == "im2colnet: error: Too many open files\n"


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        OSError(errno.ENOMEM, "Cannot allocate memory"),
        ic.OutOfMemoryError("no room for 9 GiB"),
        MemoryError("Unable to allocate 9 GiB"),
    ],
)
def test_out_of_memory(run, monkeypatch, error):
    def fails(*arguments):
        raise error

    monkeypatch.setattr(datasets, "load", fails)
    _, err = run("train", code=1)
    assert err.startswith("im2colnet: error: out of memory")
    assert "--batch-size" in err
    assert "output" not in err


def test_an_error_that_nobody_thought_of(monkeypatch, capsys):
    def fails(*arguments):
        raise KeyError("x")

    monkeypatch.setattr("im2colnet.cli.commands.backends.list_backends", fails)
    assert main(["backends"]) == 1
    assert (
        capsys.readouterr().err == f"im2colnet: error: {FAULT}: KeyError: 'x'. Set {DEBUG}=1 to see where,"
        " and report it\n"
    )
    monkeypatch.setenv(DEBUG, "1")
    assert main(["backends"]) == 1
    assert "Traceback" in capsys.readouterr().err
    monkeypatch.setattr("im2colnet.cli.commands.backends.list_backends", lambda: sys.exit())  # as a plug-in may
    assert main(["backends"]) == 1


@pytest.mark.parametrize("encoding", ["ascii", "cp437", "cp1252", "latin-1", "utf-16"])
def test_characters_that_an_encoding_lacks(encoding):
    raw = io.BytesIO()
    stream = output.Output(io.TextIOWrapper(raw, encoding), True)
    stream.write("1×8×8 – ─ … 日 \udcff\n")
    stream.flush()
    shown = raw.getvalue().decode(encoding)
    lacking = [c for c in "×–─…" if c not in shown]
    plain = {"×": "x", "–": "-", "─": "-", "…": "..."}
    assert shown == "1×8×8 – ─ … {} \\udcff\n".translate({ord(c): plain[c] for c in lacking}).format(
        "日" if encoding == "utf-16" else "\\u65e5"
    )
    assert bool(lacking) == (encoding != "utf-16")


def test_a_training_on_a_terminal_without_unicode(folder):
    child = process(
        *FAST,
        "--out",
        "ü",
        variables={"PYTHONIOENCODING": "ascii", "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
    )
    assert child.returncode == 0, child.stderr
    assert "images of 1x8x8" in child.stdout
    child = process("summary", "--model", "lenet5", variables={"PYTHONIOENCODING": "cp1252"})
    assert "\n-----" in child.stdout


@pytest.mark.parametrize(
    "variables",
    [
        {"COLUMNS": "0"},
        {"COLUMNS": "1"},
        {"COLUMNS": "wide"},
        {"TERM": "dumb"},
        {"TERM": ""},
        {"HOME": None},
        {"TMPDIR": "/nonexistent", "MPLCONFIGDIR": "/nonexistent"},
    ],
)
def test_odd_environments(folder, variables):
    assert process("train", "--help", variables=variables).returncode == 0
    child = process(*FAST, variables=variables)
    assert child.returncode == 0, child.stderr
    assert "Traceback" not in child.stderr


@pytest.mark.skipif(sys.platform == "win32", reason="Windows does not remove a folder that is in use")
def test_a_working_directory_that_has_been_removed(folder):
    script = (
        "import os, sys\nos.mkdir('gone'); os.chdir('gone'); os.rmdir('../gone')\n"
        "from im2colnet.cli import main\nsys.exit(main(sys.argv[1:]))"
    )
    for command in (FAST, ("train", "--data", "x.npz"), ("evaluate", "x"), ("summary", "--data", "x.npz")):
        child = process(*command, script=script)
        assert child.returncode == 1
        assert child.stderr.startswith("im2colnet: error: ")
        assert FAULT not in child.stderr


def test_curves_that_cannot_be_drawn_are_no_failure(run, monkeypatch):
    pytest.importorskip("matplotlib")

    def fails(*arguments):
        raise FileNotFoundError("No usable temporary directory found")

    monkeypatch.setattr("im2colnet.show.plots.save_curves", fails)
    assert "hint     the curves could not be drawn: No usable temporary directory found" in run(*FAST)[0]


# Ctrl-C ------------------------------------------------------------------------------------------------------------
#: starts the command with an interruption where a module begins to be looked for
STARTING = """
import os, runpy, signal, sys

class Interrupting:
    def find_spec(self, name, *arguments):
        if name == wanted:
            os.kill(os.getpid(), signal.SIGINT)
            for _ in range(1000):
                pass    # Python handles signals between steps of its own

signal.signal(signal.SIGINT, signal.default_int_handler)
wanted, started_as = sys.argv[1:]
for name in wanted, "typing":
    sys.modules.pop(name, None)
sys.meta_path.insert(0, Interrupting())
if started_as == "-m":
    sys.orig_argv, sys.argv = ["python", "-m", "im2colnet", "summary"], ["-m", "summary"]
    runpy.run_module("im2colnet", run_name="__main__", alter_sys=True)
else:
    sys.argv = [started_as, "summary"]
    from im2colnet.cli import main
    sys.exit(main())
"""


@pytest.mark.skipif(sys.platform == "win32", reason="Windows sends no SIGINT to one process")
@pytest.mark.parametrize("started_as", ["-m", "/usr/bin/im2colnet"])
@pytest.mark.parametrize(
    "module", ["typing", "numpy", "im2colnet.training.trainer", "im2colnet.cli", "im2colnet.training"]
)
def test_ctrl_c_while_the_command_starts(folder, module, started_as):
    child = process(module, started_as, script=STARTING)
    assert child.returncode == 130
    assert child.stdout == ""
    assert child.stderr in ("", "im2colnet: interrupted\n")


def test_a_program_that_imports_the_library_keeps_its_ctrl_c(folder):
    script = (
        "import signal\nbefore = signal.getsignal(signal.SIGINT)\nimport im2colnet.cli\n"
        "assert signal.getsignal(signal.SIGINT) is before"
    )
    assert process(script=script).returncode == 0
    assert signal.getsignal(signal.SIGINT) is not startup.end


# Texts -------------------------------------------------------------------------------------------------------------
class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_narrow_terminals(monkeypatch):
    rows = [("layer", "what it is", "parameters", "FLOPs"), ("0", "Conv2d(1, 16, 3)", "1,234,567", "12.3 M")]
    wide = table(rows, (2, 3))
    assert table(rows, (2, 3), width=len(wide.splitlines()[0])) == wide
    for width in (20, 25, 30, 40):
        lines = table(rows, (2, 3), width=width).splitlines()
        assert max(map(len, lines)) <= max(width, len("layer  Conv2d(1, 16, 3)"))
        assert sum(line.count("1,234,567") + line.count("12.3 M") for line in lines) == 2  # whole
    record = {
        "epoch": 3,
        "loss": 0.5,
        "accuracy": 0.75,
        "validation_loss": 0.25,
        "validation_accuracy": 1.0,
        "seconds": 61.0,
        "images_per_second": 12_345.6,
    }
    for columns in (26, 40, 60, 71):
        monkeypatch.setenv("COLUMNS", str(columns))
        for display in (PlainDisplay, LiveDisplay):
            if display is LiveDisplay:
                pytest.importorskip("rich")
            stream = Terminal()
            with display(stream, 10) as shown:
                shown.epoch(record)
            text = stream.getvalue()
            assert all(whole in text for whole in ("0.5000", "75.00%", "0.2500", "100.00%", "12,346", "1 min 01 s"))
            if display is PlainDisplay:
                assert max(map(len, text.splitlines())) <= columns


def test_one_is_not_many(run):
    assert "for 1 epoch," in run(*FAST)[0]
    assert (count(1, "image"), count(2, "image"), count(0, "image")) == ("1 image", "2 images", "0 images")
    assert "1 shard of up to 1 image," in run("plan", "--batch-size", "1")[0]
