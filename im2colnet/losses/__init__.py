"""Loss functions: what a network learns to make small, and what is counted beside it."""

from im2colnet.losses.base import Loss
from im2colnet.losses.classification import CrossEntropyLoss
from im2colnet.losses.regression import MSELoss
from im2colnet.losses.several import SumLoss

__all__ = ["CrossEntropyLoss", "Loss", "MSELoss", "SumLoss"]
