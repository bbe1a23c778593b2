"""The arrays that the steps of one network share: arenas, rows of gradients, a copy of the parameters in 16 bits."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from im2colnet.engine.binding import BoundBatch, Name
from im2colnet.errors import OutOfMemoryError
from im2colnet.graph.nodes import Graph, Node
from im2colnet.graph.parameters import Parameters
from im2colnet.layers import Layer
from im2colnet.layout import channel_axis
from im2colnet.memory import as_scratch
from im2colnet.normalization import Normalization
from im2colnet.parallel.ranks import Ranks
from im2colnet.plan import BatchPlan
from im2colnet.types import Array

#: the number of batch sizes that stay bound to memory
MOST_BATCHES = 16


class Memory:
    """The memory that batches of all sizes share, and the batches that are bound to it.

    Parameters
    ----------
    parameters : Parameters
    graph : Graph
        The layers that run: the parameters' graph, or a part of it.
    training : bool
    shard : int, optional
        The largest number of samples in a shard. By default the backend decides.
    ranks : Ranks, optional
        The ranks that share each batch. By default this process has all of it.
    """

    def __init__(
        self,
        parameters: Parameters,
        graph: Graph,
        training: bool,
        shard: int | None = None,
        ranks: Ranks | None = None,
    ) -> None:
        self.parameters, self.graph, self.training, self.shard = parameters, graph, training, shard
        self.ranks = ranks
        self.backend, self.dtype = parameters.computes()
        flat = parameters.flat
        #: a copy of the parameters in the type of the run's arrays, if they are stored in another type
        self.copy = None if self.dtype == parameters.dtype else self.backend.empty(flat.shape, self.dtype)
        self._of_copy: dict[int, dict[str, Array]] = {}
        self.worker_arenas: list[Array] = []
        self.shard_arenas: list[Array] = []
        #: rows of gradients, each as long as the parameters
        self.gradients: list[Array] = []
        #: for each row, the gradients of each node's parameters
        self.views: dict[int, list[Mapping[str, Array]]] = {}
        #: whether each rank has found that its gradient overflowed in float16
        self.overflows = self.backend.empty_shared((ranks.size if ranks else 1,), "float64")
        self.batches: dict[Name, BoundBatch] = {}
        self.workers = 0
        #: the normalization of the images, and its two arrays
        self._normalization: tuple[Normalization, Array, Array] | None = None
        #: the names of what was frozen when the batches were planned, and each layer with frozen parameters or state,
        #: with its attributes at that time
        self._frozen: tuple[frozenset[str], list[tuple[Layer, dict[str, Any]]]] = frozenset(), []

    def bind(self, name: Name, workers: int, counts: int) -> BoundBatch:
        """Return the bound batch of this shape, which is planned and bound on first use.

        Parameters
        ----------
        name : (shape of a sample, samples)
        workers : int
            The largest number of workers.
        counts : int
            The number of metrics of the loss, its own value included.
        """
        if self.workers != workers:
            if self.workers <= 1:  # the arenas are not shared, and a layer's bands may be made by several processes
                self.worker_arenas.clear()
                self.shard_arenas.clear()
            self.workers = workers
            self.batches.clear()
        self._heed_frozen()
        if name not in self.batches:
            try:
                bound = self._bind(name, counts)
            except OutOfMemoryError as error:
                raise OutOfMemoryError(f"{error}. {self._fitting(name)}") from None
            while len(self.batches) >= MOST_BATCHES:
                self.batches.pop(next(iter(self.batches)))
            self.batches[name] = bound
        self.batches[name] = self.batches.pop(name)  # moved to the end, so that it is dropped last
        return self.batches[name]

    def _heed_frozen(self) -> None:
        """Make new plans if the set of frozen parameters, or a layer that was copied for freezing, has changed."""
        graph, (frozen, layers) = self.graph, self._frozen
        same = graph.frozen is frozen and all(
            now is before.get(name) for layer, before in layers for name, now in vars(layer).items()
        )
        if same or not self.training:
            return
        self.batches.clear()
        for row in self.gradients:
            row[...] = 0
        self._frozen = graph.frozen, [(node.layer, dict(vars(node.layer))) for node in graph.nodes if node.frozen]

    def _bind(self, name: Name, counts: int) -> BoundBatch:
        plan = self.plan(*name)
        self._reserve(self.worker_arenas, len(plan.assignment), plan.worker_bytes)
        self._reserve(self.shard_arenas, len(plan.own) if plan.needs_batch_sums else 0, plan.shard_bytes)
        self._reserve_gradients(plan.rows)
        arenas = self.worker_arenas, self.shard_arenas
        bound = BoundBatch(name, plan, self.backend, *arenas, self.parameters_of, counts)
        if not self.training:
            bound.allocate_outputs(self.parameters.dtype)  # before workers are forked, so that they see the outputs
        return bound

    def plan(self, sample: tuple[int, ...], batch: int) -> BatchPlan:
        """Return the plan of a batch of this many samples of this shape."""
        mine = (self.ranks.rank, self.ranks.size) if self.ranks else (0, 1)
        return BatchPlan(
            self.graph, sample, batch, self.dtype, self.backend, self.training, self.shard, self.workers, *mine
        )

    def _fitting(self, name: Name) -> str:
        """Return a sentence with the largest batch size that fits into memory."""
        (sample, batch), free = name, self.backend.free_bytes()
        if free is None:
            return "Use a smaller batch"
        fits, more = 0, batch
        while more - fits > 1:
            n = (fits + more) // 2
            needed = sum(self.plan(sample, n).memory().values())
            fits, more = (n, more) if needed <= free else (fits, n)
        if not fits:
            return "Not even one image would fit"
        return f"Of this batch of {batch} images {fits} would fit: use a batch of {fits} or fewer"

    def _reserve(self, arenas: list[Array], count: int, size: int) -> None:
        """Ensure at least ``count`` arenas of at least ``size`` bytes; replace all if they are too few or too small."""
        if count and (len(arenas) < count or arenas[0].size < size):
            size = max([size, *(arena.size for arena in arenas[:1])])
            count = max(count, len(arenas))
            arenas.clear()
            self.batches.clear()  # they were bound to the old arenas
            # arenas are shared: else a fork would copy the pages that were written before
            allocate = self.backend.empty_shared if self.workers > 1 else self.backend.empty
            arenas.extend(as_scratch(allocate((size,), "uint8")) for _ in range(count))

    def _reserve_gradients(self, count: int) -> None:
        """Ensure at least ``count`` rows of gradients."""
        parameters = self.parameters
        while len(self.gradients) < count:
            row = self.backend.empty_shared(parameters.flat.shape, parameters.dtype)
            row[...] = 0  # a layer that writes no gradient leaves zeros
            # the mapping is read-only, so that grads["weight"] = ... instead of grads["weight"][...] = ... raises
            self.views[len(self.gradients)] = [
                MappingProxyType(parameters.views(node, row)) for node in self.graph.nodes
            ]
            self.gradients.append(row)  # appended last, so that an interruption leaves a valid state

    def parameters_of(self, node: Node) -> dict[str, Array]:
        """Return a node's parameters as its layer takes them."""
        if self.copy is None:
            return node.params
        if not self._of_copy:  # a lowered graph has other nodes, with the same dicts of parameters
            for other in self.graph.nodes:
                precise = {key for key, p in other.layer.parameters().items() if p.precise}
                views = self.parameters.views(other, self.copy)
                self._of_copy[id(other.params)] = {k: other.params[k] if k in precise else v for k, v in views.items()}
        return self._of_copy[id(node.params)]

    def normalize(self, x: Array) -> None:
        """Subtract the mean from each channel of images (H, C, W, N), and divide by its deviation, if these are set."""
        given, found = self.parameters.normalization, self._normalization
        if given is None:
            return
        if found is None or found[0] != given or found[1].ndim != x.ndim:
            shape = [-1 if axis == channel_axis(x.shape) else 1 for axis in range(x.ndim)]
            mean, std = (self.backend.xp.asarray(each, dtype=x.dtype).reshape(shape) for each in given)
            self._normalization = found = given, mean, std
        _, mean, std = found
        x -= mean
        x /= std

    def refresh_copy(self) -> None:
        """Write the current parameters into their copy, if there is one."""
        if self.copy is not None:
            with self.backend.errstate():
                self.copy[...] = self.parameters.flat
