"""Where in memory each array lives, and how long: arrays that do not meet share memory."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable
from dataclasses import dataclass
from math import ceil, prod

from im2colnet.types import ALIGNMENT, ITEM_BYTES, Spec


@dataclass(eq=False)
class Buffer:
    """Memory for one array or several views of it, from step ``start`` to step ``end``, both included."""

    nbytes: int
    start: int
    end: int
    what: str
    across: bool = False  #: lives across stages, so in the shard's arena
    offset: int = 0


Placed = dict[str, list[tuple[Spec, Buffer, int]]]  # scratch of each kernel: in a buffer, at an offset


def nbytes(spec: Spec) -> int:
    """Bytes of an array, rounded up to the alignment."""
    return ceil(prod(spec.shape) * ITEM_BYTES[spec.dtype] / ALIGNMENT) * ALIGNMENT


def lay_out(buffers: Iterable[Buffer]) -> int:
    """Give each buffer its offset, such that those that live at the same time do not overlap; return the size.

    Greedy by size: the largest first, each at the lowest place that is free during its life
    (Pisarchyk & Lee 2020, arXiv:2001.03288, algorithm 3).
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
    """Which bytes are taken at which steps: a tree over the steps, so that a network may be deep.

    A node of the tree stands for a range of steps. It knows the bytes taken in all of them by buffers whose lives end
    just where ranges do (``all``), and those taken in any of them (``some``), each as sorted bounds: from, to, and so
    on.
    """

    def __init__(self, steps: int) -> None:
        self.leaves = 1 << (steps - 1).bit_length()
        self.all: list[list[int]] = [[] for _ in range(2 * self.leaves)]
        self.some: list[list[int]] = [[] for _ in range(2 * self.leaves)]

    def _nodes(self, start: int, end: int) -> tuple[list[int], set[int]]:
        """The fewest nodes that make up the steps ``start`` to ``end``, and those above them."""
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
        """Take bytes ``lo`` to ``hi`` at the steps ``start`` to ``end``."""
        nodes, above = self._nodes(start, end)
        for bounds in (*(self.all[n] for n in nodes), *(self.some[n] for n in nodes), *(self.some[n] for n in above)):
            i, j = bisect_left(bounds, lo), bisect_right(bounds, hi)
            bounds[i:j] = [lo][i % 2 :] + [hi][j % 2 :]  # an odd place lies within what is taken already

    def lowest(self, start: int, end: int, nbytes: int) -> int:
        """Return where the lowest ``nbytes`` bytes begin that are free at all steps from ``start`` to ``end``."""
        nodes, above = self._nodes(start, end)
        taken = [*(self.some[n] for n in nodes), *(self.all[n] for n in above)]
        offset = 0
        for lo, hi in sorted(pair for bounds in taken for pair in zip(bounds[::2], bounds[1::2], strict=True)):
            if offset + nbytes <= lo:
                break
            offset = max(offset, hi)
        return offset
