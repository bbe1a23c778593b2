"""A network: layers joined to a static graph, and the parameters that they share in one flat vector."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from itertools import accumulate
from math import prod
from numbers import Real
from typing import TYPE_CHECKING, Any

from im2colnet.backend import Backend
from im2colnet.backend.registry import get_backend
from im2colnet.checks import whole
from im2colnet.errors import CheckpointError, DTypeError, FrozenError, NonFiniteError, ShapeError, memory_for
from im2colnet.graph.nodes import Graph, Node
from im2colnet.graph.passes import fuse
from im2colnet.layers import Layer, Parameter
from im2colnet.memory import working
from im2colnet.types import HALF, Array, Shape

if TYPE_CHECKING:
    from im2colnet.datasets.inputs import Inputs
    from im2colnet.engine.run import Run
    from im2colnet.plan import BatchPlan


MOST_DIFFERENCES = 20  # to print of two networks
TOO_DEEP = "networks are nested in each other more deeply than Python can follow: put the layers into one list"
DRAWN = 1 << 16  # numbers of a parameter at a time


class Network(Layer):
    """What :class:`Sequential` and :class:`Residual` have in common: parameters, state, prediction, planning."""

    #: (C, H, W) of the images it is meant for, or (features,): set by the models, else by the first batch
    input_shape: tuple[int, ...] | None = None
    #: what images it was trained on, kept by `Trainer.fit` and in checkpoints
    inputs: Inputs | None = None
    _graph: Graph | None = None
    #: what the graph was built of: networks, their attributes, and the layers there
    _built_of: Sequence[tuple[Network, str, Any]] = ()
    _flat: Array | None = None
    _run: Run | None = None
    _precision: str | None = None
    backend: Backend
    dtype: str

    def __getstate__(self) -> dict[str, Any]:
        state = {k: v for k, v in self.__dict__.items() if k not in ("_graph", "_built_of", "_flat", "_run", "backend")}
        return state | ({"_copied": (self.state_dict(), self.backend)} if self.initialized else {})

    def __setstate__(self, state: dict[str, Any]) -> None:
        values = state.pop("_copied", None)
        self.__dict__.update(state)
        if values is not None:
            inputs = self.inputs
            self.init(dtype=self.dtype, backend=values[1])
            self.load_state_dict(values[0])
            self.inputs = inputs

    def __deepcopy__(self, memo: dict[int, Any]) -> Network:
        copied = memo[id(self)] = type(self).__new__(type(self))
        try:
            copied.__setstate__(deepcopy(self.__getstate__(), memo))
        except RecursionError:
            raise ShapeError(TOO_DEEP) from None
        return copied

    def __setattr__(self, name: str, value: Any) -> None:
        if name in ("backend", "dtype") and self.initialized:
            raise FrozenError(
                f"{name} of a network with parameters cannot be changed: draw new ones by net.init(seed, {name}=...),"
                " and keep these by net.state_dict() and net.load_state_dict(...)"
            )
        super().__setattr__(name, value)

    def children(self) -> dict[str, Layer]:
        """Return the layers that it is made of, by name."""
        raise NotImplementedError(f"{type(self).__name__} must define children()")

    def __repr__(self) -> str:
        try:
            lines = [f"  ({name}): {child!r}".replace("\n", "\n  ") for name, child in self.children().items()]
        except RecursionError:
            return f"{type(self).__name__}(...)"
        return "\n".join([f"{type(self).__name__}(", *lines, ")"])

    @property
    def graph(self) -> Graph:
        """The network's graph, built on first use."""
        if self._graph is None:
            graph = Graph()
            try:
                graph.output = self.build(graph, "", 0)
            except RecursionError:
                raise ShapeError(TOO_DEEP) from None
            if graph.output not in range(1, len(graph.nodes) + 1):
                raise ShapeError(
                    f"{type(self).__name__}.build must return the value of one of its layers, as graph.add returns it,"
                    f" got {graph.output!r}"
                )
            graph.check_used()
            fuse(graph)
            self._graph, self._built_of = graph, [*_holders(self)]
        return self._graph

    def check_unchanged(self) -> None:
        """Raise a FrozenError if a layer was added, removed or replaced after the network was built."""
        for network, name, held in self._built_of:
            if vars(network).get(name) != held:
                raise FrozenError(
                    f"{name} of the {type(network).__name__} was changed after the network was built, which still runs"
                    " the layers that it was built of: make a new network of them. Equal layers' parameters move there"
                    " by state_dict() and load_state_dict(...)"
                )

    @property
    def initialized(self) -> bool:
        """Whether the network has parameters."""
        return self._flat is not None

    @property
    def flat(self) -> Array:
        """All parameters, as one vector."""
        if self._flat is None:
            raise ShapeError("the network has no parameters yet: call net.init(seed=0) first, or load a state_dict")
        return self._flat

    def init(self, seed: int = 0, dtype: str = "float32", backend: str | Backend | None = None) -> Network:
        """Draw new parameters.

        Parameters
        ----------
        seed : int
            The parameters depend on it alone, not on the backend or ``dtype``.
        dtype : {"float32", "float64"}
        backend : str or Backend, optional
            Where they live; see :func:`im2colnet.get_backend`.

        Returns
        -------
        Network
            The network itself.
        """
        from im2colnet.host import np

        if str(dtype) not in ("float32", "float64"):
            raise DTypeError(f"dtype must be 'float32' or 'float64', got {dtype!r}")
        rng = np.random.Generator(np.random.PCG64(whole("seed", seed, least=0)))
        backend = get_backend(backend)
        if self._precision is not None:
            _check_precision(self._precision, str(dtype), backend)
        vars(self).update(backend=backend, dtype=str(dtype))
        self.inputs = None
        self._run = None  # it is bound to the old parameters
        with backend.context():
            self._flat = self.backend.shared((self.graph.size,), self.dtype)
            sizes = [prod(p.shape) for node in self.graph.nodes for p in node.layer.state().values()]
            states = iter(backend.xp.split(backend.shared((sum(sizes),), self.dtype), list(accumulate(sizes))))
            for node in self.graph.nodes:
                node.params = self.views(node, self._flat)
                for key, p in node.layer.parameters().items():
                    self._fill(node.params[key], p, rng)
                node.buffers = {key: next(states).reshape(p.shape) for key, p in node.layer.state().items()}
                for key, p in node.layer.state().items():
                    node.buffers[key][...] = p.value
        return self

    def _fill(self, parameter: Array, p: Parameter, rng: Any) -> None:
        """Draw a parameter, a few rows at a time: what is freed after such large arrays the process would keep."""
        if not p.bound:
            parameter[...] = p.value
            return
        rows, shape = parameter.reshape(p.shape or (1,)), p.shape[1:]
        step = max(1, DRAWN // prod(shape))
        for i in range(0, len(rows), step):
            some = rows[i : i + step]
            draw = p.value + rng.uniform(-p.bound, p.bound, (len(some), *shape))
            some[...] = self.backend.asarray(draw.astype(self.dtype))

    @property
    def precision(self) -> str:
        """How the network computes: what its backend does by default, unless it is set.

        "float32" (or "float64", of such parameters); "tf32", where products round the factors to 10 bits; "float16" or
        "bfloat16", in which images, activations and their gradients are stored, and weights are multiplied. Parameters,
        their gradients and all sums stay float32 (Micikevicius et al. 2018, arXiv:1710.03740).

        Raises
        ------
        BackendError, DTypeError
            When it is set to what the backend cannot do, or parameters of float64 are not for.
        """
        if self._precision is not None or not self.initialized:
            return self._precision or "float32"
        return self.backend.precision if self.dtype == "float32" else self.dtype

    @precision.setter
    def precision(self, precision: str) -> None:
        if self.initialized:
            _check_precision(precision, self.dtype, self.backend)
        self._precision, self._run = precision, None

    def computes(self) -> tuple[Backend, str]:
        """Return the backend at the network's precision, and the type of a run's arrays."""
        precision = self.precision
        if self.dtype != "float32":
            return self.backend, self.dtype
        return self.backend.at(precision), precision if precision in HALF else self.dtype

    def views(self, node: Node, flat: Array) -> dict[str, Array]:
        """A layer's parameters, or their gradients, as views of a flat vector."""
        found = {}
        for key, parameter in node.layer.parameters().items():
            start, shape = node.offsets[key], parameter.shape
            part = flat[start : start + prod(shape)]
            order = self.backend.weight_order if len(shape) == 4 else tuple(range(len(shape)))
            stored = part.reshape([shape[axis] for axis in order])
            found[key] = stored.transpose([order.index(axis) for axis in range(len(shape))])
        return found

    def parameters(self) -> dict[str, Any]:
        """Return every parameter by name, as an array of the backend (not a copy)."""
        self.flat  # noqa: B018 - raises if there are none
        return {name: node.params[key] for name, node, key in self._names("parameters")}

    def _names(self, *kinds: str) -> Iterator[tuple[str, Node, str]]:
        for node in self.graph.nodes:
            for kind in kinds:
                for key in getattr(node.layer, kind)():
                    yield f"{node.name}.{key}", node, key

    def state_dict(self) -> dict[str, Any]:
        """Return parameters and running statistics as NumPy arrays (copies), with PyTorch's names and layouts."""
        from im2colnet.host import np

        self.flat  # noqa: B018 - raises if there are none
        arrays = {n: (node.params | node.buffers)[k] for n, node, k in self._names("parameters", "state")}
        with memory_for():
            return {name: np.array(self.backend.to_numpy(array), order="C") for name, array in arrays.items()}

    def check_finite(self) -> None:
        """Raise a NonFiniteError that names the first parameter or state with NaN or infinity, if there is one."""
        all_finite = self.backend.all_finite
        kinds = ["state"] if all_finite(self.flat) else ["parameters", "state"]  # all parameters at once
        for name, node, key in self._names(*kinds):
            if not all_finite((node.params | node.buffers)[key]):
                raise NonFiniteError(
                    f"{name} has become infinite or NaN: try a lower learning rate, and look for inputs that are far"
                    " too large"
                )

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Set parameters and running statistics by name; a network without parameters gets them first.

        Parameters
        ----------
        state : dict of str to array
            NumPy arrays, lists, or arrays and tensors of other modules, also those on a GPU, of half precision, sparse
            ones, and ones that require a gradient. Entries called ``num_batches_tracked`` are left out.

        Raises
        ------
        CheckpointError
            If the names or shapes are not the network's; the message lists the differences. Or if something is no
            array of real numbers, has masked entries, or numbers too large for the network's type; the message names
            it. Nothing is changed then.
        """
        from im2colnet.host import np

        if not isinstance(state, Mapping):
            hint = ": give its state_dict()" if hasattr(state, "state_dict") else ""
            raise CheckpointError(f"a state is a dict of arrays by name, got a {type(state).__name__}{hint}")
        given = {k: _host_array(k, v) for k, v in state.items() if not str(k).endswith("num_batches_tracked")}
        self.check_state({name: array.shape for name, array in given.items()})
        dtype = self.dtype if self.initialized else "float32"
        arrays = {}
        for name, array in given.items():  # all of it before any is changed
            try:
                with np.errstate(over="raise"):
                    arrays[name] = array.astype(dtype)
            except (FloatingPointError, OverflowError) as error:
                raise CheckpointError(f"{name} holds numbers too large for the network's {dtype}") from error
            except (TypeError, ValueError) as error:
                raise CheckpointError(f"{name} holds something that is not a number: {error}") from error
        if not self.initialized:
            self.init()
        with working(), self.backend.context():
            for name, node, key in self._names("parameters", "state"):
                (node.params | node.buffers)[key][...] = self.backend.asarray(arrays[name])

    def check_state(self, shapes: Mapping[str, Sequence[int]]) -> None:
        """Raise a CheckpointError that lists the differences unless a state of these shapes is this network's."""
        wanted = {}
        for name, node, key in self._names("parameters", "state"):
            wanted[name] = tuple((node.layer.parameters() | node.layer.state())[key].shape)
        differences = [f"{k} is missing" for k in wanted if k not in shapes]
        differences += [f"{k} {tuple(v)} is not in this network" for k, v in shapes.items() if k not in wanted]
        differences += [
            f"{k} has shape {tuple(shapes[k])}, this network's has {shape}"
            for k, shape in wanted.items()
            if k in shapes and tuple(shapes[k]) != shape
        ]
        if differences:
            shown = differences[:MOST_DIFFERENCES]
            if len(differences) > len(shown):
                shown.append(f"... and {len(differences) - len(shown)} more")
            raise CheckpointError("the state belongs to another network:\n  " + "\n  ".join(shown))

    def plan(
        self,
        batch: int,
        input_shape: Sequence[int] | None = None,
        training: bool = True,
        threads: int | None = None,
        shard: int | None = None,
    ) -> BatchPlan:
        """Plan a batch without running it: its shards and stages, every array and its memory.

        Parameters
        ----------
        batch : int
        input_shape
            (C, H, W); by default the one the network was made for, or that of its first batch.
        training : bool
        threads, shard : int, optional
            Workers and samples in a shard; by default as in training.
        """
        from im2colnet.parallel import get_num_threads
        from im2colnet.plan import BatchPlan

        batch = whole("batch", batch)
        threads = get_num_threads() if threads is None else whole("threads", threads)
        shard = None if shard is None else whole("shard", shard)
        backend, dtype = self.computes() if self.initialized else (get_backend(), "float32")
        return BatchPlan(
            self.graph,
            self.check_shape(input_shape),
            batch,
            dtype,
            backend,
            training,
            shard,
            threads,
        )

    def check_shape(self, shape: Sequence[int] | None) -> tuple[int, ...]:
        """Return the shape of one sample: the one given, or the network's."""
        found = shape if shape is not None else self.input_shape
        if found is None:
            raise ShapeError("the input's shape is not known yet: give input_shape=(channels, height, width)")
        return tuple(whole("input_shape's numbers", n) for n in found)

    def summary(self, input_shape: Sequence[int] | None = None, batch: int = 1) -> str:
        """Return a table of layers, output shapes, parameters, FLOPs of a forward pass, and memory.

        Parameters
        ----------
        input_shape
            (C, H, W); by default the one the network was made for, or that of its first batch.
        batch
            Number of images that shapes, FLOPs and memory are for.
        """
        from im2colnet.network.summary import summary, summary_text

        return summary_text(summary(self, self.check_shape(input_shape), batch))

    def predict(self, images: Any) -> Any:
        """Apply the network in evaluation mode.

        Parameters
        ----------
        images : (N, C, H, W) array
            uint8 is scaled to [0, 1]; other numbers are taken as they are. Of NumPy, or of the network's backend, or
            what NumPy can read (lists, PyTorch tensors).

        Returns
        -------
        (N, classes) array
            The network's output (logits, where it ends with a linear layer), of the array module of ``images``, or of
            NumPy.

        Raises
        ------
        DataError
            If the images are uint8 and :attr:`inputs` says that the network was trained on numbers of another scale
            than [0, 1]. The range of floating-point images is not compared.
        """
        return self.inference().predict(images)

    def inference(self) -> Run:
        """Return the run that :meth:`predict` uses."""
        from im2colnet.engine.run import Run

        if self._run is None:
            self._run = Run(self, training=False)
        self.check_unchanged()
        return self._run

    def output_shape(self, x: Shape) -> Shape:
        return self.graph.shapes(x)[-1]


def _holders(layer: Layer) -> Iterator[tuple[Network, str, Any]]:
    """Yield, for each network in ``layer``, the attributes that hold layers, and what they hold."""
    if isinstance(layer, Network):
        for name, value in vars(layer).items():
            held = list(value) if isinstance(value, (list, tuple)) else [value]
            if any(isinstance(child, Layer) for child in held):
                yield layer, name, held if isinstance(value, list) else value
                for child in held:
                    yield from _holders(child)


def _host_array(name: Any, value: Any) -> Any:
    """Return an entry of a state as a NumPy array of real numbers, whatever module it is an array of."""
    from im2colnet.host import np

    try:
        if hasattr(value, "detach"):  # a tensor of PyTorch
            value = value.detach().to_dense().cpu()
            exact = str(value.dtype) in ("torch.float64", "torch.float32") or not value.is_floating_point()
            value = (value if exact else value.float()).numpy()  # NumPy has no bfloat16, and float holds it
        elif hasattr(value, "__cuda_array_interface__") and hasattr(value, "get"):  # of CuPy
            value = value.get()
        masked = np.ma.is_masked(value)
        array = np.asarray(value)
    except MemoryError:
        raise
    except Exception as error:  # of another package
        raise CheckpointError(f"{name} is no array: {type(error).__name__}: {error}") from error
    if masked:
        raise CheckpointError(f"{name} has masked entries, which have no value: fill them first")
    kind = array.dtype.kind
    numbers = kind in "biuf" or (kind == "V" and array.dtype.type is not np.void)  # V: bfloat16 of ml_dtypes
    if not numbers and not (kind == "O" and all(isinstance(x, Real) for x in array.flat)):
        raise CheckpointError(f"{name} holds {array.dtype}, expected real numbers")
    return array


def _check_precision(precision: str, dtype: str, backend: Backend) -> None:
    if dtype != "float32":
        raise DTypeError(f"a precision is for networks of float32, not of {dtype}: got precision={precision!r}")
    backend.at(precision)
