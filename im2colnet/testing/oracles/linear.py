"""The product with a matrix, a number at a time."""

from __future__ import annotations

from typing import Any

from im2colnet.host import np
from im2colnet.testing.oracles.arrays import floats


def linear(x: Any, w: Any, b: Any = None) -> Any:
    """``y[n, o] = sum over i of x[n, i] * w[o, i] + b[o]``."""
    x, w, b = floats(x, w, b)
    y = np.zeros((len(x), len(w)))
    for n, o in np.ndindex(y.shape):
        y[n, o] = sum(x[n, i] * w[o, i] for i in range(x.shape[1])) + (0.0 if b is None else b[o])
    return y


def linear_grad(x: Any, w: Any, dy: Any) -> Any:
    """Gradients with respect to x, w and b."""
    x, w, dy = floats(x, w, dy)
    dx, dw, db = np.zeros(x.shape), np.zeros(w.shape), np.zeros(len(w))
    for n, o in np.ndindex(dy.shape):
        dx[n] += dy[n, o] * w[o]
        dw[o] += dy[n, o] * x[n]
        db[o] += dy[n, o]
    return dx, dw, db
