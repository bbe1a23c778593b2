"""The time of a training step, layer by layer, compared with the limits of this machine."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import is_dataclass, replace
from math import prod
from statistics import median
from typing import Any

from im2colnet.backend import Backend
from im2colnet.layout import internal_shape, user_shape
from im2colnet.losses import Loss
from im2colnet.losses.base import output_shape_for
from im2colnet.network import Network
from im2colnet.optim import Optimizer
from im2colnet.parallel import num_threads
from im2colnet.text import amount, count, table
from im2colnet.training.trainer import Trainer
from im2colnet.types import ITEM_BYTES

GEMM_SIZE = 1024  #: rows and columns of the matrices whose product measures the peak of arithmetic
COPY_BYTES = 64 << 20  #: bytes that the copy reads, and writes, which measures the bandwidth of main memory
PEAK_RUNS = 5  #: how often a peak is measured; the fastest run counts
WARM_UP = 2  #: training steps before the steps that are timed


def profile(
    net: Network,
    input_shape: Sequence[int],
    batch: int,
    optimizer: Optimizer,
    steps: int = 5,
    loss: Loss | None = None,
    shard: int | None = None,
) -> dict[str, Any]:
    """Time training steps on one core, layer by layer.

    Parameters
    ----------
    net : Network
        The network. It is not changed: a copy of it is trained on random images.
    input_shape : (C, H, W) or (features,)
    batch : int
    optimizer : Optimizer
    steps : int
        The number of steps that are timed; the results are medians.
    loss : Loss, optional
        The loss, which also chooses the labels; by default the same as for :class:`~im2colnet.Trainer`.
    shard : int, optional
        The largest number of samples in a shard; by default the same as in training.

    Returns
    -------
    dict
        ``gemm`` (FLOP/s) and ``copy`` (B/s) of this machine; ``seconds`` of a step; ``loss_seconds``; ``layers``: for
        each layer its ``algorithm``, and for its ``forward`` and its ``backward`` pass the ``seconds``, the ``flops``
        and the ``bytes`` that the pass must at least read and write.
    """
    with num_threads(1):
        return _profile(deepcopy(net), input_shape, batch, optimizer, steps, loss, shard)


def _profile(
    net: Network,
    input_shape: Sequence[int],
    batch: int,
    optimizer: Optimizer,
    steps: int,
    loss: Loss | None,
    shard: int | None,
) -> dict[str, Any]:
    from im2colnet.host import np

    rng = np.random.default_rng(0)
    images = rng.standard_normal((batch, *input_shape), dtype=np.float32)
    if is_dataclass(optimizer):  # a schedule may want to know the number of steps
        optimizer = replace(optimizer, lr=1e-3)
    trainer, graph = Trainer(net, loss, optimizer, shard=shard, ranks="none"), net.graph.for_loss()
    nodes, values = graph.nodes, graph.shapes(internal_shape(input_shape, batch))
    labels = trainer.loss.random_targets(output_shape_for(trainer.loss, graph.output_shapes(images.shape)), rng)
    clocks, seconds = [], []
    for _ in range(WARM_UP + steps):
        began = time.perf_counter()
        clocks.append(trainer.clocked_step(images, labels))
        seconds.append(time.perf_counter() - began)
    clocks, seconds = clocks[WARM_UP:], seconds[WARM_UP:]

    def taken(i: int, *kinds: str) -> float:
        return median(sum(clock.get((kind, i), 0.0) for kind in kinds) for clock in clocks)

    planned = net.plan(batch, input_shape, threads=1, shard=shard)
    item, layers = ITEM_BYTES[net.dtype], []
    for i, node in enumerate(nodes):
        before, after = node.inputs[0], node.output
        x, y = values[before], values[after]
        weights = sum(prod(p.shape) for p in node.layer.parameters().values())
        moved = item * (sum(prod(values[v]) for v in node.inputs) + prod(y) + weights)
        gradients = planned.largest.gradient_count(i)
        flops = node.layer.flops(x, y)
        layers.append(
            {
                "name": node.name,
                "layer": repr(node.layer),
                "output_shape": list(user_shape(y)),
                "algorithm": planned.largest.algorithm(i).name,
                "forward": {"seconds": taken(i, "sums", "forward"), "flops": flops, "bytes": moved},
                "backward": {
                    "seconds": taken(i, "grad_sums", "backward"),
                    "flops": gradients * flops,
                    "bytes": gradients * moved,
                },
            }
        )
    gemm, copy = peaks(net.backend, net.dtype)
    return {
        "batch": batch,
        "shards": planned.sizes,
        "input_shape": list(input_shape),
        "backend": net.backend.name,
        "gemm": gemm,
        "copy": copy,
        "seconds": median(seconds),
        "loss_seconds": taken(len(nodes), "loss"),
        "layers": layers,
    }


def peaks(backend: Backend, dtype: str) -> tuple[float, float]:
    """Measure FLOP/s of a matrix product and B/s, read and written, of a copy in main memory, on one core."""
    a, b, c = (backend.empty((GEMM_SIZE, GEMM_SIZE), dtype) for _ in range(3))
    source, target = (backend.empty((COPY_BYTES,), "uint8") for _ in range(2))

    def copy() -> None:
        target[...] = source

    with backend.context():
        a[...] = b[...] = 1
        source[...] = target[...] = 0
        return 2 * GEMM_SIZE**3 / _seconds(backend, lambda: backend.matmul(a, b, out=c)), 2 * COPY_BYTES / _seconds(
            backend, copy
        )


def _seconds(backend: Backend, call: Callable[[], object]) -> float:
    best = float("inf")
    for _ in range(PEAK_RUNS):
        began = time.perf_counter()
        call()
        backend.synchronize()
        best = min(best, time.perf_counter() - began)
    return best


def profile_text(report: dict[str, Any], width: int | None = None) -> str:
    """Return the result of :func:`profile` as a table for a terminal of ``width`` columns."""
    step, gemm, copy = report["seconds"], report["gemm"], report["copy"]
    rows = [("layer", "", "algorithm", "forward", "backward", "share", "FLOP/s", "of gemm", "of copy", "bytes")]
    told = report["loss_seconds"]
    for layer in report["layers"]:
        passes = layer["forward"], layer["backward"]
        seconds, flops, moved = (sum(one[key] for one in passes) for key in ("seconds", "flops", "bytes"))
        told += seconds
        if seconds:
            rates = (
                amount(flops / seconds, 1000),
                f"{flops / seconds / gemm:.0%}",
                f"{moved / seconds / copy:.0%}",
                amount(moved, 1024) + "B",
            )
            times = [f"{one['seconds'] * 1e3:.2f} ms" for one in passes]
        else:  # the layer is computed by the one before it, or is a view
            rates, times = ("", "", "", ""), ["", ""]
        share = f"{seconds / step:.1%}" if seconds else ""
        rows.append((layer["name"], layer["layer"], layer["algorithm"], *times, share, *rates))
    for name, seconds in (("loss", report["loss_seconds"]), ("rest", max(0.0, step - told)), ("step", step)):
        rows.append(("", name, "", f"{seconds * 1e3:.2f} ms", "", f"{seconds / step:.1%}", "", "", "", ""))
    shards = report["shards"]
    head = (
        f"a training step of {count(report['batch'], 'image')} on one core, in {count(len(shards), 'shard')}"
        f" of up to {max(shards)}; this core multiplies matrices at {amount(gemm, 1000)}FLOP/s and copies at"
        f" {amount(copy, 1000)}B/s"
    )
    return f"{head}\n{table(rows, range(3, 10), True, width)}"
