"""The old place of :mod:`im2colnet.training.trainer`."""

from im2colnet.moved import moved

__getattr__ = moved(__name__, "im2colnet.training.trainer")
