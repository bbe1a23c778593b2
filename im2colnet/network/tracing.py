"""Symbolic values: what ``define`` of a network computes with, once, while its graph is made."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from im2colnet.errors import ShapeError
from im2colnet.layers import Add, Layer, Mul
from im2colnet.layers.base import GraphBuilder


class Value:
    """A value of a graph that is being made: layers are called with it, and values are added and multiplied.

    Parameters
    ----------
    scope : Scope
    index : int
        Its number in the graph.
    """

    def __init__(self, scope: Scope, index: int) -> None:
        self.scope, self.index = scope, index

    def __add__(self, other: Any) -> Any:
        return Add()(self, other) if isinstance(other, Value) else NotImplemented

    def __radd__(self, other: Any) -> Any:
        return self if isinstance(other, int) and other == 0 else NotImplemented  # sum([a, b]) begins with 0

    def __mul__(self, other: Any) -> Any:
        return Mul()(self, other) if isinstance(other, Value) else NotImplemented

    def __bool__(self) -> bool:
        raise ShapeError(
            "define is traced once, before there are numbers: what it does cannot depend on a symbolic value"
        )

    def __repr__(self) -> str:
        return f"<symbolic value {self.index}>"


class Scope:
    """Where ``define`` of one network adds its layers.

    Parameters
    ----------
    graph : Graph
    name : str
        The network's name in the graph, "" for the outermost.
    children : dict of str to Layer
        The network's layers, by name.
    """

    def __init__(self, graph: GraphBuilder, name: str, children: dict[str, Layer]) -> None:
        self.graph, self.prefix = graph, f"{name}." if name else ""
        self._names = {id(layer): key for key, layer in children.items()}
        self._used = set(children)

    def apply(self, layer: Layer, inputs: Sequence[Value]) -> Any:
        """Add a layer that reads these values; return the value it makes, or several."""
        if any(value.scope.graph is not self.graph for value in inputs):
            raise ShapeError(f"{layer!r} reads values of two networks")
        name = self._names.get(id(layer)) or self._new_name(layer)
        made = layer.build(self.graph, self.prefix + name, *(value.index for value in inputs))
        return tuple(Value(self, index) for index in made) if isinstance(made, tuple) else Value(self, made)

    def _new_name(self, layer: Layer) -> str:
        """Name a layer that ``define`` has made itself."""
        kind = type(layer).__name__
        if layer.parameters() or layer.state() or hasattr(layer, "children"):
            raise ShapeError(
                f"define uses a {kind} that is no attribute of the network: make it in __init__,"
                f" self.layer = {kind}(...), so that its parameters have a name"
            )
        count = 1
        while (name := f"{kind.lower()}_{count}") in self._used:
            count += 1
        self._used.add(name)
        return name
