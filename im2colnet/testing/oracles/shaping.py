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
