"""Jobs of MPI: a program on several ranks, started by the mpiexec of this environment.

Every job has a time limit, and nothing of it survives its end: all its processes carry a mark in their environment.
"""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from contextlib import suppress
from functools import cache
from pathlib import Path

import pytest
from starting import ROOT

REQUIRE = "IM2COLNET_REQUIRE_MPI"
MARK = "TEST_OF_RANKS"  # a variable whose value tells the processes of one job from those of others
RANK = "${PMI_RANK:-${OMPI_COMM_WORLD_RANK:-0}}"
#: what starts a rank: its output goes to files of its own, and its process id to a third
WRAPPER = f'rank={RANK}; echo $$ >"$0/pid.$rank"; exec "$@" >"$0/out.$rank" 2>"$0/err.$rank"'
#: messages over the network's loop instead of shared memory
TCP = {
    "mpich": {"MPIR_CVAR_NOLOCAL": "1", "FI_PROVIDER": "tcp"},
    "openmpi": {"OMPI_MCA_pml": "ob1", "OMPI_MCA_btl": "tcp,self"},
}
LIMIT = 60  # seconds that a job may take
GRACE = 2  # seconds that its processes may take to end after mpiexec has


@cache
def launcher():
    """The path of mpiexec and the name of its MPI; without them and mpi4py the test is skipped.

    mpiexec is that of this Python's environment, if it has one: it is that which mpi4py finds.
    """
    __tracebackhide__ = True
    beside = Path(sys.executable).with_name("mpiexec")
    path = str(beside) if beside.exists() else shutil.which("mpiexec")
    missing = None
    if sys.platform != "linux":
        missing = "the processes of a job are looked for in /proc"
    elif not path:
        missing = "there is no mpiexec: python -m pip install -e '.[mpi]' mpich"
    elif subprocess.run([sys.executable, "-c", "from mpi4py import MPI"], capture_output=True, check=False).returncode:
        missing = "mpi4py, or its MPI, is missing: python -m pip install -e '.[mpi]' mpich"
    if missing and os.environ.get(REQUIRE):
        pytest.fail(missing)
    if missing:
        pytest.skip(missing)
    version = subprocess.run([path, "--version"], capture_output=True, text=True, check=True).stdout
    return path, "mpich" if "HYDRA" in version else "openmpi"


def marked(mark):
    """The ids of the processes that carry a mark and have not ended."""
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            with suppress(OSError):  # it has ended, or is another user's
                if f"{MARK}={mark}\0".encode() in (folder / "environ").read_bytes():
                    found.append(int(folder.name))
    return found


class Job:
    """A program on ranks, from its start to its end; ``with`` ends what is left of it.

    Parameters
    ----------
    size : int
        The number of ranks.
    *arguments : str or Path
        Of Python: the path of a program and its arguments. By default a ``script`` or the command ``im2colnet``.
    script : str, optional
        The text of a program.
    variables : dict of str to str, optional
        Of the environment. Those of im2colnet that are set outside are not handed on.
    by_rank : callable, optional
        What returns more of them for a rank.
    network : bool
        Whether messages go over the network's loop, not through shared memory.
    folder : Path, optional
        Where it runs.

    Attributes
    ----------
    code : int
        The status that mpiexec ended with.
    out, err : list of str
        What each rank has written.
    told : str
        What mpiexec itself has written.
    seconds : float
        How long the job took.
    """

    def __init__(
        self,
        size,
        *arguments,
        script=None,
        command=False,
        variables=None,
        by_rank=None,
        network=False,
        folder=None,
    ):
        path, mpi = launcher()
        self.size, self.mark, self.mpi = size, uuid.uuid4().hex, mpi
        self._files = tempfile.TemporaryDirectory(prefix="ranks-")
        self.files = Path(self._files.name)
        self.folder = folder
        program = ["-m", "im2colnet"] if command else ["-c", script] if script else []
        environment = {k: v for k, v in os.environ.items() if not k.startswith("IM2COLNET_")}
        environment |= {
            "PYTHONPATH": os.pathsep.join(map(str, (ROOT, ROOT / "backends", ROOT / "tests"))),
            MARK: self.mark,
            "OMPI_ALLOW_RUN_AS_ROOT": "1",
            "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
            **(TCP[mpi] if network else {}),
            **(variables or {}),
        }
        rank = ["/bin/sh", "-c", WRAPPER, str(self.files), sys.executable, *program, *map(str, arguments)]
        if by_rank is None:
            ranks = ["-n", str(size), *rank]
        else:
            ranks = []
            for q in range(size):
                more = [f"{name}={value}" for name, value in by_rank(q).items()]
                ranks += [*([":"] if q else []), "-n", "1", "/usr/bin/env", *more, *rank]
        oversubscribe = ["--oversubscribe"] if mpi == "openmpi" else []
        self.began = time.monotonic()
        self._told = (self.files / "told").open("w+")
        self.process = subprocess.Popen(
            [path, *oversubscribe, *ranks],
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=self._told,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for _ in range(100):
            left = marked(self.mark)
            if not left:
                break
            for pid in left:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            self.process.poll()
            time.sleep(0.02)
        self.process.wait()
        self._told.close()
        self._files.cleanup()

    def pid(self, rank):
        """The id of a rank's process, once it has started."""
        self.wait_for(self.files / f"pid.{rank}")
        return int((self.files / f"pid.{rank}").read_text())

    def pids(self, rank):
        """The id of a rank's process and those of the workers that it has forked."""
        first = self.pid(rank)
        children = {int(pid) for pid in Path(f"/proc/{first}/task/{first}/children").read_text().split()}
        return [first, *sorted(children)]

    def wait_for(self, path, limit=LIMIT):
        """Wait until a file has been written, at least in part."""
        while not (path.exists() and path.stat().st_size):
            assert self.process.poll() is None, f"the job ended before there was {path.name}:\n{self.report()}"
            assert time.monotonic() - self.began < limit, f"no {path.name} within {limit} s:\n{self.report()}"
            time.sleep(0.01)

    def read(self, kind):
        """What each rank has written so far, "out" or "err"."""
        paths = [self.files / f"{kind}.{rank}" for rank in range(self.size)]
        return [path.read_text() if path.exists() else "" for path in paths]

    def report(self):
        """All that has been written, for the message of a failed test."""
        self.out, self.err = self.read("out"), self.read("err")
        self.told = (self.files / "told").read_text()
        texts = {f"rank {q} {kind}": text for kind in ("out", "err") for q, text in enumerate(getattr(self, kind))}
        return "\n".join(f"--- {name}\n{text}" for name, text in ({"mpiexec": self.told} | texts).items() if text)

    def finish(self, code=None, limit=LIMIT):
        """Wait for the end of the job; check that nothing is left of it, and its status if ``code`` is given.

        ``code`` may be a test of the status.
        """
        try:
            self.code = self.process.wait(limit)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"the job hangs: it has not ended after {limit} s\n{self.report()}") from None
        self.seconds = time.monotonic() - self.began
        until = time.monotonic() + GRACE
        while (left := marked(self.mark)) and time.monotonic() < until:
            time.sleep(0.02)
        report = self.report()
        assert not left, f"{len(left)} processes have outlived the job\n{report}"
        right = code is None or (code(self.code) if callable(code) else self.code == code)
        assert right, f"the job ended with status {self.code}\n{report}"
        return self


def run(size, *arguments, code=0, limit=LIMIT, **options):
    """Run a job to its end, and check its status; see `Job`."""
    with Job(size, *arguments, **options) as job:
        return job.finish(code, limit)
