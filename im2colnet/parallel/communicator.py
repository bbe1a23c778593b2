"""Communicators: how a worker communicates with others, and how the workers of one process sum their shards."""

from __future__ import annotations

from collections.abc import Sequence

from im2colnet.parallel.tree import partition, tree_sum
from im2colnet.types import Array


class Communicator:
    """The connection of one worker to the others. This base class is for a single worker.

    A vector is divided among ranks by ``bounds``: rank q has its elements ``bounds[q]:bounds[q + 1]``. Arrays that are
    joined are C-contiguous, and lie in memory that the workers of a rank share.

    Attributes
    ----------
    rank, size : int
        The worker's number within its rank, from 0, and the number of workers there.
    number, ranks : int
        The number of its rank, from 0, and the number of ranks.
    """

    rank = 0
    size = 1
    number = 0
    ranks = 1

    def partition(self, count: int) -> range:
        """Return which of ``count`` things this worker takes."""
        return partition(count, self.rank, self.size)

    def all_reduce(self, parts: Sequence[Array | None], out: Array) -> Array:
        """Return the sum of one array per shard along the fixed tree, the same for every worker.

        A part is None if another rank has it, or if it was added to another part already. The parts are overwritten.
        The sum is in ``out``, which may be one of them, or in the first part.
        """
        tree_sum(parts)
        return parts[0]

    def reduce_scatter(self, parts: Sequence[Array | None], out: Array, bounds: Sequence[int]) -> None:
        """Sum one array per shard, as :meth:`all_reduce` does, into ``out``: each rank the elements that it has.

        Without other ranks ``out`` is the first part.
        """
        self.all_reduce(parts, out)

    def all_gather(self, vector: Array, bounds: Sequence[int]) -> None:
        """Give the elements that this rank has to the others, and get theirs; all workers of a rank wait for it."""
        self.barrier()

    def barrier(self) -> None:
        """Wait until every worker of this rank has called this method."""


class SharedCommunicator(Communicator):
    """A communicator of workers that see each other's arrays: each worker sums its own range of elements."""

    def all_reduce(self, parts: Sequence[Array | None], out: Array) -> Array:
        mine = self.partition(parts[0].size if parts[0] is not None else 0)
        self.barrier()
        tree_sum(parts, mine.start, mine.stop)
        self.barrier()
        return parts[0]
