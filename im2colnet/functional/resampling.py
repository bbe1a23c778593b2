"""Images of another size."""

from __future__ import annotations

from typing import Any

from im2colnet.backend import Backend
from im2colnet.errors import ShapeError
from im2colnet.functional.applying import apply_to_samples
from im2colnet.functional.arguments import check_filled, check_rank, on_arrays
from im2colnet.layers import Upsample
from im2colnet.types import Array

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
    """Resize images by interpolation.

    Parameters
    ----------
    input : Array, (N, C, H, W)
        Images.
    size : int or (height, width), optional
        Size of the result.
    scale_factor : float or (height, width), optional
        Factor of the input's size, in place of ``size``. The size of the result is the product, rounded down.
    mode : {"nearest", "bilinear", "bicubic"}
        How a pixel is interpolated from the input's pixels.
    align_corners : bool, optional
        For "bilinear" and "bicubic": see :class:`im2colnet.Upsample`.
    recompute_scale_factor : bool, optional
        Whether to compute the scale again from the sizes of input and result: see :class:`im2colnet.Upsample`.

    Returns
    -------
    Array, (N, C, OH, OW)
        The images in their new size.

    Raises
    ------
    ShapeError, DTypeError
        If the arguments do not fit together; the message names them.

    See Also
    --------
    im2colnet.Upsample : The layer, with references.

    Examples
    --------
    >>> x = np.array([[[[0.0, 8.0]]]])
    >>> F.interpolate(x, scale_factor=(1, 2), mode="bilinear")
    array([[[[0., 2., 6., 8.]]]])
    """
    check_rank("input", input, 4, meaning=", (N, C, H, W)")
    check_filled("input", input, input.shape[1:])
    if (size is None) == (scale_factor is None):
        raise ShapeError(f"one of size and scale_factor must be given, got {size!r} and {scale_factor!r}")
    layer = Upsample(scale_factor, size, mode, align_corners, recompute_scale_factor)
    return apply_to_samples(layer, input, backend)
