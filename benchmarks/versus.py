"""The comparisons with PyTorch, each for one case.

Both sides are limited to the same cores, first by asking each library, then by the operating system where it can
(``sched_setaffinity``), and what each side really kept busy is measured and reported.
"""

from __future__ import annotations

import ctypes
import os
import platform
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

import im2colnet as ic
from benchmarks.common import (
    BATCH,
    Case,
    Comparison,
    Convolution,
    NotHere,
    Row,
    Samples,
    Shape,
    import_torch,
    interleave,
    start_host_backend,
    warm_up,
)
from benchmarks.peer import LAYOUTS, Peer, as_tensor
from im2colnet.window import Window

M_MMAP_MAX, M_TRIM_THRESHOLD = -4, -1  # of glibc's mallopt
TICK = 0.01  # seconds between two ticks of the kernel's clock, at most
TOLERANCE = 1e-4  # of losses and outputs: less says that both sides do the same work


def limit(threads: int) -> ic.Backend:
    """Limit both sides to so many cores and return our backend.

    Raises
    ------
    NotHere
        If PyTorch is missing, the backend is not on the host, or this process may use fewer cores.
    RuntimeError
        If a library did not take the limit.
    """
    torch = import_torch()  # first: it may bring a BLAS of its own, and our backend sets every BLAS to one thread
    backend, cores, blas = start_host_backend(), allowed_cores(), blas_threads()
    keep_memory()
    if threads > len(cores):
        raise NotHere(f"{threads} threads are to be compared, but this process may use {len(cores)} cores")
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, cores[:threads])
    ic.set_num_threads(threads)
    torch.set_num_threads(threads)
    taken = {"im2colnet": ic.get_num_threads() * blas, "PyTorch": torch.get_num_threads()}
    if set(taken.values()) != {threads}:
        raise RuntimeError(f"the limit of {threads} threads was not taken: {taken}")
    return backend


def keep_memory() -> None:
    """Tell glibc's malloc to keep what is freed.

    By default it returns large arrays to the system or keeps them, as they happen to lie. What it returned comes back
    as pages to be filled with zeros: the same step of PyTorch took 1.0 or 1.8 times as long, from process to process.
    """
    if platform.libc_ver()[0] == "glibc":
        mallopt = ctypes.CDLL(None).mallopt
        if not (mallopt(M_MMAP_MAX, 0) and mallopt(M_TRIM_THRESHOLD, -1)):
            raise RuntimeError("malloc did not take its settings")


def allowed_cores() -> list[int]:
    """Return the cores that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def blas_threads() -> int:
    """How many threads NumPy's BLAS uses for one call: 1 once our backend has started, which brings its own workers."""
    return max((pool["num_threads"] for pool in numpys_blas()), default=1)


def numpys_blas() -> list[dict[str, Any]]:
    """Return what threadpoolctl knows of NumPy's BLAS, or of all, where none lies in NumPy's folders.

    Numba imports SciPy, if that is installed, which has a BLAS of its own.
    """
    from threadpoolctl import threadpool_info

    found = [pool for pool in threadpool_info() if pool["user_api"] == "blas"]
    return [pool for pool in found if "numpy" in pool["filepath"]] or found


def check_cores(samples: Samples, threads: int) -> None:
    """Raise if a side used more cores than it was allowed.

    The kernel adds to the time of a thread that runs elsewhere only at each of its ticks, so that each sample can
    have a tick of each thread too many: 4 ms in samples of 20 ms seemed to be 2.4 of 2 cores.
    """
    for side, seconds in samples.seconds.items():
        if samples.cpu[side] > threads * (1.1 * samples.wall[side] + TICK * len(seconds)):
            raise RuntimeError(f"{side} kept {samples.cores(side):.2f} cores busy, allowed are {threads}")


def same(what: str, ours: Any, theirs: Any, tolerance: float = TOLERANCE) -> None:
    """Raise if the two sides do not do the same work."""
    difference = float(np.max(np.abs(np.asarray(ours) - np.asarray(theirs))))
    scale = max(1.0, float(np.max(np.abs(np.asarray(theirs)))))
    if not difference <= tolerance * scale:
        raise AssertionError(f"the two sides do not do the same: {what} differs by {difference:.2g}")


def summary(threads: int, batch: int, found: list[Samples]) -> Row:
    """Compare ours with the better of PyTorch's layouts, on so many cores."""
    samples = Samples.pooled(found)
    check_cores(samples, threads)
    return better_layout(threads, batch, samples)


def better_layout(threads: int, batch: int, samples: Samples) -> Row:
    """Compare ours with the better of PyTorch's layouts."""
    layout = min((side for side in samples.seconds if side != "im2colnet"), key=samples.median)
    return samples.ratio("im2colnet", layout) | {
        "threads": threads,
        "batch": batch,
        "rounds": len(samples.seconds["im2colnet"]),
        "seconds": samples.median("im2colnet"),
        "cores": samples.cores("im2colnet"),
        "torch_seconds": samples.median(layout),
        "torch_cores": samples.cores(layout),
        "torch_layout": layout,
    }


def training(case: Case, threads: int) -> Comparison:
    """Compare one training step: forward, loss, backward, SGD with momentum."""
    sample, check = partial(training_samples, case, threads), partial(check_training, case)
    return Comparison(sample, partial(summary, threads, case.batch), check)


def training_samples(case: Case, threads: int) -> Samples:
    """Time one training step of each side, once their first losses were found to agree."""
    limit(threads)
    trainer, (images, labels) = case.trainer(), case.data()
    state, targets = trainer.net.state_dict(), import_torch().from_numpy(labels)
    loss, theirs = trainer.step(images, labels), {}
    for layout in LAYOUTS:
        peer, inputs = Peer(case, layout, state), as_tensor(images, layout)
        same("the first loss", loss, peer.step(inputs, targets))
        theirs[layout] = partial(peer.step, inputs, targets)
    warm_up(partial(trainer.step, images, labels))
    return interleave({"im2colnet": partial(trainer.step, images, labels), **theirs})


def check_training(case: Case) -> None:
    """Raise unless gradients and updates are the same: three losses in float64, where rounding hides nothing."""
    start_host_backend()
    trainer, (images, labels) = case.trainer("float64"), case.data(4)
    images, from_numpy = images.astype("float64"), import_torch().from_numpy
    peer, inputs, targets = Peer(case, "NCHW", trainer.net.state_dict()), from_numpy(images), from_numpy(labels)
    for _ in range(3):
        same("a loss in float64", trainer.step(images, labels), peer.step(inputs, targets), tolerance=1e-9)


def inference(case: Case, threads: int) -> Comparison:
    """Compare a prediction."""
    return Comparison(partial(inference_samples, case, threads), partial(summary, threads, case.batch))


def inference_samples(case: Case, threads: int) -> Samples:
    """Time a prediction of each side, once their outputs were found to agree.

    Of one image PyTorch may use one thread too, as ours does: with two, its times of small networks vary by two.
    """
    limit(threads)
    net, images, use = case.trainer().net, case.data()[0], import_torch().set_num_threads
    outputs, theirs, before = net.predict(images), {}, {}
    for layout in LAYOUTS:
        peer, inputs = Peer(case, layout, net.state_dict()), as_tensor(images, layout)
        same("the output", outputs, peer.predict(inputs))
        for n in sorted({1, threads}) if case.batch == 1 else [threads]:
            side = layout if n == threads else f"{layout}, 1 thread"
            theirs[side], before[side] = partial(peer.predict, inputs), partial(use, n)
    warm_up(partial(net.predict, images))
    return interleave({"im2colnet": partial(net.predict, images), **theirs}, before=before)


def convolution(shape: Shape) -> Comparison:
    """Compare a convolution with both its gradients: kernels, which run on one thread."""
    return Comparison(partial(convolution_samples, shape), partial(summary, 1, BATCH))


def convolution_samples(shape: Shape) -> Samples:
    """Time a convolution and both its gradients, once each side's three results were found to agree."""
    ours = Convolution(limit(1), shape)
    torch = import_torch()

    def call() -> None:
        ours.forward()
        ours.gradients()

    call()
    theirs = {}
    x, dy = (np.ascontiguousarray(a.transpose(3, 1, 0, 2)) for a in (ours.x, ours.dy))
    b, w = torch.from_numpy(ours.b), np.ascontiguousarray(ours.w)
    for layout in LAYOUTS:
        peer = convolution_peer(shape, ours.window, *(as_tensor(a, layout) for a in (x, dy, w)), b)
        y, dx, dw = peer()
        for name, mine, other in (("y", ours.y, y), ("dx", ours.dx, dx)):
            same(name, mine.transpose(3, 1, 0, 2), other.numpy())
        same("dw", ours.dw, dw.numpy())
        theirs[layout] = peer
    return interleave({"im2colnet": call, **theirs})


def convolution_peer(shape: Shape, window: Window, x: Any, dy: Any, w: Any, b: Any) -> Callable[[], Any]:
    """Return a call of PyTorch's convolution and both its gradients, on tensors."""
    aten, pads = import_torch().ops.aten, [before for before, _ in window.padding]
    how = [*window.stride], pads, [1, 1], False, [0, 0], shape.groups

    def call() -> tuple[Any, Any, Any]:
        y = aten.convolution(x, w, b, *how)
        dx, dw, _ = aten.convolution_backward(dy, x, w, [0], *how, [True, True, False])
        return y, dx, dw

    return call


def cores_text(row: Row) -> str:
    """Say what each side really used."""
    return (
        f"{row['threads']} thread{'s' * (row['threads'] > 1)} each; cores kept busy: im2colnet {row['cores']:.2f},"
        f" PyTorch {row['torch_cores']:.2f} ({row['torch_layout']})"
    )
