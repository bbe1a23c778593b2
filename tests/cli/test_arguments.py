"""The arguments that commands share: help, wrong usage, what would not be used."""

import json
import os
import re
from pathlib import Path

import numpy as np
import pytest
from starting import ONE_EPOCH

import im2colnet as ic
from im2colnet import datasets
from im2colnet.cli.command_line import command_names
from im2colnet.text import count

pytestmark = pytest.mark.usefixtures("folder")


@pytest.mark.parametrize("command", command_names())
def test_help(run, command):
    out, _ = run(command, "--help")
    assert out.startswith(f"usage: im2colnet {command} ")
    assert f"  im2colnet {command}" in out[out.index("examples:") :]
    assert "--json" in out


def test_help_lists_the_commands_and_the_exit_codes(run):
    out, _ = run("--help")
    listed = re.findall("^    ([a-z-]+)(?: |$)", out, re.MULTILINE)
    assert listed[:7] == ["train", "evaluate", "predict", "report", "plan", "summary", "explain"]
    assert listed[7:] == ["onnx", "profile", "doctor", "backends", "check-backend"]
    assert sorted(listed) == command_names()
    assert "exit codes" in out


def test_without_arguments_there_is_help(run):
    out, err = run(code=2)
    assert out == ""
    assert all(f"\n    {command} " in err for command in ("train", "predict", "doctor"))


def test_version(run):
    assert run("--version") == (f"im2colnet {ic.__version__}\n", "")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("", "COMMAND"),
        ("trian", "invalid choice: 'trian'"),
        ("train --epochs 0", "--epochs: must be a whole number of at least 1, got '0'"),
        ("train --epochs 1.5", "--epochs: must be a whole number of at least 1, got '1.5'"),
        ("train --batch-size -1", "--batch-size"),
        ("train --threads 0", "--threads"),
        ("train --lr 0", "--lr: must be a number above 0, got '0'"),
        ("train --lr nan", "--lr"),
        ("train --lr inf", "--lr"),
        ("train --momentum 1", "--momentum"),
        ("train --weight-decay -0.1", "--weight-decay"),
        ("train --warmup -1", "--warmup"),
        ("train --seed -1", "--seed"),
        ("train --width 5", "--width"),
        ("train --model alexnet", "invalid choice: 'alexnet'"),
        ("train --optimizer lbfgs", "invalid choice: 'lbfgs'"),
        ("train --schedule step", "invalid choice: 'step'"),
        ("train --width 0.5 --model vgg8", "--width is only for mobilenet"),
        ("train --momentum 0.5 --optimizer adam", "--momentum is only for sgd"),
        ("evaluate", "CHECKPOINT"),
        ("predict somewhere", "FILE"),
        ("plan --input-shape 3,32", "three sizes such as 3,32,32"),
        ("plan --input-shape 3,32,0", "three sizes"),
        ("summary --checkpoint c --model vgg8", "leave out --model"),
        ("backends --threads 2", "--threads"),
    ],
)
def test_wrong_usage(run, folder, arguments, message):
    _, err = run(*arguments.split(), code=2)
    assert message in err
    assert not list(folder.iterdir())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("train --folder pics", "--folder is the folder of the files of --data: give --data too"),
        ("train --data digits --folder pics", "--folder is not used, since the data set digits comes with the library"),
        ("train --data /somewhere/x.npz --folder pics", "is a whole path"),
        ("evaluate CHECKPOINT --folder pics", "--folder is not used, since the data set digits"),
        ("train --resume CHECKPOINT --folder pics", "--folder is not used, since the data set digits"),
        ("predict CHECKPOINT x.npy --folder pics", "give --data too"),
        ("plan --folder pics", "give --data too"),
        ("summary --model lenet5 --folder pics", "give --data too"),
        ("summary --data digits --folder pics", "is not used"),
        ("plan --checkpoint CHECKPOINT --folder pics", "leave out --model, --data, --folder"),
        ("predict CHECKPOINT x.npy --out x.txt", "must end with one of .csv, .jsonl, .json, .npy, .npz, got 'x.txt'"),
        ("predict CHECKPOINT x.npy --out x", "must end with one of"),
        ("report CHECKPOINT --out CHECKPOINT", "must end with one of .html, .htm"),
        ("evaluate CHECKPOINT --confusion CHECKPOINT", "must end with .png"),
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
    run(*ONE_EPOCH, "--data", "mine.npz", "--folder", "pics")
    assert json.loads(run("evaluate", trained, "--data", "mine.npz", "--folder", "pics", "--json")[0])["images"] == 20


def test_threads_are_as_before_afterwards(run):
    before = ic.get_num_threads()
    run("plan", "--model", "lenet5", "--threads", before + 3)
    assert ic.get_num_threads() == before


def test_one_is_not_many(run):
    assert "for 1 epoch," in run(*ONE_EPOCH)[0]
    assert (count(1, "image"), count(2, "image"), count(0, "image")) == ("1 image", "2 images", "0 images")
    assert "1 shard of up to 1 image," in run("plan", "--batch-size", "1")[0]
