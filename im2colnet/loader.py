"""The old place of :mod:`im2colnet.datasets.loader`."""

from im2colnet.moved import moved

__getattr__ = moved(__name__, "im2colnet.datasets.loader")
