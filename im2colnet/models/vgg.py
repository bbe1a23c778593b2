"""Networks of 3×3 convolutions, one after the other (Simonyan & Zisserman 2015, arXiv:1409.1556, table 1)."""

from __future__ import annotations

from im2colnet.checks import sides
from im2colnet.layers import AdaptiveAvgPool2d, BatchNorm2d, Conv2d, Dropout, Flatten, Layer, Linear, MaxPool2d, ReLU
from im2colnet.models.registry import Recipe, Size, model
from im2colnet.network import Net, Network, Sequential
from im2colnet.optim import SGD, Adam

#: for each network the number of convolutions with 64, 128, 256, 512 and 512 filters
A, D = (1, 1, 2, 2, 2), (2, 2, 3, 3, 3)
PLAIN = Recipe(15, 64, Adam(1e-4))
NORMALIZED = Recipe(12, 64, SGD(0.02, momentum=0.9, weight_decay=5e-4))


@model(recipe=Recipe(15, 64, Adam(2e-3)), smallest=8)
def vgg8(classes: int = 10, in_channels: int = 3, input_size: Size = 32) -> Sequential:
    """Build a small VGG (Simonyan & Zisserman 2015): three pairs of 3×3 convolutions with 32, 64, 128 filters.

    Parameters
    ----------
    classes : int
        The number of classes, which is the number of outputs for an image.
    in_channels : int
        The number of channels of an image: 1 for grey, 3 for color.
    input_size : int, or (int, int)
        Height and width of the images in pixels, at least 8; one number is both.

    Returns
    -------
    Sequential
        The network, without parameters: ``init`` or a trainer makes them.

    Raises
    ------
    ShapeError
        If an image is smaller than 8×8, or a number is not positive.

    Examples
    --------
    >>> net = ic.models.vgg8(classes=5).init(seed=0)
    >>> net.predict(np.zeros((2, 3, 32, 32))).shape
    (2, 5)
    """
    H, W = (side // 8 for side in sides("input_size", input_size))
    layers: list[Layer] = []
    channels = in_channels
    for filters in (32, 64, 128):
        layers += [Conv2d(channels, filters, 3, padding=1), ReLU(), Conv2d(filters, filters, 3, padding=1), ReLU()]
        layers += [MaxPool2d(2)]
        channels = filters
    layers += [Flatten(), Linear(128 * H * W, 256), ReLU(), Linear(256, classes)]
    return Sequential(layers)


def _vgg(
    convolutions: tuple[int, ...], norm: bool, classes: int, in_channels: int, hidden: int, dropout: float
) -> Network:
    features: list[Layer] = []
    channels = in_channels
    for filters, number in zip((64, 128, 256, 512, 512), convolutions, strict=True):
        for _ in range(number):
            features += [Conv2d(channels, filters, 3, padding=1, init="he"), *[BatchNorm2d(filters)] * norm, ReLU()]
            channels = filters
        features += [MaxPool2d(2)]
    classifier: list[Layer] = []
    for read in (512 * 7 * 7, hidden):
        classifier += [Linear(read, hidden), ReLU(), Dropout(dropout)]
    classifier += [Linear(hidden, classes)]
    layers = {"features": Sequential(features), "avgpool": AdaptiveAvgPool2d(7), "flatten": Flatten()}
    return Net(layers | {"classifier": Sequential(classifier)})


@model(recipe=PLAIN, smallest=32)
def vgg11(
    classes: int = 10, in_channels: int = 3, input_size: Size = 224, hidden: int = 4096, dropout: float = 0.5
) -> Network:
    """Build VGG-11, configuration A (Simonyan & Zisserman 2015, table 1), with torchvision's names of parameters.

    Parameters
    ----------
    classes : int
        The number of classes, which is the number of outputs for an image.
    in_channels : int
        The number of channels of an image: 1 for grey, 3 for color.
    input_size : int, or (int, int)
        Height and width of the images in pixels, at least 32; one number is both.
    hidden : int
        The number of features between the linear layers, which hold most of the parameters.
    dropout : float
        The probability of :class:`~im2colnet.Dropout` after the first two linear layers.

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
    >>> shapes = ic.models.vgg11(classes=5).state_shapes()
    >>> len(shapes), [*shapes][0], [*shapes][-1]  # torchvision's
    (22, 'features.0.weight', 'classifier.6.bias')
    """
    return _vgg(A, False, classes, in_channels, hidden, dropout)


@model(recipe=NORMALIZED, smallest=32)
def vgg11_bn(
    classes: int = 10, in_channels: int = 3, input_size: Size = 224, hidden: int = 4096, dropout: float = 0.5
) -> Network:
    """Build VGG-11 with batch norm after each convolution, and torchvision's names of parameters.

    Parameters
    ----------
    classes : int
        The number of classes, which is the number of outputs for an image.
    in_channels : int
        The number of channels of an image: 1 for grey, 3 for color.
    input_size : int, or (int, int)
        Height and width of the images in pixels, at least 32; one number is both.
    hidden : int
        The number of features between the linear layers, which hold most of the parameters.
    dropout : float
        The probability of :class:`~im2colnet.Dropout` after the first two linear layers.

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
    >>> shapes = ic.models.vgg11_bn(classes=5).state_shapes()
    >>> len(shapes), [*shapes][0], [*shapes][-1]  # torchvision's
    (54, 'features.0.weight', 'classifier.6.bias')
    """
    return _vgg(A, True, classes, in_channels, hidden, dropout)


@model(recipe=PLAIN, smallest=32)
def vgg16(
    classes: int = 10, in_channels: int = 3, input_size: Size = 224, hidden: int = 4096, dropout: float = 0.5
) -> Network:
    """Build VGG-16, configuration D, with torchvision's names of parameters.

    Parameters
    ----------
    classes : int
        The number of classes, which is the number of outputs for an image.
    in_channels : int
        The number of channels of an image: 1 for grey, 3 for color.
    input_size : int, or (int, int)
        Height and width of the images in pixels, at least 32; one number is both.
    hidden : int
        The number of features between the linear layers, which hold most of the parameters.
    dropout : float
        The probability of :class:`~im2colnet.Dropout` after the first two linear layers.

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
    >>> shapes = ic.models.vgg16(classes=5).state_shapes()
    >>> len(shapes), [*shapes][0], [*shapes][-1]  # torchvision's
    (32, 'features.0.weight', 'classifier.6.bias')
    """
    return _vgg(D, False, classes, in_channels, hidden, dropout)


@model(recipe=NORMALIZED, smallest=32)
def vgg16_bn(
    classes: int = 10, in_channels: int = 3, input_size: Size = 224, hidden: int = 4096, dropout: float = 0.5
) -> Network:
    """Build VGG-16 with batch norm after each convolution, and torchvision's names of parameters.

    Parameters
    ----------
    classes : int
        The number of classes, which is the number of outputs for an image.
    in_channels : int
        The number of channels of an image: 1 for grey, 3 for color.
    input_size : int, or (int, int)
        Height and width of the images in pixels, at least 32; one number is both.
    hidden : int
        The number of features between the linear layers, which hold most of the parameters.
    dropout : float
        The probability of :class:`~im2colnet.Dropout` after the first two linear layers.

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
    >>> shapes = ic.models.vgg16_bn(classes=5).state_shapes()
    >>> len(shapes), [*shapes][0], [*shapes][-1]  # torchvision's
    (84, 'features.0.weight', 'classifier.6.bias')
    """
    return _vgg(D, True, classes, in_channels, hidden, dropout)
