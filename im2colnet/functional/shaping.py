"""What changes the shape, not the numbers."""

from __future__ import annotations

from math import inf, prod
from operator import index
from typing import Any

from im2colnet.backend import Backend
from im2colnet.checks import is_truth_value, number, one_of
from im2colnet.errors import ShapeError
from im2colnet.functional.applying import apply, apply_to_samples, beside_channels
from im2colnet.functional.arguments import on_arrays
from im2colnet.layers import (
    ChannelShuffle,
    CircularPad2d,
    PixelShuffle,
    PixelUnshuffle,
    ReflectionPad2d,
    ReplicationPad2d,
)
from im2colnet.types import Array

__all__ = ["channel_shuffle", "pad", "pixel_shuffle", "pixel_unshuffle"]

#: the layers that pad images with pixels of their own
PADDINGS = {"reflect": ReflectionPad2d, "replicate": ReplicationPad2d, "circular": CircularPad2d}


@on_arrays("input")
def pad(backend: Backend, input: Array, pad: Any, mode: str = "constant", value: float | None = None) -> Array:
    """Pad an array.

    Parameters
    ----------
    input : Array
        Array of any shape for "constant". For the other modes its shape is (N, C, H, W) or (C, H, W), or, if only the
        last axis is padded, (N, C, L) or (C, L).
    pad : sequence of int
        Pairs (before, after), first for the last axis, then for the second to last, and so on: (left, right, top,
        bottom) for images. A negative number removes elements.
    mode : {"constant", "reflect", "replicate", "circular"}
        "constant" pads with ``value``; "reflect" mirrors at the outermost pixels, which are not repeated; "replicate"
        repeats them; "circular" uses the pixels of the opposite side.
    value : float, optional
        The padding value for "constant", by default 0.

    Returns
    -------
    Array
        The padded array.

    Raises
    ------
    ShapeError, DTypeError
        If the arguments do not fit together; the message names them.

    Examples
    --------
    >>> F.pad(np.array([[1.0, 2.0, 3.0]]), (2, 1), mode="reflect")
    array([[3., 2., 1., 2., 3., 2.]])
    """
    sides = _sides(pad, input.ndim)
    if one_of("mode", mode, "constant", *PADDINGS) == "constant":
        return _padded_with(0.0 if value is None else number("value", value, least=-inf), backend, input, sides)
    if value is not None and value != 0:
        raise ShapeError(f'value is for mode="constant" alone, got value={value!r} and mode={mode!r}')
    axes = len(sides)
    if axes not in (1, 2) or input.ndim not in (axes + 1, axes + 2):
        raise ShapeError(
            f"mode={mode!r} pads the last two axes of (N, C, H, W) or (C, H, W), or the last one of (N, C, L) or"
            f" (C, L), got {len(pad)} numbers in pad for input of shape {input.shape}"
        )
    places = input.shape[-axes:]
    images = input.reshape(prod(input.shape[:-axes]), 1, *(1,) * (2 - axes), *places)
    layer = PADDINGS[mode]([side for both in [*sides, (0, 0)][:2] for side in both])
    y = apply_to_samples(layer, images, backend)
    return y.reshape(*input.shape[:-axes], *y.shape[-axes:])


def _sides(pad: Any, axes: int) -> list[tuple[int, int]]:
    """Return the numbers (before, after) of the last axis, of the last but one, and so on."""
    try:
        found = [index(n) for n in pad if not is_truth_value(n)]
        valid = len(found) == len(list(pad)) and not len(found) % 2 and len(found) <= 2 * axes
    except TypeError:
        valid = False
    if not valid:
        raise ShapeError(
            f"pad must be two integers for each of the last axes, at most {2 * axes} for an input of {axes} axes, got"
            f" {pad!r}"
        )
    return list(zip(found[::2], found[1::2], strict=True))


def _padded_with(value: float, backend: Backend, x: Array, sides: list[tuple[int, int]]) -> Array:
    shape, inside, kept = list(x.shape), [slice(None)] * x.ndim, [slice(None)] * x.ndim
    for axis, (before, after) in zip(range(x.ndim - 1, -1, -1), sides, strict=False):
        length = x.shape[axis]
        shape[axis] = length + before + after
        if shape[axis] < 0:
            raise ShapeError(f"pad {before, after} leaves nothing of axis {axis} of input, which is {length} long")
        kept[axis] = slice(max(0, -before), max(0, -before, length - max(0, -after)))
        inside[axis] = slice(max(0, before), max(0, before) + kept[axis].stop - kept[axis].start)
    y = backend.xp.full(tuple(shape), value, dtype=x.dtype.name)
    y[tuple(inside)] = x[tuple(kept)]
    return y


@on_arrays("input")
def pixel_shuffle(backend: Backend, input: Array, upscale_factor: int) -> Array:
    """Rearrange channels into pixels (sub-pixel convolution): (..., C·r², H, W) to (..., C, H·r, W·r).

    Parameters
    ----------
    input : Array, (..., C·r², H, W)
        Images.
    upscale_factor : int
        The factor r.

    Returns
    -------
    Array, (..., C, H·r, W·r)
        The larger images; see :class:`im2colnet.PixelShuffle` for the formula.

    Raises
    ------
    ShapeError, DTypeError
        If the arguments do not fit together; the message names them.

    Examples
    --------
    >>> F.pixel_shuffle(np.arange(4.0).reshape(4, 1, 1), 2)
    array([[[0., 1.],
            [2., 3.]]])
    """
    layer, images = PixelShuffle(upscale_factor), _as_images(input)
    y = apply_to_samples(layer, images, backend)
    return y.reshape(*input.shape[:-3], *y.shape[1:])


@on_arrays("input")
def pixel_unshuffle(backend: Backend, input: Array, downscale_factor: int) -> Array:
    """Rearrange pixels into channels, the inverse of :func:`pixel_shuffle`: (..., C, H·r, W·r) to (..., C·r², H, W).

    Parameters
    ----------
    input : Array, (..., C, H·r, W·r)
        Images.
    downscale_factor : int
        The factor r.

    Returns
    -------
    Array, (..., C·r², H, W)
        The smaller images.

    Raises
    ------
    ShapeError, DTypeError
        If the arguments do not fit together; the message names them.

    Examples
    --------
    >>> F.pixel_unshuffle(np.array([[[0.0, 1], [2, 3]]]), 2).ravel()
    array([0., 1., 2., 3.])
    """
    layer, images = PixelUnshuffle(downscale_factor), _as_images(input)
    y = apply_to_samples(layer, images, backend)
    return y.reshape(*input.shape[:-3], *y.shape[1:])


def _as_images(input: Array) -> Array:
    if input.ndim < 3:
        raise ShapeError(f"input must be images (..., C, H, W), got shape {input.shape}")
    return input.reshape(prod(input.shape[:-3]), *input.shape[-3:])


@on_arrays("input")
def channel_shuffle(backend: Backend, input: Array, groups: int) -> Array:
    """Shuffle channels: first the first channel of each group, then the second channel of each group, and so on.

    Parameters
    ----------
    input : Array, (N, C, ...)
        Images, or other arrays with channels.
    groups : int
        Number of groups; it must divide the number of channels.

    Returns
    -------
    Array
        Array with the shape and type of ``input``.

    Raises
    ------
    ShapeError, DTypeError
        If the arguments do not fit together; the message names them.

    See Also
    --------
    im2colnet.ChannelShuffle : The layer, with references.

    Examples
    --------
    >>> x = np.array([[[0.0], [1], [2], [3]]])
    >>> F.channel_shuffle(x, 2).ravel()
    array([0., 2., 1., 3.])
    """
    if input.ndim < 3:
        raise ShapeError(f"input must have channels and spatial axes, (N, C, ...), got shape {input.shape}")
    return apply(ChannelShuffle(groups), beside_channels(backend, input), backend).reshape(input.shape)
