"""Ranks of MPI on this machine beside what else shares a step among two cores: ``python -m benchmarks.ranks --help``.

``ratio_one``
    a training step on two ranks to that of one process on one core: 0.5 at best.
``ratio_workers``
    to that of the two processes that one trainer has by itself.
``ratio_ddp``
    to that of PyTorch's ``DistributedDataParallel`` on two processes (gloo), each with half the batch, in its better
    layout. Its processes normalise their half of the batch by itself; ours join the sums of batch norm.
``ratio_allreduce``
    the sum of an array of both ranks along the fixed tree to ``MPI_Allreduce``.

The sides run in processes of their own and measure turn by turn, when they are told to; those that wait, sleep.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

import im2colnet as ic
from benchmarks import scaling
from benchmarks.common import (
    CASES,
    REQUIRE,
    NotHere,
    Samples,
    import_torch,
    interleave,
    quick,
    required,
    spread,
    start_host_backend,
)
from benchmarks.peer import Peer, as_tensor
from benchmarks.versus import allowed_cores, keep_memory, same

SIZE = 2  # ranks, workers, and processes of PyTorch's
NETS = ["lenet5-b256", "resnet20-b64"]
STEPS = {"lenet5-b256": 10, "resnet20-b64": 2}  # of a sample: a tenth of a second and more
ROUNDS = 15
FOLDER, NUMBER = "SIDE_FOLDER", "SIDE_NUMBER"  # variables of a side's processes
PATIENCE = 240  # seconds until a side has taken its first steps, or a sample
SMALL, LARGE = 128, 11_173_962  # float64 of a batch norm with 64 channels, float32 of resnet18's gradients


# What must be there -------------------------------------------------------------------------------------------------
def launcher() -> list[str]:
    """Return the command that starts ranks.

    Raises
    ------
    NotHere
        If this commit of the library has no ranks, or mpi4py, mpiexec or a second core is missing.
    RuntimeError
        The same, if ``IM2COLNET_BENCH_REQUIRE`` has ``mpi``.
    """
    beside = Path(sys.executable).with_name("mpiexec")
    path = str(beside) if beside.exists() else shutil.which("mpiexec")
    missing = {
        "this commit of im2colnet has no ranks": not find_spec("im2colnet.parallel.ranks"),
        "mpi4py is not installed: python -m pip install mpi4py mpich": not find_spec("mpi4py"),
        "there is no mpiexec: python -m pip install mpi4py mpich": path is None,
        f"{SIZE} ranks are to be compared, but this process may use one core": len(allowed_cores()) < SIZE,
    }
    for reason, there in missing.items():
        if there:
            raise (RuntimeError if "mpi" in required() else NotHere)(reason)
    version = subprocess.run([str(path), "--version"], capture_output=True, text=True, check=True).stdout
    return [str(path), *([] if "HYDRA" in version else ["--oversubscribe"]), "-n", str(SIZE)]


# A side: processes that measure when they are told to ---------------------------------------------------------------
class Side:
    """A program on one or several processes, which take steps when the side is called.

    Parameters
    ----------
    program : str
        The name of a function of this module.
    net : str
    size : int
        How many processes connect to this one.
    before : sequence of str
        What starts them all, such as mpiexec; without it each is started alone.
    """

    def __init__(self, program: str, net: str = "", size: int = 1, before: Sequence[str] = ()) -> None:
        self._exit = ExitStack()
        folder = self._exit.enter_context(tempfile.TemporaryDirectory(prefix="side-"))
        self._program, self._log = program, self._exit.enter_context((Path(folder) / "log").open("w+"))
        door = self._exit.enter_context(socket.socket(socket.AF_UNIX))
        door.bind(f"{folder}/door")
        door.listen()
        door.settimeout(1)
        text = (
            f"import sys; sys.path[:] = {sys.path!r}; from benchmarks.ranks import serve; serve({program!r}, {net!r})"
        )
        # what is required is checked here; in quick rounds it would be imported by all
        kept = {name: value for name, value in os.environ.items() if name != REQUIRE}
        more = {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1", FOLDER: folder}
        self.processes = [
            subprocess.Popen(
                [*before, sys.executable, "-c", text],
                env=kept | more | {NUMBER: str(number)},
                stdin=subprocess.DEVNULL,
                stdout=self._log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            for number in range(1 if before else size)
        ]
        self._exit.callback(self._end)
        self._lines = []
        try:
            for _ in range(size):
                connection = self._exit.enter_context(self._accepted(door))
                connection.settimeout(PATIENCE)
                self._lines.append(self._exit.enter_context(connection.makefile("rw")))
            self.first = self._answers()
        except BaseException:
            self.close()
            raise

    def __call__(self) -> None:
        """Let all processes do their work once."""
        self.last = self.ask("go")

    def ask(self, what: str) -> list[Any]:
        """Return what each process answers."""
        try:
            for line in self._lines:
                line.write(what + "\n")
                line.flush()
        except OSError as error:  # the process has ended
            raise RuntimeError(self._failure()) from error
        return self._answers()

    def close(self) -> None:
        """End the processes."""
        with suppress(OSError):  # what could not be written to a process that has ended
            self._exit.close()

    def _accepted(self, door: socket.socket) -> socket.socket:
        until = time.monotonic() + PATIENCE
        while time.monotonic() < until:
            with suppress(TimeoutError):
                return door.accept()[0]
            if all(process.poll() is not None for process in self.processes):
                break
        raise RuntimeError(self._failure())

    def _answers(self) -> list[Any]:
        try:
            return [json.loads(line.readline()) for line in self._lines]
        except (ValueError, OSError) as error:  # nothing came in time, or the process has ended
            raise RuntimeError(self._failure()) from error

    def _failure(self) -> str:
        self._log.seek(0)
        return f"{self._program} failed:\n{self._log.read()[-4000:]}"

    def _end(self) -> None:
        for process in self.processes:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGTERM)
        for process in self.processes:
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait()


def serve(program: str, net: str) -> None:
    """Be a process of a side: do the work of ``program`` whenever a line says so, until there are no more lines."""
    keep_memory()
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(f"{os.environ[FOLDER]}/door")
        lines = connection.makefile("rw")
        first, call = globals()[program](net)
        answer: Any = first
        while True:
            lines.write(json.dumps(answer) + "\n")
            lines.flush()
            if not lines.readline():
                return
            answer = call()


Program = tuple[Any, Callable[[], Any]]  # the first answer, and what gives the others


def taken(step: Callable[[], float], net: str, first_steps: int) -> Program:
    """Take the first steps, and return their losses and what takes those of a sample."""
    losses = [step() for _ in range(first_steps)]
    number = 1 if quick() else STEPS[net]

    def call() -> None:
        for _ in range(number):
            step()

    return losses, call


def trained(net: str, threads: int, size: int = 1) -> Program:
    """Train with im2colnet, on so many ranks."""
    from benchmarks.common import FIRST_STEPS

    start_host_backend()
    ic.set_num_threads(threads)
    trainer, (images, labels) = CASES[net].trainer(), CASES[net].data()
    if (found := getattr(trainer, "rank_count", 1)) != size:
        raise RuntimeError(f"the trainer has {found} ranks, not {size}")
    return taken(lambda: float(trainer.step(images, labels)), net, FIRST_STEPS + 1)


def one(net: str) -> Program:
    """One process on one core."""
    return trained(net, 1)


def workers(net: str) -> Program:
    """Two processes on two cores, by itself."""
    return trained(net, SIZE)


def ranks(net: str) -> Program:
    """A rank, which is one process on one core."""
    return trained(net, 1, SIZE)


def ddp(net: str, layout: str) -> Program:
    """Train with one of two processes of PyTorch's."""
    torch, rank = import_torch(), int(os.environ[NUMBER])
    torch.set_num_threads(1)
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    store = f"file://{os.environ[FOLDER]}/store"
    torch.distributed.init_process_group("gloo", init_method=store, rank=rank, world_size=SIZE)
    case = CASES[net]
    images, labels = (part[rank::SIZE] for part in case.data())
    peer = Peer(case, layout, case.trainer().net.state_dict())
    peer.net = torch.nn.parallel.DistributedDataParallel(peer.net)
    inputs, targets = as_tensor(np.ascontiguousarray(images), layout), torch.from_numpy(np.ascontiguousarray(labels))
    return taken(lambda: peer.step(inputs, targets), net, 3)


def ddp_nchw(net: str) -> Program:
    """PyTorch with contiguous tensors."""
    return ddp(net, "NCHW")


def ddp_nhwc(net: str) -> Program:
    """PyTorch with ``channels_last``."""
    return ddp(net, "NHWC")


#: of each side its programs, of which the fastest counts
PROGRAMS = {"ranks": ("ranks",), "one": ("one",), "workers": ("workers",), "ddp": ("ddp_nchw", "ddp_nhwc")}
TITLES = {"ranks": "2 ranks", "one": "1 process", "workers": "2 built-in processes", "ddp": "DDP, 2 processes"}


def started(program: str, net: str) -> Side:
    """Start a side."""
    if program in ("ranks", "joins"):
        return Side(program, net, SIZE, launcher())
    if program.startswith("ddp"):
        import_torch()
        return Side(program, net, SIZE)
    return Side(program, net)


@cache
def steps(net: str, sides: tuple[str, ...]) -> Samples:
    """Time training steps of ranks and of other sides turn by turn, once their losses were found to agree.

    Ours agree to the last bit. PyTorch's agree where nothing is normalised, or only within its half of the batch.
    """
    programs = [program for side in ("ranks", *sides) for program in PROGRAMS[side]]
    with ExitStack() as stack:
        found = {}
        for program in programs:
            found[program] = started(program, net)
            stack.callback(found[program].close)
        losses = found["ranks"].first[0]
        for program, side in found.items():
            if program.startswith("ddp"):
                if not any(isinstance(node.layer, ic.BatchNorm2d) for node in CASES[net].make().graph.nodes):
                    same(f"the first loss of {program}", losses[0], np.mean([first[0] for first in side.first]))
            elif any(first != losses for first in side.first):
                raise AssertionError(f"{program} has other losses than ranks: {side.first}, {losses}")
        return interleave(found, ROUNDS, sample=0.0)


def ratio(net: str, side: str, samples: Samples | None = None) -> dict[str, float]:
    """Compare ranks with the faster program of a side."""
    samples = samples or steps(net, (side,))
    return samples.ratio("ranks", min(PROGRAMS[side], key=samples.median))


# Joins --------------------------------------------------------------------------------------------------------------
def joins(_: str) -> Program:
    """Time joins on this rank, and what MPI needs for the same and for a message."""
    from mpi4py import MPI

    from im2colnet.parallel.ranks import Ranks

    comm = MPI.COMM_WORLD
    of = Ranks(comm)
    other, bounds = 1 - of.rank, [0, LARGE // 2, LARGE]
    # zeros, whose sums stay zeros however often they are added
    small, sum_small = np.zeros(SMALL), np.zeros(SMALL)
    large, sum_large = np.zeros(LARGE, "float32"), np.zeros(LARGE, "float32")
    parts_small, parts_large = ([array if q == of.rank else None for q in range(SIZE)] for array in (small, large))
    word, answer = np.zeros(1), np.zeros(1)

    def large_sum() -> None:
        of.scatter_sum(parts_large, sum_large, bounds)
        of.all_gather(sum_large, bounds)

    calls: Mapping[str, tuple[Callable[[], Any], int]] = {
        "small": (lambda: of.all_sum(parts_small, sum_small), 300),
        "small, MPI": (lambda: comm.Allreduce(MPI.IN_PLACE, sum_small), 300),
        "large": (large_sum, 2),
        "large, MPI": (lambda: comm.Allreduce(MPI.IN_PLACE, sum_large), 2),
        "message": (lambda: comm.Sendrecv(word, other, 0, answer, other, 0), 300),
        "bytes": (lambda: comm.Sendrecv(large, other, 0, sum_large, other, 0), 2),
    }

    def call() -> dict[str, list[float]]:
        found: dict[str, list[float]] = {name: [] for name in calls}
        for _ in range(2 if quick() else ROUNDS + 1):
            for name, (join, number) in calls.items():
                comm.Barrier()
                began = time.perf_counter()
                for _ in range(number):
                    join()
                found[name].append((time.perf_counter() - began) / number)
        return {name: times[1:] for name, times in found.items()}

    return None, call


@cache
def joined() -> dict[str, list[float]]:
    """Return the seconds of each join, round by round."""
    side = started("joins", "")
    try:
        found: dict[str, list[float]] = side.ask("go")[0]
        return found
    finally:
        side.close()


def ratio_of_joins(name: str) -> dict[str, float]:
    """Compare a join with that of MPI."""
    found = joined()
    return spread([a / b for a, b in zip(found[name], found[f"{name}, MPI"], strict=True)])


# asv ----------------------------------------------------------------------------------------------------------------
class Steps:
    """Training steps."""

    params = (NETS,)
    param_names = ("net",)
    unit = "ratio"
    version = "1"
    timeout = 600

    def track_ratio_one(self, net: str) -> float:
        return ratio(net, "one")["ratio"]

    def track_ratio_workers(self, net: str) -> float:
        return ratio(net, "workers")["ratio"]

    def track_ratio_ddp(self, net: str) -> float:
        return ratio(net, "ddp")["ratio"]


class Joins:
    """Sums of an array of each rank: of batch norm, and of gradients."""

    params = (["small", "large"],)
    param_names = ("join",)
    version = "1"
    timeout = 600

    def track_join(self, join: str) -> float:
        return median(joined()[join])

    def track_ratio_allreduce(self, join: str) -> float:
        return ratio_of_joins(join)["ratio"]

    track_join.unit, track_ratio_allreduce.unit = "seconds", "ratio"  # type: ignore[attr-defined]


# The command --------------------------------------------------------------------------------------------------------
def computed(machine: scaling.Machine) -> dict[str, float]:
    """Return what the model of :mod:`benchmarks.scaling` says of the joins, with this machine's messages."""
    found = joined()
    message, large = median(found["message"]), median(found["bytes"])
    link = scaling.Link("this machine", max(0.0, message - machine.call), large / (4 * LARGE), 0.0, "measured")
    return {
        "small": scaling.small_sum(8 * SMALL, SIZE, link, machine),
        "large": scaling.large_sum(4 * LARGE, SIZE, link, machine),
    }


def ratio_text(row: Mapping[str, float] | None) -> str:
    """Return a ratio with its quartiles."""
    return f"{row['ratio']:.2f} ({row['low']:.2f}–{row['high']:.2f})" if row else "n/a"


def step_rows(nets: Sequence[str], sides: Sequence[str]) -> scaling.Rows:
    """Return a table of training steps: milliseconds of each side, and ratios."""
    others = [side for side in PROGRAMS if side != "ranks"]
    rows = [["a training step, ms", *TITLES.values(), *(f"2 ranks / {TITLES[side]}" for side in others)]]
    for net in nets:
        samples, number = steps(net, tuple(sides)), 1 if quick() else STEPS[net]
        times = {side: min(map(samples.median, PROGRAMS[side])) / number for side in ("ranks", *sides)}
        row = [scaling.milliseconds(times[side]) if side in times else "n/a" for side in PROGRAMS]
        rows.append([net, *row, *(ratio_text(ratio(net, side, samples) if side in sides else None) for side in others)])
    return rows


def join_rows(machine: scaling.Machine) -> scaling.Rows:
    """Return a table of joins: measured, and what the model says."""
    found, model = joined(), computed(machine)
    rows = [["a sum on 2 ranks", "measured", "calculated", "`MPI_Allreduce`", "measured / `MPI_Allreduce`"]]
    for name, title, unit, factor in (
        ("small", f"{SMALL} float64", "µs", 1e6),
        ("large", f"{LARGE / 1e6:.1f}M float32", "ms", 1e3),
    ):
        times = median(found[name]), model[name], median(found[f"{name}, MPI"])
        rows.append([title, *(f"{factor * t:.3g} {unit}" for t in times), ratio_text(ratio_of_joins(name))])
    return rows


def measured(machine: scaling.Machine, nets: Sequence[str] = NETS) -> dict[str, scaling.Rows]:
    """Measure all, and return the tables.

    Raises
    ------
    NotHere
        Without ranks. Without PyTorch its column shows ``n/a``.
    """
    launcher()
    sides = ["one", "workers", "ddp"]
    try:
        import_torch()
    except NotHere:
        sides.remove("ddp")
    return {"steps": step_rows(nets, sides), "joins": join_rows(machine)}


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print; 0 done, 1 it failed, 2 wrong usage."""
    args = parser().parse_args(argv)
    try:
        found = measured(scaling.measure([]), args.nets)
    except (NotHere, RuntimeError, AssertionError) as error:
        print(f"python -m benchmarks.ranks: error: {error}", file=sys.stderr)
        return 1
    print("\n\n".join(map(scaling.markdown, found.values())))
    return 0


def parser() -> argparse.ArgumentParser:
    """Return the parser of the arguments."""
    made = argparse.ArgumentParser(
        prog="python -m benchmarks.ranks",
        description="Compare a training step on two ranks with one process, with the two processes of one trainer and"
        " with PyTorch's DistributedDataParallel; and joins with MPI_Allreduce. Prints tables as Markdown.",
        epilog="IM2COLNET_BENCH_QUICK=1 runs one round of each, to see that it works.",
    )
    made.add_argument("--nets", nargs="+", choices=NETS, default=NETS, help="networks (default: all)")
    return made


if __name__ == "__main__":
    sys.exit(main())
