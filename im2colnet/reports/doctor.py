"""Tests whether a backend computes correctly on this machine, and how fast: run this first on a new machine."""

from __future__ import annotations

import platform
import time
from collections.abc import Callable, Iterator
from statistics import median
from typing import TYPE_CHECKING, Any

from im2colnet import models
from im2colnet.backend import FORMULAS, Backend
from im2colnet.optim import SGD
from im2colnet.parallel import get_num_threads
from im2colnet.reports import ranks
from im2colnet.reports.profile import peaks
from im2colnet.text import amount
from im2colnet.training.trainer import Trainer
from im2colnet.types import Array, accumulator
from im2colnet.version import __version__
from im2colnet.window import make_window

if TYPE_CHECKING:
    from im2colnet.parallel.ranks import Ranks

MAX_ERROR = 1e-5  #: allowed error of a kernel, as a part of its largest result: float32, with room for long sums
MAX_ERROR_TF32 = 3e-3  #: the same where the factors of products are rounded to 10 bits
WARM_UP = 3  #: training steps before the steps that are timed


def examine(backend: Backend, steps: int = 5, batch: int = 64, job: Ranks | None = None) -> dict[str, Any]:
    """Compare a backend's kernels with plain kernels in float64, and time training steps.

    Parameters
    ----------
    backend : Backend
    steps : int
        The number of training steps that are timed; ``step_seconds`` is their median.
    batch : int
        The batch size of these steps.
    job : Ranks, optional
        The ranks of a job. Each rank must call this function.

    Returns
    -------
    dict
        ``backend``; ``versions`` of the software and the hardware that compute, by name; ``unequal``: why results may
        differ in their last bits from run to run or with the number of workers, empty if they never do; ``errors``: the
        largest error of each kernel, as a part of its largest result; ``tolerance``: the largest error that is allowed;
        ``correct``: whether no error is larger; ``gemm`` (FLOP/s); ``copy`` (B/s); ``step_seconds`` of ResNet-20 with
        ``batch`` images of 3×32×32; ``ranks``: the result of :func:`im2colnet.reports.ranks.examine`, None without
        ranks. With ranks, an error is the largest error of all ranks.
    """
    found = dict(errors(backend))
    if job:
        of_all = job.comm.allgather(found)
        found = {name: max(errors[name] for errors in of_all) for name in found}
    tolerance = MAX_ERROR_TF32 if backend.tf32 else MAX_ERROR
    gemm, copy = peaks(backend, "float32")
    return {
        "backend": backend.full_name,
        "versions": {
            "im2colnet": __version__,
            "Python": platform.python_version(),
            **backend.versions(),
            **({"cores": f"{get_num_threads()}"} if backend.threads else {}),
        },
        "unequal": backend.unequal(),
        "errors": found,
        "tolerance": tolerance,
        "correct": all(error <= tolerance for error in found.values()),
        "gemm": gemm,
        "copy": copy,
        "batch": batch,
        "step_seconds": step_seconds(backend, steps, batch),
        "ranks": ranks.examine(job) if job else None,
    }


def errors(backend: Backend, dtype: str = "float32") -> Iterator[tuple[str, float]]:
    """Yield each kernel's name and its largest error, as a part of the largest exact result."""
    from im2colnet.host import np

    class Textbook(Backend):
        """The plain kernels of the base class, in float64."""

        name, xp = "textbook", np

    exact, rng = Textbook(), np.random.default_rng(0)

    def compare(name: str, call: Callable[[Backend, Callable[[Any], Array]], Array]) -> tuple[str, float]:
        expected = call(exact, lambda a: a)
        with backend.context():
            result = backend.to_numpy(call(backend, lambda a: backend.asarray(a.astype(dtype))))
        return name, float(np.max(np.abs(result - expected)) / np.max(np.abs(expected)))

    def convolution(what: str, C: int, F: int, K: int, stride: int = 1, groups: int = 1) -> Iterator[tuple[str, float]]:
        window = make_window(K, stride, K // 2)
        x, w, b = (rng.standard_normal(shape) for shape in ((12, C, 12, 9), (F, C // groups, K, K), (F,)))
        dy = rng.standard_normal(exact.conv2d(x, w, None, window, groups).shape)
        yield compare(f"convolution {what}", lambda k, to: k.conv2d(to(x), to(w), to(b), window, groups, "relu"))
        yield compare(
            f"its input's gradient, {what}", lambda k, to: k.conv2d_input_grad(to(dy), to(w), (12, 12), window, groups)
        )
        yield compare(
            f"its weight's gradient, {what}", lambda k, to: k.conv2d_weight_grad(to(x), to(dy), window, groups)
        )

    def elementwise(kind: str) -> Iterator[tuple[str, float]]:
        of = abs(x) + 1 / 16 if FORMULAS[kind].positive else x
        yield compare(f"activation {kind}", lambda k, to: k.activation(to(of), kind))
        yield compare(f"its gradient, {kind}", lambda k, to: k.activation_grad(to(of), to(x), kind))

    yield from convolution("3×3", 16, 40, 3)
    yield from convolution("5×5 with stride 2", 3, 8, 5, stride=2)
    yield from convolution("1×1", 32, 16, 1)
    yield from convolution("depthwise", 24, 24, 3, groups=24)
    yield from convolution("in groups", 8, 12, 3, groups=4)
    window, x = make_window(3, 2, 1), rng.standard_normal((13, 5, 13, 9))
    x = np.round(16 * x) / 16  # numbers of few bits, so that both see the same maxima
    y = exact.max_pool2d(x, window)
    dy = rng.standard_normal(y.shape)
    yield compare("max pooling", lambda k, to: k.max_pool2d(to(x), window))
    yield compare("its gradient", lambda k, to: k.max_pool2d_grad(to(x), to(y), to(dy), window))
    yield compare("average pooling", lambda k, to: k.avg_pool2d(to(x), window))
    yield compare("its gradient, average", lambda k, to: k.avg_pool2d_grad(to(dy), (13, 13), window))
    a, b = rng.standard_normal((70, 130)), rng.standard_normal((130, 9))
    for kind in FORMULAS:
        yield from elementwise(kind)
    yield compare("matrix product", lambda k, to: k.matmul(to(a), to(b)))
    yield compare("batch norm's sums", lambda k, to: k.batch_norm_sums(to(x), out=k.empty((2, 5), "float64")))
    sums, scale, shift = exact.batch_norm_sums(x, np.empty((2, 5))), *rng.standard_normal((2, 5))
    yield compare(
        "batch norm's scale",
        lambda k, to: k.batch_norm_statistics(k.asarray(sums), 13 * 13 * 9, 1e-5, to(scale), to(shift)).scale,
    )
    yield compare("batch norm", lambda k, to: k.channel_affine(to(x), to(scale), to(shift), activation="relu"))
    grouped, gradient = rng.standard_normal((2, 12, 4, 3, 12, 9))
    of_channels = rng.standard_normal((2, 1, 4, 3, 1, 1))

    def group_norm(k: Backend, to: Callable[[Any], Array], wanted: str) -> Array:
        (x, dy), (w, b), over = map(to, (grouped, gradient)), map(to, of_channels), (0, 2, 3)
        wide = accumulator(x.dtype.name)
        saved = {name: k.empty((1, 4, 1, 1, 9), wide) for name in ("inverse", "mean", "rest")}
        y, gradients = k.set_norm(x, over, 1e-5, w, b, **saved), {"dx": k.empty(x.shape, x.dtype.name)}
        gradients |= {name: k.empty(w.shape, wide) for name in ("dweight", "dbias")}
        k.set_norm_grads(x, dy, over, weight=w, **saved, **gradients)
        return y if wanted == "y" else gradients[wanted]

    yield compare("group norm", lambda k, to: group_norm(k, to, "y"))
    yield compare("its input's gradient, group norm", lambda k, to: group_norm(k, to, "dx"))
    yield compare("its weight's gradient, group norm", lambda k, to: group_norm(k, to, "dweight"))
    labels = rng.integers(0, 70, 9)
    logits = a[:, :9]

    def loss_gradient(k: Backend, to: Callable[[Any], Array]) -> Array:
        z = to(logits)
        k.cross_entropy(z, k.asarray(labels), 1.0, k.empty((2,), "float64"), gradient := k.empty(z.shape, z.dtype.name))
        return gradient

    yield compare("cross-entropy's gradient", loss_gradient)


def step_seconds(backend: Backend, steps: int, batch: int) -> float:
    """Return the median time of a training step of ResNet-20."""
    from im2colnet.host import np

    net, rng = models.resnet20().init(0, backend=backend), np.random.default_rng(0)
    trainer = Trainer(net, optimizer=SGD(0.01, momentum=0.9), ranks="none")
    images, labels = rng.integers(0, 256, (batch, 3, 32, 32), dtype=np.uint8), rng.integers(0, 10, batch)
    seconds = []
    for _ in range(WARM_UP + steps):
        began = time.perf_counter()
        trainer.step(images, labels)
        seconds.append(time.perf_counter() - began)
    return median(seconds[WARM_UP:])


def text(report: dict[str, Any]) -> str:
    """Return the result of :func:`examine` as lines of text."""
    found, tolerance = report["errors"], report["tolerance"]
    worst = max(found, key=found.get)
    wrong = [
        f"{name} has an error of {error:.1e} of the largest result"
        for name, error in found.items()
        if not error <= tolerance
    ]
    correct = f"yes: {len(found)} kernels agree with float64 to {found[worst]:.1e} of the largest result ({worst})"
    seconds = report["step_seconds"]
    rows = [("backend", report["backend"]), *report["versions"].items()]
    rows.append(("correct", f"NO: {'; '.join(wrong)} ({tolerance:.0e} is allowed)" if wrong else correct))
    if why := report["unequal"]:
        rows.append(("equal bits", f"NOT promised, from run to run or with the number of workers: {why}"))
    else:
        rows.append(("equal bits", "yes: results do not depend on the number of workers"))
    rows.append(
        (
            "speed",
            f"{seconds * 1e3:.3g} ms for a training step of resnet20 with {report['batch']} images"
            f" ({report['batch'] / seconds:,.0f} images/s); products {amount(report['gemm'], 1000)}FLOP/s,"
            f" copies {amount(report['copy'], 1000)}B/s",
        )
    )
    rows.extend(ranks.rows(report["ranks"]))
    if report.get("hint"):
        rows.append(("hint", report["hint"]))
    width = max(len(name) for name, _ in rows)
    return "\n".join(f"{name:{width}}  {value}" for name, value in rows)
