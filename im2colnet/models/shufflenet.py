"""ShuffleNet V2 (Ma et al. 2018, arXiv:1807.11164)."""

from __future__ import annotations

from im2colnet.layers import (
    BatchNorm2d,
    ChannelShuffle,
    Concat,
    Conv2d,
    Flatten,
    GlobalAvgPool2d,
    Layer,
    Linear,
    MaxPool2d,
    ReLU,
    Slice,
)
from im2colnet.models.blocks import conv_norm
from im2colnet.models.registry import Recipe, Size, model
from im2colnet.network import Net, Network, Sequential
from im2colnet.optim import SGD


def _depthwise(channels: int, stride: int) -> list[Layer]:
    conv = Conv2d(channels, channels, 3, stride, padding=1, groups=channels, bias=False)
    return [conv, BatchNorm2d(channels)]


def _pointwise(channels: int, filters: int) -> list[Layer]:
    return [Conv2d(channels, filters, 1, bias=False), BatchNorm2d(filters), ReLU()]


def _unit(channels: int, filters: int, stride: int) -> Net:
    """Half of the channels pass unchanged; with a stride both branches read all channels (figure 3, c and d)."""
    half = filters // 2
    if stride == 1:
        layers = {
            "kept": (Slice(1, stop=half), "input"),
            "changed": (Slice(1, start=half), "input"),
            "branch2": Sequential(_pointwise(half, half) + _depthwise(half, 1) + _pointwise(half, half)),
            "concat": (Concat(), "kept", "branch2"),
        }
    else:
        branch2 = _pointwise(channels, half) + _depthwise(half, stride) + _pointwise(half, half)
        layers = {
            "branch1": Sequential(_depthwise(channels, stride) + _pointwise(channels, half)),
            "branch2": (Sequential(branch2), "input"),
            "concat": (Concat(), "branch1", "branch2"),
        }
    return Net(layers | {"shuffle": ChannelShuffle(2)})


@model(recipe=Recipe(15, 64, SGD(0.05, momentum=0.9, weight_decay=1e-4)), smallest=32)
def shufflenet_v2_x1_0(classes: int = 10, in_channels: int = 3, input_size: Size = 224) -> Network:
    """Build ShuffleNet V2 of width 1 (Ma et al. 2018, table 5), with torchvision's names of parameters.

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
    >>> shapes = ic.models.shufflenet_v2_x1_0(classes=5).state_shapes()
    >>> len(shapes), [*shapes][0], [*shapes][-1]  # torchvision's
    (282, 'conv1.0.weight', 'fc.bias')
    """
    layers: dict[str, Layer] = {
        "conv1": conv_norm(in_channels, 24, 3, 2, activation=ReLU()),
        "maxpool": MaxPool2d(3, 2, padding=1),
    }
    channels = 24
    for stage, (filters, number) in enumerate([(116, 4), (232, 8), (464, 4)], start=2):
        units = [_unit(channels, filters, 2)] + [_unit(filters, filters, 1) for _ in range(number - 1)]
        layers[f"stage{stage}"] = Sequential(units)
        channels = filters
    layers["conv5"] = conv_norm(channels, 1024, 1, activation=ReLU())
    return Net(layers | {"avgpool": GlobalAvgPool2d(), "flatten": Flatten(), "fc": Linear(1024, classes)})
