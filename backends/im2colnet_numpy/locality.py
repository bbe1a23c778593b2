"""Whether a fast algorithm may take these numbers, or textbook arithmetic must.

A fast algorithm multiplies more than the windows of an output: Winograd's transforms add up all of a tile and cancel
what does not belong to an output, a band matrix multiplies it by zero. That is as good as textbook arithmetic while the
numbers of an image are of about one size. It is not where one of them is so large that the rounding of its products
exceeds the others, or is infinite or NaN: 0 times that is NaN.

So each call of such an algorithm looks at its numbers too, or at what they left in its results, and does it again as
the textbook does where they are of the second kind. That depends on the numbers alone, not on who works.
"""
from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import lru_cache, partial
from math import isfinite, prod

import numpy as np

from im2colnet.backend import Call, Shape, Spec, run
from im2colnet_numpy.channels import ones

RATIO = 1 << 8       # a pixel so many times as small as the largest of its image is a small one, and of these
MOST_SMALL = 1 / 3   # an image has at most so many, or its largest are outliers
HUGE = 1 << 12       # if they are that large, a pixel of zeros is a small one too
LIMIT = 1e27         # of a product of an image's largest with a weight's, or of images': Winograd's sums are finite
SUMMED, GROUPS = 64, 8   # numbers summed up, of a pixel and of others below it, if so many such groups are left


def finite(x: np.ndarray) -> bool:
    """Whether ``x`` (..., n), whose rows lie in memory, is free of NaN and infinity."""
    with np.errstate(all="ignore"):
        return isfinite(np.add.reduce(np.vecdot(x, x), axis=None)) or bool(np.isfinite(x).all())  # if squares overflow


def finite_weight(w: np.ndarray) -> bool:
    """Whether a weight, or its gradient, is free of NaN and infinity, in whatever order it is stored."""
    return finite(w.ravel(order="K"))


def unless(check: Callable[[], bool], otherwise: Call) -> Call:
    """Return the call that makes the other one if the check does not hold."""

    def call() -> None:
        if not check():
            otherwise()

    return call


def checked(calls: Iterable[Call], check: Callable[[], bool], otherwise: Call) -> Call:
    """Return the call that makes ``calls``, and then the other one if the check does not hold, without warnings."""
    calls = list(calls)

    def call() -> None:
        with np.errstate(all="ignore"):
            run(calls)
            right = check()
        if not right:
            otherwise()

    return call


class Pixels:
    """Images (H, C, W, N) that are looked at: sums of their channels, made while their rows are read anyway."""

    def __init__(self, x: np.ndarray, scratch: np.ndarray) -> None:
        H, C, W, self.N = x.shape
        self.x, self.factors, self.done = x, _factors(H, C), 0
        self.together = self.factors.shape[1] // C
        shape = H // self.together, len(self.factors), W * self.N
        self.sums = scratch[: prod(shape)].reshape(shape)

    @staticmethod
    def spec(*shapes: Shape) -> Spec:
        """Scratch for so many images, a row for each."""
        most = max(H // sums(H, C)[0] * sums(H, C)[1] * W * N for H, C, W, N in shapes)
        return Spec((len(shapes), most), "float32")

    def until(self, row: int) -> Iterator[Call]:
        """Sum up what has not been of the rows before this one."""
        rows = slice(self.done, max(self.done, row // self.together))
        if rows.stop > rows.start:
            yield self._sum(self.x[rows.start * self.together : rows.stop * self.together], self.sums[rows])
            self.done = rows.stop

    def _sum(self, x: np.ndarray, out: np.ndarray) -> Call:
        shape = len(out), -1, out.shape[2]
        if x.flags.c_contiguous:
            return partial(np.matmul, self.factors, x.reshape(shape), out)
        return lambda: np.matmul(self.factors, x.reshape(shape), out)      # of a copy of what x holds then

    def largest(self) -> float:
        """Return the largest sum, in size; infinity if an image's are not of one size. The sums are overwritten."""
        return _largest(self.sums.reshape(-1, self.sums.shape[2]), self.N)


def even(images: Sequence[Pixels], w: np.ndarray | None) -> bool:
    """Whether Winograd's algorithm may multiply these images by each other, or by a weight (F, 3, 3, C).

    Neither an image nor a filter has a few pixels, or taps, that are far larger than the others, nor NaN nor infinity,
    and nothing overflows.
    """
    with np.errstate(all="ignore"):
        product = prod(pixels.largest() for pixels in images)
        if w is not None:
            taps = np.vecdot(w, w)                                                      # (F, 3, 3)
            most = np.maximum.reduce(taps, axis=(1, 2))
            if not (np.minimum.reduce(taps, axis=(1, 2)) * np.float32(RATIO**2) >= most).all():
                return False
            product *= float(most.max()) ** 0.5
    return product < LIMIT           # not if it is NaN


def _largest(pixels: np.ndarray, N: int) -> float:
    """Return the largest number of pixels (H, W·N) of N images, in size; infinity if an image's are not of one size.

    The pixels are overwritten.
    """
    H, W = len(pixels), pixels.shape[1] // N
    np.absolute(pixels, pixels)
    bound = np.maximum.reduce(pixels, axis=0).reshape(W, N)
    largest = np.maximum.reduce(bound, axis=0)
    top, small = float(largest.max()), largest * np.float32(1 / RATIO)
    bound[...] = small
    np.minimum(pixels, bound.reshape(-1), out=pixels)         # of an image without small ones all are the bound now
    total = np.matmul(ones(H, pixels.dtype), pixels).reshape(W, N).sum(axis=0)
    least = small * np.float32(1 - MOST_SMALL)
    if not (total >= H * W * least).all():
        there = np.where(largest < HUGE, np.count_nonzero(pixels.reshape(H * W, N), axis=0), H * W)
        if not (total >= there * least).all():
            return np.inf
    return top


def sums(H: int, C: int) -> tuple[int, int]:
    """Pixels below each other, of C channels, that are summed up together, and how many different sums stand for them.

    Of many channels the sums cost little, and with two of them what is large does not cancel by chance in both.
    """
    together = max(g for g in range(1, H + 1) if g == 1 or (H % g == 0 and g * C <= SUMMED and H // g >= GROUPS))
    return together, 2 if C >= SUMMED else 1


@lru_cache(maxsize=256)
def _factors(H: int, C: int) -> np.ndarray:
    """Factors (sums, pixels·C) of the numbers in the sums that stand for pixels, of a size between 2/3 and 2.

    Their signs are drawn, so that a sum is as large as a sum of products with weights is; of channels that are all the
    same too.
    """
    together, count = sums(H, C)
    length = together * C
    factors: np.ndarray = np.random.Generator(np.random.PCG64(C)).random((count, length), "f4") * 4 - 2
    factors += np.copysign(1, factors)
    factors *= np.float32(2 / 3)
    for row in factors.reshape(-1, C):       # of each pixel
        for c in range(C):
            if row.sum() < np.sqrt(C):
                row[c] = abs(row[c])
    factors.flags.writeable = False
    return factors
