"""Ranks by MPI: how the processes of a job connect, and how the job ends if a rank would wait forever.

A launcher (``mpiexec -n 4``, ``srun``) starts the processes. :mod:`im2colnet.launcher` sees that, and only then MPI is
imported. An error that all ranks agree on is raised on each of them, and each ends by itself. Any other failure has to
end the whole job, since the other ranks know nothing of it:

- An exception that nobody catches aborts the job at the end of that rank's Python, after the traceback was shown.
- A rank whose Python ends communicates once more with the other ranks: a rank that expects anything else gets an error.
- A thread of each rank watches how long the rank waits, and aborts the job after ``IM2COLNET_RANK_TIMEOUT`` seconds.
"""

from __future__ import annotations

import atexit
import os
import platform
import re
import signal
import sys
import threading
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any

from im2colnet.errors import ShapeError, TrainingWarning, WorkerError, agreed, install
from im2colnet.launcher import launched, mark, slurm_tasks
from im2colnet.parallel.ranks import END, Ranks
from im2colnet.settings import forbid_forks, set_own_cores

VARIABLE = "IM2COLNET_RANKS"
KINDS = ("auto", "mpi", "none")
TIMEOUT = "IM2COLNET_RANK_TIMEOUT"
SECONDS = 600.0  #: how long a rank waits for the others by default
#: a rank whose watchdog has not been seen for this number of seconds does not run
SILENCE = 5.0
#: seconds between the last message of a rank and the end of the job: the launcher has to pass the message on
PAUSE = 0.2
#: seconds that MPI has to abort the job, before the process ends without it
GRACE = 10.0
ALONE = f"{VARIABLE}=none makes each process train on its own"
#: where Linux lists the adapters of networks with RDMA: InfiniBand, RoCE, EFA and Omni-Path; Slingshot
ADAPTERS = ("/sys/class/infiniband", "/sys/class/cxi")
#: variables by which a user chooses the transport of libfabric, UCX or Open MPI
TRANSPORTS = ("FI_PROVIDER", "MPIR_CVAR_OFI_USE_PROVIDER", "UCX_TLS", "OMPI_MCA_btl")
#: the names of transports with RDMA in these variables
RDMA = r"verbs|efa|psm\d?|opx|cxi|gni|usnic|openib|ib|(rc|ud|dc)(_\w+)?"


def resolve(given: Any = None) -> Ranks | None:
    """Return the ranks that a training is divided among; None for a training of this process alone.

    Parameters
    ----------
    given : {"auto", "mpi", "none"}, communicator or Ranks, optional
        By default the value of ``IM2COLNET_RANKS``, else "auto": the ranks that a launcher has started, if it has
        started more than one. "mpi" is for launchers that are not recognized: it uses the processes that MPI sees. A
        communicator of mpi4py has the ranks of one training, if a job has several trainings.

    Raises
    ------
    ShapeError
        If the setting is none of these.
    WorkerError
        If a launcher has started several processes which MPI cannot connect.
    """
    if isinstance(given, Ranks):
        return given
    if given is not None and not isinstance(given, str):
        return job.ranks_of(given)
    kind = os.environ.get(VARIABLE) or "auto" if given is None else given
    if kind not in KINDS:
        what, more = (f"the environment variable {VARIABLE}", "") if given is None else ("ranks", " or a communicator")
        raise ShapeError(f"{what} must be one of {', '.join(KINDS)}{more}, got {kind!r}")
    if kind == "auto" and (launched() == 1 or job.is_forked()):
        job.warn_of_separate_tasks()
        return None
    if kind == "none":
        job.independent = True
        return None
    return job.world()


def world() -> Ranks | None:
    """Return the ranks of the whole job, as ``IM2COLNET_RANKS`` says; None for a process on its own."""
    return resolve()


def failed(error: BaseException | None = None) -> None:
    """Note that this rank has failed and that the others do not know it: the end of Python aborts the job."""
    job.fail(error)


def library() -> str:
    """Return the name and version of the MPI library that is in use."""
    return _version(_mpi4py())


def timeout() -> float:
    """Return how many seconds a rank waits for the others; 0 means forever."""
    text = os.environ.get(TIMEOUT) or str(SECONDS)
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds < float("inf"):
        raise ShapeError(
            f"the environment variable {TIMEOUT} must be a number of seconds, or 0 for no limit, got {text!r}"
        )
    return seconds


def rdma(environment: Mapping[str, str], found: Sequence[str]) -> str:
    """Say by which transport with RDMA ranks may send, given the adapters that were found; empty if by none.

    Memory that a network adapter writes to is not there in a forked process, or the fork is refused.
    """
    chosen = False
    for name in TRANSPORTS:
        text = environment.get(name, "")
        words = [word for word in re.split(r"[,;:+]", text.lower()) if word]
        if any(re.fullmatch(RDMA, word) for word in words):
            return f"{name}={text}"
        chosen |= bool(words) and "all" not in words and not text.startswith("^")
    return "" if chosen or not found else f"the network adapter {found[0]}"


def adapters() -> list[str]:
    """Return the names of the network adapters with RDMA."""
    return [name for folder in ADAPTERS if os.path.isdir(folder) for name in sorted(os.listdir(folder))]


# ---------------------------------------------------------------------- the start of MPI


def _mpi4py() -> Any:
    """Return mpi4py's MPI, initialized."""
    started = f"the launcher has started {launched()} processes, but" if launched() > 1 else "MPI was asked for, but"
    try:
        import mpi4py

        first = mpi4py.rc.initialize and "mpi4py.MPI" not in sys.modules
        if first:  # MPI would end a process that another MPI's launcher has started, and name no reason that helps
            mpi4py.rc.initialize, mpi4py.rc.finalize = False, True
        from mpi4py import MPI
    except ModuleNotFoundError as error:
        if error.name != "mpi4py":
            raise
        raise WorkerError(f"{started} mpi4py is not installed: {install('mpi')}; {ALONE}") from None
    except (ImportError, RuntimeError) as error:  # the latter if there is no library of MPI
        raise WorkerError(
            f"{started} mpi4py finds no library of MPI that it can use ({' '.join(str(error).split())}): load the"
            f" module of the machine's MPI, or pip install mpich; mpiexec must belong to it; {ALONE}"
        ) from None
    if first:
        if _foreign(MPI.Get_library_version()):
            raise _other_mpi(MPI)
        start_mpi_when_all_ranks_do(MPI)
    if not MPI.Is_initialized() or MPI.Is_finalized():
        state = "has been finalized" if MPI.Is_initialized() else "is not initialized (mpi4py.rc.initialize is False)"
        raise WorkerError(f"MPI {state}: ranks can meet between MPI.Init() and MPI.Finalize() only; {ALONE}")
    return MPI


def start_mpi_when_all_ranks_do(mpi: Any) -> None:
    """Initialize MPI. If a rank never comes here, the process ends after the limit, and shows this function's name.

    No thread of Python could end it: they all stand still until MPI has begun.
    """
    import faulthandler

    limit, shown = timeout(), sys.__stderr__
    if limit and shown is not None:
        faulthandler.dump_traceback_later(limit, exit=True, file=shown)
    try:
        mpi.Init_thread()
    finally:
        faulthandler.cancel_dump_traceback_later()


def _version(mpi: Any) -> str:
    first = mpi.Get_library_version().splitlines()[0].partition(", package")[0]
    return " ".join(first.replace("Version:", "").replace("\0", "").split())


def _foreign(version: str) -> bool:
    """Return whether Open MPI's launcher has started this process, whose MPI is of MPICH's family."""
    of_mpich = re.match("MPICH|MVAPICH|Intel", version) is not None and "pmix" not in version.lower()
    return of_mpich and "OMPI_COMM_WORLD_SIZE" in os.environ and "PMI_SIZE" not in os.environ


def _other_mpi(mpi: Any) -> WorkerError:
    return WorkerError(
        f"the launcher has started {launched()} processes, but mpi4py uses another MPI than the launcher's"
        f" ({_version(mpi)}), which cannot connect them. Start with the mpiexec that belongs to it, or install mpi4py"
        f" for the launcher's MPI; {ALONE}"
    )


# ---------------------------------------------------------------------- what the ranks of a machine know of each other


class Board:
    """What the ranks of one machine are doing, in memory that they share: each rank's watchdog writes a row.

    Parameters
    ----------
    rows : memoryview
        Three float64 for each of these ranks: when its watchdog was last there; since when the rank waits, 0 if it does
        not; its process. Times are seconds of the machine's monotonic clock.
    ranks : list of int
        The numbers of these ranks.
    mine : int
        The place of this rank among them.
    """

    def __init__(self, rows: memoryview[float], ranks: list[int], mine: int) -> None:
        self.rows, self.ranks, self.mine = rows, ranks, mine
        self.write(None)

    def write(self, waiting: tuple[str, float] | None) -> None:
        """Tell the other ranks of the machine whether this one waits."""
        first = 3 * self.mine
        self.rows[first + 1], self.rows[first + 2] = waiting[1] if waiting else 0.0, float(os.getpid())
        self.rows[first] = time.monotonic()

    def describe(self, silence: float) -> str:
        """Return which ranks of the machine keep others waiting, and why; a silent rank has not written for long."""
        texts, now = [], time.monotonic()
        for place, rank in enumerate(self.ranks):
            seen, since, process = self.rows[3 * place : 3 * place + 3]
            if now - seen > silence:
                texts.append(f"rank {rank} (process {process:.0f}) does not run; it may be stopped")
            elif not since:
                texts.append(f"rank {rank} (process {process:.0f}) is busy with something else")
        return "; ".join(texts) or "all wait"


def _shared(here: Any, count: int) -> memoryview[float]:
    """Return ``count`` float64 that the ranks of one machine share; each has its own if they cannot share a file."""
    import mmap
    import tempfile

    file: Any = None
    with suppress(OSError):
        if not here.Get_rank():
            made = tempfile.NamedTemporaryFile(prefix="im2colnet-ranks-")  # noqa: SIM115 - the others open it first
            made.write(bytes(8 * count))
            made.flush()  # raises on a disk that is full, where a use of the memory would end the process
            file = made
    path = here.bcast(file and file.name)
    with suppress(OSError, TypeError):
        file = file or open(path, "r+b")  # noqa: SIM115
    everybody = all(here.allgather(file is not None))
    memory = mmap.mmap(file.fileno() if everybody else -1, 8 * count)
    if file is not None:
        file.close()
    return memoryview(memory).cast("d")


# ---------------------------------------------------------------------- the job


class Job:
    """The part of this process in an MPI job: its ranks, and the guard that keeps them from waiting forever.

    Attributes
    ----------
    ranks : list of Ranks
        The ranks of the whole job and of other communicators, in the order in which they were made.
    independent : bool
        Whether a training has asked for no ranks: then a failure before the ranks connect does not affect other ranks.
    """

    independent = False

    def __init__(self) -> None:
        self.ranks: list[Ranks] = []
        self._boards: list[Board] = []
        self._world: Ranks | None = None
        self._keyval: int | None = None  # what communicators keep their ranks by
        self._begins: tuple[str, float] | None = None  # since when this rank waits for the others to begin
        self._code: int | None = None  # the exit code of the job, if this rank has failed
        self._process = 0  # the process that is guarded: a fork of it is not
        self._ending = self._warned = False
        self._watchdog: threading.Thread | None = None

    def world(self) -> Ranks:
        """Return the ranks of the whole job."""
        if self._world is None:
            with self._beginning():
                mpi = _mpi4py()
                if mpi.COMM_WORLD.Get_size() == 1 < launched():
                    raise _other_mpi(mpi)
                if mpi.COMM_WORLD.Get_size() == 1:
                    warnings.warn(
                        f"MPI was asked for, but it sees one process ({library()}), so there is one rank: start several"
                        " ranks with, for example, mpiexec -n 4 python train.py",
                        TrainingWarning,
                        stacklevel=4,
                    )
                self._world = self._guarded(mpi.COMM_WORLD)
        return self._world

    def ranks_of(self, comm: Any) -> Ranks:
        """Return the ranks of a communicator: the same ones each time."""
        mpi = sys.modules.get("mpi4py.MPI")
        if mpi is None or not isinstance(comm, mpi.Comm):
            if not hasattr(comm, "Allgather"):
                raise ShapeError(f"ranks must be one of {', '.join(KINDS)} or a communicator of mpi4py, got {comm!r}")
            return Ranks(comm)
        if not isinstance(comm, mpi.Intracomm) or comm == mpi.COMM_NULL:
            raise ShapeError(f"ranks must be an intracommunicator that this process belongs to, got {comm!r}")
        if comm == mpi.COMM_WORLD:
            return self.world()
        if self._keyval is None:
            self._keyval = mpi.Comm.Create_keyval()
        ranks: Ranks | None = comm.Get_attr(self._keyval)
        if ranks is None:
            with self._beginning():
                ranks = self._guarded(comm)
            comm.Set_attr(self._keyval, ranks)
        return ranks

    def _guarded(self, comm: Any) -> Ranks:
        """Return the ranks of a communicator, on a copy of it whose messages meet no others."""
        mpi = _mpi4py()
        ranks = Ranks(comm.Dup())
        here = ranks.comm.Split_type(mpi.COMM_TYPE_SHARED)
        ranks.node_rank, ranks.node_size = here.Get_rank(), here.Get_size()
        rows = _shared(here, 3 * ranks.node_size)
        self._boards.append(Board(rows, here.allgather(ranks.rank), ranks.node_rank))
        if ranks.size == mpi.COMM_WORLD.Get_size() and hasattr(os, "sched_getaffinity"):
            cores = here.allgather(os.sched_getaffinity(0))  # all the same, unless the launcher has bound the ranks
            set_own_cores(max(1, len(set().union(*cores)) // ranks.node_size))
        if way := rdma(os.environ, adapters()):
            forbid_forks(f"ranks may send by RDMA ({way}), which does not work with forked processes")
        self.ranks.append(ranks)
        return ranks

    def is_forked(self) -> bool:
        """Return whether this process is a fork of a rank."""
        return self._process not in (0, os.getpid())

    def warn_of_separate_tasks(self) -> None:
        """Warn once where srun has started several processes that MPI does not connect."""
        if slurm_tasks() > 1 and not self._warned:
            self._warned = True
            warnings.warn(
                f"srun has started {slurm_tasks()} tasks without MPI, so each trains on its own: srun --mpi=pmix or"
                " --mpi=pmi2 makes them one training (srun --mpi=list lists the available types). If you want separate"
                f" trainings, set {VARIABLE}=none",
                TrainingWarning,
                stacklevel=4,
            )

    # ------------------------------------------------------------------ the guard

    def guard(self) -> None:
        """Let the job end if this process fails from now on."""
        if not self._process:
            self._process = os.getpid()
            mark()
            self._show_before, sys.excepthook = sys.excepthook, self.show
            atexit.register(self.end)  # MPI is finalized after Python's functions for the end have run

    @contextmanager
    def _beginning(self) -> Iterator[None]:
        """Within the block this rank waits for the others to begin."""
        limit = timeout()
        self.guard()
        if limit and self._watchdog is None:
            self._watchdog = threading.Thread(target=self._watch, args=(limit,), name="im2colnet watchdog", daemon=True)
            self._watchdog.start()
        self._begins = "at their start", time.monotonic()
        try:
            yield
        finally:
            self._begins = None

    def fail(self, error: BaseException | None) -> None:
        """Note that this rank has failed, and that the others do not know."""
        if self._process == os.getpid() and (self.ranks or not self.independent):
            self._code = 130 if isinstance(error, KeyboardInterrupt) else 1

    def show(self, kind: Any, error: Any, trace: Any) -> None:
        """Show an uncaught error, on one rank only if all ranks know it; otherwise the error ends the job."""
        known, first = agreed(error), not any(ranks.rank for ranks in self.ranks)
        if self.is_forked() or first or not (known or isinstance(error, KeyboardInterrupt)):
            self._show_before(kind, error, trace)
        if not known and os.getpid() == self._process:
            self.fail(error)
            if self.ranks and self.ranks[0].size > 1:
                how = "was interrupted" if isinstance(error, KeyboardInterrupt) else "has failed"
                print(f"im2colnet: {_name(self.ranks[0])} {how}: the job is aborted", file=sys.stderr, flush=True)

    def end(self) -> None:
        """Meet the other ranks for the last time, or end the job if they do not know what happened here."""
        if os.getpid() != self._process:
            return
        self._ending = True  # the others may go on for as long as they like with what this rank has no part in
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):  # MPI's functions do not let Python's handlers run
                signal.signal(number, signal.SIG_DFL)
        for ranks in self.ranks:
            if self._code is None and not ranks.ended and not sys.modules["mpi4py.MPI"].Is_finalized():
                ranks.meet(END)
        if self._code is not None:
            _abort(self._code)

    def _watch(self, limit: float) -> None:
        """Abort the job when this rank has waited too long. This is the main function of a thread."""
        while not self._ending:
            time.sleep(min(1.0, limit / 4))
            if _longer(self._begins, limit):
                _give_up(f"a rank (on {platform.node()}) has waited {limit:g} s for the other ranks to begin")
            for ranks, board in zip(list(self.ranks), self._boards, strict=False):
                waiting = ranks.waiting
                board.write(waiting)
                if waiting and _longer(waiting, limit) and not self._ending:
                    _give_up(
                        f"{_name(ranks)} has waited {limit:g} s for the other ranks: {waiting[0]}. Of the ranks of this"
                        f" machine, {board.describe(min(SILENCE, limit / 2))}"
                    )


def _longer(waiting: tuple[str, float] | None, limit: float) -> bool:
    return waiting is not None and time.monotonic() - waiting[1] > limit


def _name(ranks: Ranks) -> str:
    return f"rank {ranks.rank} of {ranks.size} (on {platform.node()})"


def _give_up(why: str) -> None:
    end = f"The job is aborted ({TIMEOUT} sets the limit in seconds, 0 for none)"
    print(f"im2colnet: {why}. {end}", file=sys.__stderr__ or sys.stderr, flush=True)  # even where a rank is to be quiet
    _abort(1)


def _abort(code: int) -> None:
    for stream in (sys.stdout, sys.stderr):
        with suppress(Exception):  # a pipe that nobody reads any more
            stream.flush()
    time.sleep(PAUSE)
    mpi = sys.modules.get("mpi4py.MPI")
    if mpi is not None and mpi.Is_initialized() and not mpi.Is_finalized():
        without_mpi = threading.Timer(GRACE, os._exit, (code,))
        without_mpi.daemon = True
        without_mpi.start()
        mpi.COMM_WORLD.Abort(code)
        without_mpi.cancel()
    elif launched() > 1:  # the others may wait for this rank to begin: a launcher does not overlook a signal
        os.kill(os.getpid(), signal.SIGTERM)


job = Job()
if launched() > 1 and os.environ.get(VARIABLE) != "none":
    job.guard()  # a rank that fails before it has met the others would let them wait too
