"""The agreement of the ranks of a training: all make the same calls with the same data; failures and stops are shared.

Each collective method of a trainer begins with a meeting, in which every rank gives a few numbers. So a rank that does
something else, has other data or has failed is noticed before any rank waits for sums that do not come.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

from im2colnet.errors import WorkerError, agreed, mark_agreed
from im2colnet.host import np
from im2colnet.launcher import launched, slurm_tasks
from im2colnet.lazy import LazyArray
from im2colnet.parallel.ranks import Ranks

if TYPE_CHECKING:
    from im2colnet.datasets.dataset import Dataset

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
    EPOCH: "is between two steps of trainer.fit",
    SAVE: "calls trainer.save",
    STATE: "reads the optimizer's state, or copies a trainer",
}
#: the wish to stop that is not a signal's number
STOP = -1
#: the end of an error message: what to do if each rank is meant to train on its own
ALONE = "if each process is to train on its own, set IM2COLNET_RANKS=none or give Trainer(..., ranks='none')"
#: the most bytes of labels whose checksum ranks compare in each step
MOST_BYTES = 1 << 16
#: the most images of a data set whose checksum ranks compare
MOST_IMAGES = 64


class Agreement:
    """The connection of a trainer to the trainers of the other ranks. A single process needs no agreement.

    Parameters
    ----------
    given : {"auto", "mpi", "none"}, communicator or Ranks, optional
        The argument ``ranks`` of a trainer.

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

    def __init__(self, given: Any = "none") -> None:
        self._given, ranks = given, ranks_of(given)
        self.ranks = ranks if ranks is not None and ranks.size > 1 else None
        self.rank: int = 0 if self.ranks is None else self.ranks.rank
        self.count: int = 1 if self.ranks is None else self.ranks.size
        self.wish: Callable[[], int] = int
        self.heard = 0

    def __deepcopy__(self, memo: dict[int, Any]) -> Agreement:
        return Agreement(self.ranks or "none")

    def __reduce__(self) -> tuple[type, tuple[Any]]:
        """Leave out the communicator, which belongs to this process: a pickled trainer trains on its own."""
        return Agreement, (self._given if self._given is None or isinstance(self._given, str) else "none",)

    @contextmanager
    def collective(self, operation: int) -> Iterator[Callable[..., None]]:
        """Within the block all ranks do the same operation; the block calls the function that it gets, ``meet``, once.

        The arguments of ``meet`` are the numbers that must be the same on all ranks, by their names in error messages.
        An error before the meeting is raised on every rank. An error after the meeting is not shared here: the code in
        the block must share it.
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
        """Check that the other ranks do the same operation, and learn whether any of them wants to stop."""
        if self.ranks is not None:
            self._meet(operation, 0, facts)

    def tell(self, operation: int, error: BaseException) -> None:
        """Raise an error of this rank on every rank, unless all of them know it."""
        if self.ranks is None or agreed(error):
            return
        if getattr(error, "alone", False):  # the others wait for sums
            self._lose(error)
            raise error
        self._meet(operation, 1, {}, error)

    def _meet(self, operation: int, failed: int, facts: Mapping[str, int], error: BaseException | None = None) -> None:
        ranks = self.ranks
        assert ranks is not None
        met = ranks.meet(operation, failed, self.wish(), *facts.values())
        if any(numbers[1] for numbers in met):
            ranks.agree(error)
        for rank, numbers in enumerate(met):
            if (numbers[0], *numbers[3:]) != (met[0][0], *met[0][3:]):
                raise _differ(rank, numbers, met[0], [*facts])
        self.heard = next((numbers[2] for numbers in met if numbers[2]), 0)

    def compare(self, facts: Mapping[str, Any]) -> None:
        """Raise on every rank if the facts, which are compared as texts, are not the same on all of them."""
        if self.ranks is None:
            return
        mine = [f"{name}\t{value}" for name, value in facts.items()]
        told = [(text or "").split("\n") for text in self.ranks.texts("\n".join(mine))]
        for rank, lines in enumerate(told):
            differ = [name for name, a, b in zip(facts, lines, told[0], strict=True) if a != b]
            if differ:
                raise _known(
                    f"rank {rank} differs from rank 0 in {' and '.join(differ)}: give every rank the same network,"
                    f" seed, settings and data; {ALONE}"
                )

    def on_first(self, function: Callable[[], T]) -> T:
        """Call a function on rank 0 only, and return its result on every rank; its error is raised on every rank."""
        if self.ranks is None:
            return function()
        self.meet(EPOCH)
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
        if self.ranks is None:
            return value
        self.meet(EPOCH)
        return self.ranks.of_first(value)  # type: ignore[no-any-return]

    @contextmanager
    def told(self) -> Iterator[None]:
        """Within the block an error of this rank is raised on every rank, at their next meeting."""
        try:
            yield
        except Exception as error:
            self.tell(EPOCH, error)
            raise
        except BaseException as error:  # a second Ctrl-C
            self._lose(error)
            raise

    def _lose(self, error: BaseException) -> None:
        """Note that this rank has failed where the others cannot learn it: the end of Python ends the job."""
        if self.ranks is not None and not agreed(error):
            from im2colnet.parallel import mpi

            mpi.failed(error)


def ranks_of(given: Any) -> Ranks | None:
    """Return the ranks that a trainer's argument ``ranks`` stands for; without a launcher MPI is not imported."""
    kind = os.environ.get("IM2COLNET_RANKS") or "auto" if given is None else given
    if isinstance(kind, str) and kind in ("auto", "none") and launched() == slurm_tasks() == 1:
        return None
    from im2colnet.parallel import mpi

    return mpi.resolve(given)


def checksum_of(data: Dataset) -> int | None:
    """Return a checksum of a data set's labels and of some of its images; None if the images are never the same."""
    images = data.images
    if isinstance(images, LazyArray):
        some = None if images.source.varies else images.crc32()
    else:
        some = zlib.crc32(np.ascontiguousarray(images[:: max(1, len(images) // MOST_IMAGES)]).tobytes())
    facts = images.shape, images.dtype, checksum(data.labels)
    return some if some is None else zlib.crc32(repr(facts).encode(), some)


def checksum(labels: Any) -> int:
    """Return a checksum of labels, or of the first bytes of many."""
    array = labels if isinstance(labels, np.ndarray) and not labels.dtype.hasobject else np.asarray(())
    return zlib.crc32(np.ascontiguousarray(array).reshape(-1).view("uint8")[:MOST_BYTES].tobytes())


def _differ(rank: int, numbers: Sequence[int], of_first: Sequence[int], names: list[str]) -> WorkerError:
    """Return the error of a rank that does another operation than rank 0, or the same operation with other numbers."""
    mine, first = (NAMES.get(each[0], "does something else") for each in (numbers, of_first))
    if mine == first:
        name, a, b = next(fact for fact in zip(names, numbers[3:], of_first[3:], strict=True) if fact[1] != fact[2])
        mine, first = (f"{mine} with {name.replace('_', ' ')} {value}" for value in (a, b))
    return _known(
        f"rank {rank} {mine}, and rank 0 {first}: every rank must make the same calls, in the same order, with the same"
        f" data; {ALONE}"
    )


def _known(text: str) -> WorkerError:
    """Return an error that every rank raises."""
    return mark_agreed(WorkerError(text))
