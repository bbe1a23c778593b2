"""Batch normalisation, a channel at a time."""

from __future__ import annotations

from typing import Any

from im2colnet.host import np
from im2colnet.testing.oracles.arrays import floats


def batch_norm(
    x: Any,
    running_mean: Any,
    running_var: Any,
    weight: Any,
    bias: Any,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Any:
    """Return y and the new running mean and variance; x is (N, C, ...).

    The batch is normalised by its biased variance; the running variance takes the unbiased one.
    """
    x, weight, bias = floats(x, weight, bias)
    running_mean, running_var = np.array(running_mean, np.float64), np.array(running_var, np.float64)  # copies
    y = np.zeros(x.shape)
    for c in range(x.shape[1]):
        if training:
            mean, var, count = x[:, c].mean(), x[:, c].var(), x[:, c].size
            running_mean[c] = (1 - momentum) * running_mean[c] + momentum * mean
            running_var[c] = (1 - momentum) * running_var[c] + momentum * var * count / (count - 1)
        else:
            mean, var = running_mean[c], running_var[c]
        y[:, c] = (x[:, c] - mean) / np.sqrt(var + eps) * weight[c] + bias[c]
    return y, running_mean, running_var


def batch_norm_grad(
    x: Any, dy: Any, running_mean: Any, running_var: Any, weight: Any, training: bool = False, eps: float = 1e-5
) -> Any:
    """Gradients with respect to x, weight and bias. (The running statistics are not used in training.)"""
    x, dy, running_mean, running_var, weight = floats(x, dy, running_mean, running_var, weight)
    dx, dweight, dbias = np.zeros(x.shape), np.zeros(x.shape[1]), np.zeros(x.shape[1])
    for c in range(x.shape[1]):
        mean = x[:, c].mean() if training else running_mean[c]
        std = np.sqrt((x[:, c].var() if training else running_var[c]) + eps)
        normed = (x[:, c] - mean) / std
        dbias[c] = np.sum(dy[:, c])
        dweight[c] = np.sum(dy[:, c] * normed)
        dnormed = dy[:, c] * weight[c]
        if training:  # the mean and the variance depend on x too
            dx[:, c] = (dnormed - dnormed.mean() - normed * np.mean(dnormed * normed)) / std
        else:
            dx[:, c] = dnormed / std
    return dx, dweight, dbias
