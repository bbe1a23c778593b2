"""The table of the functions that write layers as ONNX, and the writers of nodes and constants that they use."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeAlias, TypeVar

from im2colnet.errors import ModelError
from im2colnet.graph.nodes import Node
from im2colnet.host import np
from im2colnet.layers import Layer
from im2colnet.onnx.kept import KEY, described
from im2colnet.types import Shape
from im2colnet.window import Window

#: the name of a value in an ONNX graph
Value: TypeAlias = str
#: writes the nodes of a layer that reads these values, and returns the name of the value that the layer makes
Exporter: TypeAlias = Callable[[Any, "NodeWriter", Sequence[Value]], Value]
F = TypeVar("F", bound=Exporter)

#: the exporter of each class of layers
EXPORTERS: dict[type[Layer], Exporter] = {}


def exporter(*kinds: type[Layer]) -> Callable[[F], F]:
    """Make a function the exporter of these classes."""

    def register(function: F) -> F:
        for kind in kinds:
            EXPORTERS[kind] = function
        return function

    return register


def exporter_of(layer: Layer) -> Exporter:
    """Return the exporter of a layer: the method ``to_onnx`` of its class, or the entry of its class in the table.

    A class inherits the exporter of its base class, unless it overrides the forward pass.

    Raises
    ------
    ModelError
        If the layer has no exporter.
    """
    for kind in type(layer).__mro__:
        if "to_onnx" in vars(kind):
            return lambda layer, node, inputs: layer.to_onnx(node, inputs)
        if kind in EXPORTERS:
            return EXPORTERS[kind]
        if {"forward", "prepare_forward"} & vars(kind).keys():
            break
    raise ModelError(
        f"a {type(layer).__name__} cannot be written as ONNX: its class needs a method to_onnx(self, node, inputs), as"
        " in the example on the page on ONNX (docs/onnx.md)"
    )


def row_of(table: Mapping[type[Any], Any], layer: Any) -> Any:
    """Return the entry of a table for the layer's class, or for its nearest base class."""
    return next(table[kind] for kind in type(layer).__mro__ if kind in table)


class GraphWriter:
    """The nodes and constants of a graph that is being written.

    Parameters
    ----------
    opset : int
    state : dict of str to array
        The parameters and the state of the network, by name; their constants have the same names.
    dtype : {"float32", "float64"}
        The type of all numbers that are not integers.
    names : iterable of str
        Names that are already in use.
    """

    def __init__(self, opset: int, state: dict[str, Any], dtype: str, names: Iterable[str]) -> None:
        self.opset, self.state, self.dtype = opset, state, dtype
        self.nodes: list[Any] = []
        self.constants: dict[str, Any] = {}
        self._taken = {*state, *names}

    def unique(self, name: str) -> str:
        """Return a name that is not in use yet, and reserve it."""
        found, number = name, 1
        while found in self._taken:
            number += 1
            found = f"{name}_{number}"
        self._taken.add(found)
        return found


class NodeWriter:
    """Writes a layer as ONNX nodes: a call such as ``node("Mul", x, y)`` writes a node and returns its output's name.

    Attributes
    ----------
    name : str
        The layer's name in the network.
    opset : int
        The version of ONNX's operators.
    dtype : {"float32", "float64"}
        The type of the network's numbers.
    input_shapes : list of tuple of int
        The shape of a sample of each input as users see it, such as (C, H, W).
    output_shape : tuple of int
    """

    def __init__(
        self, graph: GraphWriter, layer: Node, input_shapes: Sequence[Shape], output_shape: Shape, value: Value
    ) -> None:
        self.graph, self.name = graph, layer.name
        self.opset, self.dtype = graph.opset, graph.dtype
        self.input_shapes, self.output_shape = input_shapes, output_shape
        self._value, self._first = value, len(graph.nodes)

    def __call__(self, op: str, *inputs: Any, keeps: Layer | None = None, **options: Any) -> Value:
        """Write a node with one output.

        Parameters
        ----------
        op : str
            ONNX's name of the operator, such as "Conv".
        *inputs : str, number, array or None
            Names of values; a number or an array becomes a constant of the network's type. None is an optional input
            that is left out.
        keeps : Layer, optional
            A layer that ONNX does not describe completely: see :mod:`im2colnet.onnx.kept`.
        **options
            The operator's other inputs and its attributes, by ONNX's names, such as ``axes=[2, 3]``. In newer versions
            of some operators an attribute has become an input; both are written correctly. None is left out.

        Returns
        -------
        str
            The name of the node's output.

        Raises
        ------
        ModelError
            If this version of ONNX has no such operator, or the operator does not have an option.
        """
        from onnx import helper

        schema, attributes = self._schema(op), {}
        given = [self._input(op, each) for each in inputs]
        places = [each.name for each in schema.inputs]
        dtypes = {"tensor(float)": "float32", schema.inputs[0].type_str: self.dtype}
        for key, value in options.items():
            if value is None:
                continue
            if key in schema.attributes:
                real = schema.attributes[key].type.name == "FLOAT"
                attributes[key] = float(value) if real else value
            elif key in places:
                given += [""] * (places.index(key) + 1 - len(given))
                like = schema.inputs[places.index(key)].type_str
                given[places.index(key)] = (
                    value if isinstance(value, str) else self.constant(key, value, dtypes.get(like))
                )
            else:
                raise self._lacks(op, key)
        while given and not given[-1]:
            given.pop()
        output = self.graph.unique(f"{self.name}/{op}")
        node = helper.make_node(op, given, [output], name=output, **attributes)
        if keeps is not None and (text := described(keeps)):
            node.metadata_props.add(key=KEY, value=text)
        self.graph.nodes.append(node)
        return output

    def parameter(self, key: str, shape: Sequence[int] | None = None) -> Value | None:
        """Return the name of a parameter or state of the layer, and write its constant; None if there is none.

        Parameters
        ----------
        key : str
            The name within the layer, such as "weight".
        shape : sequence of int, optional
            The shape in which the array is written; by default its own shape.
        """
        name = f"{self.name}.{key}"
        if name not in self.graph.state:
            return None
        array = self.graph.state[name]
        self.graph.constants[name] = array if shape is None else array.reshape(tuple(shape))
        return name

    def constant(self, name: str, value: Any, dtype: str | None = None) -> Value:
        """Return the name of a new constant: by default integers are of int64, other numbers of the network's type."""
        array = np.asarray(value)
        array = array.astype(dtype or ("int64" if array.dtype.kind in "iu" else self.dtype))
        name = self.graph.unique(f"{self.name}/{name}")
        self.graph.constants[name] = array
        return name

    def number(self, value: Any) -> Value:
        """Return the name of a new constant of the network's type."""
        return self.constant("constant", value, self.dtype)

    def has(self, op: str) -> bool:
        """Whether this version of ONNX has an operator."""
        from onnx import defs

        return bool(defs.has(op, self.opset, ""))

    def close(self, result: Any) -> Value:
        """Rename the layer's output and return its name; a layer that writes no node returns the name of its input."""
        mine = self.graph.nodes[self._first :]
        if not isinstance(result, str):
            raise ModelError(f"to_onnx must return the name of a value, as node(...) does, got {result!r:.80}")
        made = [node for node in mine if result in node.output]
        if not made:
            return result
        made[0].name = self.name
        for node in mine:
            for names in node.input, node.output:
                names[:] = [self._value if name == result else name for name in names]
        return self._value

    def _input(self, op: str, value: Any) -> Value:
        if value is None:
            return ""
        return value if isinstance(value, str) else self.number(value)

    def _schema(self, op: str) -> Any:
        """Return the schema of an operator in this opset, or raise a ModelError if the opset does not have it."""
        from onnx import defs

        if not defs.has(op, self.opset, ""):
            first = _first_version(op)
            raise ModelError(f"ONNX has no operator {op!r}") if first is None else self._newer(f"has {op}", first)
        schema = defs.get_schema(op, self.opset, "")
        if schema.deprecated:
            raise ModelError(f"ONNX's opset {self.opset} has no {op} any more")
        return schema

    def _lacks(self, op: str, option: str) -> ModelError:
        first = _first_version(op, option)
        if first is None:
            return ModelError(f"ONNX's {op} has no {option}")
        return self._newer(f"has {option} of {op}", first)

    def _newer(self, what: str, first: int) -> ModelError:
        return ModelError(f"ONNX {what} since opset {first}: give opset={first} or more, not {self.opset}")


def _first_version(op: str, option: str = "") -> int | None:
    """Return the first opset that has an operator, with an attribute or input of this name; None if there is none."""
    from onnx import defs

    found = [
        schema.since_version
        for schema in defs.get_all_schemas_with_history()
        if (schema.domain, schema.name) == ("", op)
        and option in ("", *schema.attributes, *(each.name for each in schema.inputs))
    ]
    return min(found, default=None)


def window_of(window: Window) -> dict[str, Any]:
    """Return the attributes of a sliding window; those that are as ONNX takes them by default are left out."""
    axes = slice(-window.axes, None)
    before, after = zip(*[*window.padding][axes], strict=True)
    return {
        "kernel_shape": window.kernel[axes],
        "strides": window.stride[axes] if max(window.stride) > 1 else None,
        "pads": (*before, *after) if any((*before, *after)) else None,
        "dilations": window.dilation[axes] if max(window.dilation) > 1 else None,
    }
