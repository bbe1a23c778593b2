"""A planted slowdown is found by the suite's way to measure, asv's detection of steps, the project's thresholds."""

import json
import os
import subprocess
import sys

import pytest
from browser import ROOT, need

#: a machine with a clock of its own, so that no load matters: a call takes its cost times a random number
TOY = """
import numpy as np

cost, rng, now = {cost}, np.random.default_rng({seed}), 0.0

def take(seconds):
    global now
    now += seconds * rng.uniform(1, 1.3)

def work():
    take(cost)

def perf_counter():
    return now
"""
BENCHMARKS = """
from types import SimpleNamespace

import toy
from benchmarks import common

clock = toy.perf_counter
common.time = SimpleNamespace(perf_counter=clock, process_time=clock, clock_gettime=None, sleep=toy.take)

def reference():
    toy.take(1e-3)

def ratio(call):
    sides = {"call": call, "reference": reference}
    return common.interleave(sides, rounds=9, sample=0.01).ratio("call", "reference")["ratio"]

def track_planted():
    return ratio(toy.work)

def track_steady():
    return ratio(reference)

track_planted.unit = track_steady.unit = "ratio"
"""


@pytest.fixture(scope="module")
def regressions(tmp_path_factory, configuration):
    """What asv finds in six commits of a toy, of which the last three are 1.5 times as slow."""
    need("asv", "git")
    folder = tmp_path_factory.mktemp("toy")
    thresholds = configuration.raw["regressions_thresholds"]
    settings = {
        "version": 1,
        "project": "toy",
        "repo": ".",
        "branches": ["HEAD"],
        "environment_type": "existing",
        "benchmark_dir": "suite",
        "results_dir": "results",
        "html_dir": "html",
        "regressions_thresholds": thresholds,
    }
    (folder / "asv.conf.json").write_text(json.dumps(settings))
    (folder / "suite").mkdir()
    (folder / "suite" / "__init__.py").touch()
    (folder / "suite" / "ratios.py").write_text(BENCHMARKS)
    machine = {"version": 1, "here": {"machine": "here", "os": "", "arch": "", "cpu": "", "num_cpu": "", "ram": ""}}
    (folder / ".asv-machine.json").write_text(json.dumps(machine))
    paths = os.pathsep.join(map(str, (folder, ROOT, ROOT / "backends")))
    environment = {k: v for k, v in os.environ.items() if not k.startswith("IM2COLNET_")}
    environment |= {"HOME": str(folder), "ASV_PYTHONPATH": paths, "OPENBLAS_NUM_THREADS": "1"}

    def run(*command):
        done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout.strip()

    run("git", "init", "-q")
    commits = []
    for day, cost in enumerate([1e-3, 1e-3, 1e-3, 1.5e-3, 1.5e-3, 1.5e-3], start=1):
        (folder / "toy.py").write_text(TOY.format(cost=cost, seed=day))
        run("git", "add", "toy.py")
        environment |= dict.fromkeys(("GIT_AUTHOR_DATE", "GIT_COMMITTER_DATE"), f"2026-01-{day:02}T12:00:00+0000")
        run("git", "-c", "user.name=x", "-c", "user.email=x", "commit", "-q", "-m", str(day))
        commits.append(run("git", "rev-parse", "HEAD"))
        run(sys.executable, "-m", "asv", "run", "-E", "existing", "--machine", "here", "--set-commit-hash", commits[-1])
    run(sys.executable, "-m", "asv", "publish", "--no-pull")
    index = json.loads((folder / "html" / "index.json").read_text())
    found = json.loads((folder / "html" / "regressions.json").read_text())["regressions"]
    jumps = {
        name: [(index["revision_to_hash"][str(after)], slow / fast) for _, after, fast, slow in jumps]
        for name, _, _, _, _, _, jumps in found
    }
    return commits, jumps


def test_a_planted_slowdown_is_found_where_it_is(regressions):
    commits, jumps = regressions
    ((commit, factor),) = jumps["ratios.track_planted"]
    assert commit == commits[3]
    assert 1.35 < factor < 1.65


def test_nothing_is_found_where_nothing_was_planted(regressions):
    _, jumps = regressions
    assert set(jumps) == {"ratios.track_planted"}
