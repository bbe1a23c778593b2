"""Cases of products with a matrix."""

from __future__ import annotations

from im2colnet.layers import Linear
from im2colnet.testing import oracles
from im2colnet.testing.cases.base import LayerCase, State
from im2colnet.types import Array


def forward(layer: Linear, state: State, x: Array) -> Array:
    """The product."""
    return oracles.linear(x, state.arrays["weight"], state.arrays.get("bias"))


def backward(layer: Linear, state: State, dy: Array, x: Array) -> tuple[tuple[Array, ...], dict[str, Array]]:
    """Its gradients."""
    dx, dw, db = oracles.linear_grad(x, state.arrays["weight"], dy)
    return (dx,), {"weight": dw, "bias": db}


LAYERS = [
    LayerCase(Linear, forward, backward, examples=((Linear(7, 5), (7,)), (Linear(7, 5, bias=False), (7,)))),
]
