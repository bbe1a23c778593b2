"""Applying a list of transforms to the batches of a data set."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from im2colnet.datasets.transforms.base import Batch, Pair, Transform
from im2colnet.datasets.transforms.draws import keys
from im2colnet.datasets.transforms.mixing import as_shares
from im2colnet.errors import ShapeError
from im2colnet.host import np


def as_transforms(name: str, given: Any) -> tuple[Transform, ...]:
    """Return a transform, or a list of transforms, as a tuple; ``name`` is the name of the argument."""
    found = tuple(given) if isinstance(given, (list, tuple)) else () if given is None else (given,)
    for each in found:
        if not isinstance(each, Transform):
            hint = f"; write {each.__name__}()" if isinstance(each, type) else ""
            raise ShapeError(
                f"{name} must be a list of transforms such as [ic.transforms.RandomCrop(padding=4)], of classes derived"
                f" from ic.transforms.Transform, got {each!r}{hint}"
            )
    return found


class Augmentation:
    """Transforms, one after the other, for the samples of a data set.

    Parameters
    ----------
    transforms : tuple of Transform
    seed : int
    count : int
        The number of samples in the data set.
    gather : callable
        A function that takes places in the data set (N,) and returns images and labels of these samples as new arrays.
    classes : int
        The number of columns of the labels, if a transform mixes classes.
    """

    def __init__(
        self,
        transforms: tuple[Transform, ...],
        seed: int,
        count: int,
        gather: Callable[[np.ndarray], Pair],
        classes: int,
    ) -> None:
        self.transforms, self.seed, self.count, self.gather, self.classes = transforms, seed, count, gather, classes
        #: the first transform that mixes labels, if there is one
        self.mixing = next((each for each in transforms if each.mixes), None)

    def __call__(self, images: np.ndarray, labels: np.ndarray, samples: np.ndarray, epoch: int) -> Pair:
        """Return images and labels of samples after the transforms of an epoch.

        Parameters
        ----------
        images, labels : (N, ...) arrays
            The result of ``gather(samples)``.
        samples : (N,) array of int
            The places of the samples in the data set.
        epoch : int
        """
        return self._apply(images, labels, samples, epoch, len(self.transforms))

    def _apply(self, images: np.ndarray, labels: np.ndarray, samples: np.ndarray, epoch: int, count: int) -> Pair:
        """Apply the first ``count`` transforms."""
        if self.mixing is not None:
            labels = as_shares(labels, self.classes, type(self.mixing).__name__)
        if labels.ndim > 2:
            self._check_pixels(labels)
        for position, transform in enumerate(self.transforms[:count]):

            def others(which: np.ndarray, position: int = position) -> Pair:
                return self._apply(*self.gather(which), which, epoch, position)

            its = keys(self.seed, epoch, samples, position)
            images, labels = transform.apply(Batch(images, labels, samples, its, self.count, others))
        return images, labels

    def _check_pixels(self, labels: np.ndarray) -> None:
        for each in self.transforms:
            if each.moves_pixels:
                raise ShapeError(
                    f"{type(each).__name__} moves pixels, but not labels, and labels of shape {labels.shape[1:]} for"
                    " each sample may belong to its pixels: leave the transform out"
                )
