"""The parameters and the state of a graph: views of flat vectors, with names."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import accumulate
from math import prod
from typing import Any, NamedTuple

from im2colnet.backend import Backend
from im2colnet.checks import whole
from im2colnet.errors import CheckpointError, DTypeError, NonFiniteError, memory_for
from im2colnet.graph.nodes import Graph, Node
from im2colnet.layers import Parameter
from im2colnet.memory import working
from im2colnet.normalization import Normalization
from im2colnet.types import HALF, Array, Shape
from im2colnet.weights import check_is_dict, host_array

#: the largest number of differences between two networks that an error lists
MOST_DIFFERENCES = 20
#: the number of elements of a parameter that are drawn at a time
DRAW_CHUNK = 1 << 16


class StateReport(NamedTuple):
    """The result of :meth:`im2colnet.Network.load_state_dict`: the names of loaded, missing and other entries."""

    loaded: tuple[str, ...]  #: the names of the loaded entries
    missing: tuple[str, ...]  #: the names of the network that are not in the state; their values do not change
    unexpected: tuple[str, ...]  #: the names of the state that are not in the network
    #: the shapes in the state and in the network, by name, if they differ; the network's values do not change
    mismatched: dict[str, tuple[Shape, Shape]]

    def __str__(self) -> str:
        shapes = [f"{name} {given}, the network's is {own}" for name, (given, own) in self.mismatched.items()]
        lines = [
            f"{len(self.loaded)} of {len(self.loaded) + len(self.missing) + len(shapes)} entries of the network loaded"
        ]
        for what, found in (
            ("missing in the state, kept as they were", self.missing),
            ("not in the network, left out", self.unexpected),
            ("of another shape, kept as they were", shapes),
        ):
            if found:
                lines += [f"{what}:", *(f"  {line}" for line in _first(found))]
        return "\n".join(lines)


class Parameters:
    """The parameters of a graph in one flat vector, which an optimizer updates as a whole, and its state in another.

    The constructor initializes the parameters. Each node of the graph gets views of its parameters and its state,
    ``node.params`` and ``node.buffers``.

    Parameters
    ----------
    graph : Graph
    backend : Backend
        The backend that holds the parameters.
    dtype : {"float32", "float64"}
    seed : int or None
        The seed of the initial values, which do not depend on the backend or ``dtype``. With None there are no initial
        values.
    precision : str, optional
        See :attr:`precision`.

    Attributes
    ----------
    flat : (size,) array of the backend
        All parameters, in the order of the graph's nodes.
    state : array of the backend
        The state of all nodes, such as running statistics, in the same order.
    loads : int
        The number of calls of :meth:`load_state_dict`.
    """

    def __init__(
        self,
        graph: Graph,
        backend: Backend,
        dtype: str = "float32",
        seed: int | None = 0,
        precision: str | None = None,
    ) -> None:
        from im2colnet.host import np

        if dtype not in ("float32", "float64"):
            raise DTypeError(f"dtype must be 'float32' or 'float64', got {dtype!r}")
        rng = None if seed is None else np.random.Generator(np.random.PCG64(whole("seed", seed, least=0)))
        self.graph, self.backend, self.dtype = graph, backend, dtype
        #: the means and deviations that normalize images before the first layer
        self.normalization: Normalization | None = None
        self._precision: str | None = None
        self.loads = 0
        if precision is not None:
            self.precision = precision
        with backend.context():
            self.flat = backend.empty_shared((graph.size,), dtype)
            sizes = [prod(p.shape) for node in graph.nodes for p in node.layer.state().values()]
            self.state, ends = backend.empty_shared((sum(sizes),), dtype), accumulate(sizes)
            pieces = (self.state[end - size : end] for size, end in zip(sizes, ends, strict=True))
            for node in graph.nodes:
                node.params = self.views(node, self.flat)
                for key, p in node.layer.parameters().items():
                    self._fill(node.params[key], p, rng)
                node.buffers = {key: next(pieces).reshape(p.shape) for key, p in node.layer.state().items()}
                for key, p in node.layer.state().items():
                    node.buffers[key][...] = p.value

    def _fill(self, parameter: Array, p: Parameter, rng: Any) -> None:
        """Draw a parameter, a few rows at a time: the process would keep the memory of large temporary arrays."""
        if rng is None or not p.bound:
            parameter[...] = p.value
            return
        rows, shape = parameter.reshape(p.shape or (1,)), p.shape[1:]
        step = max(1, DRAW_CHUNK // prod(shape))
        for i in range(0, len(rows), step):
            some = rows[i : i + step]
            draw = p.value + rng.uniform(-p.bound, p.bound, (len(some), *shape))
            some[...] = self.backend.asarray(draw.astype(self.dtype))

    # ------------------------------------------------------------------ precision

    @property
    def precision(self) -> str:
        """The precision of a run; by default the precision of the backend."""
        if self._precision is not None:
            return self._precision
        return self.backend.precision if self.dtype == "float32" else self.dtype

    @precision.setter
    def precision(self, precision: str) -> None:
        if self.dtype != "float32":
            raise DTypeError(
                f"a precision is for networks of float32, not of {self.dtype}: got precision={precision!r}"
            )
        self.backend.with_precision(precision)
        self._precision = precision

    def computes(self) -> tuple[Backend, str]:
        """Return the backend at this precision, and the type of a run's arrays."""
        if self.dtype != "float32":
            return self.backend, self.dtype
        precision = self.precision
        return self.backend.with_precision(precision), precision if precision in HALF else self.dtype

    # ------------------------------------------------------------------ views by name

    def views(self, node: Node, flat: Array) -> dict[str, Array]:
        """Return a layer's parameters, or their gradients, as views of a flat vector."""
        found = {}
        for key, parameter in node.layer.parameters().items():
            start, shape = node.offsets[key], parameter.shape
            part = flat[start : start + prod(shape)]
            order = self._order(parameter)
            stored = part.reshape([shape[axis] for axis in order])
            found[key] = stored.transpose([order.index(axis) for axis in range(len(shape))])
        return found

    def _order(self, parameter: Parameter) -> Sequence[int]:
        """Return the axes of a parameter in the order of memory; the filters of sequences have no KH, axis 2."""
        axes = len(parameter.shape)
        if parameter.order != "filter":
            return range(axes)
        order = self.backend.weight_order
        return order if axes == 4 else [axis - (axis > 2) for axis in order if axis != 2]

    def named(self) -> dict[str, Array]:
        """Return every parameter by name, as an array of the backend (not a copy)."""
        return {name: node.params[key] for name, node, key in names(self.graph, "parameters")}

    def state_dict(self) -> dict[str, Any]:
        """Return parameters and state as NumPy arrays (copies), with PyTorch's names and layouts."""
        from im2colnet.host import np

        with memory_for():
            return {name: np.array(self.backend.to_numpy(array), order="C") for name, array in self._arrays()}

    def load_state_dict(self, given: Mapping[str, Any]) -> None:
        """Set parameters and state by name, from the arrays of :func:`host_arrays`; other entries do not change.

        Raises
        ------
        CheckpointError
            If an array cannot be converted to the type of the parameters; nothing is changed then.
        """
        from im2colnet.host import np

        arrays = {}
        for name, array in given.items():  # all are converted before any is changed
            try:
                with np.errstate(over="raise"):
                    arrays[name] = array.astype(self.dtype)
            except (FloatingPointError, OverflowError) as error:
                raise CheckpointError(f"{name} holds numbers too large for the network's {self.dtype}") from error
            except (TypeError, ValueError) as error:
                raise CheckpointError(f"{name} holds something that is not a number: {error}") from error
        self.loads += 1
        with working(), self.backend.context():
            for name, own in self._arrays():
                if name in arrays:
                    own[...] = self.backend.asarray(arrays[name])

    def check_finite(self) -> None:
        """Raise a NonFiniteError that names the first parameter or state with NaN or infinity, if there is one."""
        parameters_are = self.backend.all_finite(self.flat)  # all parameters at once
        for name, array in self._arrays(*["state"] if parameters_are else ["parameters", "state"]):
            if not self.backend.all_finite(array):
                raise NonFiniteError(
                    f"{name} has become infinite or NaN: try a lower learning rate, and look for inputs that are far"
                    " too large"
                )

    def _arrays(self, *kinds: str) -> Iterator[tuple[str, Array]]:
        for name, node, key in names(self.graph, *kinds):
            yield name, (node.params | node.buffers)[key]


def names(graph: Graph, *kinds: str) -> Iterator[tuple[str, Node, str]]:
    """Yield name, node and key of all "parameters", "state", or by default both, of a graph's layers.

    Each node yields first its parameters, then its state.
    """
    for node in graph.nodes:
        for kind in kinds or ("parameters", "state"):
            for key in getattr(node.layer, kind)():
                yield f"{node.name}.{key}", node, key


def state_shapes(graph: Graph) -> dict[str, Shape]:
    """Return the shapes of all parameters and of the state by name, in their order, without allocating them."""
    return {name: tuple((node.layer.parameters() | node.layer.state())[key].shape) for name, node, key in names(graph)}


def compare_state(graph: Graph, shapes: Mapping[str, Sequence[int]]) -> StateReport:
    """Return which entries of a state of these shapes fit a graph."""
    wanted = state_shapes(graph)
    given = {name: tuple(shape) for name, shape in shapes.items()}
    return StateReport(
        tuple(name for name in wanted if given.get(name) == wanted[name]),
        tuple(name for name in wanted if name not in given),
        tuple(name for name in given if name not in wanted),
        {name: (given[name], wanted[name]) for name in wanted if name in given and given[name] != wanted[name]},
    )


def check_state(graph: Graph, shapes: Mapping[str, Sequence[int]]) -> StateReport:
    """Return the report on a state whose shapes fit a graph, or raise a CheckpointError that lists the differences."""
    found = compare_state(graph, shapes)
    differences = [f"{name} is missing" for name in found.missing]
    differences += [f"{name} {tuple(shapes[name])} is not in this network" for name in found.unexpected]
    differences += [
        f"{name} has shape {given}, this network's has {own}" for name, (given, own) in found.mismatched.items()
    ]
    if differences:
        raise CheckpointError(
            "the state belongs to another network:\n  "
            + "\n  ".join(_first(differences))
            + _numbered(state_shapes(graph), shapes)
        )
    return found


def check_some(graph: Graph, shapes: Mapping[str, Sequence[int]]) -> StateReport:
    """Return which entries of a state of these shapes fit a graph, or raise a CheckpointError if none does."""
    found = compare_state(graph, shapes)
    if not found.loaded:
        hint = _numbered([*found.missing, *found.mismatched], shapes)
        raise CheckpointError(f"no entry of the state fits this network:\n{found}{hint}")
    return found


def _first(lines: Sequence[str]) -> list[str]:
    """Return the first lines of a list, and a line with the number of further lines."""
    more = len(lines) - MOST_DIFFERENCES
    return [*lines[:MOST_DIFFERENCES], *([f"... and {more} more"] if more > 0 else [])]


def _numbered(wanted: Iterable[str], given: Iterable[str]) -> str:
    """Return a hint if all names in the state begin with numbers, and no name in the network does."""
    if not {*given} or not all(_begins_with_number(k) for k in given) or any(_begins_with_number(k) for k in wanted):
        return ""
    return (
        "\nThe state has the names of an ic.Sequential, this network has names of its own. Until models.resnet18 had"
        " torchvision's names it was a Sequential: a checkpoint of it describes its own network, and ic.Trainer.load"
        " reads it"
    )


def _begins_with_number(name: str) -> bool:
    return str(name).partition(".")[0].isdigit()


def host_arrays(state: Any, graph: Graph) -> dict[str, Any]:
    """Return the entries of a state as NumPy arrays of real numbers, from arrays of any module.

    Entries called ``num_batches_tracked`` that the graph does not have are ignored: PyTorch's batch norms always have
    them, but this library's batch norms have them only if the running statistics depend on them.

    Raises
    ------
    CheckpointError
        If an entry is not an array of real numbers, or has masked elements; the message names the entry.
    """
    check_is_dict(state)
    own = {name for name, _, _ in names(graph, "state")}
    return {k: host_array(k, v) for k, v in state.items() if k in own or not str(k).endswith("num_batches_tracked")}
