"""Means and standard deviations that normalize the images of a network, for each channel."""

from __future__ import annotations

from math import isfinite
from numbers import Real
from typing import Any, NamedTuple

from im2colnet.checks import is_truth_value
from im2colnet.errors import ShapeError


class Normalization(NamedTuple):
    """The mean that is subtracted from each channel, and the standard deviation that it is divided by."""

    mean: tuple[float, ...]
    std: tuple[float, ...]

    @classmethod
    def of(cls, given: Any) -> Normalization | None:
        """Return a pair (mean per channel, std per channel) as a Normalization; None stays None.

        Raises
        ------
        ShapeError
            If the argument is not such a pair.
        """
        if given is None:
            return None
        try:
            mean, std = (tuple(map(_number, each)) for each in given)
        except (TypeError, ValueError):
            mean = std = ()
        if not mean or len(mean) != len(std) or min(std) <= 0:
            raise ShapeError(
                "normalization must be None or a pair (mean of each channel, standard deviation of each channel), of"
                f" numbers, and the deviations more than 0, got {given!r:.200}"
            )
        return cls(mean, std)

    def check(self, shape: tuple[int, ...]) -> None:
        """Raise a ShapeError unless images of a shape (N, C, ...) have the right number of channels."""
        if shape[1] != len(self.mean):
            raise ShapeError(
                f"the images have {shape[1]} channels (shape {shape}), but net.normalization has {len(self.mean)} means"
            )

    def __str__(self) -> str:
        return f"mean {_short(self.mean)}, standard deviation {_short(self.std)}"


def _number(value: Any) -> float:
    if is_truth_value(value) or not isinstance(value, Real) or not isfinite(value):
        raise TypeError
    return float(value)


def _short(values: tuple[float, ...]) -> str:
    return ", ".join(f"{value:.4g}" for value in values[:4]) + ", ..." * (len(values) > 4)
