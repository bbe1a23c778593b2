"""Arrays that live on the host whatever the backend (data sets, checkpoints, labels): the CPU backend's NumPy."""
from im2colnet_numpy.host import np

__all__ = ["np"]
