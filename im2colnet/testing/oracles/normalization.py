"""Normalization, a channel or a set of numbers at a time."""

from __future__ import annotations

from collections.abc import Iterator
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

    The batch is normalized by its biased variance; the running variance takes the unbiased one.
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


def _sets(x: Any, axes: int, groups: int = 0) -> Iterator[Any]:
    """Indices of the sets of numbers that are normalized by themselves: groups of channels, or the last axes."""
    for n in range(len(x)):
        if groups:
            size = x.shape[1] // groups
            yield from ((n, slice(g * size, (g + 1) * size)) for g in range(groups))
        else:
            yield from ((n, *index) for index in np.ndindex(x.shape[1 : x.ndim - axes]))


def _normalize(x: Any, sets: Any, weight: Any, bias: Any, eps: float, centred: bool = True) -> Any:
    y = np.zeros(x.shape)
    for where in sets:
        mean = x[where].mean() if centred else 0.0
        y[where] = (x[where] - mean) / np.sqrt(np.mean((x[where] - mean) ** 2) + eps)
    return y * weight + bias


def _normalize_grad(x: Any, dy: Any, sets: Any, weight: Any, eps: float, centred: bool = True) -> Any:
    """Gradients of x, and of weight and bias for each number, before they are summed."""
    dx, normed = np.zeros(x.shape), np.zeros(x.shape)
    for where in sets:
        m = x[where].size
        mean = x[where].mean() if centred else 0.0
        centre = x[where] - mean
        std = np.sqrt(np.mean(centre**2) + eps)
        g = (dy * weight)[where]
        normed[where] = centre / std
        dcentre = g / std - centre * np.sum(g * centre) / (m * std**3)
        dx[where] = dcentre - (dcentre.mean() if centred else 0.0)
    return dx, dy * normed, dy


def _per_channel(values: Any, default: float, x: Any) -> Any:
    """A number for each channel, broadcast over x (N, C, ...)."""
    values = np.full(x.shape[1], default) if values is None else values
    return np.broadcast_to(values.reshape(-1, *[1] * (x.ndim - 2)), x.shape)


def group_norm(x: Any, num_groups: int, weight: Any = None, bias: Any = None, eps: float = 1e-5) -> Any:
    """Groups of channels of each sample of x (N, C, ...), weight and bias (C,)."""
    x, weight, bias = floats(x, weight, bias)
    weight, bias = _per_channel(weight, 1.0, x), _per_channel(bias, 0.0, x)
    return _normalize(x, _sets(x, 0, num_groups), weight, bias, eps)


def group_norm_grad(x: Any, dy: Any, num_groups: int, weight: Any = None, eps: float = 1e-5) -> Any:
    """Gradients with respect to x, weight and bias."""
    x, dy, weight = floats(x, dy, weight)
    dx, *of_affine = _normalize_grad(x, dy, _sets(x, 0, num_groups), _per_channel(weight, 1.0, x), eps)
    axes = (0, *range(2, x.ndim))
    return dx, *(each.sum(axes) for each in of_affine)


def instance_norm(x: Any, weight: Any = None, bias: Any = None, eps: float = 1e-5) -> Any:
    """Each channel of each sample of x (N, C, ...) by itself."""
    return group_norm(x, np.shape(x)[1], weight, bias, eps)


def instance_norm_running(x: Any, running_mean: Any, running_var: Any, momentum: float = 0.1) -> Any:
    """Return the new running mean and variance of x (N, C, ...), an image after the other.

    They take the mean over the images of their means, and of their unbiased variances.
    """
    (x,) = floats(x)
    running_mean, running_var = np.array(running_mean, np.float64), np.array(running_var, np.float64)  # copies
    for c in range(x.shape[1]):
        mean = np.mean([image[c].mean() for image in x])
        var = np.mean([image[c].var(ddof=1) for image in x])
        running_mean[c] = (1 - momentum) * running_mean[c] + momentum * mean
        running_var[c] = (1 - momentum) * running_var[c] + momentum * var
    return running_mean, running_var


def instance_norm_grad(x: Any, dy: Any, weight: Any = None, eps: float = 1e-5) -> Any:
    """Gradients with respect to x, weight and bias."""
    return group_norm_grad(x, dy, np.shape(x)[1], weight, eps)


def layer_norm(x: Any, normalized_shape: Any, weight: Any = None, bias: Any = None, eps: float = 1e-5) -> Any:
    """The last axes of x, whose sizes are ``normalized_shape``, weight and bias of that shape."""
    x, weight, bias = floats(x, weight, bias)
    weight, bias = 1.0 if weight is None else weight, 0.0 if bias is None else bias
    return _normalize(x, _sets(x, len(normalized_shape)), weight, bias, eps)


def layer_norm_grad(x: Any, dy: Any, normalized_shape: Any, weight: Any = None, eps: float = 1e-5) -> Any:
    """Gradients with respect to x, weight and bias."""
    x, dy, weight = floats(x, dy, weight)
    axes = len(normalized_shape)
    dx, *of_affine = _normalize_grad(x, dy, _sets(x, axes), 1.0 if weight is None else weight, eps)
    return dx, *(each.sum(tuple(range(x.ndim - axes))) for each in of_affine)


def rms_norm(x: Any, normalized_shape: Any, weight: Any = None, eps: float = 2.0**-52) -> Any:
    """The last axes of x, divided by their root mean square."""
    x, weight = floats(x, weight)
    return _normalize(x, _sets(x, len(normalized_shape)), 1.0 if weight is None else weight, 0.0, eps, centred=False)


def rms_norm_grad(x: Any, dy: Any, normalized_shape: Any, weight: Any = None, eps: float = 2.0**-52) -> Any:
    """Gradients with respect to x and weight."""
    x, dy, weight = floats(x, dy, weight)
    axes = len(normalized_shape)
    weight = 1.0 if weight is None else weight
    dx, dweight, _ = _normalize_grad(x, dy, _sets(x, axes), weight, eps, centred=False)
    return dx, dweight.sum(tuple(range(x.ndim - axes)))


def _base(x: Any, c: int, size: int, alpha: float, k: float) -> Any:
    """Return the base of local response norm's divisor of channel c, and the channels that it sums."""
    near = range(max(0, c - size // 2), min(x.shape[1], c + (size - 1) // 2 + 1))
    return k + alpha / size * sum(x[:, other] ** 2 for other in near), near


def local_response_norm(x: Any, size: int, alpha: float = 1e-4, beta: float = 0.75, k: float = 1.0) -> Any:
    """Each number of x (N, C, H, W), divided by a power of the numbers at its place in the nearest channels."""
    (x,) = floats(x)
    y = np.zeros(x.shape)
    for c in range(x.shape[1]):
        y[:, c] = x[:, c] / _base(x, c, size, alpha, k)[0] ** beta
    return y


def local_response_norm_grad(
    x: Any, dy: Any, size: int, alpha: float = 1e-4, beta: float = 0.75, k: float = 1.0
) -> Any:
    """Gradient with respect to x: each output gives to all that it was made of."""
    x, dy = floats(x, dy)
    dx = np.zeros(x.shape)
    for c in range(x.shape[1]):
        base, near = _base(x, c, size, alpha, k)
        dx[:, c] += dy[:, c] / base**beta
        for other in near:
            dx[:, other] -= dy[:, c] * x[:, c] * beta * base ** (-beta - 1) * alpha / size * 2 * x[:, other]
    return dx
