"""The command line under mpiexec: one run folder, one display, and the files of one process."""

import json
import os
import shutil
import signal
import subprocess
import time
from contextlib import suppress

import numpy as np
import pytest
from helpers import assert_same_bits, timeless
from mpi_jobs import LIMIT, Job, launcher, run
from safetensors.numpy import load_file
from starting import finish

TRAIN = ("train", "--model", "resnet20", "--epochs", "2", "--batch-size", "150", "--shard", "20", "--threads", "1")


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """The folder of a training by one process without MPI."""
    folder = tmp_path_factory.mktemp("alone")
    done = finish(*TRAIN, "--out", "run", cwd=folder)
    assert done.returncode == 0, done.stderr
    return folder / "run"


def result(folder):
    """What a run folder keeps of a training: the checkpoint's tensors, and the history without what clocks say."""
    records = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return load_file(folder / "checkpoint.safetensors"), timeless(records)


def assert_same_training(folder, expected):
    (tensors, records), (same, history) = result(folder), result(expected)
    assert_same_bits(tensors, same)
    assert records == history


@pytest.mark.parametrize("size", [2, 3])
def test_a_training_is_that_of_one_process(size, tmp_path, alone):
    done = run(size, *TRAIN, command=True, folder=tmp_path)
    assert [path.name for path in (tmp_path / "runs").iterdir()] == ["digits-resnet20-1"]
    assert_same_training(tmp_path / "runs" / "digits-resnet20-1", alone)
    record = json.loads((tmp_path / "runs" / "digits-resnet20-1" / "run.json").read_text())
    assert record["done"] is True
    assert done.out[0]
    assert done.out[1:] == [""] * (size - 1)
    assert done.err[1:] == [""] * (size - 1)
    assert f"{size} ranks" in done.out[0] + done.err[0]


def test_json_is_of_one_rank(tmp_path, alone):
    done = run(2, *TRAIN, "--json", "--out", "run", command=True, folder=tmp_path)
    assert json.loads(done.out[0])
    assert done.out[1] == ""
    assert_same_training(tmp_path / "run", alone)


def test_ranks_without_work_are_warned_of(tmp_path):
    few = ("train", "--model", "notebook", "--epochs", "1", "--batch-size", "32", "--shard", "16", "--out", "run")
    done = run(3, *few, command=True, folder=tmp_path)
    text = done.out[0] + done.err[0]
    assert "2 shards" in text
    assert "--shard" in text


def test_evaluation_and_prediction_are_those_of_one_process(tmp_path, alone):
    images = np.random.default_rng(0).integers(0, 256, (37, 1, 8, 8), dtype=np.uint8)
    np.save(tmp_path / "images.npy", images)
    evaluate = ("evaluate", alone, "--json", "--threads", "1")
    predict = ("predict", alone, "images.npy", "--json", "--threads", "1", "--out")
    expected = [finish(*evaluate, cwd=tmp_path), finish(*predict, "one.npy", cwd=tmp_path)]
    found = [
        run(3, *evaluate, command=True, folder=tmp_path),
        run(3, *predict, "three.npy", command=True, folder=tmp_path),
    ]
    for one, three in zip(expected, found, strict=True):
        assert one.returncode == 0, one.stderr
        same, other = json.loads(one.stdout), json.loads(three.out[0])
        for report in same, other:
            for differs in ("seconds", "images_per_second", "out"):
                report.pop(differs, None)
        assert other == same
        assert three.out[1:] == ["", ""]
    assert (tmp_path / "three.npy").read_bytes() == (tmp_path / "one.npy").read_bytes()


# Stopped ------------------------------------------------------------------------------------------------------------
def stopped(size, folder, how, *arguments):
    """Start a job, and stop it while it trains; it ends by itself and has written a checkpoint."""
    checkpoint = folder / "run" / "checkpoint.safetensors"
    before = checkpoint.stat().st_mtime_ns if checkpoint.exists() else 0
    with Job(size, *arguments, command=True, folder=folder) as job:
        while not (checkpoint.exists() and checkpoint.stat().st_mtime_ns > before):
            assert job.process.poll() is None, job.report()
            assert time.monotonic() - job.began < LIMIT, job.report()
            time.sleep(0.005)
        how(job)
        job.finish(lambda code: code != 0, limit=20)
        return job


def send(job, number, *ranks):
    """Send a signal to some ranks."""
    for rank in ranks:
        os.kill(job.pid(rank), number)


def test_stopped_by_two_resumed_by_three_and_by_one(tmp_path, alone):
    """Ctrl-C of a single rank, and SIGTERM: a checkpoint after the same step on all ranks, then the same bits."""
    _, mpi = launcher()
    first = stopped(2, tmp_path, lambda job: send(job, signal.SIGINT, 1), *TRAIN, "--out", "run", "--save-every", "1")
    text = "\n".join([*first.out, *first.err])
    assert "Traceback" not in text
    assert first.code == 130 or mpi == "openmpi", first.report()
    assert not json.loads((tmp_path / "run" / "run.json").read_text()).get("done")
    again = ("train", "--resume", "run", "--threads", "1")
    second = stopped(3, tmp_path, lambda job: send(job, signal.SIGTERM, 0, 1, 2), *again, "--save-every", "1")
    assert "Traceback" not in "\n".join(second.err)
    done = finish(*again, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert_same_training(tmp_path / "run", alone)
    assert json.loads((tmp_path / "run" / "run.json").read_text())["done"] is True


def test_ctrl_c_of_the_launcher(tmp_path):
    """As in a terminal: nothing hangs, and nothing is left."""
    stopped(
        2, tmp_path, lambda job: os.killpg(job.process.pid, signal.SIGINT), *TRAIN, "--out", "run", "--save-every", "1"
    )


# Killed -------------------------------------------------------------------------------------------------------------
KILLS = int(os.environ.get("TEST_KILLS", "5"))


def test_kills_at_random(tmp_path, alone):
    """Ranks and workers are killed at any moment; other numbers of ranks and workers go on exactly.

    The variable TEST_KILLS is the number of kills, TEST_SEED draws the same ones again.
    """
    seed = int(os.environ.get("TEST_SEED", time.time_ns() % 2**32))
    rng, runs, kills = np.random.default_rng(seed), 0, 0
    print(f"TEST_SEED={seed}")  # pytest shows it where the test fails
    while kills < KILLS:
        killed = train(tmp_path / f"run-{runs}", int(rng.integers(1, 5)), int(rng.integers(1, 3)), rng)
        kills += killed
        if not killed:
            assert json.loads((tmp_path / f"run-{runs}" / "run.json").read_text())["done"] is True
            assert_same_training(tmp_path / f"run-{runs}", alone)
            runs += 1
    train(tmp_path / f"run-{runs}", 1, 1)
    assert_same_training(tmp_path / f"run-{runs}", alone)


def train(folder, size, workers, rng=None):
    """Train, or go on; kill a rank or a worker at a drawn moment. Return whether that ended the job.

    In the last moments, when all files are written, a job whose process is killed may still end with status 0.
    """
    resumed = (folder / "checkpoint.safetensors").exists()
    if not resumed:
        shutil.rmtree(folder, ignore_errors=True)
    what = ("train", "--resume", folder) if resumed else (*TRAIN[:-2], "--out", folder)
    with Job(size, *what, "--threads", workers, "--save-every", "2", command=True) as job:
        wait, rank = (rng.uniform(0.3, 4), int(rng.integers(size))) if rng else (LIMIT, 0)
        print(f"{size} ranks x {workers} workers, {'resumed' if resumed else 'new'}; rank {rank} after {wait:.2f} s")
        with suppress(subprocess.TimeoutExpired):
            job.process.wait(wait)
            job.finish(0)
            return False
        with suppress(FileNotFoundError, ProcessLookupError):  # it has ended just now
            os.kill(int(rng.choice(job.pids(rank))), signal.SIGKILL)
        return job.finish(limit=20).code != 0
