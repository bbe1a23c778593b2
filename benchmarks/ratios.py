"""Ratios of times, measured turn by turn in one process: what the machine does beside them hardly moves them.

``ratio_torch``
    ours to PyTorch eager's better layout, on the same cores, with the same weights and the same losses.
``ratio_onnxruntime``
    ours to onnxruntime, which predicts with the same file on the same cores.
``ratio_gemm``
    a convolution to the matrix products it is made of, alone: what lowering and bias cost.
``ratio_roofline``
    a convolution to the time of its arithmetic or its memory traffic, the larger, at the measured peaks of a matrix
    product and of copies in main memory; what stays in the cache can be below 1
    (Williams, Waterman, Patterson 2009, doi:10.1145/1498765.1498785).
``ratio_self``
    a training step to itself, 1 but for noise: how far the other ratios can be trusted.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import im2colnet as ic
from benchmarks import onnx_nets, versus
from benchmarks.common import (
    BATCH,
    CASES,
    SHAPES,
    Comparison,
    Convolution,
    NotHere,
    Row,
    Samples,
    Shape,
    empty,
    import_torch,
    interleave,
    kernel,
    normal,
    spread,
    start_backend,
)
from benchmarks.step_nets import NETS, THREADS, step

GEMM = 512  # rows and columns of the product that measures the peak of arithmetic
COPY_BYTES = 64 << 20  # read, and as many written: larger than a core's share of the cache


def ratio(side: str, other: str, found: list[Samples]) -> Row:
    """Compare two sides."""
    return Samples.pooled(found).ratio(side, other)


def gemm(shape: Shape) -> Comparison:
    """Compare a convolution with its matrix products alone: their columns lie ready, in the cache."""
    return Comparison(partial(gemm_samples, shape), partial(ratio, "convolution", "product"))


def gemm_samples(shape: Shape) -> Samples:
    """Time both."""
    backend, G = start_backend(), shape.groups
    conv = Convolution(backend, shape)
    OH, F, OW, N = conv.y.shape
    weight = normal(backend, (G, F // G, shape.inner), 0)
    columns = backend.xp.broadcast_to(normal(backend, (G, shape.inner, OW * N), 1), (OH, G, shape.inner, OW * N))
    out = empty(backend, (OH, G, F // G, OW * N))
    product = kernel(backend, "matmul", weight, columns, out=out)
    return interleave({"convolution": conv.forward, "product": product})


def roofline(shape: Shape) -> Comparison:
    """Compare a convolution with the larger of FLOPs / peak and bytes / bandwidth."""
    return Comparison(partial(roofline_samples, shape), partial(above_roof, shape, BATCH))


def above_roof(shape: Shape, batch: int, found: list[Samples], itemsize: int = 4) -> Row:
    """Compare the time of the convolution with what the other two say that it takes at least."""
    seconds, (flops, nbytes) = Samples.pooled(found).seconds, shape.cost(batch, itemsize)
    return spread(
        [
            t / max(flops * product / (2 * GEMM**3), nbytes * copy / (2 * COPY_BYTES))
            for t, product, copy in zip(*(seconds[side] for side in ("convolution", "product", "copy")), strict=True)
        ]
    )


def roofline_samples(shape: Shape, batch: int = BATCH, dtype: str = "float32") -> Samples:
    """Time a convolution, the product and the copy that measure the machine."""
    backend = start_backend()
    conv, xp = Convolution(backend, shape, batch, dtype), backend.xp
    a, b, c = (normal(backend, (GEMM, GEMM), seed, dtype) for seed in range(3))
    product = kernel(backend, "matmul", a, b, out=c)
    source, target = (empty(backend, (COPY_BYTES // 4,)) for _ in range(2))

    def copy() -> None:
        xp.copyto(target, source)
        backend.synchronize()

    return interleave({"convolution": conv.forward, "product": product, "copy": copy})


def itself(net: str, threads: int) -> Comparison:
    """Compare a training step with itself."""
    return Comparison(partial(itself_samples, net, threads), partial(ratio, "one", "other"))


def itself_samples(net: str, threads: int) -> Samples:
    """Time the same step under two names."""
    call = step(net, threads)
    return interleave({"one": call, "other": partial(call)})


class Ratios:
    """What they have in common."""

    unit = "ratio"
    version = "1"
    timeout = 600


class Torch(Ratios):
    """Ours / PyTorch eager's better layout, since version 2 with a malloc that keeps what is freed."""

    version = "2"

    params: tuple[list[Any], ...] = (NETS, THREADS)
    param_names = ("net", "threads")

    def track_ratio_torch_training(self, net: str, threads: int) -> float:
        return _ratio(versus.training(CASES[net], threads))

    def track_ratio_torch_inference(self, net: str, threads: int) -> float:
        return _ratio(versus.inference(CASES[net], threads))


def _ratio(comparison: Comparison) -> float:
    import_torch()  # for all the processes
    row = comparison.run()
    print(versus.cores_text(row))  # asv shows it with --show-stderr
    return float(row["ratio"])


class OnnxRuntime(Ratios):
    """Ours / onnxruntime."""

    params = (["resnet18-onnx-b1", "resnet18-onnx-b16", "mobilenet_v2-onnx-b1", "mobilenet_v2-onnx-b16"], THREADS)
    param_names = ("net", "threads")

    def track_ratio_onnxruntime(self, net: str, threads: int) -> float:
        if not hasattr(ic, "onnx"):
            raise NotHere("this commit of im2colnet reads no ONNX files")
        onnx_nets.import_onnxruntime()
        return float(onnx_nets.inference(onnx_nets.CASES[net], threads).run()["ratio"])


class Kernels(Ratios):
    """A convolution forward against what it is made of."""

    params = (list(SHAPES),)
    param_names = ("shape",)

    def track_ratio_gemm(self, shape: str) -> float:
        return float(gemm(SHAPES[shape]).run()["ratio"])

    def track_ratio_roofline(self, shape: str) -> float:
        return float(roofline(SHAPES[shape]).run()["ratio"])


class Self(Ratios):
    """A training step against itself."""

    params = (["notebook-b64", "lenet5-b64", "resnet20-b64"], THREADS)
    param_names = ("net", "threads")

    def track_ratio_self(self, net: str, threads: int) -> float:
        return float(itself(net, threads).run()["ratio"])
