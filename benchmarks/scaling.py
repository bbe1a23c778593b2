"""What a training step costs on many ranks, calculated: ``python -m benchmarks.scaling --help``.

A message of n bytes takes ``alpha + n·beta`` seconds (Hockney 1994, doi:10.1016/S0167-8191(06)80021-9): alpha is the
latency of the network, 1/beta its bandwidth. What a collective operation costs follows from its messages (Thakur,
Rabenseifner, Gropp 2005, doi:10.1177/1094342005051521; Chan, Heimlich, Purkayastha, van de Geijn 2007,
doi:10.1002/cpe.1206). What a rank computes is measured on this machine: a training step, additions, calls, a barrier.

R is the number of ranks, n a number of bytes, all times are seconds.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from math import ceil, log, log2, prod, sqrt
from pathlib import Path
from statistics import median
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np

import im2colnet as ic
from benchmarks.common import CASES, quick
from benchmarks.versus import allowed_cores
from im2colnet.parallel.ranks import own_messages

CORES = 16  # of a rank, which is a machine here
SHARD = 32  # images
RANKS = (8, 64, 512)
NETS = ("lenet5-b256", "vgg8-b64", "resnet20-b64", "resnet18-b16")
STRONG = 8192  # images of a batch that stays the same however many ranks there are
FLOAT32 = 4  # bytes


# Networks of machines -----------------------------------------------------------------------------------------------
class Link(NamedTuple):
    """What a message costs between two machines.

    ``alpha`` is its latency, ``beta`` the seconds that a byte takes, ``gap`` the seconds between the beginnings of two
    messages that one machine sends.
    """

    name: str
    alpha: float
    beta: float
    gap: float
    source: str


LINKS = (
    Link(
        "25 Gb/s, TCP",
        20e-6,
        1 / (0.9 * 25e9 / 8),
        3e-6,
        "assumed: 20 µs through two kernels, 90% of 25 Gb/s, 3 µs per message",
    ),
    Link(
        "100 Gb/s, RDMA",
        2e-6,
        1 / (0.95 * 100e9 / 8),
        0.4e-6,
        "1.93 µs and 93% of the line, measured by Cisco with Open MPI past the kernel"
        " (https://news-blogs.cisco.com/performance/mpi-over-40gb-ethernet); assumed: 95% of"
        " 100 Gb/s, 0.4 µs per message",
    ),
)
NVLINK = Link(
    "8 GPUs, NVLink",
    15e-6,
    1 / 370e9,
    1e-6,
    "370 GB/s of a ring (https://github.com/NVIDIA/nccl-tests/issues/212); assumed: 15 µs per collective operation on 8"
    " GPUs, where 2 take 6 µs within a graph (https://github.com/NVIDIA/nccl/issues/1259)",
)
ADD_ON_GPU = 3 / 2.5e12  # seconds a byte: two are read and one is written, at 2.5 TB/s (assumed)
KERNEL_ON_GPU = 10e-6  # seconds of the kernels that add what was gathered (assumed)
#: seconds of a training step of 256 images on one H200 (measured, docs/gpu.md: float32, with graphs)
STEP_ON_GPU = {"lenet5-b256": 1.0e-3, "resnet20-b64": 8.3e-3}


class Machine(NamedTuple):
    """What is measured of one machine; all but ``name`` are seconds.

    ``image``: of training on one image, on one core, by network. ``add``: of adding a byte of float32 to another.
    ``call``: of what Python and mpi4py need to send a small message. ``barrier``: of one among ``CORES`` workers.
    ``shard_sums``: of each shard in :meth:`im2colnet.BatchNorm2d.join_sums`.
    """

    name: str
    image: Mapping[str, float]
    add: float
    call: float
    barrier: float
    shard_sums: float


# What is sent -------------------------------------------------------------------------------------------------------
class Work(NamedTuple):
    """What the ranks join in a step, in bytes.

    ``gradients``: all of them. ``summed``: each sum that is added along the tree. ``gathered``: a shard's part of each
    sum that every rank makes from those of all shards.
    """

    gradients: int
    summed: tuple[int, ...]
    gathered: tuple[int, ...]


def work(net: str) -> Work:
    """Return what a training step of this network joins, as its plan says."""
    from im2colnet.plan.shards import BatchPlan

    case = CASES[net]
    graph = case.make().init(0).graph
    plan = BatchPlan(graph, case.shape, 2 * SHARD, "float32", ic.get_backend("numpy"), training=True, shard=SHARD)
    sizes = [(kind, prod(spec.shape) * 8) for (kind, _), spec in plan.sums.items()]
    metrics = 3 * 8
    return Work(
        FLOAT32 * graph.size,
        (*(nbytes for kind, nbytes in sizes if kind != "sums"), metrics),
        tuple(nbytes for kind, nbytes in sizes if kind == "sums"),
    )


# What an operation costs --------------------------------------------------------------------------------------------
def rounds(R: int) -> int:
    """Return how often ranks must meet in pairs until each has heard of all."""
    return ceil(log2(R))


def doubled(n: float, R: int, link: Link, machine: Machine) -> float:
    """The sum of n bytes on every rank by distance doubling: in each round a rank sends all that it has."""
    return rounds(R) * (link.alpha + n * link.beta + machine.call + n * machine.add)


def gathered(n: float, R: int, link: Link, machine: Machine) -> float:
    """What every rank has, n bytes each, on every rank."""
    return (R > 1) * machine.call + rounds(R) * link.alpha + (R - 1) * n * link.beta


def added_by_all(n: float, R: int, link: Link, machine: Machine) -> float:
    """The sum of n bytes on every rank: all are gathered, and every rank adds them."""
    return gathered(n, R, link, machine) + (R - 1) * n * machine.add


def small_sum(n: float, R: int, link: Link, machine: Machine) -> float:
    """The sum of n bytes on every rank, as :meth:`im2colnet.parallel.ranks.Ranks.all_sum` makes it."""
    return (added_by_all if R & (R - 1) else doubled)(n, R, link, machine)


def messages(n: float, R: int) -> int:
    """Return the number of messages in which a rank sends halves, quarters, ...: large parts are sent one by one."""
    return R - 1 if own_messages(n, R) else rounds(R)


def halved(n: float, R: int, link: Link, machine: Machine) -> float:
    """The sum of n bytes, of which each rank keeps 1/R, by distance doubling and vector halving."""
    return messages(n, R) * (link.alpha + machine.call) + (R - 1) / R * n * (link.beta + machine.add)


def exchanged(n: float, R: int, link: Link, machine: Machine) -> float:
    """The same where each rank sends its part directly to each other one."""
    return (R > 1) * (machine.call + link.alpha) + (R - 1) * link.gap + (R - 1) / R * n * (link.beta + machine.add)


def direct(n: float, R: int, link: Link, machine: Machine) -> float:
    """The sum of n bytes on every rank: parts are sent directly, then gathered."""
    return exchanged(n, R, link, machine) + gathered(n / R, R, link, machine)


def by_halves(n: float, R: int, link: Link, machine: Machine) -> float:
    """The sum of n bytes on every rank: halves, quarters, ... are sent; large parts come back the same way."""
    if own_messages(n, R):
        back = halved(n, R, link, machine._replace(add=0.0))
    else:
        back = gathered(n / R, R, link, machine)
    return halved(n, R, link, machine) + back


def large_sum(n: float, R: int, link: Link, machine: Machine) -> float:
    """The sum of n bytes on every rank, as ``scatter_sum`` and ``all_gather`` of the same class make it."""
    return (direct if R & (R - 1) else by_halves)(n, R, link, machine)


def ring(n: float, R: int, link: Link, machine: Machine) -> float:
    """The same around a ring: the additions are in another order for each number of ranks."""
    return 2 * (R - 1) * link.alpha + (R - 1) / R * n * (2 * link.beta + machine.add)


def whole_tree(n: float, R: int, link: Link, machine: Machine) -> float:
    """The same up and down a tree of ranks that send whole vectors."""
    return rounds(R) * (2 * (link.alpha + n * link.beta) + n * machine.add)


# A step -------------------------------------------------------------------------------------------------------------
class Step(NamedTuple):
    """Seconds of a step: what a rank alone needs too, and what ranks add for gradients and for sums."""

    alone: float
    gradients: float
    sums: float

    @property
    def efficiency(self) -> float:
        """The part of the time in which a rank does what it would do alone."""
        return self.alone / sum(self)


def step(net: str, joins: Work, R: int, images: float, link: Link, machine: Machine) -> Step:
    """Return the time of a step in which every core trains on so many images."""
    shards = CORES * ceil(images / SHARD)
    return Step(
        machine.image[net] * images,
        large_sum(joins.gradients, R, link, machine),
        sum(joined(joins, R, shards, link, machine)),
    )


def joined(joins: Work, R: int, shards: int, link: Link, machine: Machine) -> Iterator[float]:
    """Yield what each sum adds to the step where ranks have so many shards each.

    Around each one the workers of a rank wait once more than they do alone: until the first has heard of the others.
    """
    waiting = (R > 1) * machine.barrier
    for n in joins.summed:
        yield small_sum(n, R, link, machine) + waiting
    for n in joins.gathered:
        yield gathered(shards * n, R, link, machine) + (R - 1) * shards * machine.shard_sums + waiting


def jitter(workers: int, joins: int, stages: int, sigma: float = 0.02) -> float:
    """The part of a step that is lost because all wait for the slowest, if the time of a stage varies by sigma.

    The largest of w normal numbers is about ``sigma·sqrt(2·ln w)`` above their mean. Several stages between two joins
    vary less than one.
    """
    return sigma * sqrt(joins / stages) * sqrt(2 * log(workers))


def on_gpus(net: str, joins: Work, R: int = 8) -> dict[str, Step]:
    """Return the time of a step on GPUs of one machine that NCCL joins, by its own ring and along the fixed tree.

    Sums are so small that an operation takes its latency.
    """
    sums, added = len(joins.summed) + len(joins.gathered), KERNEL_ON_GPU + joins.gradients * ADD_ON_GPU
    wire = 2 * (R - 1) / R * joins.gradients * NVLINK.beta
    return {
        "ring": Step(STEP_ON_GPU[net], NVLINK.alpha + wire, sums * NVLINK.alpha),
        "fixed tree": Step(STEP_ON_GPU[net], 2 * NVLINK.alpha + wire + added, sums * (NVLINK.alpha + KERNEL_ON_GPU)),
    }


# What is measured here ----------------------------------------------------------------------------------------------
def measure(nets: Sequence[str] = NETS) -> Machine:
    """Measure this machine."""
    from benchmarks.compare import cpu_name

    return Machine(
        cpu_name(), {net: of_image(net) for net in nets}, of_adding(), of_call(), of_barrier(), of_shard_sums()
    )


def seconds(call: Callable[[], Any], number: int = 1, times: int = 9) -> float:
    """Return the median time of a call, which itself does ``number`` things, after one that does not count."""
    taken = []
    for _ in range(2 if quick() else times + 1):
        began = time.perf_counter()
        call()
        taken.append((time.perf_counter() - began) / number)
    return median(taken[1:])


def of_image(net: str) -> float:
    """Return the time of training on one image, on one core."""
    ic.set_num_threads(1)
    trainer, (images, labels) = CASES[net].trainer(), CASES[net].data()
    return seconds(lambda: trainer.step(images, labels)) / len(images)


def of_adding() -> float:
    """Return the time of adding a byte of float32 to another, in vectors that no cache holds."""
    target, source = np.ones((2, 1 << 24), "float32")  # what was never written would be one page of zeros, in the cache
    return seconds(lambda: np.add(target, source, out=target)) / target.nbytes


def of_call() -> float:
    """Return the time of sending a small message to oneself and receiving it."""
    try:
        from mpi4py import MPI
    except (ImportError, RuntimeError):  # without an MPI it is a RuntimeError
        return 2e-6  # measured elsewhere
    sent, received, number = np.zeros(64), np.zeros(64), 1000

    def calls() -> None:
        for _ in range(number):
            MPI.COMM_SELF.Sendrecv(sent, 0, 0, received, 0, 0)

    return seconds(calls, number)


def of_barrier() -> float:
    """Return the time of a barrier of ``CORES`` workers, each on a core: in proportion from those that fit here.

    Each worker looks at the counter of each other one.
    """
    from im2colnet.parallel.processes import ProcessTeam

    size, number, found = max(2, min(CORES, len(allowed_cores()))), 1000, []

    def barriers(communicator: Any) -> None:
        began = time.perf_counter()
        for _ in range(number):
            communicator.barrier()
        found.append((time.perf_counter() - began) / number)  # those of the other workers stay in their processes

    team = ProcessTeam(size, barriers, [], lambda _: True)
    try:
        for _ in range(10):
            team.run(barriers)
    finally:
        team.close()
    return median(found[1:]) * CORES / size


def of_shard_sums(shards: int = 1024, channels: int = 32) -> float:
    """Return the time that a shard takes when the sums of a batch norm are joined."""
    layer, context = (
        ic.BatchNorm2d(channels),
        SimpleNamespace(x=np.empty((8, channels, 8, SHARD)), xp=np, backend=ic.get_backend("numpy")),
    )
    parts = list(np.random.default_rng(0).standard_normal((shards, 2, channels)))
    return seconds(lambda: layer.join_sums(parts, [SHARD] * shards, context), shards)


# Tables -------------------------------------------------------------------------------------------------------------
Rows = list[list[str]]


def milliseconds(time: float) -> str:
    """Return a time with as many digits as it deserves."""
    return f"{1e3 * time:#.2g}".rstrip(".") if time < 0.0995 else f"{1e3 * time:.0f}"


def cell(found: Step) -> str:
    """Return the efficiency, and what a step consists of."""
    return f"{100 * found.efficiency:.1f}% ({' + '.join(map(milliseconds, found))})"


def short(net: str) -> str:
    """Return the name without the batch size."""
    return net.partition("-")[0]


def scaled(machine: Machine, images: Callable[[int], float], nets: Sequence[str]) -> Rows:
    """Efficiency of networks by the number of ranks; ``images`` are those of a core."""
    lines = [["network", "between machines", *(f"{R} ranks" for R in RANKS)]]
    for net in nets:
        of = work(net)
        lines += [
            [short(net), link.name, *(cell(step(net, of, R, images(R), link, machine)) for R in RANKS)]
            for link in LINKS
        ]
    return lines


def gradients(machine: Machine, nets: Sequence[str] = ("resnet20-b64", "resnet18-b16")) -> Rows:
    """The ways to join gradients."""
    ways = {
        "ring": ring,
        "tree of whole vectors": whole_tree,
        "fixed tree, sent directly": direct,
        "fixed tree, by halves": by_halves,
    }
    lines = [["network", "between machines", "ranks", *ways]]
    for net in nets:
        n = work(net).gradients
        for link in LINKS:
            lines += [
                [short(net), link.name, str(R), *(milliseconds(way(n, R, link, machine)) for way in ways.values())]
                for R in RANKS
            ]
    return lines


def batch_norm(machine: Machine, nets: Sequence[str] = ("resnet20-b64", "resnet18-b16")) -> Rows:
    """What joins beside those of the gradients cost in a step, part by part."""
    lines = [
        [
            "network",
            "between machines",
            "ranks",
            "sums added along the tree",
            "sums of all shards: sending",
            "sums of all shards: combining",
            "barriers of workers",
        ]
    ]
    shards = CORES
    for net in nets:
        of = work(net)
        for link in LINKS:
            for R in RANKS:
                parts = (
                    sum(small_sum(n, R, link, machine) for n in of.summed),
                    sum(gathered(shards * n, R, link, machine) for n in of.gathered),
                    len(of.gathered) * (R - 1) * shards * machine.shard_sums,
                    (len(of.summed) + len(of.gathered)) * machine.barrier,
                )
                lines.append([short(net), link.name, str(R), *map(milliseconds, parts)])
    return lines


def gpus() -> Rows:
    """Steps of eight GPUs."""
    lines = [["network, 256 images per GPU", "ring of NCCL", "fixed tree", "fixed tree, batch norm not joined"]]
    for net in STEP_ON_GPU:
        of = work(net)
        ring_of, fixed = on_gpus(net, of).values()
        lines.append([short(net), cell(ring_of), cell(fixed), cell(fixed._replace(sums=NVLINK.alpha))])
    return lines


def waits() -> Rows:
    """What is lost where the time of each stage varies by 2%."""
    lines = [["", "1 rank", *(f"{R} ranks" for R in RANKS)]]
    for name, joins in (("resnet20: 39 stages, each joined", 39), ("39 stages, joined once", 1)):
        lines.append([name, *(f"{100 * jitter(R * CORES, joins, 39):.1f}%" for R in (1, *RANKS))])
    return lines


def of_machine(machine: Machine) -> Rows:
    """What was measured."""
    figures = {f"training on an image, {short(net)}": f"{1e3 * t:.3g} ms" for net, t in machine.image.items()}
    figures |= {
        "additions": f"{1e-9 / machine.add:.2g} GB/s",
        "calls for a small message": f"{1e6 * machine.call:.2g} µs",
        f"a barrier of {CORES} workers": f"{1e6 * machine.barrier:.3g} µs",
        "sums of a shard in batch norm": f"{1e6 * machine.shard_sums:.2g} µs",
    }
    return [["on one core", machine.name], *map(list, figures.items())]


def of_links() -> Rows:
    """What is taken for networks."""
    lines = [["network", "latency", "bandwidth", "source"]]
    return lines + [
        [link.name, f"{1e6 * link.alpha:.2g} µs", f"{1e-9 / link.beta:.3g} GB/s", link.source]
        for link in (*LINKS, NVLINK)
    ]


def tables(machine: Machine) -> dict[str, Rows]:
    """Return all tables, by name."""
    nets = [net for net in NETS if net in machine.image]
    return {
        "machine": of_machine(machine),
        "links": of_links(),
        "weak": scaled(machine, lambda R: SHARD, nets),
        "strong": scaled(machine, lambda R: STRONG / R / CORES, [net for net in nets if not net.startswith("lenet5")]),
        "gradients": gradients(machine),
        "sums": batch_norm(machine),
        "gpus": gpus(),
        "waits": waits(),
    }


TITLES = {
    "machine": "Measured on this machine",
    "links": "Figures of the networks between machines",
    "weak": f"{SHARD} images per core, {SHARD * CORES} per rank: efficiency (ms alone + gradients + other sums)",
    "strong": f"{STRONG} images in total: efficiency (ms alone + gradients + other sums)",
    "gradients": "The gradients alone, ms",
    "sums": "The other sums of a step, ms",
    "gpus": "Eight GPUs: efficiency (ms alone + gradients + other sums)",
    "waits": "Time lost by waiting for the slowest worker, if the time of a stage varies by 2%",
}


def markdown(rows: Rows) -> str:
    """Return a table as Markdown."""
    head, *lines = [f"| {' | '.join(row)} |" for row in rows]
    return "\n".join([head, "|" + "---|" * len(rows[0]), *lines])


# The command --------------------------------------------------------------------------------------------------------
def load(path: str | Path) -> Machine:
    """Return the machine that was written to a file."""
    return Machine(**json.loads(Path(path).read_text(encoding="utf-8"))["machine"])


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, calculate and print; 0 done, 1 it failed, 2 wrong usage."""
    args = parser().parse_args(argv)
    try:
        machine = load(args.machine) if args.machine else measure()
    except (OSError, ValueError, KeyError, TypeError) as error:
        print(f"python -m benchmarks.scaling: error: {args.machine}: {error!r}", file=sys.stderr)
        return 1
    found = tables(machine)
    for name, rows in found.items():
        print(f"{TITLES[name]}\n\n{markdown(rows)}\n", flush=True)
    if args.json:
        text = json.dumps({"machine": machine._asdict(), "tables": found}, indent=1, ensure_ascii=False)
        Path(args.json).write_text(text + "\n", encoding="utf-8")
    return 0


def parser() -> argparse.ArgumentParser:
    """Return the parser of the arguments."""
    made = argparse.ArgumentParser(
        prog="python -m benchmarks.scaling",
        description="Calculate what a training step costs on 8, 64 and 512 ranks, from what is measured here."
        " On two ranks it is measured by: python -m benchmarks.ranks",
    )
    made.add_argument("--machine", metavar="FILE", help="take what --json wrote instead of measuring")
    made.add_argument("--json", metavar="FILE", help="also write every figure to this file")
    return made


if __name__ == "__main__":
    sys.exit(main())
