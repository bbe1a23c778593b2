"""Checks of everything that a backend must do, by family, with faults that show that the checks can fail.

:func:`im2colnet.testing.check_backend` makes them; the library's own tests call the same functions with other numbers.
"""

from im2colnet.testing.conformance import (
    activation,
    arrays,
    convolution,
    layers,
    linear,
    losses,
    normalization,
    pooling,
    training,
    updates,
)
from im2colnet.testing.conformance.base import Check, Fault, Subject, Textbook, planted

FAMILIES = (
    arrays,
    convolution,
    pooling,
    activation,
    normalization,
    linear,
    losses,
    updates,
    layers,
    training,
)
CHECKS = [check for family in FAMILIES for check in family.CHECKS]
FAULTS = [fault for family in FAMILIES for fault in family.FAULTS]

__all__ = ["CHECKS", "FAULTS", "Check", "Fault", "Subject", "Textbook", "planted"]
