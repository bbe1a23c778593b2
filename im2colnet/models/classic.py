"""Networks of convolutions, pooling and linear layers, one after the other."""

from __future__ import annotations

from im2colnet.checks import sides
from im2colnet.layers import Conv2d, Flatten, Layer, Linear, MaxPool2d, ReLU
from im2colnet.models.registry import Recipe, Size, model
from im2colnet.network import Sequential
from im2colnet.optim import SGD, Adam


@model(recipe=Recipe(20, 32, Adam(1e-2)), smallest=4)
def notebook(classes: int = 2, in_channels: int = 1, input_size: Size = 8) -> Sequential:
    """Build the teaching notebook's network: one 3×3 convolution with two filters, ReLU, 2×2 max pooling, linear.

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
    >>> net = ic.models.notebook(classes=5).init(seed=0)
    >>> net.predict(np.zeros((2, 1, 8, 8))).shape
    (2, 5)
    """
    H, W = ((side - 2) // 2 for side in sides("input_size", input_size))
    layers = [Conv2d(in_channels, 2, 3), ReLU(), MaxPool2d(2), Flatten(), Linear(2 * H * W, classes)]
    return Sequential(layers)


@model(recipe=Recipe(15, 64, SGD(0.05, momentum=0.9, weight_decay=5e-4)), smallest=12)
def lenet5(classes: int = 10, in_channels: int = 1, input_size: Size = 28) -> Sequential:
    """Build LeNet-5 (LeCun et al. 1998) in its usual modern form: ReLU, max pooling, all maps connected.

    61,706 parameters for 28×28 grey images.

    Parameters
    ----------
    classes : int
        The number of classes, which is the number of outputs for an image.
    in_channels : int
        The number of channels of an image: 1 for grey, 3 for color.
    input_size : int, or (int, int)
        Height and width of the images in pixels, at least 12; one number is both.

    Returns
    -------
    Sequential
        The network, without parameters: ``init`` or a trainer makes them.

    Raises
    ------
    ShapeError
        If an image is smaller than 12×12, or a number is not positive.

    Examples
    --------
    >>> net = ic.models.lenet5(classes=5).init(seed=0)
    >>> net.predict(np.zeros((2, 1, 28, 28))).shape
    (2, 5)
    """
    H, W = ((side // 2 - 4) // 2 for side in sides("input_size", input_size))
    layers: list[Layer] = [
        Conv2d(in_channels, 6, 5, padding=2),
        ReLU(),
        MaxPool2d(2),
        Conv2d(6, 16, 5),
        ReLU(),
        MaxPool2d(2),
        Flatten(),
        Linear(16 * H * W, 120),
        ReLU(),
        Linear(120, 84),
        ReLU(),
        Linear(84, classes),
    ]
    return Sequential(layers)
