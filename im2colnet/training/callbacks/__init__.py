"""Callbacks: objects whose methods a training calls on its way, for what it does beside its steps."""

from im2colnet.training.callbacks.base import Callback

__all__ = ["Callback"]
