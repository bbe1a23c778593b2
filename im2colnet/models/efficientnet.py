"""EfficientNet (Tan & Le 2019, arXiv:1905.11946)."""

from __future__ import annotations

from im2colnet.layers import Dropout, Flatten, GlobalAvgPool2d, Layer, Linear, SiLU, StochasticDepth
from im2colnet.models.blocks import conv_norm, with_shortcut
from im2colnet.models.registry import Recipe, Size, model
from im2colnet.network import Net, Network, Sequential, SqueezeExcitation
from im2colnet.optim import SGD

#: the factor of the channels inside of a block, kernel, stride of the first block, filters, number of blocks
STAGES = [
    (1, 3, 1, 16, 1),
    (6, 3, 2, 24, 2),
    (6, 5, 2, 40, 2),
    (6, 3, 2, 80, 3),
    (6, 5, 1, 112, 3),
    (6, 5, 2, 192, 4),
    (6, 3, 1, 320, 1),
]


@model(recipe=Recipe(15, 64, SGD(0.05, momentum=0.9, weight_decay=1e-4)), smallest=32)
def efficientnet_b0(
    classes: int = 10, in_channels: int = 3, input_size: Size = 224, stochastic_depth: float = 0.2
) -> Network:
    """Build EfficientNet-B0 (Tan & Le 2019, table 1), with torchvision's names of parameters.

    Parameters
    ----------
    classes : int
        The number of classes, which is the number of outputs for an image.
    in_channels : int
        The number of channels of an image: 1 for grey, 3 for color.
    input_size : int, or (int, int)
        Height and width of the images in pixels, at least 32; one number is both.
    stochastic_depth : float
        The probability that a block is skipped in training. It grows from 0 at the first block to nearly this number at
        the last block.

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
    >>> shapes = ic.models.efficientnet_b0(classes=5).state_shapes()
    >>> len(shapes), [*shapes][0], [*shapes][-1]  # torchvision's
    (311, 'features.0.0.weight', 'classifier.1.bias')
    """
    features: list[Layer] = [conv_norm(in_channels, 32, 3, 2, activation=SiLU())]
    channels, done, total = 32, 0, sum(number for *_, number in STAGES)
    for expansion, kernel, stride, filters, number in STAGES:
        stage: list[Layer] = []
        for i in range(number):
            inside, step = expansion * channels, stride if i == 0 else 1
            block: list[Layer] = [conv_norm(channels, inside, 1, activation=SiLU())] if expansion > 1 else []
            block += [conv_norm(inside, inside, kernel, step, groups=inside, activation=SiLU())]
            block += [SqueezeExcitation(inside, max(1, channels // 4), SiLU()), conv_norm(inside, filters, 1)]
            layers: dict[str, Layer] = {"block": Sequential(block)}
            shortcut = step == 1 and channels == filters
            if shortcut and done and stochastic_depth:
                layers["stochastic_depth"] = StochasticDepth(stochastic_depth * done / total)
            stage += [with_shortcut(layers, shortcut)]
            channels, done = filters, done + 1
        features += [Sequential(stage)]
    features += [conv_norm(channels, 1280, 1, activation=SiLU())]
    layers = {"features": Sequential(features), "avgpool": GlobalAvgPool2d(), "flatten": Flatten()}
    return Net(layers | {"classifier": Sequential([Dropout(0.2), Linear(1280, classes)])})
