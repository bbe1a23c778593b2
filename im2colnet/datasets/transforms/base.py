"""The base class of transforms."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from math import isfinite
from numbers import Real
from typing import Any

from im2colnet.arrays import check_image_type, host_array
from im2colnet.checks import arguments, is_truth_value, number, shown
from im2colnet.datasets.transforms.draws import keys as make_keys
from im2colnet.errors import DTypeError, ShapeError
from im2colnet.host import np
from im2colnet.text import size_text

Pair = tuple[np.ndarray, np.ndarray]
#: the number of elements (pixels of all channels) that are computed at a time
PART = 1 << 16


@dataclass(frozen=True)
class Batch:
    """A batch between two transforms of a list.

    Parameters
    ----------
    images : (N, ...) array
    labels : (N, ...) array
    samples : (N,) array of int
        The places of the samples in the data set.
    keys : (N,) array of uint64
        The key of each sample for the transform that gets this batch.
    count : int
        The number of samples in the data set.
    others : callable
        A function that takes places in the data set (N,) and returns images and labels of these samples in this epoch,
        after the transforms before this one.
    """

    images: np.ndarray
    labels: np.ndarray
    samples: np.ndarray
    keys: np.ndarray
    count: int
    others: Callable[[np.ndarray], Pair]


class Transform:
    """Base of the transforms, which change training images at random, so that a network is trained on more variants.

    A derived class defines :meth:`transform`. It stores the arguments of its constructor as attributes of the same
    names, so that checkpoints hold them.

    A transform is called with a whole batch, and with a *key* for each image. It gets all its random numbers from the
    keys, with :func:`uniform`. A key depends on the seed, the epoch, the sample's place in the data set, and the
    transform's place in its list. So the result does not depend on the order of the samples, the batch size or the
    number of workers.

    Examples
    --------
    >>> class Brighter(ic.transforms.Transform):
    ...     moves_pixels = False
    ...
    ...     def transform(self, images, keys):
    ...         more = 50 * ic.transforms.uniform(keys, 1).reshape(-1, 1, 1, 1)
    ...         return np.clip(images + more, 0, 255).astype(images.dtype)
    >>> Brighter()(np.zeros((3, 1, 2, 2), np.uint8))[:, 0, 0, 0]
    array([23, 39, 26], dtype=uint8)
    """

    #: whether it moves pixels. Such a transform is refused if each pixel has a label, because labels are not moved
    moves_pixels: bool = True
    #: whether it is only for images (N, C, H, W), not for features or sequences
    images_only: bool = False
    #: whether it mixes samples, so that class labels become shares of the classes
    mixes: bool = False

    def __repr__(self) -> str:
        return shown(self)

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and self._arguments() == other._arguments()

    def __hash__(self) -> int:
        return hash(repr(self))

    def _arguments(self) -> dict[str, Any]:
        return {name: getattr(self, name, None) for name in arguments(type(self))}

    def transform(self, images: np.ndarray, keys: np.ndarray) -> np.ndarray:
        """Return changed images; ``images`` itself must not be changed.

        Parameters
        ----------
        images : (N, C, H, W) array, or (N, ...)
            The images, uint8 or floating point.
        keys : (N,) array of uint64
            The keys from which all random numbers are computed: see :func:`uniform`.

        Returns
        -------
        (N, ...) array
            The changed images, of the type of ``images``.
        """
        raise NotImplementedError(f"{type(self).__name__} must define transform(images, keys)")

    def __call__(self, images: Any, keys: np.ndarray | None = None) -> np.ndarray:
        """Return the images, each changed at random; ``images`` itself is not changed.

        Parameters
        ----------
        images : (N, C, H, W) array, or (N, ...)
            The images, uint8 or floating point.
        keys : (N,) array of uint64, optional
            The keys of the images, from :func:`keys`. By default the keys of seed 0, epoch 0 and samples 0 to N - 1.

        Returns
        -------
        (N, ...) array
            The changed images, of the type of ``images``.
        """
        name, images = type(self).__name__, host_array("images", images)
        if self.mixes:
            raise ShapeError(
                f"{name} mixes the samples of a data set, and their labels with them: give it to"
                " trainer.fit(..., augment=[...]), or to Loader(..., transform=[...]) to see the result"
            )
        check_image_type(f"{name}: images", images)
        self.check_rank(images)
        found = self.transform(images, make_keys(0, 0, np.arange(len(images))) if keys is None else keys)
        if not isinstance(found, np.ndarray) or found.ndim != images.ndim or len(found) != len(images):
            what = getattr(found, "shape", type(found).__name__)
            raise ShapeError(f"{name}: transform must return {len(images)} images as an array, it returned {what}")
        return found

    def check_rank(self, images: np.ndarray) -> None:
        """Raise a ShapeError for features and sequences if the transform is only for images."""
        if self.images_only and images.ndim != 4:
            raise ShapeError(f"{type(self).__name__} is for images (N, C, H, W), got an array of shape {images.shape}")

    def apply(self, batch: Batch) -> Pair:
        """Return the changed images and labels of a batch."""
        return self(batch.images, batch.keys), batch.labels


class ImageTransform(Transform):
    """Base of transforms that are only for images (N, C, H, W)."""

    images_only: bool = True


# ---------------------------------------------------------------------- arguments


def probability(cls: str, name: str, value: Any) -> float:
    """Return a number from 0 to 1."""
    found = number(f"{cls}: {name}", value)
    if found > 1:
        raise ShapeError(f"{cls}: {name} must be a number from 0 to 1, got {value!r}")
    return found


def interval(cls: str, name: str, value: Any, least: float, most: float) -> tuple[float, float]:
    """Return a pair (lowest, highest) of numbers from ``least`` to ``most``."""
    try:
        low, high = value
    except (TypeError, ValueError):
        raise ShapeError(f"{cls}: {name} must be a pair (lowest, highest), got {value!r}") from None
    low, high = (finite(f"{cls}: each of {name}", each) for each in (low, high))
    if not least <= low <= high <= most:
        raise ShapeError(f"{cls}: {name} must be a pair (lowest, highest) from {least:g} to {most:g}, got {value!r}")
    return low, high


def finite(name: str, value: Any) -> float:
    """Return a finite number as a float."""
    if is_truth_value(value) or not isinstance(value, Real) or not isfinite(value):
        raise ShapeError(f"{name} must be a finite number, got {value!r}")
    return float(value)


def colour(cls: str, name: str, value: Any) -> float | tuple[float, ...]:
    """Return a number, or a tuple with a number for each channel."""
    if isinstance(value, Sequence) and not isinstance(value, str) and len(value):
        return tuple(finite(f"{cls}: each of {name}", each) for each in value)
    return finite(f"{cls}: {name}", value)


def colour_for(cls: str, name: str, value: float | tuple[float, ...], images: np.ndarray) -> np.ndarray:
    """Return a color in the type of the images (N, C, H, W), of shape (C, 1, 1) or ()."""
    if isinstance(value, tuple) and len(value) != images.shape[1]:
        raise ShapeError(f"{cls}: {name} has {len(value)} numbers, but the images have {images.shape[1]} channels")
    found = np.asarray(value)
    if images.dtype == np.uint8 and ((found < 0) | (found > 255) | (found != np.rint(found))).any():
        raise DTypeError(f"{cls}: {name} must be whole numbers from 0 to 255 for uint8 images, got {value!r}")
    with np.errstate(over="ignore"):
        found = found.astype(images.dtype)
    if not np.isfinite(found).all():
        raise DTypeError(f"{cls}: {name} is too large for images of {images.dtype}, got {value!r}")
    return found.reshape(-1, 1, 1) if found.ndim else found


# ---------------------------------------------------------------------- arithmetic


def working_type(images: np.ndarray) -> Any:
    """Return the type in which pixels are computed: float64 for float64, else float32."""
    return np.float64 if images.dtype == np.float64 else np.float32


def stored(values: np.ndarray, dtype: Any) -> np.ndarray:
    """Return computed pixels in the type of the images: for uint8 rounded to the nearest number, halves to even."""
    if dtype == np.uint8:
        np.rint(values, out=values)
        np.clip(values, 0, 255, out=values)
    return values.astype(dtype, copy=False)


def parts(images: np.ndarray) -> Iterator[slice]:
    """Yield slices of a batch, of about ``PART`` numbers each, so that temporary arrays stay in the cache."""
    step = max(1, PART * len(images) // max(images.size, 1))
    for start in range(0, len(images), step):
        yield slice(start, start + step)


def size_of(images: np.ndarray) -> str:
    """Return the size of images as a text for messages."""
    return size_text(images.shape[1:])
