"""Which pixel each window of a layer reads: im2col as a table of indices.

Here ``KH, KW`` are the sizes of the kernel and ``OH, OW`` the numbers of windows below and beside each other. Sequences
are images of one row.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from im2colnet.host import np
from im2colnet.layers import Conv2d, ConvTranspose2d, GlobalAvgPool2d, Layer
from im2colnet.layers.pooling import Adaptive, shares
from im2colnet.types import Array
from im2colnet.window import Pair

#: of NumPy's ``pad``, by the ``padding_mode`` of a convolution
MODES = {"reflect": "reflect", "replicate": "edge", "circular": "wrap"}
#: the index of what lies outside of the image
OUTSIDE = -1


class WindowFacts(NamedTuple):
    """How a window slides over an image.

    Attributes
    ----------
    kernel_size : (KH, KW)
        The size of the kernel. In adaptive pooling, whose windows differ, it is the largest.
    stride : (int, int) or None
        The stride; None if the windows are not evenly spaced, as in adaptive pooling.
    padding : (top, bottom, left, right)
    dilation : (int, int)
    groups : int
        The number of groups of channels, which do not read each other; 1 for pooling.
    output_size : (OH, OW)
        The number of windows. For a transposed convolution it is the size of its input.
    """

    kernel_size: Pair
    stride: Pair | None
    padding: tuple[int, int, int, int]
    dilation: Pair
    groups: int
    output_size: Pair

    def column(self, position: Pair) -> int:
        """Return the number of the column that belongs to a window, by its row and column among the windows.

        Parameters
        ----------
        position : (int, int)
            Row and column of the window, from (0, 0).

        Returns
        -------
        int
            The number of the position, in row-major order.
        """
        return position[0] * self.output_size[1] + position[1]


def windows_of(layer: Layer, image: Pair, output: Pair) -> tuple[WindowFacts, Array] | None:
    """Return how a layer's window slides, and which pixels it reads; None if the layer has no window.

    Parameters
    ----------
    layer : Layer
    image, output : (height, width)
        The sizes of the layer's input and output.

    Returns
    -------
    facts : WindowFacts
    sources : (KH·KW, OH·OW) array of int
        The index ``h·W + w`` of the pixel in each row of the lowered matrix of a channel, for each window; -1 outside
        the image. For a transposed convolution it is the output pixel to which the number is added.
    """
    if isinstance(layer, (Adaptive, GlobalAvgPool2d)):
        return _shared(image, output)
    window = getattr(layer, "window", None)
    if window is None:
        return None
    transposed = isinstance(layer, ConvTranspose2d)
    read, windows = (output, image) if transposed else (image, output)
    indices = np.arange(read[0] * read[1]).reshape(read)
    (top, bottom), (left, right) = window.padding
    if isinstance(layer, Conv2d) and layer.border is not None:
        (top, bottom), (left, right) = layer.border.sides
        indices = np.pad(indices, ((top, bottom), (left, right)), MODES[layer.padding_mode])  # type: ignore[call-overload]
    else:
        indices = np.pad(indices, ((top, bottom), (left, right)), constant_values=OUTSIDE)
    (KH, KW), (sh, sw), (dh, dw) = window.kernel, window.stride, window.dilation
    rows = np.arange(windows[0])[:, None] * sh + np.arange(KH) * dh  # (OH, KH)
    columns = np.arange(windows[1])[:, None] * sw + np.arange(KW) * dw  # (OW, KW)
    # with ceil_mode, windows reach beyond the padding
    short = [max(0, int(at.max()) + 1 - size) for at, size in zip((rows, columns), indices.shape, strict=True)]
    indices = np.pad(indices, [(0, n) for n in short], constant_values=OUTSIDE)
    sources = indices[rows.T[:, None, :, None], columns.T[None, :, None, :]]  # (KH, KW, OH, OW)
    facts = WindowFacts((KH, KW), (sh, sw), (top, bottom, left, right), (dh, dw), getattr(layer, "groups", 1), windows)
    return facts, sources.reshape(KH * KW, -1)


def _shared(image: Pair, output: Pair) -> tuple[WindowFacts, Array]:
    """Return the windows of a pooling whose output has a given size, which may differ and overlap."""
    (H, W), (OH, OW) = image, output
    rows, columns = (list(shares(*sizes)) for sizes in ((H, OH), (W, OW)))
    KH, KW = (max(share.stop - share.start for share in axis) for axis in (rows, columns))
    sources = np.full((KH, KW, OH, OW), OUTSIDE)
    indices = np.arange(H * W).reshape(H, W)
    for r, down in enumerate(rows):
        for c, across in enumerate(columns):
            inside = indices[down, across]
            sources[: inside.shape[0], : inside.shape[1], r, c] = inside
    even = H % OH == W % OW == 0
    stride = (H // OH, W // OW) if even else None
    return WindowFacts((KH, KW), stride, (0, 0, 0, 0), (1, 1), 1, output), sources.reshape(KH * KW, -1)


def gather(images: Any, sources: Array, outside: float = 0.0) -> Array:
    """Return im2col of images (C, H, W): (C, KH·KW, OH·OW), with ``outside`` where a window sees no pixel."""
    flat = np.asarray(images).reshape(len(images), -1)
    return np.where(sources == OUTSIDE, outside, flat[:, np.maximum(sources, 0)])


def scatter(columns: Any, sources: Array, size: Pair) -> Array:
    """Return col2im of columns (C, KH·KW, OH·OW): images (C, H, W) to whose pixels the numbers are added."""
    found = np.zeros((len(columns), size[0] * size[1]))
    inside = sources != OUTSIDE
    for image, numbers in zip(found, columns, strict=True):
        image += np.bincount(sources[inside], weights=numbers[inside], minlength=image.size)
    return found.reshape(len(columns), *size)
