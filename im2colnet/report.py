"""Tables about a network: its layers, and the memory that training and inference take."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

from im2colnet.backend import ITEM_BYTES
from im2colnet.layers import user_shape
from im2colnet.network import Network, internal_shape
from im2colnet.optim import Optimizer
from im2colnet.output import fold
from im2colnet.parallel import get_num_threads
from im2colnet.registry import get_backend

PURPOSES = "parameters", "copy of the parameters", "optimizer", "activations", "gradients", "sums"  # of memory


def summary(net: Network, input_shape: Sequence[int], batch: int) -> dict[str, Any]:
    """Layers with output shapes, parameters, FLOPs of a forward pass and bytes of their outputs, and the totals.

    Parameters
    ----------
    net : Network
    input_shape : (C, H, W) or (features,)
    batch : int
        Number of images that shapes, FLOPs and bytes are for.
    """
    shapes = net.graph.shapes(internal_shape(input_shape, batch))
    itemsize = ITEM_BYTES[net.dtype if net.initialized else "float32"]
    layers = []
    for node in net.graph.nodes:
        x, y = shapes[node.inputs[0]], shapes[node.output]
        layers.append(
            {
                "name": node.name,
                "layer": repr(node.layer),
                "output_shape": list(user_shape(y)),
                "parameters": sum(prod(p.shape) for p in node.layer.parameters().values()),
                "flops": node.layer.flops(x, y),
                "bytes": prod(y) * itemsize,
            }
        )
    return {
        "input_shape": [batch, *input_shape],
        "layers": layers,
        "parameters": net.graph.size,
        "flops": sum(row["flops"] for row in layers),
        "bytes": sum(row["bytes"] for row in layers),
    }


def summary_text(net: Network, input_shape: Sequence[int], batch: int = 1, width: int | None = None) -> str:
    """Return :func:`summary` as a table, for a terminal of so many columns."""
    report = summary(net, input_shape, batch)
    rows = [("layer", "", "output shape", "parameters", "FLOPs", "output")]
    rows += [
        (
            row["name"],
            row["layer"],
            _shape(row["output_shape"]),
            f"{row['parameters']:,}",
            amount(row["flops"], 1000),
            amount(row["bytes"], 1024) + "B",
        )
        for row in report["layers"]
    ]
    total = (
        "total",
        "",
        "",
        f"{report['parameters']:,}",
        amount(report["flops"], 1000),
        amount(report["bytes"], 1024) + "B",
    )
    return f"input {_shape(report['input_shape'])}\n" + table([*rows, total], (3, 4, 5), True, width)


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
        By default as many as may be used.
    shard : int, optional
        Samples in a shard; by default as in training.

    Returns
    -------
    dict
        ``training`` and ``inference``: bytes by purpose and their ``total``: every array that the library holds at
        its peak, without the images themselves and the Python interpreter. ``algorithms``: of each convolution, by the
        layer's name, the algorithm of a shard in training and in inference, and why.
    """
    threads = threads or get_num_threads()
    backend, dtype = (net.backend, net.dtype) if net.initialized else (get_backend(), "float32")
    itemsize = ITEM_BYTES[dtype]
    vector = net.graph.size * itemsize
    state = itemsize * sum(prod(p.shape) for node in net.graph.nodes for p in node.layer.state().values())
    algorithms: dict[str, dict[str, Any]] = {}
    report: dict[str, Any] = {"batch": batch, "input_shape": list(input_shape), "threads": threads}
    for name, training in (("training", True), ("inference", False)):
        planned = net.plan(batch, input_shape, training, threads, shard)
        memory = {"parameters": vector + state}
        if training:
            slots = len(optimizer.state_slots())
            memory["optimizer"] = slots * vector + len(planned.shares) * min(backend.chunk, net.graph.size) * itemsize
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
    flops = sum(row["flops"] for row in summary(net, input_shape, batch)["layers"])
    return report | {"flops_forward": flops, "algorithms": algorithms}


def plan_text(report: dict[str, Any], width: int | None = None) -> str:
    """Return :func:`plan` as a table, for a terminal of so many columns."""
    training, inference = report["training"], report["inference"]
    purposes = [key for key in training if key in PURPOSES]
    rows: list[tuple[str, ...]] = [("memory", "training", "inference")]
    for key in (*purposes, "total"):
        rows.append((key, *(amount(r[key], 1024) + "B" if key in r else "-" for r in (training, inference))))
    shards = training["shards"]
    head = (
        f"batch {report['batch']} of {_shape(report['input_shape'])}: {count(len(shards), 'shard')} of"
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


def amount(value: float, base: int) -> str:
    """Return a number with a prefix: ``amount(1536, 1024)`` is "1.5 Ki"."""
    prefixes = ("", "k", "M", "G", "T") if base == 1000 else ("", "Ki", "Mi", "Gi", "Ti")
    power = 0
    while value >= base and power < len(prefixes) - 1:
        value, power = value / base, power + 1
    return f"{value:.0f} {prefixes[power]}" if power == 0 else f"{value:.3g} {prefixes[power]}"


def count(number: int, thing: str) -> str:
    """Return so many things: ``count(1, "image")`` is "1 image", of 2,000 "2,000 images"."""
    return f"{number:,} {thing}{'s' * (number != 1)}"


def table(
    rows: Sequence[Sequence[str]], right: Sequence[int] = (), rule_before_last: bool = False, width: int | None = None
) -> str:
    """Return rows of text as aligned columns with a rule under the first.

    Columns for which a terminal of ``width`` columns has no room come on lines of their own, below the others of their
    row.
    """
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines: list[list[str]] = []  # of each row
    for row in rows:
        cells = [c.rjust(w) if i in right else c.ljust(w) for i, (c, w) in enumerate(zip(row, widths, strict=True))]
        lines.append([line.rstrip() for line in fold(cells, width).split("\n")])
    rule = ["─" * max(len(line) for row in lines for line in row)]
    lines.insert(1, rule)
    if rule_before_last:
        lines.insert(-1, rule)
    return "\n".join(line for i, row in enumerate(lines) for j, line in enumerate(row) if line or not j)


def _shape(shape: Sequence[int]) -> str:
    return "(" + ", ".join(map(str, shape)) + ("," if len(shape) == 1 else "") + ")"
