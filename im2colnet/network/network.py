"""A network: the object that users work with, a facade over a graph, its parameters, its plans and its engines."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from copy import copy, deepcopy
from dataclasses import replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from im2colnet.arrays import host_array
from im2colnet.backend import Backend
from im2colnet.backend.registry import get_backend
from im2colnet.checks import arguments, truth_value, whole
from im2colnet.errors import FrozenError, Im2colnetError, InputWarning, ShapeError, memory_for
from im2colnet.graph.choosing import chosen, similar
from im2colnet.graph.nodes import Graph, Node
from im2colnet.graph.parameters import (
    Parameters,
    StateReport,
    check_some,
    check_state,
    host_arrays,
    names,
    state_shapes,
)
from im2colnet.layers import Layer
from im2colnet.layers.base import GraphBuilder
from im2colnet.layout import internal_axes, internal_shape, one_or_tuple, user_axes
from im2colnet.normalization import Normalization
from im2colnet.types import Array, Shape

if TYPE_CHECKING:
    from im2colnet.datasets.inputs import Inputs
    from im2colnet.engine import Engine
    from im2colnet.losses import Loss
    from im2colnet.parallel.ranks import Ranks
    from im2colnet.plan import BatchPlan

TOO_DEEP = "networks are nested in each other more deeply than Python can follow: put the layers into one list"


class Network(Layer):
    """Base of all networks: parameters, state, prediction, planning.

    Your own network is a class derived from this one. It has its layers as attributes, alone, in lists or in dicts, and
    a method ``define``, which is called once with a symbolic value. Its parameters are named after the attributes, as
    in a PyTorch module.

    Parameters
    ----------
    *args, **options : any
        The arguments of the constructor of your own network.

    Attributes
    ----------
    input_shape : tuple of int or None
        The shape of one sample, (C, H, W) of images or (features,). The models set it; otherwise the first batch sets
        it.
    inputs : Inputs or None
        A description of the training images, set by ``Trainer.fit`` and stored in checkpoints.

    Examples
    --------
    >>> class Block(ic.Network):
    ...     def __init__(self, n):
    ...         self.conv = ic.Conv2d(n, n, 3, padding=1)
    ...         self.relu = ic.ReLU()
    ...
    ...     def define(self, x):
    ...         return self.relu(self.conv(x) + x)
    >>> [*Block(4).init().parameters()]
    ['conv.weight', 'conv.bias']
    """

    input_shape: tuple[int, ...] | None = None
    inputs: Inputs | None = None
    _graph: Graph | None = None
    #: the parts that the graph was built from: networks, their attributes, and the layers there
    _built_of: Sequence[tuple[Network, str, Any]] = ()
    _parameters: Parameters | None = None
    #: the engines of inference, by whether a loss gets their results, and by the ranks that divide the images
    _engines: Mapping[tuple[bool, Ranks | None], Engine] = MappingProxyType({})
    _precision: str | None = None
    _normalization: Normalization | None = None
    #: the names of the frozen parameters and states, which training does not change
    _frozen: frozenset[str] = frozenset()
    #: the layers that :meth:`replace` has put in, by name
    replaced: Mapping[str, Layer] = MappingProxyType({})
    #: the arguments of the constructor
    _made_with: tuple[tuple[Any, ...], dict[str, Any]] = ((), {})

    def __new__(cls, *args: Any, **options: Any) -> Any:
        self = super().__new__(cls)
        vars(self)["_made_with"] = args, options
        return self

    def __getstate__(self) -> dict[str, Any]:
        state = {k: v for k, v in vars(self).items() if k not in _MADE}
        return state | ({"_copied": (self.state_dict(), self.backend, self.dtype)} if self.initialized else {})

    def __setstate__(self, state: dict[str, Any]) -> None:
        copied = state.pop("_copied", None)
        self.__dict__.update(state)
        if copied is not None:
            values, backend, dtype = copied
            inputs = self.inputs
            self.init(dtype=dtype, backend=backend)
            self.load_state_dict(values)
            self.inputs = inputs

    def __deepcopy__(self, memo: dict[int, Any]) -> Network:
        copied: Network = type(self).__new__(type(self))
        memo[id(self)] = copied
        try:
            copied.__setstate__(deepcopy(self.__getstate__(), memo))
        except RecursionError:
            raise ShapeError(TOO_DEEP) from None
        return copied

    def __setattr__(self, name: str, value: Any) -> None:
        if isinstance(value, Layer) and hasattr(Network, name):
            raise FrozenError(
                f"a layer of a network cannot be called {name!r}, an attribute of all networks: rename it"
            )
        super().__setattr__(name, value)

    # ------------------------------------------------------------------ layers and graph

    def children(self) -> dict[str, Layer]:
        """Return the layers of the network by name: its attributes, and the members of lists and dicts."""
        found: dict[str, Layer] = {}
        for name, value in _attributes(self).items():
            if isinstance(value, Layer):
                found[name] = value
            elif isinstance(value, (list, tuple)):
                found |= {f"{name}.{i}": layer for i, layer in enumerate(value) if isinstance(layer, Layer)}
            elif isinstance(value, dict):
                found |= {f"{name}.{key}": layer for key, layer in value.items() if isinstance(layer, Layer)}
        return found

    def define(self, *inputs: Any) -> Any:
        """Compute the network's output, or several as a tuple, from symbolic values.

        Call layers with these values, such as ``self.conv(x)``, and add or multiply values of equal shapes. ``define``
        is called once, when the graph is built.

        Parameters
        ----------
        *inputs : symbolic value
            The network's input; a network within another network may have several inputs.

        Returns
        -------
        symbolic value or tuple
            The network's output, or a tuple of outputs.
        """
        raise NotImplementedError(f"{type(self).__name__} must have a method define(self, x)")

    def __call__(self, *inputs: Any) -> Any:
        """Apply the network as :meth:`predict` does, or to symbolic values within another network's ``define``."""
        if inputs and all(hasattr(value, "scope") for value in inputs):
            return super().__call__(*inputs)
        return self.predict(*inputs)

    def __getitem__(self, name: Any) -> Any:
        """Return a layer by its name: ``net["conv"]``, or ``net["block.conv"]`` of a network in this network.

        Raises
        ------
        ShapeError
            If there is no such layer; the message lists similar names.
        """
        if not isinstance(name, str):
            raise ShapeError(
                f"the layers of {type(self).__name__} have names, such as {next(iter(self.children()), 'conv')!r}, got"
                f" {name!r:.80}"
            )
        holder, key = self._place(name)
        return holder.children()[key]

    def __repr__(self) -> str:
        try:
            lines = [f"  ({name}): {child!r}".replace("\n", "\n  ") for name, child in self.children().items()]
        except RecursionError:
            return f"{type(self).__name__}(...)"
        return "\n".join([f"{type(self).__name__}(", *lines, ")"])

    def _repr_html_(self) -> str:
        """Return the HTML for a notebook: the table of :meth:`summary`, once the shape of the images is known."""
        from im2colnet.network.summary import summary_html
        from im2colnet.show.html import code

        try:
            if self.input_shape is not None:
                shown = self if self._graph is not None else copy(self)  # showing the network must not fix its layers
                return summary_html(shown.summary_facts(self.input_shape, 1))
        except Im2colnetError:
            pass  # the error is raised where the network is used
        return code(repr(self).split("\n"))

    def config(self) -> dict[str, Any]:
        """Return the constructor's arguments: attributes of the same names, or else the values of the call."""
        given, options = self._made_with
        bound = inspect.signature(type(self)).bind(*given, **options)
        bound.apply_defaults()
        found = bound.arguments
        return {name: getattr(self, name, found.get(name)) for name in arguments(type(self))}

    def build(self, graph: GraphBuilder, name: str, *inputs: int) -> Any:
        from im2colnet.network.tracing import Scope, Value

        scope = Scope(graph, name, self.children())
        made = self.define(*(Value(scope, index) for index in inputs))
        outputs = made if isinstance(made, (tuple, list)) else (made,)
        for value in outputs:
            if not isinstance(value, Value):
                raise ShapeError(f"define of {type(self).__name__} must return symbolic values, got {value!r:.80}")
        return tuple(value.index for value in outputs) if isinstance(made, (tuple, list)) else made.index

    @property
    def graph(self) -> Graph:
        """The network's graph, built on first use."""
        if self._graph is None:
            graph = Graph()
            try:
                made = self.build(graph, "", 0)
            except RecursionError:
                raise ShapeError(TOO_DEEP) from None
            graph.outputs = made if isinstance(made, tuple) else (made,)
            graph.scores = tuple(graph.output_of(name) or 0 for name in self.score_names())
            graph.check(type(self).__name__)
            graph.freeze(self._frozen)
            self._graph, self._built_of = graph, [*_holders(self)]
            self._warn_of_inner_normalization()
        return self._graph

    def score_names(self) -> Sequence[str]:
        """Return the layers whose outputs the loss gets in place of the network's outputs; none by default."""
        return ()

    def _warn_of_inner_normalization(self) -> None:
        inner = {id(holder): holder for holder, _, _ in self._built_of if holder is not self}
        for network in inner.values():
            if network.normalization is not None and network.normalization != self._normalization:
                warnings.warn(
                    f"a {type(network).__name__} within this network has a normalization that is ignored: only the"
                    " outermost network normalizes its images. Set"
                    f" net.normalization = {tuple(network.normalization)!r:.300}",
                    InputWarning,
                    stacklevel=4,
                )

    def check_unchanged(self) -> None:
        """Raise a FrozenError if a layer was added, removed or replaced after the network was built."""
        for network, name, held in self._built_of:
            if vars(network).get(name) != held:
                raise FrozenError(
                    f"{name} of the {type(network).__name__} was changed after the network was built, and the network"
                    " still runs its old layers: make a new network from the new layers. Copy the parameters of equal"
                    " layers with state_dict() and load_state_dict(...)"
                )

    def output_shape(self, *inputs: Shape) -> Shape:
        return self.graph.shapes(inputs[0])[self.graph.outputs[0]]

    # ------------------------------------------------------------------ parameters

    @property
    def initialized(self) -> bool:
        """Whether the network has parameters."""
        return self._parameters is not None

    @property
    def held(self) -> Parameters:
        """The parameters and the state, in the library's own layout."""
        if self._parameters is None and not self.state_shapes():
            self._make(0)  # there is nothing to draw or to load
        if self._parameters is None:
            raise ShapeError("the network has no parameters yet: call net.init(seed=0) first, or load a state_dict")
        return self._parameters

    @property
    def flat(self) -> Array:
        """All parameters as one vector."""
        return self.held.flat

    @property
    def backend(self) -> Backend:
        """The backend that holds the parameters and computes with them."""
        return self.held.backend

    @backend.setter
    def backend(self, backend: Any) -> None:
        raise FrozenError(_FROZEN.format("backend"))

    @property
    def dtype(self) -> str:
        """The type of the parameters, "float32" or "float64"."""
        return self.held.dtype

    @dtype.setter
    def dtype(self, dtype: Any) -> None:
        raise FrozenError(_FROZEN.format("dtype"))

    def init(self, seed: int = 0, dtype: str = "float32", backend: str | Backend | None = None) -> Any:
        """Initialize the network with new random parameters.

        Parameters
        ----------
        seed : int
            The seed of the random numbers. The parameters depend on the seed only, not on the backend or ``dtype``.
        dtype : {"float32", "float64"}
            The type of the parameters.
        backend : str or Backend, optional
            The backend that holds the parameters; see :func:`im2colnet.get_backend`.

        Returns
        -------
        Network
            The network itself.
        """
        if self.initialized:
            self._normalization = None
        return self._make(seed, dtype, backend)

    def _make(self, seed: int | None = None, dtype: str = "float32", backend: str | Backend | None = None) -> Any:
        """Allocate new parameters; without a seed they get no random values, because they will be loaded."""
        self._parameters = Parameters(self.graph, get_backend(backend), str(dtype), seed, self._precision)
        self._parameters.normalization = self._normalization
        self.inputs = None
        self._engines = {}  # the existing engines are bound to the old parameters
        return self

    @property
    def precision(self) -> str:
        """The precision of the computation; by default the precision of the backend.

        "float32" (or "float64", if the parameters are float64); "tf32", where products round the factors to 10 bits;
        "float16" or "bfloat16", the type in which images, activations and their gradients are stored and weights are
        multiplied. Parameters, their gradients and all sums stay float32 (Micikevicius et al. 2018, arXiv:1710.03740).

        Raises
        ------
        BackendError, DTypeError
            If it is set to a precision that the backend does not have, or that parameters of float64 do not allow.
        """
        return self._precision or "float32" if self._parameters is None else self._parameters.precision

    @precision.setter
    def precision(self, precision: str) -> None:
        if self._parameters is not None:
            self._parameters.precision = precision
        self._precision, self._engines = precision, {}

    @property
    def normalization(self) -> tuple[tuple[float, ...], tuple[float, ...]] | None:
        """The normalization of images before the first layer: (mean, standard deviation) of each channel, or None.

        The network computes with ``(x - mean) / std`` in training, evaluation and prediction; uint8 images are scaled
        to [0, 1] before. ``fit(..., normalize=True)`` measures both. Or assign them, such as
        ``((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))`` for weights of torchvision. For features (N, F) each feature
        is a channel. The normalization is part of checkpoints, but it is not a parameter: :meth:`state_dict` does not
        hold it and :meth:`load_state_dict` does not change it, so assign it to a network that gets the weights of
        another network. If :meth:`init` replaces existing parameters, the normalization becomes None.

        Raises
        ------
        ShapeError
            If it is set to any other value.
        """
        return self._normalization

    @normalization.setter
    def normalization(self, given: Any) -> None:
        normalization = Normalization.of(given)
        if normalization is not None and self.input_shape is not None:
            normalization.check((1, *self.input_shape))
        self._normalization = normalization
        if self._parameters is not None:
            self._parameters.normalization = normalization

    def computes(self) -> tuple[Backend, str]:
        """Return the backend in the network's precision, and the type of the arrays between layers."""
        return self.held.computes()

    def views(self, node: Node, flat: Array) -> dict[str, Array]:
        """Return a layer's parameters, or their gradients, as views of a flat vector."""
        return self.held.views(node, flat)

    def parameters(self) -> dict[str, Any]:
        """Return every parameter by name, as an array of the backend (not a copy).

        Returns
        -------
        dict of str to Array
            The parameters, with PyTorch's names, such as ``"0.weight"``.
        """
        return self.held.named()

    def state_dict(self) -> dict[str, Any]:
        """Return parameters and running statistics as NumPy arrays (copies), with PyTorch's names and layouts.

        Returns
        -------
        dict of str to array
            The arrays by name, for :meth:`load_state_dict`.
        """
        return self.held.state_dict()

    def check_finite(self) -> None:
        """Raise a NonFiniteError that names the first parameter or state with NaN or infinity, if there is one."""
        self.held.check_finite()

    def load_state_dict(self, state: Mapping[str, Any], strict: bool = True) -> StateReport:
        """Load parameters and running statistics by name. A network without parameters gets new ones first.

        Parameters
        ----------
        state : dict of str to array
            NumPy arrays, lists, or arrays and tensors of other modules, also those on a GPU, of half precision, sparse
            ones, and ones that require a gradient. Entries called ``num_batches_tracked`` are ignored if the network
            has no such entry: only a batch norm with ``momentum=None`` has one.
        strict : bool
            Whether all names and shapes must match the network. With False the entries that match are loaded, and the
            network keeps its values for all others: use this for a network with a new last layer.

        Returns
        -------
        StateReport
            The names that were loaded, the names that are missing, the names that are not in the network, and the names
            whose shapes differ. It can be printed.

        Raises
        ------
        CheckpointError
            If names or shapes do not match the network; the message lists the differences. With ``strict=False`` only
            if no entry matches. Also if an entry is not an array of real numbers, has masked elements, or numbers too
            large for the network's type; the message names the entry. The network is unchanged then.
        """
        given = host_arrays(state, self.graph)
        shapes = {name: array.shape for name, array in given.items()}
        report = check_state(self.graph, shapes) if strict else check_some(self.graph, shapes)
        fresh = not self.initialized
        if fresh:
            self._make(0 if report.missing else None)
        try:
            self.held.load_state_dict({name: given[name] for name in report.loaded})
        except BaseException:
            if fresh:
                self._parameters = None
            raise
        return report

    def state_shapes(self) -> dict[str, Shape]:
        """Return the shapes of all parameters and running statistics by name, without allocating them.

        Returns
        -------
        dict of str to tuple of int
            The shapes of the arrays of :meth:`state_dict`, such as (F, C / groups, KH, KW).
        """
        return state_shapes(self.graph)

    def check_state(self, shapes: Mapping[str, Sequence[int]]) -> None:
        """Raise a CheckpointError that lists the differences unless a state dict of these shapes fits this network."""
        check_state(self.graph, shapes)

    # ------------------------------------------------------------------ freezing and replacing

    def freeze(self, *patterns: str, statistics: bool = False) -> None:
        """Freeze parameters: training computes no gradients of them, and does not change them.

        The backward pass ends at the first layer whose parameters are not frozen, so a step takes less time and memory.
        ``freeze`` may be called between two steps or calls of ``fit``. Checkpoints store which parameters are frozen.

        Parameters
        ----------
        *patterns : str
            Names such as ``"conv1.weight"``, or patterns such as ``"features.*"``, in which ``*`` stands for any text.
            Without a pattern all parameters are frozen.
        statistics : bool
            Whether to freeze the running statistics of the matching batch norms too. These layers then use the running
            statistics in training as in prediction, as in PyTorch after ``module.eval()``. By default, as in PyTorch, a
            batch norm with frozen parameters uses the statistics of the batch and updates its running statistics.
            Freeze them if the new data set is small, or the batches are small.

        Raises
        ------
        ShapeError
            If a pattern matches no name; the message lists similar names.
        """
        kinds = ("parameters", "state") if truth_value("statistics", statistics) else ("parameters",)
        self.freeze_only(self._frozen | self._chosen(patterns, *kinds))

    def unfreeze(self, *patterns: str) -> None:
        """Unfreeze parameters, and the running statistics that the patterns match.

        The optimizer's state of a parameter is the state that it had when the parameter was frozen.

        Parameters
        ----------
        *patterns : str
            See :meth:`freeze`. Without a pattern everything is unfrozen.
        """
        self.freeze_only(self._frozen - self._chosen(patterns, "parameters", "state"))

    @property
    def frozen(self) -> tuple[str, ...]:
        """The names of the frozen parameters and running statistics, see :meth:`freeze`."""
        return tuple(name for name, _, _ in names(self.graph) if name in self._frozen)

    @frozen.setter
    def frozen(self, frozen: Any) -> None:
        raise FrozenError('frozen cannot be assigned: call net.freeze("features.*") and net.unfreeze("features.*")')

    def _chosen(self, patterns: Sequence[str], *kinds: str) -> set[str]:
        """Return the names that patterns match; the statistics of a layer are chosen together."""
        of = {name: node for name, node, _ in names(self.graph, *kinds)}
        found = {name for pattern in patterns or ("*",) for name in chosen("the pattern", pattern, [*of])}
        return found | {
            f"{of[name].name}.{key}"
            for name in found
            if name.rpartition(".")[2] in of[name].layer.state()
            for key in of[name].layer.state()
        }

    def freeze_only(self, frozen: Iterable[str]) -> None:
        """Freeze exactly these names."""
        self._frozen = frozenset(frozen)
        self.graph.freeze(self._frozen)

    def replace(self, name: str, layer: Layer, seed: int = 0) -> Any:
        """Replace a layer by a new one, such as the last layer by a layer for other classes; all other layers stay.

        The other layers keep their parameters and statistics, and stay frozen if they were. If the last layer is
        replaced, the names of the classes are removed. An existing trainer of the network cannot be used any more: make
        a new one.

        Parameters
        ----------
        name : str
            The name of the layer: the part before the last dot in the names of its parameters, such as ``"fc"`` of
            ``"fc.weight"``. The first column of :meth:`summary` has the names.
        layer : Layer
            The new layer.
        seed : int
            The seed of the new layer's parameters.

        Returns
        -------
        Network
            The network itself.

        Raises
        ------
        ShapeError
            If there is no such layer, or the new layer does not fit in its place. The network is unchanged then.

        Examples
        --------
        >>> net = ic.models.lenet5(classes=10).init(seed=0)
        >>> last = [*net.parameters()][-1].rpartition(".")[0]
        >>> net = net.replace(last, ic.Linear(84, 5))
        >>> net.predict(np.zeros((1, 1, 28, 28))).shape
        (1, 5)
        """
        if not isinstance(layer, Layer):
            raise ShapeError(f"layer must be a layer such as ic.Linear(512, 10), got {layer!r:.80}")
        if not isinstance(name, str):
            raise ShapeError(f'name must be text, such as "fc" or "4", got {name!r:.80}')
        self.check_unchanged()
        seed, (holder, key) = whole("seed", seed, least=0), self._place(name)
        before, old, inputs = holder.children()[key], self._parameters, self.inputs
        last = next((node.name for node in reversed(self.graph.nodes) if node.offsets), "")
        kept = {attribute: getattr(self, attribute) for attribute in (*_MADE, "_frozen", "replaced", "inputs")}

        def elsewhere(place: str) -> bool:
            return not f"{place}.".startswith(f"{name}.")

        holder.put(key, layer)
        try:
            self._graph, self._frozen = None, frozenset(filter(elsewhere, self._frozen))
            self.replaced = {k: v for k, v in self.replaced.items() if elsewhere(k)} | {name: layer}
            graph = self.graph  # built anew
            if self.input_shape is not None:
                graph.shapes(internal_shape(self.input_shape, 1))
            if old is not None:
                self._parameters = None  # so that init keeps the normalization
                self.init(seed, old.dtype, old.backend)
                self.held.load_state_dict({k: v for k, v in old.state_dict().items() if elsewhere(k)})
            if inputs is not None:  # a new last layer is for other classes
                self.inputs = inputs if elsewhere(last) else replace(inputs, classes=())
        except BaseException:
            holder.put(key, before)
            vars(self).update(kept)
            raise
        return self

    def put(self, key: str, layer: Layer) -> None:
        """Replace one of :meth:`children`, before the graph is built."""
        for name, value in _attributes(self).items():
            if name == key:
                setattr(self, name, layer)
            elif isinstance(value, (list, tuple)) and key.rpartition(".")[0] == name:
                place = int(key.rpartition(".")[2])
                setattr(self, name, type(value)([*value[:place], layer, *value[place + 1 :]]))
            elif isinstance(value, dict) and key.startswith(f"{name}."):
                setattr(self, name, {k: layer if f"{name}.{k}" == key else v for k, v in value.items()})

    def _place(self, name: str) -> tuple[Network, str]:
        """Return the network that has a layer as its child, and the child's name there."""
        holder, rest = self, name
        while rest not in (children := holder.children()):
            found = [
                key
                for key, child in children.items()
                if isinstance(child, Network) and f"{rest}.".startswith(f"{key}.")
            ]
            if not found:
                raise self._no_layer(name)
            holder, rest = children[found[0]], rest[len(found[0]) + 1 :]  # type: ignore[assignment]
        return holder, rest

    def _no_layer(self, name: str) -> ShapeError:
        known = [node.name for node in self.graph.nodes]
        return ShapeError(f"the network has no layer {name!r}; {similar(name, known)}")

    # ------------------------------------------------------------------ plans, tables, predictions

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
            The number of samples.
        input_shape : sequence of int, optional
            The shape of one image, (C, H, W); by default the shape that the network was made for, or the shape of its
            first batch.
        training : bool
            Whether to plan a training step; otherwise a prediction.
        threads, shard : int, optional
            The number of workers and the number of samples in a shard; by default as in training.

        Returns
        -------
        BatchPlan
            The plan, which ``im2colnet plan`` prints.
        """
        from im2colnet.parallel import get_num_threads
        from im2colnet.plan import BatchPlan

        batch = whole("batch", batch)
        threads = get_num_threads() if threads is None else whole("threads", threads)
        shard = None if shard is None else whole("shard", shard)
        backend, dtype = self.computes() if self.initialized else (get_backend(), "float32")
        sample = self.check_shape(input_shape)
        graph = self.graph.for_loss() if training else self.graph
        return BatchPlan(graph, sample, batch, dtype, backend, training, shard, threads)

    def check_shape(self, shape: Sequence[int] | None) -> tuple[int, ...]:
        """Return the shape of one sample: the given shape, or the network's."""
        found = shape if shape is not None else self.input_shape
        if found is None:
            raise ShapeError("the input's shape is not known yet: give input_shape=(channels, height, width)")
        return tuple(whole("input_shape's numbers", n) for n in found)

    def summary(self, input_shape: Sequence[int] | None = None, batch: int = 1) -> str:
        """Return a table of layers, output shapes, parameters, FLOPs of a forward pass, and memory.

        Parameters
        ----------
        input_shape : sequence of int, optional
            The shape of one image, (C, H, W); by default the shape that the network was made for, or the shape of its
            first batch.
        batch : int
            The number of images for which shapes, FLOPs and memory are computed.

        Returns
        -------
        str
            The table, to be printed.
        """
        from im2colnet.network.summary import summary_text

        return summary_text(self.summary_facts(self.check_shape(input_shape), batch))

    def summary_facts(self, input_shape: Sequence[int], batch: int) -> dict[str, Any]:
        """Return the contents of :meth:`summary` as numbers."""
        from im2colnet.network.summary import summary

        facts = summary(self.graph, self.dtype if self.initialized else "float32", input_shape, batch)
        scores = [name for name in self.score_names() if self.graph.scores != self.graph.outputs]
        return facts | {"normalization": self._normalization and [*map(list, self._normalization)], "scores": scores}

    def predict(self, images: Any, scores: bool = False) -> Any:
        """Apply the network in evaluation mode; ``net(images)`` does the same.

        Parameters
        ----------
        images : array, (N, C, H, W)
            The images. uint8 is scaled to [0, 1]; other numbers are not scaled. An array of NumPy or of the network's
            backend, or an object that NumPy can read (lists, PyTorch tensors).
        scores : bool
            Whether to return the values that a loss gets. They are the outputs, except for a :class:`Net` with
            ``scores``.

        Returns
        -------
        array, (N, classes)
            The network's output (logits, if it ends with a linear layer), as an array of the same module as ``images``,
            or of NumPy. A network with several outputs returns a tuple.

        Raises
        ------
        ShapeError
            If the network has no parameters yet, or does not take images of this shape; the message names the layer.
        DataError
            If the images are uint8 and ``net.inputs`` says that the network was trained on numbers of another scale
            than [0, 1]. The range of floating-point images is not compared.
        """
        return self.predicted(images, scores)

    def predicted(self, images: Any, scores: bool = False, ranks: Ranks | None = None) -> Any:
        """Do the work of :meth:`predict`; the ranks divide the images, and all of them get the complete result."""
        images = self._check_alike(images, least=0)
        result = self.inference(scores, ranks).predict(images)
        self.knows_shape(images)
        return result

    def features(self, images: Any, layers: str | Sequence[str]) -> Any:
        """Return the outputs of layers in evaluation mode: activations, feature maps.

        Parameters
        ----------
        images : array, (N, C, H, W)
            The images, as for :meth:`predict`.
        layers : str, or sequence of str
            The name of a layer, as in :meth:`summary`, or of a network in this network; or several names.

        Returns
        -------
        array, or dict of str to array
            The output of the layer, (N, C, H, W) or (N, features). For several names a dict.

        Raises
        ------
        ShapeError
            If there is no such layer; the message lists similar names.

        Examples
        --------
        >>> train, test = ic.datasets.load("digits")
        >>> net = ic.models.notebook(classes=10).init(seed=0)
        >>> net.features(test.images[:5], "0").shape
        (5, 2, 6, 6)
        """
        from im2colnet.engine import Engine

        names = [layers] if isinstance(layers, str) else layers
        if not isinstance(names, (list, tuple)) or not names or not all(isinstance(name, str) for name in names):
            raise ShapeError(f"layers must be the name of a layer, or several, got {layers!r:.80}")
        values = [self._value_of(name) for name in names]
        distinct = [*dict.fromkeys(values)]
        images = self._check_alike(images, least=0)
        self.check_unchanged()
        found = Engine(self.held, self.graph.part(distinct), training=False).predict(images)
        self.knows_shape(images)
        made = dict(zip(distinct, found if len(distinct) > 1 else [found], strict=True))
        return made[values[0]] if isinstance(layers, str) else {k: made[v] for k, v in zip(names, values, strict=True)}

    def input_gradient(self, images: Any, doutput: Any, layer: str | None = None) -> Any:
        """Return the gradient with respect to the images, in evaluation mode: how each pixel changes the output.

        Parameters
        ----------
        images : (N, C, H, W) array
            The images, as for :meth:`predict`.
        doutput : (N, classes) array, or callable
            The gradient with respect to the output, in the shape of the output; a tuple for several outputs. Or a
            function that takes the output of :meth:`predict` and returns this gradient. With 1 at a class and 0
            elsewhere, the result says how the score of the class depends on each pixel (Simonyan, Vedaldi & Zisserman
            2013, arXiv:1312.6034).
        layer : str, optional
            The name of a layer whose output is used in place of the network's output.

        Returns
        -------
        (N, C, H, W) array
            The gradient, as an array of the same module as ``images``, or of NumPy. It is the gradient with respect to
            the pixels before :attr:`normalization`, and for uint8 images after they are scaled to [0, 1].

        Raises
        ------
        ShapeError
            If there is no such layer, or the shape of ``doutput`` is not the shape of the output.

        Examples
        --------
        >>> train, test = ic.datasets.load("digits")
        >>> net = ic.models.notebook(classes=10).init(seed=0)
        >>> of_label = np.eye(10)[test.labels[:5]]
        >>> net.input_gradient(test.images[:5], of_label).shape
        (5, 1, 8, 8)
        """
        from im2colnet.engine.passes import Passes

        images = self._check_alike(images, least=1)
        self.check_unchanged()
        backend, own = self.backend, self.backend.owns(images)
        graph = self.graph if layer is None else self.graph.part([self._value_of(layer)])
        with memory_for():
            passes = Passes(graph, self.held, images)
            outputs = [passes.values[v].transpose(user_axes(passes.values[v].ndim)) for v in graph.outputs]
            shown = outputs if own else [backend.to_numpy(output.copy()) for output in outputs]
            given = doutput(one_or_tuple(shown)) if callable(doutput) else doutput
            gradients: dict[int, Any] = {}
            for value, y, dy in zip(graph.outputs, outputs, self._each_output(given, len(outputs)), strict=True):
                dy = backend.asarray(dy if backend.owns(dy) else host_array("doutput", dy), self.dtype)
                if dy.shape != y.shape:
                    raise ShapeError(f"doutput has shape {tuple(dy.shape)}, but the output has {tuple(y.shape)}")
                rows = backend.empty(passes.values[value].shape, self.dtype)
                rows[...] = dy.transpose(internal_axes(dy.ndim))
                gradients[value] = rows if value not in gradients else gradients[value] + rows
            passes.backward(gradients)
            found = passes.of_images()
            found = found.transpose(user_axes(found.ndim)).copy()
        self.knows_shape(images)
        return found if own else backend.to_numpy(found)

    def _each_output(self, given: Any, count: int) -> Sequence[Any]:
        """Return ``given`` as a sequence with a value for each of ``count`` outputs; a single value needs no tuple."""
        if count == 1:
            return [given]
        if not isinstance(given, (tuple, list)) or len(given) != count:
            raise ShapeError(f"the network has {count} outputs: doutput must be a tuple of {count} arrays")
        return given

    def _value_of(self, name: str) -> int:
        """Return the value in the graph that is the output of the layer or network of this name."""
        found = self.graph.output_of(name)
        if found is None:
            inside = [node.name for node in self.graph.nodes if node.name.startswith(f"{name}.")]
            if inside:
                raise ShapeError(f"{name!r} has several outputs: name one of its layers, such as {inside[-1]!r}")
            raise self._no_layer(name)
        return found

    def evaluate(self, images: Any, labels: Any, loss: Loss) -> tuple[float, ...]:
        """Return the mean loss over images, in evaluation mode, and the sums of the metrics of the loss.

        Parameters
        ----------
        images : array, (N, C, H, W)
            The images, as for :meth:`predict`.
        labels : array
            The labels, in the form that the loss takes: for classes (N,) integers.
        loss : Loss
            A loss such as :class:`CrossEntropyLoss`.

        Returns
        -------
        tuple of float
            The mean loss, then a sum for each of ``loss.metrics``, such as the number of correctly classified images.
        """
        return self.evaluated(images, labels, loss, keep=False)[0]

    def evaluated(
        self, images: Any, labels: Any, loss: Loss, keep: bool, ranks: Ranks | None = None
    ) -> tuple[tuple[float, ...], tuple[Array, ...]]:
        """Do the work of :meth:`evaluate`; with ``keep`` return the outputs too, as NumPy arrays.

        The ranks divide the images, and all of them get the complete result.
        """
        images = self._check_alike(images, least=1)
        result = self.inference(scores=True, ranks=ranks).evaluate(images, labels, loss, keep)
        self.knows_shape(images)
        return result

    def check_images(self, images: Any, least: int = 1) -> Any:
        """Return ``images`` as an array of the host or of the backend, or raise an error if they do not fit."""
        from im2colnet.engine.inputs import check_images

        with memory_for():
            images = check_images(images, self.backend, self.input_shape, least)
        if self._normalization is not None:
            self._normalization.check(images.shape)
        return images

    def _check_alike(self, images: Any, least: int) -> Any:
        """Check images, and that they are of the kind of the training images."""
        images = self.check_images(images, least)
        if self.inputs is not None:
            self.inputs.compare_kind("images", images.dtype.name == "uint8")
        return images

    def knows_shape(self, images: Any) -> None:
        """Store the shape of the first images."""
        if self.input_shape is None and len(images):
            self.input_shape = tuple(images.shape[1:])

    def inference(self, scores: bool = False, ranks: Ranks | None = None) -> Engine:
        """Return the engine that :meth:`predict` uses."""
        from im2colnet.engine import Engine

        self.check_unchanged()
        key = scores and bool(self.graph.scores), ranks
        if key not in self._engines:
            graph = self.graph.for_loss() if key[0] else self.graph
            self._engines = {**self._engines, key: Engine(self.held, graph, training=False, ranks=ranks)}
        return self._engines[key]


_FROZEN = (
    "{0} of a network with parameters cannot be changed: make new parameters with net.init(seed, {0}=...); to keep the"
    " values, use net.state_dict() before and net.load_state_dict(...) after"
)


#: attributes that a network computes from its other attributes
_MADE = frozenset({"_graph", "_built_of", "_parameters", "_engines"})


def _attributes(network: Network) -> dict[str, Any]:
    """Return the attributes that a network's class has given it."""
    return {name: value for name, value in vars(network).items() if name not in {*_MADE, "_made_with", "replaced"}}


def _holders(layer: Layer) -> Iterator[tuple[Network, str, Any]]:
    """Yield, for each network in ``layer``, the attributes that hold layers, and what they hold."""
    if not isinstance(layer, Network):
        return
    for name, value in _attributes(layer).items():
        several = [*value.values()] if isinstance(value, dict) else value
        held = [*several] if isinstance(several, (list, tuple)) else [value]
        # of Net each is a layer, or a tuple that begins with one
        layers = [one[0] if isinstance(one, tuple) and one else one for one in held]
        if any(isinstance(child, Layer) for child in layers):
            yield layer, name, value.copy() if isinstance(value, (list, dict)) else value
            for child in layers:
                yield from _holders(child)
