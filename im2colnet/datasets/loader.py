"""Shuffled batches of a data set; the next batch is prepared in the background while the current one is used."""

from __future__ import annotations

import os
from collections.abc import Callable, Generator
from typing import TYPE_CHECKING, Any

from im2colnet.checks import whole
from im2colnet.datasets.transforms.augmentation import Augmentation, as_transforms
from im2colnet.datasets.transforms.base import Pair
from im2colnet.errors import FrozenError, ShapeError
from im2colnet.host import np
from im2colnet.interrupt import submit, thread_pool
from im2colnet.lazy import LazyArray

if TYPE_CHECKING:
    from im2colnet.datasets.dataset import Dataset

__all__ = ["Loader"]


class Loader:
    """Batches of a data set, in an order that depends only on the seed and the epoch.

    Parameters
    ----------
    dataset : Dataset
        The images and labels. Arrays that are not C-contiguous are copied once, here.
    batch_size : int
        The number of images in a batch; the last batch of an epoch may have fewer.
    seed : int
        The seed of the order and of the transforms, not negative.
    shuffle : bool
        Whether to shuffle each epoch; otherwise the data set's order is kept.
    drop_last : bool
        Whether to leave out the last batch of an epoch if it has fewer images than `batch_size`.
    transform : Transform, or list of Transform
        Random changes of the images, see ``im2colnet.transforms``. The changes of a sample in an epoch
        depend only on the seed, the epoch and its place in the data set.
    classes : int, optional
        The number of columns of the labels, if a transform such as :class:`~im2colnet.datasets.transforms.MixUp` makes
        shares of classes. The default is the number of classes of the data set.
    part : callable, optional
        A function of the size of a batch that returns a slice: the samples of the batch whose images are returned. The
        other images are neither read nor changed, unless a transform mixes samples. The labels are those of the whole
        batch.

    Raises
    ------
    ShapeError
        If `batch_size` is not a positive whole number, `seed` is not a whole number or is negative, no batch is left,
        or a transform does not suit the images or labels.

    Notes
    -----
    `len(loader)` is the number of batches of an epoch.

    Examples
    --------
    >>> data = ic.Dataset(np.zeros((5, 1, 2, 2)), [0, 1, 2, 3, 4])
    >>> loader = ic.Loader(data, batch_size=2, seed=0)
    >>> for epoch in range(2):
    ...     print([labels.tolist() for images, labels in loader.epoch(epoch)])
    [[3, 2], [1, 0], [4]]
    [[4, 1], [2, 0], [3]]
    """

    def __init__(
        self,
        dataset: Dataset,
        batch_size: int,
        seed: int = 0,
        shuffle: bool = True,
        drop_last: bool = False,
        transform: Any = None,
        classes: int | None = None,
        part: Callable[[int], slice] | None = None,
    ) -> None:
        self.dataset, self._part = dataset, part
        self.batch_size = whole("batch_size", batch_size, least=1)
        self.seed = whole("seed", seed, least=0)
        self.shuffle, self.drop_last = shuffle, drop_last
        # np.take would copy an array that is not C-contiguous for each batch; for a lazy array it calls its `take`
        self._images, self._labels = (
            array if isinstance(array, LazyArray) else np.require(array, array.dtype.newbyteorder("="), ["C", "A"])
            for array in (dataset.images, dataset.labels)
        )
        if not len(self):
            raise ShapeError(f"drop_last leaves nothing of {len(dataset)} images in batches of {batch_size}")
        self.transform = as_transforms("transform", transform)
        columns = len(dataset.classes) if classes is None else whole("classes", classes)
        self._augmentation = Augmentation(self.transform, self.seed, len(dataset), self._take, columns)
        #: the first sample of the data set, as a batch of one, as it is in epoch 0
        self.example = self._augmentation(self._images[:1].copy(), self._labels[:1].copy(), np.zeros(1, np.intp), 0)
        #: the first transform that mixes labels, if there is one
        self.mixing = self._augmentation.mixing

    def __setattr__(self, name: str, value: object) -> None:
        if name in vars(self):  # an epoch that is under way would continue with other batches
            raise FrozenError(f"a Loader keeps its {name}: make a new one, Loader(..., {name.lstrip('_')}=...)")
        super().__setattr__(name, value)

    def __len__(self) -> int:
        whole, rest = divmod(len(self.dataset), self.batch_size)
        return whole + (rest > 0 and not self.drop_last)

    def epoch(
        self, epoch: int, start: int = 0, reuse: bool = False
    ) -> Generator[tuple[np.ndarray, np.ndarray], None, None]:
        """Iterate over the batches of one epoch.

        Parameters
        ----------
        epoch : int
            The number of the epoch, from 0; each has its own order.
        start : int
            The number of the first batch to return, to continue within an epoch.
        reuse : bool
            Whether to reuse three pairs of arrays for all batches, which allocates nothing. A batch is then overwritten
            when the second batch after it is requested: copy it to keep it. By default each batch has new arrays.

        Returns
        -------
        generator of pairs (images, labels)
            Images (N, C, H, W) or (N, features), with ``part`` only that part of the batch; labels (N,) of the whole
            batch.

        Raises
        ------
        ShapeError
            If `epoch` is negative, or `start` is not from 0 to the number of batches.

        Notes
        -----
        One background thread prepares the next batch. The thread ends when the iterator is exhausted, closed or
        deleted. The iterator raises the errors of the thread.
        """
        epoch, start = whole("epoch", epoch, least=0), whole("start", start, least=0)
        if start > len(self):
            raise ShapeError(f"start must be at most {len(self)}, the number of batches, got {start}")
        return self._batches(epoch, start, reuse)

    def _batches(self, epoch: int, start: int, reuse: bool) -> Generator[tuple[np.ndarray, np.ndarray], None, None]:
        from sys import is_finalizing

        order = self._order(epoch)
        size = min(self.batch_size, len(order))

        # Three, because one is being filled while the consumer has the latest two batches.
        sizes = {size, len(order) % self.batch_size}  # a part of a smaller batch may be larger
        wanted = size if self._part is None else max(len(range(n)[self._part(n)]) for n in sizes if n)
        buffers = [self._allocate(wanted, size) for _ in range(3)] if reuse else []

        def gather(number: int) -> tuple[np.ndarray, np.ndarray]:
            chosen = order[number * self.batch_size : (number + 1) * self.batch_size]
            return self._gather(chosen, epoch, buffers[number % 3] if reuse else None)

        process, pool = os.getpid(), thread_pool(1, thread_name_prefix="im2colnet-loader")
        try:
            coming = submit(pool, gather, start) if start < len(self) else None
            for number in range(start, len(self)):
                if process != os.getpid():  # forked meanwhile: the thread has stayed with the parent
                    process, coming = os.getpid(), None
                    pool = thread_pool(1, thread_name_prefix="im2colnet-loader")
                batch = gather(number) if coming is None else coming.result()
                # from now on gathered in the background
                coming = submit(pool, gather, number + 1) if number + 1 < len(self) else None
                yield batch
        finally:
            # No waiting: the garbage collector may close an iterator in the very thread that is to end. And at the
            # interpreter's exit the thread has ended already, and the objects needed here may be deleted.
            if not is_finalizing():
                pool.shutdown(wait=False, cancel_futures=True)

    def _gather(self, chosen: np.ndarray, epoch: int, pair: Pair | None) -> Pair:
        """Return the images and labels of a batch after the transforms of an epoch."""
        own = slice(None) if self._part is None else self._part(len(chosen))
        if self.mixing is not None:  # a label depends on the samples that are mixed
            images, labels = self._augmentation(*self._take(chosen), chosen, epoch)
            return images[own], labels
        images, labels = pair or self._allocate(len(chosen[own]), len(chosen))
        images, labels = images[: len(chosen[own])], labels[: len(chosen)]
        self._read(chosen[own], images)
        np.take(self._labels, chosen, axis=0, out=labels, mode="clip")
        return self._augmentation(images, labels[own], chosen[own], epoch)[0], labels

    def _allocate(self, images: int, labels: int) -> Pair:
        """Return arrays for these numbers of images and labels."""
        return tuple(  # type: ignore[return-value]
            np.empty((size, *array.shape[1:]), array.dtype)
            for size, array in ((images, self._images), (labels, self._labels))
        )

    def _read(self, chosen: np.ndarray, images: np.ndarray) -> None:
        # With mode="raise", np.take would allocate a copy of `out`; no index is clipped.
        np.take(self._images, chosen, axis=0, out=images, mode="clip")

    def _take(self, chosen: np.ndarray) -> Pair:
        """Return the chosen samples in new arrays."""
        images, labels = self._allocate(len(chosen), len(chosen))
        self._read(chosen, images)
        np.take(self._labels, chosen, axis=0, out=labels, mode="clip")
        return images, labels

    def _order(self, epoch: int) -> np.ndarray:
        """Return the order of the images in an epoch: their places in the data set."""
        if not self.shuffle:
            return np.arange(len(self.dataset), dtype=np.intp)
        # raw bits, which NumPy promises to keep; numbers derived from them may change with its version
        bits = np.random.PCG64(np.random.SeedSequence([self.seed, epoch])).random_raw(len(self.dataset))
        return np.argsort(bits, kind="stable")
