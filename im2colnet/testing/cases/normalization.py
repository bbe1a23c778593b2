"""Cases of normalisation."""

from __future__ import annotations

from im2colnet.host import np
from im2colnet.layers import BatchNorm2d
from im2colnet.testing import oracles
from im2colnet.testing.cases.base import LayerCase, State
from im2colnet.types import Array


def statistics(layer: BatchNorm2d, state: State) -> tuple[Array, Array, Array]:
    """Running mean and variance, and the weight."""
    arrays = state.arrays
    return arrays["running_mean"], arrays["running_var"], arrays.get("weight", np.ones(layer.num_features))


def forward(layer: BatchNorm2d, state: State, x: Array) -> Array:
    """The normalised batch."""
    bias = state.arrays.get("bias", np.zeros(layer.num_features))
    return oracles.batch_norm(x, *statistics(layer, state), bias, state.training, eps=layer.eps)[0]


def backward(layer: BatchNorm2d, state: State, dy: Array, x: Array) -> tuple[tuple[Array, ...], dict[str, Array]]:
    """Its gradients."""
    dx, dw, db = oracles.batch_norm_grad(x, dy, *statistics(layer, state), state.training, layer.eps)
    return (dx,), {"weight": dw, "bias": db}


IMAGES = (4, 6, 5)
LAYERS = [
    LayerCase(
        BatchNorm2d,
        forward,
        backward,
        examples=(
            (BatchNorm2d(4), IMAGES),
            (BatchNorm2d(4, affine=False), IMAGES),
            (BatchNorm2d(4, eps=0.1, momentum=0.3), IMAGES),
        ),
    )
]
