"""Transforms that change the values of pixels, not their places.

``N, C, H, W``: images, channels, height, width.
"""

from __future__ import annotations

from math import log
from typing import Any

from im2colnet.datasets.transforms.base import (
    ImageTransform,
    colour,
    colour_for,
    finite,
    interval,
    parts,
    probability,
    stored,
    working_type,
)
from im2colnet.datasets.transforms.draws import below, uniform, within
from im2colnet.errors import DataError, ShapeError
from im2colnet.host import np

#: the weights of red, green and blue in the brightness of a pixel, as in PIL and torchvision
LUMA = (0.2989, 0.587, 0.114)
#: the number of rectangles that RandomErasing draws for an image; if all are too large, the image is unchanged
ATTEMPTS = 10


class ColorJitter(ImageTransform):
    """Changes brightness, then contrast, then saturation by random factors, with the arguments of torchvision.

    With a factor f, a pixel p becomes ``f · p + (1 - f) · q``, clipped to black and white. For brightness q is black,
    for contrast it is the mean brightness of the image, and for saturation it is the pixel in grey.

    Parameters
    ----------
    brightness, contrast, saturation : float or (float, float)
        The limits of the factor; a single value means ``1 - value`` (at least 0) to ``1 + value``. With 0 the factor is
        1.

    Raises
    ------
    ShapeError
        If an argument is out of its range.
    DataError
        For floating-point images with numbers outside 0 to 1.

    Notes
    -----
    Images are uint8, or numbers from 0 to 1. The brightness of a pixel is ``0.2989 R + 0.587 G + 0.114 B``, or the mean
    of the channels if their number is not 3. torchvision applies the three changes in random order, and truncates uint8
    values; here they are rounded at the end.

    Examples
    --------
    >>> grey = np.full((4, 1, 2, 2), 100, np.uint8)
    >>> ic.transforms.ColorJitter(brightness=0.5)(grey)[:, 0, 0, 0]
    array([ 97, 128, 103, 118], dtype=uint8)
    """

    moves_pixels: bool = False

    def __init__(self, brightness: Any = 0.0, contrast: Any = 0.0, saturation: Any = 0.0) -> None:
        self.brightness = _range("brightness", brightness)
        self.contrast = _range("contrast", contrast)
        self.saturation = _range("saturation", saturation)

    def transform(self, images: np.ndarray, keys: np.ndarray) -> np.ndarray:
        white = 255 if images.dtype == np.uint8 else 1
        if images.dtype != np.uint8 and images.size and not (images.min() >= 0 and images.max() <= 1.001):
            raise DataError(
                f"ColorJitter is for uint8 images or numbers from 0 to 1, got {images.min():g} to {images.max():g}:"
                " normalize after it, with fit(..., normalize=True)"
            )
        found, draws = np.empty_like(images, order="C"), uniform(keys, 3)
        for part in parts(images):
            pixels = images[part].astype(working_type(images))
            self._change(pixels, draws[part], white)
            found[part] = stored(pixels, images.dtype)
        return found

    def _change(self, pixels: np.ndarray, draws: np.ndarray, white: int) -> None:
        for i, given in enumerate((self.brightness, self.contrast, self.saturation)):
            low, high = given if isinstance(given, tuple) else (max(0.0, 1 - given), 1 + given)
            if low == high == 1:
                continue
            factor = within((low, high), draws[:, i]).astype(pixels.dtype)[:, None, None, None]
            if i > 0:
                other = luma(pixels)
                pixels *= factor
                pixels += (1 - factor) * (mean(other) if i == 1 else other)
            else:
                pixels *= factor
            np.clip(pixels, 0, white, out=pixels)


def luma(pixels: np.ndarray) -> np.ndarray:
    """Return the brightness of pixels (N, C, H, W) as (N, 1, H, W)."""
    C = pixels.shape[1]
    weights = LUMA if C == 3 else (1 / C,) * C
    found = weights[0] * pixels[:, :1]
    for c in range(1, C):
        found += weights[c] * pixels[:, c : c + 1]
    return found


def mean(pixels: np.ndarray) -> np.ndarray:
    """Return the mean of each image (N, 1, H, W), as (N, 1, 1, 1); its bits do not depend on the other images."""
    means: np.ndarray = pixels.reshape(len(pixels), -1).astype(np.float64).mean(axis=1).astype(pixels.dtype)
    return means[:, None, None, None]


def _range(name: str, value: Any) -> float | tuple[float, float]:
    if isinstance(value, (tuple, list)):
        return interval("ColorJitter", name, value, 0, 1000)
    found = finite(f"ColorJitter: {name}", value)
    if not 0 <= found <= 999:
        raise ShapeError(f"ColorJitter: {name} must be a number from 0 to 999, or a pair of factors, got {value!r}")
    return found


class RandomErasing(ImageTransform):
    """Overwrites a random rectangle, with the arguments of torchvision (Zhong et al. 2017, arXiv:1708.04896).

    A similar method is cutout (DeVries & Taylor 2017, arXiv:1708.04552).

    Parameters
    ----------
    p : float
        The probability that an image is changed.
    scale : (float, float)
        The limits of the area of the rectangle, as a fraction of the area of the image.
    ratio : (float, float)
        The limits of height / width of the rectangle; its logarithm is uniform.
    value : number, or a sequence of numbers
        The value of the pixels in the rectangle, or a value for each channel, in the unit of the images: 0 to 255 for
        uint8.

    Raises
    ------
    ShapeError
        If an argument is out of its range.
    DTypeError
        For uint8 images, if ``value`` is not a whole number from 0 to 255.

    Examples
    --------
    >>> white = np.full((1, 1, 6, 6), 255, np.uint8)
    >>> ic.transforms.RandomErasing(p=1.0)(white)[0, 0]
    array([[255, 255, 255, 255, 255, 255],
           [255, 255, 255, 255, 255, 255],
           [255,   0, 255, 255, 255, 255],
           [255,   0, 255, 255, 255, 255],
           [255,   0, 255, 255, 255, 255],
           [255, 255, 255, 255, 255, 255]], dtype=uint8)
    """

    moves_pixels: bool = False

    def __init__(self, p: float = 0.5, scale: Any = (0.02, 0.33), ratio: Any = (0.3, 3.3), value: Any = 0.0) -> None:
        self.p = probability("RandomErasing", "p", p)
        self.scale = interval("RandomErasing", "scale", scale, 0, 1)
        self.ratio = interval("RandomErasing", "ratio", ratio, 0.001, 1000)
        self.value = colour("RandomErasing", "value", value)

    def transform(self, images: np.ndarray, keys: np.ndarray) -> np.ndarray:
        N, _, H, W = images.shape
        draws = uniform(keys, 3 + 2 * ATTEMPTS)
        area = H * W * within(self.scale, draws[:, 3 : 3 + ATTEMPTS])
        low, high = map(log, self.ratio)
        ratio = np.exp(within((low, high), draws[:, 3 + ATTEMPTS :]))
        h, w = np.rint(np.sqrt(area * ratio)), np.rint(np.sqrt(area / ratio))  # (N, ATTEMPTS)
        fits = (h < H) & (w < W)
        first = np.arange(N), fits.argmax(axis=1)
        h, w, erased = h[first].astype(np.intp), w[first].astype(np.intp), fits.any(axis=1) & (draws[:, 0] < self.p)
        top, left = below(draws[:, 1], np.maximum(H - h + 1, 1)), below(draws[:, 2], np.maximum(W - w + 1, 1))
        inside = rectangles(top, top + h * erased, left, left + w, H, W)
        return np.where(inside, colour_for("RandomErasing", "value", self.value, images), images)


def rectangles(top: Any, bottom: Any, left: Any, right: Any, H: int, W: int) -> np.ndarray:
    """Return for each pixel whether it is in its image's rectangle, (N, 1, H, W); ``bottom``, ``right`` are outside."""
    rows, columns = np.arange(H), np.arange(W)
    vertical = (top[:, None] <= rows) & (rows < bottom[:, None])  # (N, H)
    horizontal = (left[:, None] <= columns) & (columns < right[:, None])  # (N, W)
    inside: np.ndarray = vertical[:, None, :, None] & horizontal[:, None, None, :]
    return inside
