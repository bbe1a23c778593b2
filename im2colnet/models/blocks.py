"""Building blocks of several ready-made networks."""

from __future__ import annotations

from typing import Any

from im2colnet.layers import Add, BatchNorm2d, Conv2d, Layer
from im2colnet.network import Net, Sequential


def conv_norm(
    channels: int,
    filters: int,
    kernel: int,
    stride: int = 1,
    groups: int = 1,
    activation: Layer | None = None,
    eps: float = 1e-5,
    momentum: float = 0.1,
) -> Sequential:
    """Return a padded convolution, which changes the image size only by its stride, batch norm, and an activation."""
    conv = Conv2d(channels, filters, kernel, stride, padding=kernel // 2, groups=groups, bias=False)
    return Sequential([conv, BatchNorm2d(filters, eps, momentum), *([] if activation is None else [activation])])


def with_shortcut(layers: dict[str, Any], shortcut: bool) -> Net:
    """Return a block whose input is added to the output of its last layer, if it has a shortcut."""
    return Net(layers | {"add": (Add(), next(reversed(layers)), "input")} if shortcut else layers)


def multiple_of_8(channels: float) -> int:
    """Return the nearest multiple of 8 that is at least 8 and at least 90% of ``channels`` (MobileNet's rule)."""
    nearest = max(8, int(channels + 4) // 8 * 8)
    return nearest if nearest >= 0.9 * channels else nearest + 8
