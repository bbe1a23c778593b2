"""A table of a network's layers."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

from im2colnet.graph.nodes import Graph
from im2colnet.layout import internal_shape, user_shape
from im2colnet.normalization import Normalization
from im2colnet.text import amount, shape_text, table
from im2colnet.types import ITEM_BYTES

#: the columns that are numbers
RIGHT = (3, 4, 5)


def summary(graph: Graph, dtype: str, input_shape: Sequence[int], batch: int) -> dict[str, Any]:
    """Return each layer's output shape, parameters, FLOPs of a forward pass and bytes of its output, and the totals.

    Parameters
    ----------
    graph : Graph
    dtype : str
        The type of the numbers between the layers.
    input_shape : (C, H, W) or (features,)
    batch : int
        The batch size that the shapes, FLOPs and bytes are for.
    """
    shapes = graph.shapes(internal_shape(input_shape, batch))
    itemsize = ITEM_BYTES[dtype]
    layers = []
    for node in graph.nodes:
        x, y = node.input_shape(shapes), shapes[node.output]
        layers.append(
            {
                "name": node.name,
                "layer": repr(node.layer),
                "output_shape": list(user_shape(y)),
                "parameters": sum(prod(p.shape) for p in node.layer.parameters().values()),
                "frozen": sum(prod(p.shape) for key, p in node.layer.parameters().items() if key in node.frozen),
                "flops": node.layer.flops(x, y),
                "bytes": prod(y) * itemsize,
            }
        )
    return {
        "input_shape": [batch, *input_shape],
        "layers": layers,
        "parameters": graph.size,
        "frozen": sum(row["frozen"] for row in layers),
        "flops": sum(row["flops"] for row in layers),
        "bytes": sum(row["bytes"] for row in layers),
    }


def summary_text(report: dict[str, Any], width: int | None = None) -> str:
    """Return the result of :func:`summary` as a table for a terminal of ``width`` columns."""
    return f"{_title(report)}\n" + table(_rows(report), RIGHT, True, width)


def summary_html(report: dict[str, Any]) -> str:
    """Return the result of :func:`summary` as a table in HTML."""
    from im2colnet.show import html

    return html.paragraph(_title(report)) + html.table(_rows(report), RIGHT, last=True)


def _rows(report: dict[str, Any]) -> list[tuple[str, ...]]:
    rows = [("layer", "", "output shape", "parameters", "FLOPs", "output")]
    rows += [
        (
            row["name"],
            row["layer"],
            shape_text(row["output_shape"]),
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
    return [*rows, total]


def _title(report: dict[str, Any]) -> str:
    normalization = Normalization.of(report.get("normalization"))
    normalized = f", normalized by {normalization}" if normalization else ""
    frozen = f", {report['frozen']:,} of {report['parameters']:,} parameters frozen" if report.get("frozen") else ""
    scores = f"\nthe loss gets the output of {' and '.join(report['scores'])} as scores" if report.get("scores") else ""
    return f"input {shape_text(report['input_shape'])}{normalized}{frozen}{scores}"
