"""The suite as asv sees it: its configuration, its names, and that it never passes by measuring nothing."""

import json
import os
import re
import shutil
import subprocess
import sys
from types import SimpleNamespace

import pytest
from browser import ROOT, need

import im2colnet as ic
from benchmarks.common import CASES


@pytest.fixture(autouse=True)
def _needed():
    need("asv", "git")


@pytest.fixture(scope="module")
def found():
    """Every benchmark that asv discovers, by name."""
    need("asv")
    from asv_runner.discovery import disc_benchmarks

    return {benchmark.name: benchmark for benchmark in disc_benchmarks(str(ROOT / "benchmarks"))}


@pytest.fixture(scope="module")
def known():
    """What the committed benchmarks.json says of them, which the dashboard reads."""
    return json.loads((ROOT / "benchmarks" / "results" / "benchmarks.json").read_text())


# asv.conf.json ------------------------------------------------------------------------------------------------------
def test_asv_knows_every_key(configuration):
    """It ignores those that it does not know, such as misspelt ones."""
    from asv.config import Config

    known = set(vars(Config())) | {"version", "build_cache_size"}
    assert not set(configuration.raw) - known
    assert not set(configuration.raw["matrix"]) - {"req", "env", "env_nobuild"}


def test_asv_reads_thresholds_as_they_are_meant(configuration, known):
    """The largest that matches counts, so each case must match one alone; asv matches from the name's beginning."""
    patterns = configuration.read.regressions_thresholds
    names = [name for name in known if name != "version"]
    for name in names:
        entry = f"{name}(1)@HEAD"
        assert len([pattern for pattern in patterns if re.match(pattern, entry)]) == 1, name
    for pattern, threshold in patterns.items():
        assert any(re.match(pattern, name) for name in names), f"{pattern} matches nothing"
        assert 0.01 <= threshold <= 0.5


def test_the_check_of_thresholds_finds_an_overlap(configuration, known):
    wrong = configuration.read.regressions_thresholds | {"ratios\\.Torch.*": 0.2}
    overlapping = SimpleNamespace(read=SimpleNamespace(regressions_thresholds=wrong))
    with pytest.raises(AssertionError, match=r"ratios\.Torch"):
        test_asv_reads_thresholds_as_they_are_meant(overlapping, known)


def test_what_is_better_when_it_is_more_is_no_regression(configuration, known):
    """Every increase is one to asv."""
    excluded = configuration.read.regressions_first_commits
    for name, benchmark in known.items():
        if name != "version":
            more_is_better = benchmark["unit"] in ("images/s",)
            assert any(re.match(pattern, name) for pattern in excluded) is more_is_better, name
            assert benchmark["unit"] in ("seconds", "bytes", "ratio", "images/s"), name


def test_backends_are_a_dimension_that_needs_no_second_build(configuration):
    assert configuration.raw["matrix"]["env_nobuild"] == {"IM2COLNET_BACKEND": ["numpy", "cupy", "numba"]}


def environments(configuration, *specification):
    from asv.environment import get_environments

    return [dict(environment.env_vars) for environment in get_environments(configuration.read, specification)]


def test_environments_of_asv_s_own_are_the_host_s_and_the_present_one_runs_all(configuration, monkeypatch):
    monkeypatch.chdir(ROOT)

    def backends(*specification):
        return [variables["IM2COLNET_BACKEND"] for variables in environments(configuration, *specification)]

    assert backends() == ["numpy", "numba"]
    assert backends(":same") == ["numpy", "cupy", "numba"]


# The benchmarks -----------------------------------------------------------------------------------------------------
def test_the_suite_has_every_area(found):
    for name in (
        "micro_kernels.Lowering.time_im2col",
        "micro_kernels.Conv2d.time_forward",
        "layer_training.Layer.time_step",
        "step_nets.Training.time_step",
        "step_nets.InferenceOne.time_predict",
        "ratios.Self.track_ratio_self",
        "ratios.Torch.track_ratio_torch_training",
        "ratios.Kernels.track_ratio_gemm",
        "memory.Step.track_peak",
        "ratios.Kernels.track_ratio_roofline",
        "ranks.Steps.track_ratio_one",
        "ranks.Steps.track_ratio_workers",
        "ranks.Steps.track_ratio_ddp",
        "ranks.Joins.track_join",
        "ranks.Joins.track_ratio_allreduce",
        "size.timeraw_import",
        "size.track_wheel",
    ):
        assert name in found
    nets = found["step_nets.Training.time_step"].params[0]
    assert [eval(net) for net in nets] == [name for name in CASES if name != "resnet18-b16"]


def test_the_dashboard_knows_the_suite_as_it_is(found, known):
    """After a change: asv run --bench just-discover."""
    assert set(known) - {"version"} == set(found)
    for name, benchmark in found.items():
        assert known[name]["params"] == benchmark.params, name
        assert known[name]["version"] == benchmark.version, name
        assert known[name]["unit"] == benchmark.unit, name


def test_an_edit_of_the_code_does_not_orphan_the_history(found):
    """The version is set by hand; asv's own is a hash of the code."""
    assert {name: benchmark.version for name, benchmark in found.items() if len(benchmark.version) > 4} == {}


# asv run ------------------------------------------------------------------------------------------------------------
@pytest.fixture
def checkout(tmp_path):
    """The suite in a folder of its own, since asv writes to the results even when it is told not to."""
    need("asv")
    unwanted = shutil.ignore_patterns("results", "__pycache__")
    shutil.copytree(ROOT / "benchmarks", tmp_path / "benchmarks", ignore=unwanted)
    shutil.copy(ROOT / "asv.conf.json", tmp_path)
    me = ["-c", "user.name=x", "-c", "user.email=x"]
    for command in (["init", "-q"], [*me, "commit", "-q", "--allow-empty", "-m", "x"]):
        subprocess.run(["git", *command], cwd=tmp_path, check=True)
    machine = {"version": 1, "here": {"machine": "here", "os": "", "arch": "", "cpu": "", "num_cpu": "", "ram": ""}}
    (tmp_path / ".asv-machine.json").write_text(json.dumps(machine))

    def run(*arguments, **variables):
        environment = {k: v for k, v in os.environ.items() if not k.startswith("IM2COLNET_")} | variables
        environment |= {
            "HOME": str(tmp_path),
            "IM2COLNET_BENCH_QUICK": "1",
            "ASV_PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'backends'}",
        }
        options = ["-E", ":same", "--quick", "--dry-run", "--show-stderr", "--machine", "here"]
        command = [sys.executable, "-m", "asv", "run", *options, *arguments]
        return subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)

    return run


ONE = "micro_kernels.BatchNorm.time_sums"


def test_a_backend_that_is_missing_shows_n_a(checkout):
    """Which is all that asv says of it, with status 0."""
    done = checkout("--bench", ONE)
    assert done.returncode == 0, done.stdout + done.stderr
    starts = {backend.name for backend in ic.list_backends() if backend.available}
    for backend, shown in zip(("numpy", "cupy", "numba"), done.stdout.split("Benchmarking ")[1:], strict=True):
        assert f"BACKEND{backend}" in shown
        assert shown.count("n/a") == (0 if backend in starts else 2)


@pytest.mark.parametrize("missing", ["nowhere", "torch"])
def test_what_is_required_and_missing_makes_the_run_fail(checkout, missing, tmp_path):
    bench = ONE if missing == "nowhere" else r"memory.*\('lenet5-b64', 'torch NCHW'\)"
    if missing == "torch":
        (tmp_path / "benchmarks" / "__init__.py").write_text("import sys\nsys.modules['torch'] = None\n")
    done = checkout("--bench", bench, IM2COLNET_BENCH_REQUIRE=missing)
    assert done.returncode == 2, done.stdout + done.stderr
    assert missing in done.stdout
