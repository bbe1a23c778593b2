"""Cases of functions of each number."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from im2colnet.layers import (
    CELU,
    ELU,
    GELU,
    GLU,
    SELU,
    Abs,
    Cos,
    Erf,
    Exp,
    Hardsigmoid,
    Hardswish,
    Hardtanh,
    Layer,
    LeakyReLU,
    Log,
    LogSigmoid,
    LogSoftmax,
    Mish,
    Neg,
    PReLU,
    Reciprocal,
    ReLU,
    ReLU6,
    Sigmoid,
    SiLU,
    Sin,
    Softmax,
    Softplus,
    Softsign,
    Sqrt,
    Square,
    Tanh,
    Threshold,
)
from im2colnet.testing import oracles
from im2colnet.testing.cases.base import LayerCase, State, positive
from im2colnet.types import Array

SHAPES = (4, 6, 5), (9,)
HALVES = (4, 6, 2), (8,), (2, 3, 2, 4)


def prelu(layer: Layer, state: State, x: Array) -> Array:
    """PReLU with its weight."""
    return oracles.prelu(x, state.arrays["weight"])


def prelu_grad(layer: Layer, state: State, dy: Array, x: Array) -> tuple[tuple[Array, ...], dict[str, Array]]:
    """Gradients of PReLU."""
    dx, dweight = oracles.prelu_grad(x, dy, state.arrays["weight"])
    return (dx,), {"weight": dweight}


def along(kind: Callable[[int], Layer], forward: Callable[..., Array], gradient: Callable[..., Array]) -> LayerCase:
    """The row of a class whose argument is an axis: each of every shape, from the front and from behind."""
    examples = [
        (kind(dim), shape)
        for shape in HALVES
        for axis in range(1, len(shape) + 1)
        if shape[axis - 1] % 2 == 0
        for dim in (axis, axis - len(shape) - 1)
    ]
    return LayerCase(
        type(kind(1)),
        lambda layer, state, x: forward(x, **layer.config()),
        lambda layer, state, dy, x: ((gradient(x, dy, **layer.config()),), {}),
        examples=tuple(examples),
    )


def case(
    kind: type[Layer], forward: Callable[..., Array], gradient: Callable[..., Array], *layers: Layer, **others: Any
) -> LayerCase:
    """The case of a class whose oracles take the same arguments."""
    return LayerCase(
        kind,
        lambda layer, state, x: forward(x, **layer.config()),
        lambda layer, state, dy, x: ((gradient(x, dy, **layer.config()),), {}),
        examples=tuple((layer, shape) for layer in layers or (kind(),) for shape in SHAPES),
        **others,
    )


def gelu(x: Array, approximate: str) -> Array:
    """GELU with its argument."""
    return (oracles.gelu if approximate == "none" else oracles.gelu_tanh)(x)


def gelu_grad(x: Array, dy: Array, approximate: str) -> Array:
    """Gradient of GELU with its argument."""
    return (oracles.gelu_grad if approximate == "none" else oracles.gelu_tanh_grad)(x, dy)


LAYERS = [
    case(ReLU, oracles.relu, oracles.relu_grad),
    case(LeakyReLU, oracles.leaky_relu, oracles.leaky_relu_grad, LeakyReLU(), LeakyReLU(0.3)),
    case(Sigmoid, oracles.sigmoid, oracles.sigmoid_grad),
    case(Tanh, oracles.tanh, oracles.tanh_grad),
    case(SiLU, oracles.silu, oracles.silu_grad),
    case(ELU, oracles.elu, oracles.elu_grad, ELU(), ELU(0.4)),
    case(SELU, oracles.selu, oracles.selu_grad),
    case(CELU, oracles.celu, oracles.celu_grad, CELU(), CELU(0.4), CELU(3)),
    case(GELU, gelu, gelu_grad, GELU(), GELU("tanh")),
    case(Mish, oracles.mish, oracles.mish_grad),
    case(Softplus, oracles.softplus, oracles.softplus_grad, Softplus(), Softplus(2.0, 1.5)),
    case(Softsign, oracles.softsign, oracles.softsign_grad),
    case(LogSigmoid, oracles.log_sigmoid, oracles.log_sigmoid_grad),
    case(Hardtanh, oracles.hardtanh, oracles.hardtanh_grad, Hardtanh(), Hardtanh(-0.3, 0.7)),
    case(ReLU6, oracles.relu6, oracles.relu6_grad),
    case(Hardsigmoid, oracles.hardsigmoid, oracles.hardsigmoid_grad),
    case(Hardswish, oracles.hardswish, oracles.hardswish_grad),
    case(Threshold, oracles.threshold, oracles.threshold_grad, Threshold(0.1, 20), Threshold(-0.5, 0)),
    case(Exp, oracles.exp, oracles.exp_grad),
    case(Log, oracles.log, oracles.log_grad, domain=positive),
    case(Sqrt, oracles.sqrt, oracles.sqrt_grad, domain=positive),
    case(Abs, oracles.absolute, oracles.absolute_grad),
    case(Neg, oracles.negative, oracles.negative_grad),
    case(Reciprocal, oracles.reciprocal, oracles.reciprocal_grad, domain=positive),
    case(Square, oracles.square, oracles.square_grad),
    case(Erf, oracles.erf, oracles.erf_grad),
    case(Sin, oracles.sin, oracles.sin_grad),
    case(Cos, oracles.cos, oracles.cos_grad),
    along(Softmax, oracles.softmax_along, oracles.softmax_along_grad),
    along(LogSoftmax, oracles.log_softmax_along, oracles.log_softmax_along_grad),
    along(GLU, oracles.glu, oracles.glu_grad),
    LayerCase(
        PReLU,
        prelu,
        prelu_grad,
        examples=(*((PReLU(), shape) for shape in SHAPES), (PReLU(4, 0.1), SHAPES[0]), (PReLU(9), SHAPES[1])),
    ),
]
