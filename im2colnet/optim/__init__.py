"""Optimisers and learning-rate schedules; the update rules are PyTorch's.

An optimiser works on flat vectors: ``p`` parameters, ``g`` gradient (overwritten). The library's optimisers work
element by element, so that workers can divide the elements among them, and the result does not depend on the division.
"""

from im2colnet.optim.adam import Adam, AdamW
from im2colnet.optim.base import Optimizer
from im2colnet.optim.schedules import Constant, Cosine, Schedule
from im2colnet.optim.sgd import SGD

#: by the names that the command line has for them: optimisers with the settings that suit most networks
OPTIMIZERS: dict[str, Optimizer] = {"sgd": SGD(0.02, momentum=0.9), "adam": Adam(), "adamw": AdamW()}

__all__ = ["OPTIMIZERS", "SGD", "Adam", "AdamW", "Constant", "Cosine", "Optimizer", "Schedule"]
