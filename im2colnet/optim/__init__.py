"""Optimisers and learning-rate schedules; the update rules are PyTorch's.

An optimiser works on flat vectors. Those of the library do so element by element, so that workers can share the
elements out and the result does not depend on how. ``p`` parameters, ``g`` gradient (overwritten), ``t`` the step's
number from 1.

A schedule is called with a ``step``, counted from 0 over all that the trainer has made, and the ``total`` of steps,
which is such that ``step / total`` is the progress of the training: epochs done of epochs asked for. It is a whole
number where all epochs have equally many steps, and None where no epochs are asked for (``Trainer.step`` alone).
"""

from im2colnet.optim.adam import Adam, AdamW
from im2colnet.optim.base import Optimizer
from im2colnet.optim.schedules import Constant, Cosine, Schedule
from im2colnet.optim.sgd import SGD

__all__ = ["SGD", "Adam", "AdamW", "Constant", "Cosine", "Optimizer", "Schedule"]
