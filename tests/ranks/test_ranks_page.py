"""docs/ranks.md and docs/ranks-in-detail.md: their programs run, and they name what is collective."""

import json
import os
import re
import subprocess
import sys
import time
import uuid

from mpi_jobs import MARK, launcher, marked, run
from safetensors.numpy import load_file
from starting import ROOT

from im2colnet.training.trainer import Trainer

PAGE = "".join((ROOT / "docs" / f"{name}.md").read_text(encoding="utf-8") for name in ("ranks", "ranks-in-detail"))


def blocks(kind):
    return re.findall(rf"```{kind}\n(.*?)```", PAGE, re.DOTALL)


def test_every_collective_method_is_in_the_table():
    table = PAGE[PAGE.index("| collective |") : PAGE.index("| local |")]
    marked_so = [
        name
        for name, member in vars(Trainer).items()
        if not name.startswith("_") and "Collective" in (getattr(member, "__doc__", None) or "")
    ]
    assert {"step", "fit", "evaluate", "predict", "save", "load"} <= {*marked_so}
    assert [name for name in marked_so if not re.search(rf"[tT]rainer\.{name}\b", table)] == []


def test_the_program_gives_the_bits_of_one_process_on_any_number_of_ranks(tmp_path):
    (program,) = blocks("python")
    found = []
    for count in (1, 2, 3):
        folder = tmp_path / str(count)
        folder.mkdir()
        run(count, script=program, folder=folder)
        found.append(load_file(folder / "digits.safetensors"))
    for other in found[1:]:
        assert other.keys() == found[0].keys()
        assert all(other[name].tobytes() == array.tobytes() for name, array in found[0].items())


def test_two_trainings_in_one_job(tmp_path):
    (program,) = blocks("py")
    shown = "\nprint(group, trainer.rank, trainer.rank_count, trainer.history['loss'])\n"
    done = run(4, script=program + shown, folder=tmp_path)
    said = [out.splitlines()[-1] for out in done.out]
    assert [line.split()[:3] for line in said] == [["0", "0", "2"], ["1", "0", "2"], ["0", "1", "2"], ["1", "1", "2"]]
    assert said[0].split()[3:] == said[2].split()[3:] != said[1].split()[3:]


def test_the_loop_that_starts_a_job_again(tmp_path):
    """The first start is killed as soon as it has a checkpoint."""
    path, mpi = launcher()
    (loop,) = [block for block in blocks("sh") if "until" in block]
    commands = tmp_path / "bin"
    commands.mkdir()
    more, train = "--oversubscribe" if mpi == "openmpi" else "", f"{sys.executable} -m im2colnet"
    for name, text in (
        ("im2colnet", f'echo $$ >>"$FOLDER/pids"; exec {train} "$@" --model notebook --threads 1'),
        ("mpiexec", f'echo start >>"$FOLDER/starts"; exec {path} {more} "$@"'),
    ):
        (commands / name).write_text(f"#!/bin/sh\n{text}\n")
        (commands / name).chmod(0o755)
    environment = {k: v for k, v in os.environ.items() if not k.startswith("IM2COLNET_")} | {
        "PATH": f"{commands}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": os.pathsep.join(map(str, (ROOT, ROOT / "backends"))),
        "FOLDER": str(tmp_path),
        "OMPI_ALLOW_RUN_AS_ROOT": "1",
        "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
        MARK: (mark := uuid.uuid4().hex),
    }
    checkpoint = tmp_path / "runs/mine/checkpoint.safetensors"
    with (tmp_path / "told").open("w") as told:
        process = subprocess.Popen(["sh", "-c", loop], cwd=tmp_path, env=environment, stdout=told, stderr=told)
        try:
            until = time.monotonic() + 30
            while not checkpoint.exists() and time.monotonic() < until:
                time.sleep(0.005)
            os.kill(int((tmp_path / "pids").read_text().split()[1]), 9)
            assert process.wait(50) == 0, (tmp_path / "told").read_text()
        finally:
            for pid in marked(mark):
                os.kill(pid, 9)
            process.wait()
    assert (tmp_path / "starts").read_text().split() == ["start"] * 2
    assert json.loads(checkpoint.with_name("run.json").read_text())["done"] is True
    assert len(load_file(checkpoint)) > 0
