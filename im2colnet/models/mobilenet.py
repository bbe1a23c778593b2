"""Networks of depthwise and 1×1 convolutions."""

from __future__ import annotations

from im2colnet.errors import ShapeError
from im2colnet.layers import BatchNorm2d, Conv2d, Flatten, GlobalAvgPool2d, Layer, Linear, ReLU
from im2colnet.models.registry import Recipe, model
from im2colnet.optim import SGD


@model(recipe=Recipe(15, 64, SGD(0.05, momentum=0.9, weight_decay=5e-4)), smallest=4)
def mobilenet(classes: int = 10, in_channels: int = 3, input_size: int = 32, width: float = 1.0) -> list[Layer]:
    """Build MobileNet (Howard et al. 2017, arXiv:1704.04861, table 1): depthwise, then 1×1 convolutions.

    For small images the first strides are 1, so that the last maps keep 4×4 pixels; from 128×128 on it is the paper's.

    Parameters
    ----------
    classes, in_channels, input_size : int
    width : float
        Multiplies the number of filters of every layer; 4.2 million parameters for 1 and 1,000 classes.
    """
    if not isinstance(width, (int, float)) or not 0 < width <= 4:
        raise ShapeError(f"width must be above 0 and at most 4, got {width!r}")
    table = [(32, 2), (64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *[(512, 1)] * 5, (1024, 2), (1024, 1)]
    halvings = 5
    while halvings and -(-input_size >> halvings) < 4:  # a stride of 2 halves and rounds up
        halvings -= 1
    drop = 5 - halvings  # of the first strides
    layers: list[Layer] = []
    channels = in_channels
    for filters, stride in table:
        if stride == 2 and drop:
            stride, drop = 1, drop - 1
        filters = max(8, round(filters * width))
        if layers:
            layers += [Conv2d(channels, channels, 3, stride, padding=1, groups=channels, bias=False)]
            layers += [BatchNorm2d(channels), ReLU(), Conv2d(channels, filters, 1, bias=False)]
        else:
            layers += [Conv2d(channels, filters, 3, stride, padding=1, bias=False)]
        layers += [BatchNorm2d(filters), ReLU()]
        channels = filters
    layers += [GlobalAvgPool2d(), Flatten(), Linear(channels, classes)]
    return layers
