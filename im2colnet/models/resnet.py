"""Residual networks (He, Zhang, Ren & Sun 2015, arXiv:1512.03385; Zagoruyko & Komodakis 2016, arXiv:1605.07146)."""

from __future__ import annotations

from typing import Any

from im2colnet.checks import one_of, positive
from im2colnet.errors import ShapeError
from im2colnet.layers import (
    Add,
    BatchNorm2d,
    Conv2d,
    Dropout,
    Flatten,
    GlobalAvgPool2d,
    Layer,
    Linear,
    MaxPool2d,
    ReLU,
    ZeroPadShortcut,
)
from im2colnet.models.registry import Recipe, Size, model
from im2colnet.network import Net, Network, Residual, Sequential
from im2colnet.optim import SGD

SMALL_IMAGES = Recipe(12, 64, SGD(0.05, momentum=0.9, weight_decay=5e-4))


def _conv3x3(channels: int, filters: int, stride: int = 1) -> Conv2d:
    return Conv2d(channels, filters, 3, stride, padding=1, bias=False)


def _conv1x1(channels: int, filters: int, stride: int = 1) -> Conv2d:
    return Conv2d(channels, filters, 1, stride, bias=False)


@model(recipe=Recipe(12, 32, SGD(0.05, momentum=0.9, weight_decay=1e-3)), smallest=4)
def resnet20(classes: int = 10, in_channels: int = 3, input_size: Size = 32) -> Sequential:
    """Build ResNet-20 for small images (He et al. 2015, arXiv:1512.03385, section 4.2), with parameter-free shortcuts.

    0.27 million parameters (269,722 for ten classes of 3×32×32 images).

    Parameters
    ----------
    classes : int
        The number of classes, which is the number of outputs for an image.
    in_channels : int
        The number of channels of an image: 1 for grey, 3 for color.
    input_size : int, or (int, int)
        Height and width of the images in pixels, at least 4; one number is both.

    Returns
    -------
    Sequential
        The network, without parameters: ``init`` or a trainer makes them.

    Raises
    ------
    ShapeError
        If an image is smaller than 4×4, or a number is not positive.

    Examples
    --------
    >>> net = ic.models.resnet20(classes=5).init(seed=0)
    >>> net.predict(np.zeros((2, 3, 32, 32))).shape
    (2, 5)
    """
    layers: list[Layer] = [_conv3x3(in_channels, 16), BatchNorm2d(16), ReLU()]
    channels = 16
    for filters in (16, 32, 64):
        for i in range(3):
            stride = 2 if i == 0 and filters > 16 else 1
            body = [_conv3x3(channels, filters, stride), BatchNorm2d(filters), ReLU()]
            body += [_conv3x3(filters, filters), BatchNorm2d(filters)]
            shortcut = ZeroPadShortcut(channels, filters, stride) if stride == 2 else None
            layers += [Residual(Sequential(body), shortcut), ReLU()]
            channels = filters
    layers += [GlobalAvgPool2d(), Flatten(), Linear(64, classes)]
    return Sequential(layers)


def _block(layers: dict[str, Any], channels: int, filters: int, stride: int) -> Net:
    """Add a shortcut around the layers of a block: a 1×1 convolution, if the block changes the shape."""
    last, shortcut = next(reversed(layers)), "input"
    if stride != 1 or channels != filters:
        shortcut = "downsample"
        layers[shortcut] = (Sequential([_conv1x1(channels, filters, stride), BatchNorm2d(filters)]), "input")
    return Net(layers | {"add": (Add(), last, shortcut), "relu": ReLU()})


def _basic(channels: int, width: int, stride: int) -> Net:
    """Two 3×3 convolutions (He et al. 2015, figure 5, left)."""
    layers = {"conv1": _conv3x3(channels, width, stride), "bn1": BatchNorm2d(width), "relu1": ReLU()}
    return _block(layers | {"conv2": _conv3x3(width, width), "bn2": BatchNorm2d(width)}, channels, width, stride)


def _bottleneck(channels: int, width: int, stride: int) -> Net:
    """1×1, 3×3 and 1×1 convolutions (figure 5, right), with the stride in the second, as torchvision has it."""
    layers = {"conv1": _conv1x1(channels, width), "bn1": BatchNorm2d(width), "relu1": ReLU()}
    layers |= {"conv2": _conv3x3(width, width, stride), "bn2": BatchNorm2d(width), "relu2": ReLU()}
    layers |= {"conv3": _conv1x1(width, 4 * width), "bn3": BatchNorm2d(4 * width)}
    return _block(layers, channels, 4 * width, stride)


def _resnet(block: Any, expansion: int, blocks: tuple[int, ...], classes: int, in_channels: int, stem: str) -> Net:
    one_of("stem", stem, "small", "large")
    if stem == "small":
        layers: dict[str, Layer] = {"conv1": _conv3x3(in_channels, 64), "bn1": BatchNorm2d(64), "relu": ReLU()}
    else:
        layers = {"conv1": Conv2d(in_channels, 64, 7, 2, padding=3, bias=False), "bn1": BatchNorm2d(64), "relu": ReLU()}
        layers |= {"maxpool": MaxPool2d(3, 2, padding=1)}
    channels = 64
    for stage, (width, number) in enumerate(zip((64, 128, 256, 512), blocks, strict=True), start=1):
        made = []
        for i in range(number):
            made.append(block(channels, width, 2 if i == 0 and stage > 1 else 1))
            channels = expansion * width
        layers[f"layer{stage}"] = Sequential(made)
    return Net(layers | {"avgpool": GlobalAvgPool2d(), "flatten": Flatten(), "fc": Linear(channels, classes)})


@model(recipe=SMALL_IMAGES, smallest=8)
def resnet18(classes: int = 10, in_channels: int = 3, input_size: Size = 64, stem: str = "small") -> Network:
    """Build ResNet-18 (He et al. 2015, table 1), with torchvision's names of parameters.

    Parameters
    ----------
    classes : int
        The number of classes, which is the number of outputs for an image.
    in_channels : int
        The number of channels of an image: 1 for grey, 3 for color.
    input_size : int, or (int, int)
        Height and width of the images in pixels, at least 8; one number is both.
    stem : {"small", "large"}
        The first layers: "small" is a 3×3 convolution for small images, "large" is torchvision's 7×7 convolution of
        stride 2 and max pooling.

    Returns
    -------
    Network
        The network, without parameters: ``init`` or a trainer makes them.

    Raises
    ------
    ShapeError
        If an image is smaller than 8×8, or a number is not positive.

    Examples
    --------
    >>> shapes = ic.models.resnet18(classes=5).state_shapes()
    >>> len(shapes), [*shapes][0], [*shapes][-1]  # torchvision's
    (102, 'conv1.weight', 'fc.bias')
    """
    return _resnet(_basic, 1, (2, 2, 2, 2), classes, in_channels, stem)


@model(recipe=SMALL_IMAGES, smallest=8)
def resnet34(classes: int = 10, in_channels: int = 3, input_size: Size = 64, stem: str = "small") -> Network:
    """Build ResNet-34 (He et al. 2015, table 1), with torchvision's names of parameters.

    Parameters
    ----------
    classes : int
        The number of classes, which is the number of outputs for an image.
    in_channels : int
        The number of channels of an image: 1 for grey, 3 for color.
    input_size : int, or (int, int)
        Height and width of the images in pixels, at least 8; one number is both.
    stem : {"small", "large"}
        The first layers: "small" is a 3×3 convolution for small images, "large" is torchvision's 7×7 convolution of
        stride 2 and max pooling.

    Returns
    -------
    Network
        The network, without parameters: ``init`` or a trainer makes them.

    Raises
    ------
    ShapeError
        If an image is smaller than 8×8, or a number is not positive.

    Examples
    --------
    >>> shapes = ic.models.resnet34(classes=5).state_shapes()
    >>> len(shapes), [*shapes][0], [*shapes][-1]  # torchvision's
    (182, 'conv1.weight', 'fc.bias')
    """
    return _resnet(_basic, 1, (3, 4, 6, 3), classes, in_channels, stem)


@model(recipe=SMALL_IMAGES, smallest=8)
def resnet50(classes: int = 10, in_channels: int = 3, input_size: Size = 64, stem: str = "small") -> Network:
    """Build ResNet-50 (He et al. 2015, table 1), with torchvision's names of parameters.

    Parameters
    ----------
    classes : int
        The number of classes, which is the number of outputs for an image.
    in_channels : int
        The number of channels of an image: 1 for grey, 3 for color.
    input_size : int, or (int, int)
        Height and width of the images in pixels, at least 8; one number is both.
    stem : {"small", "large"}
        The first layers: "small" is a 3×3 convolution for small images, "large" is torchvision's 7×7 convolution of
        stride 2 and max pooling.

    Returns
    -------
    Network
        The network, without parameters: ``init`` or a trainer makes them.

    Raises
    ------
    ShapeError
        If an image is smaller than 8×8, or a number is not positive.

    Examples
    --------
    >>> shapes = ic.models.resnet50(classes=5).state_shapes()
    >>> len(shapes), [*shapes][0], [*shapes][-1]  # torchvision's
    (267, 'conv1.weight', 'fc.bias')
    """
    return _resnet(_bottleneck, 4, (3, 4, 6, 3), classes, in_channels, stem)


@model(recipe=SMALL_IMAGES, smallest=4)
def wide_resnet(
    classes: int = 10,
    in_channels: int = 3,
    input_size: Size = 32,
    depth: int = 16,
    widen_factor: int = 4,
    dropout: float = 0.0,
) -> Network:
    """Build a wide residual network for small images (Zagoruyko & Komodakis 2016, arXiv:1605.07146, table 1).

    Parameters
    ----------
    classes : int
        The number of classes, which is the number of outputs for an image.
    in_channels : int
        The number of channels of an image: 1 for grey, 3 for color.
    input_size : int, or (int, int)
        Height and width of the images in pixels, at least 4; one number is both.
    depth : int
        The number of layers, 6·n + 4 for 3·n blocks.
    widen_factor : int
        The factor of the number of filters; 10 with a depth of 28 is the best network of the paper.
    dropout : float
        The probability of :class:`~im2colnet.Dropout` between the two convolutions of a block.

    Returns
    -------
    Network
        The network, without parameters: ``init`` or a trainer makes them.

    Raises
    ------
    ShapeError
        If an image is smaller than 4×4, a number is not positive, or the depth is not 6·n + 4.

    Examples
    --------
    >>> net = ic.models.wide_resnet(classes=5).init(seed=0)
    >>> net.predict(np.zeros((2, 3, 32, 32))).shape
    (2, 5)
    """
    positive(depth=depth, widen_factor=widen_factor)
    if depth < 10 or (depth - 4) % 6:
        raise ShapeError(f"depth must be 6·n + 4, such as 10, 16, 22 or 28, got {depth}")
    layers: dict[str, Layer] = {"conv1": _conv3x3(in_channels, 16)}
    channels = 16
    for stage, width in enumerate((16 * widen_factor, 32 * widen_factor, 64 * widen_factor), start=1):
        made: list[Layer] = []
        for i in range((depth - 4) // 6):
            made.append(_preactivated(channels, width, 2 if i == 0 and stage > 1 else 1, dropout))
            channels = width
        layers[f"block{stage}"] = Sequential(made)
    layers |= {"bn1": BatchNorm2d(channels), "relu": ReLU(), "avgpool": GlobalAvgPool2d(), "flatten": Flatten()}
    return Net(layers | {"fc": Linear(channels, classes)})


def _preactivated(channels: int, filters: int, stride: int, dropout: float) -> Net:
    """Batch norm and ReLU before each convolution; a convolution in the shortcut reads the output of the first ReLU."""
    layers: dict[str, Any] = {"bn1": BatchNorm2d(channels), "relu1": ReLU()}
    layers |= {"conv1": _conv3x3(channels, filters, stride), "bn2": BatchNorm2d(filters), "relu2": ReLU()}
    if dropout:
        layers["dropout"] = Dropout(dropout)
    layers["conv2"] = _conv3x3(filters, filters)
    if stride == 1 and channels == filters:
        return Net(layers | {"add": (Add(), "conv2", "input")})
    return Net(
        layers | {"shortcut": (_conv1x1(channels, filters, stride), "relu1"), "add": (Add(), "conv2", "shortcut")}
    )
