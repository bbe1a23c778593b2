"""What commands say when something is amiss: files, folders, memory, errors that nobody thought of."""

import errno
import sys
from pathlib import Path

import numpy as np
import pytest
from starting import FAST, ONE_EPOCH, finish

import im2colnet as ic
from im2colnet import datasets
from im2colnet.cli import main
from im2colnet.cli.command_line import DEBUG, FAULT

pytestmark = pytest.mark.usefixtures("folder")


@pytest.mark.parametrize("command", ["train", "plan", "evaluate CHECKPOINT", "predict CHECKPOINT x.npy"])
def test_unknown_backend(run, trained, monkeypatch, command):
    arguments = [trained if argument == "CHECKPOINT" else argument for argument in command.split()]
    _, err = run(*arguments, "--backend", "nonsense", code=1)
    assert "there is no backend 'nonsense'; there are: " in err
    assert "numpy" in err
    monkeypatch.setenv("IM2COLNET_BACKEND", "nonsense")
    assert run(*arguments, code=1)[1] == err
    assert not Path("runs").exists()


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ("nonsense", "unknown data set 'nonsense': known are 'digits'"),
        ("missing.npz", "missing.npz: there is no such file"),
        ("damaged.npz", "cannot be read"),
        ("mnist", "the files of mnist were not found"),
    ],
)
def test_bad_data(run, folder, trained, data, message):
    (folder / "damaged.npz").write_bytes(b"PK\x03\x04")
    for command in (("train",), ("evaluate", trained)):
        assert message in run(*command, "--data", data, "--folder", folder, code=1)[1]
    assert not Path("runs").exists()


def damage(content, how):
    size = int.from_bytes(content[:8], "little")
    header = content[8 : 8 + size].decode()
    if how == "description":
        header = header.replace('\\"Adam\\"', '\\"Nada\\"')
    if how == "state":
        header = header.replace('\\"partial\\"', '\\"partly\\"')
    if how == "json":
        header = header.replace('{\\"format\\"', '(\\"format\\"')
    if how == "format":
        header = header.replace('\\"format\\": 1', '\\"format\\": 9')
    changed = header.encode()
    return {
        "missing": None,
        "empty": b"",
        "truncated": content[:-50],
        "beginning": content[:100],
        "text": b"a text\n" * 100,
        "header": content[:20] + b"\0" * 20 + content[40:],
    }.get(how, len(changed).to_bytes(8, "little") + changed + content[8 + size :])


@pytest.mark.parametrize(
    "how",
    [
        "missing",
        "empty",
        "truncated",
        "beginning",
        "text",
        "header",
        "description",
        "state",
        "json",
        "format",
        "a folder",
    ],
)
def test_damaged_checkpoints(run, folder, trained, how):
    path = folder / "c.safetensors"
    content = damage(trained.read_bytes(), how)
    assert content != trained.read_bytes() or how == "a folder"
    if how == "a folder":
        path.mkdir()
    elif content is not None:
        path.write_bytes(content)
    np.save("x.npy", np.zeros((8, 8), np.uint8))
    for command in (
        ("train", "--resume", path),
        ("evaluate", path),
        ("predict", path, "x.npy"),
        ("plan", "--checkpoint", path),
        ("summary", "--checkpoint", path),
    ):
        assert "c.safetensors" in run(*command, code=1)[1]


def test_nowhere_to_write(run, folder, trained, digits):
    (folder / "file").write_text("no folder")
    assert "cannot make the run folder: file" in run(*FAST, "--out", "file", code=1)[1]
    assert "cannot make the run folder: file" in run(*FAST, "--out", "file/below", code=1)[1]
    np.save("x.npy", digits[0])
    for out in ("file/p.npy", "no/such/folder/p.npy"):
        assert f"cannot write {out}" in run("predict", trained, "x.npy", "--out", out, code=1)[1]
    (folder / "runs").write_text("no folder")
    assert "cannot make the run folder: runs" in run(*FAST, code=1)[1]


@pytest.mark.parametrize("name", ["~nosuchuser/x.npz", "a" * 5000 + ".npz", "\udcff.npz", "x\0y.npz"])
def test_names_that_no_file_has(run, folder, trained, name):
    assert "there is no such file" in run("train", "--data", name, code=1)[1]
    assert "there is no such file" in run("predict", trained, name, code=1)[1]
    assert "no such folder" in run("train", "--data", "mnist", "--folder", name, code=1)[1]
    run("evaluate", name, code=1)


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


@pytest.mark.skipif(sys.platform == "win32", reason="Windows does not remove a folder that is in use")
def test_a_working_directory_that_has_been_removed(folder):
    script = (
        "import os, sys\nos.mkdir('gone'); os.chdir('gone'); os.rmdir('../gone')\n"
        "from im2colnet.cli import main\nsys.exit(main(sys.argv[1:]))"
    )
    for command in (ONE_EPOCH, ("train", "--data", "x.npz"), ("evaluate", "x"), ("summary", "--data", "x.npz")):
        child = finish(*command, script=script)
        assert child.returncode == 1
        assert child.stderr.startswith("im2colnet: error: ")
        assert FAULT not in child.stderr
