"""Cases of layers that draw random numbers in training."""

from __future__ import annotations

from im2colnet.layers import Dropout, Dropout2d, StochasticDepth
from im2colnet.testing.cases.base import LayerCase, State
from im2colnet.types import Array


def forward(layer: Dropout, state: State, x: Array) -> Array | None:
    """All numbers; None in training, where chance decides."""
    return None if state.training and layer.p else x


LAYERS = [
    LayerCase(
        Dropout,
        forward,
        lambda layer, state, dy, x: ((dy,), {}),
        examples=((Dropout(0.3), (4, 6, 5)), (Dropout(0.0), (7,))),
    ),
    LayerCase(
        Dropout2d,
        forward,
        lambda layer, state, dy, x: ((dy,), {}),
        examples=((Dropout2d(0.3), (4, 6, 5)), (Dropout2d(0.0), (4, 6, 5))),
    ),
    LayerCase(
        StochasticDepth,
        forward,
        lambda layer, state, dy, x: ((dy,), {}),
        examples=((StochasticDepth(0.3), (4, 6, 5)), (StochasticDepth(0.3, "batch"), (7,)), (StochasticDepth(0), (7,))),
    ),
]
