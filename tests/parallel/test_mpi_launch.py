"""How ranks of MPI are found, or not, and what is said then; without MPI, whose place a module of this file takes."""

import atexit
import os
import signal
import sys
import time
import types
import warnings

import pytest

import im2colnet as ic
from im2colnet import launcher, settings
from im2colnet.parallel import mpi, processes
from im2colnet.parallel.ranks import END, Ranks


class Communicator:
    """Of ``size`` ranks that all do as this one does."""

    def __init__(self, size=1, rank=0):
        self.size, self.rank, self.attributes = size, rank, {}

    def Get_size(self):
        return self.size

    def Get_rank(self):
        return self.rank

    def Dup(self):
        return Communicator(self.size, self.rank)

    def Split_type(self, kind):
        return Communicator(self.size, self.rank)

    def allgather(self, value):
        return [value] * self.size

    def bcast(self, value, root=0):
        return value

    def Allgather(self, given, got):
        got[...] = given

    def Get_attr(self, key):
        return self.attributes.get(key)

    def Set_attr(self, key, value):
        self.attributes[key] = value

    @staticmethod
    def Create_keyval():
        return 7

    aborted = None

    def Abort(self, code):
        Communicator.aborted = code


def fake(size=1, version="MPICH Version:      4.2.1\nMPICH Release date: ...", started=False):
    """A module like mpi4py.MPI for a job with ``size`` ranks."""
    module = types.ModuleType("mpi4py.MPI")
    state = {"started": started}
    module.COMM_WORLD, module.COMM_NULL, module.COMM_TYPE_SHARED = Communicator(size), object(), 1
    module.Comm = module.Intracomm = Communicator
    module.Get_library_version = lambda: version
    module.Init_thread = lambda: state.update(started=True)
    module.Is_initialized = lambda: state["started"]
    module.Is_finalized = lambda: False
    return module


@pytest.fixture
def launched(monkeypatch):
    """What makes this a process that has met no ranks: with what the launcher says, an MPI, and other variables."""
    monkeypatch.setattr(mpi, "job", job := mpi.Job())
    monkeypatch.setattr(mpi, "adapters", list)
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    monkeypatch.setattr(Communicator, "aborted", None)
    before = ic.get_workers()
    for name in (mpi.VARIABLE, "PMI_FD", *launcher.SIZES, *launcher.SLURM_MPI, "SLURM_STEP_NUM_TASKS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv(mpi.TIMEOUT, "0")  # no thread

    def prepare(size=1, module=None, **variables):
        for name, value in {"MV2_COMM_WORLD_SIZE": str(size), **variables}.items():
            monkeypatch.setenv(name, value)
        launcher.launched.cache_clear()
        package = types.ModuleType("mpi4py")
        package.rc = types.SimpleNamespace(initialize=True, finalize=None)
        package.__path__ = []
        monkeypatch.setitem(sys.modules, "mpi4py", package)
        monkeypatch.delitem(sys.modules, "mpi4py.MPI", raising=False)
        if module is not None:
            package.MPI = module
            if module.Is_initialized():
                monkeypatch.setitem(sys.modules, "mpi4py.MPI", module)
            initialize = module.Init_thread

            def start():
                initialize()
                monkeypatch.setitem(sys.modules, "mpi4py.MPI", module)  # as its import does

            module.Init_thread = start
        return job

    yield prepare
    atexit.unregister(job.end)
    for number, handler in handlers.items():
        signal.signal(number, handler)
    monkeypatch.undo()
    launcher.launched.cache_clear()
    settings.set_own_cores(None)
    settings.forbid_forks("")
    ic.set_workers(before)


def test_one_process_imports_nothing_and_has_no_ranks(launched, monkeypatch):
    launched()
    monkeypatch.setitem(sys.modules, "mpi4py", None)
    assert mpi.world() is None
    assert mpi.resolve("auto") is None
    assert mpi.resolve("none") is None


@pytest.mark.parametrize("given", ["none", None])
def test_none_makes_each_process_train_on_its_own(launched, given):
    launched(4, fake(4), IM2COLNET_RANKS="none")
    assert mpi.resolve(given) is None
    assert mpi.job.ranks == []


@pytest.mark.parametrize("given", [None, "auto", "mpi"])
def test_ranks_of_a_launcher(launched, given):
    made = launched(4, fake(4))
    ranks = mpi.resolve(given)
    assert (ranks.rank, ranks.size, ranks.node_rank, ranks.node_size) == (0, 4, 0, 4)
    assert mpi.resolve(given) is ranks is mpi.world()
    assert mpi.resolve(ranks) is ranks
    assert made.ranks == [ranks]
    # a test before may have set a number, which stays
    assert ic.get_num_threads() == (settings.chosen_num_threads() or max(1, len(os.sched_getaffinity(0)) // 4))


def test_mpi_is_for_launchers_that_are_not_known(launched):
    launched(1, fake(3))
    assert mpi.resolve() is None
    assert mpi.resolve("mpi").size == 3


def test_mpi_that_sees_one_process_says_so(launched):
    launched(1, fake(1), IM2COLNET_RANKS="mpi")
    with pytest.warns(ic.TrainingWarning, match=r"sees one process \(MPICH 4\.2\.1\).*mpiexec -n 4"):
        assert mpi.world().size == 1


@pytest.mark.parametrize("bad", ["MPI", "2", "yes"])
def test_a_bad_setting_names_where_it_comes_from(launched, bad):
    launched(IM2COLNET_RANKS=bad)
    with pytest.raises(ic.ShapeError, match=f"variable IM2COLNET_RANKS must be one of auto, mpi, none, got {bad!r}"):
        mpi.world()
    with pytest.raises(ic.ShapeError, match=f"^ranks must be one of auto, mpi, none or a communicator, got {bad!r}"):
        mpi.resolve(bad)


@pytest.mark.parametrize("bad", [3, [], object()])
def test_what_is_no_communicator_is_refused(launched, bad):
    launched(1, fake(1))
    with pytest.raises(ic.ShapeError, match="communicator of mpi4py"):
        mpi.resolve(bad)


def test_an_empty_setting_is_no_setting(launched):
    launched(IM2COLNET_RANKS="")
    assert mpi.world() is None


def test_no_mpi4py(launched, monkeypatch):
    launched(4)
    monkeypatch.setitem(sys.modules, "mpi4py", None)
    with pytest.raises(
        ic.WorkerError, match=r"has started 4 processes, but mpi4py is not installed: pip install mpi4py.*RANKS=none"
    ):
        mpi.world()


def test_mpi4py_without_a_library_of_mpi(launched):
    """It raises a RuntimeError then, not an ImportError."""
    launched(4)

    class Broken:
        def find_spec(self, name, *others):
            if name == "mpi4py.MPI":
                raise RuntimeError("cannot load MPI library")

    sys.meta_path.insert(0, finder := Broken())
    try:
        with pytest.raises(
            ic.WorkerError, match=r"finds no library of MPI.*cannot load MPI library.*pip install mpich"
        ):
            mpi.world()
    finally:
        sys.meta_path.remove(finder)


@pytest.mark.parametrize(
    ("module", "variables", "name"),
    [
        (fake(1), {}, "MPICH 4.2.1"),
        (fake(1, "Open MPI v5.0.11, package: Open MPI user@host"), {}, "Open MPI v5.0.11"),
        (fake(4), {"OMPI_COMM_WORLD_SIZE": "4"}, "MPICH 4.2.1"),
    ],
    ids=["MPICH sees one", "Open MPI sees one", "MPICH would abort"],
)
def test_the_launcher_of_another_mpi(launched, module, variables, name):
    """There are never several copies of a training that nobody asked for."""
    launched(4, module, **variables)
    with pytest.raises(ic.WorkerError, match=rf"started 4 processes, but.*another MPI than the launcher's \({name}\)"):
        mpi.world()
    assert module.Is_initialized() == (not variables)


def test_tasks_of_srun_without_mpi_are_warned_of_once(launched):
    launched(SLURM_STEP_NUM_TASKS="8")
    with pytest.warns(ic.TrainingWarning, match="started 8 tasks without MPI.*--mpi=pmix"):
        assert mpi.world() is None
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert mpi.world() is None


def test_tasks_of_srun_that_are_meant_to_be_separate(launched):
    launched(SLURM_STEP_NUM_TASKS="8", IM2COLNET_RANKS="none")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert mpi.world() is None


def test_a_communicator_has_the_same_ranks_each_time(launched):
    made = launched(4, module := fake(4, started=True))
    half = Communicator(2, 1)
    ranks = mpi.resolve(half)
    assert ranks.comm is not half  # a copy, whose messages meet no others
    assert (ranks.rank, ranks.size) == (1, 2)
    assert mpi.resolve(half) is ranks
    assert mpi.resolve(module.COMM_WORLD) is mpi.world() is not ranks
    assert made.ranks == [ranks, mpi.world()]


def test_something_with_the_methods_of_a_communicator(launched):
    launched(1)
    ranks = mpi.resolve(Communicator(3, 2))
    assert isinstance(ranks, Ranks)
    assert (ranks.rank, ranks.size) == (2, 3)
    assert mpi.job.ranks == []


@pytest.mark.parametrize("initialized", [False, True])
def test_mpi_that_has_not_begun_or_has_ended(launched, initialized):
    launched(4, module := fake(4, started=initialized))
    sys.modules["mpi4py"].rc.initialize = False
    module.Is_finalized = lambda: True
    with pytest.raises(ic.WorkerError, match="has been finalized" if initialized else "is not initialized"):
        mpi.world()


@pytest.mark.parametrize(("text", "seconds"), [("", 600), ("30", 30), ("0", 0), ("2.5", 2.5)])
def test_how_long_a_rank_waits(launched, text, seconds):
    launched(IM2COLNET_RANK_TIMEOUT=text)
    assert mpi.timeout() == seconds


@pytest.mark.parametrize("text", ["-1", "soon", "nan", "inf"])
def test_a_bad_time_limit_names_the_variable(launched, text):
    launched(2, fake(2), IM2COLNET_RANK_TIMEOUT=text)
    with pytest.raises(ic.ShapeError, match=f"variable IM2COLNET_RANK_TIMEOUT must be a number of seconds.*{text}"):
        mpi.world()


RDMA = [
    ({}, [], ""),
    ({}, ["mlx5_0", "mlx5_1"], "the network adapter mlx5_0"),
    ({"FI_PROVIDER": "tcp;ofi_rxm"}, ["mlx5_0"], ""),
    ({"UCX_TLS": "tcp,self,sm"}, ["mlx5_0"], ""),
    ({"OMPI_MCA_btl": "tcp,self"}, ["mlx5_0"], ""),
    ({"FI_PROVIDER": "udp"}, ["mlx5_0"], ""),
    ({"UCX_TLS": "all"}, ["mlx5_0"], "the network adapter mlx5_0"),
    ({"OMPI_MCA_btl": "^openib"}, ["mlx5_0"], "the network adapter mlx5_0"),
    ({"FI_PROVIDER": "efa"}, [], "FI_PROVIDER=efa"),
    ({"UCX_TLS": "rc_x,self"}, [], "UCX_TLS=rc_x,self"),
    ({"FI_PROVIDER": "verbs;ofi_rxm"}, [], "FI_PROVIDER=verbs;ofi_rxm"),
]


@pytest.mark.parametrize(("environment", "adapters", "way"), RDMA)
def test_which_transports_use_rdma(environment, adapters, way):
    assert mpi.rdma(environment, adapters) == way


def test_ranks_that_may_use_rdma_do_not_fork(launched, monkeypatch):
    launched(2, fake(2))
    monkeypatch.setattr(mpi, "adapters", lambda: ["mlx5_0"])
    monkeypatch.setattr(processes, "available", lambda: True)
    ic.set_workers("processes")
    assert processes.wanted()
    ic.set_workers("auto")
    mpi.world()
    assert not processes.wanted()
    assert "mlx5_0" in settings.forks_forbidden()
    ic.set_workers("processes")  # insists
    assert processes.wanted()


# ---------------------------------------------------------------------- the guard


def failing(error, hook):
    """Show an error as Python does if nobody catches it."""
    try:
        raise error
    except type(error) as raised:
        hook(type(raised), raised, raised.__traceback__)


def test_an_error_that_others_do_not_know_aborts_the_job_at_the_end(launched, monkeypatch, capsys):
    made = launched(2, fake(2))
    monkeypatch.setattr(Ranks, "meet", unexpected)
    mpi.world()
    failing(ValueError("mine"), sys.excepthook)
    told = capsys.readouterr().err
    assert "ValueError: mine" in told
    assert "rank 0 of 2" in told
    assert Communicator.aborted is None  # before Python's functions for the end have run
    made.end()
    assert Communicator.aborted == 1


def unexpected(*args):
    raise AssertionError("nobody is there to meet")


def test_ctrl_c_that_nobody_catches_has_its_own_status(launched, monkeypatch, capsys):
    made = launched(2, fake(2))
    mpi.world()
    failing(KeyboardInterrupt(), sys.excepthook)
    made.end()
    assert Communicator.aborted == 130
    assert "was interrupted" in capsys.readouterr().err


@pytest.mark.parametrize("rank", [0, 1])
def test_an_error_that_all_know_is_shown_once_and_aborts_nothing(launched, monkeypatch, capsys, rank):
    made, met = launched(2, module := fake(2)), []
    module.COMM_WORLD.rank = rank
    mpi.world()
    monkeypatch.setattr(Ranks, "meet", lambda ranks, what, *numbers: met.append(what))
    error = ic.WorkerError("all know it")
    error.agreed = True
    failing(error, sys.excepthook)
    assert ("all know it" in capsys.readouterr().err) == (not rank)
    made.end()
    assert met == [END]
    assert Communicator.aborted is None


def test_a_rank_that_ends_meets_the_others_unless_one_has_ended_before(launched, monkeypatch):
    made, met = launched(2, fake(2)), []
    ranks = mpi.world()
    monkeypatch.setattr(Ranks, "meet", lambda ranks, what, *numbers: met.append(what))
    made.end()
    assert met == [END]
    ranks.ended = [1]
    made.end()
    assert met == [END]
    assert Communicator.aborted is None


def test_a_fork_of_a_rank_is_not_guarded(launched, monkeypatch, capsys):
    made = launched(2, fake(2))
    mpi.world()
    monkeypatch.setattr(os, "getpid", lambda: -1)
    monkeypatch.setattr(Ranks, "meet", unexpected)
    assert mpi.world() is None  # a fork must not use MPI
    failing(ValueError("of a child"), sys.excepthook)
    mpi.failed()
    made.end()
    assert Communicator.aborted is None
    told = capsys.readouterr().err
    assert "of a child" in told
    assert "aborted" not in told


def test_a_failure_without_ranks_is_no_concern(launched):
    made = launched()
    mpi.failed(ValueError())
    made.end()
    assert Communicator.aborted is None


def test_a_rank_that_has_waited_too_long_says_for_whom(launched, capfd):
    made = launched(3, fake(3), IM2COLNET_RANK_TIMEOUT="0.2")
    ranks = mpi.world()
    time.sleep(0.5)  # it does not wait
    assert Communicator.aborted is None
    ranks.waiting = "in training step 17, joining the sums of the batch", time.monotonic()
    until = time.monotonic() + 10
    while Communicator.aborted is None and time.monotonic() < until:
        time.sleep(0.01)
    ranks.waiting = None
    made.fail(None)  # so that its end meets nobody
    made.end()
    assert Communicator.aborted == 1
    told = capfd.readouterr().err
    assert "rank 0 of 3" in told
    assert "has waited 0.2 s for the other ranks: in training step 17, joining the sums of the batch" in told
    assert "IM2COLNET_RANK_TIMEOUT sets the limit" in told


def test_what_the_other_ranks_of_the_machine_do():
    rows = memoryview(bytearray(8 * 9)).cast("d")
    boards = [mpi.Board(rows, [4, 5, 9], place) for place in range(3)]
    for board in boards:
        board.write(None)
    boards[0].write(("a join", time.monotonic()))
    process = os.getpid()
    assert boards[0].describe(5.0) == (
        f"rank 5 (process {process}) is busy with something else;"
        f" rank 9 (process {process}) is busy with something else"
    )
    rows[3] -= 100  # the watchdog of rank 5 has not been seen since
    boards[2].write(("a join", time.monotonic()))
    assert boards[0].describe(5.0) == f"rank 5 (process {process}) does not run; it may be stopped"
    boards[1].write(("a join", time.monotonic()))
    assert boards[0].describe(5.0) == "all wait"
