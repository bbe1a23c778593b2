"""The memory that training and inference take."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

from im2colnet.backend.registry import get_backend
from im2colnet.network import Network
from im2colnet.optim import Optimizer
from im2colnet.parallel import get_num_threads
from im2colnet.text import amount, count, shape_text, table
from im2colnet.types import ITEM_BYTES

PURPOSES = "parameters", "copy of the parameters", "optimizer", "activations", "gradients", "sums"  #: rows of the table


def plan(
    net: Network,
    input_shape: Sequence[int],
    batch: int,
    optimizer: Optimizer,
    threads: int | None = None,
    shard: int | None = None,
) -> dict[str, Any]:
    """Return the exact memory of training and of inference, in bytes, without running anything.

    Parameters
    ----------
    net : Network
    input_shape : (C, H, W) or (features,)
    batch : int
    optimizer : Optimizer
    threads : int, optional
        The number of workers; by default :func:`~im2colnet.get_num_threads`.
    shard : int, optional
        The shard size, in samples; by default the same as in training.

    Returns
    -------
    dict
        ``training`` and ``inference``: bytes by purpose, and their ``total``. It counts every array that the library
        holds at the peak, but not the images and the Python interpreter. ``algorithms``: for each convolution, by the
        layer's name, the algorithm for a shard in training and in inference, and the reason for the choice.
        ``flops_forward`` and ``flops_step``: the FLOPs of a forward pass, and approximately of a training step.
    """
    threads = threads or get_num_threads()
    backend, dtype = (net.backend, net.dtype) if net.initialized else (get_backend(), "float32")
    itemsize = ITEM_BYTES[dtype]
    vector = net.graph.size * itemsize
    state = itemsize * sum(prod(p.shape) for node in net.graph.nodes for p in node.layer.state().values())
    algorithms: dict[str, dict[str, Any]] = {}
    report: dict[str, Any] = {"batch": batch, "input_shape": list(input_shape), "threads": threads}
    plans = {
        name: net.plan(batch, input_shape, name == "training", threads, shard) for name in ("training", "inference")
    }
    for name, planned in plans.items():
        memory = {"parameters": vector + state}
        if name == "training":
            scratch = len(planned.assignment) * min(backend.update_chunk, net.graph.size) * itemsize
            memory["optimizer"] = len(optimizer.state_slots()) * vector + scratch
        memory |= planned.memory()
        for i, node in enumerate(planned.largest.graph.nodes):
            chosen = planned.largest.algorithm(i)
            if chosen.name:
                algorithms.setdefault(node.name, {"layer": repr(node.layer)})[name] = chosen._asdict()
        report[name] = {
            **memory,
            "total": sum(memory.values()),
            "shards": planned.sizes,
            "workers": planned.workers,
            "stages": len(planned.stages),
        }
    flops = [row["flops"] for row in net.summary_facts(input_shape, batch)["layers"]]
    trained = plans["training"].largest
    step = sum(each * (1 + trained.gradient_count(i)) for i, each in enumerate(flops))
    return report | {"flops_forward": sum(flops), "flops_step": step, "algorithms": algorithms}


def plan_text(report: dict[str, Any], width: int | None = None) -> str:
    """Return the result of :func:`plan` as a table for a terminal of ``width`` columns."""
    training, inference = report["training"], report["inference"]
    purposes = [key for key in training if key in PURPOSES]
    rows: list[tuple[str, ...]] = [("memory", "training", "inference")]
    for key in (*purposes, "total"):
        rows.append((key, *(amount(r[key], 1024) + "B" if key in r else "-" for r in (training, inference))))
    shards = training["shards"]
    head = (
        f"batch {report['batch']} of {shape_text(report['input_shape'])}: {count(len(shards), 'shard')} of"
        f" up to {count(max(shards), 'image')}, {count(training['workers'], 'worker')},"
        f" {count(training['stages'], 'stage')} in a training step,"
        f" {amount(report['flops_forward'], 1000)}FLOP forward"
    )
    text = f"{head}\n{table(rows, (1, 2), True, width)}"
    if not report["algorithms"]:
        return text
    chosen: list[tuple[str, ...]] = [("convolution", "", "training", "inference")]
    why: dict[str, str] = {}
    for name, found in report["algorithms"].items():
        kinds = found["training"], found["inference"]
        chosen.append((name, found["layer"], *(kind["name"] for kind in kinds)))
        why |= {kind["name"]: kind["why"] for kind in kinds}
    reasons = "\n".join(f"{name}: {reason}" for name, reason in why.items())
    return "\n\n".join([text, table(chosen, width=width), reasons])
