"""The job script of docs/slurm, with stand-ins for Slurm's commands: it is preempted, and goes on in another turn."""

import json
import os
import signal
import subprocess
import sys
import time
import uuid
from contextlib import suppress

from helpers import assert_same_bits
from mpi_jobs import LIMIT, MARK, RANK, launcher, marked
from safetensors.numpy import load_file
from starting import ROOT, finish

SCRIPT = ROOT / "docs" / "slurm" / "train.sh"
#: what srun does as far as one machine can: it starts the tasks of its step
SRUN = """#!/bin/sh
while [ "${1#-}" != "$1" ]; do echo "$1" >>"$FOLDER/srun"; shift; done
exec "$MPIEXEC" $MORE -n "$SLURM_NTASKS" "$@"
"""
SCONTROL = '#!/bin/sh\necho "$@" >>"$FOLDER/scontrol"\n'
COMMAND = f'#!/bin/sh\necho $$ >"$FOLDER/pid.{RANK}"\nexec "$PYTHON" -m im2colnet "$@"\n'
TRAIN = ("--model", "notebook", "--shard", "8", "--threads", "1", "--epochs", "40")


class Turn:
    """A turn of the job: the script runs, with a number of tasks."""

    def __init__(self, folder, tasks, *arguments):
        path, mpi = launcher()
        self.folder, self.mark = folder, uuid.uuid4().hex
        commands = folder / "bin"
        commands.mkdir(exist_ok=True)
        for name, text in (("srun", SRUN), ("scontrol", SCONTROL), ("im2colnet", COMMAND)):
            (commands / name).write_text(text)
            (commands / name).chmod(0o755)
        for number in folder.glob("pid.*"):
            number.unlink()
        environment = {k: v for k, v in os.environ.items() if not k.startswith("IM2COLNET_")} | {
            "PATH": f"{commands}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": os.pathsep.join(map(str, (ROOT, ROOT / "backends"))),
            "FOLDER": str(folder),
            "MPIEXEC": path,
            "MORE": "--oversubscribe" if mpi == "openmpi" else "",
            "PYTHON": sys.executable,
            "SLURM_JOB_ID": "7",
            "SLURM_NTASKS": str(tasks),
            "OMPI_ALLOW_RUN_AS_ROOT": "1",
            "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
            MARK: self.mark,
        }
        self.told = (folder / "told").open("w+")
        self.process = subprocess.Popen(
            ["bash", str(SCRIPT), *arguments],
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=self.told,
            stderr=subprocess.STDOUT,
        )

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for pid in marked(self.mark):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.process.wait()
        self.told.close()

    def preempt(self, checkpoint, tasks):
        """Send SIGTERM to the tasks, as Slurm does, once there is a checkpoint."""
        until = time.monotonic() + LIMIT
        while not checkpoint.exists():
            assert self.process.poll() is None, self.text()
            assert time.monotonic() < until, self.text()
            time.sleep(0.005)
        for task in range(tasks):
            os.kill(int((self.folder / f"pid.{task}").read_text()), signal.SIGTERM)

    def text(self):
        return (self.folder / "told").read_text()

    def ends(self, code):
        """The script ends in time with an exit code, and nothing of it is left."""
        found = self.process.wait(LIMIT)
        assert found == code, self.text()
        until = time.monotonic() + 2
        while marked(self.mark) and time.monotonic() < until:
            time.sleep(0.02)
        assert marked(self.mark) == []


def test_a_job_that_is_preempted_goes_on_exactly(tmp_path):
    launcher()
    alone = finish("train", *TRAIN, "--out", "alone", "--quiet", cwd=tmp_path)
    assert alone.returncode == 0, alone.stderr
    run = tmp_path / "runs" / "job-7"
    with Turn(tmp_path, 2, *TRAIN) as turn:
        turn.preempt(run / "checkpoint.safetensors", 2)
        turn.ends(143)
        assert "to resume exactly there" in turn.text()
    assert (tmp_path / "scontrol").read_text() == "requeue 7\n"
    assert (tmp_path / "srun").read_text() == "--mpi=pmix\n"
    assert json.loads((run / "run.json").read_text())["done"] is False
    with Turn(tmp_path, 3, *TRAIN) as turn:
        turn.ends(0)
        assert "epoch 40/40" in turn.text()
        assert "epoch 1/40" not in turn.text()
    assert (tmp_path / "scontrol").read_text() == "requeue 7\n"
    assert json.loads((run / "run.json").read_text())["done"] is True
    assert_same_bits(load_file(run / "checkpoint.safetensors"), load_file(tmp_path / "alone/checkpoint.safetensors"))
    with Turn(tmp_path, 2, *TRAIN) as turn:  # as Slurm does after a machine was lost at the very end
        turn.ends(0)
        assert "already done" in turn.text()


def test_a_job_that_fails_is_not_started_again(tmp_path):
    with Turn(tmp_path, 2, *TRAIN, "--data", "nowhere") as turn:
        turn.ends(1)
        assert turn.text().count("unknown data set 'nowhere'") == 1
    assert not (tmp_path / "scontrol").exists()
