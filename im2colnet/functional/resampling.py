"""Images of another size."""

from __future__ import annotations

from typing import Any

from im2colnet.backend import Backend
from im2colnet.checks import more_than_zero, truth_value
from im2colnet.errors import ShapeError
from im2colnet.functional.applying import apply_to_samples
from im2colnet.functional.arguments import check_rank, on_arrays
from im2colnet.layers import Upsample
from im2colnet.types import Array, Shape

__all__ = ["interpolate"]


@on_arrays("input")
def interpolate(
    backend: Backend,
    input: Array,
    size: Any = None,
    scale_factor: Any = None,
    mode: str = "nearest",
    align_corners: bool | None = None,
    recompute_scale_factor: bool | None = None,
) -> Array:
    """Images of another size, each pixel taken from the nearest ones of the input.

    Parameters
    ----------
    input : (N, C, H, W)
    size : int or (height, width), optional
    scale_factor : float or (height, width), optional
        In place of ``size``, which is its product with that of the input. If that is no whole number,
        ``recompute_scale_factor=True`` must say that it is rounded down.
    mode : {"nearest", "bilinear"}
    align_corners : bool, optional
        Of "bilinear": see :class:`im2colnet.Upsample`.
    recompute_scale_factor : bool, optional
    """
    check_rank("input", input, 4, meaning=", (N, C, H, W)")
    if 0 in input.shape[1:]:
        raise ShapeError(f"input is empty: shape {input.shape}")
    if (size is None) == (scale_factor is None):
        raise ShapeError(f"one of size and scale_factor must be given, got {size!r} and {scale_factor!r}")
    rounds = recompute_scale_factor is not None and truth_value("recompute_scale_factor", recompute_scale_factor)
    if size is None:
        size = _scaled(input.shape[2:], scale_factor, rounds)
    elif rounds:
        raise ShapeError("recompute_scale_factor is for scale_factor, not for size")
    return apply_to_samples(Upsample(size=size, mode=mode, align_corners=align_corners), input, backend)


def _scaled(sizes: Shape, factor: Any, rounds: bool) -> tuple[int, ...]:
    """Return the sizes times the factor, or the two factors."""
    factors = list(factor) if hasattr(factor, "__iter__") and not isinstance(factor, str) else [factor, factor]
    if len(factors) != 2:
        raise ShapeError(f"scale_factor must be a number or two, (height, width), got {factor!r}")
    found = [n * more_than_zero("scale_factor", one) for n, one in zip(sizes, factors, strict=True)]
    if not rounds and any(n != int(n) for n in found):
        raise ShapeError(
            f"scale_factor={factor!r} makes no whole number of pixels of {tuple(sizes)}: give a size, or"
            " recompute_scale_factor=True to round down"
        )
    return tuple(int(n) for n in found)
