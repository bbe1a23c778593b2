"""Functions of each number, and their slopes times ``dy``."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from im2colnet.host import np
from im2colnet.testing.oracles.arrays import floats


def relu(x: Any) -> Any:
    """``max(x, 0)``."""
    (x,) = floats(x)
    return np.where(x > 0, x, 0.0)


def relu_grad(x: Any, dy: Any) -> Any:
    """``dy`` where x > 0; nothing at 0."""
    x, dy = floats(x, dy)
    return np.where(x > 0, dy, 0.0)


def leaky_relu(x: Any, negative_slope: float = 0.01) -> Any:
    """``x`` where x > 0, else ``negative_slope * x``."""
    (x,) = floats(x)
    return np.where(x > 0, x, negative_slope * x)


def leaky_relu_grad(x: Any, dy: Any, negative_slope: float = 0.01) -> Any:
    """``dy`` where x > 0, else ``negative_slope * dy``."""
    x, dy = floats(x, dy)
    return np.where(x > 0, dy, negative_slope * dy)


def sigmoid(x: Any) -> Any:
    """``1 / (1 + exp(-x))``, as ``exp(-log(1 + exp(-x)))``, which neither overflows nor cancels."""
    (x,) = floats(x)
    return np.exp(-np.logaddexp(0, -x))


def sigmoid_grad(x: Any, dy: Any) -> Any:
    """``dy * y * (1 - y)``."""
    x, dy = floats(x, dy)
    return dy * sigmoid(x) * sigmoid(-x)


def tanh(x: Any) -> Any:
    """The hyperbolic tangent."""
    (x,) = floats(x)
    return np.tanh(x)


def tanh_grad(x: Any, dy: Any) -> Any:
    """``dy / cosh(x)**2``."""
    x, dy = floats(x, dy)
    return dy * (1 - np.tanh(x) ** 2)


def silu(x: Any) -> Any:
    """``x * sigmoid(x)`` (Elfwing, Uchibe & Doya 2017, arXiv:1702.03118)."""
    (x,) = floats(x)
    return x * sigmoid(x)


def silu_grad(x: Any, dy: Any) -> Any:
    """``dy * s * (1 + x * (1 - s))`` with s = sigmoid(x)."""
    x, dy = floats(x, dy)
    return dy * sigmoid(x) * (1 + x * sigmoid(-x))


def _of_numbers(
    value: Callable[..., float], slope: Callable[..., float]
) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """Return a function of arrays and its gradient, from a function of one number and its slope."""

    def forward(x: Any, **constants: float) -> Any:
        (x,) = floats(x)
        return np.reshape([value(float(number), **constants) for number in x.ravel()], x.shape)

    def backward(x: Any, dy: Any, **constants: float) -> Any:
        x, dy = floats(x, dy)
        return dy * np.reshape([slope(float(number), **constants) for number in x.ravel()], x.shape)

    return forward, backward


def _phi(x: float) -> float:
    """The normal distribution."""
    return math.erfc(-x / math.sqrt(2)) / 2


def _density(x: float) -> float:
    return math.exp(-x * x / 2) / math.sqrt(2 * math.pi) if abs(x) < 50 else 0.0


def _sigma(x: float) -> float:
    return 1 / (1 + math.exp(-x)) if x > 0 else math.exp(x) / (1 + math.exp(x))


def _log_sigma(x: float) -> float:
    return min(x, 0.0) - math.log1p(math.exp(-abs(x)))


SELU_ALPHA, SELU_SCALE = 1.6732632423543772848170429916717, 1.0507009873554804934193349852946

elu, elu_grad = _of_numbers(
    lambda x, alpha=1.0: x if x > 0 else alpha * math.expm1(x),
    lambda x, alpha=1.0: 1.0 if x > 0 else alpha * math.exp(x),
)
selu, selu_grad = _of_numbers(
    lambda x: SELU_SCALE * (x if x > 0 else SELU_ALPHA * math.expm1(x)),
    lambda x: SELU_SCALE * (1.0 if x > 0 else SELU_ALPHA * math.exp(x)),
)
celu, celu_grad = _of_numbers(
    lambda x, alpha=1.0: x if x > 0 else alpha * math.expm1(x / alpha),
    lambda x, alpha=1.0: 1.0 if x > 0 else math.exp(x / alpha),
)
softplus, softplus_grad = _of_numbers(
    lambda x, beta=1.0, threshold=20.0: x if beta * x > threshold else -_log_sigma(-beta * x) / beta,
    lambda x, beta=1.0, threshold=20.0: 1.0 if beta * x > threshold else _sigma(beta * x),
)
softsign, softsign_grad = _of_numbers(lambda x: x / (1 + abs(x)), lambda x: 1 / (1 + abs(x)) / (1 + abs(x)))
log_sigmoid, log_sigmoid_grad = _of_numbers(_log_sigma, lambda x: _sigma(-x))
hardtanh, hardtanh_grad = _of_numbers(
    lambda x, min_val=-1.0, max_val=1.0: min(max(x, min_val), max_val),
    lambda x, min_val=-1.0, max_val=1.0: float(min_val < x < max_val),
)
relu6, relu6_grad = _of_numbers(lambda x: min(max(x, 0.0), 6.0), lambda x: float(0 < x < 6))
hardsigmoid, hardsigmoid_grad = _of_numbers(
    lambda x: min(max(x + 3, 0.0), 6.0) / 6, lambda x: 1 / 6 if -3 < x < 3 else 0.0
)
hardswish, hardswish_grad = _of_numbers(
    lambda x: x * min(max(x + 3, 0.0), 6.0) / 6, lambda x: 0.0 if x <= -3 else 1.0 if x >= 3 else x / 3 + 0.5
)
threshold, threshold_grad = _of_numbers(
    lambda x, threshold, value: x if x > threshold else value, lambda x, threshold, value: float(x > threshold)
)
gelu, gelu_grad = _of_numbers(lambda x: x * _phi(x), lambda x: _phi(x) + x * _density(x))


def _mish(x: float) -> float:
    return x * math.tanh(-_log_sigma(-x))


def _mish_slope(x: float) -> float:
    t = math.tanh(-_log_sigma(-x))
    return t + x * _sigma(x) * (1 - t * t) if x < 100 else 1.0


mish, mish_grad = _of_numbers(_mish, _mish_slope)


def _cubic(x: float) -> float:
    return 2 * math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)


gelu_tanh, gelu_tanh_grad = _of_numbers(
    lambda x: x * _sigma(_cubic(x)) if abs(x) < 20 else max(x, 0.0),
    lambda x: (
        _sigma(_cubic(x))
        + x * _sigma(_cubic(x)) * _sigma(-_cubic(x)) * 2 * math.sqrt(2 / math.pi) * (1 + 3 * 0.044715 * x * x)
        if abs(x) < 20
        else float(x > 0)
    ),
)

exp, exp_grad = _of_numbers(math.exp, math.exp)
log, log_grad = _of_numbers(math.log, lambda x: 1 / x)
sqrt, sqrt_grad = _of_numbers(math.sqrt, lambda x: 0.5 / math.sqrt(x))
absolute, absolute_grad = _of_numbers(abs, lambda x: float(x > 0) - float(x < 0))
negative, negative_grad = _of_numbers(lambda x: -x, lambda x: -1.0)
reciprocal, reciprocal_grad = _of_numbers(lambda x: 1 / x, lambda x: -1 / x / x)
square, square_grad = _of_numbers(lambda x: x * x, lambda x: 2 * x)
erf, erf_grad = _of_numbers(math.erf, lambda x: 2 * math.sqrt(2) * _density(math.sqrt(2) * x))
sin, sin_grad = _of_numbers(math.sin, math.cos)
cos, cos_grad = _of_numbers(math.cos, lambda x: -math.sin(x))


def _along(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function of arrays from one of the numbers along the axis ``dim``, a row at a time."""

    def of_arrays(*arrays: Any, dim: int) -> Any:
        moved = [np.moveaxis(array, dim, -1) for array in floats(*arrays)]
        rows = [array.reshape(-1, array.shape[-1]) for array in moved]
        found = np.array([function(*row) for row in zip(*rows, strict=True)])
        return np.moveaxis(found.reshape(*moved[0].shape[:-1], -1), -1, dim)

    return of_arrays


def _shares(row: Any) -> Any:
    powers = [math.exp(number - max(row)) for number in row]
    return np.array([power / math.fsum(powers) for power in powers])


def _logarithms(row: Any) -> Any:
    return row - max(row) - math.log(math.fsum(math.exp(number - max(row)) for number in row))


def _gated(row: Any) -> Any:
    half = len(row) // 2
    return [row[i] * _sigma(row[half + i]) for i in range(half)]


def _gated_grad(row: Any, dy: Any) -> Any:
    a, b = np.split(row, 2)
    return [d * _sigma(v) for d, v in zip(dy, b, strict=True)] + [
        d * u * _sigma(v) * _sigma(-v) for d, u, v in zip(dy, a, b, strict=True)
    ]


#: softmax along the axis ``dim``; the oracle ``softmax`` of the losses is over the classes
softmax_along = _along(_shares)
softmax_along_grad = _along(lambda x, dy: _shares(x) * (dy - math.fsum(_shares(x) * dy)))
log_softmax_along = _along(_logarithms)
log_softmax_along_grad = _along(lambda x, dy: dy - _shares(x) * math.fsum(dy))
glu = _along(_gated)
glu_grad = _along(_gated_grad)


def prelu(x: Any, weight: Any) -> Any:
    """``x`` where x > 0, else ``weight * x`` with the weight of all, or of each channel."""
    x, weight = floats(x, weight)
    y = x.copy()
    for place in np.ndindex(x.shape):
        if x[place] <= 0:
            y[place] *= weight[place[1] if len(weight) > 1 else 0]
    return y


def prelu_grad(x: Any, dy: Any, weight: Any) -> Any:
    """Gradients with respect to the input and the weight."""
    x, dy, weight = floats(x, dy, weight)
    dx, dweight = dy.copy(), np.zeros(weight.shape)
    for place in np.ndindex(x.shape):
        if x[place] <= 0:
            channel = place[1] if len(weight) > 1 else 0
            dx[place] *= weight[channel]
            dweight[channel] += dy[place] * x[place]
    return dx, dweight
