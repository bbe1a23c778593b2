"""Cases of functions of each number."""

from __future__ import annotations

from collections.abc import Callable

from im2colnet.layers import Layer, LeakyReLU, ReLU, Sigmoid, SiLU, Tanh
from im2colnet.testing import oracles
from im2colnet.testing.cases.base import LayerCase
from im2colnet.types import Array

SHAPES = (4, 6, 5), (9,)


def case(kind: type[Layer], forward: Callable[..., Array], gradient: Callable[..., Array], *layers: Layer) -> LayerCase:
    """The row of a class whose arguments are those of its oracles."""
    return LayerCase(
        kind,
        lambda layer, state, x: forward(x, **layer.config()),
        lambda layer, state, dy, x: ((gradient(x, dy, **layer.config()),), {}),
        examples=tuple((layer, shape) for layer in layers or (kind(),) for shape in SHAPES),
    )


LAYERS = [
    case(ReLU, oracles.relu, oracles.relu_grad),
    case(LeakyReLU, oracles.leaky_relu, oracles.leaky_relu_grad, LeakyReLU(), LeakyReLU(0.3)),
    case(Sigmoid, oracles.sigmoid, oracles.sigmoid_grad),
    case(Tanh, oracles.tanh, oracles.tanh_grad),
    case(SiLU, oracles.silu, oracles.silu_grad),
]
