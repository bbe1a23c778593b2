"""Ready-made networks. Each knows its ``input_shape`` and starts without parameters (``net.init(seed)``)."""

from __future__ import annotations

from collections.abc import Callable

from im2colnet.checks import positive
from im2colnet.errors import ShapeError
from im2colnet.layers import (
    BatchNorm2d,
    Conv2d,
    Flatten,
    GlobalAvgPool2d,
    Layer,
    Linear,
    MaxPool2d,
    ReLU,
    ZeroPadShortcut,
)
from im2colnet.network import Residual, Sequential

__all__ = ["MODELS", "lenet5", "make", "mobilenet", "notebook", "resnet18", "resnet20", "vgg8"]


def _network(layers: list[Layer], in_channels: int, input_size: int) -> Sequential:
    net = Sequential(layers)
    net.input_shape = (in_channels, input_size, input_size)
    return net


def notebook(classes: int = 2, in_channels: int = 1, input_size: int = 8) -> Sequential:
    """Build the teaching notebook's network: one 3×3 convolution with two filters, ReLU, 2×2 max pooling, linear."""
    _check(classes, in_channels, input_size, least=4)
    features = 2 * ((input_size - 2) // 2) ** 2
    layers = [Conv2d(in_channels, 2, 3), ReLU(), MaxPool2d(2), Flatten(), Linear(features, classes)]
    return _network(layers, in_channels, input_size)


def lenet5(classes: int = 10, in_channels: int = 1, input_size: int = 28) -> Sequential:
    """Build LeNet-5 (LeCun et al. 1998) as it is usual today: ReLU, max pooling, all maps connected.

    61,706 parameters for 28×28 grey images.
    """
    _check(classes, in_channels, input_size, least=12)
    side = (input_size // 2 - 4) // 2
    layers: list[Layer] = [
        Conv2d(in_channels, 6, 5, padding=2),
        ReLU(),
        MaxPool2d(2),
        Conv2d(6, 16, 5),
        ReLU(),
        MaxPool2d(2),
        Flatten(),
        Linear(16 * side * side, 120),
        ReLU(),
        Linear(120, 84),
        ReLU(),
        Linear(84, classes),
    ]
    return _network(layers, in_channels, input_size)


def vgg8(classes: int = 10, in_channels: int = 3, input_size: int = 32) -> Sequential:
    """Build a small VGG (Simonyan & Zisserman 2015): three pairs of 3×3 convolutions with 32, 64, 128 filters."""
    _check(classes, in_channels, input_size, least=8)
    layers: list[Layer] = []
    channels = in_channels
    for filters in (32, 64, 128):
        layers += [Conv2d(channels, filters, 3, padding=1), ReLU(), Conv2d(filters, filters, 3, padding=1), ReLU()]
        layers += [MaxPool2d(2)]
        channels = filters
    layers += [Flatten(), Linear(128 * (input_size // 8) ** 2, 256), ReLU(), Linear(256, classes)]
    return _network(layers, in_channels, input_size)


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


def resnet20(classes: int = 10, in_channels: int = 3, input_size: int = 32) -> Sequential:
    """Build ResNet-20 for small images (He et al. 2015, arXiv:1512.03385, section 4.2), with parameter-free shortcuts.

    0.27 million parameters (269,722 for ten classes of 3×32×32 images).
    """
    _check(classes, in_channels, input_size, least=4)
    layers: list[Layer] = [Conv2d(in_channels, 16, 3, padding=1, bias=False), BatchNorm2d(16), ReLU()]
    channels = 16
    for filters in (16, 32, 64):
        for i in range(3):
            stride = 2 if i == 0 and filters > 16 else 1
            shortcut = ZeroPadShortcut(channels, filters, stride) if stride == 2 else None
            layers += _block(channels, filters, stride, shortcut)
            channels = filters
    layers += [GlobalAvgPool2d(), Flatten(), Linear(64, classes)]
    return _network(layers, in_channels, input_size)


def resnet18(classes: int = 10, in_channels: int = 3, input_size: int = 64) -> Sequential:
    """Build ResNet-18 (He et al. 2015) for small images: a 3×3 stem without pooling, 1×1 convolutions as shortcuts."""
    _check(classes, in_channels, input_size, least=8)
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
    return _network(layers, in_channels, input_size)


def mobilenet(classes: int = 10, in_channels: int = 3, input_size: int = 32, width: float = 1.0) -> Sequential:
    """Build MobileNet (Howard et al. 2017, arXiv:1704.04861, table 1): depthwise, then 1×1 convolutions.

    For small images the first strides are 1, so that the last maps keep 4×4 pixels; from 128×128 on it is the paper's.

    Parameters
    ----------
    classes, in_channels, input_size : int
    width : float
        Multiplies the number of filters of every layer; 4.2 million parameters for 1 and 1,000 classes.
    """
    _check(classes, in_channels, input_size, least=4)
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
    return _network(layers, in_channels, input_size)


MODELS: dict[str, Callable[..., Sequential]] = {
    "notebook": notebook,
    "lenet5": lenet5,
    "vgg8": vgg8,
    "resnet20": resnet20,
    "resnet18": resnet18,
    "mobilenet": mobilenet,
}


def make(name: str, classes: int, in_channels: int, input_size: int, **arguments: float) -> Sequential:
    """Build the model of that name.

    Raises
    ------
    ShapeError
        If there is no such model, or it cannot take images of that size.
    """
    if name not in MODELS:
        raise ShapeError(f"there is no model {name!r}; there are: {', '.join(MODELS)}")
    return MODELS[name](classes=classes, in_channels=in_channels, input_size=input_size, **arguments)


def _check(classes: int, in_channels: int, input_size: int, least: int) -> None:
    positive(classes=classes, in_channels=in_channels, input_size=input_size)
    if input_size < least:
        raise ShapeError(f"input_size must be at least {least} for this network, got {input_size}")
