"""What runs the programs and the commands of pages: the folder that they find, and how each line is run."""

import csv
import glob
import importlib.util
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import blocks
import numpy as np
import pytest
from short_trainings import short

import im2colnet as ic
from im2colnet import cli

ROOT = Path(__file__).resolve().parents[1]
CLASSES = ("circle", "square", "stripes")
SIDE = 16
#: modules that commands want and an environment may lack, by a pattern of the command
NEEDS = {
    r"\bnumba\b": "numba",
    r"--(confusion|mistakes|picture)\b|\bexplain\b.*\.(png|svg)": "matplotlib",
    r"\.onnx\b|--onnx\b": "onnx",
}
#: what changes more than a folder, or asks the network: no test runs it
OUTSIDE = re.compile(
    r"(?:^|[;&|]\s*|\s)(pip|git|apt|apt-get|docker|podman|apptainer|curl|wget|sudo|ssh|sbatch|pre-commit|asv|sphinx|pytest)\s"
)
#: commands whose result is the same in every folder
REPORTS = (["doctor"], ["backends"], ["check-backend"])
#: what only a shell understands
SHELL = re.compile(r"[|&;<>$`(){}\n]|\\\n")


def name(page):
    """The name of a page in the repository, such as docs/guides/own-images.md."""
    return page.relative_to(ROOT).as_posix()


def programs(page, cells=False):
    """The sources of a page's programs, or of the cells of a notebook page, that are not marked as not run."""
    return [block.text for block in blocks.programs(ROOT / page, cells=cells)]


# The folder ---------------------------------------------------------------------------------------------------------
def _draw(kind, rng):
    """Draw a picture of a class, (SIDE, SIDE, 3) bytes: bright on dark, anywhere."""
    picture = rng.integers(0, 60, (SIDE, SIDE, 3))
    y, x = np.mgrid[:SIDE, :SIDE] - rng.uniform(6, 10, (2, 1, 1))
    shape = {
        "circle": x**2 + y**2 < 20,
        "square": (abs(x) < 4) & (abs(y) < 4) & ((abs(x) > 2) | (abs(y) > 2)),
        "stripes": (x.round() % 4 < 2),
    }[kind]
    picture[shape] += rng.integers(120, 190, 3)
    return picture.astype(np.uint8)


def prepare(folder):
    """Put into a folder what the commands of pages find there.

    `pictures/` has 20 small PNGs of each of three classes, `new/` three more; `labels.csv` names all of `pictures` and
    their classes; `mine.npz` has them as arrays `images`, `labels` and `classes`; `net.onnx` is a network for them.
    """
    from PIL import Image

    rng = np.random.default_rng(0)
    images, labels, rows = [], [], []
    for label, kind in enumerate(CLASSES):
        where = folder / "pictures" / kind
        where.mkdir(parents=True)
        for number in range(20):
            images.append(_draw(kind, rng))
            labels.append(label)
            rows.append((f"pictures/{kind}/{number:02}.png", kind))
            Image.fromarray(images[-1]).save(folder / rows[-1][0])
    (folder / "new").mkdir()
    for kind in CLASSES:
        Image.fromarray(_draw(kind, rng)).save(folder / "new" / f"{kind}.png")
    with (folder / "labels.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([("file", "label"), *rows])
    images = np.array(images).transpose(0, 3, 1, 2)
    np.savez(folder / "mine.npz", images=images, labels=np.array(labels), classes=np.array(CLASSES))
    if importlib.util.find_spec("onnx"):
        parts = [ic.Conv2d(3, 8, 3, padding=1), ic.ReLU(), ic.MaxPool2d(2), ic.Flatten(), ic.Linear(8 * 8 * 8, 3)]
        net = ic.Sequential(parts)
        net.init(seed=0)
        ic.onnx.save(net, folder / "net.onnx", input_shape=(3, SIDE, SIDE))


def environment(folder):
    """The environment of the commands: this library, one thread, and programs of these names in front of others."""
    programs = folder.parent / f"{folder.name}-bin"
    programs.mkdir(exist_ok=True)
    for program, script in {"im2colnet": f"'{ROOT / 'tests' / 'short_trainings.py'}'", "python": ""}.items():
        (programs / program).write_text(f"#!/bin/sh\nexec '{sys.executable}' {script} \"$@\"\n")
        (programs / program).chmod(0o755)
    keep = {key: value for key, value in os.environ.items() if not key.startswith("IM2COLNET_")}
    return keep | {
        "PATH": os.pathsep.join([str(programs), str(Path(sys.executable).parent), keep["PATH"]]),
        "PYTHONPATH": os.pathsep.join(map(str, (ROOT, ROOT / "backends"))),
        "OMP_NUM_THREADS": "1",
        "MPLBACKEND": "agg",
        "TERM": "dumb",
        "COLUMNS": "100",
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
    }


# The commands -------------------------------------------------------------------------------------------------------
def lacking(command):
    """The module that this environment lacks to run a command; empty if none."""
    needed = (module for pattern, module in NEEDS.items() if re.search(pattern, command))
    return next((module for module in needed if not importlib.util.find_spec(module)), "")


def bare(command):
    """A command without the comment at its end."""
    return re.sub(r"(?:^|\s)#.*\Z", "", command).strip()


def plain(command):
    """The variables and the arguments of a command of ours that needs no shell; None if it needs one."""
    command = bare(command)
    if SHELL.search(command):
        return None
    words = shlex.split(command)
    variables = {}
    while words and re.match(r"[A-Z_0-9]+=", words[0]):
        key, _, value = words.pop(0).partition("=")
        variables[key] = value
    if words[:3] == ["python", "-m", "im2colnet"]:
        words = words[2:]
    if not words or words[0] != "im2colnet":
        return None
    return variables, [found for word in words[1:] for found in (sorted(glob.glob(word)) or [word])]


class Terminal:
    """What runs commands one after the other, in a folder of their own that has been prepared."""

    def __init__(self, folder, capsys, monkeypatch, trained):
        self.folder, self.capsys, self.monkeypatch = folder, capsys, monkeypatch
        self.trained, self.environment, self.place = trained, environment(folder), folder

    def run(self, command):
        """Run a command; return how it ended, and what it wrote."""
        command = bare(command)
        words = shlex.split(command) if not SHELL.search(command) else [""]
        if words[0] == "cd":
            self.place = (self.place / words[1]).resolve()
            return 0, ""
        if words[0] == "export":
            self.environment |= dict(word.split("=", 1) for word in words[1:])
            return 0, ""
        if words[0] and len(words) == 1 and "=" in words[0]:  # a variable of the shell
            self.environment |= dict([words[0].split("=", 1)])
            return 0, ""
        self.monkeypatch.chdir(self.place)
        ours = plain(command)
        return self._ours(*ours) if ours else self._shell(command)

    def _shell(self, command):
        bash = ["bash", "-euo", "pipefail", "-c", command]
        done = subprocess.run(
            bash,
            cwd=self.place,
            env=self.environment,
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            timeout=120,
        )
        return done.returncode, done.stdout + done.stderr

    def _ours(self, variables, arguments):
        """Run the command ``im2colnet`` in this process; what a training that has been run before made is copied."""
        runs = self.place / "runs"
        before = {path.name for path in runs.iterdir()} if runs.is_dir() else set()
        wanted = (*sorted(variables.items()), *arguments, *sorted(before))
        known = self.trained.get(wanted)
        if known is not None:
            if known:
                shutil.copytree(known, runs, dirs_exist_ok=True)
            return 0, "as before"
        with self.monkeypatch.context() as patch, ic.num_threads(1), short():
            for key in [key for key in os.environ if key.startswith("IM2COLNET_")]:
                patch.delenv(key)
            for key, value in (self.environment | variables).items():
                if key not in ("PATH", "PYTHONPATH") and os.environ.get(key) != value:
                    patch.setenv(key, value)
            self.capsys.readouterr()
            try:
                code = cli.main(arguments)
            except SystemExit as end:  # of --help and --version
                code = end.code or 0
            out, err = self.capsys.readouterr()
        alone = arguments[:1] == ["train"] and not {"--out", "--resume", "--init-from"} & {*arguments}
        if code == 0 and alone:
            kept = self.folder.parent / f"trained-{len(self.trained)}-{self.folder.name}"
            for path in runs.iterdir():
                if path.name not in before:
                    shutil.copytree(path, kept / path.name)
            self.trained[wanted] = kept
        if code == 0 and arguments[:1] in REPORTS and "--out" not in arguments:
            self.trained[wanted] = ""
        return code, out + err


@pytest.fixture(scope="session")
def trained():
    """The trainings that have been run: the commands, and the folders that they made."""
    return {}


@pytest.fixture(scope="session")
def prepared(tmp_path_factory):
    """A folder as the commands and programs of pages find it; tests work in a copy."""
    pytest.importorskip("PIL")
    folder = tmp_path_factory.mktemp("prepared")
    prepare(folder)
    return folder
