"""The translation of PyTorch's functions, methods and modules: a function for each, in the module of its family.

Their arguments have PyTorch's names, order and defaults.
"""

from im2colnet.torch.importers import (
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
