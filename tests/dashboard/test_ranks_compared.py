"""The comparison of ranks with other processes: what it starts, what it refuses, what it leaves behind."""

import os
import sys

import pytest
from mpi_jobs import launcher

from benchmarks import ranks
from benchmarks.common import NotHere, Samples

NET = "lenet5-b256"


@pytest.fixture(autouse=True)
def _one_round(monkeypatch):
    monkeypatch.setenv("IM2COLNET_BENCH_QUICK", "1")
    monkeypatch.delenv("IM2COLNET_BENCH_REQUIRE", raising=False)


def ended(side):
    """Whether all processes that were started have ended."""
    return all(process.poll() is not None for process in side.processes)


def test_a_side_takes_steps_when_it_is_told_to():
    side = ranks.started("one", NET)
    losses = side.first[0]
    assert losses == sorted(losses, reverse=True)  # always the same batch
    assert side.ask("go") == [None]
    side.close()
    assert ended(side)


def test_a_side_that_fails_says_why_and_leaves_nothing():
    with pytest.raises(RuntimeError, match=r"no_such_program failed:(.|\n)*KeyError"):
        ranks.Side("no_such_program", NET, size=2)


@pytest.mark.parametrize("gone", [False, True])
def test_a_side_that_ends_while_it_is_measured_is_an_error(gone):
    """Whether the process is about to end or has ended: then nothing can be sent to it."""
    side = ranks.started("one", NET)
    side.processes[0].kill()
    if gone:
        side.processes[0].wait()
    with pytest.raises(RuntimeError, match="one failed"):
        side()
    side.close()


@pytest.mark.parametrize(
    ("name", "reason"), [("mpi4py", "mpi4py is not installed"), ("im2colnet.parallel.ranks", "no ranks")]
)
def test_what_is_missing_is_skipped_unless_it_is_required(name, reason, monkeypatch):
    find = ranks.find_spec
    monkeypatch.setattr(ranks, "find_spec", lambda module: None if module == name else find(module))
    with pytest.raises(NotHere, match=reason):
        ranks.launcher()
    monkeypatch.setenv("IM2COLNET_BENCH_REQUIRE", "mpi,torch")
    with pytest.raises(RuntimeError, match=reason):
        ranks.launcher()


def test_a_missing_mpiexec_is_told(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(ranks, "find_spec", lambda module: True)
    assert ranks.main(["--nets", NET]) == 1
    assert "there is no mpiexec" in capsys.readouterr().err


def test_the_faster_program_of_a_side_counts():
    samples = Samples(["ranks", "ddp_nchw", "ddp_nhwc"])
    samples.seconds |= {"ranks": [3.0, 3.0], "ddp_nchw": [8.0, 8.0], "ddp_nhwc": [6.0, 4.0]}
    assert ranks.ratio(NET, "ddp", samples) == pytest.approx({"ratio": 0.625, "low": 0.5625, "high": 0.6875})


def test_two_ranks_are_measured():
    """All of it, once: losses are compared on the way."""
    launcher()
    if len(os.sched_getaffinity(0)) < 2:
        pytest.skip("two ranks want two cores")
    ranks.steps.cache_clear()
    ranks.joined.cache_clear()
    steps = ranks.step_rows([NET], ["one", "workers"])
    assert [len(row) for row in steps] == [8, 8]
    assert steps[1][0] == NET
    assert steps[1][-1] == "n/a"  # PyTorch was not asked for
    assert all(float(cell) > 0 for cell in steps[1][1:4])
    joins = ranks.join_rows(ranks.scaling.measure([]))
    assert [row[0] for row in joins[1:]] == ["128 float64", "11.2M float32"]
    assert not any("n/a" in cell for row in joins for cell in row)
