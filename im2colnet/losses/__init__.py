"""Loss functions."""

from im2colnet.losses.classification import CrossEntropyLoss

__all__ = ["CrossEntropyLoss"]
