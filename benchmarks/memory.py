"""Memory: the peak of training steps in a fresh process, without what the imports and the batch itself take.

Beside ours and PyTorch's stands what the plan predicts: every array that the library holds, exactly, but not what
BLAS, the interpreter and the allocator take.
"""
from __future__ import annotations

import gc
import sys
from collections.abc import Callable
from typing import Any

import im2colnet as ic
from benchmarks.common import CASES, Case, import_torch, start_host_backend
from benchmarks.peer import LAYOUTS, Peer, as_tensor

STEPS = 3
LIBRARIES = ("im2colnet", "plan", *(f"torch {layout}" for layout in LAYOUTS))


def peak_bytes(library: str, case: Case, threads: int = 1) -> int:
    """Return the peak of ``library``, one of ``LIBRARIES``, in this process, which must be a fresh one."""
    start_host_backend()
    images, labels = case.data()
    ic.set_num_threads(threads)
    if library == "plan":
        from im2colnet import report

        planned = report.plan(case.make(), case.shape, case.batch, ic.SGD(lr=0.01, momentum=0.9), threads)
        total: int = planned["training"]["total"]
        return total
    if library == "im2colnet":
        return _peak(lambda: case.trainer().step, images, labels)
    torch = import_torch()
    torch.set_num_threads(threads)
    layout = library.partition(" ")[2]
    return _peak(lambda: Peer(case, layout).step, as_tensor(images, layout), torch.from_numpy(labels))


def _peak(make: Callable[[], Callable[[Any, Any], float]], *batch: Any) -> int:
    gc.collect()
    before = _status()
    if before is None:  # where there is no Linux: the peak since the process began, which includes that of the imports
        return _largest(make, *batch)
    with open("/proc/self/clear_refs", "w") as file:
        file.write("5")     # the peak so far, that of the imports, is forgotten
    _steps(make, *batch)
    after = _status() or before
    # pages of libraries that are read when their code first runs belong to the imports
    return after["VmHWM"] - before["VmRSS"] - (after["RssFile"] - before["RssFile"])


def _steps(make: Callable[[], Callable[[Any, Any], float]], *batch: Any) -> None:
    step = make()
    for _ in range(STEPS):
        step(*batch)


def _status() -> dict[str, int] | None:
    """What Linux says of this process's memory, in bytes."""
    try:
        with open("/proc/self/status") as file:
            return {line.split(":")[0]: int(line.split()[1]) * 1024 for line in file if line.endswith(" kB\n")}
    except OSError:
        return None


def _largest(make: Callable[[], Callable[[Any, Any], float]], *batch: Any) -> int:
    import resource

    unit = 1 if sys.platform == "darwin" else 1024
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    _steps(make, *batch)
    return (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * unit


class Step:
    """Peak of three training steps on one thread."""

    params = ([name for name in CASES if not name.startswith("resnet18")], LIBRARIES)
    param_names = ("net", "library")
    unit = "bytes"
    version = "1"
    timeout = 300

    def track_peak(self, net: str, library: str) -> int:
        return peak_bytes(library, CASES[net])
