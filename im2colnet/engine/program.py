"""The program of a worker in a training step, a prediction or an evaluation.

A step of training:

    for each stage:
        for each of my shards:  make the stage's steps; fold the gradients into those of the shards before
        join the sums of the layer that ends the stage
    join loss and gradients over all shards; update my range of the parameters
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple, Protocol

from im2colnet.engine.binding import BoundBatch, Name, Program, Shard, forward, joined
from im2colnet.engine.memory import Memory
from im2colnet.errors import NonFiniteError
from im2colnet.graph.nodes import locate
from im2colnet.layout import one_or_tuple
from im2colnet.losses import Loss
from im2colnet.parallel import Communicator, partition
from im2colnet.parallel.ranks import RankCommunicator, Ranks
from im2colnet.plan import BatchPlan, Kind, Stage, folds
from im2colnet.types import HALF, Array


class Moment(NamedTuple):
    """Numbers that tell a worker which training step it makes."""

    seed: int
    step: int  #: the number of the step, from 0; seed and step together seed random numbers
    rates: tuple[float, ...]  #: the learning rate of each of the update's rules
    scale: float = 1.0  #: the loss is multiplied by this factor, and the gradient is divided by it
    update: int | None = 1  #: the number of the update, from 1; None if the gradient is only added to those before
    held: float = 0.0  #: the weight of the gradients that were added up since the last update
    clip_norm: float | None = None
    clip_value: float | None = None


class Update(Protocol):
    """An object that changes the parameters by their gradient; forked workers have a copy of it."""

    def apply(self, gradient: Array, comm: Communicator, moment: Moment, weight: float) -> bool:
        """Change the worker's range of the parameters, and set this range of the gradient to 0.

        ``weight`` is the weight of the batch's gradient in a sum over several batches. Return False if the gradient is
        not finite, so that nothing was changed.
        """

    def bounds(self, ranks: int) -> list[int]:
        """Return for each rank, and for the end, the offset of the parameters whose gradient it gets."""

    def known(self) -> list[dict[str, Any]]:
        """Return all values that :meth:`apply` depends on, by name.

        The first dict has the objects whose methods it calls.
        """


def weight_of(divisor: Any, samples: int) -> float:
    """Return the weight of a batch's gradient in the mean over several batches.

    It is the divisor of the loss, so that the mean is the gradient of all batches as one batch. A loss of several
    outputs has several divisors: then the weight is the number of samples.
    """
    return float(divisor) if getattr(divisor, "ndim", 0) == 0 else float(samples)


class Worker:
    """The program of a worker. All threads use the same object, and each process a forked copy of it.

    Parameters
    ----------
    memory : Memory
        The memory with the batches.
    loss : Loss or None
        The loss of training. An evaluation sets its own.
    """

    def __init__(self, memory: Memory, loss: Loss | None) -> None:
        self.memory, self.loss, self.backend = memory, loss, memory.backend
        #: if not None, this process adds the seconds of each step to it, by kind and node
        self.clock: dict[tuple[Kind, int], float] | None = None
        #: a function that is called when all kernels are queued, before the worker waits for a device
        self.while_waiting: Callable[[], None] | None = None
        #: whether a step has begun to change parameters or state, and is not finished and counted yet
        self.changing = False
        #: whether the last gradient was not finite in float16, so that the parameters were not changed
        self.overflowed = False
        #: whether the last update was refused, since the gradient was not finite
        self.refused = False
        #: the weight of the last batch's gradient in a mean over several batches; 0 if the gradient was left out
        self.weight = 0.0

    def train(
        self,
        update: Update,
        comm: Communicator,
        name: Name,
        batch: tuple[Any, ...],
        moment: Moment,
        divisor: Any,
    ) -> None:
        """Run this worker's part of a training step, on ``batch`` or, if it is empty, on the batch in shared memory.

        The sum of the loss over the batch is divided by ``divisor``.
        """
        bound = self.memory.batches[name]
        plan, mine, (images, *targets) = bound.plan, comm.partition(bound.plan.count), batch or bound.batch
        scale, alone = moment.scale / divisor, comm.ranks == 1
        records = self.backend.records and self.clock is None and len(plan.own) == 1
        if records and (alone or not plan.needs_batch_sums):  # what is sent to other ranks cannot be recorded
            self._load(images, bound, bound.shards[mine[0]])
            targets = bound.keep_targets(targets)
            work = partial(self._run_stages, bound, comm, mine, None, targets, moment, scale)
            losses = [self.loss, *getattr(self.loss, "losses", ())]
            objects = [*(node.layer for node in plan.graph.nodes), *losses]
            bound.recording.run(work, objects, scale.tolist() if hasattr(scale, "tolist") else scale, *map(id, targets))
        else:
            self._run_stages(bound, comm, mine, images, targets, moment, scale)
        bound.total = comm.all_reduce(bound.at_end.parts, bound.at_end.total)
        if self.while_waiting and not comm.rank:
            self.while_waiting()
        # reading the metrics waits for a device; the kernels after this line are only queued
        loss, *counts = bound.read_metrics()
        bound.metrics = loss / moment.scale, *counts
        if loss - loss != 0:  # NaN or infinity
            return
        if not comm.rank:
            self.changing = True  # set before any worker changes a parameter: all workers meet in all_reduce
        learning, weight, flat = plan.learning, weight_of(divisor, name[1]), self.memory.parameters.flat
        gradient = self.memory.gradients[0]
        rows = [row[learning] for row in self.memory.gradients[: plan.rows]]
        parts = [rows[plan.row_of[s]] if s in plan.live else None for s in range(plan.count)]
        own, bounds = slice(None), [0, learning.stop - learning.start]
        if not alone:
            bounds = [min(max(end, learning.start), learning.stop) for end in update.bounds(comm.ranks)]
            own = slice(*bounds[comm.number : comm.number + 2])
            bounds = [end - learning.start for end in bounds]
        comm.reduce_scatter(parts, rows[0], bounds)
        if not alone:  # what is left of other ranks' elements must not be taken for a gradient in the next step
            for rest in gradient[: own.start], gradient[own.stop :]:
                part = partition(rest.size, comm.rank, comm.size)
                rest[part.start : part.stop] = 0
        if self.memory.dtype == "float16":  # find out whether the gradient overflowed, and leave it out if so
            gradient[own] *= 1 / moment.scale
            self.overflowed = self._any_overflows(comm, gradient[own])
            if self.overflowed:
                gradient[own] = 0
                weight = 0.0
        self.weight = weight
        self.refused = not update.apply(gradient, comm, moment, weight)
        if not alone and moment.update is not None:
            comm.all_gather(flat[learning], bounds)

    def _any_overflows(self, comm: Communicator, gradient: Array) -> bool:
        """Return whether the gradient is not finite on any rank; each has its own elements of it."""
        overflows = self.memory.overflows
        overflows[comm.number] = found = not self.backend.all_finite(gradient)
        if comm.ranks == 1:
            return found
        comm.all_gather(overflows, range(comm.ranks + 1))
        return bool(self.backend.to_numpy(overflows).any())

    def _run_stages(
        self,
        bound: BoundBatch,
        comm: Communicator,
        mine: range,
        images: Any,
        targets: Sequence[Any],
        moment: Moment,
        scale: Any,
    ) -> None:
        """Compute loss and gradients of this worker's shards; ``images`` is None if they are loaded already."""
        plan = bound.plan
        for stage in plan.stages:
            for s in mine:
                if stage is plan.stages[0] and images is not None:
                    self._load(images, bound, bound.shards[s])
                self._run_stage(stage, bound, s, targets, moment, scale)
                self._fold(bound, s, mine.start, stage.gradients)
            if stage.join is not None:
                self._join(stage, bound, comm, mine)

    def infer(
        self, comm: Communicator, name: Name, batch: tuple[Any, ...], divisor: Any = None, keep: bool = True
    ) -> None:
        """Run this worker's part of a prediction, or with ``divisor`` of an evaluation; see :meth:`train`.

        ``keep`` says whether the outputs are kept.
        """
        bound = self.memory.batches[name]
        images, *targets = batch or bound.batch
        joins, mine = bound.plan.needs_batch_sums, comm.partition(bound.plan.count)
        divided = bound.plan.band_count > 1 and bool(bound.plan.own)
        if divided:
            self._infer(comm, bound, images, bound.plan.own[0])
        for s in self._infer_in_stages(comm, bound, images) if joins else mine:
            shard = bound.shards[s]
            if not (joins or divided):
                self._infer(Communicator(), bound, images, s)
            if divisor is not None:
                self._measure(shard, targets, 1 / divisor)
            elif comm.ranks > 1:
                shard.metrics[...] = 0  # a rank that has failed gives NaN
            if keep:
                bound.write_outputs(shard)
        if divisor is not None or comm.ranks > 1:
            bound.total = comm.all_reduce(bound.at_end.parts, bound.at_end.total)

    def drain(self, plan: BatchPlan, ranks: Ranks) -> bool:
        """Take part in the remaining joins after this rank has failed: with zeros, and NaN as the loss.

        The NaN tells the other ranks about the failure, so they do not change the parameters either. Return whether
        they are told: a rank without shards cannot make the loss NaN, so they notice only if another rank fails too.
        """
        from im2colnet.host import np

        joins = [(stage.steps[-1].kind, stage.join) for stage in plan.stages if stage.join is not None]
        if ranks.joins > len(joins):
            return False
        comm = RankCommunicator(Communicator(), ranks)
        for kind, i in joins[ranks.joins :]:
            join = joined(plan, kind, plan.sums[kind, i], np.zeros)
            if kind == "sums":
                comm.all_gather(join.vector, join.bounds)
            else:
                comm.all_reduce(join.parts, join.total)
        counts = 1 + len(self.loss.metrics) if self.loss else 1
        end = joined(plan, "forward", plan.at_end(counts), np.zeros)
        for part in end.parts:
            if part is not None:
                part[-counts] = np.nan
        comm.all_reduce(end.parts, end.total)
        return bool(np.isnan(end.total[-counts]))

    # ------------------------------------------------------------------ one shard

    def _load(self, images: Any, bound: BoundBatch, shard: Shard) -> None:
        """Write a shard's images into the input of the first layer; ``images`` are the images of this rank."""
        backend, x, first = self.backend, shard.bound.values[0], bound.plan.samples.start
        part = backend.asarray(images[shard.start - first : shard.stop - first])
        if self.memory.parameters.normalization is not None and self.memory.dtype in HALF:
            wide = backend.to_rows(part, out=backend.empty(x.shape, "float32"))
            self.memory.normalize(wide)
            x[...] = wide
        else:
            backend.to_rows(part, out=x)
            self.memory.normalize(x)
        if part.dtype.kind == "f" and not backend.all_finite(x):
            first = next(i for i in range(x.shape[-1]) if not backend.all_finite(x[..., i]))
            beyond = "" if self.memory.copy is None else f", or numbers too large for {self.memory.dtype}"
            raise NonFiniteError(f"image {shard.start + first} of the batch holds NaN or infinity{beyond}")

    def _run_stage(self, stage: Stage, bound: BoundBatch, s: int, targets: Any, moment: Moment, scale: Any) -> None:
        shard, row, samples = bound.shards[s], bound.plan.row_of[s], bound.name[1]
        nodes, views = bound.plan.graph.nodes, self.memory.views[row]
        for step in stage.steps:
            kind, i, began = step.kind, step.node, time.perf_counter()
            if kind == "loss":
                self._measure(shard, targets, scale)
            else:
                key = moment.seed, moment.step, i, s
                try:
                    shard.bound.run(kind, i, shard.sums.get((kind, i)), row, views[i], samples, key)
                except Exception:
                    with locate(nodes[i]):
                        raise
            if self.clock is not None:
                self.backend.synchronize()
                self.clock[kind, i] = self.clock.get((kind, i), 0.0) + time.perf_counter() - began

    def _infer(self, comm: Communicator, bound: BoundBatch, images: Any, s: int) -> None:
        """Run a shard in evaluation mode; this worker computes its own bands of a divided layer."""
        shard = bound.shards[s]
        if not comm.rank:
            self._load(images, bound, shard)
        program = shard.bound.inference(partition(bound.plan.band_count, comm.rank, comm.size))
        work = partial(self._run_program, program, comm, bound, bound.name[1], s)
        if len(bound.plan.own) == 1 and self.backend.records:
            bound.recording.run(work, [layer for _, _, passes in program for layer, *_ in passes])
        else:
            work()
        comm.barrier()

    def _run_program(self, program: Program, comm: Communicator, bound: BoundBatch, samples: int, s: int) -> None:
        i, before = 0, False
        try:
            for i, divided, passes in program:
                if before or divided:
                    comm.barrier()
                before = divided
                for layer, ctx, calls in passes:
                    ctx.samples, ctx.key = samples, (0, 0, i, s)
                    forward(layer, ctx, calls)
        except Exception:
            with locate(bound.plan.graph.nodes[i]):
                raise

    def _infer_in_stages(self, comm: Communicator, bound: BoundBatch, images: Any) -> Iterator[int]:
        """Run this worker's shards in evaluation mode where layers need sums over the whole batch, as in training.

        Yields each shard when it is done, since the next shard overwrites its results.
        """
        nodes, mine, stages = bound.plan.graph.nodes, comm.partition(bound.plan.count), bound.plan.stages
        for stage in stages:
            for s in mine:
                shard = bound.shards[s]
                if stage is stages[0]:
                    self._load(images, bound, shard)
                for kind, i in ((step.kind, step.node) for step in stage.steps):
                    with locate(nodes[i]):
                        shard.bound.run(kind, i, shard.sums.get((kind, i)), 0, {}, bound.name[1], (0, 0, i, s))
                if stage is stages[-1]:
                    yield s
            if stage.join is not None:
                self._join(stage, bound, comm, mine)

    def _measure(self, shard: Shard, targets: Sequence[Any], scale: Any) -> None:
        """Call the loss with a shard's output, or with tuples if the network has several outputs."""
        assert self.loss is not None
        output, doutput = shard.bound.loss_arguments
        mine = [self.backend.asarray(target[shard.start : shard.stop]) for target in targets]
        self.loss(output, one_or_tuple(mine), scale, shard.metrics, doutput, self.backend)

    # ------------------------------------------------------------------ joins

    def _fold(self, bound: BoundBatch, s: int, first: int, part: tuple[int, int]) -> None:
        """Add the gradients of shard ``s``, which has just finished, to the sums of the shards before it."""
        start, stop = part
        here, row_of, gradients = s, bound.plan.row_of, self.memory.gradients
        if stop > start:
            for into in folds(s, first):
                target = gradients[row_of[into]][start:stop]
                target += gradients[row_of[here]][start:stop]
                here = into

    def _join(self, stage: Stage, bound: BoundBatch, comm: Communicator, mine: range) -> None:
        """Join the sums of the layer that ends a stage, and set them in the contexts of this worker's shards."""
        assert stage.join is not None
        kind, i = stage.steps[-1].kind, stage.join
        join = bound.joins[kind, i]
        contexts = [bound.shards[s].bound.contexts[i] for s in mine]
        if kind == "sums":
            comm.all_gather(join.vector, join.bounds)
            if not contexts:
                return
            sums = bound.plan.graph.nodes[i].layer.join_sums(join.parts, bound.plan.sizes, contexts[0])
        else:
            sums = comm.all_reduce(join.parts, join.total)
        for ctx in contexts:
            ctx.sums = sums
        if kind == "sums":
            with locate(bound.plan.graph.nodes[i]):
                bound.plan.graph.nodes[i].layer.use_sums(contexts)
