"""DenseNet (Huang, Liu, van der Maaten & Weinberger 2017, arXiv:1608.06993)."""

from __future__ import annotations

from typing import Any

from im2colnet.layers import (
    AvgPool2d,
    BatchNorm2d,
    Concat,
    Conv2d,
    Flatten,
    GlobalAvgPool2d,
    Layer,
    Linear,
    MaxPool2d,
    ReLU,
)
from im2colnet.models.registry import Recipe, Size, model
from im2colnet.network import Net, Network
from im2colnet.optim import SGD

GROWTH = 32  # channels that each layer adds


def _dense_layer(channels: int) -> Net:
    """Batch norm, ReLU and a 1×1 convolution to 4·GROWTH channels, then the same with a 3×3 convolution to GROWTH."""
    between = 4 * GROWTH
    layers = {"norm1": BatchNorm2d(channels), "relu1": ReLU(), "conv1": Conv2d(channels, between, 1, bias=False)}
    layers |= {"norm2": BatchNorm2d(between), "relu2": ReLU()}
    return Net(layers | {"conv2": Conv2d(between, GROWTH, 3, padding=1, bias=False)})


def _dense_block(channels: int, number: int) -> Net:
    """Layers, each of which reads the input of the block and the outputs of all layers before it (figure 1)."""
    layers: dict[str, Any] = {}
    joined = "input"
    for i in range(1, number + 1):
        layers[f"denselayer{i}"] = (_dense_layer(channels), joined)
        layers[f"concat{i}"] = (Concat(), joined, f"denselayer{i}")
        channels, joined = channels + GROWTH, f"concat{i}"
    return Net(layers)


@model(recipe=Recipe(12, 64, SGD(0.05, momentum=0.9, weight_decay=1e-4)), smallest=32)
def densenet121(classes: int = 10, in_channels: int = 3, input_size: Size = 224) -> Network:
    """Build DenseNet-121 (Huang et al. 2017, table 1), with torchvision's names of parameters.

    Parameters
    ----------
    classes : int
        The number of classes, which is the number of outputs for an image.
    in_channels : int
        The number of channels of an image: 1 for grey, 3 for color.
    input_size : int, or (int, int)
        Height and width of the images in pixels, at least 32; one number is both.

    Returns
    -------
    Network
        The network, without parameters: ``init`` or a trainer makes them.

    Raises
    ------
    ShapeError
        If an image is smaller than 32×32, or a number is not positive.

    Examples
    --------
    >>> shapes = ic.models.densenet121(classes=5).state_shapes()
    >>> len(shapes), [*shapes][0], [*shapes][-1]  # torchvision's
    (606, 'features.conv0.weight', 'classifier.bias')
    """
    features: dict[str, Layer] = {
        "conv0": Conv2d(in_channels, 64, 7, 2, padding=3, bias=False),
        "norm0": BatchNorm2d(64),
        "relu0": ReLU(),
        "pool0": MaxPool2d(3, 2, padding=1),
    }
    channels = 64
    for i, number in enumerate((6, 12, 24, 16), start=1):
        if i > 1:
            transition = {"norm": BatchNorm2d(channels), "relu": ReLU()}
            transition |= {"conv": Conv2d(channels, channels // 2, 1, bias=False), "pool": AvgPool2d(2)}
            features[f"transition{i - 1}"] = Net(transition)
            channels //= 2
        features[f"denseblock{i}"] = _dense_block(channels, number)
        channels += number * GROWTH
    layers = {"features": Net(features | {"norm5": BatchNorm2d(channels)}), "relu": ReLU()}
    return Net(layers | {"avgpool": GlobalAvgPool2d(), "flatten": Flatten(), "classifier": Linear(channels, classes)})
