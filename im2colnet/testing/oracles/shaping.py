"""Layers that change the shape and not the numbers, a pixel at a time.

Letters: N batch, C channels, H, W height and width.
"""

from __future__ import annotations

from typing import Any

from im2colnet.host import np
from im2colnet.testing.oracles.arrays import floats


def flatten(x: Any) -> Any:
    """(N, ...) to (N, features), in row-major order."""
    (x,) = floats(x)
    return np.array([list(sample.ravel()) for sample in x])


def flatten_grad(x: Any, dy: Any) -> Any:
    """Gradient with respect to the input: each number goes back to its place."""
    x, dy = floats(x, dy)
    return np.array([list(numbers) for numbers in dy]).reshape(x.shape)


def zero_pad_shortcut(x: Any, out_channels: int, stride: int = 1) -> Any:
    """Every ``stride``-th pixel, and zeros for new channels: option A of He et al. 2015 (arXiv:1512.03385)."""
    (x,) = floats(x)
    N, C, H, W = x.shape
    y = np.zeros((N, out_channels, -(-H // stride), -(-W // stride)))
    for n, c, h, w in np.ndindex(N, C, *y.shape[2:]):
        y[n, c, h, w] = x[n, c, h * stride, w * stride]
    return y


def zero_pad_shortcut_grad(x: Any, dy: Any, stride: int = 1) -> Any:
    """Gradient with respect to the input: pixels between the strides have none."""
    x, dy = floats(x, dy)
    dx = np.zeros(x.shape)
    for n, c, h, w in np.ndindex(*x.shape[:2], *dy.shape[2:]):
        dx[n, c, h * stride, w * stride] = dy[n, c, h, w]
    return dx


def pixel_shuffle(x: Any, upscale_factor: int) -> Any:
    """(N, C·r², H, W) to (N, C, H·r, W·r) with r = upscale_factor."""
    (x,) = floats(x)
    (N, C, H, W), r = x.shape, upscale_factor
    y = np.zeros((N, C // r**2, H * r, W * r))
    for n, c, h, w in np.ndindex(y.shape):
        y[n, c, h, w] = x[n, c * r**2 + h % r * r + w % r, h // r, w // r]
    return y


def pixel_shuffle_grad(x: Any, dy: Any, upscale_factor: int) -> Any:
    """Gradient with respect to the input: each number goes back to its place."""
    x, dy = floats(x, dy)
    dx, r = np.zeros(x.shape), upscale_factor
    for n, c, h, w in np.ndindex(dy.shape):
        dx[n, c * r**2 + h % r * r + w % r, h // r, w // r] = dy[n, c, h, w]
    return dx


def channel_shuffle(x: Any, groups: int) -> Any:
    """Channels of the groups in turn: the first of each, then the second of each."""
    (x,) = floats(x)
    of_each = x.shape[1] // groups
    return np.stack([x[:, group * of_each + i] for i in range(of_each) for group in range(groups)], axis=1)


def channel_shuffle_grad(x: Any, dy: Any, groups: int) -> Any:
    """Gradient with respect to the input: channels go back to their groups."""
    x, dy = floats(x, dy)
    return np.stack([dy[:, i * groups + group] for group in range(groups) for i in range(x.shape[1] // groups)], axis=1)
