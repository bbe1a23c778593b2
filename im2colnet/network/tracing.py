"""Symbolic values, with which ``define`` of a network computes once, while its graph is built."""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Real
from typing import Any

from im2colnet.checks import is_truth_value
from im2colnet.errors import ShapeError
from im2colnet.layers import Abs, Add, Div, Layer, Mul, Neg, Pow, Square, Sub, WithConstant
from im2colnet.layers.base import GraphBuilder

#: the layers of Python's operators between two values
OPERATIONS: dict[str, type[Layer]] = {"add": Add, "sub": Sub, "mul": Mul, "div": Div, "pow": Pow}


class Value:
    """A value of a graph that is being built: an argument of layers, and an operand of sums, products and the like.

    Parameters
    ----------
    scope : Scope
    index : int
        Its number in the graph.
    """

    __array_ufunc__ = None  # a NumPy number before it leaves it to us

    def __init__(self, scope: Scope, index: int) -> None:
        self.scope, self.index = scope, index

    def __add__(self, other: Any) -> Any:
        return self._joined("add", other)

    def __radd__(self, other: Any) -> Any:
        return self if isinstance(other, int) and other == 0 else self + other  # sum([a, b]) begins with 0

    def __sub__(self, other: Any) -> Any:
        return self._joined("sub", other)

    def __rsub__(self, other: Any) -> Any:
        return self._joined("sub", other, reverse=True)

    def __mul__(self, other: Any) -> Any:
        return self._joined("mul", other)

    __rmul__ = __mul__

    def __truediv__(self, other: Any) -> Any:
        return self._joined("div", other)

    def __rtruediv__(self, other: Any) -> Any:
        return self._joined("div", other, reverse=True)

    def __pow__(self, other: Any) -> Any:
        return Square()(self) if isinstance(other, Real) and other == 2 else self._joined("pow", other)

    def __rpow__(self, other: Any) -> Any:
        return self._joined("pow", other, reverse=True)

    def __neg__(self) -> Any:
        return Neg()(self)

    def __abs__(self) -> Any:
        return Abs()(self)

    def _joined(self, operation: str, other: Any, reverse: bool = False) -> Any:
        """Return a function of this value and another one, or a number."""
        if isinstance(other, Value):
            return OPERATIONS[operation]()(self, other)
        if isinstance(other, Real) and not is_truth_value(other):
            return WithConstant(operation, None, float(other), reverse)(self)
        if hasattr(other, "shape"):
            raise ShapeError(
                "define computes with symbolic values and numbers, got an array: make a layer for it in __init__,"
                ' self.scale = ic.WithConstant("mul", shape=(C, 1, 1)), and load it as the state "scale.constant"'
            )
        return NotImplemented

    def __bool__(self) -> bool:
        raise ShapeError("define is traced once, before there are numbers: it cannot branch on a symbolic value")

    def __repr__(self) -> str:
        return f"<symbolic value {self.index}>"


class Scope:
    """The place in a graph where ``define`` of one network adds its layers.

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
        """Add a layer that reads these values; return its output, or several outputs."""
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
                f"define uses a {kind} that is not an attribute of the network: make it in __init__,"
                f" self.layer = {kind}(...), so that its parameters have a name"
            )
        count = 1
        while (name := f"{kind.lower()}_{count}") in self._used:
            count += 1
        self._used.add(name)
        return name
