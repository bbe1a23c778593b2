"""Compare with PyTorch and onnxruntime on this machine: ``python -m benchmarks.compare --help``.

Every comparison runs in several processes of its own, one in each pass over all of them. In each, both sides are
measured turn by turn (see :func:`benchmarks.common.interleave`), on the same cores, with the same weights, after it was
checked that they do the same work.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import platform
import subprocess
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import geometric_mean
from time import perf_counter
from typing import Any

import im2colnet as ic
from benchmarks import device, memory, onnx_nets, ratios, versus
from benchmarks.common import (
    CASES,
    MORE_CASES,
    SHAPES,
    Comparison,
    NotHere,
    Row,
    in_child,
    new_process,
    part_of_library,
    passes,
    quick,
    start_backend,
)
from benchmarks.random_nets import OUTSIDE, RANDOM

# asv reads this module, too, when it measures an old commit
replace_file = part_of_library("im2colnet.files:replace_file", "im2colnet.checkpoint:replace_file")
amount = part_of_library("im2colnet.text:amount", "im2colnet.report:amount")
table = part_of_library("im2colnet.text:table", "im2colnet.report:table")

PATIENCE = 1.0  # seconds of a pass, after which a line is measured in no other process
ROOT = Path(__file__).resolve().parents[1]
ONE = {f"{case.model}-b1": case._replace(batch=1) for case in CASES.values()}
MORE_ONE = {f"{name.rpartition('-')[0]}-b1": case._replace(batch=1) for name, case in MORE_CASES.items()}
EVERY = CASES | ONE | MORE_CASES | MORE_ONE | OUTSIDE | RANDOM
#: names of several cases
GROUPS = {
    "suite": [*CASES, *ONE, *(name for name, case in onnx_nets.CASES.items() if f"{case.net}-b1" in ONE)],
    "outside": [*OUTSIDE],
    "random": [*RANDOM],
}


@dataclass
class Line:
    """A line of a table: what is compared, and what its processes found so far or why they found nothing."""

    kind: str
    case: str
    threads: int
    comparison: Comparison
    found: list[Any] = field(default_factory=list)
    failure: Row = field(default_factory=dict)

    def measure(self, server: Executor) -> None:
        """Measure in a process that ``server`` forks, or in as many as there is time for: the short ones vary most."""
        began = perf_counter()
        with self._telling():
            while not self.failure:
                self.found.append(server.submit(self.comparison.measure, not self.found).result())
                if quick() or perf_counter() - began > PATIENCE:
                    break

    def row(self) -> Row:
        """Return what is known."""
        row: Row = {"kind": self.kind, "case": self.case, "threads": self.threads}
        with self._telling():
            row |= self.comparison.summary(self.found) if self.found and not self.failure else {}
        return row | self.failure

    @contextmanager
    def _telling(self) -> Iterator[None]:
        try:
            yield
        except NotHere as reason:
            self.failure = {"skipped": str(reason)}
        except Exception:
            self.failure = {"error": traceback.format_exc().strip()}


# What is compared ---------------------------------------------------------------------------------------------------
def nets(names: Sequence[str], threads: Sequence[int], more: Sequence[str] = ()) -> Iterator[tuple[str, int]]:
    """Cases of the networks that were asked for, on each number of threads."""
    chosen = [case for case in [*CASES, *MORE_CASES, *more] if {case, EVERY[case].model} & cases(names)]
    return ((case, n) for n in threads for case in chosen)


def cases(names: Sequence[str]) -> set[str]:
    """The names, those of a group's cases instead of the group's."""
    return {case for name in names for case in GROUPS.get(name, [name])}


def training(args: argparse.Namespace) -> Iterator[Line]:
    """Training steps."""
    jobs = nets(args.nets, args.threads, [*OUTSIDE, *RANDOM])
    return (Line("training", case, n, versus.training(EVERY[case], n)) for case, n in jobs)


def inference(args: argparse.Namespace) -> Iterator[Line]:
    """Predictions of a batch and of one image."""
    jobs = nets(args.nets, args.threads, [*ONE, *MORE_ONE, *OUTSIDE, *RANDOM])
    return (Line("inference", case, n, versus.inference(EVERY[case], n)) for case, n in jobs)


def convolution(args: argparse.Namespace) -> Iterator[Line]:
    """Convolutions with both gradients; a kernel runs on one thread."""
    shapes = SHAPES.items() if 1 in args.threads else ()
    return (Line("convolution", name, 1, versus.convolution(shape)) for name, shape in shapes)


def peaks(args: argparse.Namespace) -> Iterator[Line]:
    """Peak memory of training steps, each library in a process of its own."""
    return (Line("memory", case, n, memory.training(EVERY[case], n)) for case, n in nets(args.nets, args.threads))


def onnx(args: argparse.Namespace) -> Iterator[Line]:
    """Predictions of networks from ONNX files, beside onnxruntime."""
    names = cases(args.nets)
    chosen = [name for name, case in onnx_nets.CASES.items() if {name, f"{case.net}-onnx"} & names]
    return (
        Line("onnx", name, n, onnx_nets.inference(onnx_nets.CASES[name], n)) for n in args.threads for name in chosen
    )


def own(args: argparse.Namespace) -> Iterator[Line]:
    """What needs no peer: lowering, the roofline, and the noise of it all."""
    shapes = SHAPES.items() if 1 in args.threads else ()
    yield from (Line("gemm", name, 1, ratios.gemm(shape)) for name, shape in shapes)
    yield from (Line("roofline", name, 1, ratios.roofline(shape)) for name, shape in shapes)
    jobs = itertools.product(ratios.Self.params[0], args.threads)
    yield from (Line("self", case, n, ratios.itself(case, n)) for case, n in jobs)


def on_device(args: argparse.Namespace) -> Iterator[tuple[str, Line]]:
    """Everything that is compared on a GPU, by part."""
    for name, case, precision in device.pairs(args.nets):
        yield "training", Line("training", name, 1, device.training(case, precision))
        yield "inference", Line("inference", name, 1, device.inference(case, precision))
    for precision, (name, shape) in itertools.product(device.OF_SHAPES, device.SHAPES.items()):
        case = f"{name} {precision}"
        yield "convolution", Line("convolution", case, 1, device.convolution(shape, precision))
        yield "own", Line("roofline", case, 1, device.roofline(shape, precision))


# Tables -------------------------------------------------------------------------------------------------------------
def milliseconds(seconds: float) -> str:
    """Return three digits of a time."""
    return f"{seconds * 1e3:#.3g}".rstrip(".") + " ms"


def spread(row: Row) -> tuple[str, str]:
    """Return the median and the quartiles of the ratios."""
    return f"{row['ratio']:.2f}", f"{row['low']:.2f}–{row['high']:.2f}"


def times_text(title: str, rows: Sequence[Row]) -> str:
    """Return ours beside PyTorch's."""
    columns = ("ratio", "quartiles", "im2colnet", "PyTorch", "layout", "images/s", "PyTorch", "cores", "PyTorch")
    lines = [(title, "threads", *columns)]
    for row in rows:
        cells = ["n/a"] * len(columns)
        if "ratio" in row:
            times = row["seconds"], row["torch_seconds"]
            speeds = [f"{row['batch'] / seconds:,.0f}" if "batch" in row else "" for seconds in times]
            cells = [
                *spread(row),
                *map(milliseconds, times),
                row["torch_layout"],
                *speeds,
                f"{row['cores']:.2f}",
                f"{row['torch_cores']:.2f}",
            ]
        lines.append((row["case"], str(row["threads"]), *cells))
    return "\n".join([table(lines, right=range(1, 11)), *means(rows)])


def onnx_text(title: str, rows: Sequence[Row]) -> str:
    """Return ours beside onnxruntime's."""
    columns = ("ratio", "quartiles", "im2colnet", "onnxruntime", "cores", "onnxruntime")
    lines = [(title, "threads", *columns)]
    for row in rows:
        cells = ["n/a"] * len(columns)
        if "ratio" in row:
            times = map(milliseconds, (row["seconds"], row["other_seconds"]))
            cells = [*spread(row), *times, f"{row['cores']:.2f}", f"{row['other_cores']:.2f}"]
        lines.append((row["case"], str(row["threads"]), *cells))
    return "\n".join([table(lines, right=range(1, 8)), *means(rows)])


def memory_text(title: str, rows: Sequence[Row]) -> str:
    """Return peaks beside each other."""
    lines = [(title, "threads", "im2colnet", "its plan", *memory.LIBRARIES[2:], "ratio")]
    for row in rows:
        peaks = [amount(row[key], 1024) + "B" if key in row else "n/a" for key in memory.LIBRARIES]
        lines.append((row["case"], str(row["threads"]), *peaks, f"{row['ratio']:.2f}" if "ratio" in row else "–"))
    return "\n".join([table(lines, right=range(1, 7)), *means(rows)])


def own_text(title: str, rows: Sequence[Row]) -> str:
    """Return ratios that need no peer."""
    lines = [(title, "", "threads", "ratio", "quartiles")]
    names = {"gemm": "convolution / its matrix product", "roofline": "convolution / roofline", "self": "step / itself"}
    for row in rows:
        lines.append(
            (names[row["kind"]], row["case"], str(row["threads"]), *(spread(row) if "ratio" in row else ["n/a"] * 2))
        )
    return table(lines, right=(2, 3, 4))


def means(rows: Sequence[Row]) -> Iterator[str]:
    """Yield the geometric means of the ratios of each number of threads, those of the groups beside each other."""
    for threads in dict.fromkeys(row["threads"] for row in rows):
        found: dict[str, list[float]] = {}
        for row in rows:
            if row["threads"] == threads and "ratio" in row:
                found.setdefault(group(row), []).append(row["ratio"])
        texts = [
            f"{of} {geometric_mean(ratios):.2f} ({len(ratios)})" for of, ratios in found.items() if len(ratios) > 1
        ]
        if texts:
            yield f"geometric means, {threads} thread{'s' * (threads > 1)}: {', '.join(texts)}"


def group(row: Row) -> str:
    """What a line is averaged with: tuned nets with such, and single images and batches each with their like."""
    case, batch = row["case"], row.get("batch")
    names = ("random nets", RANDOM), ("nets outside the suite", OUTSIDE), ("the suite", GROUPS["suite"])
    of = next((name for name, of in names if case in of), "the others")
    if row["kind"] in ("inference", "onnx"):
        of += ", one image" if batch == 1 else ", batches"
    return of


Part = tuple[Callable[[argparse.Namespace], Iterator[Line]], Callable[[str, Sequence[Row]], str], str]
PARTS: dict[str, Part] = {
    "training": (training, times_text, "training step"),
    "inference": (inference, times_text, "inference"),
    "convolution": (convolution, times_text, "convolution and both gradients"),
    "memory": (peaks, memory_text, "peak memory of training"),
    "onnx": (onnx, onnx_text, "inference beside onnxruntime"),
    "own": (own, own_text, "without a peer"),
}


# The machine --------------------------------------------------------------------------------------------------------
def machine() -> dict[str, Any]:
    """Describe what everything is measured on, with the versions that really run."""
    backend = start_backend()
    found: dict[str, Any] = {
        "cpu": cpu_name(),
        "cores": len(versus.allowed_cores()),
        "system": platform.platform(terse=True),
        "python": platform.python_version(),
        "im2colnet": ic.__version__,
        "commit": commit(),
        "backend": backend.name,
        backend.xp.__name__: backend.xp.__version__,
        **{name: text for name, text in backend.versions().items() if name in ("numba", "vectors")},
    }
    try:
        for pool in versus.numpys_blas():
            kernels = f"kernels for {pool.get('architecture', '?')}"
            forced = os.environ.get("OPENBLAS_CORETYPE")
            kernels += f", because OPENBLAS_CORETYPE={forced} asks for them" if forced else ""
            found["blas"] = f"{pool['internal_api']} {pool['version']}, {kernels}, {pool['num_threads']} thread"
    except ModuleNotFoundError:
        pass
    try:
        torch = versus.import_torch()
        found["torch"] = f"{torch.__version__}, {torch.backends.cpu.get_cpu_capability()}"
    except NotHere as reason:
        found["torch"] = f"n/a: {reason}"
    return found


def cpu_name() -> str:
    """Return the processor's name."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        info = dict(reversed([tuple(part.strip() for part in line.split(":", 1)) for line in lines if ":" in line]))
        return f"{info['model name']} (family {info['cpu family']} model {info['model']})"
    except (OSError, KeyError):
        return platform.processor() or platform.machine()


def commit() -> str | None:
    """Return the checkout's commit, with a mark if it has been changed since."""
    command = ["git", "describe", "--always", "--dirty", "--exclude", "*"]
    try:
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None


# The command --------------------------------------------------------------------------------------------------------
def main(argv: Sequence[str] | None = None) -> int:
    """Run the comparisons that the arguments ask for; 0 done, 1 one failed, 2 wrong usage, 130 interrupted."""
    args = parser().parse_args(argv)
    if args.backend:
        os.environ["IM2COLNET_BACKEND"] = args.backend
    if device.selected():
        found = list(on_device(args))
        lines = {part: [line for kind, line in found if kind == part] for part in args.parts}
    else:
        lines = {part: list(PARTS[part][0](args)) for part in args.parts}
    if not any(lines.values()):
        reason = "nothing to compare: kernels run on one thread, and -b1 is inference"
        print(f"python -m benchmarks.compare: error: {reason}", file=sys.stderr)
        return 2
    report: dict[str, Any] = {}
    try:
        report["machine"] = in_child(machine)
    except (NotHere, ic.BackendError, ModuleNotFoundError) as error:
        print(f"python -m benchmarks.compare: error: {error}", file=sys.stderr)
        return 1
    print("\n".join(f"{key:10} {value}" for key, value in report["machine"].items()), flush=True)
    everything = list(itertools.chain.from_iterable(lines.values()))
    where = "before anything was measured"
    try:
        for where in measure(everything):
            progress(where)
            if args.json:
                report["rows"] = [line.row() for line in everything]
                replace_file(args.json, (json.dumps(report, indent=1) + "\n").encode())
    except KeyboardInterrupt:  # what there is, is told
        status = 130
    else:
        status = 0
    progress("")
    rows: list[Row] = []
    for part, of_part in lines.items():
        (_, text, title), of_table = PARTS[part], [line.row() for line in of_part]
        rows += of_table
        if of_table:
            print(f"\n{text(title, of_table)}", flush=True)
    print("".join(f"\nn/a: {reason}" for reason in dict.fromkeys(row["skipped"] for row in rows if "skipped" in row)))
    for row in rows:
        if "error" in row:
            status = status or 1
            reason = row["error"].splitlines()[-1]  # all of it is in the JSON file
            print(f"FAILED: {row['kind']} {row['case']}, {row['threads']} threads: {reason}", file=sys.stderr)
    if status == 130:
        print(f"interrupted: {where}", file=sys.stderr)
    return status


def measure(lines: Sequence[Line]) -> Iterator[str]:
    """Measure all lines, pass after pass, and yield where it is.

    What slows one side for minutes meets each line in one pass, not in all; each pass begins in a process of its own.
    """
    for number in range(1, passes() + 1):
        with new_process() as server:
            for i, line in enumerate(lines, 1):
                line.measure(server)
                yield f"pass {number} of {passes()}, {i} of {len(lines)} comparisons done"


def progress(text: str) -> None:
    """Show on a terminal where the run is; the line is written over by the next."""
    if sys.stderr.isatty():
        print(f"\r\x1b[K{text}", end="", file=sys.stderr, flush=True)


def parser() -> argparse.ArgumentParser:
    """Return the parser of the arguments."""
    made = argparse.ArgumentParser(
        prog="python -m benchmarks.compare",
        description="Compare with PyTorch and onnxruntime on this machine: ratios of times and of memory, below 1 where"
        " ours is less.",
        epilog="Variables: IM2COLNET_BACKEND chooses the backend; IM2COLNET_BENCH_REQUIRE=torch makes a missing PyTorch"
        " an error; IM2COLNET_BENCH_QUICK=1 runs one round of each, to see that it works.",
    )
    cores = len(versus.allowed_cores())
    made.add_argument(
        "--threads",
        type=int,
        nargs="+",
        metavar="N",
        choices=range(1, cores + 1),
        default=[1, 2][:cores],
        help=f"cores that each side may use, of the {cores} here (default: 1 2)",
    )
    made.add_argument(
        "--nets",
        nargs="+",
        metavar="NET",
        type=net,
        default=[*GROUPS, *device.CASES, *onnx_nets.CASES],
        help=f"networks, with all their batches or one: {', '.join(CASES)}, {', '.join(OUTSIDE)} (default: all these,"
        f" and those drawn at random), or {', '.join(MORE_CASES)}, or a group: {', '.join(GROUPS)}; beside onnxruntime"
        f" {', '.join(dict.fromkeys(f'{case.net}-onnx' for case in onnx_nets.CASES.values()))} (default: all these)",
    )
    made.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS), help="what to compare (default: all)")
    made.add_argument("--backend", metavar="NAME", help="ours, instead of IM2COLNET_BACKEND's; cupy's cases are others")
    made.add_argument("--json", metavar="FILE", help="also write every figure to this file")
    return made


def net(name: str) -> str:
    """Check the name of a network or case."""
    models = [case.model for case in EVERY.values()]
    of_onnx = [name for case, of in onnx_nets.CASES.items() for name in (f"{of.net}-onnx", case)]
    known = dict.fromkeys([*models, *EVERY, *GROUPS, *device.CASES, *of_onnx])
    if name not in known:
        raise argparse.ArgumentTypeError(f"there is no network {name!r}; there are {', '.join(known)}")
    return name


if __name__ == "__main__":
    sys.exit(main())
