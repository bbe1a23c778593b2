"""Cases of functions of each number."""

from __future__ import annotations

from im2colnet.layers import ReLU
from im2colnet.testing import oracles
from im2colnet.testing.cases.base import LayerCase

IMAGES, FEATURES = (4, 6, 5), (9,)
LAYERS = [
    LayerCase(
        ReLU,
        lambda layer, state, x: oracles.relu(x),
        lambda layer, state, dy, x: ((oracles.relu_grad(x, dy),), {}),
        examples=((ReLU(), IMAGES), (ReLU(), FEATURES)),
    ),
]
