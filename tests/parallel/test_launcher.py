"""What a launcher's environment variables say, for the launchers that clusters have."""

import os
import subprocess
import sys

import pytest
from starting import ROOT, finish

from im2colnet import launcher

#: of each launcher the variables that it sets for the third of 8 processes on two machines, as far as they matter here
LAUNCHERS = {
    "MPICH, Intel MPI, MS-MPI": {"PMI_RANK": "6", "PMI_SIZE": "8", "MPI_LOCALNRANKS": "4", "MPI_LOCALRANKID": "2"},
    "Open MPI": {
        "OMPI_COMM_WORLD_SIZE": "8",
        "OMPI_COMM_WORLD_RANK": "6",
        "OMPI_COMM_WORLD_LOCAL_SIZE": "4",
        "OMPI_COMM_WORLD_LOCAL_RANK": "2",
        "PMIX_RANK": "6",
    },
    "MVAPICH": {
        "MV2_COMM_WORLD_SIZE": "8",
        "MV2_COMM_WORLD_LOCAL_SIZE": "4",
        "MV2_COMM_WORLD_LOCAL_RANK": "2",
    },
    "PALS": {"PMI_SIZE": "8", "PMI_RANK": "6", "PALS_LOCAL_SIZE": "4", "PALS_LOCAL_RANKID": "2"},
    "srun --mpi=pmi2": {
        "PMI_SIZE": "8",
        "PMI_FD": "2",
        "PMI_RANK": "6",
        "SLURM_STEP_NUM_TASKS": "8",
        "SLURM_STEP_TASKS_PER_NODE": "4(x2)",
        "SLURM_NODEID": "1",
        "SLURM_LOCALID": "2",
    },
    "srun --mpi=pmix": {
        "PMIX_RANK": "6",
        "SLURM_STEP_NUM_TASKS": "8",
        "SLURM_STEP_TASKS_PER_NODE": "1,4(x1),3",
        "SLURM_NODEID": "1",
        "SLURM_LOCALID": "2",
    },
}
NAMES = {*launcher.SIZES, *launcher.LOCAL_SIZES, *launcher.LOCAL_RANKS, *launcher.SLURM_MPI}


@pytest.fixture
def launched(monkeypatch):
    """What sets the variables of a launcher."""
    for name in (
        *NAMES,
        launcher.MARK,
        "PMIX_NAMESPACE",
        "SLURM_STEP_NUM_TASKS",
        "SLURM_NTASKS",
        "SLURM_LOCALID",
        "SLURM_STEP_TASKS_PER_NODE",
    ):
        monkeypatch.delenv(name, raising=False)

    def forget():
        for function in (launcher.launched, launcher.local_size, launcher.local_rank):
            function.cache_clear()

    def set_variables(variables):
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        forget()

    forget()
    yield set_variables
    monkeypatch.undo()
    forget()


@pytest.mark.parametrize("name", LAUNCHERS)
def test_launchers(launched, name):
    launched(LAUNCHERS[name])
    assert (launcher.launched(), launcher.local_size(), launcher.local_rank()) == (8, 4, 2)


ALONE = {
    "nothing": {},
    "a batch script of Slurm": {"SLURM_NTASKS": "8", "SLURM_LOCALID": "0", "SLURM_PROCID": "0"},
    "mpiexec -n 1 in a batch script": {
        "SLURM_NTASKS": "8",
        "PMI_SIZE": "1",
        "PMI_RANK": "0",
        "MPI_LOCALNRANKS": "1",
        "SLURM_STEP_NUM_TASKS": "2",  # mpiexec has started its own helpers by srun
    },
    "srun without MPI": {"SLURM_STEP_NUM_TASKS": "8", "SLURM_LOCALID": "3", "SLURM_NODEID": "0"},
    "one GPU job of torchrun": {"LOCAL_RANK": "3", "WORLD_SIZE": "8"},
    "nonsense": {"PMI_SIZE": "many", "OMPI_COMM_WORLD_SIZE": "", "MPI_LOCALNRANKS": "-1"},
}


@pytest.mark.parametrize("name", ALONE)
def test_one_process(launched, name):
    launched(ALONE[name])
    assert (launcher.launched(), launcher.local_size(), launcher.local_rank()) == (1, 1, 0)


CHILD = """
import multiprocessing, subprocess, sys

def show():
    from im2colnet import launcher

    print(launcher.launched(), launcher.local_size(), launcher.local_rank(), flush=True)

if __name__ == "__main__":
    show()
    child = multiprocessing.get_context("spawn").Process(target=show)
    child.start()
    child.join()
    if len(sys.argv) == 1:
        subprocess.run([sys.executable, sys.argv[0], "again"])
"""


def test_what_a_rank_starts_is_no_rank(launched, tmp_path):
    """But it has the same part of the machine. The connection to the launcher is closed in a program that it starts."""
    (tmp_path / "script.py").write_text(CHILD)
    launched({"PMI_RANK": "6", "PMI_SIZE": "8", "MPI_LOCALNRANKS": "4", "MPI_LOCALRANKID": "2"})
    here, there = os.pipe()
    try:
        variables = {"PYTHONPATH": str(ROOT), "PMI_FD": str(there)}
        command = [sys.executable, tmp_path / "script.py"]
        done = subprocess.run(command, env=os.environ | variables, pass_fds=[there], capture_output=True, check=True)
    finally:
        os.close(here)
        os.close(there)
    assert done.stdout.decode().splitlines() == ["8 4 2", "1 4 2", "1 4 2", "1 4 2"]


def test_what_a_rank_of_pmix_starts_is_no_rank(launched, monkeypatch):
    """Its launcher's connection has a name, which programs inherit; a job that the rank starts has another name."""
    variables = LAUNCHERS["Open MPI"] | {"PMIX_NAMESPACE": "job-1"}
    launched(variables)
    monkeypatch.setenv(launcher.MARK, "")
    launcher.mark()
    launched(variables)
    assert launcher.launched() == 8
    monkeypatch.setattr(os, "getpid", lambda: -1)
    launched(variables)
    assert (launcher.launched(), launcher.local_size(), launcher.local_rank()) == (1, 4, 2)
    launched(variables | {"PMIX_NAMESPACE": "job-2"})
    assert launcher.launched() == 8


@pytest.mark.parametrize("tasks", ["", "4(x2", "x", "4,4"])
def test_an_unknown_number_of_tasks_on_this_machine_is_one(launched, tasks):
    launched(LAUNCHERS["srun --mpi=pmix"] | {"SLURM_STEP_TASKS_PER_NODE": tasks, "SLURM_NODEID": "7"})
    assert launcher.launched() == 8
    assert launcher.local_size() == 1


CORES = """
import os, sys

all_of_them, bound = int(sys.argv[1]), int(sys.argv[2])
os.cpu_count = lambda: all_of_them
os.sched_getaffinity = lambda process: set(range(bound))
import im2colnet as ic
from im2colnet import settings

print(ic.get_num_threads(), settings.chosen_num_threads())
settings.set_own_cores(5)  # once the ranks have met
print(ic.get_num_threads(), settings.chosen_num_threads())
with ic.num_threads(2):
    print(ic.get_num_threads(), settings.chosen_num_threads())
print("mpi4py" in sys.modules)
"""


@pytest.mark.parametrize(
    ("all_of_them", "bound", "expected"),
    [(16, 16, 4), (16, 4, 4), (16, 1, 1), (3, 3, 1), (18, 18, 4)],
    ids=["not bound", "bound", "bound to one", "too few", "with a rest"],
)
def test_ranks_of_a_machine_divide_its_cores(launched, all_of_them, bound, expected):
    """Whether the launcher has bound them to cores of their own or not."""

    def asked():
        done = finish(all_of_them, bound, script=CORES, variables={"IM2COLNET_RANKS": "none"})
        assert not done.stderr
        return done.stdout.split()

    assert asked() == [str(bound), "None", "5", "None", "2", "2", "False"]
    launched(LAUNCHERS["MPICH, Intel MPI, MS-MPI"])
    assert asked() == [str(expected)] * 2 + ["5", "5", "2", "2", "False"]
