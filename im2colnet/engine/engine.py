"""The engine of a network runs training steps, predictions and evaluations on batches."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from threading import Lock
from typing import Any

from im2colnet.backend import Backend
from im2colnet.backend.registry import get_backend
from im2colnet.engine.binding import BoundBatch, Name
from im2colnet.engine.crew import Crew
from im2colnet.engine.memory import Memory
from im2colnet.engine.program import Moment, Update, Worker
from im2colnet.errors import Im2colnetError, NonFiniteError, ShapeError, mark_agreed, memory_for
from im2colnet.graph.nodes import Graph
from im2colnet.graph.parameters import Parameters
from im2colnet.layout import one_or_tuple
from im2colnet.lazy import LazyArray
from im2colnet.losses import Loss
from im2colnet.losses.base import output_shape_for
from im2colnet.memory import working
from im2colnet.parallel import partition
from im2colnet.parallel.ranks import Ranks
from im2colnet.types import Array


class Engine:
    """Runs the layers of a graph on its parameters, for training or for inference.

    Parameters
    ----------
    parameters : Parameters
    graph : Graph
        The parameters' graph, or a part of it.
    training : bool
    loss : Loss, optional
        The loss of training. An evaluation has its own.
    shard : int, optional
        The largest number of samples in a shard. By default the backend decides.
    ranks : Ranks, optional
        The ranks that share each batch: all of them must run the same. By default this process does all of it.
    """

    def __init__(
        self,
        parameters: Parameters,
        graph: Graph,
        training: bool,
        loss: Loss | None = None,
        shard: int | None = None,
        ranks: Ranks | None = None,
    ) -> None:
        self.parameters, self.graph, self.training = parameters, graph, training
        self.precision = parameters.precision
        ranks = ranks if ranks is not None and ranks.size > 1 else None
        self._memory, self._ranks = Memory(parameters, graph, training, shard, ranks), ranks
        self._parts: dict[Name, slice] = {}
        self._worker, self._crew = Worker(self._memory, loss), Crew(self._memory)
        self._layers = [node.layer for node in graph.nodes]
        self._lock, self._process = Lock(), os.getpid()

    # ------------------------------------------------------------------ properties

    @property
    def backend(self) -> Backend:
        """The backend, set to the precision that it computes in."""
        return self._memory.backend

    @property
    def shard(self) -> int | None:
        """The largest number of samples in a shard, or None if it was not set."""
        return self._memory.shard

    @shard.setter
    def shard(self, shard: int | None) -> None:
        self._memory.shard = shard
        self._memory.batches.clear()
        self._parts.clear()

    @property
    def dtype(self) -> str:
        """The element type of the arrays between the layers."""
        return self._memory.dtype

    @property
    def workers_text(self) -> str:
        """The workers of the last run, such as "2 processes"."""
        return self._crew.text

    def worker_processes(self) -> list[int]:
        """Return the ids of the processes that work for this engine."""
        return self._crew.processes()

    def arrays(self) -> list[Array]:
        """Return the arrays that the steps use: arenas and rows of gradients."""
        memory = self._memory
        return [*memory.gradients, *memory.worker_arenas, *memory.shard_arenas]

    @property
    def overflowed(self) -> bool:
        """Whether the last gradient was not finite in float16, so that the parameters were not changed."""
        return self._worker.overflowed

    @property
    def refused(self) -> bool:
        """Whether the norm of the last gradient was not finite, so that the parameters were not changed."""
        return self._worker.refused

    @property
    def weight(self) -> float:
        """The weight of the last batch's gradient in a mean over several batches; 0 if the gradient was left out."""
        return self._worker.weight

    @property
    def changing(self) -> bool:
        """Whether a step has begun to change parameters or state, and is not finished and counted yet."""
        return self._worker.changing

    @changing.setter
    def changing(self, changing: bool) -> None:
        self._worker.changing = changing

    @property
    def loss(self) -> Loss | None:
        """The loss of the next step or evaluation."""
        return self._worker.loss

    @loss.setter
    def loss(self, loss: Loss) -> None:
        before = self._worker.loss
        if before is None or len(before.metrics) != len(loss.metrics):
            self._memory.batches.clear()  # their arrays of metrics have the size for the loss before
        self._worker.loss = loss

    @contextmanager
    def clocked(self) -> Iterator[dict[tuple[Any, int], float]]:
        """Measure times within a ``with`` block; its dict adds up the seconds by kind of step and node."""
        self._worker.clock = {}
        try:
            yield self._worker.clock
        finally:
            self._worker.clock = None

    def say(self) -> None:
        """Give the warnings about the user's classes, after the run."""
        self._crew.say()

    # ------------------------------------------------------------------ runs

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Let one of the user's threads at a time use the engine, on the backend's device."""
        if self._process != os.getpid():  # after a fork nobody would release a lock that the parent held
            self._lock, self._process = Lock(), os.getpid()
        with self._lock, working(), self._memory.backend.context():
            yield

    def shard_sizes(self, sample: tuple[int, ...], n: int) -> list[int]:
        """Return the number of samples in each shard of a batch of ``n`` samples of this shape."""
        return self._memory.plan(sample, n).sizes

    def part(self, sample: tuple[int, ...], n: int) -> slice:
        """Return which samples of a batch of ``n`` samples of this shape this rank computes."""
        if self._ranks is None:
            return slice(0, n)
        if (sample, n) not in self._parts:
            self._parts[sample, n] = self._memory.plan(sample, n).samples
        return self._parts[sample, n]

    def train(
        self,
        images: Any,
        labels: Any,
        update: Update,
        moment: Moment,
        while_waiting: Callable[[], None] | None = None,
        samples: int | None = None,
    ) -> tuple[float, ...]:
        """Run one training step within :meth:`alone`; :attr:`changing` stays set until the caller has counted the step.

        Parameters
        ----------
        images : array of the host or of the backend, (N, ...)
            As :func:`im2colnet.engine.inputs.check_images` returns them.
        labels : array_like
            The labels of the whole batch, as the loss takes them.
        update : Update
            The object that changes the parameters.
        moment : Moment
        while_waiting : callable, optional
            A function that is called when all kernels are queued, before the engine waits for a device.
        samples : int, optional
            The batch size, if ``images`` are only the images of this rank; see :meth:`part`.

        Returns
        -------
        loss, *counts
            The mean loss over the batch and the sums of its metrics, before the update.

        Raises
        ------
        NonFiniteError
            If the images, the loss or the norm of the gradient are not finite. The parameters are unchanged.
        WorkerError
            If a worker's process has ended, or another rank has failed: then the parameters are unchanged.
        """
        with memory_for():
            self._worker.while_waiting = while_waiting
            known = [*update.known(), self._constants()]
            objects = self._objects(known)

            with self._agreed(name := name_of(images, samples), f"step {moment.step + 1}"):
                bound = self._bind(name, objects)
                targets, divisor, counted = self._targets(labels, bound)
                program, command = partial(self._worker.train, update), (moment, divisor)
                batch = self._own(images, bound, samples), *targets
                self._crew.run(program, bound, batch, command, objects, known, self.loss)
            loss, *counts = bound.metrics
            if loss - loss != 0:  # NaN or infinity
                wider = ', or precision="bfloat16"' if self.dtype == "float16" else ""
                raise self._of_all(
                    NonFiniteError(
                        f"the loss is {loss}: try a lower learning rate{wider}; the parameters are unchanged"
                    )
                )
            if self._worker.refused:
                self.changing = False
                raise self._of_all(
                    NonFiniteError(
                        "the gradient holds NaN or infinity, or numbers too large to be squared, though the loss is"
                        " finite: try a lower learning rate; the parameters are unchanged"
                    )
                )
            self._finish(bound)
            return loss, *_per_sample(counts, counted, name[1])

    def predict(self, images: Any, samples: int | None = None) -> Any:
        """Return the outputs for ``images``, batch first, in their array module; several outputs are a tuple.

        With ranks, each rank computes its part, and all ranks return the outputs of the whole batch. ``samples`` is the
        batch size, if ``images`` are only the images of this rank.
        """
        backend = self._memory.backend
        own, name = backend.owns(images), name_of(images, samples)
        with self.alone(), memory_for():
            if not name[1]:
                shapes = self.graph.output_shapes(images.shape)
                xp = backend.xp if own else get_backend("numpy").xp
                results = [xp.empty(shape, dtype=self.parameters.dtype) for shape in shapes]
            else:
                with self._agreed(name, "prediction"):
                    bound = self._bind(name, self._objects())
                    self._infer(bound, (self._own(images, bound, samples),))
                self._gather(bound)
                results = [out.copy() if own else backend.to_numpy(out.copy()) for out in bound.outputs]
        self.say()
        return one_or_tuple(results)

    def evaluate(
        self, images: Any, labels: Any, loss: Loss, keep: bool = False, samples: int | None = None
    ) -> tuple[tuple[float, ...], tuple[Array, ...]]:
        """Return the mean loss and the sums of its metrics, in evaluation mode, and the outputs if they are to be kept.

        The outputs are arrays of the host, batch first. ``samples`` is as in :meth:`predict`.
        """
        name = name_of(images, samples)
        with self.alone(), memory_for():
            self.loss = loss
            with self._agreed(name, "evaluation"):
                bound = self._bind(name, self._objects())
                targets, divisor, counted = self._targets(labels, bound)
                self._infer(bound, (self._own(images, bound, samples), *targets), divisor, keep)
            mean, *counts = bound.read_metrics()
            backend, outputs = self._memory.backend, ()
            if keep:
                self._gather(bound)
                outputs = tuple(backend.to_numpy(out.copy()) for out in bound.outputs)
        self.say()
        return (mean, *_per_sample(counts, counted, name[1])), outputs

    @contextmanager
    def _agreed(self, name: Name, what: str) -> Iterator[None]:
        """Within the block this rank and the others compute a batch: where one of them fails, all raise an error."""
        ranks = self._ranks
        if ranks is None:
            yield
            return
        ranks.begin_step(what)
        failure: Exception | None = None
        try:
            yield
            loss = self._memory.batches[name].read_metrics()[0]
        except Exception as error:
            if not self._drain(name, ranks, error):
                raise
            failure = error
        if failure is not None or loss != loss:
            ranks.agree(failure)

    def _of_all(self, error: Exception) -> Exception:
        """Mark an error that every rank raises alike, if there are ranks."""
        return error if self._ranks is None else mark_agreed(error)

    def _drain(self, name: Name, ranks: Ranks, error: Exception) -> bool:
        """Return whether the other ranks have learned that this one has failed.

        If they cannot, since they wait for work that this rank no longer does, the error is marked as its own.
        """
        try:
            plan = self._memory.plan(*name)
        except Im2colnetError:  # the batch does not fit the network, on no rank
            return False
        told = self._worker.drain(plan, ranks)
        if not told:
            error.alone = True  # type: ignore[attr-defined]
        return told

    def _own(self, images: Any, bound: BoundBatch, samples: int | None) -> Any:
        """Return the images of this rank: its part of a whole batch, or all given images if they are only that part."""
        part = bound.plan.samples
        if self._ranks is None:
            return images
        if samples is None:
            return images.select(part) if isinstance(images, LazyArray) else images[part]
        if len(images) != part.stop - part.start:
            raise ShapeError(
                f"this rank computes {part.stop - part.start} of the {samples} samples of the batch, from sample"
                f" {part.start} on, got {len(images)}"
            )
        return images

    def _gather(self, bound: BoundBatch) -> None:
        """Get the outputs that other ranks have computed."""
        if self._ranks is not None:
            for out in bound.outputs:
                length = out[0].size
                ends = [length * end for end in bound.plan.bounds(bound.plan.starts)]
                self._ranks.all_gather(out.reshape(-1), ends)

    def _finish(self, bound: BoundBatch) -> None:
        """Let the layers change their state, after a step; a rank without shards gets the state from another."""
        plan, ranks = bound.plan, self._ranks
        if plan.own:
            first = bound.shards[plan.own[0]]
            for i, (node, ctx) in enumerate(zip(self.graph.nodes, first.bound.contexts, strict=True)):
                if node.frozen.intersection(node.buffers):
                    continue
                if node.layer.step_sums:
                    ctx.step_sums = bound.step_sums(i)
                node.layer.finish_step(ctx)
        if ranks is not None and plan.count < ranks.size:
            state = self.parameters.state
            owner = next(rank for rank in range(ranks.size) if partition(plan.count, rank, ranks.size))
            ranks.all_gather(state, [0 if rank <= owner else state.size for rank in range(ranks.size + 1)])

    def _infer(self, bound: BoundBatch, batch: tuple[Any, ...], *command: Any) -> None:
        self._crew.run(self._worker.infer, bound, batch, command, self._objects(), [self._constants()], self.loss)

    def _constants(self) -> dict[str, Any]:
        """Return the values that workers read beside layers, loss and update, by name."""
        return {"normalization": self.parameters.normalization}

    def _objects(self, known: Sequence[dict[str, Any]] = ()) -> list[Any]:
        """Return the objects whose methods the workers call."""
        loss = self.loss
        losses = [loss, *getattr(loss, "losses", ())] if loss else []
        return [*self._layers, *losses, *(known[0].values() if known else ())]

    def _bind(self, name: Name, objects: Sequence[Any]) -> BoundBatch:
        loss = self.loss
        counts = 1 + len(loss.metrics) if loss else 1
        return self._memory.bind(name, self._crew.size(objects), counts)

    def _targets(self, labels: Any, bound: BoundBatch) -> tuple[Any, Any, Any]:
        """Return the targets that the loss makes from the labels, its divisor, and how many things it counts.

        The targets are a sequence with a host array for each of the network's outputs.
        """
        loss, n = self.loss, bound.name[1]
        assert loss is not None
        targets = loss.targets(labels, output_shape_for(loss, bound.output_shapes))
        found = targets if loss.several_outputs else (targets,)
        for target in found:
            if not get_backend("numpy").owns(target) or target.shape[:1] != (n,):
                what = getattr(target, "shape", type(target).__name__)
                raise ShapeError(f"{loss!r}.targets must return a NumPy array of shape ({n}, ...), it returned {what}")
        return found, *loss.totals(targets)


def name_of(images: Any, samples: int | None) -> Name:
    """Return the name of a batch; ``samples`` is its size if ``images`` are only a part of it."""
    return tuple(images.shape[1:]), len(images) if samples is None else samples


def _per_sample(counts: Sequence[float], counted: Any, n: int) -> Sequence[float]:
    """Scale counts of things other than samples to the number of samples."""
    each = [counted] * len(counts) if isinstance(counted, int) else counted
    pairs = zip(counts, each, strict=True)
    return [count if things == n or not things else float(count * n / things) for count, things in pairs]
