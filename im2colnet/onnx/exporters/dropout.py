"""Dropout as ONNX, which does nothing when a network evaluates; a file keeps it for those who go on training."""

from __future__ import annotations

from collections.abc import Sequence

from im2colnet.layers import Dropout, Dropout2d, StochasticDepth
from im2colnet.onnx.exporters.base import NodeWriter, Value, exporter


@exporter(Dropout, Dropout2d, StochasticDepth)
def dropout(layer: Dropout, node: NodeWriter, inputs: Sequence[Value]) -> Value:
    """Write what gives the numbers as they are."""
    return node("Dropout", *inputs, ratio=float(layer.p), keeps=layer)
