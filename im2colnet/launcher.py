"""The environment variables by which the launcher of an MPI job (``mpiexec``, ``srun``) informs its processes.

These facts cost no import of MPI, and are known before the processes have met.
"""

from __future__ import annotations

import os
import sys
from functools import cache
from itertools import chain, repeat

#: variables that hold the number of processes of a job: Open MPI; MPICH, Intel MPI and ``srun --mpi=pmi2``; MVAPICH;
#: IBM's jsrun
SIZES = ("OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "MV2_COMM_WORLD_SIZE", "MVP_COMM_WORLD_SIZE", "JSM_NAMESPACE_SIZE")
#: variables that hold the number of this process in the job, from 0
RANKS = (
    "OMPI_COMM_WORLD_RANK",
    "PMI_RANK",
    "PMIX_RANK",
    "MV2_COMM_WORLD_RANK",
    "MVP_COMM_WORLD_RANK",
    "JSM_NAMESPACE_RANK",
)
#: variables that hold the number of this job's processes on this machine; PALS is Cray's launcher
LOCAL_SIZES = (
    "OMPI_COMM_WORLD_LOCAL_SIZE",
    "MPI_LOCALNRANKS",
    "PMI_LOCAL_SIZE",
    "MV2_COMM_WORLD_LOCAL_SIZE",
    "MVP_COMM_WORLD_LOCAL_SIZE",
    "PALS_LOCAL_SIZE",
    "JSM_NAMESPACE_LOCAL_SIZE",
)
#: variables that hold the number of this process among them, from 0
LOCAL_RANKS = (
    "OMPI_COMM_WORLD_LOCAL_RANK",
    "MPI_LOCALRANKID",
    "PMI_LOCAL_RANK",
    "MV2_COMM_WORLD_LOCAL_RANK",
    "MVP_COMM_WORLD_LOCAL_RANK",
    "PALS_LOCAL_RANKID",
    "JSM_NAMESPACE_LOCAL_RANK",
    "FLUX_TASK_LOCAL_ID",
)
#: variables by which Slurm's srun joins processes to MPI; without one of them its tasks know nothing of each other
SLURM_MPI = ("PMI_RANK", "PMI_FD", "PMIX_RANK", "PMI_CONTROL_PORT")
#: the variable by which a rank of PMIx tells programs that it starts which process the rank is
MARK = "IM2COLNET_RANK_PROCESS"


@cache
def launched() -> int:
    """Return how many processes a launcher has started as the ranks of one MPI job; 1 without a launcher.

    A process that a rank has started, by multiprocessing or as a program, does not count as a rank.
    """
    return 1 if _started_by_a_rank() else _job_size()


@cache
def rank() -> int:
    """Return the number of this process in the job, from 0; 0 without a launcher, or if it is not known."""
    ranks = _numbers(RANKS) or (_numbers(("SLURM_PROCID",)) if _slurm_joins() else [])
    return ranks[0] if ranks and launched() > 1 else 0


@cache
def local_size() -> int:
    """Return how many of these ranks are on this machine; 1 if that is not known."""
    sizes = _numbers(LOCAL_SIZES) or [_slurm_tasks_here() if _slurm_joins() else 1]
    return max(1, min(max(sizes), _job_size()))


@cache
def local_rank() -> int:
    """Return the number of this rank among the ranks of this machine, from 0; 0 if it is not known."""
    ranks = _numbers(LOCAL_RANKS) or (_numbers(("SLURM_LOCALID",)) if _slurm_joins() else [])
    return ranks[0] if ranks and _job_size() > 1 else 0


def slurm_tasks() -> int:
    """Return the number of tasks of srun's step; 1 outside a step, as in a batch script of a job with several tasks."""
    return max(_numbers(("SLURM_STEP_NUM_TASKS",)) or [1])


def _job_size() -> int:
    return max(_numbers(SIZES) or [slurm_tasks() if _slurm_joins() else 1])


def mark() -> None:
    """Mark this process as a rank, so that a program that it starts knows that it is not a rank itself."""
    if rank := _rank_of_pmix():
        os.environ[MARK] = f"{rank} {os.getpid()}"


def _rank_of_pmix() -> str:
    """Return the name of the job and the number of this rank, as Open MPI and Slurm's PMIx give them; empty without."""
    return " ".join(os.environ[name] for name in ("PMIX_NAMESPACE", "PMIX_RANK") if name in os.environ)


def _started_by_a_rank() -> bool:
    """Return whether this process only inherits the variables of a rank."""
    process = sys.modules.get("multiprocessing.process")
    if process is not None and process.parent_process() is not None:
        return True
    rank, _, marked = os.environ.get(MARK, "").rpartition(" ")
    if marked and rank == _rank_of_pmix() and marked != str(os.getpid()):
        return True
    try:
        os.fstat(int(os.environ.get("PMI_FD", "")))  # the connection to MPICH's or Slurm's launcher is not handed on
    except ValueError:
        return False
    except OSError:
        return True
    return False


def _numbers(variables: tuple[str, ...]) -> list[int]:
    found = (os.environ.get(name, "") for name in variables)
    return [int(text) for text in found if text.isdecimal()]


def _slurm_joins() -> bool:
    return any(name in os.environ for name in SLURM_MPI)


def _slurm_tasks_here() -> int:
    """Return the number of a step's tasks on this machine, from a list such as "4(x2),3" of all its machines."""
    texts = (item.rstrip(")").split("(x") for item in os.environ.get("SLURM_STEP_TASKS_PER_NODE", "").split(","))
    try:
        tasks = list(chain.from_iterable(repeat(int(count), int(times[0]) if times else 1) for count, *times in texts))
        return tasks[int(os.environ["SLURM_NODEID"])]
    except (KeyError, ValueError, IndexError):
        return 1
