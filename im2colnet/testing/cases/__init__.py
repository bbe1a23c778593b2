"""A case for each class of layers, losses and optimizers: examples, and oracles for their results.

The library's own tests run every case on every backend. For a new class, add a case to the module of its family.

>>> from im2colnet.testing import cases
>>> [case.kind.__name__ for case in cases.LAYERS if case.examples][:3]
['Conv2d', 'ConvTranspose2d', 'Conv1d']
"""

from im2colnet.testing.cases import (
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
from im2colnet.testing.cases.base import LayerCase, LossCase, OptimizerCase, State
from im2colnet.testing.cases.losses import LOSSES
from im2colnet.testing.cases.updates import OPTIMIZERS

LAYERS = [
    *convolution.LAYERS,
    *pooling.LAYERS,
    *activation.LAYERS,
    *normalization.LAYERS,
    *linear.LAYERS,
    *resampling.LAYERS,
    *shaping.LAYERS,
    *merging.LAYERS,
    *dropout.LAYERS,
]

__all__ = ["LAYERS", "LOSSES", "OPTIMIZERS", "LayerCase", "LossCase", "OptimizerCase", "State"]
