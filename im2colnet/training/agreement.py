"""What the ranks of a training agree on: that all make the same calls with the same data, who has failed, who stops.

Each collective method of a trainer begins with a meeting, in which every rank gives a few numbers. So a rank that does
something else, has other data or has failed is noticed before any rank waits for sums that do not come.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeVar

from im2colnet.errors import WorkerError
from im2colnet.host import np
from im2colnet.parallel import Ranks

T = TypeVar("T")

#: the collective operations, by the numbers that ranks meet with
MAKE, LOAD, STEP, GRADIENTS, EVALUATE, PREDICT, FIT, EPOCH, SAVE, STATE = range(1, 11)
NAMES = {
    MAKE: "makes a Trainer",
    LOAD: "calls Trainer.load",
    STEP: "makes a training step",
    GRADIENTS: "calls trainer.gradients",
    EVALUATE: "calls trainer.evaluate",
    PREDICT: "calls trainer.predict or mistakes",
    FIT: "begins or ends trainer.fit",
    EPOCH: "is between two epochs of trainer.fit",
    SAVE: "calls trainer.save",
    STATE: "reads the optimiser's state, or copies a trainer",
}
#: the wish to stop that is not a signal's number
STOP = -1
#: what to do where ranks were meant to train on their own
ALONE = (
    "if each process is to train on its own, set IM2COLNET_RANKS=none or give Trainer(..., ranks='none')"
)
#: the most bytes of labels whose checksum ranks compare in each step
MOST_BYTES = 1 << 16


class Agreement:
    """The connection of a trainer to those of the other ranks. Without ranks everything is agreed on.

    Parameters
    ----------
    ranks : Ranks or None

    Attributes
    ----------
    ranks : Ranks or None
        None also for a single rank.
    rank, count : int
        The number of this rank, and the number of ranks.
    wish : callable
        A function that returns a signal's number or :data:`STOP` if this rank wants to stop, else 0.
    heard : int
        The first rank's wish in the last meeting that was not 0.
    """

    def __init__(self, ranks: Ranks | None) -> None:
        self.ranks = ranks if ranks is not None and ranks.size > 1 else None
        self.rank: int = 0 if self.ranks is None else self.ranks.rank
        self.count: int = 1 if self.ranks is None else self.ranks.size
        self.wish: Callable[[], int] = int
        self.heard = 0

    @contextmanager
    def collective(self, operation: int) -> Iterator[Callable[..., None]]:
        """Within the block the ranks do the same; it gives the function that meets them, which the block calls once.

        Its arguments are the numbers that must be the same on all ranks, by the names that a message has for them. An
        error before the meeting is raised on every rank; one after it must be made known by what is done there.
        """
        met = False

        def meet(**facts: int) -> None:
            nonlocal met
            met = True
            self.meet(operation, **facts)

        try:
            yield meet
        except Exception as error:
            if not met:
                self.tell(operation, error)
            raise

    def meet(self, operation: int, **facts: int) -> None:
        """Meet the other ranks, which must be about to do the same, and hear whether any of them wants to stop."""
        if self.ranks is not None:
            self._meet(operation, 0, facts)

    def tell(self, operation: int, error: BaseException) -> None:
        """Raise an error of this rank on every rank, unless all of them know it."""
        if self.ranks is not None and not getattr(error, "agreed", False):
            self._meet(operation, 1, {}, error)

    def _meet(
        self, operation: int, failed: int, facts: Mapping[str, int], error: BaseException | None = None
    ) -> None:
        ranks = self.ranks
        assert ranks is not None
        met = ranks.meet(operation, failed, self.wish(), *facts.values())
        if any(numbers[1] for numbers in met):
            ranks.agree(error)
        doing = [numbers[0] for numbers in met]
        if len({*doing}) > 1:
            raise self._disagree(doing, lambda rank: NAMES.get(doing[rank], "does something else"))
        for position, (name, value) in enumerate(facts.items(), 3):
            values = [numbers[position] for numbers in met]
            if any(other != value for other in values):
                text = name.replace("_", " ")
                show = (lambda rank: f"has other {text}") if "checksum" in name else None
                raise self._disagree(values, show or (lambda rank: f"{NAMES[operation]} with {text} {values[rank]}"))
        self.heard = next((numbers[2] for numbers in met if numbers[2]), 0)

    def _disagree(self, values: list[Any], describe: Callable[[int], str]) -> WorkerError:
        """Return the error of the first rank that differs from rank 0."""
        other = next(rank for rank, value in enumerate(values) if value != values[0])
        what = describe(other)
        error = WorkerError(
            f"rank {other} {what}, and rank 0 {describe(0)}: every rank must make the same calls, in the same order, with"
            f" the same data; {ALONE}"
            if not what.startswith("has other")
            else f"rank {other} {what} than rank 0: every rank must be given the same data; {ALONE}"
        )
        error.agreed = True  # type: ignore[attr-defined]
        return error

    def compare(self, facts: Mapping[str, Any]) -> None:
        """Raise on every rank if the facts, which are compared as texts, are not the same on all of them."""
        if self.ranks is None:
            return
        mine = [f"{name}\t{value}" for name, value in facts.items()]
        told = [(text or "").split("\n") for text in self.ranks.texts("\n".join(mine))]
        for rank, lines in enumerate(told):
            differ = [name for name, a, b in zip(facts, lines, told[0], strict=True) if a != b]
            if differ:
                error = WorkerError(
                    f"rank {rank} has other {' and other '.join(differ)} than rank 0, but ranks must begin with the same:"
                    f" give the same seed, network and settings on every rank; {ALONE}"
                )
                error.agreed = True  # type: ignore[attr-defined]
                raise error

    def on_first(self, function: Callable[[], T]) -> T:
        """Return what the function returns on rank 0, the only one that calls it; its error is raised on every rank."""
        if self.ranks is None:
            return function()
        value: Any = None
        failure: Exception | None = None
        if not self.rank:
            try:
                value = function()
            except Exception as error:
                failure = error
        self.ranks.agree(failure)
        return self.ranks.of_first(value)  # type: ignore[no-any-return]

    def of_first(self, value: T) -> T:
        """Return rank 0's value."""
        return value if self.ranks is None else self.ranks.of_first(value)

    def lost(self, error: BaseException) -> None:
        """Note that this rank has failed where the others cannot learn it: the end of Python ends the job."""
        if self.ranks is not None and not getattr(error, "agreed", False):
            from im2colnet.parallel import mpi

            mpi.failed(error)


def checksum(labels: Any) -> int:
    """Return a checksum of labels, or of the first bytes of many."""
    array = labels if isinstance(labels, np.ndarray) and not labels.dtype.hasobject else np.asarray(())
    return zlib.crc32(np.ascontiguousarray(array).reshape(-1).view("uint8")[:MOST_BYTES].tobytes())
