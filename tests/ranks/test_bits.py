"""What is trained and predicted on ranks has the bits of one process, whatever the number of ranks and workers."""

import json
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest
from mpi_jobs import run

PROGRAM = Path(__file__).with_name("digests.py")
#: some of the cases: all kinds of sums, in less time
FEW = ("batch norm", "both", "wide", "fit")


@cache
def one_process():
    """The checksums that one process without MPI prints."""
    import os

    from starting import ROOT

    path = os.pathsep.join(map(str, (ROOT, ROOT / "backends")))
    environment = {k: v for k, v in os.environ.items() if not k.startswith("IM2COLNET_")} | {"PYTHONPATH": path}
    done = subprocess.run(
        [sys.executable, PROGRAM, "1"], env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def check(size, workers, *names, **options):
    """Compare what each rank prints with what one process does."""
    done = run(size, PROGRAM, workers, *names, limit=120, **options)
    expected = {name: one_process()[name] for name in names or one_process()}
    for rank, text in enumerate(done.out):
        assert json.loads(text) == expected, f"rank {rank}"


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("size", [1, 2, 3, 4, 8])
def test_on_ranks(size, workers):
    check(size, workers, *(FEW if size * workers > 4 else ()))


@pytest.mark.parametrize(("size", "workers"), [(2, 2), (3, 1)])
def test_over_a_network(size, workers):
    check(size, workers, *FEW, network=True)


def test_workers_on_threads():
    check(2, 2, *FEW, variables={"IM2COLNET_WORKERS": "threads"})
