"""The decision whether a fast algorithm is accurate for given numbers, or the plain algorithm is needed.

A fast algorithm multiplies more numbers than the window of an output: Winograd's transforms add up a whole tile and
cancel the numbers outside the window, and a band matrix multiplies them by zero. That is as accurate as the plain
algorithm if the numbers of an image have about the same size. It is not accurate if one of them is so large that the
rounding errors of its products exceed the other products, or is infinite or NaN: 0 times that is NaN.

So each call of such an algorithm checks its numbers first, or checks its results. If a check fails, the plain algorithm
computes the results of the call. The decision depends only on the numbers, not on the worker.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache, partial
from math import isfinite, prod

import numpy as np

from im2colnet.types import Call, Shape, Spec, run
from im2colnet_numpy.activation import ones

RATIO = 1 << 8  # a pixel is small if the largest of its image is at least this many times as large
MOST_SMALL = 1 / 3  # part of an image's pixels that may be small; if more are, the largest ones are outliers
HUGE = 1 << 12  # a pixel of zeros counts as small only if the largest of its image is beyond this
LIMIT = 3e13  # images and weights must be smaller, so that Winograd's sums of products are finite
TOGETHER = 4  # pixels below each other that are summed up together, at most
GROUPS = 8  # groups of such pixels that an image's height must be divided into, at least
MANY = 64  # channels from which on there are two sums for a group of pixels, not one
UNEVEN = object()  # a call returns it when it has found numbers of very different sizes


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


def checked(calls: Iterable[Call], otherwise: Call) -> Call:
    """Return the call that makes ``calls``, without warnings, until one returns UNEVEN; then it makes the other one."""
    calls = list(calls)

    def call() -> None:
        with np.errstate(all="ignore"):
            for one in calls:
                if one() is UNEVEN:
                    break
            else:
                return
        otherwise()

    return call


class Pixels:
    """Images (H, C, W, N) that are looked at: sums of their channels, made while their rows are read anyway."""

    def __init__(self, x: np.ndarray, scratch: np.ndarray) -> None:
        H, C, W, N = x.shape
        self.x, self.factors, self.done = x, _factors(H, C), 0
        self.together = self.factors.shape[1] // C
        self.shape = H // self.together * len(self.factors), W, N  # of all sums of images
        self.sums = scratch[: prod(self.shape)].reshape(H // self.together, len(self.factors), W * N)
        self.calls: list[Call] = []

    @staticmethod
    def spec(x: Shape) -> Spec:
        """Scratch for the sums of these images."""
        H, C, W, N = x
        together, count = sums(H, C)
        return Spec((H // together * count * W * N,), "float32")

    def until(self, row: int) -> Iterator[Call]:
        """Add the rows before this one that are not added yet; after the last row, check the sums."""
        rows = slice(self.done, max(self.done, row // self.together))
        if rows.stop > rows.start:
            x = self.x[rows.start * self.together : rows.stop * self.together]
            self.calls.append(self._sum(x, self.sums[rows]))
            self.done = rows.stop
            yield self.calls[-1]
            if self.done == len(self.sums):
                yield self.look

    def _sum(self, x: np.ndarray, out: np.ndarray) -> Call:
        shape = len(out), -1, out.shape[2]
        if x.flags.c_contiguous:
            return partial(np.matmul, self.factors, x.reshape(shape), out)
        return lambda: np.matmul(self.factors, x.reshape(shape), out)  # of a copy of what x holds then

    def look(self) -> object:
        """Return UNEVEN if an image has outliers, NaN, infinity or numbers beyond LIMIT; the sums are overwritten."""
        if _even_together(self.sums.reshape(self.shape)):
            return None
        run(self.calls)
        return None if _even(self.sums.reshape(self.shape)) else UNEVEN


def _even_together(pixels: np.ndarray) -> bool:
    """Whether all images are even when their pixels are compared with the largest pixel of all images.

    That implies :func:`_even`, and takes fewer calls of NumPy, which each call of a kernel would pay for.
    """
    H, W, N = pixels.shape
    flat = pixels.reshape(-1)
    np.absolute(flat, out=flat)
    top = float(np.maximum.reduce(flat))
    # no pixel adds more to a total than the bound, and one that is not small adds as much
    np.minimum(flat, top / RATIO, out=flat)
    total = np.matmul(ones(H * W, flat.dtype), flat.reshape(H * W, N))
    return top < LIMIT and bool(np.minimum.reduce(total) >= H * W * (1 - MOST_SMALL) * top / RATIO)  # not NaN


def _even(pixels: np.ndarray) -> bool:
    """Whether in no image (H, W) of pixels (H, W, N) more than a part, MOST_SMALL, is small beside the largest."""
    H, W, _ = pixels.shape
    np.absolute(pixels, out=pixels)
    largest = pixels.max(axis=(0, 1))  # (N,)
    small = largest * np.float32(1 / RATIO)
    there = np.where(largest < HUGE, np.count_nonzero(pixels, axis=(0, 1)), H * W)
    total = np.minimum(pixels, small, out=pixels).sum(axis=(0, 1))
    return bool(largest.max() < LIMIT and (total >= there * small * np.float32(1 - MOST_SMALL)).all())


def taps(w: np.ndarray) -> Iterator[Call]:
    """Look at a weight (F, r, r, C); the last call returns UNEVEN if a filter's taps differ by RATIO, or for NaN."""
    F, KH, KW, _ = w.shape
    squares = np.empty((KH * KW, F), w.dtype)  # summed up over the channels
    yield partial(np.vecdot, w, w, out=squares.T.reshape(F, KH, KW))

    def look() -> object:
        most, least = float(np.maximum.reduce(squares, axis=None)), float(np.minimum.reduce(squares, axis=None))
        # each filter is judged by its own largest only where that of all does not show it
        even = least * RATIO**2 >= most or (squares.min(axis=0) * np.float32(RATIO**2) >= squares.max(axis=0)).all()
        return None if even and most < LIMIT**2 else UNEVEN

    yield look


def sums(H: int, C: int) -> tuple[int, int]:
    """Pixels below each other, of C channels, that are summed up together, and how many different sums stand for them.

    With many channels the sums cost little, and a large number does not cancel by chance in both of two sums.
    """
    together = max(g for g in range(1, TOGETHER + 1) if g == 1 or (H % g == 0 and H // g >= GROUPS))
    return together, 2 if C >= MANY else 1


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
    for row in factors.reshape(-1, C):  # one row for each pixel
        for c in range(C):
            if row.sum() < np.sqrt(C):
                row[c] = abs(row[c])
    factors.flags.writeable = False
    return factors
