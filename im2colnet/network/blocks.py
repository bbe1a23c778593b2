"""Small networks that are the building blocks of larger ones."""

from __future__ import annotations

from typing import Any

from im2colnet.layers import Conv2d, GlobalAvgPool2d, Layer, ReLU, Sigmoid
from im2colnet.network.network import Network


class SqueezeExcitation(Network):
    """Squeeze and excitation: each channel is multiplied by a number that is computed from the means of all channels.

    ``y = x · scale_activation(fc2(activation(fc1(mean(x)))))``. Input and output are images (N, input_channels, H, W).
    It is the same block as in torchvision, with the same names.

    Parameters
    ----------
    input_channels, squeeze_channels : int
        The number of channels of the images, and of channels between the two 1×1 convolutions.
    activation, scale_activation : Layer, optional
        The activations after the first and the second convolution. The default is :class:`ReLU` and :class:`Sigmoid`.

    Notes
    -----
    Hu et al. 2018 (arXiv:1709.01507).

    Examples
    --------
    >>> net = ic.Sequential([ic.SqueezeExcitation(16, 4)]).init()
    >>> net.predict(np.ones((1, 16, 8, 8))).shape
    (1, 16, 8, 8)
    """

    def __init__(
        self,
        input_channels: int,
        squeeze_channels: int,
        activation: Layer | None = None,
        scale_activation: Layer | None = None,
    ) -> None:
        self.avgpool = GlobalAvgPool2d()
        self.fc1 = Conv2d(input_channels, squeeze_channels, 1)
        self.activation = ReLU() if activation is None else activation
        self.fc2 = Conv2d(squeeze_channels, input_channels, 1)
        self.scale_activation = Sigmoid() if scale_activation is None else scale_activation

    def define(self, x: Any) -> Any:
        return self.scale_activation(self.fc2(self.activation(self.fc1(self.avgpool(x))))) * x


class SeparableConv2d(Network):
    """Depthwise separable convolution: a convolution of each channel by itself, then a 1×1 convolution of all channels.

    Its two layers are ``depthwise`` and ``pointwise``. It maps images (N, in_channels, H, W) to (N, out_channels, OH,
    OW), as :class:`Conv2d` does.

    Parameters
    ----------
    in_channels, out_channels : int
        The number of channels of the images, and the number of filters of the second convolution.
    kernel_size, stride : int or (height, width)
        The kernel size and the stride of the first convolution.
    padding : int, (height, width), ((top, bottom), (left, right)), "same" or "valid"
        The padding of the first convolution.
    dilation : int or (height, width)
        The dilation of the first convolution.
    depth_multiplier : int
        The number of filters for each channel in the first convolution.
    bias : bool
        Whether the second convolution has a bias; the first has none, because the bias of the second makes it
        superfluous.

    Raises
    ------
    ShapeError
        As :class:`Conv2d`.

    Notes
    -----
    Howard et al. 2017 (arXiv:1704.04861).

    Examples
    --------
    The number of parameters, where a Conv2d of the same size has 18496:

    >>> net = ic.SeparableConv2d(32, 64, 3).init()
    >>> sum(p.size for p in net.parameters().values())
    2400
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Any,
        stride: Any = 1,
        padding: Any = 0,
        dilation: Any = 1,
        depth_multiplier: int = 1,
        bias: bool = True,
    ) -> None:
        between = in_channels * depth_multiplier
        self.depthwise = Conv2d(in_channels, between, kernel_size, stride, padding, dilation, in_channels, bias=False)
        self.pointwise = Conv2d(between, out_channels, 1, bias=bias)

    def define(self, x: Any) -> Any:
        return self.pointwise(self.depthwise(x))
