"""How real jobs begin and end: each rank's part of the machine, and launches that cannot work."""

import json
import os
import subprocess
import sys

import pytest
from mpi_jobs import Job, launcher, run
from starting import finish

NO_MPI4PY = "import sys; sys.modules['mpi4py'] = None\n"


def test_ranks_share_the_cores_of_their_machine():
    """Whether the launcher binds them, as Open MPI does, or not."""
    script = """
import os
import im2colnet as ic
from im2colnet.parallel import mpi

before, ranks = ic.get_num_threads(), mpi.world()
assert mpi.world() is ranks is mpi.resolve("auto")
print(before, ic.get_num_threads(), ranks.rank, ranks.size, ranks.node_rank, ranks.node_size)
with ic.num_threads(3):
    print(ic.get_num_threads())
"""
    cores = len(os.sched_getaffinity(0))
    done = run(2, script=script)
    for rank, text in enumerate(done.out):
        before, after, *rest = text.split()
        assert int(after) == max(1, cores // 2)
        assert 1 <= int(before) <= cores
        assert rest == [str(rank), "2", str(rank), "2", "3"]


def test_independent_processes_share_the_cores_too():
    script = "import sys, im2colnet as ic; print(ic.get_num_threads(), 'mpi4py' in sys.modules)"
    done = run(2, script=script, variables={"IM2COLNET_RANKS": "none"})
    assert done.out == [f"{max(1, len(os.sched_getaffinity(0)) // 2)} False\n"] * 2


def test_a_failure_of_one_of_several_independent_trainings_leaves_the_others_alone():
    script = """
import os, time
import im2colnet as ic

net = ic.Sequential([ic.Flatten(), ic.Linear(4, 2)])
trainer = ic.Trainer(net, optimizer=ic.SGD(0.1), ranks="none")
if (os.environ.get("PMI_RANK") or os.environ["OMPI_COMM_WORLD_RANK"]) == "1":
    raise ValueError("of one training")
time.sleep(1)
print("done")
"""
    done = run(2, script=script, code=None)
    assert "of one training" in done.err[1]
    assert "Terminated" not in done.told
    if done.mpi == "mpich":  # Open MPI's launcher ends a job whose processes fail
        assert done.out[0] == "done\n"


def test_a_communicator_of_some_ranks():
    script = """
from mpi4py import MPI
from im2colnet.parallel import mpi

half = MPI.COMM_WORLD.Split(MPI.COMM_WORLD.rank % 2)
ranks = mpi.resolve(half)
assert mpi.resolve(half) is ranks
print(ranks.rank, ranks.size, ranks.meet(5, 10 + MPI.COMM_WORLD.rank))
half.Free()  # the ranks have a copy
print(ranks.meet(6))
"""
    done = run(4, script=script)
    for rank, text in enumerate(done.out):
        numbers = [(5, 10 + rank % 2), (5, 12 + rank % 2)]
        assert text == f"{rank // 2} 2 {numbers}\n[(6,), (6,)]\n"


def test_a_program_that_a_rank_starts_is_no_rank():
    """It inherits the launcher's variables, and would wait for ever for its own place in the job."""
    script = """
import subprocess, sys
from im2colnet.parallel import mpi

ranks = mpi.world()
child = "from im2colnet.parallel import mpi; print('child', mpi.world())"
done = subprocess.run([sys.executable, "-c", child], capture_output=True, text=True, timeout=30)
print(done.stdout, done.stderr)
ranks.meet(1)
"""
    done = run(2, script=script)
    assert done.out == ["child None\n \n"] * 2


@pytest.mark.parametrize("late", [1, 2])
def test_a_rank_that_ends_early_is_missed_by_those_that_go_on(late):
    """With sys.exit(0), which no launcher takes for a failure."""
    script = f"""
import sys
from im2colnet.parallel import mpi

ranks = mpi.world()
if ranks.rank >= {late}:
    sys.exit()
ranks.meet(1)
"""
    done = run(3, script=script, code=lambda code: code != 0, limit=30)
    missing = " and ".join(f"rank {rank}" for rank in range(late, 3))
    assert f"{missing} ha" in done.err[0]
    assert "ended, while rank 0 goes on" in done.err[0]


def test_the_first_rank_may_go_on_by_itself_for_as_long_as_it_likes():
    """The others wait at their end, longer than the limit for ranks that need each other."""
    script = """
import time
from im2colnet.parallel import mpi

ranks = mpi.world()
ranks.meet(1)
if not ranks.rank:
    time.sleep(6)
    print("done")
"""
    done = run(3, script=script, variables={"IM2COLNET_RANK_TIMEOUT": "4"}, limit=30)
    assert done.out[0] == "done\n"
    assert done.told == ""


@pytest.mark.parametrize(("failure", "status"), [("ValueError('mine')", 1), ("KeyboardInterrupt()", 130)])
def test_an_error_of_one_rank_ends_the_job_and_is_shown(failure, status):
    script = f"""
from im2colnet.parallel import mpi

ranks = mpi.world()
if ranks.rank == 1:
    raise {failure}
ranks.meet(1)
"""
    done = run(2, script=script, code=status, limit=30)
    assert "rank 1 of 2" in done.err[1]
    assert "the job is aborted" in done.err[1]
    assert ("ValueError: mine" in done.err[1]) == (status == 1)


def test_an_error_that_all_agree_on_is_shown_once_and_each_rank_ends_by_itself():
    script = """
import atexit, os
from im2colnet.errors import WorkerError
from im2colnet.parallel import mpi

ranks = mpi.world()
atexit.register(print, "ended")
error = WorkerError("known to all")
error.agreed = True
raise error
"""
    done = run(3, script=script, code=1, limit=30)
    assert [text.count("known to all") for text in done.err] == [1, 0, 0]
    assert done.out == ["ended\n"] * 3


def test_a_failure_before_the_ranks_have_met_ends_the_job():
    """The others wait for MPI to begin, where no Python of theirs runs."""
    script = """
import os
import im2colnet as ic

rank = os.environ.get("PMI_RANK") or os.environ["OMPI_COMM_WORLD_RANK"]
ic.get_num_threads()  # something of the library
if rank == "1":
    raise FileNotFoundError("the data of this machine")
from im2colnet.parallel import mpi
mpi.world()
"""
    done = run(2, script=script, code=lambda code: code != 0, limit=30)
    assert "the data of this machine" in done.err[1]


def test_a_rank_that_never_begins_is_not_waited_for():
    script = """
import os, time

rank = os.environ.get("PMI_RANK") or os.environ["OMPI_COMM_WORLD_RANK"]
if rank == "1":
    time.sleep(600)
from im2colnet.parallel import mpi
mpi.world()
"""
    variables = {"IM2COLNET_RANK_TIMEOUT": "2"}
    done = run(2, script=script, variables=variables, code=lambda code: code != 0, limit=30)
    assert "start_mpi_when_all_ranks_do" in done.err[0]


def test_no_mpi4py_on_one_rank():
    script = f"""
import os
if (os.environ.get("PMI_RANK") or os.environ["OMPI_COMM_WORLD_RANK"]) == "1":
    {NO_MPI4PY}
from im2colnet.parallel import mpi
mpi.world()
"""
    done = run(2, script=script, code=lambda code: code != 0, limit=30)
    assert "has started 2 processes, but mpi4py is not installed: pip install mpi4py" in done.err[1]


def test_the_launcher_of_another_mpi():
    """As its variables tell: this process itself is started without any launcher."""
    other = {"mpich": "OMPI_COMM_WORLD_SIZE", "openmpi": "PMI_SIZE"}[launcher()[1]]
    script = "from im2colnet.parallel import mpi; mpi.world()"
    alone = {name: None for name in os.environ if name.startswith(("IM2COLNET_", "OMPI_COMM", "PMI"))}
    done = finish(script=script, variables=alone | {other: "2"})
    assert done.returncode != 0
    assert "has started 2 processes, but mpi4py uses another MPI than the launcher's" in done.stderr


def test_mpi_without_a_launcher_is_one_rank():
    launcher()
    script = (
        "import warnings; warnings.simplefilter('ignore'); from im2colnet.parallel import mpi; print(mpi.world().size)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], env=os.environ | {"IM2COLNET_RANKS": "mpi"}, capture_output=True, check=True
    )
    assert done.stdout == b"1\n"


@pytest.mark.parametrize("how", ["busy", "stopped"])
def test_a_rank_that_waits_too_long_names_the_one_that_it_waits_for(how):
    script = f"""
import os, signal, time
from im2colnet.parallel import mpi

ranks = mpi.world()
if ranks.rank == 1:
    print(os.getpid(), flush=True)
    os.kill(os.getpid(), signal.SIGSTOP) if {how == "stopped"} else time.sleep(600)
ranks.begin_step("in training step 17")
ranks.meet(1)
"""
    with Job(3, script=script, variables={"IM2COLNET_RANK_TIMEOUT": "2"}) as job:
        done = job.finish(lambda code: code != 0, limit=30)
    told = "".join(done.err)
    assert "has waited 2 s for the other ranks: in training step 17" in told
    what = "is busy with something else" if how == "busy" else "does not run; it may be stopped"
    assert f"rank 1 (process {done.out[1].strip()}) {what}" in told


def test_doctor_describes_the_ranks_and_times_their_joins():
    done = run(2, "doctor", "--json", command=True)
    found = json.loads(done.out[0])["ranks"]
    assert found["ranks"] == 2
    assert list(found["machines"].values()) == [2]
    assert found["threads"] == [max(1, len(os.sched_getaffinity(0)) // 2)] * 2
    assert 0 < found["small_join_seconds"] < found["large_join_seconds"] < 10
    assert 0 < found["small_allreduce_seconds"] < found["large_allreduce_seconds"] < 10
    assert {"mpich": "MPICH", "openmpi": "Open MPI"}[done.mpi] in found["mpi"]
