"""Transforms that move pixels: cropping, flipping, and affine maps.

``N, C, H, W``: images, channels, height, width.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from im2colnet.checks import one_of, whole
from im2colnet.datasets.transforms.base import (
    ImageTransform,
    colour,
    colour_for,
    finite,
    interval,
    probability,
    size_of,
    stored,
    working_type,
)
from im2colnet.datasets.transforms.draws import below, uniform, within
from im2colnet.errors import ShapeError
from im2colnet.host import np

#: number of output pixels of one channel that are interpolated at a time: what is computed of them stays in the cache
BAND = 1 << 14


class RandomCrop(ImageTransform):
    """Crops images at a random place, after optional padding (as in torchvision).

    Parameters
    ----------
    size : int or (int, int), optional
        Height and width of the result. By default the size of the images.
    padding : int
        The number of pixels that are added on each side before cropping. All possible places are equally likely.
    fill : number, or a sequence of numbers
        The value of the added pixels, or a value for each channel, in the unit of the images: 0 to 255 for uint8.
    padding_mode : {"constant", "edge", "reflect", "symmetric"}
        The kind of padding: "constant" is ``fill``, "edge" repeats the pixel at the edge, "reflect" mirrors the image
        without the pixel at the edge, "symmetric" with it.

    Raises
    ------
    ShapeError
        If an argument is out of its range, or neither ``size`` nor ``padding`` is given; also for images that are
        smaller than ``size`` after padding.
    DTypeError
        For uint8 images, if ``fill`` is not a whole number from 0 to 255.

    Examples
    --------
    >>> image = np.arange(1, 10, dtype=np.uint8).reshape(1, 1, 3, 3)
    >>> ic.transforms.RandomCrop(padding=1)(image)[0, 0]
    array([[2, 3, 0],
           [5, 6, 0],
           [8, 9, 0]], dtype=uint8)
    """

    def __init__(self, size: Any = None, padding: int = 0, fill: Any = 0.0, padding_mode: str = "constant") -> None:
        if isinstance(size, (tuple, list)) and len(size) == 2:
            self.size: Any = tuple(whole("RandomCrop: each of size", each) for each in size)
        else:
            self.size = None if size is None else whole("RandomCrop: size", size)
        self.padding = whole("RandomCrop: padding", padding, least=0)
        self.fill = colour("RandomCrop", "fill", fill)
        self.padding_mode = one_of("RandomCrop: padding_mode", padding_mode, "constant", "edge", "reflect", "symmetric")
        if self.size is None and not self.padding:
            raise ShapeError("RandomCrop changes nothing without size or padding: give padding=4, for example")

    def transform(self, images: np.ndarray, keys: np.ndarray) -> np.ndarray:
        H, W = self.size if isinstance(self.size, tuple) else (self.size or n for n in images.shape[2:])
        padded = self._padded(images)
        room = padded.shape[2] - H, padded.shape[3] - W
        if min(room) < 0:
            raise ShapeError(
                f"RandomCrop: size {H}×{W} is larger than the images, which are {padded.shape[2]}×{padded.shape[3]}"
                " with their padding"
            )
        down, right = (below(draw, size + 1) for draw, size in zip(uniform(keys, 2).T, room, strict=True))
        parts = np.lib.stride_tricks.sliding_window_view(padded, (H, W), axis=(2, 3))  # (N, C, places, places, H, W)
        found: np.ndarray = parts[np.arange(len(images)), :, down, right]
        return found

    def _padded(self, images: np.ndarray) -> np.ndarray:
        p = self.padding
        if p == 0:
            return images
        if self.padding_mode == "constant":
            return framed(images, p, colour_for("RandomCrop", "fill", self.fill, images))
        most = min(images.shape[2:]) - (self.padding_mode == "reflect")
        if self.padding_mode != "edge" and p > most:
            raise ShapeError(
                f"RandomCrop: padding={p} is too large for images of {size_of(images)}, which have no more than {most}"
                f" pixels to mirror with padding_mode={self.padding_mode!r}"
            )
        return np.pad(images, ((0, 0), (0, 0), (p, p), (p, p)), self.padding_mode)


def framed(images: np.ndarray, p: int, fill: np.ndarray) -> np.ndarray:
    """Return images (N, C, H, W) with ``p`` more pixels on each side, which have the values ``fill``."""
    N, C, H, W = images.shape
    found = np.empty((N, C, H + 2 * p, W + 2 * p), images.dtype)
    found[...] = fill
    found[:, :, p : p + H, p : p + W] = images
    return found


class Flip(ImageTransform):
    """Base of the transforms that flip images along one axis, with a given probability."""

    #: the axis of images (N, C, H, W)
    axis: int

    def __init__(self, p: float = 0.5) -> None:
        self.p = probability(type(self).__name__, "p", p)

    def transform(self, images: np.ndarray, keys: np.ndarray) -> np.ndarray:
        found, chosen = images.copy(), uniform(keys, 1)[:, 0] < self.p
        found[chosen] = np.flip(images[chosen], self.axis)
        return found


class RandomHorizontalFlip(Flip):
    """Flips images horizontally, left to right, with a given probability (as in torchvision).

    Parameters
    ----------
    p : float
        The probability that an image is flipped.

    Raises
    ------
    ShapeError
        If an argument is out of its range.

    Examples
    --------
    >>> image = np.arange(1, 10, dtype=np.uint8).reshape(1, 1, 3, 3)
    >>> ic.transforms.RandomHorizontalFlip(p=1.0)(image)[0, 0]
    array([[3, 2, 1],
           [6, 5, 4],
           [9, 8, 7]], dtype=uint8)
    """

    axis = 3


class RandomVerticalFlip(Flip):
    """Flips images vertically, top to bottom, with a given probability (as in torchvision).

    Parameters
    ----------
    p : float
        The probability that an image is flipped.

    Raises
    ------
    ShapeError
        If an argument is out of its range.

    Examples
    --------
    >>> image = np.arange(1, 10, dtype=np.uint8).reshape(1, 1, 3, 3)
    >>> ic.transforms.RandomVerticalFlip(p=1.0)(image)[0, 0]
    array([[7, 8, 9],
           [4, 5, 6],
           [1, 2, 3]], dtype=uint8)
    """

    axis = 2


class RandomAffine(ImageTransform):
    """Rotates, translates, scales and shears images about their center, bilinearly interpolated (as in torchvision).

    Parameters
    ----------
    degrees : float or (float, float)
        The limits of the rotation angle in degrees, clockwise; a single number means ``-degrees`` to ``degrees``.
    translate : (float, float), optional
        The largest translation, as a fraction of the width and of the height, in whole pixels. By default images are
        not translated.
    scale : (float, float), optional
        The limits of the scale factor. By default the factor is 1.
    shear : float or (float, float), optional
        The limits of the angle, in degrees, of a shear along the rows; a single number means ``-shear`` to ``shear``.
        By default images are not sheared.
    fill : number, or a sequence of numbers
        The value of the pixels outside of the image, or a value for each channel, in the unit of the images.

    Raises
    ------
    ShapeError
        If an argument is out of its range.
    DTypeError
        For uint8 images, if ``fill`` is not a whole number from 0 to 255.

    Notes
    -----
    ``fill`` is interpolated with the pixels at the edge. torchvision does the same if ``fill`` is None; with a number
    it weights these pixels twice. Its ``interpolation`` is "nearest" by default.

    Examples
    --------
    >>> image = np.arange(1, 10, dtype=np.uint8).reshape(1, 1, 3, 3)
    >>> ic.transforms.RandomAffine((90, 90))(image)[0, 0]  # clockwise
    array([[7, 4, 1],
           [8, 5, 2],
           [9, 6, 3]], dtype=uint8)
    """

    def __init__(
        self, degrees: Any, translate: Any = None, scale: Any = None, shear: Any = None, fill: Any = 0.0
    ) -> None:
        self.degrees, self.shear = _angles("degrees", degrees), None if shear is None else _angles("shear", shear)
        self.translate = None if translate is None else _parts(translate)
        self.scale = None if scale is None else interval("RandomAffine", "scale", scale, 0.001, 1000)
        self.fill = colour("RandomAffine", "fill", fill)
        if self.shear is not None and not all(-90 < angle < 90 for angle in _limits(self.shear)):
            raise ShapeError(f"RandomAffine: shear must be between -90 and 90 degrees, got {shear!r}")

    def transform(self, images: np.ndarray, keys: np.ndarray) -> np.ndarray:
        H, W = images.shape[2:]
        draws = uniform(keys, 5)
        angle = np.radians(within(_limits(self.degrees), draws[:, 0]))
        right, down = ((2 * draws[:, i] - 1) * part for i, part in ((1, W), (2, H)))
        if self.translate is None:
            right, down = 0 * right, 0 * down
        else:
            right, down = np.rint(right * self.translate[0]), np.rint(down * self.translate[1])
        factor = within(self.scale or (1.0, 1.0), draws[:, 3])
        shear = np.radians(within(_limits(self.shear or 0.0), draws[:, 4]))
        return warped(images, inverse(angle, factor, shear), right, down, self.fill)


def _angles(name: str, value: Any) -> float | tuple[float, float]:
    if isinstance(value, (tuple, list)):
        return interval("RandomAffine", name, value, -360, 360)
    found = abs(finite(f"RandomAffine: {name}", value))
    if found > 360:
        raise ShapeError(f"RandomAffine: {name} must be a number from 0 to 360, or a pair of angles, got {value!r}")
    return found


def _limits(angles: float | tuple[float, float]) -> tuple[float, float]:
    return angles if isinstance(angles, tuple) else (-angles, angles)


def _parts(value: Any) -> tuple[float, float]:
    try:
        across, along = value
    except (TypeError, ValueError):
        raise ShapeError(
            f"RandomAffine: translate must be a pair (part of the width, part of the height), got {value!r}"
        ) from None
    return probability("RandomAffine", "translate", across), probability("RandomAffine", "translate", along)


def inverse(angle: np.ndarray, factor: np.ndarray, shear: np.ndarray) -> np.ndarray:
    """Return the inverse of rotation · scale · shear, as (N, 2, 2) matrices that act on (x, y).

    Their elements are rounded to multiples of 2^-24, so that the last bit of a platform's sine does not matter.
    """
    cos, sin, tan = np.cos(angle), np.sin(angle), np.tan(shear)
    # the shear [[1, -tan], [0, 1]] comes first, then the rotation [[cos, -sin], [sin, cos]]
    rows = [[cos - tan * sin, sin + tan * cos], [-sin, cos]]
    matrix = np.array(rows).transpose(2, 0, 1) / factor[:, None, None]
    found: np.ndarray = np.rint(matrix * 2.0**24) * 2.0**-24
    return found


def warped(images: np.ndarray, matrix: np.ndarray, right: np.ndarray, down: np.ndarray, fill: Any) -> np.ndarray:
    """Return images with the pixel at ``p``, from the center, interpolated at ``matrix @ (p - (right, down))``.

    Parameters
    ----------
    images : (N, C, H, W) array
    matrix : (N, 2, 2) array
    right, down : (N,) arrays
        The translation in pixels.
    fill : float or tuple of float
        The value outside of the image.
    """
    N, C, H, W = images.shape
    frame = framed(images, 1, colour_for("RandomAffine", "fill", fill, images))
    planes = frame.reshape(-1)  # (N * C * (H+2) * (W+2),): a pixel and its neighbour below are W + 2 numbers apart
    starts = (np.arange(N * C) * (H + 2) * (W + 2)).reshape(N, C, 1)
    found, kind = np.empty_like(images, order="C"), working_type(images)
    for some, rows in bands(N, H, W):
        x = (np.arange(W) - (W - 1) / 2) - right[some, None]  # (n, W)
        y = (np.arange(H)[rows] - (H - 1) / 2) - down[some, None]  # (n, h)
        corner, fractions = [], []
        for (a, b), size in zip(matrix[some].transpose(1, 2, 0), (W, H), strict=True):
            at = (a[:, None] * x)[:, None, :] + (b[:, None] * y)[:, :, None]  # (n, h, W): the source of each pixel
            at += (size + 1) / 2  # from the center of the frame's first pixel
            np.clip(at, 0, size + 1, out=at)
            first = np.minimum(np.floor(at), size)
            fractions.append((at - first).astype(kind).reshape(len(x), 1, -1))
            corner.append(first.astype(np.intp).reshape(len(x), 1, -1))
        i = starts[some] + corner[1] * (W + 2) + corner[0]  # (n, C, h * W)
        a, b, c, d = (planes[k:].take(i, mode="clip").astype(kind) for k in (0, 1, W + 2, W + 3))
        between(a, b, fractions[0])
        between(c, d, fractions[0])
        between(a, c, fractions[1])
        found[some, :, rows] = stored(a, images.dtype).reshape(len(x), C, -1, W)
    return found


def between(a: np.ndarray, b: np.ndarray, fraction: np.ndarray) -> None:
    """Set ``a`` to a + fraction · (b - a); ``b`` is overwritten."""
    b -= a
    b *= fraction
    a += b


def bands(N: int, H: int, W: int) -> Iterator[tuple[slice, slice]]:
    """Yield parts of a batch, as slices of images and of rows, of about ``BAND`` pixels each."""
    images, rows = max(1, BAND // (H * W)), max(1, min(H, BAND // W))
    for n in range(0, N, images):
        for h in range(0, H, rows):
            yield slice(n, n + images), slice(h, h + rows)
