"""The layers: functions with parameters.

A layer computes the shape of its output from the shape of its input, declares which arrays it needs (:class:`Needs`),
and has ``forward`` and ``backward``. It holds no array: its parameters belong to the network, everything else to the
run, and both reach it through the :class:`Context`. Shapes are the library's own: images are rows (H, C, W, N),
features (features, N).

Arguments, defaults and initialization are PyTorch's.
"""

from im2colnet.layers import (
    activation,
    base,
    convolution,
    dropout,
    linear,
    merging,
    normalization,
    pooling,
    resampling,
    shaping,
)
from im2colnet.layers.activation import *  # noqa: F403
from im2colnet.layers.base import *  # noqa: F403
from im2colnet.layers.convolution import *  # noqa: F403
from im2colnet.layers.dropout import *  # noqa: F403
from im2colnet.layers.linear import *  # noqa: F403
from im2colnet.layers.merging import *  # noqa: F403
from im2colnet.layers.normalization import *  # noqa: F403
from im2colnet.layers.pooling import *  # noqa: F403
from im2colnet.layers.resampling import *  # noqa: F403
from im2colnet.layers.shaping import *  # noqa: F403

__all__ = [
    *activation.__all__,
    *base.__all__,
    *convolution.__all__,
    *dropout.__all__,
    *linear.__all__,
    *merging.__all__,
    *normalization.__all__,
    *pooling.__all__,
    *resampling.__all__,
    *shaping.__all__,
]
