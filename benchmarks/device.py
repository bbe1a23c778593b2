"""The comparisons on a GPU: ours by CuPy, PyTorch's eager with cuDNN in benchmark mode, both with TF32 or without.

Convolutions are also compared in float16. Times are the host's, each of calls that end when the device has done its
work. Batches differ from call to call.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import cycle
from typing import Any

import numpy as np

import im2colnet as ic
from benchmarks import ratios, versus
from benchmarks.common import (
    Case,
    Comparison,
    Convolution,
    NotHere,
    Row,
    Samples,
    Shape,
    import_torch,
    interleave,
    start_backend,
)
from benchmarks.peer import LAYOUTS, Peer, as_tensor

BACKENDS = ("cupy",)
PRECISIONS = ("float32", "tf32")
OF_SHAPES = (*PRECISIONS, "float16")
DEVICE = "cuda"  # PyTorch's name of it
BATCHES = 3  # that are trained on in turn
#: of losses and results, after sums in another order, or of rounded factors
TOLERANCE = {"float32": 1e-3, "tf32": 1e-2, "float16": 1e-2}
CASES = {
    "lenet5-b256": Case("lenet5", 256, (1, 28, 28)),
    "vgg8-b256": Case("vgg8", 256, (3, 32, 32)),
    "resnet20-b256": Case("resnet20", 256, (3, 32, 32)),
    "resnet20-b1024": Case("resnet20", 1024, (3, 32, 32)),
    "mobilenet-b256": Case("mobilenet", 256, (3, 32, 32)),
    "resnet18-b128": Case("resnet18", 128, (3, 64, 64)),
}
SHAPES = {
    "16-16-k3-32": Shape(16, 32, 16, 3, padding=1),
    "64-64-k3-56": Shape(64, 56, 64, 3, padding=1),
    "128-128-k3-28": Shape(128, 28, 128, 3, padding=1),
    "256-256-k3-14": Shape(256, 14, 256, 3, padding=1),
    "512-512-k3-7": Shape(512, 7, 512, 3, padding=1),
    "256-512-k1-14": Shape(256, 14, 512, 1),
    "128-128-k3-dw-28": Shape(128, 28, 128, 3, padding=1, groups=128),
}
IMAGES = 256  # of the shapes


def selected() -> bool:
    """Whether the selected backend's arrays are a GPU's, without starting it: its processes are forked from this."""
    return os.environ.get("IM2COLNET_BACKEND", "").partition(":")[0] in BACKENDS


def start(precision: str) -> ic.Backend:
    """Return our backend, and have both sides take this precision.

    Raises
    ------
    NotHere
        If there is no GPU, or PyTorch is missing or has none.
    """
    os.environ["IM2COLNET_PRECISION"] = precision  # read when the backend starts, in this process for the first time
    torch = import_torch()
    if DEVICE == "cuda" and not torch.cuda.is_available():
        raise NotHere("PyTorch sees no GPU here")
    backend = start_backend()
    torch.backends.cudnn.benchmark = True
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = precision == "tf32"
    return backend


def stored_in(precision: str) -> str:
    """Type of the arrays of a convolution."""
    return "float32" if precision == "tf32" else precision


def finished(call: Callable[[], Any]) -> Callable[[], Any]:
    """Return the call with a wait for the device at its end."""
    torch = import_torch()

    def waits() -> Any:
        result = call()
        if DEVICE == "cuda":
            torch.cuda.synchronize()
        return result

    return waits


def in_turn(step: Callable[..., Any], batches: Sequence[Any]) -> Callable[[], Any]:
    """Return a call of ``step`` on the next batch."""
    coming = cycle(batches)
    return lambda: step(*next(coming))


def training(case: Case, precision: str) -> Comparison:
    """Compare one training step: forward, loss, backward, SGD with momentum."""
    return Comparison(partial(training_samples, case, precision), partial(summary, case.batch))


def training_samples(case: Case, precision: str) -> Samples:
    """Time one training step of each side, once their first losses were found to agree."""
    backend, from_numpy = start(precision), import_torch().from_numpy
    rng, trainer = np.random.default_rng(0), case.trainer()
    images, labels = case.data()
    batches = [(images, labels), *((rng.permutation(images), labels) for _ in range(BATCHES - 1))]
    state, theirs = trainer.net.state_dict(), {}
    ours = [(backend.asarray(x), t) for x, t in batches]
    loss = trainer.step(*ours[0])
    for layout in LAYOUTS:
        peer = Peer(case, layout, state, DEVICE)
        inputs = [(as_tensor(x, layout, DEVICE), from_numpy(t).to(DEVICE)) for x, t in batches]
        versus.same("the first loss", loss, peer.step(*inputs[0]), TOLERANCE[precision])
        theirs[layout] = in_turn(peer.step, inputs)
    return interleave({"im2colnet": in_turn(trainer.step, ours), **theirs})


def inference(case: Case, precision: str) -> Comparison:
    """Compare a prediction of images on the device, brought to the host."""
    return Comparison(partial(inference_samples, case, precision), partial(summary, case.batch))


def inference_samples(case: Case, precision: str) -> Samples:
    """Time a prediction of each side, once their outputs were found to agree."""
    backend, (images, _) = start(precision), case.data()
    net, theirs = case.trainer().net, {}
    here = backend.asarray(images)

    def predict() -> Any:
        return backend.to_numpy(net.predict(here))

    for layout in LAYOUTS:
        peer, inputs = Peer(case, layout, net.state_dict(), DEVICE), as_tensor(images, layout, DEVICE)
        versus.same("the output", predict(), peer.predict(inputs), TOLERANCE[precision])
        theirs[layout] = partial(peer.predict, inputs)
    return interleave({"im2colnet": predict, **theirs})


def convolution(shape: Shape, precision: str, batch: int = IMAGES) -> Comparison:
    """Compare a convolution with both its gradients."""
    return Comparison(partial(convolution_samples, shape, precision, batch), partial(summary, batch))


def convolution_samples(shape: Shape, precision: str, batch: int) -> Samples:
    """Time a convolution and both its gradients, once each side's results were found to agree."""
    backend = start(precision)
    ours = Convolution(backend, shape, batch, stored_in(precision))

    def call() -> None:
        ours.forward()
        ours.gradients()

    call()
    results = {"y": ours.y, "dx": ours.dx, "dw": ours.dw}
    mine = {name: backend.to_numpy(array).astype("float32") for name, array in results.items()}
    x, dy, w, b = (backend.to_numpy(array) for array in (ours.x, ours.dy, ours.w, ours.b))
    x, dy = (np.ascontiguousarray(a.transpose(3, 1, 0, 2)) for a in (x, dy))
    theirs = {}
    for layout in LAYOUTS:
        peer = versus.convolution_peer(
            shape,
            ours.window,
            *(as_tensor(a, layout, DEVICE) for a in (x, dy, w)),
            import_torch().from_numpy(b).to(DEVICE),
        )
        y, dx, dw = (tensor.float().cpu().numpy() for tensor in peer())
        for name, other in (("y", y.transpose(2, 1, 3, 0)), ("dx", dx.transpose(2, 1, 3, 0)), ("dw", dw)):
            versus.same(name, mine[name], other, TOLERANCE[precision])
        theirs[layout] = finished(peer)
    return interleave({"im2colnet": call, **theirs})


def roofline(shape: Shape, precision: str, batch: int = IMAGES) -> Comparison:
    """Compare a convolution with the larger of FLOPs / peak and bytes / bandwidth."""
    itemsize = np.dtype(stored_in(precision)).itemsize
    return Comparison(
        partial(roofline_samples, shape, precision, batch),
        partial(ratios.above_roof, shape, batch, itemsize=itemsize),
    )


def roofline_samples(shape: Shape, precision: str, batch: int) -> Samples:
    """Time a convolution, the product and the copy that measure the device."""
    start(precision)
    return ratios.roofline_samples(shape, batch, stored_in(precision))


def summary(batch: int, found: list[Samples]) -> Row:
    """Compare ours with the better of PyTorch's layouts."""
    return versus.better_layout(1, batch, Samples.pooled(found))


def pairs(names: Sequence[str]) -> Iterator[tuple[str, Case, str]]:
    """Cases of the networks that were asked for, with each precision."""
    for precision in PRECISIONS:
        for name, case in CASES.items():
            if {name, case.model} & set(names):
                yield f"{name} {precision}", case, precision
