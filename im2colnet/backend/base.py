"""The contract of a backend, of all families: the one name to subclass."""

from __future__ import annotations

from im2colnet.backend.convolution import Convolution
from im2colnet.backend.losses import Losses
from im2colnet.backend.normalization import Normalization
from im2colnet.backend.pooling import Pooling
from im2colnet.backend.updates import Updates


class Backend(Convolution, Pooling, Normalization, Losses, Updates):
    """The generic backend over the array module ``xp``.

    Subclasses set ``name`` and ``xp`` (a NumPy-like module with mutable arrays and ``out=`` arguments).

    Parameters
    ----------
    device
        What follows the colon in a name such as ``"cupy:1"``; backends without devices refuse it.
    """
