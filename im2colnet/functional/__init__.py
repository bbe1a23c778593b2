"""Functions on plain arrays of any backend, with the arguments and results of ``torch.nn.functional``.

Convolution, pooling and their gradients, lowering (im2col), activations, normalization, padding, resampling and losses,
for arrays without a network. Names, order and defaults of arguments are PyTorch's, so a call that is written for
``torch.nn.functional`` works here too. Gradients are named as in ``torch.nn.grad``; those of pooling follow the same
pattern. ``padding`` of a window may also be "same", "valid" or ((top, bottom), (left, right)).

The backend is the one that owns the arrays: NumPy's, or CuPy's on a GPU. float32 and float64 keep their type; float16
is computed in float32 and comes back as float16. Inputs may have any strides and are never changed, except the running
statistics of a batch norm; results are new and C-contiguous. Where PyTorch accepts one image (C, H, W) in place of a
batch, these functions do too. An empty batch gives an empty result, and gradients of weights that are 0; no other
dimension of images may be 0. If there is not enough memory, the functions raise an OutOfMemoryError.

A function computes in the thread that calls it, and the array module computes its matrix products. NumPy uses BLAS,
whose number of threads is not changed: by default it is the number of cores. After ``ic.set_num_threads(n)`` BLAS uses
at most n threads while a function computes. (Only a network, or a backend that is requested by name, limits BLAS to one
thread for the whole process, since several workers of the library call BLAS at the same time.) With another number of
threads BLAS may add in another order, so the last bits of a result may differ; with ``ic.set_num_threads(1)`` they do
not. If several threads of your program call functions at the same time, use ``ic.set_num_threads(1)``: OpenBLAS with
several threads is not thread-safe (numpy#29391).
"""

from im2colnet.functional.activation import (
    celu,
    elu,
    gelu,
    glu,
    hardsigmoid,
    hardswish,
    hardtanh,
    leaky_relu,
    log_softmax,
    logsigmoid,
    mish,
    prelu,
    relu,
    relu6,
    selu,
    sigmoid,
    silu,
    softmax,
    softplus,
    softsign,
    tanh,
    threshold,
)
from im2colnet.functional.convolution import (
    conv1d,
    conv2d,
    conv2d_input,
    conv2d_weight,
    conv_transpose1d,
    conv_transpose2d,
)
from im2colnet.functional.dropout import dropout, dropout2d
from im2colnet.functional.linear import linear
from im2colnet.functional.losses import (
    binary_cross_entropy_with_logits,
    cross_entropy,
    dice_loss,
    focal_loss,
    huber_loss,
    l1_loss,
    mse_loss,
    nll_loss,
    smooth_l1_loss,
)
from im2colnet.functional.lowering import fold, unfold
from im2colnet.functional.normalization import (
    batch_norm,
    group_norm,
    instance_norm,
    layer_norm,
    local_response_norm,
    normalize,
    rms_norm,
)
from im2colnet.functional.pooling import (
    adaptive_avg_pool1d,
    adaptive_avg_pool2d,
    adaptive_max_pool1d,
    adaptive_max_pool2d,
    avg_pool1d,
    avg_pool2d,
    avg_pool2d_input,
    lp_pool2d,
    max_pool1d,
    max_pool2d,
    max_pool2d_input,
    max_unpool2d,
)
from im2colnet.functional.resampling import interpolate
from im2colnet.functional.shaping import channel_shuffle, pad, pixel_shuffle, pixel_unshuffle

__all__ = [
    "adaptive_avg_pool1d",
    "adaptive_avg_pool2d",
    "adaptive_max_pool1d",
    "adaptive_max_pool2d",
    "avg_pool1d",
    "avg_pool2d",
    "avg_pool2d_input",
    "batch_norm",
    "binary_cross_entropy_with_logits",
    "celu",
    "channel_shuffle",
    "conv1d",
    "conv2d",
    "conv2d_input",
    "conv2d_weight",
    "conv_transpose1d",
    "conv_transpose2d",
    "cross_entropy",
    "dice_loss",
    "dropout",
    "dropout2d",
    "elu",
    "focal_loss",
    "fold",
    "gelu",
    "glu",
    "group_norm",
    "hardsigmoid",
    "hardswish",
    "hardtanh",
    "huber_loss",
    "instance_norm",
    "interpolate",
    "l1_loss",
    "layer_norm",
    "leaky_relu",
    "linear",
    "local_response_norm",
    "log_softmax",
    "logsigmoid",
    "lp_pool2d",
    "max_pool1d",
    "max_pool2d",
    "max_pool2d_input",
    "max_unpool2d",
    "mish",
    "mse_loss",
    "nll_loss",
    "normalize",
    "pad",
    "pixel_shuffle",
    "pixel_unshuffle",
    "prelu",
    "relu",
    "relu6",
    "rms_norm",
    "selu",
    "sigmoid",
    "silu",
    "smooth_l1_loss",
    "softmax",
    "softplus",
    "softsign",
    "tanh",
    "threshold",
    "unfold",
]
