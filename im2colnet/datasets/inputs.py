"""A description of the images that a network was trained on: kind, scale and classes. Checkpoints store it.

A network that was trained on images of one scale gives wrong results for images of another scale. So `Trainer.fit`
measures its images once, and images that are evaluated or predicted later are compared with them. uint8 images are
measured after they are scaled to [0, 1].
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Any

from im2colnet.arrays import host_array
from im2colnet.errors import CheckpointError, DataError, InputWarning, NonFiniteError
from im2colnet.host import np
from im2colnet.lazy import LazyArray

if TYPE_CHECKING:
    from im2colnet.datasets.dataset import Dataset

_SAMPLE = 1 << 18  # mean, deviation and percentiles are computed from a sample of at least this many numbers
_BLOCK = 1 << 23  # the number of elements in memory at a time, for images that are read from a disk
_IMAGES = 1024  # the number of images to measure, if an object may return different images each time
_PART = 1 << 18  # the number of elements whose mean and deviation are computed at a time
_BEYOND = 8  # images have another scale if numbers lie more than this multiple of the usual range outside of it
_WITHIN = 32  # images may have another scale if the usual range is more than this multiple of their range


@dataclass(frozen=True)
class Inputs:
    """A description of the images that a network takes: their kind, scale, shape and classes.

    Parameters
    ----------
    kind : {"uint8", "float"}
        The type of the images. uint8 is scaled to [0, 1]; all numbers below are measured after scaling.
    low, high : float
        The smallest and the largest number.
    usual : (float, float)
        The limits between which 98% of the numbers of a sample lie; a single broken pixel does not change them.
    mean, std : float
        The mean and the standard deviation of a sample of the numbers.
    shape : tuple of int
        The shape of one image.
    classes : tuple of str
        The names of the classes, by label.

    Examples
    --------
    >>> train, test = ic.datasets.load("digits")
    >>> print(ic.datasets.Inputs.of(train))
    uint8, scaled to 0 to 1 (mean 0.305, deviation 0.376)
    """

    kind: str
    low: float
    high: float
    usual: tuple[float, float]
    mean: float
    std: float
    shape: tuple[int, ...]
    classes: tuple[str, ...] = ()

    @classmethod
    def of(cls, data: Dataset | Any) -> Inputs:
        """Measure a data set, or an array of images.

        Images that are read on demand are read once. If an object may return different images each time (see
        :func:`im2colnet.datasets.from_items`), at most 1,024 images are measured.

        Parameters
        ----------
        data : Dataset or array
            The images; a data set gives the names of its classes too.

        Returns
        -------
        Inputs
            The description of the images.

        Raises
        ------
        NonFiniteError
            If an image contains NaN or infinity; the message gives its number.
        """
        images, classes = getattr(data, "images", data), tuple(getattr(data, "classes", ()))
        images = _sample_of(host_array("images", images))
        scale = 255 if images.dtype == np.uint8 else 1
        step, per = max(1, images.size // _SAMPLE), images.size // max(len(images), 1)
        low, high, some = math.inf, -math.inf, []
        for start, block in _blocks(images):
            least, most = float(block.min()), float(block.max())
            if not math.isfinite(least) or not math.isfinite(most):
                raise NonFiniteError(f"image {start + first_beyond(block)} of the data holds NaN or infinity")
            low, high = min(low, least), max(high, most)
            # of whole images where there are many, so that no pixel is preferred
            if len(images) >= 64 * step:
                some.append(block[-start % step :: step].astype(np.float64).reshape(-1))
            else:
                some.append(block.reshape(-1)[-start * per % (step | 1) :: step | 1].astype(np.float64))
        numbers = np.concatenate(some)
        usual = _range(numbers)
        with np.errstate(over="ignore"):
            mean, std = (min(float(f(numbers)), 1e300) for f in (np.mean, np.std))
        return cls(
            "uint8" if scale == 255 else "float",
            low / scale,
            high / scale,
            (usual[0] / scale, usual[1] / scale),
            mean / scale,
            std / scale,
            tuple(images.shape[1:]),
            classes,
        )

    @property
    def unit(self) -> bool:
        """Whether the scale may be that of uint8 pictures, 0 to 1."""
        return self.kind == "uint8" or (self.low >= 0 and 0.25 < self.high <= 1.001)

    def __str__(self) -> str:
        what = "uint8, scaled to" if self.kind == "uint8" else "floating-point numbers from"
        return f"{what} {self.low:.3g} to {self.high:.3g} (mean {self.mean:.3g}, deviation {self.std:.3g})"

    def compare_kind(self, what: str, uint8: bool) -> None:
        """Raise a DataError for uint8 images if the network has learned from numbers of another scale."""
        if uint8 and not self.unit:
            raise DataError(self._differs(what, "uint8, scaled to [0, 1]", "the network was trained on"))

    def compare(self, what: str, given: Inputs, trained: str = "the network was trained on") -> None:
        """Compare images with the training images.

        Parameters
        ----------
        what : str
            The name of the given images in messages.
        given : Inputs
            The description of the given images.
        trained : str
            The words of the message before the description of these inputs.

        Raises
        ------
        DataError
            If the scale is clearly different: uint8 for a network that was trained on standardized numbers, or more
            than 1% of the numbers far outside the usual range.

        Warns
        -----
        InputWarning
            If the scale may be different: the range of all numbers is less than 1/32 of the usual range.
        """
        message = self._differs(what, str(given), trained)
        if given.kind == "uint8" and not self.unit:
            raise DataError(message)
        low, high = self.usual if self.usual[0] < self.usual[1] else (self.low, self.high)
        room = _BEYOND * (high - low or abs(high) or 1.0)
        if given.usual[1] > high + room or given.usual[0] < low - room:
            raise DataError(message)
        if 0 < _WITHIN * (given.high - given.low) < high - low:
            warnings.warn(message, InputWarning, stacklevel=3)

    def compare_classes(self, what: str, classes: tuple[str, ...]) -> None:
        """Raise a DataError for the same classes in another order; warn for other names. Numbers are not names."""
        own, given = self.classes, tuple(classes)
        if own == given or not (named(own) and named(given)):
            return
        first = next((i for i, pair in enumerate(zip(own, given, strict=False)) if pair[0] != pair[1]), None)
        if first is None:
            return
        message = f"class {first} of {what} is {given[first]!r}, in the training of the network it was {own[first]!r}"
        if sorted(own) == sorted(given):
            raise DataError(f"{message}: bring the classes into the order of the training")
        warnings.warn(message, InputWarning, stacklevel=3)

    def warn_unscaled(self) -> None:
        """Warn of floating-point images with a large range such as 0 to 255, on which networks train badly."""
        low, high = self.usual if self.usual[0] < self.usual[1] else (self.low, self.high)
        if self.kind == "float" and max(abs(low), abs(high)) > 30:
            far = self.high if abs(high) >= abs(low) else self.low
            warnings.warn(
                f"images are floating-point numbers and reach {far:.4g}; networks train best on [0, 1]: give uint8,"
                " which is scaled, or divide by 255",
                InputWarning,
                stacklevel=3,
            )

    def _differs(self, what: str, given: str, trained: str) -> str:
        if self.unit:
            advice = "give uint8, or numbers from 0 to 1"
        else:
            advice = "scale them as for the training, and give floating-point numbers"
        return f"{what}: the images are {given}, but {trained} {self}: {advice}"

    def describe(self) -> dict[str, Any]:
        """Return the description as JSON."""
        return asdict(self)

    @classmethod
    def read(cls, description: Any) -> Inputs | None:
        """Read the result of :meth:`describe`; return None for a checkpoint without a description.

        Raises
        ------
        CheckpointError
            If the description is damaged.
        """
        if description is None:
            return None
        try:
            if not isinstance(description, Mapping) or set(description) != {field.name for field in fields(cls)}:
                raise TypeError("wrong entries")
            numbers = {name: float(description[name]) for name in ("low", "high", "mean", "std")}
            low, high = map(float, description["usual"])
            shape = tuple(map(int, description["shape"]))
            classes = description["classes"]
            finite = all(map(math.isfinite, (low, high, *numbers.values())))
            if description["kind"] not in ("uint8", "float") or not finite:
                raise TypeError("wrong kind or numbers")
            if not isinstance(classes, list) or not all(isinstance(name, str) for name in classes):
                raise TypeError("classes that are no names")
        except (TypeError, ValueError, OverflowError) as error:
            raise CheckpointError(f"it is damaged: the description of the inputs is unreadable ({error})") from error
        return cls(kind=description["kind"], usual=(low, high), shape=shape, classes=tuple(classes), **numbers)


def _blocks(images: Any) -> Iterator[tuple[int, np.ndarray]]:
    """Yield images with the number of the first one: a whole array in memory, or blocks that are read from a disk."""
    size = len(images)
    if isinstance(images, (LazyArray, np.memmap)):
        size = max(1, _BLOCK * len(images) // images.size)
    for start in range(0, len(images), size):
        yield start, np.asarray(images[start : start + size])


def channel_statistics(data: Dataset | Any) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return mean and standard deviation of each channel over all images; uint8 is scaled to [0, 1].

    Images are read once, in parts, and the moments of the parts are combined in float64 (Chan, Golub & LeVeque 1983,
    https://doi.org/10.1080/00031305.1983.10483115). The deviation of a channel that is constant is 1.

    Returns
    -------
    mean, std : tuple of float
        A number for each channel C of the images (N, C, ...), rounded to float32.
    """
    images = _sample_of(host_array("images", getattr(data, "images", data)))
    scale, channels = 255 if images.dtype == np.uint8 else 1, images.shape[1]
    count, mean, squares = 0, np.zeros(channels), np.zeros(channels)
    step = max(1, _PART * len(images) // images.size)
    for start in range(0, len(images), step):
        part = np.asarray(images[start : start + step])
        part = part.reshape(len(part), channels, -1).astype(np.float64)
        n = part.size // channels
        its = part.sum(axis=2).sum(axis=0) / n
        part -= its[:, None]
        part *= part
        away, total = its - mean, count + n
        squares += part.sum(axis=2).sum(axis=0) + away**2 * (count * n / total)
        mean += away * (n / total)
        count = total
    std = np.sqrt(squares / count)
    constant = std <= 1e-12 * np.abs(mean)
    means, deviations = ((each / scale).astype(np.float32) for each in (mean, std))
    deviations[constant | (deviations == 0)] = 1
    return tuple(means.tolist()), tuple(deviations.tolist())


def _sample_of(images: Any) -> Any:
    """Return all images, or only a part of them if each reading may return different images."""
    if isinstance(images, LazyArray) and images.source.varies:
        return images.select(np.linspace(0, len(images) - 1, min(len(images), _IMAGES)).astype(np.intp))
    return images


def named(classes: tuple[str, ...]) -> bool:
    """Whether classes have names, other than their numbers."""
    return bool(classes) and tuple(classes) != tuple(map(str, range(len(classes))))


def _range(numbers: np.ndarray) -> tuple[float, float]:
    """Return percentiles 1 and 99, with linear interpolation."""
    # Not by np.percentile: its np.unique aborts the process where a daemon thread is in it when the interpreter ends.
    at = 0.01 * (len(numbers) - 1), 0.99 * (len(numbers) - 1)
    near = sorted({rounded(position) for position in at for rounded in (math.floor, math.ceil)})
    low, high = np.interp(at, near, np.partition(numbers, near)[near]).tolist()
    return low, high


def first_beyond(images: np.ndarray, limit: float = math.inf) -> int:
    """Return the index of the first image that holds NaN, infinity, or a number beyond a limit."""
    for i, image in enumerate(images):
        if not np.isfinite(image).all() or (np.abs(image) > limit).any():
            return i
    return len(images)


def check_training(data: Dataset) -> None:
    """Warn of classes that have no image and no name: labels may be counted from 1."""
    if not data.classes or named(data.classes):
        return
    empty = np.flatnonzero(np.bincount(data.labels.astype(np.int64), minlength=len(data.classes)) == 0)
    if len(empty):
        shown = ", ".join(map(str, empty[:5])) + (", ..." if len(empty) > 5 else "")
        ask = ": are labels counted from 1?" if empty[0] == 0 else ""
        some = "class" if len(empty) == 1 else "classes"
        has = "has" if len(empty) == 1 else "have"
        warnings.warn(f"{some} {shown} {has} no images{ask}", InputWarning, stacklevel=3)
