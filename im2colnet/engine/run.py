"""Running a plan: the arrays of each shard in flight, and the program that every worker runs.

A step of training, for each worker:

    for each stage:
        for each of my shards:  run the stage's steps; fold the gradients into those of the shards before
        join the sums of the layer that ends the stage
    join loss and gradients over all shards; update my part of the parameters
"""

from __future__ import annotations

import os
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import accumulate
from math import prod
from threading import Lock
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from im2colnet.backend.foreign import known_array
from im2colnet.backend.registry import backend_of, get_backend
from im2colnet.engine.binding import Slot, _forward
from im2colnet.errors import (
    BackendError,
    DTypeError,
    NonFiniteError,
    OutOfMemoryError,
    ShapeError,
    WorkerWarning,
    memory_for,
)
from im2colnet.graph.nodes import Node, locate
from im2colnet.interrupt import quiet_at_exit
from im2colnet.layers import Context
from im2colnet.layout import internal_shape, user_shape
from im2colnet.losses import Loss
from im2colnet.memory import as_scratch, working
from im2colnet.network import Network
from im2colnet.parallel import Communicator, get_num_threads, get_workers
from im2colnet.parallel.state import UnknownStateError, snapshot, stateless
from im2colnet.parallel.threads import Team
from im2colnet.plan import BatchPlan, Kind, Stage, folds, nbytes
from im2colnet.types import ITEM_BYTES, Array, Spec

if TYPE_CHECKING:
    from im2colnet.parallel.processes import ProcessTeam


MOST_LAYOUTS = 16  # batch sizes to keep ready
FIRST_STEPS = 3  # of a batch size run on threads: processes are for what is repeated
FEW_STEPS, MOST_WASTED = 10, 3  # if that many teams of processes in turn were outdated after so few, threads do it
MOST_COPIED = 1 << 26  # bytes of a batch that is copied to where other processes see it


class Shard(NamedTuple):
    """One shard of a batch: its place in it, its arrays, and its part in what is joined."""

    start: int
    stop: int
    slot: Slot
    sums: dict[tuple[Kind, int], Array]  # of (pass, node): what this shard gives to the join
    metrics: Array  # the loss, and what it counts


Name = tuple[tuple[int, ...], int]  # of a layout: the shape of a sample, and how many


class Layout:
    """A planned batch on the arenas of a run."""

    def __init__(self, run: Run, name: Name) -> None:
        net, backend, graph = run.net, run.backend, run.net.graph
        self.name = name
        sample, batch = name
        output = graph.shapes(internal_shape(sample, batch))[-1]
        self.output_shape = user_shape(output)
        self.plan = plan = BatchPlan(graph, sample, batch, run.dtype, backend, run.training, run.shard, run.workers)
        run.reserve("worker", len(plan.shares), plan.worker_bytes)
        run.reserve("shard", plan.count if plan.couples else 0, plan.shard_bytes)
        self.gradients = run.gradient_rows(plan.rows)
        self.team = run.team(len(plan.shares))
        self.steps = 0  # of training or inference on it
        self.batch: tuple[Array, ...] = ()  # images and targets where other processes see them
        self.metrics: tuple[float, ...] = ()  # of the last step: the loss, and what it counts
        #: of the network, one row for each image
        self.outputs = None if run.training else backend.shared(self.output_shape, net.dtype)
        joined = [*plan.sums.values(), Spec((1 + len(run.loss.metrics) if run.loss else 1,), "float64")]
        ends = list(accumulate(map(nbytes, joined), initial=0))
        sums_of = backend.shared((plan.count, ends[-1]), "uint8")
        self.shards: list[Shard] = []
        slots: dict[Any, Slot] = {}
        starts = list(accumulate(plan.sizes, initial=0))
        for rank, mine in enumerate(plan.shares):
            for s in mine:
                size = plan.sizes[s]
                key = s if plan.couples else (rank, size)
                if key not in slots:
                    memory = run.shard_arenas[s] if plan.couples else run.worker_arenas[rank]
                    slots[key] = Slot(plan.plans[size], run.worker_arenas[rank], memory, run.parameters)
                *sums, metrics = (
                    sums_of[s, start : start + prod(shape) * ITEM_BYTES[dtype]].view(dtype).reshape(shape)
                    for start, (shape, dtype) in zip(ends, joined, strict=False)
                )
                of_node = dict(zip(plan.sums, sums, strict=True))
                self.shards.append(Shard(starts[s], starts[s + 1], slots[key], of_node, metrics))
        self._backend = backend

    def read_metrics(self) -> tuple[float, ...]:
        """The loss of the whole batch and what it counts, once they are joined."""
        return tuple(map(float, self._backend.to_numpy(self.shards[0].metrics)))

    def share(self, batch: tuple[Any, ...]) -> None:
        """Have memory for such a batch that other processes see."""
        kinds = [(array.shape, array.dtype.name) for array in batch]
        if [(array.shape, array.dtype.name) for array in self.batch[: len(batch)]] != kinds:
            self.batch = tuple(self._backend.shared(array.shape, array.dtype.name) for array in batch)


class Run:
    """Runs a network for training or inference.

    Parameters
    ----------
    net : Network
    training : bool
    loss : Loss, optional
        Of training; an evaluation brings its own.
    shard : int, optional
        Samples in a shard, at most; by default :func:`im2colnet.plan.shard_of`.
    """

    def __init__(self, net: Network, training: bool, loss: Loss | None = None, shard: int | None = None) -> None:
        net.flat  # noqa: B018 - raises if there are no parameters
        self.net, self.training, self._loss, self.shard = net, training, loss, shard
        self.precision, (self.backend, self.dtype) = net.precision, net.computes()
        #: a copy of the parameters, where they are stored in another type than the run's arrays
        self.copy = None if self.dtype == net.dtype else self.backend.empty(net.flat.shape, self.dtype)
        self._of_copy: dict[int, dict[str, Array]] = {}
        #: whether the last gradient was not finite in float16, so that nothing was changed
        self.overflowed = False
        self._meanwhile: Callable[[], None] | None = None
        self.worker_arenas: list[Array] = []
        self.shard_arenas: list[Array] = []
        self._gradients: list[Array] = []
        self._views: dict[int, list[Mapping[str, Array]]] = {}
        self._layouts: dict[Name, Layout] = {}
        self._teams: dict[int, Team] = {}
        self._processes: dict[int, ProcessTeam] = {}
        self._wasted = 0  # teams of processes that had hardly begun
        self.workers_text = "1 worker"
        #: where given, seconds of each step by kind and node are added to it; only of this process
        self.clock: dict[tuple[Kind, int], float] | None = None
        self._lock = Lock()
        self._process = os.getpid()
        self.workers = 0
        #: whether parameters or statistics may have changed, and not all of them, or not counted yet
        self.changing = False
        #: whether a layer, loss or optimiser of the user's changes itself while it works; None if nobody knows yet
        self._keeps_state: bool | None = None
        self._to_say: list[str] = []
        self._judged: list[int] = []  # the objects of which that is said

    @property
    def loss(self) -> Loss | None:
        """The loss of the next step or evaluation."""
        return self._loss

    @loss.setter
    def loss(self, loss: Loss) -> None:
        if self._loss is None or len(self._loss.metrics) != len(loss.metrics):
            self._layouts.clear()  # they have room for what the other one counts
        self._loss = loss

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Serve one call at a time, whichever of the user's threads it comes from, on the backend's device."""
        if self._process != os.getpid():  # forked: nobody here will ever release the parent's
            self._lock, self._process = Lock(), os.getpid()
        with self._lock, working(), self.backend.context():
            yield

    # ------------------------------------------------------------------ memory

    def reserve(self, kind: str, count: int, size: int) -> None:
        """Have at least ``count`` arenas of at least ``size`` bytes; larger ones replace the present ones."""
        present: list[Array] = getattr(self, f"{kind}_arenas")
        if count and (len(present) < count or present[0].size < size):
            size = max([size, *(arena.size for arena in present[:1])])
            count = max(count, len(present))
            present.clear()
            self._layouts.clear()  # they were bound to the old ones
            # shared, or both a process and the one it was forked from would have a copy of what was written before
            allocate = self.backend.shared if self.workers > 1 else self.backend.empty
            present.extend(as_scratch(allocate((size,), "uint8")) for _ in range(count))

    def gradient_rows(self, count: int) -> list[Array]:
        """Return ``count`` flat gradients."""
        while len(self._gradients) < count:
            row = self.backend.shared(self.net.flat.shape, self.net.dtype)
            row[...] = 0  # of parameters whose layer writes none
            # read-only, so that grads["weight"] = ... instead of grads["weight"][...] = ... does not go unnoticed
            self._views[len(self._gradients)] = [
                MappingProxyType(self.net.views(node, row)) for node in self.net.graph.nodes
            ]
            self._gradients.append(row)  # last, in case that this is interrupted
        return self._gradients[:count]

    def parameters(self, node: Node) -> dict[str, Array]:
        """Return a node's parameters as its layer takes them."""
        if self.copy is None:
            return node.params
        if not self._of_copy:  # the nodes of inference are others, of the same parameters
            for other in self.net.graph.nodes:
                precise = {key for key, p in other.layer.parameters().items() if p.precise}
                views = self.net.views(other, self.copy)
                self._of_copy[id(other.params)] = {k: other.params[k] if k in precise else v for k, v in views.items()}
        return self._of_copy[id(node.params)]

    def team(self, size: int) -> Team:
        """Return a team of ``size`` workers."""
        if size not in self._teams:
            self._teams[size] = Team(size)
        return self._teams[size]

    def layout(self, images: Any, known: Sequence[dict[str, Any]] = ()) -> Layout:
        """Return the layout for a batch of this shape, made on first use."""
        workers = get_num_threads() if self.backend.threads else 1
        get_workers()  # raises if it is nonsense, whether or not there is more than one
        if workers > 1 and self._watched(known) and self._keeps_state is not False:
            workers = 1  # in the order of one worker, until it is known that the order does not matter
        if self.workers != workers:
            self.workers = workers
            self._layouts.clear()
            self._teams.clear()
            for processes in self._processes.values():
                processes.close()
            self._processes.clear()
        key = tuple(images.shape[1:]), images.shape[0]
        if key not in self._layouts:
            try:
                layout = Layout(self, key)
            except OutOfMemoryError as error:
                raise OutOfMemoryError(f"{error}. {self._fitting(key)}") from None
            while len(self._layouts) >= MOST_LAYOUTS:
                self._layouts.pop(next(iter(self._layouts)))
            self._layouts[key] = layout
            if self.net.input_shape is None:
                self.net.input_shape = key[0]
        self._layouts[key] = self._layouts.pop(key)  # the last to be thrown out
        return self._layouts[key]

    def _fitting(self, name: Name) -> str:
        """Say which batch would have had room."""
        net, (sample, batch), room = self.net, name, self.backend.room()
        if room is None:
            return "Use a smaller batch"
        fits, more = 0, batch
        while more - fits > 1:
            n = (fits + more) // 2
            plan = net.plan(n, sample, self.training, self.workers, self.shard)
            fits, more = (n, more) if sum(plan.memory().values()) <= room else (fits, n)
        if not fits:
            return "Not even one image would fit"
        return f"Of this batch of {batch} images {fits} would fit: use a batch of {fits} or fewer"

    # ------------------------------------------------------------------ what is run

    def train_step(
        self,
        images: Any,
        labels: Any,
        key: tuple[int, int],
        update: Callable[..., None],
        how: tuple[Any, ...] = (),
        known: Sequence[dict[str, Any]] | None = None,
        scale: float = 1.0,
        meanwhile: Callable[[], None] | None = None,
    ) -> tuple[float, ...]:
        """Run one step, within :meth:`alone`.

        Parameters
        ----------
        images, labels
        key
            Seeds random numbers: (seed, step).
        update : callable
            ``update(gradient, communicator, *how)`` changes a worker's share of the parameters.
        how : tuple
        known : sequence of dict, optional
            All that ``update`` depends on, by name, the objects whose methods it calls first; without it the workers
            are threads.
        scale : float
            What the loss is multiplied by before it is differentiated, and the gradient divided by.
        meanwhile : callable, optional
            Called when everything is queued, before a device is waited for.

        Returns
        -------
        loss, *counts
            Mean loss over the batch, and the sums of what the loss counts, before the update.

        Raises
        ------
        NonFiniteError
            If images or loss are not finite; the parameters are unchanged.
        WorkerError
            If a worker's process has ended.
        """
        with memory_for():
            self._meanwhile = meanwhile
            images = self.check_images(images)
            layout = self.layout(images, known or ())
            targets = self._targets(labels, layout)
            self._run(layout, partial(self._train_program, update), known, (images, targets), key, how, scale)
            loss = layout.metrics[0]
            if loss - loss != 0:
                wider = ', or precision="bfloat16"' if self.dtype == "float16" else ""
                raise NonFiniteError(
                    f"the loss is {loss}: try a lower learning rate{wider}; the parameters are unchanged"
                )
            for node, ctx in zip(self.net.graph.nodes, layout.shards[0].slot.contexts, strict=True):
                node.layer.finish_step(ctx)
            return layout.metrics

    def _train_program(
        self,
        update: Callable[..., None],
        comm: Communicator,
        name: Name,
        batch: tuple[Any, ...],
        key: tuple[int, int],
        how: tuple[Any, ...],
        scale: float,
    ) -> None:
        """What each worker does in a step, on ``batch`` or on that which the layout shares with other processes."""
        layout = self._layouts[name]
        plan, mine, (images, targets) = layout.plan, comm.share(layout.plan.count), batch or layout.batch
        for stage in plan.stages:
            for s in mine:
                self._run_stage(stage, layout, s, images, targets, key, scale)
                self._fold(layout, s, mine.start, stage.gradients)
            if stage.join is not None:
                join = stage.steps[-1].kind, stage.join
                parts = [shard.sums[join] for shard in layout.shards]
                contexts = [layout.shards[s].slot.contexts[stage.join] for s in mine]
                if join[0] == "sums":
                    comm.barrier()
                    joined = self.net.graph.nodes[stage.join].layer.join_sums(parts, plan.sizes, contexts[0])
                else:
                    comm.all_reduce(parts)
                    joined = parts[0]
                for ctx in contexts:
                    ctx.sums = joined
        comm.all_reduce([shard.metrics for shard in layout.shards])
        if self._meanwhile and not comm.rank:
            self._meanwhile()
        # here a device is waited for; what follows is queued, and not waited for
        loss, *counts = layout.read_metrics()
        layout.metrics = loss / scale, *counts
        if loss - loss != 0:
            return
        if not comm.rank:
            self.changing = True  # before any worker can change a parameter: they meet in the next line
        comm.all_reduce([layout.gradients[r] if s in plan.live else None for s, r in enumerate(plan.row_of)])
        gradient = layout.gradients[0]
        if self.dtype == "float16":  # but of this it has to be known whether it has overflowed
            gradient *= 1 / scale
            self.overflowed = not self.backend.all_finite(gradient)
            if self.overflowed:
                gradient[...] = 0
                return
        update(gradient, comm, *how)

    def predict(self, images: Any) -> Any:
        """Network output for ``images``, (N, classes) or (N, C, H, W), of their array module."""
        with self.alone(), memory_for():
            images, backend = self.check_images(images, least=0), self.backend
            if not len(images):
                output = self.net.output_shape(internal_shape(images.shape[1:], 1))
                xp = backend.xp if backend.owns(images) else get_backend("numpy").xp
                return xp.empty((0, *user_shape(output)[1:]), dtype=self.net.dtype)
            layout = self.layout(images)
            self._run(layout, self._inference_program, (), (images,), False)
            result = backend.xp.array(layout.outputs) if backend.owns(images) else backend.to_numpy(layout.outputs)
        self.say()
        return result

    def evaluate(self, images: Any, labels: Any, loss: Loss) -> tuple[float, ...]:
        """Mean loss and the sums of what it counts, in evaluation mode."""
        with self.alone(), memory_for():
            images = self.check_images(images)
            self.loss = loss
            layout = self.layout(images)
            targets = self._targets(labels, layout)
            self._run(layout, self._inference_program, (), (images, targets), True)
            metrics = layout.read_metrics()
        self.say()
        return metrics

    def _inference_program(self, comm: Communicator, name: Name, batch: tuple[Any, ...], evaluate: bool) -> None:
        """What each worker does for a prediction or an evaluation; see :meth:`_train_program`."""
        layout = self._layouts[name]
        images, *targets = batch or layout.batch
        if layout.plan.parts > 1:
            self._infer(comm, layout, 0, images)
        for s in comm.share(layout.plan.count):
            shard = layout.shards[s]
            if layout.plan.parts == 1:
                self._infer(Communicator(), layout, s, images)
            if evaluate:
                self._measure(shard, targets[0], None)
            else:
                y = shard.slot.values[-1]
                cast(Array, layout.outputs)[shard.start : shard.stop] = y.transpose(3, 1, 0, 2) if y.ndim == 4 else y.T
        if evaluate:
            comm.all_reduce([shard.metrics for shard in layout.shards])

    # ------------------------------------------------------------------ workers

    def _run(
        self,
        layout: Layout,
        program: Callable[..., None],
        known: Sequence[dict[str, Any]] | None,
        batch: tuple[Any, ...],
        *command: Any,
    ) -> None:
        """Run ``program(communicator, name, batch, *command)`` on every worker, on processes without the batch."""
        program = partial(self._work, program)
        watched = self._watched(known or ()) if get_num_threads() > 1 and self.backend.threads else []
        before = self._snapshot(watched)
        with quiet_at_exit():
            processes = self._process_team(layout, batch, program, known, watched)
        if processes is not None:
            for shared, given in zip(layout.batch, batch, strict=False):
                shared[...] = given
            batch = ()
        if self.copy is not None:
            with self.backend.errstate():
                self.copy[...] = self.net.flat
        with quiet_at_exit():
            (processes or layout.team).run(program, layout.name, batch, *command)
        if watched and self._keeps_state is not True:
            self._judge(watched, before is None or self._snapshot(watched) != before)

    # ------------------------------------------------------------------ what a user's own classes keep

    def say(self) -> None:
        """Warn of what was noticed in the user's classes, once for the process, now that the work is done."""
        if not self._to_say:
            return
        messages, self._to_say = [m for m in self._to_say if m not in _said], []
        _said.update(messages)
        for message in dict.fromkeys(messages):
            warnings.warn(message, WorkerWarning, stacklevel=4)

    def _objects(self, known: Sequence[dict[str, Any]]) -> list[Any]:
        """The objects whose methods the workers call."""
        layers = [node.layer for node in self.net.graph.nodes]
        return [*layers, *filter(None, [self.loss]), *(known[0].values() if known else ())]

    def _watched(self, known: Sequence[dict[str, Any]]) -> list[Any]:
        """Those of them that do not say that they are stateless."""
        watched = [thing for thing in self._objects(known) if not stateless(thing)]
        if (ids := [*map(id, watched)]) != self._judged:
            self._keeps_state, self._judged = None, ids
        return watched

    def _snapshot(self, watched: list[Any]) -> Any:
        """What they keep now; None if it is not known, or does not matter any more."""
        if not watched or self._keeps_state:
            return None
        try:
            return snapshot(*watched)
        except UnknownStateError:
            return None

    def _judge(self, watched: list[Any], changed: bool) -> None:
        """After a run: from now on let several threads work, or take the shards one after the other."""
        names = ", ".join(sorted({type(thing).__name__ for thing in watched}))
        say = f"If nothing of it changes while it works, write stateless = True in its class ({names})"
        if changed and self._keeps_state is False:
            self._to_say.append(
                f"{names}: what it keeps has changed while several threads worked, so the result of this step may"
                f" depend on their number; from now on one thread works. {say}"
            )
        elif changed:
            self._to_say.append(
                f"{names}: what it keeps changes while it works, or cannot be looked into, so one thread does all work,"
                f" in a fixed order. {say}"
            )
        self._keeps_state = changed

    def _work(self, program: Callable[..., None], comm: Communicator, *command: Any) -> None:
        """Be a worker: run the program in arithmetic that is a thread's own, and not inherited."""
        # a process begins without any of it
        with self.backend.errstate(), self.backend.flush_denormal():
            program(comm, *command)

    def _process_team(
        self,
        layout: Layout,
        batch: tuple[Any, ...],
        program: Callable[..., None],
        known: Sequence[dict[str, Any]] | None,
        watched: list[Any],
    ) -> ProcessTeam | None:
        """Workers on processes for what is repeated, where they can be had: else None, and threads do it."""
        size, backend = layout.plan.workers, self.backend
        layout.steps += 1
        # threads hand over to each other too slowly to share an image
        one = "1 thread" if watched else "1 worker"
        self.workers_text = f"{layout.team.size} threads" if layout.team.size > 1 else one
        if size == 1 or layout.steps < FIRST_STEPS or known is None:
            return None
        from im2colnet.parallel import processes  # costs a few ms of import time

        if not processes.wanted() or not backend.shares(self.net.flat) or batch[0].nbytes > MOST_COPIED:
            return None
        if watched:
            names = ", ".join(sorted({type(thing).__name__ for thing in watched}))
            self._to_say.append(
                f"{names} does not say that it is stateless, so threads work instead of processes. If nothing of it"
                " changes while it works, write stateless = True in its class"
            )
            return None
        layout.share(batch)
        shared = {f"{name} {i}": array for name, other in self._layouts.items() for i, array in enumerate(other.batch)}
        everything = [*known, shared, {"loss": self.loss}, *map(vars, self._objects(known))]
        team = self._processes.get(size)
        if team is not None and not team.current(everything):
            if team.mine:
                self._wasted = self._wasted + 1 if team.turns < FEW_STEPS else 0
            self._processes.pop(size).close()
            team = None
        if team is None:
            arrays = [*self._gradients, *(value for names in known for value in names.values() if backend.owns(value))]
            if self._wasted >= MOST_WASTED or not all(map(backend.shares, arrays)):
                return None
            try:
                team = self._processes[size] = processes.ProcessTeam(size, program, everything, backend.shares)
            except UnknownStateError as error:
                self._to_say.append(f"threads work instead of processes: {error}")
                return None
        self.workers_text = f"{size} processes"
        return team

    # ------------------------------------------------------------------ one shard

    def _run_stage(
        self, stage: Stage, layout: Layout, s: int, images: Any, targets: Any, key: tuple[int, int], scale: float
    ) -> None:
        shard, slot = layout.shards[s], layout.shards[s].slot
        nodes = slot.plan.graph.nodes
        if stage is layout.plan.stages[0]:
            self._load(images, shard)
        row, samples = layout.plan.row_of[s], images.shape[0]
        for step in stage.steps:
            kind, i, began = step.kind, step.node, time.perf_counter()
            if kind == "loss":
                self._measure(shard, targets, slot.loss_gradients[0], scale)
            else:
                ctx = slot.contexts[i]
                ctx.samples, ctx.key = samples, (*key, i, s)
                try:
                    self._run_layer(kind, i, ctx, shard, row)
                except Exception:
                    with locate(nodes[i]):
                        raise
            if self.clock is not None:
                self.backend.synchronize()
                self.clock[kind, i] = self.clock.get((kind, i), 0.0) + time.perf_counter() - began

    def _infer(self, comm: Communicator, layout: Layout, s: int, images: Any) -> None:
        """Take a shard through the network in evaluation mode, each worker its part of the layers that are divided."""
        shard, slot = layout.shards[s], layout.shards[s].slot
        if not comm.rank:
            self._load(images, shard)
        program, i, before = slot.program(comm.share(layout.plan.parts)), 0, False
        try:
            for i, divided, work in program:
                if before or divided:
                    comm.barrier()
                before = divided
                for layer, ctx, calls in work:
                    ctx.samples, ctx.key = images.shape[0], (0, 0, i, s)
                    _forward(layer, ctx, calls)
        except Exception:
            with locate(slot.plan.graph.nodes[i]):
                raise
        comm.barrier()

    def _run_layer(self, kind: Kind, i: int, ctx: Context, shard: Shard, row: int) -> None:
        slot, layer = shard.slot, shard.slot.plan.graph.nodes[i].layer
        ctx.work = slot.work[i].get(kind, {})
        if kind == "forward":
            slot.forward(i)
        elif kind == "sums":
            ctx.sums = shard.sums["sums", i]
            layer.partial_sums(ctx.x, ctx)
        elif kind == "grad_sums":
            ctx.sums, ctx.grads = shard.sums["grad_sums", i], self._views[row][i]
            layer.partial_grad_sums(slot.backward[i].dy, ctx)
        else:
            needs, bound = slot.plan.needs[i], slot.backward[i]
            if not (needs.view or needs.gradient_passes):
                ctx.dxs, ctx.grads = bound.dxs, self._views[row][i]
                slot.backpropagate(i, row)
            for new, old, total in bound.adds:
                ctx.xp.add(new, old, out=total)

    def _load(self, images: Any, shard: Shard) -> None:
        backend, x = self.backend, shard.slot.values[0]
        part = backend.asarray(images[shard.start : shard.stop])
        backend.to_rows(part, out=x)
        if part.dtype.kind == "f" and not backend.all_finite(x):
            first = next(i for i in range(x.shape[-1]) if not backend.all_finite(x[..., i]))
            beyond = "" if self.copy is None else f", or numbers too large for {self.dtype}"
            raise NonFiniteError(f"image {shard.start + first} of the batch holds NaN or infinity{beyond}")

    def _targets(self, labels: Any, layout: Layout) -> Any:
        """Return what the loss makes of a batch's labels, an array of the host."""
        loss, n = cast(Loss, self.loss), layout.output_shape[0]
        targets = loss.targets(labels, layout.output_shape)
        if not get_backend("numpy").owns(targets) or targets.shape[:1] != (n,):
            what = getattr(targets, "shape", type(targets).__name__)
            raise ShapeError(f"{loss!r}.targets must return a NumPy array of shape ({n}, ...), it returned {what}")
        return targets

    def _measure(self, shard: Shard, targets: Any, doutput: Array | None, scale: float = 1.0) -> None:
        """Have the loss measure a shard's output, and differentiate it where there is room for the gradient."""
        backend, loss = self.backend, cast(Loss, self.loss)
        mine = backend.asarray(targets[shard.start : shard.stop])
        loss(shard.slot.values[-1], mine, scale / len(targets), shard.metrics, doutput, backend)

    def _fold(self, layout: Layout, s: int, first: int, part: tuple[int, int]) -> None:
        """Add the gradients that shard ``s`` has just finished to those of the shards before it."""
        start, stop = part
        here = s
        if stop > start:
            for into in folds(s, first):
                target = layout.gradients[layout.plan.row_of[into]][start:stop]
                target += layout.gradients[layout.plan.row_of[here]][start:stop]
                here = into

    # ------------------------------------------------------------------ checks

    def check_images(self, images: Any, least: int = 1) -> Any:
        """Return ``images`` as an array of the host or of the network's backend, or raise what is wrong with it."""
        net = self.net
        if not net.backend.owns(images) or hasattr(images, "mask"):
            images = known_array("images", images)
        if not (net.backend.owns(images) or get_backend("numpy").owns(images)):
            raise BackendError(
                f"images are arrays of {backend_of(images=images).full_name!r}, but the network lives on"
                f" {net.backend.full_name!r}: give NumPy arrays, or those of its own backend"
            )
        rank = len(net.input_shape) + 1 if net.input_shape is not None else images.ndim
        if images.ndim not in (2, 4) or images.ndim != rank:
            expected = "(N, features)" if rank == 2 else "(N, channels, height, width)"
            hint = "; make it so by images[None] (one image) or images[:, None] (grey ones)" if images.ndim == 3 else ""
            raise ShapeError(f"images must have shape {expected}, got {images.shape}{hint}")
        if 0 in images.shape[not least :]:
            raise ShapeError(f"the batch is empty: images of shape {images.shape}")
        if images.dtype.kind != "f" and images.dtype.name != "uint8":
            raise DTypeError(
                "images must be uint8, which is scaled to [0, 1], or floating point, which is taken as it is;"
                f" got {images.dtype}"
            )
        if net.inputs is not None and not self.training:
            net.inputs.compare_kind("images", images.dtype.name == "uint8")
        return images


_said: set[str] = set()
