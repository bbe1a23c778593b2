"""The layers: functions with parameters.

A layer knows the shape of its output from that of its input, says which arrays it needs (:class:`Needs`), and has
``forward`` and ``backward``. It holds no array: its parameters belong to the network, everything else to the run, and
both reach it through the :class:`Context`. Shapes are the library's own: images are rows (H, C, W, N), features
(features, N).

Arguments, defaults and initialisation are PyTorch's.
"""

from im2colnet.layers.activation import LeakyReLU, ReLU, Sigmoid, SiLU, Tanh
from im2colnet.layers.base import Band, Context, Layer, Needs, Parameter, Work
from im2colnet.layers.convolution import Conv2d
from im2colnet.layers.dropout import Dropout
from im2colnet.layers.linear import Linear
from im2colnet.layers.merging import Add, Concat, Mul
from im2colnet.layers.normalization import BatchNorm2d
from im2colnet.layers.pooling import AvgPool2d, GlobalAvgPool2d, MaxPool2d
from im2colnet.layers.resampling import Upsample
from im2colnet.layers.shaping import Flatten, ZeroPadShortcut
from im2colnet.layout import user_shape

__all__ = [
    "Add",
    "AvgPool2d",
    "Band",
    "BatchNorm2d",
    "Concat",
    "Context",
    "Conv2d",
    "Dropout",
    "Flatten",
    "GlobalAvgPool2d",
    "Layer",
    "LeakyReLU",
    "Linear",
    "MaxPool2d",
    "Mul",
    "Needs",
    "Parameter",
    "ReLU",
    "SiLU",
    "Sigmoid",
    "Tanh",
    "Upsample",
    "Work",
    "ZeroPadShortcut",
    "user_shape",
]
