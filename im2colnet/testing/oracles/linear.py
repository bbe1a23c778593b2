"""The product with a matrix, a number at a time."""

from __future__ import annotations

from typing import Any

from im2colnet.host import np
from im2colnet.testing.oracles.arrays import floats
from im2colnet.testing.oracles.merging import summed


def linear(x: Any, w: Any, b: Any = None) -> Any:
    """``y[..., o] = sum over i of x[..., i] * w[o, i] + b[o]``."""
    x, w, b = floats(x, w, b)
    y = np.zeros((*x.shape[:-1], len(w)))
    for *n, o in np.ndindex(y.shape):
        y[*n, o] = sum(x[*n, i] * w[o, i] for i in range(x.shape[-1])) + (0.0 if b is None else b[o])
    return y


def linear_grad(x: Any, w: Any, dy: Any) -> Any:
    """Gradients with respect to x, w and b."""
    x, w, dy = floats(x, w, dy)
    dx, dw, db = np.zeros(x.shape), np.zeros(w.shape), np.zeros(len(w))
    for *n, o in np.ndindex(dy.shape):
        dx[*n] += dy[*n, o] * w[o]
        dw[o] += dy[*n, o] * x[*n]
        db[o] += dy[*n, o]
    return dx, dw, db


def matmul(x: Any, other: Any) -> Any:
    """``y[..., m, p] = sum over k of x[..., m, k] * other[..., k, p]``; axes of length 1 before these are broadcast."""
    x, other = floats(x, other)
    y = np.zeros((*np.broadcast_shapes(x.shape[:-2], other.shape[:-2]), x.shape[-2], other.shape[-1]))
    wide = (
        np.broadcast_to(x, (*y.shape[:-2], *x.shape[-2:])),
        np.broadcast_to(other, (*y.shape[:-2], *other.shape[-2:])),
    )
    for *n, m, p in np.ndindex(y.shape):
        y[*n, m, p] = sum(wide[0][*n, m, k] * wide[1][*n, k, p] for k in range(x.shape[-1]))
    return y


def matmul_grad(x: Any, other: Any, dy: Any) -> Any:
    """Gradients with respect to both, summed where an axis was broadcast."""
    x, other, dy = floats(x, other, dy)
    return (
        summed(matmul(dy, np.swapaxes(other, -1, -2)), x.shape),
        summed(matmul(np.swapaxes(x, -1, -2), dy), other.shape),
    )
