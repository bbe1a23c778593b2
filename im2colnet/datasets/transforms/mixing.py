"""Transforms that mix samples together with their labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from im2colnet.checks import more_than_zero
from im2colnet.datasets.transforms.base import Batch, Pair, Transform, parts, stored, working_type
from im2colnet.datasets.transforms.color import rectangles
from im2colnet.datasets.transforms.draws import below, output, uniform
from im2colnet.errors import DTypeError, ShapeError
from im2colnet.host import np

#: the number of intervals in the table of the distribution of the shares
INTERVALS = 1 << 12


class Mixing(Transform):
    """Base of the transforms that mix each sample with a random other sample of the data set.

    Parameters
    ----------
    alpha : float
        The share of a sample in the mixture is drawn from the distribution Beta(alpha, alpha). With 1 all shares are
        equally likely. With a smaller number more mixtures are close to one of the two samples.
    """

    mixes: bool = True

    def __init__(self, alpha: float = 1.0) -> None:
        self.alpha = more_than_zero(f"{type(self).__name__}: alpha", alpha)

    def mix(self, images: np.ndarray, others: np.ndarray, draws: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return mixtures, and the share (N,) of each sample in its mixture.

        Parameters
        ----------
        images, others : (N, ...) arrays
            The samples, and the samples that they are mixed with.
        draws : (N, 3) array
            Uniform random numbers in [0, 1).
        """
        raise NotImplementedError(f"{type(self).__name__} must define mix(images, others, draws)")

    def apply(self, batch: Batch) -> Pair:
        self.check_rank(batch.images)
        draws = uniform(batch.keys, 4)
        away = 1 + below(draws[:, 0], max(1, batch.count - 1))  # another sample, unless there is only one
        images, labels = batch.others((batch.samples + away) % batch.count)
        mixtures, share = self.mix(batch.images, images, draws[:, 1:])
        share = share.astype(batch.labels.dtype).reshape(-1, *[1] * (labels.ndim - 1))
        return mixtures, batch.labels * share + labels * (1 - share)

    def shares(self, uniform: np.ndarray) -> np.ndarray:
        """Return shares with the distribution Beta(alpha, alpha) from numbers that are uniform in [0, 1)."""
        return beta(self.alpha, uniform)


class MixUp(Mixing):
    """Mixes each image with another image, pixel by pixel (Zhang et al. 2017, arXiv:1710.09412).

    The result is ``share · image + (1 - share) · other``. Labels are mixed in the same way: classes become shares of
    classes, which ``CrossEntropyLoss`` takes. A prediction counts as correct in the accuracy if it is the class with
    the larger share.

    Parameters
    ----------
    alpha : float
        The share is drawn for each image from the distribution Beta(alpha, alpha). The paper uses 0.1 to 0.4 for
        ImageNet, and 1 for CIFAR-10.

    Raises
    ------
    ShapeError
        If an argument is out of its range.
    DTypeError
        In training, if the label of each sample is several integers.

    Notes
    -----
    torchvision draws one share for a whole batch, and mixes within the batch. Here the other image is any image of the
    data set, after the transforms before this one in the same epoch.

    Examples
    --------
    >>> data = ic.Dataset(np.array([[[[0.0]]], [[[1.0]]]]), [0, 1])
    >>> mix = ic.transforms.MixUp()
    >>> mixed = ic.Loader(data, 2, shuffle=False, transform=mix)
    >>> images, labels = next(mixed.epoch(0))
    >>> images.ravel().round(3), labels.round(3)
    (array([0.275, 0.192]), array([[0.725, 0.275],
           [0.808, 0.192]], dtype=float32))
    """

    def mix(self, images: np.ndarray, others: np.ndarray, draws: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        share, kind = self.shares(draws[:, 0]), working_type(images)
        factor = share.astype(kind).reshape(-1, *[1] * (images.ndim - 1))
        found = np.empty_like(images, order="C")
        for part in parts(images):
            pixels, other = images[part].astype(kind), others[part].astype(kind)
            pixels *= factor[part]
            other *= 1 - factor[part]
            pixels += other
            found[part] = stored(pixels, images.dtype)
        return found, share


class CutMix(Mixing):
    """Replaces a rectangle in each image by the same rectangle of another image (Yun et al. 2019, arXiv:1905.04899).

    Labels are mixed in proportion to the areas: classes become shares of classes, which ``CrossEntropyLoss`` takes. A
    prediction counts as correct in the accuracy if it is the class with the larger share.

    Parameters
    ----------
    alpha : float
        The share of the area outside of the rectangle is drawn for each image from the distribution Beta(alpha, alpha),
        before the rectangle is clipped at the edges of the image. The paper uses 1.

    Raises
    ------
    ShapeError
        If an argument is out of its range.
    DTypeError
        In training, if the label of each sample is several integers.

    Notes
    -----
    torchvision draws one rectangle for a whole batch, and mixes within the batch; see :class:`MixUp`.

    Examples
    --------
    >>> images = np.stack([np.zeros((1, 4, 4)), np.ones((1, 4, 4))])
    >>> data = ic.Dataset(images, [0, 1])
    >>> mix = ic.transforms.CutMix()
    >>> mixed = ic.Loader(data, 2, shuffle=False, transform=mix)
    >>> images, labels = next(mixed.epoch(0))
    >>> images[0, 0], labels[0]
    (array([[1., 1., 0., 0.],
           [1., 1., 0., 0.],
           [0., 0., 0., 0.],
           [0., 0., 0., 0.]]), array([0.75, 0.25], dtype=float32))
    """

    images_only: bool = True

    def mix(self, images: np.ndarray, others: np.ndarray, draws: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        H, W = images.shape[2:]
        # half of the rectangle's side, as a fraction of the image's side
        side = 0.5 * np.sqrt(1 - self.shares(draws[:, 0]))
        edges = []
        for size, draw in ((H, draws[:, 1]), (W, draws[:, 2])):
            center, half = below(draw, size), (side * size).astype(np.intp)
            edges += [np.maximum(center - half, 0), np.minimum(center + half, size)]
        top, bottom, left, right = edges
        inside = rectangles(top, bottom, left, right, H, W)
        return np.where(inside, others, images), 1 - (bottom - top) * (right - left) / (H * W)


class RandomChoice(Transform):
    """Applies one of several transforms, chosen at random, to each sample; torchvision chooses one for a whole batch.

    Parameters
    ----------
    transforms : sequence of Transform
        The transforms, such as ``[MixUp(0.2), CutMix(1.0)]``.

    Raises
    ------
    ShapeError
        If an argument is out of its range.

    Examples
    --------
    >>> T, image = ic.transforms, np.array([[1, 2], [3, 4]], np.uint8)
    >>> flips = [T.RandomHorizontalFlip(1), T.RandomVerticalFlip(1)]
    >>> either = T.RandomChoice(flips)
    >>> either(np.stack([image, image])[:, None])[:, 0].tolist()
    [[[2, 1], [4, 3]], [[3, 4], [1, 2]]]
    """

    def __init__(self, transforms: Sequence[Transform]) -> None:
        self.transforms = tuple(transforms) if isinstance(transforms, (tuple, list)) else ()
        if not self.transforms or not all(isinstance(each, Transform) for each in self.transforms):
            raise ShapeError(f"RandomChoice: transforms must be a list such as [MixUp(), CutMix()], got {transforms!r}")
        for name in ("mixes", "images_only", "moves_pixels"):
            setattr(self, name, any(getattr(each, name) for each in self.transforms))

    def apply(self, batch: Batch) -> Pair:
        chosen = below(uniform(batch.keys, 1)[:, 0], len(self.transforms))
        images, labels = batch.images.copy(), batch.labels.copy()
        for i, each in enumerate(self.transforms):
            where = np.flatnonzero(chosen == i)
            if len(where):
                some, labels[where] = each.apply(
                    replace(
                        batch,
                        images=batch.images[where],
                        labels=batch.labels[where],
                        samples=batch.samples[where],
                        keys=output(batch.keys[where], np.array([1 + i], np.uint64)),
                    )
                )
                if some.shape[1:] != images.shape[1:] or some.dtype != images.dtype:
                    raise ShapeError(
                        f"RandomChoice: transforms must keep the size and the type of the images, but {each!r} made"
                        f" {some.dtype} {some.shape[1:]} of {images.dtype} {images.shape[1:]}"
                    )
                images[where] = some
        return images, labels

    def transform(self, images: np.ndarray, keys: np.ndarray) -> np.ndarray:
        places = np.arange(len(images))
        return self.apply(Batch(images, places, places, keys, len(images), lambda some: (images[some], some)))[0]


def beta(alpha: float, uniform: np.ndarray) -> np.ndarray:
    """Return numbers with the distribution Beta(alpha, alpha) from numbers that are uniform in [0, 1).

    The inverse of the distribution function is interpolated in a table of its lower half; the upper half is the mirror
    image. If alpha is less than 1 the density is infinite at 0, so the table uses ``t = x**alpha``, for which the
    density ``(1 - x)**(alpha - 1)`` is finite. The numbers are rounded to multiples of 2^-16, so that the last bit of a
    platform's powers does not matter.
    """
    power = min(alpha, 1.0)
    t = np.linspace(0, 0.5**power, INTERVALS + 1)
    x = t ** (1 / power)
    with np.errstate(under="ignore"):
        # of the density x^(alpha - 1) · (1 - x)^(alpha - 1) dx, in t, times a constant; it is 1 at x = 1/2
        density = (4 * x * (1 - x)) ** (alpha - 1) if alpha > 1 else (2 * (1 - x)) ** (alpha - 1)
    total = np.append(0, np.cumsum(density[1:] + density[:-1]))
    found = np.interp(2 * np.minimum(uniform, 1 - uniform), total / total[-1], t) ** (1 / power)
    found = np.where(uniform < 0.5, found, 1 - found)
    rounded: np.ndarray = np.rint(found * 2.0**16) * 2.0**-16
    return rounded


def as_shares(labels: np.ndarray, classes: int, name: str) -> np.ndarray:
    """Return labels that can be mixed: classes (N,) as shares (N, classes) of float32, targets as floats.

    Parameters
    ----------
    labels : (N, ...) array
    classes : int
    name : str
        The name of the transform.
    """
    if labels.dtype.kind == "f":
        return labels
    if labels.ndim == 1 and labels.dtype.kind in "iu":
        if labels.size and not 0 <= labels.min() <= labels.max() < classes:
            raise ShapeError(f"{name}: labels must be from 0 to {classes - 1}, got {labels.min()} to {labels.max()}")
        shares = np.zeros((len(labels), classes), np.float32)
        shares[np.arange(len(labels)), labels] = 1
        return shares
    if labels.ndim > 2:
        raise DTypeError(
            f"{name} mixes one class of each image (N,), or targets of floating-point numbers, got labels of"
            f" {labels.dtype} and shape {labels.shape}"
        )
    return labels.astype(np.float32)
