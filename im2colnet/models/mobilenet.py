"""Networks of depthwise and 1×1 convolutions."""

from __future__ import annotations

from functools import partial

from im2colnet.checks import sides
from im2colnet.errors import ShapeError
from im2colnet.layers import (
    BatchNorm2d,
    Conv2d,
    Dropout,
    Flatten,
    GlobalAvgPool2d,
    Hardsigmoid,
    Hardswish,
    Layer,
    Linear,
    ReLU,
    ReLU6,
)
from im2colnet.models.blocks import conv_norm, multiple_of_8, with_shortcut
from im2colnet.models.registry import Recipe, Size, model
from im2colnet.network import Net, Network, Sequential, SqueezeExcitation
from im2colnet.optim import SGD


@model(recipe=Recipe(15, 64, SGD(0.05, momentum=0.9, weight_decay=5e-4)), smallest=4)
def mobilenet(classes: int = 10, in_channels: int = 3, input_size: Size = 32, width: float = 1.0) -> Sequential:
    """Build MobileNet (Howard et al. 2017, arXiv:1704.04861, table 1): depthwise, then 1×1 convolutions.

    For small images the first strides are 1, so that the last maps keep 4 rows and 4 columns; from 128×128 pixels on
    the strides are those of the paper.

    Parameters
    ----------
    classes : int
        The number of classes, which is the number of outputs for an image.
    in_channels : int
        The number of channels of an image: 1 for grey, 3 for color.
    input_size : int, or (int, int)
        Height and width of the images in pixels, at least 4; one number is both.
    width : float
        The factor of the number of filters of every layer, at most 4. With 1 and 1,000 classes there are 4.2 million
        parameters.

    Returns
    -------
    Sequential
        The network, without parameters: ``init`` or a trainer makes them.

    Raises
    ------
    ShapeError
        If an image is smaller than 4×4, a number is not positive, or the width is above 4.

    Examples
    --------
    >>> net = ic.models.mobilenet(classes=5).init(seed=0)
    >>> net.predict(np.zeros((2, 3, 32, 32))).shape
    (2, 5)
    """
    if not isinstance(width, (int, float)) or not 0 < width <= 4:
        raise ShapeError(f"width must be above 0 and at most 4, got {width!r}")
    table = [(32, 2), (64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *[(512, 1)] * 5, (1024, 2), (1024, 1)]
    halvings, smaller = 5, min(sides("input_size", input_size))
    while halvings and -(-smaller >> halvings) < 4:  # a stride of 2 halves and rounds up
        halvings -= 1
    drop = 5 - halvings  # the number of first strides that become 1
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
    return Sequential(layers)


@model(recipe=Recipe(15, 64, SGD(0.05, momentum=0.9, weight_decay=1e-4)), smallest=32)
def mobilenet_v2(classes: int = 10, in_channels: int = 3, input_size: Size = 224) -> Network:
    """Build MobileNetV2 (Sandler et al. 2018, arXiv:1801.04381, table 2), with torchvision's names of parameters.

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
    >>> shapes = ic.models.mobilenet_v2(classes=5).state_shapes()
    >>> len(shapes), [*shapes][0], [*shapes][-1]  # torchvision's
    (262, 'features.0.0.weight', 'classifier.1.bias')
    """
    features: list[Layer] = [conv_norm(in_channels, 32, 3, 2, activation=ReLU6())]
    channels = 32
    #: the factor of the channels inside of a block, filters, number of blocks, stride of the first block
    for expansion, filters, number, stride in [
        (1, 16, 1, 1),
        (6, 24, 2, 2),
        (6, 32, 3, 2),
        (6, 64, 4, 2),
        (6, 96, 3, 1),
        (6, 160, 3, 2),
        (6, 320, 1, 1),
    ]:
        for i in range(number):
            inside, step = expansion * channels, stride if i == 0 else 1
            block: list[Layer] = [conv_norm(channels, inside, 1, activation=ReLU6())] if expansion > 1 else []
            block += [conv_norm(inside, inside, 3, step, groups=inside, activation=ReLU6())]
            block += [Conv2d(inside, filters, 1, bias=False), BatchNorm2d(filters)]
            features += [with_shortcut({"conv": Sequential(block)}, step == 1 and channels == filters)]
            channels = filters
    features += [conv_norm(channels, 1280, 1, activation=ReLU6())]
    layers = {"features": Sequential(features), "avgpool": GlobalAvgPool2d(), "flatten": Flatten()}
    return Net(layers | {"classifier": Sequential([Dropout(0.2), Linear(1280, classes)])})


@model(recipe=Recipe(15, 64, SGD(0.05, momentum=0.9, weight_decay=1e-4)), smallest=32)
def mobilenet_v3_small(classes: int = 10, in_channels: int = 3, input_size: Size = 224) -> Network:
    """Build MobileNetV3-Small (Howard et al. 2019, arXiv:1905.02244, table 2), with torchvision's parameter names.

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
    >>> shapes = ic.models.mobilenet_v3_small(classes=5).state_shapes()
    >>> len(shapes), [*shapes][0], [*shapes][-1]  # torchvision's
    (210, 'features.0.0.weight', 'classifier.3.bias')
    """
    block_of = partial(conv_norm, eps=1e-3, momentum=0.01)
    features: list[Layer] = [block_of(in_channels, 16, 3, 2, activation=Hardswish())]
    channels = 16
    # kernel, channels inside of the block, filters, whether it squeezes and excites, activation, stride
    for kernel, inside, filters, squeezes, kind, stride in [
        (3, 16, 16, True, ReLU, 2),
        (3, 72, 24, False, ReLU, 2),
        (3, 88, 24, False, ReLU, 1),
        (5, 96, 40, True, Hardswish, 2),
        (5, 240, 40, True, Hardswish, 1),
        (5, 240, 40, True, Hardswish, 1),
        (5, 120, 48, True, Hardswish, 1),
        (5, 144, 48, True, Hardswish, 1),
        (5, 288, 96, True, Hardswish, 2),
        (5, 576, 96, True, Hardswish, 1),
        (5, 576, 96, True, Hardswish, 1),
    ]:
        block: list[Layer] = []
        if inside != channels:
            block += [block_of(channels, inside, 1, activation=kind())]
        block += [block_of(inside, inside, kernel, stride, groups=inside, activation=kind())]
        if squeezes:
            block += [SqueezeExcitation(inside, multiple_of_8(inside / 4), scale_activation=Hardsigmoid())]
        block += [block_of(inside, filters, 1)]
        features += [with_shortcut({"block": Sequential(block)}, stride == 1 and channels == filters)]
        channels = filters
    features += [block_of(channels, 576, 1, activation=Hardswish())]
    classifier = [Linear(576, 1024), Hardswish(), Dropout(0.2), Linear(1024, classes)]
    layers = {"features": Sequential(features), "avgpool": GlobalAvgPool2d(), "flatten": Flatten()}
    return Net(layers | {"classifier": Sequential(classifier)})
