"""Batches from an iterable or a function of the user, in place of the batches of a data set."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Generator, Iterator
from contextlib import suppress
from itertools import chain, islice
from typing import Any

from im2colnet.arrays import host_array
from im2colnet.checks import whole
from im2colnet.datasets.dataset import Dataset
from im2colnet.datasets.transforms.base import Transform
from im2colnet.errors import DataError, ShapeError
from im2colnet.host import np
from im2colnet.interrupt import submit, thread_pool

Batch = tuple[np.ndarray, np.ndarray]


def checked(batch: Any, name: str) -> Batch:
    """Return a batch as arrays, or raise an error that says what is wrong."""
    if not isinstance(batch, (tuple, list)) or len(batch) != 2:
        raise DataError(f"{name}: a batch must be a pair (images, labels), got {type(batch).__name__}")
    images, labels = host_array("images", batch[0]), host_array("labels", batch[1])
    if not images.ndim or not labels.ndim or len(images) != len(labels):
        raise ShapeError(
            f"{name}: a batch must have a label for each image, got arrays of the shapes {images.shape} and"
            f" {labels.shape}"
        )
    return images, labels


class Stream:
    """Batches (images, labels), used as a :class:`im2colnet.Loader`.

    Parameters
    ----------
    batches : iterable, or a function that returns one
        An iterable that can be iterated over repeatedly, such as PyTorch's DataLoader, is started again in every epoch.
        A function is called in every epoch; it gets the number of the epoch, from 0, if it takes an argument. A
        generator continues with its next batch.
    steps : int, optional
        The number of batches in an epoch; by default ``len(batches)``.
    name : str
        The name of the batches in error messages.
    part : callable, optional
        See :class:`im2colnet.Loader`. Each batch is made as a whole, and only this part of its images is returned.

    Attributes
    ----------
    once : bool
        Whether the batches can be iterated over only once, so that no batch can be repeated.

    Raises
    ------
    ShapeError
        If `steps` is required and was not given.
    """

    drop_last = False
    mixing: Transform | None = None

    def __init__(
        self,
        batches: Any,
        steps: int | None = None,
        name: str = "train",
        part: Callable[[int], slice] | None = None,
    ) -> None:
        self.name, self._batches, self._part = name, batches, part
        self.once = not callable(batches) and iter(batches) is batches
        if steps is None and not hasattr(batches, "__len__"):
            raise ShapeError(f"{name}: how many batches does an epoch have? Give steps=..., because this has no length")
        self._steps = whole("steps", len(batches) if steps is None else steps, least=1)
        # the epoch that has been opened, and its batches after those in self._given
        self._begun: tuple[int, Iterator[Any]] | None = (0, self._open(0))
        first = next(self._begun[1], None)
        if first is None:
            raise DataError(f"{name}: gives no batch")
        images, labels = checked(first, name)
        #: the first batch, with which the network and the loss are checked
        self.first = Dataset(images, labels, name)
        self.batch_size = len(images)
        #: an image and its label
        self.example = images[:1], labels[:1]
        self._given = [first]

    def __len__(self) -> int:
        return self._steps

    def _open(self, epoch: int) -> Iterator[Any]:
        if not callable(self._batches):
            return iter(self._batches)
        try:
            wants = len(inspect.signature(self._batches).parameters) > 0
        except (TypeError, ValueError):  # one written in C
            wants = False
        return iter(self._batches(epoch) if wants else self._batches())

    def epoch(self, epoch: int, start: int = 0, reuse: bool = False) -> Generator[Batch, None, None]:
        """Iterate over the batches of an epoch, from number ``start`` on; earlier batches are computed and dropped.

        A thread prepares the next batch while the current one is used. It does not do so for a generator, whose next
        batch would be lost if the training is interrupted.

        Raises
        ------
        DataError
            If there are fewer batches than an epoch has.
        """
        if self._begun is None or not (self.once or self._begun[0] == epoch):
            self._begun, self._given = (epoch, self._open(epoch)), []
        source, given = self._begun[1], self._given
        self._given = []
        if not self.once:
            self._begun = None
        left = islice(chain(given, source), 0 if self.once else start, None)
        pool = None if self.once else thread_pool(1, thread_name_prefix="im2colnet-stream")

        def following() -> Any:
            return next(left, None)

        coming = None
        try:
            for number in range(start, self._steps):
                batch = following() if coming is None else coming.result()
                if batch is None:
                    raise DataError(
                        f"{self.name}: ends after batch {number} of the {self._steps} of an epoch: give steps=..., the"
                        " number of batches of an epoch"
                    )
                coming = submit(pool, following) if pool and number + 1 < self._steps else None
                images, labels = checked(batch, self.name)
                yield images if self._part is None else images[self._part(len(images))], labels
        finally:
            if pool:
                # the thread closes it, because it may be making a batch; no waiting, because this code may run in
                # that very thread, in its garbage collector
                with suppress(RuntimeError):  # at the interpreter's end
                    submit(pool, getattr(source, "close", tuple))
                pool.shutdown(wait=False)


def joined(batches: Any, name: str) -> Dataset:
    """Return all batches of an iterable as a data set in memory."""
    pairs = [checked(batch, name) for batch in batches]
    if not pairs:
        raise DataError(f"{name}: gives no batch")
    images, labels = zip(*pairs, strict=True)
    return Dataset(np.concatenate(images), np.concatenate(labels), name)
