"""The place and the lifetime of each array: arrays that are not alive at the same time share memory."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable
from dataclasses import dataclass
from math import ceil, prod

from im2colnet.types import ALIGNMENT, ITEM_BYTES, Spec


@dataclass(eq=False)
class Buffer:
    """Memory for an array and its views, from step ``start`` to step ``end``, both included."""

    nbytes: int
    start: int
    end: int
    what: str
    across: bool = False  #: whether it lives across stages, in the shard's arena
    offset: int = 0


#: the scratch of each kernel: for each array its buffer, and its offset in the buffer
Placed = dict[str, list[tuple[Spec, Buffer, int]]]


def nbytes(spec: Spec) -> int:
    """Return the size of an array in bytes, rounded up to the alignment."""
    return ceil(prod(spec.shape) * ITEM_BYTES[spec.dtype] / ALIGNMENT) * ALIGNMENT


def lay_out(buffers: Iterable[Buffer]) -> int:
    """Set the offsets, so that buffers that live at the same time do not overlap; return the total size.

    The algorithm is greedy by size: the largest buffer is placed first, each at the lowest offset that is free during
    its lifetime (Pisarchyk & Lee 2020, arXiv:2001.03288, algorithm 3).
    """
    ordered = sorted(buffers, key=lambda b: (-b.nbytes, b.start))
    occupied, size = Occupied(max((b.end for b in ordered), default=0) + 1), 0
    for buffer in ordered:
        if buffer.nbytes:
            buffer.offset = occupied.lowest(buffer.start, buffer.end, buffer.nbytes)
            occupied.add(buffer.start, buffer.end, buffer.offset, buffer.offset + buffer.nbytes)
            size = max(size, buffer.offset + buffer.nbytes)
    return size


class Occupied:
    """The bytes that are taken at each step, in a tree over the steps, which is fast for deep networks too.

    A node of the tree stands for a range of steps. For each node, ``all`` has the bytes of the buffers that
    :meth:`add` recorded at this node: they are taken at every step of the range. ``some`` has the bytes that are taken
    at any step of the range. Both are sorted lists of bounds: start, stop, start, stop, ...
    """

    def __init__(self, steps: int) -> None:
        self.leaves = 1 << (steps - 1).bit_length()
        self.all: list[list[int]] = [[] for _ in range(2 * self.leaves)]
        self.some: list[list[int]] = [[] for _ in range(2 * self.leaves)]

    def _nodes(self, start: int, end: int) -> tuple[list[int], set[int]]:
        """Return the smallest set of nodes that covers the steps ``start`` to ``end``, and all nodes above them."""
        nodes, left, right = [], start + self.leaves, end + self.leaves + 1
        while left < right:
            if left % 2:
                nodes.append(left)
                left += 1
            if right % 2:
                right -= 1
                nodes.append(right)
            left, right = left // 2, right // 2
        above: set[int] = set()
        for node in nodes:
            node //= 2
            while node and node not in above:
                above.add(node)
                node //= 2
        return nodes, above

    def add(self, start: int, end: int, lo: int, hi: int) -> None:
        """Mark bytes ``lo`` to ``hi`` as taken at the steps ``start`` to ``end``."""
        nodes, above = self._nodes(start, end)
        for bounds in (*(self.all[n] for n in nodes), *(self.some[n] for n in nodes), *(self.some[n] for n in above)):
            i, j = bisect_left(bounds, lo), bisect_right(bounds, hi)
            bounds[i:j] = [lo][i % 2 :] + [hi][j % 2 :]  # an odd index lies within bytes that are taken already

    def lowest(self, start: int, end: int, nbytes: int) -> int:
        """Return the lowest offset of ``nbytes`` bytes that are free at all steps from ``start`` to ``end``."""
        nodes, above = self._nodes(start, end)
        taken = [*(self.some[n] for n in nodes), *(self.all[n] for n in above)]
        offset = 0
        for lo, hi in sorted(pair for bounds in taken for pair in zip(bounds[::2], bounds[1::2], strict=True)):
            if offset + nbytes <= lo:
                break
            offset = max(offset, hi)
        return offset
