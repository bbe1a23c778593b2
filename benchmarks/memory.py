"""Memory: the peak of training steps in a fresh process, without what the imports and the batch itself take.

Beside ours and PyTorch's stands what the plan predicts: every array that the library holds, exactly, but not what
BLAS, the interpreter and the allocator take.
"""

from __future__ import annotations

import gc
import mmap
from collections.abc import Callable
from functools import partial
from itertools import chain
from statistics import median
from time import perf_counter
from typing import Any

import im2colnet as ic
from benchmarks.common import (
    CASES,
    FIRST_STEPS,
    Case,
    Comparison,
    NotHere,
    Row,
    import_torch,
    in_child,
    part_of_library,
    start_host_backend,
    worker_processes,
)
from benchmarks.peer import LAYOUTS, Peer, as_tensor

STEPS = 3
SMALL = 1 << 20  # bytes, of which most are pages and stacks of threads
MOST, PATIENCE = 5, 1.0  # processes of PyTorch's in one pass, and seconds after which no other begins
LIBRARIES = ("im2colnet", "plan", *(f"torch {layout}" for layout in LAYOUTS))


def peak_bytes(library: str, case: Case, threads: int = 1) -> int:
    """Return the peak of ``library``, one of ``LIBRARIES``, in this process, which must be a fresh one."""
    start_host_backend()
    images, labels = case.data()
    ic.set_num_threads(threads)
    if library == "plan":
        plan = part_of_library("im2colnet.reports.memory:plan", "im2colnet.report:plan")
        planned = plan(case.make(), case.shape, case.batch, ic.SGD(lr=0.01, momentum=0.9), threads)
        total: int = planned["training"]["total"]
        return total
    # a step of the smallest network first: both libraries import more when they first train
    least = CASES["notebook-b64"]._replace(batch=1)
    if library == "im2colnet":
        in_child(first_steps, case)  # kernels that have to be compiled are, once for this machine
        least.trainer().step(*least.data())
        return peak(lambda: case.trainer().step, images, labels)
    torch, layout = import_torch(), library.partition(" ")[2]
    torch.set_num_threads(threads)
    Peer(least, layout).step(*map(torch.from_numpy, least.data()))
    return peak(lambda: Peer(case, layout).step, as_tensor(images, layout), torch.from_numpy(labels))


def first_steps(case: Case) -> None:
    """Take the steps that need every kernel."""
    step = case.trainer().step
    for _ in range(FIRST_STEPS):
        step(*case.data())


def peak(make: Callable[[], Callable[[Any, Any], float]], *batch: Any) -> int:
    """Return how much more memory than now the first steps take at their peak, in whole pages.

    Raises
    ------
    NotHere
        Where the system does not tell, or the peak so far, that of the imports, cannot be forgotten: not on Linux.
    """
    gc.collect()
    try:
        before = status()
        with open("/proc/self/clear_refs", "w") as file:
            file.write("5")
        step = make()
        for _ in range(FIRST_STEPS + STEPS):  # the first without the processes that share the work
            step(*batch)
        after = status()
        # pages of libraries that are read when their code first runs belong to the imports
        taken = after["VmHWM"] - before["VmRSS"] - (after["RssFile"] - before["RssFile"])
        taken += sum(map(private_bytes, worker_processes()))
    except (OSError, KeyError) as error:
        raise NotHere(f"the peak of memory is not known on this system: {error!r}") from error
    return max(taken, mmap.PAGESIZE)  # what is smaller fits into pages that were there already


def private_bytes(pid: int) -> int:
    """Return how much memory a process has for itself, beside what it shares with the one it was forked from."""
    with open(f"/proc/{pid}/smaps_rollup") as file:
        return sum(int(line.split()[1]) * 1024 for line in file if line.startswith("Private"))


def status() -> dict[str, int]:
    """Return what Linux says of this process's memory, in bytes."""
    with open("/proc/self/status") as file:
        return {line.split(":")[0]: int(line.split()[1]) * 1024 for line in file if line.endswith(" kB\n")}


def training(case: Case, threads: int) -> Comparison:
    """Compare the peaks of training."""
    return Comparison(partial(peaks, case, threads), summary)


def peaks(case: Case, threads: int) -> Row:
    """Return peaks of each library, each in a process of its own: PyTorch's vary, so as many as there is time for."""
    found: Row = {}
    for library in LIBRARIES:
        found[library], began = [], perf_counter()
        most = MOST if library.startswith("torch") else 1
        try:
            while not found[library] or (len(found[library]) < most and perf_counter() - began < PATIENCE):
                found[library].append(in_child(peak_bytes, library, case, threads))
        except NotHere as reason:
            found["skipped"] = str(reason)
            del found[library]
    return found


def summary(found: list[Row]) -> Row:
    """Return the medians, and ours / the lesser of PyTorch's; of too little the ratio says nothing."""
    row = found[0] | {key: int(median(chain(*(one[key] for one in found)))) for key in LIBRARIES if key in found[0]}
    theirs = [row[key] for key in LIBRARIES if key.startswith("torch") and key in row]
    if theirs and "im2colnet" in row and min(theirs) > SMALL:
        row["ratio"] = row["im2colnet"] / min(theirs)
    return row


class Step:
    """Peak of the first training steps on one thread; the notebook's network is smaller than a page or two."""

    params = ([name for name in CASES if not name.startswith(("notebook", "resnet18"))], LIBRARIES)
    param_names = ("net", "library")
    unit = "bytes"
    version = "2"
    timeout = 300

    def track_peak(self, net: str, library: str) -> int:
        return peak_bytes(library, CASES[net])
