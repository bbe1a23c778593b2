"""The fixed binary tree that sums over shards are made along, and its division among ranks.

    sum of shards [i, i + 2d)  =  sum of [i, i + d)  +  sum of [i + d, i + 2d),      d = 1, 2, 4, ...

The sum of an inner node is kept in the array of its first shard. So an addition is a pair (a, b): the array of shard b
is added to that of shard a.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache

from im2colnet.types import Array

Pairs = tuple[tuple[int, int], ...]


def partition(count: int, rank: int, size: int) -> range:
    """Return the part of ``range(count)`` for worker ``rank`` of ``size``; the lengths of parts differ by at most 1."""
    return range(count * rank // size, count * (rank + 1) // size)


def bounds(count: int, size: int) -> list[int]:
    """Return where the part of each of ``size`` workers begins in ``range(count)``, and the end."""
    return [count * rank // size for rank in range(size + 1)]


def tree_sum(parts: Sequence[Array | None], start: int = 0, stop: int | None = None) -> None:
    """Sum elements ``start:stop`` of ``parts`` into ``parts[0]`` along the fixed tree; None is summed already."""
    add_pairs(parts, _additions(len(parts)), start, stop)


def add_pairs(parts: Sequence[Array | None], additions: Pairs, start: int = 0, stop: int | None = None) -> None:
    """Add elements ``start:stop`` of part b to those of part a for each pair (a, b), unless one of them is None."""
    for a, b in additions:
        left, right = parts[a], parts[b]
        if left is not None and right is not None:
            target = left.reshape(-1)[start:stop]
            target += right.reshape(-1)[start:stop]


@cache
def _additions(count: int) -> Pairs:
    """Return all additions of the tree over ``count`` shards, in their order."""
    return tuple((a, b) for a, b, _ in _tree(count))


@cache
def pairs(count: int, first: int, stop: int) -> Pairs:
    """Return the additions that the owner of the shards ``first`` to ``stop`` can make alone."""
    return tuple((a, b) for a, b, end in _tree(count) if first <= a and end <= stop)


@cache
def nodes(count: int, size: int) -> tuple[tuple[int, ...], ...]:
    """Return for each of ``size`` ranks the shards whose arrays hold sums that are left when it has made its pairs."""
    owned = [partition(count, rank, size) for rank in range(size)]
    added = [{b for _, b in pairs(count, mine.start, mine.stop)} for mine in owned]
    return tuple(tuple(s for s in mine if s not in gone) for mine, gone in zip(owned, added, strict=True))


@cache
def across(count: int, size: int) -> Pairs:
    """Return the additions that are left, as positions in the list of all ranks' nodes."""
    place = {shard: k for k, shard in enumerate(shard for of_rank in nodes(count, size) for shard in of_rank)}
    return tuple((place[a], place[b]) for a, b in _additions(count) if b in place)


def _tree(count: int) -> Iterator[tuple[int, int, int]]:
    """Yield (a, b, end) for each addition, where b's sum is that of the shards from b to before ``end``."""
    d = 1
    while d < count:
        for a in range(0, count - d, 2 * d):
            yield a, a + d, min(a + 2 * d, count)
        d *= 2
