"""Cases of products with a matrix."""

from __future__ import annotations

from im2colnet.layers import Linear, MatMul
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
    LayerCase(
        Linear,
        forward,
        backward,
        examples=(
            (Linear(7, 5), (7,)),
            (Linear(7, 5, bias=False), (7,)),
            (Linear(7, 5), (3, 7)),
            (Linear(7, 1), (2, 3, 7)),
            (Linear(3, 4, bias=False), (2, 1, 2, 3)),
        ),
    ),
    LayerCase(
        MatMul,
        lambda layer, state, x, other: oracles.matmul(x, other),
        lambda layer, state, dy, x, other: (oracles.matmul_grad(x, other, dy), {}),
        examples=(
            (MatMul(), (4, 3), (3, 5)),
            (MatMul(), (2, 4, 3), (2, 3, 5)),
            (MatMul(), (2, 4, 3), (1, 3, 5)),
            (MatMul(), (1, 4, 1), (2, 1, 5)),
            (MatMul(), (2, 1, 4, 3), (2, 3, 3, 1)),
        ),
    ),
]
