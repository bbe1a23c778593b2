"""What a case is: something that is tested, and what it must compute."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

from im2colnet.layers import Layer
from im2colnet.losses import Loss
from im2colnet.optim import Optimizer
from im2colnet.types import Array, Shape


class State(NamedTuple):
    """What a layer's result depends on beside its inputs."""

    arrays: dict[str, Array]  #: parameters and state by name, in the shapes that ``state_dict`` gives
    training: bool = False


def positive(x: Array) -> Array:
    """Return positive numbers for any ones, for functions that are smooth only there."""
    return abs(x) + 0.2


@dataclass(frozen=True)
class LayerCase:
    """A class of layers.

    Parameters
    ----------
    kind : type of Layer
    forward : callable
        ``forward(layer, state, *inputs) -> output``, all (N, C, H, W) or (N, features), on the host in float64; None
        where chance decides.
    backward : callable
        ``backward(layer, state, dy, *inputs) -> (gradients of the inputs, gradients of the parameters by name)`` in
        training.
    examples : tuple of (Layer, shape, ...)
        Layers of the class, each with the shape of one sample of each of its inputs.
    domain : callable
        ``domain(x)`` makes of normal numbers those that the layer is a smooth function of, such as positive ones; by
        default these numbers.
    """

    kind: type[Layer]
    forward: Callable[..., Array | None]
    backward: Callable[..., tuple[tuple[Array, ...], dict[str, Array]]]
    examples: tuple[tuple[Any, ...], ...]
    domain: Callable[[Array], Array] = lambda x: x


@dataclass(frozen=True)
class LossCase:
    """A class of losses.

    Parameters
    ----------
    loss : Loss
    value, gradient : callable
        ``value(output, targets)`` of a batch, and the gradient of the output.
    output : tuple of int
        Shape of the network's output, (N, features) or (N, C, H, W).
    targets : callable
        ``targets(rng)`` draws labels that the loss takes.
    """

    loss: Loss
    value: Callable[[Array, Array], Array]
    gradient: Callable[[Array, Array], Array]
    output: Shape
    targets: Callable[[Any], Array]


@dataclass(frozen=True)
class OptimizerCase:
    """An optimizer.

    Parameters
    ----------
    optimizer : Optimizer
    step : callable
        ``step(p, g, state, t) -> (new p, new state)`` of step ``t``, from 1; the state is a tuple, empty at first.
    """

    optimizer: Optimizer
    step: Callable[[Array, Array, tuple[Array, ...], int], tuple[Array, tuple[Array, ...]]]
