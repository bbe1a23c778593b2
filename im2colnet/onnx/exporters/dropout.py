"""Dropout as ONNX: it does nothing in inference, but the file keeps it, so that training can continue."""

from __future__ import annotations

from collections.abc import Sequence

from im2colnet.layers import Dropout, Dropout2d, StochasticDepth
from im2colnet.onnx.exporters.base import NodeWriter, Value, exporter


@exporter(Dropout, Dropout2d, StochasticDepth)
def dropout(layer: Dropout, node: NodeWriter, inputs: Sequence[Value]) -> Value:
    """Write a Dropout node, which passes its input on unchanged in inference."""
    return node("Dropout", *inputs, ratio=float(layer.p), keeps=layer)
