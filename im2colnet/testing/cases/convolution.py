"""Cases of convolution."""

from __future__ import annotations

from typing import Any

from im2colnet.layers import Conv2d
from im2colnet.testing import oracles
from im2colnet.testing.cases.base import LayerCase, State
from im2colnet.types import Array


def window(layer: Conv2d) -> tuple[Any, ...]:
    """The arguments that the oracles take behind the arrays."""
    return layer.stride, layer.padding, layer.dilation, layer.groups


def forward(layer: Conv2d, state: State, x: Array) -> Array:
    """The convolution."""
    return oracles.conv2d(x, state.arrays["weight"], state.arrays.get("bias"), *window(layer))


def backward(layer: Conv2d, state: State, dy: Array, x: Array) -> tuple[tuple[Array, ...], dict[str, Array]]:
    """Its gradients."""
    w = state.arrays["weight"]
    gradients = {"weight": oracles.conv2d_weight(x, w.shape, dy, *window(layer)), "bias": oracles.conv2d_bias(dy)}
    return (oracles.conv2d_input(x.shape, w, dy, *window(layer)),), gradients


IMAGES = (4, 6, 5)
LAYERS = [
    LayerCase(
        Conv2d,
        forward,
        backward,
        examples=(
            (Conv2d(4, 6, 3, padding=1), IMAGES),
            (Conv2d(4, 3, (2, 3), bias=False), IMAGES),
            (Conv2d(4, 4, (2, 3), 2, groups=2, bias=False), IMAGES),
            (Conv2d(4, 4, 3, groups=4), IMAGES),
            (Conv2d(4, 8, 3, padding="same", groups=4), IMAGES),
            (Conv2d(4, 5, 3, stride=(2, 1), padding=((2, 0), (1, 3)), dilation=(1, 2)), IMAGES),
            (Conv2d(12, 13, 3, padding=1), (12, 5, 4)),
        ),
    )
]
