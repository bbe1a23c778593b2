"""Cases: a class that is tested, and an oracle for its results."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

from im2colnet.layers import Layer
from im2colnet.losses import Loss
from im2colnet.optim import Optimizer
from im2colnet.types import Array, Shape


class State(NamedTuple):
    """The values on which a layer's result depends, except its inputs."""

    arrays: dict[str, Array]  #: parameters and state by name, in the shapes that ``state_dict`` gives
    training: bool = False


def positive(x: Array) -> Array:
    """Return positive numbers for any numbers, for functions that are smooth only for positive numbers."""
    return abs(x) + 0.2


@dataclass(frozen=True)
class LayerCase:
    """The case of a class of layers.

    Parameters
    ----------
    kind : type of Layer
    forward : callable
        ``forward(layer, state, *inputs) -> output``, all (N, C, H, W) or (N, features), on the host in float64. It
        returns None if the result is random.
    backward : callable
        ``backward(layer, state, dy, *inputs) -> (gradients of the inputs, gradients of the parameters by name)`` in
        training.
    examples : tuple of (Layer, shape, ...)
        Layers of the class, each with the shape of one sample of each of its inputs.
    domain : callable
        ``domain(x)`` maps normally distributed numbers to numbers for which the layer is a smooth function, such as
        positive numbers. By default it returns ``x``.
    """

    kind: type[Layer]
    forward: Callable[..., Array | None]
    backward: Callable[..., tuple[tuple[Array, ...], dict[str, Array]]]
    examples: tuple[tuple[Any, ...], ...]
    domain: Callable[[Array], Array] = lambda x: x


@dataclass(frozen=True)
class LossCase:
    """The case of a class of losses.

    Parameters
    ----------
    loss : Loss
    value, gradient : callable
        ``value(output, targets)`` returns the loss of a batch, ``gradient`` its gradient with respect to
        the output.
    output : tuple of int
        The shape of the network's output, (N, features) or (N, C, H, W).
    targets : callable
        ``targets(rng)`` draws valid labels for the loss.
    """

    loss: Loss
    value: Callable[[Array, Array], Array]
    gradient: Callable[[Array, Array], Array]
    output: Shape
    targets: Callable[[Any], Array]


@dataclass(frozen=True)
class OptimizerCase:
    """The case of an optimizer.

    Parameters
    ----------
    optimizer : Optimizer
    step : callable
        ``step(p, g, state, t) -> (new p, new state)`` of step ``t``, from 1; the state is a tuple, empty at first.
    """

    optimizer: Optimizer
    step: Callable[[Array, Array, tuple[Array, ...], int], tuple[Array, tuple[Array, ...]]]
