"""A batch divided into shards, and these among workers."""

from __future__ import annotations

from math import prod

from im2colnet.backend import Backend, shard_sizes
from im2colnet.errors import ShapeError
from im2colnet.graph.nodes import Graph
from im2colnet.graph.passes import lowered
from im2colnet.layout import channels, internal_shape
from im2colnet.parallel import partition
from im2colnet.plan.steps import Kind, Plan
from im2colnet.types import HALF, ITEM_BYTES, Spec, accumulator

#: shards of a batch, at most: beyond, planning alone takes minutes
MOST_SHARDS = 1 << 20
#: numbers that one sample makes in all layers together, at most: beyond, planning alone takes minutes
MOST_VALUES = 1 << 36


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
        Samples in a shard, at most; by default what the backend says.
    workers : int
        At most; no more than there are shards are used.

    Attributes
    ----------
    graph : Graph
        The graph as it runs: see :func:`im2colnet.graph.passes.lowered`.
    sizes : list of int
        Of the shards.
    plans : dict of int to Plan
        For each size of shard.
    assignment : list of range
        The shards of each worker.
    band_count : int
        The number of bands that the layers of the only shard are divided into; 1 if they are not divided.
    workers : int
        The number of workers.
    row_of : list of int
        The row of gradients that each shard writes to; ``rows`` is their number, ``live`` the shards whose row holds a
        sum when all workers are done.
    sums : dict
        Of each pass and node that join samples, what a shard gives to the join.
    worker_bytes, shard_bytes : int
        Size of a worker's arena and, in a network with batch sums, of a shard's.
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
        graph.shapes(internal_shape(sample, batch))  # an error names the layer as the user wrote it
        self.graph = graph = lowered(graph, backend, training)
        values = sum(prod(shape[:-1]) for shape in graph.shapes(internal_shape(sample, batch)))
        if values > MOST_VALUES:
            raise ShapeError(
                f"one sample of the shape {sample} makes {values:,} numbers in all layers together, more than can be"
                f" planned ({MOST_VALUES:,}): take a smaller input"
            )
        most = shard or backend.shard_size(batch, values)
        if batch > MOST_SHARDS * most:
            raise ShapeError(
                f"a batch of {batch:,} samples makes more shards of {most:,} than can be planned ({MOST_SHARDS:,}):"
                " take a smaller batch"
            )
        self.sizes = shard_sizes(batch, most)
        self.count = len(self.sizes)
        # by the shapes alone, since results depend on it
        alone = self.count == 1 and not training and shard is None
        bands = backend.division.bands if alone and backend.threads else 1
        self.plans = {
            n: Plan(graph, internal_shape(sample, n), dtype, backend, training, bands) for n in set(self.sizes)
        }
        self.largest = self.plans[max(self.sizes)]
        self.stages, self.needs_batch_sums = self.largest.stages, len(self.largest.stages) > 1
        self.band_count = bands if any(self.largest.bands) else 1
        most, workers = min(workers, self.band_count), min(workers, self.count)
        self.assignment = [partition(self.count, rank, workers) for rank in range(workers)]
        self.workers = most if self.band_count > 1 else workers
        self.row_of, self.live, self.rows = gradient_rows(self.assignment) if training else ([], set(), 0)
        self.worker_bytes = max(plan.worker_bytes for plan in self.plans.values())
        self.shard_bytes = max(plan.shard_bytes for plan in self.plans.values())
        passes: tuple[Kind, ...] = ("sums", "grad_sums") if training else ()
        self.sums = {
            (kind, i): Spec((node.layer.batch_sums, channels(self.largest.shapes[node.inputs[0]])), "float64")
            for i, node in enumerate(graph.nodes)
            if node.layer.batch_sums
            for kind in passes
        }

    def memory(self) -> dict[str, int]:
        """Bytes of all arrays of a run, by purpose; parameters and the optimiser's state are not the run's."""
        joined = sum(prod(spec.shape) * ITEM_BYTES[spec.dtype] for spec in self.sums.values())
        metrics = 2 * ITEM_BYTES["float64"]
        in_flight = self.count if self.needs_batch_sums else 0
        return {
            "activations": self.worker_bytes * len(self.assignment) + self.shard_bytes * in_flight,
            "gradients": self.rows * self.parameters * ITEM_BYTES[accumulator(self.dtype)],
            "sums": self.count * (joined + metrics),
        } | ({"copy of the parameters": self.parameters * ITEM_BYTES[self.dtype]} if self.dtype in HALF else {})


def gradient_rows(ranges: list[range]) -> tuple[list[int], set[int], int]:
    """Return the row of gradients of each shard, the shards whose rows hold a sum in the end, and the number of rows.

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
