"""A plan bound to memory: the arrays of one shard, and what its layers do with them."""

from __future__ import annotations

from collections.abc import Callable
from copy import copy
from math import prod
from typing import Literal, NamedTuple

from im2colnet.errors import ShapeError
from im2colnet.graph.nodes import Node, locate
from im2colnet.layers import Context, Layer
from im2colnet.plan import Buffer, Kind, Part, Placed, Plan
from im2colnet.types import Array, Call, Shape, run

Calls = list[Call] | None  # of a layer that prepares them
Program = list[tuple[int, bool, list[tuple[Layer, Context, Calls]]]]  # of each node: is it divided, and what to do


class Bound(NamedTuple):
    """A backward step's arrays: the gradients it writes, and (new, earlier, sum) for those that it adds up."""

    dy: Array
    dxs: list[Array | None]
    adds: list[tuple[Array, Array, Array]]


class Slot:
    """The arrays of one shard in flight: a plan bound to memory."""

    def __init__(self, plan: Plan, worker: Array, shard: Array, parameters: Callable[[Node], dict[str, Array]]) -> None:
        self.plan, self._worker, self._shard = plan, worker, shard
        shapes, dtype, nodes = plan.shapes, plan.dtype, plan.graph.nodes
        self.values = [self._bind(b, shape, dtype) for b, shape in zip(plan.values, shapes, strict=True)]
        self.contexts = []
        self.work: list[dict[str, dict[str, list[Array]]]] = []
        #: of each node, where the work on it is divided: the layers that do it
        self.parts: list[list[tuple[Layer, Context]]] = []
        for i, node in enumerate(nodes):
            ctx = Context()
            ctx.backend, ctx.training, ctx.activation = plan.backend, plan.training, node.activation
            ctx.xs = tuple(self.values[v] for v in node.inputs)
            ctx.y = self.values[node.output]
            ctx.params, ctx.buffers = parameters(node), node.buffers
            ctx.saved = {k: self._bind(b, *plan.needs[i].saved[k]) for k, b in plan.saved[i].items()}
            self.work.append({kind: self._bind_work(kernels) for kind, kernels in plan.work[i].items()})
            self.contexts.append(ctx)
            self.parts.append(
                [self._part(ctx, part, placed) for part, placed in zip(plan.parts[i], plan.part_work[i], strict=True)]
            )
        self.backward: dict[int, Bound] = {}
        self._programs: dict[range, Program] = {}
        self._prepared: dict[tuple[Kind, int, int], Calls] = {}  # of (pass, node, row of gradients)
        if plan.training:
            self.loss_gradients = [
                self._bind(buffer, shapes[v], dtype)
                for v, buffer in zip(plan.graph.outputs, plan.loss_gradients, strict=True)
            ]
            for step in plan.steps:
                if step.kind == "backward":
                    self._bind_backward(step.node, step.writes, step.adds)

    def program(self, mine: range) -> Program:
        """Return what inference does: of each node the work on all of it, or where it is divided on these parts of it.

        Where it is not divided, that is done with the first part.
        """
        if mine not in self._programs:
            program: Program = []
            for i in (step.node for step in self.plan.stages[0].steps):
                work = self.parts[i][mine.start : mine.stop]
                if not self.parts[i] and mine.start == 0:
                    self.contexts[i].work = self.work[i].get("forward", {})
                    work = [(self.plan.graph.nodes[i].layer, self.contexts[i])]
                with locate(self.plan.graph.nodes[i]):
                    prepared = [(layer, ctx, _prepare("forward", layer, ctx.x, ctx)) for layer, ctx in work]
                program.append((i, bool(self.parts[i]), prepared))
            self._programs[mine] = program
        return self._programs[mine]

    def forward(self, i: int) -> None:
        """Make node ``i``'s forward pass of training."""
        layer, ctx = self.plan.graph.nodes[i].layer, self.contexts[i]
        if ("forward", i, 0) not in self._prepared:
            self._prepared["forward", i, 0] = _prepare("forward", layer, ctx.x, ctx)
        _forward(layer, ctx, self._prepared["forward", i, 0])

    def backpropagate(self, i: int, row: int) -> None:
        """Make node ``i``'s backward pass, the gradients of parameters going to this row of them."""
        layer, ctx, (dy, dxs, _) = self.plan.graph.nodes[i].layer, self.contexts[i], self.backward[i]
        if ("backward", i, row) not in self._prepared:
            self._prepared["backward", i, row] = _prepare("backward", layer, dy, ctx)
        calls = self._prepared["backward", i, row]
        if calls is not None and "backward" not in vars(layer):
            run(calls)
            return
        results = layer.backward(dy, ctx)
        if len(dxs) == 1 or not isinstance(results, (tuple, list)):
            results = [results]
        if len(results) != len(dxs):
            raise ShapeError(f"backward returned {len(results)} gradients for {len(dxs)} inputs")
        for result, dx in zip(results, dxs, strict=True):
            if dx is not None:
                _deliver(result, dx, "backward")

    def _bind(self, buffer: Buffer, shape: Shape, dtype: str, offset: int = 0) -> Array:
        start = buffer.offset + offset
        memory = self._shard if buffer.across else self._worker
        itemsize = self.plan.backend.xp.dtype(dtype).itemsize
        return memory[start : start + prod(shape) * itemsize].view(dtype).reshape(shape)

    def _bind_work(self, placed: Placed) -> dict[str, list[Array]]:
        return {k: [self._bind(b, *spec, offset) for spec, b, offset in specs] for k, specs in placed.items()}

    def _part(self, ctx: Context, part: Part, placed: Placed) -> tuple[Layer, Context]:
        its = copy(ctx)
        its.xs = tuple(x[part.inputs] for x in ctx.xs)
        its.y, its.work = ctx.y[part.outputs], self._bind_work(placed)
        return part.layer, its

    def _bind_backward(self, i: int, writes: dict[int, Buffer], adds: dict[int, tuple[Buffer, Buffer]]) -> None:
        plan, node = self.plan, self.plan.graph.nodes[i]

        def bind(buffer: Buffer, position: int) -> Array:
            return self._bind(buffer, plan.shapes[node.inputs[position]], plan.dtype)

        dy = self._bind(plan.gradients[node.output], plan.shapes[node.output], plan.dtype)
        dxs = [bind(writes[p], p) if p in writes else None for p in range(len(node.inputs))]
        sums = [(bind(writes[p], p), bind(old, p), bind(total, p)) for p, (old, total) in adds.items()]
        self.backward[i] = Bound(dy, dxs, sums)


def _prepare(kind: Literal["forward", "backward"], layer: Layer, array: Array, ctx: Context) -> Calls:
    """Return the calls of a layer whose own class prepares them, and has no other forward or backward."""
    return list(getattr(layer, f"prepare_{kind}")(array, ctx)) if layer.prepares(kind) else None


def _forward(layer: Layer, ctx: Context, calls: Calls) -> None:
    if calls is not None and "forward" not in vars(layer):  # nobody looks on by a forward of their own
        run(calls)
    else:
        _deliver(layer.forward(ctx.x, ctx), ctx.y, "forward")


def _deliver(result: Array, out: Array, what: str) -> None:
    """Put what a layer returned where the plan wants it, if it is not there yet."""
    if result is not out:
        if result is None or result.shape != out.shape:
            got = "None" if result is None else result.shape
            raise ShapeError(f"{what} returned {got}, expected an array of shape {out.shape}")
        out[...] = result
