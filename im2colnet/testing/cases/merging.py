"""Cases of functions of two values, or of a value and a constant, and of concatenation."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from im2colnet.host import np
from im2colnet.layers import Add, Concat, Div, Layer, Maximum, Minimum, Mul, Pow, Sub, WithConstant
from im2colnet.testing import oracles
from im2colnet.testing.cases.base import LayerCase, State, positive
from im2colnet.types import Array

IMAGES, ONE_PIXEL, FEATURES = (4, 6, 5), (4, 1, 1), (7,)


def case(kind: type[Layer], forward: Callable[..., Array], gradient: Callable[..., Array], **others: Any) -> LayerCase:
    """The row of a function of two values."""
    return LayerCase(
        kind,
        lambda layer, state, x, other: forward(x, other),
        lambda layer, state, dy, x, other: (gradient(x, other, dy), {}),
        examples=(
            (kind(), IMAGES, IMAGES),
            (kind(), IMAGES, ONE_PIXEL),
            (kind(), (1, 6, 5), (4, 1, 5)),
            (kind(), FEATURES, FEATURES),
        ),
        **others,
    )


OF_TWO = {
    "add": (oracles.add, oracles.add_grad),
    "sub": (oracles.sub, oracles.sub_grad),
    "mul": (oracles.mul, oracles.mul_grad),
    "div": (oracles.div, oracles.div_grad),
    "pow": (oracles.power, oracles.power_grad),
    "maximum": (oracles.maximum, oracles.maximum_grad),
    "minimum": (oracles.minimum, oracles.minimum_grad),
}


def with_constant(layer: WithConstant, state: State, x: Array) -> Array:
    """The function of a value and the constant, whatever comes first."""
    forward, _ = OF_TWO[layer.operation]
    constant = state.arrays.get("constant", layer.value)
    return forward(constant, x) if layer.reverse else forward(x, constant)


def with_constant_grad(layer: WithConstant, state: State, dy: Array, x: Array) -> tuple[tuple[Array], dict[str, Array]]:
    """The gradient with respect to the value only."""
    _, gradient = OF_TWO[layer.operation]
    constant = broadcastable(state.arrays.get("constant", layer.value), x.ndim)
    dx = gradient(constant, x, dy)[1] if layer.reverse else gradient(x, constant, dy)[0]
    return (dx,), {}


def broadcastable(constant: Any, ndim: int) -> Array:
    """Return a constant with as many axes as a batch has."""
    array = np.asarray(constant, "float64")
    return array.reshape((1,) * (ndim - array.ndim) + array.shape)


LAYERS = [
    case(Add, *OF_TWO["add"]),
    case(Sub, *OF_TWO["sub"]),
    case(Mul, *OF_TWO["mul"]),
    case(Div, *OF_TWO["div"], domain=positive),
    case(Pow, *OF_TWO["pow"], domain=positive),
    case(Maximum, *OF_TWO["maximum"]),
    case(Minimum, *OF_TWO["minimum"]),
    LayerCase(
        WithConstant,
        with_constant,
        with_constant_grad,
        examples=(
            *(
                (WithConstant(operation, shape, 1.5, reverse), IMAGES)
                for operation in OF_TWO
                for shape in ((4, 1, 1), None)
                for reverse in (False, True)
            ),
            (WithConstant("sub", (6, 1), 0.5), IMAGES),
            (WithConstant("mul", (4, 6, 5), 0.5), ONE_PIXEL),
            (WithConstant("add", (4, 3, 2), 0.5), ONE_PIXEL),
            (WithConstant("div", (), 3.0), (4, 6)),
            (WithConstant("mul", FEATURES, 0.7), FEATURES),
            (WithConstant("maximum", (1, 3, 1, 2), 0.2), (2, 3, 4, 2)),
        ),
        domain=positive,
    ),
    LayerCase(
        Concat,
        lambda layer, state, *xs: oracles.concat(*xs, dim=layer.dim),
        lambda layer, state, dy, *xs: (oracles.concat_grad(*xs, dy=dy, dim=layer.dim), {}),
        examples=(
            (Concat(), IMAGES, (2, 6, 5)),
            (Concat(), FEATURES, (3,), FEATURES),
            (Concat(2), IMAGES, (4, 2, 5)),
            (Concat(-1), IMAGES, (4, 6, 1), IMAGES),
            (Concat(2), (4, 6), (4, 3)),
        ),
    ),
]
