"""What the other tests of ranks stand on: jobs start, are heard, end in time, and leave nothing."""

import os
import signal

import pytest
from mpi_jobs import Job, marked, run

HELLO = """
import os, sys
from mpi4py import MPI
comm = MPI.COMM_WORLD
print(comm.rank, comm.size, comm.allreduce(comm.rank), os.environ.get("OF_RANK"))
print("to stderr", file=sys.stderr)
"""


@pytest.mark.parametrize("network", [False, True], ids=["memory", "network"])
def test_every_rank_is_heard(network):
    done = run(3, script=HELLO, by_rank=lambda q: {"OF_RANK": f"of {q}"}, network=network)
    assert done.out == [f"{q} 3 3 of {q}\n" for q in range(3)]
    assert all(text.endswith("to stderr\n") for text in done.err)


def test_the_status_is_the_launchers():
    done = run(2, script="import sys; from mpi4py import MPI; MPI.COMM_WORLD.Abort(7)", code=None)
    assert done.code == 7
    with pytest.raises(AssertionError, match="ended with status 7"):
        run(1, script="from mpi4py import MPI; MPI.COMM_WORLD.Abort(7)")


def test_a_job_that_hangs_is_ended_and_its_children_too():
    forks = "import os, time; os.fork(); print('here', flush=True); time.sleep(600)"
    with Job(2, script=forks) as job:
        with pytest.raises(AssertionError, match="hangs"):
            job.finish(limit=1.5)
        for rank in range(2):
            job.wait_for(job.files / f"out.{rank}")
            assert len(job.pids(rank)) == 2
    assert marked(job.mark) == []


def test_what_outlives_a_job_is_told():
    daemon = "import os, time\nif not os.fork():\n    os.setsid(); time.sleep(600)"
    with Job(1, script=daemon) as job, pytest.raises(AssertionError, match=r"outlived|hangs"):
        job.finish(limit=2)
    assert marked(job.mark) == []


def test_a_rank_can_be_killed():
    with Job(2, script=HELLO + "import time; time.sleep(600)") as job:
        os.kill(job.pid(1), signal.SIGKILL)
        job.finish(lambda code: code != 0, limit=30)
