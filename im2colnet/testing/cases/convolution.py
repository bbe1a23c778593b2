"""Cases of convolution."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from im2colnet.layers import Conv1d, Conv2d, ConvTranspose1d, ConvTranspose2d
from im2colnet.testing import oracles
from im2colnet.testing.cases.base import LayerCase, State
from im2colnet.types import Array

Gradients = tuple[tuple[Array, ...], dict[str, Array]]
#: the padding of images for a convolution without zero padding, and its gradient
BORDERS = {
    "reflect": (oracles.reflection_pad2d, oracles.reflection_pad2d_grad),
    "replicate": (oracles.replication_pad2d, oracles.replication_pad2d_grad),
    "circular": (oracles.circular_pad2d, oracles.circular_pad2d_grad),
}


def window(layer: Conv2d) -> tuple[Any, ...]:
    """The arguments of the oracles after the arrays."""
    return layer.stride, layer.padding, layer.dilation, layer.groups


def padded(layer: Conv2d, x: Array) -> tuple[Array, tuple[Any, ...], Callable[[Array], Array]]:
    """Padded images, the window that slides over them, and a function from their gradient to the gradient of ``x``."""
    if layer.padding_mode == "zeros":
        return x, window(layer), lambda dx: dx
    pad, pad_grad = BORDERS[layer.padding_mode]
    vertical, horizontal = oracles.padding_pairs(layer.padding, layer.kernel_size, layer.dilation, layer.stride)
    sides = (*horizontal, *vertical)
    return pad(x, sides), (layer.stride, 0, layer.dilation, layer.groups), lambda dx: pad_grad(x, dx, sides)


def forward(layer: Conv2d, state: State, x: Array) -> Array:
    """The convolution."""
    images, arguments, _ = padded(layer, x)
    return oracles.conv2d(images, state.arrays["weight"], state.arrays.get("bias"), *arguments)


def backward(layer: Conv2d, state: State, dy: Array, x: Array) -> Gradients:
    """Its gradients."""
    w, (images, arguments, unpadded) = state.arrays["weight"], padded(layer, x)
    gradients = {"weight": oracles.conv2d_weight(images, w.shape, dy, *arguments), "bias": oracles.conv2d_bias(dy)}
    return (unpadded(oracles.conv2d_input(images.shape, w, dy, *arguments)),), gradients


def transposed_window(layer: ConvTranspose2d) -> tuple[Any, ...]:
    """The arguments that the oracles of a transposed convolution take behind the arrays."""
    return layer.stride, layer.padding, layer.output_padding, layer.groups, layer.dilation


def transposed_forward(layer: ConvTranspose2d, state: State, x: Array) -> Array:
    """The transposed convolution."""
    w, b = state.arrays["weight"], state.arrays.get("bias")
    return oracles.conv_transpose2d(x, w, b, *transposed_window(layer))


def transposed_backward(layer: ConvTranspose2d, state: State, dy: Array, x: Array) -> Gradients:
    """Its gradients."""
    dx, dw, db = oracles.conv_transpose2d_grad(x, state.arrays["weight"], dy, *transposed_window(layer))
    return (dx,), {"weight": dw, "bias": db}


def padded_1d(layer: Conv1d, x: Array) -> tuple[Array, tuple[Any, ...], Callable[[Array], Array]]:
    """The same of sequences."""
    if layer.padding_mode == "zeros":
        return x, window(layer), lambda dx: dx
    (pad, pad_grad), row = BORDERS[layer.padding_mode], x[:, :, None]
    of_window = map(oracles.of_row, (layer.kernel_size, layer.dilation, layer.stride))
    vertical, horizontal = oracles.padding_pairs(oracles.padding_of_row(layer.padding), *of_window)
    sides = (*horizontal, *vertical)

    def unpadded(dx: Array) -> Array:
        return pad_grad(row, dx[:, :, None], sides)[:, :, 0]

    return pad(row, sides)[:, :, 0], (layer.stride, 0, layer.dilation, layer.groups), unpadded


def forward_1d(layer: Conv1d, state: State, x: Array) -> Array:
    """The convolution of sequences."""
    sequences, arguments, _ = padded_1d(layer, x)
    return oracles.conv1d(sequences, state.arrays["weight"], state.arrays.get("bias"), *arguments)


def backward_1d(layer: Conv1d, state: State, dy: Array, x: Array) -> Gradients:
    """Its gradients."""
    sequences, arguments, unpadded = padded_1d(layer, x)
    dx, dw, db = oracles.conv1d_grad(sequences, state.arrays["weight"], dy, *arguments)
    return (unpadded(dx),), {"weight": dw, "bias": db}


def transposed_forward_1d(layer: ConvTranspose1d, state: State, x: Array) -> Array:
    """The transposed convolution of sequences."""
    w, b = state.arrays["weight"], state.arrays.get("bias")
    return oracles.conv_transpose1d(x, w, b, *transposed_window(layer))


def transposed_backward_1d(layer: ConvTranspose1d, state: State, dy: Array, x: Array) -> Gradients:
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
            (Conv2d(4, 6, 3, padding=2, padding_mode="reflect"), IMAGES),
            (Conv2d(4, 4, (2, 3), 2, padding=((2, 0), (1, 3)), groups=4, padding_mode="replicate"), IMAGES),
            (Conv2d(4, 3, 3, padding="same", dilation=2, bias=False, padding_mode="circular"), IMAGES),
            (Conv2d(4, 3, 3, padding_mode="circular"), IMAGES),
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
            (Conv1d(4, 6, 3, padding=2, padding_mode="reflect"), SEQUENCES),
            (Conv1d(4, 4, 3, 2, padding=((2, 0),), groups=2, padding_mode="replicate"), SEQUENCES),
            (Conv1d(4, 3, 4, padding="same", dilation=2, bias=False, padding_mode="circular"), SEQUENCES),
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
