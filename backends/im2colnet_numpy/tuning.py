"""Sizes that decide how the NumPy backend cuts its work: they change its speed, not what it promises."""

from __future__ import annotations

from dataclasses import dataclass, field

from im2colnet_numpy.products import Products


@dataclass(frozen=True)
class Tuning:
    """Sizes of tiles, and the sizes from which on an algorithm is faster.

    The defaults suit the processors that were measured. ``NumpyBackend(tuning=Tuning(...))`` sets other sizes.
    """

    # Products of rows
    tile_bytes: int = 1 << 20  # bytes of lowered rows held at a time
    sum_bytes: int = 1 << 15  # bytes of rows' products held before they are added up: a first-level cache
    flipped_min_channels: int = 12  # channels of a group from which on products of the flipped kernel keep BLAS busy
    flipped_max_ratio: int = 2  # filters for each channel up to which they do so with fewer channels too

    # Full im2col, for few images
    window_bytes: int = 4 << 20  # bytes of windows held at a time
    im2col_min_filters: int = 8  # filters of a group, for each column of a row's outputs, from which on it pays

    # Depthwise convolution
    depthwise_rows: int = 8  # output rows at a time
    depthwise_bytes: int = 1 << 19  # bytes of lowered rows held at a time: they are read once for each output row

    # Winograd's convolution
    winograd_max_tiles: int = 4  # tiles in a strip of an axis: the matrices of longer strips are mostly zeros
    winograd_min_columns: int = 256  # columns of a product, if the images have them
    winograd_min_columns_per_channel: int = 4  # columns of a product for each channel, where that is fewer
    winograd_half_bytes: int = 3 << 17  # bytes of channels transformed along one axis, which stay in cache
    winograd_min_channels: tuple[int, ...] = (16, 9, 7, 8, 12)  # the fewer of channels and filters, for 3 to 7 taps
    winograd_min_samples: int = 8  # samples from which on the transforms cost less than they save
    winograd_min_rows: int = 9 << 8  # taps · samples · the fewer of channels and filters, from which on they do
    winograd_min_products: int = 9 << 13  # taps · samples · channels · filters from which on they do
    winograd_more_columns: int = 32  # columns of a product that take as long as the transform of its filters

    products: Products = field(default_factory=Products)


DEFAULT = Tuning()
