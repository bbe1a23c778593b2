"""What each operation must compute, as naive loops in float64: slow, small and meant to be obviously correct.

Arrays are (N, C, H, W) and the semantics are those of ``torch.nn.functional`` and ``torch.nn.grad``. Everything is
computed and returned in float64, whatever comes in. ``stride``, ``dilation`` and ``kernel_size`` are a number or a pair
(height, width); ``padding`` is a number, a pair, ``"same"``, ``"valid"`` or ``((top, bottom), (left, right))``.

>>> from im2colnet.testing import oracles
>>> oracles.max_pool2d([[[[1, 2], [3, 4]]]], kernel_size=2).tolist()
[[[[4.0]]]]
"""

from im2colnet.testing.oracles.activation import (
    leaky_relu,
    leaky_relu_grad,
    relu,
    relu_grad,
    sigmoid,
    sigmoid_grad,
    silu,
    silu_grad,
    tanh,
    tanh_grad,
)
from im2colnet.testing.oracles.arrays import floats
from im2colnet.testing.oracles.convolution import conv2d, conv2d_bias, conv2d_input, conv2d_weight, fold, unfold
from im2colnet.testing.oracles.linear import linear, linear_grad
from im2colnet.testing.oracles.losses import (
    bce_with_logits,
    cross_entropy,
    cross_entropy_grad,
    dice,
    focal,
    gradient_of,
    huber,
    l1,
    log_softmax,
    mse,
    mse_grad,
    nll,
    smooth_l1,
    softmax,
)
from im2colnet.testing.oracles.merging import add, add_grad, concat, concat_grad, mul, mul_grad, summed
from im2colnet.testing.oracles.normalization import batch_norm, batch_norm_grad
from im2colnet.testing.oracles.pooling import (
    avg_pool2d,
    avg_pool2d_grad,
    global_avg_pool2d,
    global_avg_pool2d_grad,
    max_pool2d,
    max_pool2d_grad,
)
from im2colnet.testing.oracles.resampling import upsample, upsample_grad
from im2colnet.testing.oracles.shaping import flatten, flatten_grad, zero_pad_shortcut, zero_pad_shortcut_grad
from im2colnet.testing.oracles.updates import adagrad_step, adam_step, adamw_step, rmsprop_step, sgd_step
from im2colnet.testing.oracles.windows import crop_image, output_length, output_size, pad_image, padding_pairs, pair

__all__ = [
    "adagrad_step",
    "adam_step",
    "adamw_step",
    "add",
    "add_grad",
    "avg_pool2d",
    "avg_pool2d_grad",
    "batch_norm",
    "batch_norm_grad",
    "bce_with_logits",
    "concat",
    "concat_grad",
    "conv2d",
    "conv2d_bias",
    "conv2d_input",
    "conv2d_weight",
    "crop_image",
    "cross_entropy",
    "cross_entropy_grad",
    "dice",
    "flatten",
    "flatten_grad",
    "floats",
    "focal",
    "fold",
    "global_avg_pool2d",
    "global_avg_pool2d_grad",
    "gradient_of",
    "huber",
    "l1",
    "leaky_relu",
    "leaky_relu_grad",
    "linear",
    "linear_grad",
    "log_softmax",
    "max_pool2d",
    "max_pool2d_grad",
    "mse",
    "mse_grad",
    "mul",
    "mul_grad",
    "nll",
    "output_length",
    "output_size",
    "pad_image",
    "padding_pairs",
    "pair",
    "relu",
    "relu_grad",
    "rmsprop_step",
    "sgd_step",
    "sigmoid",
    "sigmoid_grad",
    "silu",
    "silu_grad",
    "smooth_l1",
    "softmax",
    "summed",
    "tanh",
    "tanh_grad",
    "unfold",
    "upsample",
    "upsample_grad",
    "zero_pad_shortcut",
    "zero_pad_shortcut_grad",
]
