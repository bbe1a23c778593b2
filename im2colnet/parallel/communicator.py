"""Workers, and the communicators that join them.

Every worker runs the same program on its own shards of the batch and meets the others in a :class:`Communicator`, the
only thing the program knows of parallelism. Sums over the shards are made along a *fixed binary tree*, so that they do
not depend on how many workers there are, to the last bit:

    sum of shards [i, i + 2d)  =  sum of [i, i + d)  +  sum of [i + d, i + 2d),      d = 1, 2, 4, ...
"""

from __future__ import annotations

from collections.abc import Sequence

from im2colnet.types import Array


def partition(count: int, rank: int, size: int) -> range:
    """Return the part of ``range(count)`` for worker ``rank`` of ``size``; the lengths of parts differ by at most 1."""
    return range(count * rank // size, count * (rank + 1) // size)


def tree_sum(parts: Sequence[Array | None], start: int = 0, stop: int | None = None) -> None:
    """Sum elements ``start:stop`` of ``parts`` into ``parts[0]`` along the fixed tree; None is summed already."""
    d = 1
    while d < len(parts):
        for i in range(0, len(parts) - d, 2 * d):
            left, right = parts[i], parts[i + d]
            if left is not None and right is not None:
                target = left.reshape(-1)[start:stop]
                target += right.reshape(-1)[start:stop]
        d *= 2


class Communicator:
    """The connection of one worker to the others. This base class is for a single worker.

    Attributes
    ----------
    rank, size : int
        The worker's number, from 0, and the number of workers.
    """

    rank = 0
    size = 1

    def partition(self, count: int) -> range:
        """Return which of ``count`` things this worker takes."""
        return partition(count, self.rank, self.size)

    def all_reduce(self, parts: Sequence[Array | None]) -> None:
        """Sum one C-contiguous array per shard along the fixed tree; afterwards ``parts[0]`` is the total."""
        tree_sum(parts)

    def barrier(self) -> None:
        """Wait until every worker has called this method."""


class SharedCommunicator(Communicator):
    """A communicator of workers that see each other's arrays: each worker sums its own range of elements."""

    def all_reduce(self, parts: Sequence[Array | None]) -> None:
        mine = self.partition(parts[0].size if parts[0] is not None else 0)
        self.barrier()
        tree_sum(parts, mine.start, mine.stop)
        self.barrier()
