"""Networks whose output is an image: U-Net, and an autoencoder."""

from __future__ import annotations

from typing import Any

from im2colnet.checks import positive, sides
from im2colnet.errors import ShapeError
from im2colnet.layers import (
    BatchNorm2d,
    Concat,
    Conv2d,
    ConvTranspose2d,
    Flatten,
    Layer,
    Linear,
    MaxPool2d,
    ReLU,
    Sigmoid,
    Unflatten,
)
from im2colnet.models.registry import Size
from im2colnet.network import Net, Sequential


def _convolutions(channels: int, filters: int) -> Sequential:
    layers: list[Layer] = []
    for read in (channels, filters):
        layers += [Conv2d(read, filters, 3, padding=1, bias=False), BatchNorm2d(filters), ReLU()]
    return Sequential(layers)


def unet(classes: int = 2, in_channels: int = 1, input_size: Size = 64, width: int = 32, depth: int = 4) -> Net:
    """Build a U-Net, which computes a score of each class for each pixel (Ronneberger et al. 2015, arXiv:1505.04597).

    Unlike in the paper, the convolutions are padded, so that input and output have the same size, and are followed by
    batch norm. The network takes images (N, in_channels, H, W) whose height and width are multiples of 2^depth, and
    returns scores (N, classes, H, W): for :class:`~im2colnet.CrossEntropyLoss` or :class:`~im2colnet.DiceLoss` with a
    class for each pixel, or with ``classes=1`` for :class:`~im2colnet.BCEWithLogitsLoss`.

    Parameters
    ----------
    classes : int
        The number of classes, which is the number of outputs for a pixel.
    in_channels : int
        The number of channels of an image: 1 for grey, 3 for color.
    input_size : int, or (int, int)
        Height and width of the images in pixels; one number is both.
    width : int
        The number of filters at full resolution, 64 in the paper; each level has twice as many as the level above it.
    depth : int
        The number of levels below full resolution.

    Returns
    -------
    Net
        The network, without parameters: ``init`` or a trainer makes them.

    Raises
    ------
    ShapeError
        If height or width is not a multiple of 2^depth.

    Examples
    --------
    >>> net = ic.models.unet(classes=3, width=4, depth=2).init(seed=0)
    >>> net.predict(np.zeros((1, 1, 64, 64))).shape
    (1, 3, 64, 64)
    """
    positive(classes=classes, in_channels=in_channels, width=width, depth=depth)
    size = sides("input_size", input_size)
    if any(side % 2**depth for side in size):
        raise ShapeError(f"input_size must be a multiple of 2^depth = {2**depth}, got {input_size}")
    layers: dict[str, Any] = {}
    channels = in_channels
    for level in range(depth):
        layers[f"encoder{level}"] = _convolutions(channels, width << level)
        layers[f"pool{level}"] = MaxPool2d(2)
        channels = width << level
    layers["bottom"] = _convolutions(channels, width << depth)
    for level in reversed(range(depth)):
        filters = width << level
        layers[f"up{level}"] = ConvTranspose2d(2 * filters, filters, 2, 2)
        layers[f"concat{level}"] = (Concat(), f"encoder{level}", f"up{level}")
        layers[f"decoder{level}"] = _convolutions(2 * filters, filters)
    net = Net(layers | {"out": Conv2d(width, classes, 1)})
    net.input_shape = (in_channels, *size)
    return net


def autoencoder(in_channels: int = 1, input_size: Size = 28, features: int = 32, width: int = 16) -> Net:
    """Build a convolutional autoencoder: an ``encoder`` to few features, and a ``decoder`` that gives images in [0, 1].

    Train it to reproduce its input: ``ic.Trainer(net, loss=ic.MSELoss()).step(images, images)``, with images of
    floating-point numbers. After Hinton & Salakhutdinov 2006 (doi:10.1126/science.1127647).

    Parameters
    ----------
    in_channels : int
        The number of channels of an image: 1 for grey, 3 for color.
    input_size : int, or (int, int)
        Height and width of the images in pixels; one number is both.
    features : int
        The number of features that the encoder computes for an image.
    width : int
        The number of filters of the first convolution; the second convolution has twice as many.

    Returns
    -------
    Net
        The network, without parameters: ``init`` or a trainer makes them.

    Raises
    ------
    ShapeError
        If height or width is not a multiple of 4.

    Examples
    --------
    >>> net = ic.models.autoencoder(features=8).init(seed=0)
    >>> net.predict(np.zeros((2, 1, 28, 28))).shape
    (2, 1, 28, 28)
    """
    positive(in_channels=in_channels, features=features, width=width)
    size = sides("input_size", input_size)
    half, quarter = (tuple(-(-side // by) for side in size) for by in (2, 4))  # a stride of 2 halves and rounds up
    numbers = 2 * width * quarter[0] * quarter[1]

    def doubling(channels: int, filters: int, size: tuple[int, ...]) -> ConvTranspose2d:
        return ConvTranspose2d(channels, filters, 3, 2, padding=1, output_padding=(1 - size[0] % 2, 1 - size[1] % 2))

    encoder = [Conv2d(in_channels, width, 3, 2, padding=1), ReLU(), Conv2d(width, 2 * width, 3, 2, padding=1), ReLU()]
    encoder += [Flatten(), Linear(numbers, features)]
    decoder = [Linear(features, numbers), ReLU(), Unflatten(1, (2 * width, *quarter))]
    decoder += [doubling(2 * width, width, half), ReLU(), doubling(width, in_channels, size), Sigmoid()]
    net = Net({"encoder": Sequential(encoder), "decoder": Sequential(decoder)})
    net.input_shape = (in_channels, *size)
    return net
