"""Residual networks (He, Zhang, Ren & Sun 2015, arXiv:1512.03385)."""

from __future__ import annotations

from im2colnet.layers import BatchNorm2d, Conv2d, Flatten, GlobalAvgPool2d, Layer, Linear, ReLU, ZeroPadShortcut
from im2colnet.models.registry import Recipe, model
from im2colnet.network import Residual, Sequential
from im2colnet.optim import SGD


def _block(channels: int, filters: int, stride: int, shortcut: Layer | None) -> list[Layer]:
    """Two 3×3 convolutions with batch norm, and a shortcut around them."""
    body = Sequential(
        [
            Conv2d(channels, filters, 3, stride, padding=1, bias=False),
            BatchNorm2d(filters),
            ReLU(),
            Conv2d(filters, filters, 3, padding=1, bias=False),
            BatchNorm2d(filters),
        ]
    )
    return [Residual(body, shortcut), ReLU()]


@model(recipe=Recipe(12, 32, SGD(0.05, momentum=0.9, weight_decay=1e-3)), smallest=4)
def resnet20(classes: int = 10, in_channels: int = 3, input_size: int = 32) -> list[Layer]:
    """Build ResNet-20 for small images (He et al. 2015, arXiv:1512.03385, section 4.2), with parameter-free shortcuts.

    0.27 million parameters (269,722 for ten classes of 3×32×32 images).
    """
    layers: list[Layer] = [Conv2d(in_channels, 16, 3, padding=1, bias=False), BatchNorm2d(16), ReLU()]
    channels = 16
    for filters in (16, 32, 64):
        for i in range(3):
            stride = 2 if i == 0 and filters > 16 else 1
            shortcut = ZeroPadShortcut(channels, filters, stride) if stride == 2 else None
            layers += _block(channels, filters, stride, shortcut)
            channels = filters
    layers += [GlobalAvgPool2d(), Flatten(), Linear(64, classes)]
    return layers


@model(recipe=Recipe(12, 64, SGD(0.05, momentum=0.9, weight_decay=5e-4)), smallest=8)
def resnet18(classes: int = 10, in_channels: int = 3, input_size: int = 64) -> list[Layer]:
    """Build ResNet-18 (He et al. 2015) for small images: a 3×3 stem without pooling, 1×1 convolutions as shortcuts."""
    layers: list[Layer] = [Conv2d(in_channels, 64, 3, padding=1, bias=False), BatchNorm2d(64), ReLU()]
    channels = 64
    for filters in (64, 128, 256, 512):
        for i in range(2):
            stride = 2 if i == 0 and filters > 64 else 1
            shortcut = None
            if stride == 2:
                shortcut = Sequential([Conv2d(channels, filters, 1, stride, bias=False), BatchNorm2d(filters)])
            layers += _block(channels, filters, stride, shortcut)
            channels = filters
    layers += [GlobalAvgPool2d(), Flatten(), Linear(512, classes)]
    return layers
