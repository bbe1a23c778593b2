"""Layers that change the number of pixels, a pixel at a time."""

from __future__ import annotations

from typing import Any

from im2colnet.host import np
from im2colnet.testing.oracles.arrays import floats
from im2colnet.testing.oracles.windows import pair


def upsample(x: Any, scale_factor: Any = 2) -> Any:
    """Each pixel as often as ``scale_factor`` says: the nearest one."""
    (x,) = floats(x)
    (a, b), (N, C, H, W) = pair(scale_factor), x.shape
    y = np.zeros((N, C, H * a, W * b))
    for n, c, h, w in np.ndindex(y.shape):
        y[n, c, h, w] = x[n, c, h // a, w // b]
    return y


def upsample_grad(x: Any, dy: Any, scale_factor: Any = 2) -> Any:
    """Gradient with respect to the input: the sum over a pixel's copies."""
    x, dy = floats(x, dy)
    a, b = pair(scale_factor)
    dx = np.zeros(x.shape)
    for n, c, h, w in np.ndindex(dy.shape):
        dx[n, c, h // a, w // b] += dy[n, c, h, w]
    return dx
