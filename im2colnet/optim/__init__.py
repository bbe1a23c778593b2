"""Optimizers and learning-rate schedules, with the update rules of PyTorch.

An optimizer works on flat vectors: ``p`` parameters, ``g`` gradient (overwritten). The library's optimizers work
element by element, so that workers can divide the elements among them, and the result does not depend on the division.
"""

from im2colnet.optim import adam, adaptive, base, schedules, sgd
from im2colnet.optim.adam import *  # noqa: F403
from im2colnet.optim.adaptive import *  # noqa: F403
from im2colnet.optim.base import *  # noqa: F403
from im2colnet.optim.groups import decay_weights_only as decay_weights_only
from im2colnet.optim.schedules import *  # noqa: F403
from im2colnet.optim.sgd import *  # noqa: F403

__all__ = [
    *adam.__all__,
    *adaptive.__all__,
    *base.__all__,
    *schedules.__all__,
    *sgd.__all__,
]
