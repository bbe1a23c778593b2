"""The exact results of whole networks: their graph, computed with the oracles of its layers."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from im2colnet.graph.nodes import Node
from im2colnet.host import np
from im2colnet.network import Network
from im2colnet.testing.cases import LAYERS, LayerCase, State
from im2colnet.types import Array

Own = Iterable[LayerCase]  # cases of layers that are not the library's


def case_of(node: Node, own: Own = ()) -> LayerCase:
    """Return the case of a layer's class, or of its nearest base class that has one."""
    known = {case.kind: case for case in (*LAYERS, *own)}
    for kind in type(node.layer).__mro__:
        if kind in known:
            return known[kind]
    raise LookupError(f"there is no case for the layer {node.name!r}, {node.layer!r}: pass a LayerCase for it in own=")


def states_of(net: Network, training: bool) -> dict[str, State]:
    """Return the parameters and the state of each layer of the network, in float64, by the layer's name."""
    states = {node.name: State({}, training) for node in net.graph.nodes}
    for name, value in net.state_dict().items():
        layer, _, key = name.rpartition(".")
        states[layer].arrays[key] = np.asarray(value, "float64")
    return states


def values(net: Network, x: Array, training: bool = False, own: Own = ()) -> list[Array]:
    """Return every value of a network's graph: the first is ``x``, the last is the output.

    Parameters
    ----------
    net : Network
        An initialized network.
    x : (N, C, H, W) array, or (N, features)
    training : bool
        Whether batch norms use the statistics of this batch.
    own : iterable of LayerCase
        Cases with oracles for layers that are not part of the library.
    """
    states = states_of(net, training)
    found: list[Any] = [np.asarray(x, "float64")]
    for node in net.graph.nodes:
        inputs = (found[value] for value in node.inputs)
        found.append(case_of(node, own).forward(node.layer, states[node.name], *inputs))
    return found


def evaluate(net: Network, x: Array, training: bool = False, own: Own = ()) -> Array:
    """Return the output of a network for a batch, computed by naive loops in float64.

    Parameters
    ----------
    net : Network
        An initialized network.
    x : (N, C, H, W) array, or (N, features)
        The images as the first layer reads them: uint8 is not scaled here, and ``net.normalization`` is not applied.
    training : bool
        Whether batch norms use the statistics of this batch. By default they use their running statistics.
    own : iterable of LayerCase
        Cases with oracles for layers that are not part of the library.

    Returns
    -------
    (N, ...) array of float64
        The output.

    Examples
    --------
    >>> net = ic.models.notebook().init(seed=0)
    >>> x = np.random.default_rng(0).random((2, 1, 8, 8))
    >>> bool(abs(ic.testing.evaluate(net, x) - net.predict(x)).max() < 1e-5)
    True
    """
    return values(net, x, training, own)[-1]


def differentiate(net: Network, x: Array, dy: Array, own: Own = ()) -> tuple[Array, dict[str, Array]]:
    """Return the gradients of ``<dy, output>`` in training, computed by naive loops in float64.

    Parameters
    ----------
    net : Network
        An initialized network.
    x : (N, C, H, W) array, or (N, features)
        The images as the first layer reads them: uint8 is not scaled here, and ``net.normalization`` is not applied.
    dy : (N, ...) array
        The gradient with respect to the output.
    own : iterable of LayerCase
        Cases with oracles for layers that are not part of the library.

    Returns
    -------
    dx : (N, ...) array
        The gradient with respect to ``x``.
    gradients : dict of str to array
        The gradients of the parameters, by name.

    Examples
    --------
    >>> net = ic.Sequential([ic.Flatten(), ic.Linear(4, 2)]).init(seed=0)
    >>> x, dy = np.ones((1, 1, 2, 2)), np.array([[1.0, 0.0]])
    >>> dx, gradients = ic.testing.differentiate(net, x, dy)
    >>> gradients["1.bias"]
    array([1., 0.])
    """
    found, states = values(net, x, True, own), states_of(net, True)
    gradients: dict[str, Array] = {}
    slopes = [np.zeros_like(value) for value in found]
    slopes[-1] += dy
    for node in reversed(net.graph.nodes):
        inputs = [found[value] for value in node.inputs]
        dxs, of_parameters = case_of(node, own).backward(node.layer, states[node.name], slopes[node.output], *inputs)
        for value, dx in zip(node.inputs, dxs, strict=True):
            slopes[value] += dx
        gradients |= {f"{node.name}.{key}": of_parameters[key] for key in node.layer.parameters()}
    return slopes[0], gradients
