"""How each layer is written as ONNX: a function for each class, in the module of its family."""

from im2colnet.onnx.exporters import (
    activation,
    convolution,
    dropout,
    linear,
    merging,
    normalization,
    pooling,
    resampling,
    shaping,
)
from im2colnet.onnx.exporters.base import EXPORTERS, GraphWriter, NodeWriter, exporter_of

__all__ = [
    "EXPORTERS",
    "GraphWriter",
    "NodeWriter",
    "activation",
    "convolution",
    "dropout",
    "exporter_of",
    "linear",
    "merging",
    "normalization",
    "pooling",
    "resampling",
    "shaping",
]
