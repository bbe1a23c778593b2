"""Checks of a layer of your own: is its gradient right, and does it keep to what a run relies on?

>>> import im2colnet as ic
>>> ic.testing.check_layer(ic.Conv2d(3, 4, 3, padding=1), (3, 6, 6))
"""

from im2colnet.errors import LayerError
from im2colnet.testing import cases, oracles
from im2colnet.testing.check_layer import check_layer
from im2colnet.testing.networks import differentiate, evaluate

__all__ = ["LayerError", "cases", "check_layer", "differentiate", "evaluate", "oracles"]
