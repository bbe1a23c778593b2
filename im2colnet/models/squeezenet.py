"""SqueezeNet (Iandola et al. 2016, arXiv:1602.07360)."""

from __future__ import annotations

from im2colnet.layers import Concat, Conv2d, Dropout, Flatten, GlobalAvgPool2d, Layer, MaxPool2d, ReLU
from im2colnet.models.registry import Recipe, Size, model
from im2colnet.network import Net, Network, Sequential
from im2colnet.optim import Adam


def _fire(channels: int, squeeze: int, expand: int) -> Net:
    """A 1×1 convolution to few channels, then 1×1 and 3×3 convolutions of these, side by side (section 3.2)."""
    return Net(
        {
            "squeeze": Conv2d(channels, squeeze, 1, init="he"),
            "squeeze_activation": ReLU(),
            "expand1x1": Conv2d(squeeze, expand, 1, init="he"),
            "expand1x1_activation": ReLU(),
            "expand3x3": (Conv2d(squeeze, expand, 3, padding=1, init="he"), "squeeze_activation"),
            "expand3x3_activation": ReLU(),
            "concat": (Concat(), "expand1x1_activation", "expand3x3_activation"),
        }
    )


@model(recipe=Recipe(20, 64, Adam(5e-4)), smallest=32)
def squeezenet1_1(classes: int = 10, in_channels: int = 3, input_size: Size = 224) -> Network:
    """Build SqueezeNet 1.1, which pools earlier than version 1.0 of the paper, with torchvision's names of parameters.

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
    >>> shapes = ic.models.squeezenet1_1(classes=5).state_shapes()
    >>> len(shapes), [*shapes][0], [*shapes][-1]  # torchvision's
    (52, 'features.0.weight', 'classifier.1.bias')
    """
    features: list[Layer] = [Conv2d(in_channels, 64, 3, 2, init="he"), ReLU(), MaxPool2d(3, 2, ceil_mode=True)]
    channels = 64
    for fires in ([(16, 64), (16, 64)], [(32, 128), (32, 128)], [(48, 192), (48, 192), (64, 256), (64, 256)]):
        if channels > 64:
            features += [MaxPool2d(3, 2, ceil_mode=True)]
        for squeeze, expand in fires:
            features += [_fire(channels, squeeze, expand)]
            channels = 2 * expand
    classifier = [Dropout(), Conv2d(channels, classes, 1), ReLU(), GlobalAvgPool2d()]
    return Net({"features": Sequential(features), "classifier": Sequential(classifier), "flatten": Flatten()})
