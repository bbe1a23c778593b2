"""Planning: before anything runs, the steps of a run, and where in memory each array lives and how long.

A run on one shard of the batch is a list of steps: forward through the layers, the loss, backward. It is cut into
*stages* at the layers that couple samples (batch norm): there all shards must have given their sums before any goes on.

Each array is a :class:`Buffer` with a lifetime in steps. Those that live within one stage are laid out in an arena of
the worker, which all its shards use one after the other; those that live across stages in an arena of the shard. In
either, arrays whose lifetimes do not meet share memory.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import accumulate, pairwise
from math import ceil, prod
from typing import Literal, NamedTuple

from im2colnet.backend import ALIGNMENT, HALF, ITEM_BYTES, Backend, Choice, Shape, Spec, accumulator
from im2colnet.errors import ShapeError
from im2colnet.layers import Layer, Needs, Work
from im2colnet.network import Graph, Node, internal_shape, locate
from im2colnet.parallel import share

MOST, LEAST = 1 << 20, 1 << 18  # numbers in all values of a shard, beyond 32 samples and 8
MOST_SHARDS, MOST_VALUES = 1 << 20, 1 << 36  # of a batch; of a sample. Beyond, planning alone takes minutes
PARTS = 2  # into which a layer of inference is divided, where one shard is all,
LEAST_WORK = 50_000_000  # and it has so much to do: FLOPs, each output being worth
OUTPUT_WORK = 100  # so many
Kind = Literal["sums", "forward", "loss", "grad_sums", "backward"]


@dataclass(eq=False)
class Buffer:
    """Memory for one array or several views of it, from step ``start`` to step ``end``, both included."""

    nbytes: int
    start: int
    end: int
    what: str
    across: bool = False  #: lives across stages, so in the shard's arena
    offset: int = 0


Placed = dict[str, list[tuple[Spec, Buffer, int]]]  # scratch of each kernel: in a buffer, at an offset


@dataclass(eq=False)
class Step:
    """One action on one shard."""

    kind: Kind
    node: int
    #: of a backward step: position among the inputs -> the gradient that it makes
    writes: dict[int, Buffer] = field(default_factory=dict)
    #: inputs that have a gradient already: position -> (the earlier one, where the sum goes)
    adds: dict[int, tuple[Buffer, Buffer]] = field(default_factory=dict)


@dataclass(eq=False)
class Stage:
    """Steps that a worker takes one shard through without meeting the others."""

    steps: list[Step]
    join: int | None  #: the node whose sums are joined after it
    gradients: tuple[int, int]  #: range of the flat gradient that it completes


class Part(NamedTuple):
    """A layer that makes some rows of a node's output."""

    layer: Layer
    inputs: slice
    outputs: slice
    needs: Needs


class Plan:
    """The steps and buffers of one shard.

    Parameters
    ----------
    graph : Graph
    x : tuple of int
        Shape of the shard's input as the library stores it, (H, C, W, n) or (features, n).
    dtype : {"float32", "float64"}
    backend : Backend
    training : bool
    count : int
        Into how many parts to divide the work of each node, of inference.

    Attributes
    ----------
    shapes : list of tuple
        Of every value.
    parts : list of list of Part
        Of each node, none if it is not divided.
    stages : list of Stage
    shard_bytes, worker_bytes : int
        Sizes of the two arenas.
    """

    def __init__(self, graph: Graph, x: Shape, dtype: str, backend: Backend, training: bool, count: int = 1) -> None:
        self.graph, self.dtype, self.backend, self.training = graph, dtype, backend, training
        graph.check_used()
        self.shapes = graph.shapes(x)
        self.needs = [self._needs(node) for node in graph.nodes]
        self.parts = [self._divided(node, needs, count) for node, needs in zip(graph.nodes, self.needs, strict=True)]
        self.wanted = self._wanted()
        self.steps = self._steps()
        self.when = {(step.kind, step.node): t for t, step in enumerate(self.steps)}
        #: of each node when it makes its forward pass; one that is left out happens with that before
        self.made = list(accumulate((self.when.get(("forward", i), 0) for i in range(len(graph.nodes))), max))
        self.buffers: list[Buffer] = []
        self.values: list[Buffer] = []
        self.gradients: dict[int, Buffer] = {}
        self.saved: list[dict[str, Buffer]] = []
        self.work: list[dict[Kind, Placed]] = []
        self.part_work: list[list[Placed]] = []  # of the parts of each node, side by side
        self._place_values()
        self._place_saved_and_work()
        if training:
            self._place_gradients()
        self.stages = self._stages()
        bounds = self._stage_bounds()
        for buffer in self.buffers:
            buffer.across = bisect_right(bounds, buffer.start) < bisect_right(bounds, buffer.end)
        self.shard_bytes = lay_out([b for b in self.buffers if b.across])
        self.worker_bytes = lay_out([b for b in self.buffers if not b.across])

    def algorithm(self, i: int) -> Choice:
        """Which algorithm node ``i`` takes, its first part where it is divided."""
        node = self.graph.nodes[i]
        layer, x, y = node.layer, self.shapes[node.inputs[0]], self.shapes[node.output]
        for part in self.parts[i][:1]:
            layer = part.layer
            x, y = ((rows.stop - rows.start, *shape[1:]) for rows, shape in ((part.inputs, x), (part.outputs, y)))
        return layer.algorithm(x, y, self.dtype, self.backend)

    # ------------------------------------------------------------------ steps

    def _needs(self, node: Node) -> Needs:
        with locate(node):
            x, y = self.shapes[node.inputs[0]], self.shapes[node.output]
            needs = node.layer.needs(x, y, self.dtype, self.backend, self.training)
            if len(node.inputs) > 1 and not needs.gradient_passes:
                raise ShapeError("a layer with several inputs can only pass its gradient to all of them, as Add does")
            if y[-1] != x[-1]:
                raise ShapeError(f"the output has {y[-1]} samples for {x[-1]}: output_shape must keep the last number")
            # of these no backward is called, so what they say is all that is known of the gradient
            if needs.view and (prod(x) != prod(y) or len(node.inputs) > 1):
                raise ShapeError(
                    f"needs says view, but the output of shape {y} is not the input of shape {x} reshaped (as stored)"
                )
            if needs.gradient_passes and any(self.shapes[v] != y for v in node.inputs):
                raise ShapeError(
                    f"needs says gradient_passes, but the output has shape {y}, the input {x} (as stored): only the"
                    " gradient of an input of the same shape can be that of the output"
                )
            return needs

    def _divided(self, node: Node, needs: Needs, count: int) -> list[Part]:
        """Divide a node into layers that each make a share of its output's rows; none if that cannot be done."""
        x, y, layer = self.shapes[node.inputs[0]], self.shapes[node.output], node.layer
        # a subclass with a forward of its own need not know of it
        if count == 1 or y[0] < count or needs.view or node.fused or "band" not in vars(type(layer)):
            return []
        if layer.flops(x, y) + OUTPUT_WORK * prod(y) < LEAST_WORK:
            return []
        parts = []
        for rank in range(count):
            mine = share(y[0], rank, count)
            rows = slice(mine.start, mine.stop)
            band = layer.band(rows, x)
            if band is None:
                return []
            part, inputs = band
            shapes = (inputs.stop - inputs.start, *x[1:]), (len(mine), *y[1:])
            parts.append(Part(part, inputs, rows, part.needs(*shapes, self.dtype, self.backend, self.training)))
        return parts

    def _wanted(self) -> list[bool]:
        """For each value, whether its gradient is wanted: whether it depends on a parameter."""
        wanted = [False]
        for node in self.graph.nodes:
            wanted.append(bool(node.offsets) or any(wanted[v] for v in node.inputs))
        return wanted

    def _steps(self) -> list[Step]:
        nodes, steps = self.graph.nodes, []
        for i, node in enumerate(nodes):
            if self.training and node.layer.couples:
                steps.append(Step("sums", i))
            if not node.fused and not self.needs[i].view:
                steps.append(Step("forward", i))
        if self.training:
            steps.append(Step("loss", len(nodes)))
            for i in reversed(range(len(nodes))):
                if self.wanted[nodes[i].output]:
                    if nodes[i].layer.couples:
                        steps.append(Step("grad_sums", i))
                    steps.append(Step("backward", i))
        return steps

    def _stage_bounds(self) -> list[int]:
        return [t + 1 for t, step in enumerate(self.steps) if step.kind in ("sums", "grad_sums")]

    def _stages(self) -> list[Stage]:
        stages, bounds = [], [0, *self._stage_bounds(), len(self.steps)]
        for a, b in pairwise(bounds):
            steps = self.steps[a:b]
            join = steps[-1].node if steps and steps[-1].kind in ("sums", "grad_sums") else None
            # a layer that couples samples writes its gradients with its sums, the others in their backward
            done = [
                self.graph.nodes[s.node]
                for s in steps
                if s.kind == "grad_sums" or (s.kind == "backward" and not self.graph.nodes[s.node].layer.couples)
            ]
            ends = [end for node in done if node.offsets for end in self.parameter_range(node)]
            stages.append(Stage(steps, join, (min(ends), max(ends)) if ends else (0, 0)))
        return stages

    @staticmethod
    def parameter_range(node: Node) -> tuple[int, int]:
        """Where the parameters of a node that has some lie in the flat vector."""
        shapes = node.layer.parameters()
        return min(node.offsets.values()), max(node.offsets[key] + prod(shapes[key].shape) for key in node.offsets)

    # ------------------------------------------------------------------ buffers

    def _new(self, shape: Shape, dtype: str, start: int, end: int, what: str) -> Buffer:
        buffer = Buffer(nbytes(Spec(shape, dtype)), start, end, what)
        self.buffers.append(buffer)
        return buffer

    def _last_reads(self) -> list[int]:
        """For each value the last step that reads it."""
        last = [0] * len(self.shapes)
        for i, node in enumerate(self.graph.nodes):
            for v in node.inputs:
                last[v] = max(last[v], self.made[i])
                if self.needs[i].input and ("backward", i) in self.when:
                    last[v] = max(last[v], self.when["backward", i])
            if self.needs[i].output and ("backward", i) in self.when:
                last[node.output] = max(last[node.output], self.when["backward", i])
        final = self.graph.nodes[-1].output
        last[final] = max(last[final], self.when["loss", len(self.graph.nodes)] if self.training else len(self.steps))
        for node, needs in zip(reversed(self.graph.nodes), reversed(self.needs), strict=True):
            if needs.view or node.fused:  # who reads the output reads the input's memory
                last[node.inputs[0]] = max(last[node.inputs[0]], last[node.output])
        return last

    def _place_values(self) -> None:
        last = self._last_reads()
        self.values = [self._new(self.shapes[0], self.dtype, 0, last[0], "input")]
        for i, node in enumerate(self.graph.nodes):
            now, needs, v = self.made[i], self.needs[i], node.output
            source = self._overwritable(node, now) if needs.inplace else None
            if needs.view or node.fused:
                source = self.values[node.inputs[0]]
            if source is None:
                source = self._new(self.shapes[v], self.dtype, now, last[v], f"{node.name or 'net'} output")
            source.end = max(source.end, last[v])
            self.values.append(source)

    def _overwritable(self, node: Node, now: int) -> Buffer | None:
        """An input that nobody reads after this step."""
        for v in node.inputs:
            if self.values[v].end <= now and self.shapes[v] == self.shapes[node.output]:
                return self.values[v]
        return None

    def _place_saved_and_work(self) -> None:
        for i, (node, needs) in enumerate(zip(self.graph.nodes, self.needs, strict=True)):
            now = self.made[i]
            first, last = self.when.get(("sums", i), now), self.when.get(("backward", i), now)
            self.saved.append(
                {key: self._new(*spec, first, last, f"{node.name} saved {key}") for key, spec in needs.saved.items()}
            )
            self.work.append({})
            self.part_work.append([self._place_work(part.needs.forward, now, "scratch") for part in self.parts[i]])
            if self.parts[i]:
                continue
            passes: dict[Kind, Work] = {
                "sums": needs.sums,
                "forward": needs.forward,
                "grad_sums": needs.grad_sums,
                "backward": needs.backward,
            }
            for kind, kernels in passes.items():
                if (kind, i) in self.when and kernels:
                    self.work[i][kind] = self._place_work(kernels, self.when[kind, i], f"{node.name} {kind} scratch")

    def _place_work(self, kernels: Work, t: int, what: str) -> Placed:
        """One buffer for all kernels of a step, and in it each one's arrays side by side."""
        size = max((sum(nbytes(spec) for spec in specs) for specs in kernels.values()), default=0)
        buffer = self._new((size,), "uint8", t, t, what)
        placed: Placed = {}
        for kernel, specs in kernels.items():
            ends = list(accumulate((nbytes(spec) for spec in specs), initial=0))
            placed[kernel] = [(spec, buffer, offset) for spec, offset in zip(specs, ends, strict=False)]
        return placed

    def _place_gradients(self) -> None:
        """Each value's gradient is the sum of what its readers give, in the order of the backward steps."""
        nodes = self.graph.nodes
        output = nodes[-1].output
        loss = self.when["loss", len(nodes)]
        self.loss_gradient = self._new(self.shapes[output], self.dtype, loss, loss, "loss gradient")
        self.gradients[output] = self.loss_gradient
        holders: dict[Buffer, int] = {self.loss_gradient: 1}  # values whose gradient is kept in a buffer
        for t, step in enumerate(self.steps):
            if step.kind in ("grad_sums", "backward"):
                self.gradients[nodes[step.node].output].end = t
            if step.kind != "backward":
                continue
            node, needs = nodes[step.node], self.needs[step.node]
            dy = self.gradients[node.output]
            holders[dy] -= 1
            for position, v in enumerate(node.inputs):
                if not self.wanted[v]:
                    continue
                passes = needs.gradient_passes or needs.view
                if passes or (needs.inplace and holders[dy] == 0 and self.shapes[v] == self.shapes[node.output]):
                    dx = dy
                else:
                    dx = self._new(self.shapes[v], self.dtype, t, t, f"{node.name} input gradient")
                    holders[dx] = 0
                step.writes[position] = dx
                if v in self.gradients:
                    old = self.gradients[v]
                    dx = self._sum_target(old, dx, holders, v, t)
                    step.adds[position] = old, dx
                self.gradients[v] = dx
                holders[dx] += 1

    def _sum_target(self, old: Buffer, new: Buffer, holders: dict[Buffer, int], v: int, t: int) -> Buffer:
        """Where the sum of two gradients goes: over one that nobody else holds, else into a new buffer."""
        old.end = new.end = t
        holders[old] -= 1
        for buffer in (new, old):
            if holders[buffer] == 0:
                return buffer
        fresh = self._new(self.shapes[v], self.dtype, t, t, "sum of gradients")
        holders[fresh] = 0
        return fresh


class BatchPlan:
    """A batch divided into shards and these among workers, each planned.

    Parameters
    ----------
    graph, dtype, backend, training
        See :class:`Plan`.
    sample : tuple of int
        Shape of one sample, (C, H, W) or (features,).
    batch : int
    shard : int, optional
        Samples in a shard, at most; by default :func:`shard_of`, or all where threads make nothing faster.
    workers : int
        At most; no more than there are shards are used.

    Attributes
    ----------
    sizes : list of int
        Of the shards.
    plans : dict of int to Plan
        For each size of shard.
    shares : list of range
        The shards of each worker.
    parts : int
        Into how many parts the work on the only shard is divided; ``workers`` is the number of workers.
    row_of : list of int
        The row of gradients that each shard writes to; ``rows`` is their number, ``live`` the shards whose row holds a
        sum when all workers are done.
    sums : dict
        Of each pass and node that join samples, what a shard gives to the join.
    worker_bytes, shard_bytes : int
        Size of a worker's arena and, in a network that couples samples, of a shard's.
    """

    def __init__(
        self,
        graph: Graph,
        sample: tuple[int, ...],
        batch: int,
        dtype: str,
        backend: Backend,
        training: bool,
        shard: int | None = None,
        workers: int = 1,
    ) -> None:
        self.dtype, self.training, self.parameters = dtype, training, graph.size
        graph = graph if training else graph.evaluated()
        values = sum(map(prod, graph.shapes(internal_shape(sample, 1))))
        if values > MOST_VALUES:
            raise ShapeError(
                f"one sample of the shape {sample} makes {values:,} numbers in all layers together, more than can be"
                f" planned ({MOST_VALUES:,}): take a smaller input"
            )
        most = shard or (shard_of(batch, values) if backend.threads else batch)
        if batch > MOST_SHARDS * most:
            raise ShapeError(
                f"a batch of {batch:,} samples makes more shards of {most:,} than can be planned ({MOST_SHARDS:,}):"
                " take a smaller batch"
            )
        self.sizes = shard_sizes(batch, most)
        self.count = len(self.sizes)
        # by the shapes alone, since results depend on it
        parts = PARTS if self.count == 1 and not training and backend.threads and shard is None else 1
        self.plans = {
            n: Plan(graph, internal_shape(sample, n), dtype, backend, training, parts) for n in set(self.sizes)
        }
        self.largest = self.plans[max(self.sizes)]
        self.stages, self.couples = self.largest.stages, len(self.largest.stages) > 1
        self.parts = parts if any(self.largest.parts) else 1
        most, workers = min(workers, self.parts), min(workers, self.count)
        self.shares = [share(self.count, rank, workers) for rank in range(workers)]
        self.workers = most if self.parts > 1 else workers
        self.row_of, self.live, self.rows = gradient_rows(self.shares) if training else ([], set(), 0)
        self.worker_bytes = max(plan.worker_bytes for plan in self.plans.values())
        self.shard_bytes = max(plan.shard_bytes for plan in self.plans.values())
        passes: tuple[Kind, ...] = ("sums", "grad_sums") if training else ()
        self.sums = {
            (kind, i): Spec((node.layer.couples, channels(self.largest.shapes[node.inputs[0]])), "float64")
            for i, node in enumerate(graph.nodes)
            if node.layer.couples
            for kind in passes
        }

    def memory(self) -> dict[str, int]:
        """Bytes of all arrays of a run, by purpose; parameters and the optimiser's state are not the run's."""
        joined = sum(prod(spec.shape) * ITEM_BYTES[spec.dtype] for spec in self.sums.values())
        metrics = 2 * ITEM_BYTES["float64"]
        in_flight = self.count if self.couples else 0
        return {
            "activations": self.worker_bytes * len(self.shares) + self.shard_bytes * in_flight,
            "gradients": self.rows * self.parameters * ITEM_BYTES[accumulator(self.dtype)],
            "sums": self.count * (joined + metrics),
        } | ({"copy of the parameters": self.parameters * ITEM_BYTES[self.dtype]} if self.dtype in HALF else {})


def channels(shape: Shape) -> int:
    """Channels of images (H, C, W, N), or features of (features, N)."""
    return shape[1] if len(shape) == 4 else shape[0]


def nbytes(spec: Spec) -> int:
    """Bytes of an array, rounded up to the alignment."""
    return ceil(prod(spec.shape) * ITEM_BYTES[spec.dtype] / ALIGNMENT) * ALIGNMENT


def lay_out(buffers: Iterable[Buffer]) -> int:
    """Give each buffer its offset, such that those that live at the same time do not overlap; return the size.

    Greedy by size: the largest first, each at the lowest place that is free during its life
    (Pisarchyk & Lee 2020, arXiv:2001.03288, algorithm 3).
    """
    ordered = sorted(buffers, key=lambda b: (-b.nbytes, b.start))
    occupied, size = Occupied(max((b.end for b in ordered), default=0) + 1), 0
    for buffer in ordered:
        if buffer.nbytes:
            buffer.offset = occupied.lowest(buffer.start, buffer.end, buffer.nbytes)
            occupied.add(buffer.start, buffer.end, buffer.offset, buffer.offset + buffer.nbytes)
            size = max(size, buffer.offset + buffer.nbytes)
    return size


class Occupied:
    """Which bytes are taken at which steps: a tree over the steps, so that a network may be deep.

    A node of the tree stands for a range of steps. It knows the bytes taken in all of them by buffers whose lives end
    just where ranges do (``all``), and those taken in any of them (``some``), each as sorted bounds: from, to, and so
    on.
    """

    def __init__(self, steps: int) -> None:
        self.leaves = 1 << (steps - 1).bit_length()
        self.all: list[list[int]] = [[] for _ in range(2 * self.leaves)]
        self.some: list[list[int]] = [[] for _ in range(2 * self.leaves)]

    def _nodes(self, start: int, end: int) -> tuple[list[int], set[int]]:
        """The fewest nodes that make up the steps ``start`` to ``end``, and those above them."""
        nodes, left, right = [], start + self.leaves, end + self.leaves + 1
        while left < right:
            if left % 2:
                nodes.append(left)
                left += 1
            if right % 2:
                right -= 1
                nodes.append(right)
            left, right = left // 2, right // 2
        above: set[int] = set()
        for node in nodes:
            node //= 2
            while node and node not in above:
                above.add(node)
                node //= 2
        return nodes, above

    def add(self, start: int, end: int, lo: int, hi: int) -> None:
        """Take bytes ``lo`` to ``hi`` at the steps ``start`` to ``end``."""
        nodes, above = self._nodes(start, end)
        for bounds in (*(self.all[n] for n in nodes), *(self.some[n] for n in nodes), *(self.some[n] for n in above)):
            i, j = bisect_left(bounds, lo), bisect_right(bounds, hi)
            bounds[i:j] = [lo][i % 2 :] + [hi][j % 2 :]  # an odd place lies within what is taken already

    def lowest(self, start: int, end: int, nbytes: int) -> int:
        """Return where the lowest ``nbytes`` bytes begin that are free at all steps from ``start`` to ``end``."""
        nodes, above = self._nodes(start, end)
        taken = [*(self.some[n] for n in nodes), *(self.all[n] for n in above)]
        offset = 0
        for lo, hi in sorted(pair for bounds in taken for pair in zip(bounds[::2], bounds[1::2], strict=True)):
            if offset + nbytes <= lo:
                break
            offset = max(offset, hi)
        return offset


def gradient_rows(ranges: list[range]) -> tuple[list[int], set[int], int]:
    """Which row of gradients each shard writes to, which shards' rows hold a sum in the end, and the number of rows.

    A worker that has finished a shard adds it to the sum of those before it wherever the fixed tree has both (as a
    binary counter carries), so that of n shards' gradients it holds at most about 2·log2 n at a time.
    """
    row_of: list[int] = []
    live: set[int] = set()
    rows = 0
    for mine in ranges:
        held: list[int] = []
        most = 0
        for s in mine:
            row_of.append(rows + len(held))
            held.append(s)
            most = max(most, len(held))
            for _ in folds(s, mine.start):
                held.pop()
        live.update(held)
        rows += most
    return row_of, live, rows


def folds(s: int, first: int) -> list[int]:
    """The shards to whose sums a worker that began with shard ``first`` adds what it has when shard s is finished."""
    into, d = [], 1
    while s & d and s - d >= first:
        s -= d
        into.append(s)
        d *= 2
    return into


def shard_of(batch: int, values: int) -> int:
    """How many samples a shard should have, of which each makes so many numbers in all layers together.

    Half of the batch, so that there is work for two; but not more than fit into the cache, or 32, and not so few that
    the calls take longer than the work. It depends on nothing of the machine, since sums are grouped by shards.
    """
    most, least = max(32, MOST // values), max(8, LEAST // values)
    return max(least, min(most, -(-batch // 2)))


def shard_sizes(batch: int, shard: int) -> list[int]:
    """Divide a batch into the fewest shards of at most ``shard`` samples, as equal as can be."""
    count = -(-batch // shard)
    return [batch * (i + 1) // count - batch * i // count for i in range(count)]
