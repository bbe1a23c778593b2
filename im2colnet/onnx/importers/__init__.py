"""How each operator is read: a function for each, in the module of its family."""

from im2colnet.onnx.importers import (
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

__all__ = [
    "activation",
    "convolution",
    "dropout",
    "linear",
    "merging",
    "normalization",
    "pooling",
    "resampling",
    "shaping",
]
