"""A plan bound to memory: the arrays of each shard, and the prepared calls of its layers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from copy import copy
from math import prod
from typing import Any, Literal, NamedTuple

from im2colnet.backend import Backend
from im2colnet.engine.recording import Recording
from im2colnet.errors import ShapeError
from im2colnet.graph.nodes import Node, locate
from im2colnet.layers import Context, Layer
from im2colnet.layout import one_or_tuple, user_axes
from im2colnet.plan import Band, BatchPlan, Buffer, Kind, Placed, Plan, nbytes
from im2colnet.types import ITEM_BYTES, Array, Call, Shape, Spec, run

#: the prepared calls of a layer's pass; None if its forward or backward is called itself
Calls = list[Call] | None
#: for each node of inference: its number, whether it is divided into bands, and the passes of one worker
Program = list[tuple[int, bool, list[tuple[Layer, Context, Calls]]]]
#: the key of a bound batch: the shape of a sample, and the batch size
Name = tuple[tuple[int, ...], int]


class BackwardArrays(NamedTuple):
    """The arrays of a backward step: its gradients, and (new, earlier, sum) for each addition of two gradients."""

    first: Array  #: what the first of ``shard_grad_sums`` and ``backward`` gets
    dy: Array  #: what ``backward`` gets
    dxs: list[Array | None]
    adds: list[tuple[Array, Array, Array]]


class BoundPlan:
    """The arrays of one shard while it is computed.

    Parameters
    ----------
    plan : Plan
    worker, shard : (bytes,) array of uint8
        The arenas: the worker's arena for arrays within a stage, the shard's arena for arrays across stages.
    parameters : callable
        A function that returns the parameters of a node, in the type that its layer takes.
    """

    def __init__(self, plan: Plan, worker: Array, shard: Array, parameters: Callable[[Node], dict[str, Array]]) -> None:
        self.plan, self._worker, self._shard = plan, worker, shard
        self._views: dict[tuple[Any, ...], Array] = {}  # by place, shape and element type
        shapes, dtype, nodes = plan.shapes, plan.dtype, plan.graph.nodes
        self.values = [self._bind(b, shape, dtype) for b, shape in zip(plan.values, shapes, strict=True)]
        #: the network's outputs
        self.outputs = [self.values[v] for v in plan.graph.outputs]
        self.contexts: list[Context] = []
        self._scratch: list[dict[str, dict[str, list[Array]]]] = []  # by node, pass and kernel
        #: for each node its bands: the layers that make them, and their contexts
        self._bands: list[list[tuple[Layer, Context]]] = []
        for i, node in enumerate(nodes):
            ctx = Context()
            ctx.backend, ctx.training, ctx.activation = plan.backend, plan.training, node.activation
            ctx.xs = tuple(self.values[v] for v in node.inputs)
            ctx.y = self.values[node.output]
            ctx.params, ctx.buffers = parameters(node), node.buffers
            ctx.saved = {k: self._bind(b, *plan.needs[i].saved[k]) for k, b in plan.saved[i].items()}
            self._scratch.append({kind: self._bind_scratch(kernels) for kind, kernels in plan.scratch[i].items()})
            self.contexts.append(ctx)
            bands = zip(plan.bands[i], plan.band_scratch[i], strict=True)
            self._bands.append([self._band(ctx, band, placed) for band, placed in bands])
        self._backward: dict[int, BackwardArrays] = {}
        self._programs: dict[range, Program] = {}
        self._prepared: dict[tuple[str, int, int], Calls] = {}  # by (pass, node, row of gradients)
        loss_gradients: list[Any] = [None] * len(self.outputs)
        if plan.training:
            loss_gradients = [
                self._bind(buffer, shapes[v], dtype)
                for v, buffer in zip(plan.graph.outputs, plan.loss_gradients, strict=True)
            ]
            for step in plan.steps:
                if step.kind == "backward":
                    self._bind_backward(step.node, step.writes, step.adds)
        #: the outputs, and their gradients in training, as the loss gets them
        self.loss_arguments = one_or_tuple(self.outputs), one_or_tuple(loss_gradients)

    # ------------------------------------------------------------------ steps

    def run(
        self, kind: Kind, i: int, sums: Array | None, row: int, grads: Mapping[str, Array], samples: int, key: Any
    ) -> None:
        """Make one step of node ``i``.

        Parameters
        ----------
        kind : {"forward", "sums", "grad_sums", "backward"}
        i : int
        sums : Array or None
            The array for the sums of a layer with ``batch_sums``, in the steps "sums" and "grad_sums", or of a layer
            with ``step_sums``, in the step "forward".
        row : int
            The row of gradients that the shard writes to.
        grads : dict of str to Array
            The gradients of the node's parameters, in that row.
        samples : int
            The batch size.
        key : tuple of int
            The seed of random numbers.
        """
        layer, ctx = self.plan.graph.nodes[i].layer, self.contexts[i]
        ctx.samples, ctx.key, ctx.scratch = samples, key, self._scratch[i].get(kind, {})
        if kind == "forward":
            if sums is not None:
                ctx.step_sums = sums
            forward(layer, ctx, self._calls("forward", i, 0, ctx.x))
            return
        if sums is not None:
            ctx.sums = sums
        if kind == "sums":
            layer.shard_sums(ctx.x, ctx)
            return
        arrays = self._backward[i]
        ctx.grads = grads
        if kind == "grad_sums":
            layer.shard_grad_sums(arrays.first, ctx)
            return
        needs = self.plan.needs[i]
        if not (needs.view or needs.gradient_passes or i in self.plan.activations):
            ctx.dxs = arrays.dxs
            backward(layer, ctx, arrays, self._calls("backward", i, row, arrays.dy))
        for new, old, total in arrays.adds:
            ctx.xp.add(new, old, out=total)

    def _calls(self, kind: Literal["forward", "backward"], i: int, row: int, array: Array) -> Calls:
        if (kind, i, row) not in self._prepared:
            self._prepared[kind, i, row] = prepare(kind, self.plan.graph.nodes[i].layer, array, self.contexts[i])
        return self._prepared[kind, i, row]

    def inference(self, mine: range) -> Program:
        """Return the work of inference for the bands ``mine``: for each node these bands, or the whole node.

        The worker that has the first band computes the nodes that are not divided.
        """
        if mine not in self._programs:
            program: Program = []
            for i in (step.node for step in self.plan.stages[0].steps):
                passes = self._bands[i][mine.start : mine.stop]
                if not self._bands[i] and mine.start == 0:
                    self.contexts[i].scratch = self._scratch[i].get("forward", {})
                    passes = [(self.plan.graph.nodes[i].layer, self.contexts[i])]
                with locate(self.plan.graph.nodes[i]):
                    prepared = [(layer, ctx, prepare("forward", layer, ctx.x, ctx)) for layer, ctx in passes]
                program.append((i, bool(self._bands[i]), prepared))
            self._programs[mine] = program
        return self._programs[mine]

    # ------------------------------------------------------------------ binding

    def _bind(self, buffer: Buffer, shape: Shape, dtype: str, offset: int = 0) -> Array:
        start, key = buffer.offset + offset, (buffer.across, buffer.offset + offset, shape, dtype)
        if key not in self._views:  # CuPy copies what a function reads and overwrites, unless it is the same object
            memory = self._shard if buffer.across else self._worker
            self._views[key] = memory[start : start + prod(shape) * ITEM_BYTES[dtype]].view(dtype).reshape(shape)
        return self._views[key]

    def _bind_scratch(self, placed: Placed) -> dict[str, list[Array]]:
        return {k: [self._bind(b, *spec, offset) for spec, b, offset in specs] for k, specs in placed.items()}

    def _band(self, ctx: Context, band: Band, placed: Placed) -> tuple[Layer, Context]:
        its = copy(ctx)
        its.xs = tuple(x[band.inputs] for x in ctx.xs)
        its.y, its.scratch = ctx.y[band.outputs], self._bind_scratch(placed)
        return band.layer, its

    def _bind_backward(self, i: int, writes: dict[int, Buffer], adds: dict[int, tuple[Buffer, Buffer]]) -> None:
        plan, nodes, ctx = self.plan, self.plan.graph.nodes, self.contexts[i]
        node = nodes[i]

        def bind(buffer: Buffer, position: int) -> Array:
            return self._bind(buffer, plan.shapes[node.inputs[position]], plan.dtype)

        dy = self._bind(plan.gradients[node.output], plan.shapes[node.output], plan.dtype)
        dxs = [bind(writes[p], p) if p in writes else None for p in range(len(node.inputs))]
        sums = [(bind(writes[p], p), bind(old, p), bind(total, p)) for p, (old, total) in adds.items()]
        first = dy
        if i in plan.joined:  # dy is the gradient of what the activation is given
            following = nodes[plan.joined[i]]
            ctx.dz, first = dy, self._bind(plan.gradients[following.output], plan.shapes[following.output], plan.dtype)
            if not node.layer.joins_batch(training=True):
                dy = first
        self._backward[i] = BackwardArrays(first, dy, dxs, sums)


class Shard(NamedTuple):
    """One shard of a batch: its range of samples, its arrays, and its sums for the joins."""

    start: int
    stop: int
    bound: BoundPlan
    sums: dict[tuple[Kind, int], Array]  #: by (pass, node): the sums that this shard gives to the join
    metrics: Array  #: the loss, and its other metrics


class Join(NamedTuple):
    """Arrays that are summed over the shards of a batch."""

    parts: list[Array | None]  #: the part of each shard; None for those that this rank does not hold
    total: Array  #: where the sum of all parts is written if the first part is not here: the first that is
    vector: Array  #: all parts that this rank holds, one after the other
    bounds: list[int]  #: for each rank, and for the end, the offset of its parts in that of a rank that holds all


def joined(plan: BatchPlan, kind: Kind, spec: Spec, allocate: Callable[[Shape, str], Array]) -> Join:
    """Return the arrays of a join; ``spec`` describes a part."""
    shape, dtype = spec
    held, step = plan.held(kind), nbytes(spec) // ITEM_BYTES[dtype]
    count = max(1, len(held))  # a rank without shards gets the total
    rows = allocate((count, step), dtype)
    here = [rows[k, : prod(shape)].reshape(shape) for k in range(count)]
    parts = [here[s - held.start] if s in held else None for s in range(plan.count)]
    return Join(parts, here[0], rows.reshape(-1), plan.bounds(range(0, step * plan.count + 1, step)))


class BoundBatch:
    """A planned batch that is bound to arenas.

    Parameters
    ----------
    name : (shape of a sample, samples)
    plan : BatchPlan
    backend : Backend
    worker_arenas, shard_arenas : list of Array
    parameters : callable
        A function that returns the parameters of a node, in the type that its layer takes.
    counts : int
        The number of metrics of the loss, its own value included.
    """

    def __init__(
        self,
        name: Name,
        plan: BatchPlan,
        backend: Backend,
        worker_arenas: Sequence[Array],
        shard_arenas: Sequence[Array],
        parameters: Callable[[Node], dict[str, Array]],
        counts: int,
    ) -> None:
        self.name, self.plan, self._backend = name, plan, backend
        sample, batch = name
        #: shapes of the network's outputs, as users see them
        self.output_shapes = plan.graph.output_shapes((batch, *sample))
        self.steps = 0  # the number of runs on this batch
        self.batch: tuple[Array, ...] = ()  # images and targets in shared memory
        self.metrics: tuple[float, ...] = ()  # the loss and its other metrics in the last step
        self.recording = Recording(backend)
        #: the array to join at the end of a training step: the sums of layers with ``step_sums``, then the metrics
        self.total: Array | None = None
        self._targets: list[Array] = []
        #: the network's outputs, one row for each sample
        self.outputs: list[Array] = []
        self.counts = counts
        #: the joins within a step, by (pass, node)
        allocate = backend.empty_shared
        self.joins = {
            key: joined(plan, key[0], spec, allocate) for key, spec in plan.sums.items() if key[0] != "forward"
        }
        #: the place of the sums of each node with ``step_sums`` in ``total``
        self._step_sums: dict[int, tuple[slice, Shape]] = {}
        end = 0
        for (kind, i), (shape, _) in plan.sums.items():
            if kind == "forward":
                self._step_sums[i] = slice(end, end := end + prod(shape)), shape
        self.at_end = joined(plan, "forward", plan.at_end(counts), allocate)
        self.shards: dict[int, Shard] = {}
        bound: dict[Any, BoundPlan] = {}
        for worker, mine in enumerate(plan.assignment):
            for s in mine:
                size = plan.sizes[s]
                key = s if plan.needs_batch_sums else (worker, size)
                if key not in bound:
                    arena = shard_arenas[s - plan.own.start] if plan.needs_batch_sums else worker_arenas[worker]
                    bound[key] = BoundPlan(plan.plans[size], worker_arenas[worker], arena, parameters)
                last: Any = self.at_end.parts[s]
                sums: dict[Any, Any] = {key: join.parts[s] for key, join in self.joins.items()}
                sums |= {("forward", i): last[part].reshape(shape) for i, (part, shape) in self._step_sums.items()}
                self.shards[s] = Shard(plan.starts[s], plan.starts[s + 1], bound[key], sums, last[end:])

    def read_metrics(self) -> tuple[float, ...]:
        """Return the loss of the whole batch and its other metrics, after they are joined."""
        assert self.total is not None
        return tuple(map(float, self._backend.to_numpy(self.total[-self.counts :])))

    def step_sums(self, i: int) -> Array:
        """Return the sums of the whole batch for ``finish_step`` of a node with ``step_sums``."""
        assert self.total is not None
        part, shape = self._step_sums[i]
        return self.total[part].reshape(shape)

    def allocate_outputs(self, dtype: str) -> None:
        """Allocate the outputs of all samples in memory that all workers see."""
        self.outputs = [self._backend.empty_shared(shape, dtype) for shape in self.output_shapes]

    def write_outputs(self, shard: Shard) -> None:
        """Copy a shard's outputs into the outputs of all samples, batch first."""
        for out, y in zip(self.outputs, shard.bound.outputs, strict=True):
            out[shard.start : shard.stop] = y.transpose(user_axes(y.ndim))

    def keep_targets(self, targets: Sequence[Any]) -> list[Array]:
        """Copy targets into the arrays of the previous step's targets."""
        kinds = [(array.shape, array.dtype.name) for array in targets]
        if [(array.shape, array.dtype.name) for array in self._targets] != kinds:
            self._targets = [self._backend.empty(*kind) for kind in kinds]
        for kept, given in zip(self._targets, targets, strict=True):
            kept[...] = self._backend.asarray(given)
        return self._targets

    def copy_to_workers(self, batch: tuple[Any, ...]) -> None:
        """Copy a batch into shared memory."""
        for shared, given in zip(self.batch, batch, strict=False):
            shared[...] = given

    def allocate_batch(self, batch: tuple[Any, ...]) -> None:
        """Allocate shared memory for a batch of this size."""
        kinds = [(array.shape, array.dtype.name) for array in batch]
        if [(array.shape, array.dtype.name) for array in self.batch[: len(batch)]] != kinds:
            self.batch = tuple(self._backend.empty_shared(array.shape, array.dtype.name) for array in batch)


def prepare(kind: Literal["forward", "backward"], layer: Layer, array: Array, ctx: Context) -> Calls:
    """Return the prepared calls of a layer's pass; None if its class defines the pass itself."""
    return list(getattr(layer, f"prepare_{kind}")(array, ctx)) if layer.prepares(kind) else None


def forward(layer: Layer, ctx: Context, calls: Calls) -> None:
    """Run a layer's forward pass."""
    if calls is not None and "forward" not in vars(layer):  # the user has not replaced this object's forward
        run(calls)
    else:
        _deliver(layer.forward(ctx.x, ctx), ctx.y, "forward")


def backward(layer: Layer, ctx: Context, arrays: BackwardArrays, calls: Calls) -> None:
    """Run a layer's backward pass."""
    if calls is not None and "backward" not in vars(layer):
        run(calls)
        return
    results = layer.backward(arrays.dy, ctx)
    if len(arrays.dxs) == 1 or not isinstance(results, (tuple, list)):
        results = [results]
    if len(results) != len(arrays.dxs):
        raise ShapeError(f"backward returned {len(results)} gradients for {len(arrays.dxs)} inputs")
    for result, dx in zip(results, arrays.dxs, strict=True):
        if dx is not None:
            _deliver(result, dx, "backward")


def _deliver(result: Array, out: Array, what: str) -> None:
    """Copy the array that a layer returned into the planned array, if it is another one."""
    if result is not out:
        if result is None or result.shape != out.shape:
            got = "None" if result is None else result.shape
            raise ShapeError(f"{what} returned {got}, expected an array of shape {out.shape}")
        out[...] = result
