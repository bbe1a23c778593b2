"""Planning: the steps of a run, and the place and the lifetime of each array in memory, before anything runs.

A run on one shard of the batch is a list of steps: forward through the layers, the loss, backward. It is cut into
*stages* at the layers that need sums over the whole batch (batch norm): there every shard must have computed its sums
before any shard continues.

Each array is a :class:`Buffer` with a lifetime in steps. Arrays that live within one stage are in an arena of the
worker, which all its shards use one after the other. Arrays that live across stages are in an arena of the shard. In
both arenas, arrays whose lifetimes do not overlap share memory.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass, field
from itertools import accumulate, pairwise
from math import prod
from typing import Any, Literal, NamedTuple

from im2colnet.backend import Backend
from im2colnet.errors import ShapeError
from im2colnet.graph.nodes import Graph, Node, locate
from im2colnet.layers import Layer, Needs
from im2colnet.layers.base import Scratch
from im2colnet.parallel import partition
from im2colnet.plan.buffers import Buffer, Placed, lay_out, nbytes
from im2colnet.types import Choice, Shape, Spec

Kind = Literal["sums", "forward", "loss", "grad_sums", "backward"]


@dataclass(eq=False)
class Step:
    """One action on one shard."""

    kind: Kind
    node: int
    #: in a backward step: position of an input -> the gradient of this input
    writes: dict[int, Buffer] = field(default_factory=dict)
    #: for inputs that have a gradient already: position -> (the earlier gradient, the buffer of the sum)
    adds: dict[int, tuple[Buffer, Buffer]] = field(default_factory=dict)


@dataclass(eq=False)
class Stage:
    """Steps that a worker runs on one shard without waiting for other workers."""

    steps: list[Step]
    join: int | None  #: the node whose sums are joined after the stage
    gradients: tuple[int, int]  #: the range of the flat gradient that the stage completes


class Band(NamedTuple):
    """A layer that computes a band of a node's output: some of its rows."""

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
        The shape of the shard's input as the library stores it, (H, C, W, n) or (features, n).
    dtype : {"float32", "float64"}
    backend : Backend
    training : bool
    count : int
        The number of bands that each node of inference is divided into.

    Attributes
    ----------
    shapes : list of tuple
        The shape of every value.
    bands : list of list of Band
        The bands of each node; an empty list for a node that is not divided.
    stages : list of Stage
    shard_bytes, worker_bytes : int
        The sizes of the two arenas.
    """

    def __init__(self, graph: Graph, x: Shape, dtype: str, backend: Backend, training: bool, count: int = 1) -> None:
        self.graph, self.dtype, self.backend, self.training = graph, dtype, backend, training
        self.shapes = graph.shapes(x)
        #: in training: a node that begins its backward pass with the gradient of the activation after it -> the node of
        #: that activation, whose own backward step, the one before, makes no call
        self.joined: dict[int, int] = {}
        self.needs = [self._needs(node) for node in graph.nodes]
        if training:
            self._join_slopes()
        self.activations = {*self.joined.values()}
        self.bands = [self._divided(node, needs, count) for node, needs in zip(graph.nodes, self.needs, strict=True)]
        self.wanted = self._wanted()
        self.steps = self._steps()
        self.when = {(step.kind, step.node): t for t, step in enumerate(self.steps)}
        #: the step of each node's forward pass; a node without a step of its own has the step of the node before
        self.made = list(accumulate((self.when.get(("forward", i), 0) for i in range(len(graph.nodes))), max))
        self.buffers: list[Buffer] = []
        self.values: list[Buffer] = []
        self.gradients: dict[int, Buffer] = {}
        self.saved: list[dict[str, Buffer]] = []
        self.scratch: list[dict[Kind, Placed]] = []
        #: for each node the scratch of its bands, side by side
        self.band_scratch: list[list[Placed]] = []
        self._place_values()
        self._place_saved_and_scratch()
        if training:
            self._place_gradients()
        self.stages = self._stages()
        bounds = self._stage_bounds()
        for buffer in self.buffers:
            buffer.across = bisect_right(bounds, buffer.start) < bisect_right(bounds, buffer.end)
        self.shard_bytes = lay_out([b for b in self.buffers if b.across])
        self.worker_bytes = lay_out([b for b in self.buffers if not b.across])

    def algorithm(self, i: int) -> Choice:
        """Return the algorithm that node ``i`` uses; for a divided node, the algorithm of its first band."""
        node = self.graph.nodes[i]
        layer, x, y = node.layer, node.input_shape(self.shapes), self.shapes[node.output]
        for band in self.bands[i][:1]:
            layer = band.layer
            x, y = cut_rows(x, band.inputs), cut_rows(y, band.outputs)
        return layer.algorithm(x, y, self.dtype, self.backend)

    def gradient_count(self, i: int) -> int:
        """Return the number of gradients that the backward pass of node ``i`` computes, of input and parameters.

        Each gradient takes about the FLOPs of the forward pass.
        """
        node = self.graph.nodes[i]
        return any(self.wanted[v] for v in node.inputs) + bool(node.learning)

    # ------------------------------------------------------------------ steps

    def _needs(self, node: Node) -> Needs:
        with locate(node):
            x, y = node.input_shape(self.shapes), self.shapes[node.output]
            needs = node.layer.needs(x, y, self.dtype, self.backend, self.training)
            if self.training and needs.inplace and len(node.inputs) > 1 and not needs.gradient_passes:
                raise ShapeError("needs says inplace, but only one of several gradients can overwrite dy")
            samples = self.shapes[node.inputs[0]][-1]
            if y[-1] != samples:
                raise ShapeError(
                    f"the output has {y[-1]} samples for {samples}: output_shape must keep the last number"
                )
            # no backward is called for these layers, so their needs must be right about the gradient
            if needs.view and (len(node.inputs) > 1 or prod(x) != prod(y)):
                raise ShapeError(
                    f"needs says view, but the output of shape {y} is not the input of shape {x} reshaped (as stored)"
                )
            if needs.gradient_passes and any(self.shapes[v] != y for v in node.inputs):
                raise ShapeError(
                    f"needs says gradient_passes, but the output has shape {y}, the input {x} (as stored): only if"
                    " both have the same shape can the gradient of the output be used for the input"
                )
            return needs

    def _join_slopes(self) -> None:
        """Find the nodes that compute the gradient of the activation that they apply, and the required buffers."""
        nodes = self.graph.nodes
        for following, node in enumerate(nodes):
            if not (node.fused and node.layer.keeps_backward("epilogue") and "backward" not in vars(node.layer)):
                continue
            i = node.inputs[0] - 1
            producer, y = nodes[i], self.shapes[node.output]
            layer, x, kind = producer.layer, producer.input_shape(self.shapes), producer.activation
            if kind and layer.joins_slope() and not {"backward", "shard_grad_sums"} & vars(layer).keys():
                with locate(producer):
                    needs = layer.needs_with_slope(x, y, self.dtype, self.backend, kind)
                if needs is not None:
                    self.needs[i], self.joined[i] = needs, following

    def _divided(self, node: Node, needs: Needs, count: int) -> list[Band]:
        """Divide a node into bands of its output's rows; return an empty list if that is impossible or does not pay."""
        x, y, layer = node.input_shape(self.shapes), self.shapes[node.output], node.layer
        if count == 1 or y[0] < count or needs.view or node.fused or not layer.keeps("band"):
            return []
        division = self.backend.division
        if layer.flops(x, y) + division.flops_per_output * prod(y) < division.band_min_flops:
            return []
        bands = []
        for rank in range(count):
            mine = partition(y[0], rank, count)
            rows = slice(mine.start, mine.stop)
            found = layer.band(rows, x)
            if found is None:
                return []
            part, inputs = found
            shapes = cut_rows(x, inputs), (len(mine), *y[1:])
            bands.append(Band(part, inputs, rows, part.needs(*shapes, self.dtype, self.backend, self.training)))
        return bands

    def _wanted(self) -> list[bool]:
        """Return for each value whether its gradient is needed: if it depends on a parameter that is not frozen."""
        wanted = [False]
        for node in self.graph.nodes:
            wanted.append(bool(node.learning) or any(wanted[v] for v in node.inputs))
        return wanted

    def _steps(self) -> list[Step]:
        nodes, steps = self.graph.nodes, []
        for i, node in enumerate(nodes):
            if node.layer.joins_batch(self.training):
                steps.append(Step("sums", i))
            if not node.fused and not self.needs[i].view:
                steps.append(Step("forward", i))
        if self.training:
            steps.append(Step("loss", len(nodes)))
            for i in reversed(range(len(nodes))):
                if self.wanted[nodes[i].output] and i not in self.activations:
                    if i in self.joined:  # the two steps share the gradient of the activation's output
                        steps.append(Step("backward", self.joined[i]))
                    if nodes[i].layer.joins_batch(training=True):
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
            # a layer with batch_sums writes its gradients with its sums, other layers in their backward
            done = [
                self.graph.nodes[s.node]
                for s in steps
                if s.kind == "grad_sums"
                or (s.kind == "backward" and not self.graph.nodes[s.node].layer.joins_batch(training=True))
            ]
            ends = [end for node in done if node.learning for end in self.learning_range(node)]
            stages.append(Stage(steps, join, (min(ends), max(ends)) if ends else (0, 0)))
        return stages

    @staticmethod
    def learning_range(node: Node) -> tuple[int, int]:
        """Return the range of the flat vector with the parameters of a node that are not frozen; there must be some."""
        shapes, start = node.layer.parameters(), node.offsets
        return min(start[key] for key in node.learning), max(
            start[key] + prod(shapes[key].shape) for key in node.learning
        )

    # ------------------------------------------------------------------ buffers

    def _new(self, shape: Shape, dtype: str, start: int, end: int, what: str) -> Buffer:
        buffer = Buffer(nbytes(Spec(shape, dtype)), start, end, what)
        self.buffers.append(buffer)
        return buffer

    def _last_reads(self) -> list[int]:
        """Return for each value the last step that reads it."""
        last = [0] * len(self.shapes)
        for i, node in enumerate(self.graph.nodes):
            for v in node.inputs:
                last[v] = max(last[v], self.made[i])
                if self.needs[i].input and ("backward", i) in self.when:
                    last[v] = max(last[v], self.when["backward", i])
            if self.needs[i].output and ("backward", i) in self.when:
                last[node.output] = max(last[node.output], self.when["backward", i])
        for following in self.activations:
            node = self.graph.nodes[following]
            if ("backward", following) in self.when:
                last[node.output] = max(last[node.output], self.when["backward", following] + 1)
        end = self.when["loss", len(self.graph.nodes)] if self.training else len(self.steps)
        for v in self.graph.outputs:
            last[v] = max(last[v], end)
        for node, needs in zip(reversed(self.graph.nodes), reversed(self.needs), strict=True):
            if needs.view or node.fused:  # the output lies in the memory of the input
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
        """Return the buffer of an input that is not read after this step, or None."""
        for v in node.inputs:
            if self.values[v].end <= now and self.shapes[v] == self.shapes[node.output]:
                return self.values[v]
        return None

    def _place_saved_and_scratch(self) -> None:
        for i, (node, needs) in enumerate(zip(self.graph.nodes, self.needs, strict=True)):
            now = self.made[i]
            first, last = self.when.get(("sums", i), now), self.when.get(("backward", i), now)
            self.saved.append(
                {key: self._new(*spec, first, last, f"{node.name} saved {key}") for key, spec in needs.saved.items()}
            )
            self.scratch.append({})
            self.band_scratch.append(
                [self._place_scratch(band.needs.forward, now, "scratch") for band in self.bands[i]]
            )
            if self.bands[i]:
                continue
            passes: dict[Kind, Scratch] = {
                "sums": needs.sums,
                "forward": needs.forward,
                "grad_sums": needs.grad_sums,
                "backward": needs.backward,
            }
            for kind, kernels in passes.items():
                if (kind, i) in self.when and kernels and not (kind == "backward" and i in self.activations):
                    self.scratch[i][kind] = self._place_scratch(
                        kernels, self.when[kind, i], f"{node.name} {kind} scratch"
                    )

    def _place_scratch(self, kernels: Scratch, t: int, what: str) -> Placed:
        """Make one buffer for all kernels of a step; each kernel's arrays lie side by side in it."""
        size = max((sum(nbytes(spec) for spec in specs) for specs in kernels.values()), default=0)
        buffer = self._new((size,), "uint8", t, t, what)
        placed: Placed = {}
        for kernel, specs in kernels.items():
            ends = list(accumulate((nbytes(spec) for spec in specs), initial=0))
            placed[kernel] = [(spec, buffer, offset) for spec, offset in zip(specs, ends, strict=False)]
        return placed

    def _place_gradients(self) -> None:
        """Plan each value's gradient: the sum of the gradients from its readers, in the order of the backward steps."""
        nodes = self.graph.nodes
        loss = self.when["loss", len(nodes)]
        #: the loss's gradient for each of the network's outputs
        self.loss_gradients = [
            self._new(self.shapes[v], self.dtype, loss, loss, "loss gradient") for v in self.graph.outputs
        ]
        self.gradients.update(zip(self.graph.outputs, self.loss_gradients, strict=True))
        holders: dict[Buffer, int] = dict.fromkeys(
            self.loss_gradients, 1
        )  # the number of values whose gradient is in a buffer
        for t, step in enumerate(self.steps):
            if step.kind in ("grad_sums", "backward"):
                activation = step.node in self.activations  # the next step computes its gradient
                self.gradients[nodes[step.node].output].end = t + activation
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
        """Return the buffer for the sum of two gradients: one of theirs if no other value uses it, else a new one."""
        old.end = new.end = t
        holders[old] -= 1
        for buffer in (new, old):
            if holders[buffer] == 0:
                return buffer
        fresh = self._new(self.shapes[v], self.dtype, t, t, "sum of gradients")
        holders[fresh] = 0
        return fresh


def cut_rows(shape: Any, rows: slice) -> Any:
    """Return the shape of these rows of an array, or the shapes for several arrays."""
    if isinstance(shape[0], tuple):
        return tuple(cut_rows(one, rows) for one in shape)
    return rows.stop - rows.start, *shape[1:]
