"""What the benchmarks share: what may be skipped, what is measured, and how two things are compared.

Environment variables:

``IM2COLNET_BACKEND``
    the backend that is measured, as everywhere.
``IM2COLNET_BENCH_REQUIRE``
    names, separated by commas, of backends, ``torch`` and ``mpi``: where one of them is missing a benchmark fails
    instead of showing ``n/a``. asv ends with status 0 when all it shows is ``n/a``.
``IM2COLNET_BENCH_QUICK``
    if set, one round of each comparison, with few images where a step takes long: enough to see that it runs, not to
    believe its figure.
"""

from __future__ import annotations

import gc
import os
import statistics
import sys
import time
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from functools import partial
from importlib import import_module
from math import ceil, prod
from multiprocessing import get_all_start_methods, get_context
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

import im2colnet as ic
from im2colnet.window import Window, make_window


def part_of_library(*places: str) -> Any:
    """Return what the library has at the first of these places, "module:name", whose module this commit of it has.

    asv measures old commits with this suite, where some things had another place. Without any of the modules it fails:
    to measure something else would be worse.
    """
    for place in places:
        module, _, name = place.partition(":")
        try:
            found = import_module(module)
        except ModuleNotFoundError as error:
            if not f"{module}.".startswith(f"{error.name}."):  # it is there, and lacks something else
                raise
            continue
        if hasattr(found, name):
            return getattr(found, name)
    raise ImportError(f"this commit of im2colnet has none of {', '.join(places)}")


if hasattr(ic, "set_workers"):
    worker_processes = part_of_library(
        "im2colnet.parallel.processes:worker_processes", "im2colnet.processes:worker_processes"
    )
    found = part_of_library("im2colnet.backend:Division", "im2colnet.run:FIRST_STEPS")
    FIRST_STEPS = found if isinstance(found, int) else found().steps_before_fork
else:  # commits whose workers were threads, from the first step on
    FIRST_STEPS = 1

    def worker_processes() -> list[int]:
        """Return the ids of the processes that share the work."""
        return []


try:
    from asv_runner.benchmarks.mark import SkipNotImplemented as NotHere
except ModuleNotFoundError:  # the comparisons need no asv

    class NotHere(NotImplementedError):
        """What is to be measured is not on this machine; asv shows ``n/a``."""


Row = dict[str, Any]  # of a table

REQUIRE = "IM2COLNET_BENCH_REQUIRE"
WARM_UP = 0.3  # seconds of calls before asv counts: the first ones make arrays and fill caches
PASSES = 5  # of a comparison, each in a process of its own, and
ROUNDS = 3  # of each process: its ratio is the median of them all
SAMPLE = 0.02  # seconds that one sample of one side takes at least
BATCH = 32  # images of the kernels' shapes: one shard


def quick() -> bool:
    """Whether a benchmark need only show that it runs."""
    return bool(os.environ.get("IM2COLNET_BENCH_QUICK"))


# What must be there -------------------------------------------------------------------------------------------------
def required() -> set[str]:
    """Return the names in ``IM2COLNET_BENCH_REQUIRE``."""
    return {name for part in os.environ.get(REQUIRE, "").split(",") if (name := part.strip())}


def start_backend() -> ic.Backend:
    """Return the selected backend.

    Raises
    ------
    NotHere
        If it does not start here.
    BackendError
        If one that is required does not start, whichever is selected.
    """
    for name in sorted(required() - {"torch", "mpi"}):
        ic.get_backend(name)
    try:
        return ic.get_backend()
    except ic.BackendError as error:
        raise NotHere(str(error)) from error


def start_host_backend() -> ic.Backend:
    """Return the selected backend if its arrays are NumPy's.

    Raises
    ------
    NotHere
        If they are not in this process's memory, or it does not start here.
    """
    backend = start_backend()
    if not backend.owns(np.empty(0)):
        raise NotHere(f"the arrays of the backend {backend.name!r} are not the host's, where PyTorch is measured")
    return backend


def import_torch() -> Any:
    """Return PyTorch, with what it imports only when it first trains, so that forked processes have it at once.

    Raises
    ------
    NotHere
        If it is not installed.
    ModuleNotFoundError
        If it is required too.
    """
    first = "torch" not in sys.modules
    try:
        import torch
    except ModuleNotFoundError as error:
        if error.name != "torch" or "torch" in required():
            raise
        raise NotHere("PyTorch is not installed: python -m pip install torch==2.13.0") from error
    if first:
        torch.optim.SGD([torch.zeros(1)], lr=0.1)
    return torch


# What is measured ---------------------------------------------------------------------------------------------------
class Case(NamedTuple):
    """A network and its batch."""

    model: str
    batch: int
    shape: tuple[int, int, int]  # of an image: channels, height, width
    classes: int = 10
    stem: str | None = None
    build: Callable[[], ic.Network] | None = None  # what makes a network that is no ready model

    def make(self) -> ic.Network:
        """Build the network, without parameters, and without chance: both sides are to do the same."""
        sizes = {"classes": self.classes, "in_channels": self.shape[0], "input_size": self.shape[1]}
        if self.build:
            net = self.build()
            net.input_shape = self.shape
        else:
            net = getattr(ic.models, self.model)(**sizes, **({"stem": self.stem} if self.stem else {}))
        for node in net.graph.nodes:
            if isinstance(node.layer, ic.Dropout):
                node.layer.p = 0.0
        return net

    def data(self, batch: int | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Return a batch of normal numbers (N, C, H, W) and its labels, of each pixel for U-Net, always the same."""
        rng, n = np.random.default_rng(0), batch or self.batch
        images = rng.standard_normal((n, *self.shape), dtype=np.float32)
        return images, rng.integers(0, self.classes, (n, *(self.shape[1:] if self.model == "unet" else ())))

    def trainer(self, dtype: str = "float32") -> ic.Trainer:
        """Return a trainer of the network with its first parameters."""
        return ic.Trainer(self.make().init(0, dtype), optimizer=ic.SGD(lr=0.01, momentum=0.9), seed=0)


CASES = {
    "notebook-b64": Case("notebook", 64, (1, 8, 8), 2),
    "lenet5-b64": Case("lenet5", 64, (1, 28, 28)),
    "lenet5-b256": Case("lenet5", 256, (1, 28, 28)),
    "vgg8-b64": Case("vgg8", 64, (3, 32, 32)),
    "resnet20-b64": Case("resnet20", 64, (3, 32, 32)),
    "mobilenet-b32": Case("mobilenet", 32, (3, 32, 32)),
    "resnet18-b16": Case("resnet18", 16, (3, 64, 64)),
}
if quick():
    CASES = {name: case if case.shape[0] == 1 else case._replace(batch=8) for name, case in CASES.items()}
#: networks that are measured where they are asked for by name
MORE_CASES = {
    "unet-b16": Case("unet", 16, (1, 64, 64), 2),
    "wide_resnet-b16": Case("wide_resnet", 16, (3, 32, 32)),
    "resnet18-large-b16": Case("resnet18", 16, (3, 64, 64), stem="large"),
    "resnet34-b16": Case("resnet34", 16, (3, 64, 64), stem="large"),
    "resnet50-b16": Case("resnet50", 16, (3, 64, 64), stem="large"),
    "vgg11-b16": Case("vgg11", 16, (3, 64, 64)),
    "vgg11_bn-b16": Case("vgg11_bn", 16, (3, 64, 64)),
    "vgg16-b16": Case("vgg16", 16, (3, 64, 64)),
    "vgg16_bn-b16": Case("vgg16_bn", 16, (3, 64, 64)),
    "mobilenet_v2-b16": Case("mobilenet_v2", 16, (3, 64, 64)),
    "mobilenet_v3_small-b16": Case("mobilenet_v3_small", 16, (3, 64, 64)),
    "squeezenet1_1-b16": Case("squeezenet1_1", 16, (3, 64, 64)),
    "shufflenet_v2_x1_0-b16": Case("shufflenet_v2_x1_0", 16, (3, 64, 64)),
    "densenet121-b16": Case("densenet121", 16, (3, 64, 64)),
    "efficientnet_b0-b16": Case("efficientnet_b0", 16, (3, 64, 64)),
}


class Shape(NamedTuple):
    """A convolution: channels, height and width, filters, kernel, stride, padding, groups."""

    C: int
    H: int
    F: int
    K: int
    stride: int = 1
    padding: int = 0
    groups: int = 1

    @property
    def window(self) -> Window:
        return make_window(self.K, self.stride, self.padding, 1)

    @property
    def inner(self) -> int:
        """Columns of the weight as the matrix product has it."""
        return self.C // self.groups * self.K**2

    def cost(self, batch: int = BATCH, itemsize: int = 4) -> tuple[int, int]:
        """FLOPs of the convolution or of either gradient, and bytes that it reads and writes."""
        y = batch * self.F * prod(self.window.output_size((self.H, self.H)))
        return 2 * self.inner * y, itemsize * (batch * self.C * self.H**2 + self.F * self.inner + y)


SHAPES = {
    "1-6-k5-28": Shape(1, 28, 6, 5, padding=2),  # LeNet-5, first and second
    "6-16-k5-14": Shape(6, 14, 16, 5),
    "16-16-k3-32": Shape(16, 32, 16, 3, padding=1),  # ResNet-20
    "32-64-k3-s2-16": Shape(32, 16, 64, 3, 2, 1),
    "64-64-k3-16": Shape(64, 16, 64, 3, padding=1),
    "128-128-k3-8": Shape(128, 8, 128, 3, padding=1),
    "128-256-k1-8": Shape(128, 8, 256, 1),
    "128-128-k3-dw-16": Shape(128, 16, 128, 3, padding=1, groups=128),
}


def kernel(backend: ic.Backend, name: str, *args: Any, shapes: Sequence[Any] = (), **out: Any) -> Callable[[], None]:
    """Return a call of a backend's kernel on fixed arrays, as a network makes it, which returns when its work is done.

    ``shapes`` are what :meth:`im2colnet.Backend.workspace` is asked for the kernel's scratch with, in commits where the
    kernel itself does not know it.
    """
    made_once = hasattr(getattr(backend, name), "prepare")
    if made_once and "relu" in out:
        out["activation"] = "relu" if out.pop("relu") else None
    if shapes and not made_once:
        out["work"] = [backend.empty(*spec) for spec in backend.workspace(name, *shapes)]
    calls: Sequence[Callable[[], Any]]
    if made_once:
        calls = getattr(backend, name).prepare(*args, **out)
    elif hasattr(backend, "prepare"):
        calls = list(backend.prepare(name, *args, **out))
    else:  # a commit of before there was that
        calls = [partial(getattr(backend, name), *args, **out)]

    def call() -> None:
        for made in calls:
            made()
        backend.synchronize()

    return call


class Convolution:
    """A convolution and its gradients as calls on planned arrays (H, C, W, N), one shard of images.

    Of 16 bits the weight's gradient is float32, as a network's is.
    """

    def __init__(self, backend: ic.Backend, shape: Shape, batch: int = BATCH, dtype: str = "float32") -> None:
        C, H, F, K, _, _, groups = shape
        self.window, size = shape.window, (H, H)
        OH, OW = self.window.output_size(size)
        shapes = (H, C, H, batch), (OH, F, OW, batch), (F, C // groups, K, K), (F,)
        self.x, self.dy, w, self.b = (normal(backend, of, seed, dtype) for seed, of in enumerate(shapes))
        self.w, self.dw = as_stored(backend, w), as_stored(backend, empty(backend, w.shape))
        self.y, self.dx = empty(backend, self.dy.shape, dtype), empty(backend, self.x.shape, dtype)
        how = self.window, groups
        shapes = self.x.shape, self.y.shape, dtype, *how
        self.forward = kernel(backend, "conv2d", self.x, self.w, self.b, *how, shapes=shapes, out=self.y)
        self.input_grad = kernel(backend, "conv2d_input_grad", self.dy, self.w, size, *how, shapes=shapes, out=self.dx)
        self.weight_grad = kernel(backend, "conv2d_weight_grad", self.x, self.dy, *how, shapes=shapes, out=self.dw)
        self.at_once = (
            kernel(backend, "conv2d_grads", self.x, self.dy, self.w, *how, shapes=shapes, dw=self.dw, dx=self.dx)
            if backend.workspace("conv2d_grads", *shapes)
            else None
        )

    def gradients(self) -> None:
        """Both gradients as a training step makes them: at once where the backend has a kernel for that."""
        if self.at_once:
            self.at_once()
        else:
            self.input_grad()
            self.weight_grad()


def normal(backend: ic.Backend, shape: Sequence[int], seed: int, dtype: str = "float32") -> Any:
    """Return normal numbers where the backend has its arrays."""
    array = backend.empty(tuple(shape), dtype)
    array[...] = backend.asarray(np.random.default_rng(seed).standard_normal(shape, dtype=np.float32))
    return array


def empty(backend: ic.Backend, shape: Sequence[int], dtype: str = "float32") -> Any:
    """Return an array whose pages have been touched."""
    array = backend.empty(tuple(shape), dtype)
    array[...] = 0
    return array


def as_stored(backend: ic.Backend, w: Any) -> Any:
    """Return a weight (F, C/G, KH, KW) in the memory order in which a network stores it."""
    order = backend.weight_order
    stored = empty(backend, [w.shape[axis] for axis in order], w.dtype.name)
    stored = stored.transpose([order.index(axis) for axis in range(4)])
    stored[...] = w
    return stored


# How two things are compared ----------------------------------------------------------------------------------------
class Samples:
    """Seconds a call of each side, round by round, and how many cores each kept busy."""

    def __init__(self, sides: Iterable[str]) -> None:
        self.seconds: dict[str, list[float]] = {side: [] for side in sides}
        self.cpu, self.wall = dict.fromkeys(sides, 0.0), dict.fromkeys(sides, 0.0)

    @classmethod
    def pooled(cls, found: Sequence[Samples]) -> Samples:
        """Return those of several processes together."""
        pool = cls(found[0].seconds)
        for samples in found:
            for side in pool.seconds:
                pool.seconds[side] += samples.seconds[side]
                pool.cpu[side] += samples.cpu[side]
                pool.wall[side] += samples.wall[side]
        return pool

    def add(self, side: str, number: int, wall: float, cpu: float) -> None:
        """Add a sample of ``number`` calls."""
        self.seconds[side].append(wall / number)
        self.wall[side] += wall
        self.cpu[side] += cpu

    def median(self, side: str) -> float:
        """Seconds a call."""
        return statistics.median(self.seconds[side])

    def cores(self, side: str) -> float:
        """Processor time of all the process's threads over the time that passed."""
        return self.cpu[side] / self.wall[side]

    def ratio(self, side: str, other: str) -> Row:
        """Return median and quartiles of the ratio of two sides' times, round by round."""
        return spread([a / b for a, b in zip(self.seconds[side], self.seconds[other], strict=True)])


def spread(ratios: Sequence[float]) -> Row:
    """Return median and quartiles."""
    low, median, high = statistics.quantiles(ratios, n=4, method="inclusive") if len(ratios) > 1 else 3 * [*ratios]
    return {"ratio": median, "low": low, "high": high}


def interleave(
    sides: Mapping[str, Callable[[], Any]],
    rounds: int = ROUNDS,
    sample: float = SAMPLE,
    before: Mapping[str, Callable[[], Any]] = MappingProxyType({}),
) -> Samples:
    """Time the sides turn by turn; every round begins with another, so that none follows itself.

    Whatever slows the machine down for longer than a round slows all sides alike and leaves their ratio: on identical
    code times differ by up to 1.8 on a busy machine, ratios measured like this by 1.04.

    Parameters
    ----------
    sides : dict of str to callable
        Each returns when its work is done.
    rounds : int
    sample : float
        Seconds that a sample takes at least; a call that is shorter is repeated, after one that is not timed.
    before : dict of str to callable
        What a side wants done before each of its samples.
    """
    if quick():
        rounds, sample = 1, 0.0
    number = {}
    for side, call in sides.items():
        before.get(side, _nothing)()
        number[side] = _calibrate(call, sample)
    samples, order = Samples(sides), list(sides)
    enabled = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        for _ in range(rounds):
            for side in order:
                call, n = sides[side], number[side]
                before.get(side, _nothing)()
                _settle()
                if n > 1:
                    call()
                cpu, wall = processor_time(), time.perf_counter()
                for _ in range(n):
                    call()
                wall, cpu = time.perf_counter() - wall, processor_time() - cpu
                samples.add(side, n, wall, cpu)
            order = order[1:] + order[:1]
    finally:
        if enabled:
            gc.enable()
    return samples


def _nothing() -> None:
    pass


def processor_time() -> float:
    """Seconds of processor time that all threads of this process have taken, and its workers on processes."""
    clocks = [(~pid << 3) | 2 for pid in worker_processes()]  # what Linux's clock_getcpuclockid returns
    return time.process_time() + sum(map(time.clock_gettime, clocks))


def _calibrate(call: Callable[[], Any], sample: float) -> int:
    """How many calls a sample needs; the first call, which makes buffers and caches, does not count."""
    call()
    began = time.perf_counter()
    call()
    return max(1, ceil(sample / max(time.perf_counter() - began, 1e-9)))


# Processes ----------------------------------------------------------------------------------------------------------
class Comparison(NamedTuple):
    """What is measured in several processes, and what all that they found says."""

    sample: Callable[[], Any]  # in each process
    summary: Callable[[list[Any]], Row]
    check: Callable[[], None] | None = None  # once, before, in a process of its own

    def measure(self, first: bool) -> Any:
        """Return what one process finds."""
        if first and self.check:
            in_child(self.check)
        return in_child(self.sample)

    def run(self) -> Row:
        """Measure in processes one after the other."""
        return self.summary([self.measure(first=i == 0) for i in range(passes())])


def passes() -> int:
    """In how many processes something is measured.

    How fast a program is and what it takes depends on where its memory happens to lie: between processes the same
    comparison varies by more than within one.
    """
    return 1 if quick() else PASSES


def in_child(function: Callable[..., Any], *arguments: Any) -> Any:
    """Call a function in a process of its own, forked from this one, and return what it returns.

    Where there is no fork, this process must do.
    """
    if "fork" not in get_all_start_methods():
        return function(*arguments)
    with warnings.catch_warnings(), ProcessPoolExecutor(1, get_context("fork")) as pool:
        # from 3.12 on Python warns that threads are lost; those of BLAS know how to start again
        warnings.filterwarnings("ignore", ".*fork", DeprecationWarning)
        return pool.submit(function, *arguments).result()


def new_process() -> ProcessPoolExecutor:
    """Return a pool of one process that has inherited nothing and holds PyTorch, if it is there, for its children.

    Whatever is forked from the same process finds its memory at the same addresses.
    """
    return ProcessPoolExecutor(1, get_context("spawn"), initializer=_prepare)


def _prepare() -> None:
    with suppress(NotHere, ModuleNotFoundError):  # each comparison tells of it
        import_torch()


def warm_up(step: Callable[[], Any]) -> None:
    """Take as many steps as it takes until the processes that share it have started."""
    for _ in range(FIRST_STEPS):
        step()


def _settle(patience: float = 0.5) -> None:
    """Wait until threads that spin after their work, as OpenMP's do, sleep: they would take the next side's core."""
    until = time.perf_counter() + patience
    while time.perf_counter() < until:
        cpu, wall = time.process_time(), time.perf_counter()
        time.sleep(0.002)
        if time.process_time() - cpu < 0.2 * (time.perf_counter() - wall):
            return


if quick() and "torch" in required():
    _prepare()  # once, for all processes that asv forks from this one
