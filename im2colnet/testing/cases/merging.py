"""Cases of layers with several inputs."""

from __future__ import annotations

from im2colnet.layers import Add, Concat, Mul
from im2colnet.testing import oracles
from im2colnet.testing.cases.base import LayerCase

IMAGES, ONE_PIXEL, FEATURES = (4, 6, 5), (4, 1, 1), (7,)
LAYERS = [
    LayerCase(
        Add,
        lambda layer, state, x, other: oracles.add(x, other),
        lambda layer, state, dy, x, other: (oracles.add_grad(x, other, dy), {}),
        examples=(
            (Add(), IMAGES, IMAGES),
            (Add(), IMAGES, ONE_PIXEL),
            (Add(), (1, 6, 5), (4, 1, 5)),
            (Add(), FEATURES, FEATURES),
        ),
    ),
    LayerCase(
        Mul,
        lambda layer, state, x, other: oracles.mul(x, other),
        lambda layer, state, dy, x, other: (oracles.mul_grad(x, other, dy), {}),
        examples=((Mul(), IMAGES, IMAGES), (Mul(), ONE_PIXEL, IMAGES), (Mul(), FEATURES, FEATURES)),
    ),
    LayerCase(
        Concat,
        lambda layer, state, *xs: oracles.concat(*xs),
        lambda layer, state, dy, *xs: (oracles.concat_grad(*xs, dy=dy), {}),
        examples=((Concat(), IMAGES, (2, 6, 5)), (Concat(), FEATURES, (3,), FEATURES)),
    ),
]
