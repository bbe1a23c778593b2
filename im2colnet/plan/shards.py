"""The division of a batch into shards, and the assignment of shards to workers."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from math import prod

from im2colnet.backend import Backend, shard_sizes
from im2colnet.errors import ShapeError
from im2colnet.graph.nodes import Graph
from im2colnet.graph.passes import lowered
from im2colnet.layout import channels, internal_shape
from im2colnet.parallel import bounds, partition
from im2colnet.plan.steps import Kind, Plan
from im2colnet.types import HALF, ITEM_BYTES, Spec, accumulator

#: the largest number of shards in a batch; with more, planning alone takes minutes
MOST_SHARDS = 1 << 20
#: the largest number of values that one sample makes in all layers; with more, planning alone takes minutes
MOST_VALUES = 1 << 36
#: the number of shards of a batch on several ranks, if the backend does not divide the batch (a GPU)
SHARDS_OF_DEVICES = 8


class BatchPlan:
    """The plan of a batch: its shards, their plans, and the shards of each worker.

    Parameters
    ----------
    graph, dtype, backend, training
        See :class:`Plan`.
    sample : tuple of int
        The shape of one sample, (C, H, W) or (features,).
    batch : int
        The batch size.
    shard : int, optional
        The largest number of samples in a shard. By default the backend decides.
    workers : int
        The largest number of workers of a rank. No more workers than shards are used.
    number, ranks : int
        The number of this rank, and the number of ranks.

    Attributes
    ----------
    graph : Graph
        The graph as it runs: see :func:`im2colnet.graph.passes.lowered`.
    sizes, starts : list of int
        The number of samples in each shard, and the number of samples before each shard and before the end.
    own : range
        The shards of this rank; all shards if it is the only rank.
    samples : slice
        The samples of this rank.
    plans : dict of int to Plan
        The plan for each size of shard.
    assignment : list of range
        The shards of each worker of this rank. A rank without shards has one worker without shards.
    band_count : int
        The number of bands that the layers of the only shard are divided into; 1 if they are not divided.
    workers : int
        The number of workers.
    row_of : dict of int to int
        The row of gradients that each shard of this rank writes to.
    rows : int
        The number of rows of gradients.
    learning : slice
        The range of the flat vector from the first to the last parameter that is not frozen.
    live : set of int
        The shards whose rows hold a sum when all workers are done.
    sums : dict
        For each pass and node with batch sums, the array that a shard contributes to the join. The arrays of the pass
        "forward", which are joined at the end of a training step, are the last.
    needs_batch_sums : bool
        Whether any layer needs sums over the whole batch.
    worker_bytes, shard_bytes : int
        The size of a worker's arena and, in a network with batch sums, of a shard's arena.
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
        number: int = 0,
        ranks: int = 1,
    ) -> None:
        self.dtype, self.training, self.parameters = dtype, training, graph.size
        graph.shapes(internal_shape(sample, batch))  # checked before lowering, so that an error names the user's layer
        self.graph = graph = lowered(graph, backend, training)
        values = sum(prod(shape[:-1]) for shape in graph.shapes(internal_shape(sample, batch)))
        if values > MOST_VALUES:
            raise ShapeError(
                f"one sample of the shape {sample} makes {values:,} numbers in all layers together, more than can be"
                f" planned ({MOST_VALUES:,}): use a smaller input"
            )
        most = shard or shard_size(backend, batch, values, ranks)
        if batch > MOST_SHARDS * most:
            raise ShapeError(
                f"a batch of {batch:,} samples makes more shards of {most:,} than can be planned ({MOST_SHARDS:,}):"
                " use a smaller batch"
            )
        self.sizes = shard_sizes(batch, most)
        self.count, self.starts = len(self.sizes), list(accumulate(self.sizes, initial=0))
        self.ranks, self.own = ranks, partition(self.count, number, ranks)
        self.samples = slice(self.starts[self.own.start], self.starts[self.own.stop])
        # this depends only on the shapes and settings, since results depend on it
        joins = any(node.layer.joins_batch(training) for node in graph.nodes)
        alone = self.count == 1 and not training and shard is None and not joins
        bands = backend.division.bands if alone and backend.threads else 1
        self.plans = {
            n: Plan(graph, internal_shape(sample, n), dtype, backend, training, bands) for n in set(self.sizes)
        }
        self.largest = self.plans[max(self.sizes)]
        self.stages, self.needs_batch_sums = self.largest.stages, len(self.largest.stages) > 1
        self.band_count = bands if any(self.largest.bands) else 1
        most, workers = min(workers, self.band_count), min(workers, max(1, len(self.own)))
        parts = [partition(len(self.own), rank, workers) for rank in range(workers)]
        self.assignment = [self.own[part.start : part.stop] for part in parts]
        self.workers = most if self.band_count > 1 and self.own else workers
        self.row_of, self.live, self.rows = gradient_rows(self.assignment) if training else ({}, set(), 0)
        learning = [node for node in graph.nodes if training and node.learning]
        ends = [end for node in learning for end in Plan.learning_range(node)]
        self.learning = slice(min(ends, default=0), max(ends, default=0))
        self.worker_bytes = max(plan.worker_bytes for plan in self.plans.values())
        self.shard_bytes = max(plan.shard_bytes for plan in self.plans.values())
        passes: tuple[Kind, ...] = ("sums", "grad_sums") if training else ("sums",)
        nodes = list(enumerate(graph.nodes))
        counts: dict[tuple[Kind, int], int] = {
            (kind, i): node.layer.batch_sums for i, node in nodes if node.layer.joins_batch(training) for kind in passes
        }
        counts |= {("forward", i): node.layer.step_sums for i, node in nodes if training and node.layer.step_sums}
        self.sums = {
            (kind, i): Spec((count, channels(self.largest.shapes[graph.nodes[i].inputs[0]])), "float64")
            for (kind, i), count in counts.items()
        }

    def bounds(self, offsets: Sequence[int]) -> list[int]:
        """Return the offset of each rank's first shard and the end, from the offsets of all shards and their end."""
        return [offsets[shard] for shard in bounds(self.count, self.ranks)]

    def memory(self) -> dict[str, int]:
        """Return the bytes of all arrays of a run, by purpose, without the parameters and the optimizer's state."""
        joined = sum(
            max(1, len(self.held(kind))) * prod(spec.shape) * ITEM_BYTES[spec.dtype]
            for (kind, _), spec in self.sums.items()
        )
        metrics = 2 * ITEM_BYTES["float64"]
        in_flight = len(self.own) if self.needs_batch_sums else 0
        return {
            "activations": self.worker_bytes * sum(map(bool, self.assignment)) + self.shard_bytes * in_flight,
            "gradients": self.rows * self.parameters * ITEM_BYTES[accumulator(self.dtype)],
            "sums": joined + max(1, len(self.own)) * metrics,
        } | ({"copy of the parameters": self.parameters * ITEM_BYTES[self.dtype]} if self.dtype in HALF else {})

    def at_end(self, counts: int) -> Spec:
        """Return the array to join at the end of a training step: the sums for ``finish_step``, then the metrics."""
        sums = sum(prod(shape) for (kind, _), (shape, _) in self.sums.items() if kind == "forward")
        return Spec((sums + counts,), "float64")

    def held(self, kind: Kind) -> range:
        """Return the shards whose parts of a join this rank holds; all for "sums", which any formula may join."""
        return range(self.count) if kind == "sums" else self.own


def shard_size(backend: Backend, batch: int, values: int, ranks: int) -> int:
    """Return the default number of samples in a shard, for a sample with this number of values in all layers together.

    If a backend uses the batch as one shard, such as a GPU, several ranks use shards of an eighth of the batch,
    whatever their number: so each rank has work, and results do not depend on the number of ranks.
    """
    if ranks > 1 and not backend.threads:
        return -(-batch // SHARDS_OF_DEVICES)
    return backend.shard_size(batch, values)


def gradient_rows(ranges: list[range]) -> tuple[dict[int, int], set[int], int]:
    """Return the row of gradients of each shard, the shards whose rows hold a sum in the end, and the number of rows.

    ``ranges`` has the shards of each worker. There is at least one row, for the total.

    A worker that has finished a shard adds its gradients to those of earlier shards as soon as the fixed tree allows it
    (like the carries of a binary counter). So for n shards it holds at most about 2·log2 n rows at a time.
    """
    row_of: dict[int, int] = {}
    live: set[int] = set()
    rows = 0
    for mine in ranges:
        held: list[int] = []
        most = 0
        for s in mine:
            row_of[s] = rows + len(held)
            held.append(s)
            most = max(most, len(held))
            for _ in folds(s, mine.start):
                held.pop()
        live.update(held)
        rows += most
    return row_of, live, max(1, rows)


def folds(s: int, first: int) -> list[int]:
    """Return the shards whose rows a worker adds to after shard s, in order; its first shard is ``first``."""
    into, d = [], 1
    while s & d and s - d >= first:
        s -= d
        into.append(s)
        d *= 2
    return into
