"""The static graph of a network: its layers in topological order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from math import prod
from typing import Any

from im2colnet.errors import Im2colnetError, OutOfMemoryError, ShapeError
from im2colnet.layers import Layer
from im2colnet.layout import internal_shape, user_shape
from im2colnet.types import Array, Shape


@dataclass(eq=False)
class Node:
    """One layer in the graph: it reads the values ``inputs`` and makes the value ``output``."""

    layer: Layer
    name: str
    inputs: tuple[int, ...]
    output: int
    activation: str | None = None  #: the elementwise function of the next node, which this node applies too
    fused: bool = False  #: whether the previous node applies this node's function
    offsets: dict[str, int] = field(default_factory=dict)  #: the offset of each parameter in the flat vector
    params: dict[str, Array] = field(default_factory=dict)  #: the parameters, views of the flat vector
    buffers: dict[str, Array] = field(default_factory=dict)  #: the state
    frozen: frozenset[str] = frozenset()  #: the parameters and the state that training does not change

    @property
    def learning(self) -> list[str]:
        """The names of the parameters that training changes."""
        return [key for key in self.offsets if key not in self.frozen]

    def input_shape(self, shapes: Sequence[Shape]) -> Any:
        """Return the shape of its input, or a tuple for several inputs; ``shapes`` has the shape of every value."""
        return shapes[self.inputs[0]] if len(self.inputs) == 1 else tuple(shapes[v] for v in self.inputs)


class Graph:
    """The layers in topological order; value 0 is the network's input."""

    def __init__(self) -> None:
        self.nodes: list[Node] = []
        self.size = 0  # the size of the flat vector of parameters
        self._layers: set[int] = set()  # the identities of the layers
        self.outputs: tuple[int, ...] = ()  # the values that are the network's outputs
        self.scores: tuple[int, ...] = ()  # the values that the loss gets in place of the outputs, if any
        self.frozen: frozenset[str] = frozenset()  # the names of parameters and states that training does not change

    def add(self, layer: Layer, name: str, *inputs: int) -> int:
        """Append a layer and return its output value."""
        if id(layer) in self._layers:
            raise ShapeError(f"layer {name!r} ({layer!r}) is already in the network; make a second layer instead")
        for value in inputs:
            if not isinstance(value, int) or not 0 <= value <= len(self.nodes):
                raise ShapeError(
                    f"layer {name!r} ({layer!r}) is to read {value!r}, which is not a value of the graph: build"
                    " must return the result of the last graph.add, or of the build of a layer"
                )
        node = Node(layer, name, inputs, len(self.nodes) + 1)
        for key, parameter in layer.parameters().items():
            node.offsets[key] = self.size
            self.size += prod(parameter.shape)
        self.nodes.append(node)
        self._layers.add(id(layer))
        return node.output

    def freeze(self, names: frozenset[str]) -> None:
        """Freeze exactly these parameters and states, by name."""
        for node in self.nodes:
            keys = (*node.layer.parameters(), *node.layer.state())
            node.frozen = frozenset(key for key in keys if f"{node.name}.{key}" in names)
        self.frozen = names

    def output_of(self, name: str) -> int | None:
        """Return the output value of a layer, or of a network in this network; None unless it is a single value."""
        inside = [node for node in self.nodes if f"{node.name}.".startswith(f"{name}.")]
        outside = {v for node in self.nodes if node not in inside for v in node.inputs} | {*self.outputs}
        made = [node.output for node in inside if node.output in outside]
        return made[0] if len(made) == 1 else None

    def part(self, outputs: Sequence[int]) -> Graph:
        """Return the part of the graph on which some values depend; it shares layers, parameters and state."""
        needed = {*outputs}
        for node in reversed(self.nodes):
            if node.output in needed:
                needed |= {*node.inputs}
        found, place = Graph(), {0: 0}
        for node in self.nodes:
            if node.output in needed:
                place[node.output] = len(place)
                inputs = tuple(place[v] for v in node.inputs)
                found.nodes.append(replace(node, inputs=inputs, output=place[node.output]))
        found.size, found.frozen, found.outputs = self.size, self.frozen, tuple(place[v] for v in outputs)
        return found

    def for_loss(self) -> Graph:
        """Return the graph whose outputs the loss gets: this graph, or the part of it that computes the scores."""
        return self.part(self.scores) if self.scores else self

    def check(self, network: str) -> None:
        """Raise a ShapeError if an output of the network is not a value of a layer, or nothing reads a layer's output.

        The layers after the scores must have no parameters, because training does not run them.
        """
        for output in self.outputs:
            if output not in range(1, len(self.nodes) + 1):
                raise ShapeError(
                    f"{network}.build must return the value of one of its layers, as graph.add returns it, got"
                    f" {output!r}"
                )
        read = {v for node in self.nodes for v in node.inputs} | set(self.outputs)
        for node in self.nodes:
            if node.output not in read:
                raise ShapeError(
                    f"nothing reads the output of layer {node.name!r}, {node.layer!r}, and it is not what build returns"
                )
        if self.scores and len(self.scores) != len(self.outputs):
            raise ShapeError(
                f"scores must name a layer for each output: there are {len(self.scores)} names for"
                f" {len(self.outputs)} outputs"
            )
        trained = {node.name for node in self.for_loss().nodes}
        for node in self.nodes:
            if node.name not in trained and (node.layer.parameters() or node.layer.state()):
                raise ShapeError(
                    f"layer {node.name!r}, {node.layer!r}, comes after the scores, so that training does not run it,"
                    " but it has parameters: name it in scores, or a layer after it"
                )

    def shapes(self, x: Shape) -> list[Shape]:
        """Shape of every value for an input ``x``; errors name the layer."""
        shapes = [x]
        for node in self.nodes:
            with locate(node):
                shapes.append(tuple(node.layer.output_shape(*(shapes[v] for v in node.inputs))))
        return shapes

    def output_shapes(self, images: Shape) -> list[Shape]:
        """Return the shapes of the outputs for a batch of this shape, (N, ...), as users see them; N may be 0."""
        shapes = self.shapes(internal_shape(images[1:], max(1, images[0])))
        return [(images[0], *user_shape(shapes[v])[1:]) for v in self.outputs]


class locate:
    """Name the layer in errors raised within the ``with`` block."""

    def __init__(self, node: Node) -> None:
        self.node = node

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        if isinstance(error, Im2colnetError) and not getattr(error, "located", False):
            error.args = (f"layer {self.node.name!r}, {self.node.layer!r}: {error}",)
            error.located = True  # type: ignore[attr-defined]
        elif isinstance(error, MemoryError):
            raise OutOfMemoryError(f"layer {self.node.name!r}, {self.node.layer!r}: {error}") from error
        elif isinstance(error, Exception) and not isinstance(error, Im2colnetError):  # an error of a user's own layer
            error.add_note(f"in layer {self.node.name!r}, {self.node.layer!r}")
