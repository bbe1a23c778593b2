"""Checks of your own layers (are the gradients right?) and of your own backends (are the kernels right?).

>>> import im2colnet as ic
>>> ic.testing.check_layer(ic.Conv2d(3, 4, 3, padding=1), (3, 6, 6))
>>> ic.testing.check_backend("numpy", only=["matmul", "to_rows"]).certified
True
"""

from im2colnet.errors import ConformanceError, LayerError
from im2colnet.testing import cases, oracles
from im2colnet.testing.check_backend import BackendReport, check_backend, check_names, plant_faults
from im2colnet.testing.check_layer import check_layer
from im2colnet.testing.networks import differentiate, evaluate

__all__ = [
    "BackendReport",
    "ConformanceError",
    "LayerError",
    "cases",
    "check_backend",
    "check_layer",
    "check_names",
    "differentiate",
    "evaluate",
    "oracles",
    "plant_faults",
]
