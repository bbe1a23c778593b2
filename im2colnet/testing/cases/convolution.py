"""Cases of convolution."""

from __future__ import annotations

from typing import Any

from im2colnet.layers import Conv1d, Conv2d, ConvTranspose1d, ConvTranspose2d
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


def transposed_window(layer: ConvTranspose2d) -> tuple[Any, ...]:
    """The arguments that the oracles of a transposed convolution take behind the arrays."""
    return layer.stride, layer.padding, layer.output_padding, layer.groups, layer.dilation


def transposed_forward(layer: ConvTranspose2d, state: State, x: Array) -> Array:
    """The transposed convolution."""
    w, b = state.arrays["weight"], state.arrays.get("bias")
    return oracles.conv_transpose2d(x, w, b, *transposed_window(layer))


def transposed_backward(
    layer: ConvTranspose2d, state: State, dy: Array, x: Array
) -> tuple[tuple[Array, ...], dict[str, Array]]:
    """Its gradients."""
    dx, dw, db = oracles.conv_transpose2d_grad(x, state.arrays["weight"], dy, *transposed_window(layer))
    return (dx,), {"weight": dw, "bias": db}


def forward_1d(layer: Conv1d, state: State, x: Array) -> Array:
    """The convolution of sequences."""
    return oracles.conv1d(x, state.arrays["weight"], state.arrays.get("bias"), *window(layer))


def backward_1d(layer: Conv1d, state: State, dy: Array, x: Array) -> tuple[tuple[Array, ...], dict[str, Array]]:
    """Its gradients."""
    dx, dw, db = oracles.conv1d_grad(x, state.arrays["weight"], dy, *window(layer))
    return (dx,), {"weight": dw, "bias": db}


def transposed_forward_1d(layer: ConvTranspose1d, state: State, x: Array) -> Array:
    """The transposed convolution of sequences."""
    w, b = state.arrays["weight"], state.arrays.get("bias")
    return oracles.conv_transpose1d(x, w, b, *transposed_window(layer))


def transposed_backward_1d(
    layer: ConvTranspose1d, state: State, dy: Array, x: Array
) -> tuple[tuple[Array, ...], dict[str, Array]]:
    """Its gradients."""
    dx, dw, db = oracles.conv_transpose1d_grad(x, state.arrays["weight"], dy, *transposed_window(layer))
    return (dx,), {"weight": dw, "bias": db}


IMAGES = (4, 6, 5)
SEQUENCES = (4, 9)
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
    ),
    LayerCase(
        ConvTranspose2d,
        transposed_forward,
        transposed_backward,
        examples=(
            (ConvTranspose2d(4, 3, 2, stride=2), IMAGES),
            (ConvTranspose2d(4, 6, 3, padding=1), IMAGES),
            (ConvTranspose2d(4, 6, 3, stride=2, padding=1, output_padding=1, groups=2), IMAGES),
            (ConvTranspose2d(4, 3, (2, 3), (2, 1), bias=False), IMAGES),
            (ConvTranspose2d(4, 4, 3, padding="same", groups=4), IMAGES),
            (ConvTranspose2d(4, 4, 3, 2, groups=4, output_padding=(0, 1)), IMAGES),
            (ConvTranspose2d(4, 5, 3, stride=(2, 1), padding=((2, 0), (1, 3)), dilation=(1, 2)), IMAGES),
            (ConvTranspose2d(4, 2, (2, 3), padding=1, output_padding=(2, 1), dilation=(3, 2)), IMAGES),
            (ConvTranspose2d(4, 3, 1, stride=3, output_padding=2), IMAGES),
            (ConvTranspose2d(4, 3, 2, stride=(1, 2), padding=2), IMAGES),
            (ConvTranspose2d(12, 13, 3, padding=1), (12, 5, 4)),
        ),
    ),
    LayerCase(
        Conv1d,
        forward_1d,
        backward_1d,
        examples=(
            (Conv1d(4, 6, 3, padding=1), SEQUENCES),
            (Conv1d(4, 3, (2,), bias=False), SEQUENCES),
            (Conv1d(4, 4, 3, 2, groups=2), SEQUENCES),
            (Conv1d(4, 8, 3, padding="same", groups=4), SEQUENCES),
            (Conv1d(4, 5, 3, stride=2, padding=((2, 0),), dilation=2), SEQUENCES),
            (Conv1d(12, 13, 1), (12, 5)),
        ),
    ),
    LayerCase(
        ConvTranspose1d,
        transposed_forward_1d,
        transposed_backward_1d,
        examples=(
            (ConvTranspose1d(4, 3, 2, stride=2), SEQUENCES),
            (ConvTranspose1d(4, 6, 3, stride=2, padding=1, output_padding=1, groups=2), SEQUENCES),
            (ConvTranspose1d(4, 2, 2, padding=((1, 0),), output_padding=1, dilation=3, bias=False), SEQUENCES),
        ),
    ),
]
