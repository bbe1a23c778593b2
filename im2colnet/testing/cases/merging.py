"""Cases of layers with several inputs."""

from __future__ import annotations

from im2colnet.layers import Add
from im2colnet.testing.cases.base import LayerCase

LAYERS = [
    LayerCase(
        Add,
        lambda layer, state, *xs: sum(xs[1:], xs[0]),
        lambda layer, state, dy, *xs: ((dy,) * len(xs), {}),
        examples=(),  # with one input it is no sum: networks with Residual have it
    ),
]
