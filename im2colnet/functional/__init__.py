"""Convolution, pooling and lowering on plain arrays (N, C, H, W) of any backend.

Arguments and results are those of ``torch.nn.functional`` and ``torch.nn.grad``; ``padding`` may also be "same",
"valid" or ((top, bottom), (left, right)). The backend is the one that owns the arrays. float32 and float64 keep their
type, inputs are never changed and may have any strides, results are C-contiguous. A batch of no images gives a result
of none, and gradients of weights that are 0; no other dimension may be 0. (The NumPy backend limits BLAS to one
thread, for the whole process, when it starts.) Where there is not enough memory, an OutOfMemoryError says so.
"""

from im2colnet.functional.convolution import conv2d, conv2d_input, conv2d_weight, conv_transpose2d
from im2colnet.functional.lowering import fold, unfold
from im2colnet.functional.pooling import avg_pool2d, avg_pool2d_input, max_pool2d, max_pool2d_input

__all__ = [
    "avg_pool2d",
    "avg_pool2d_input",
    "conv2d",
    "conv2d_input",
    "conv2d_weight",
    "conv_transpose2d",
    "fold",
    "max_pool2d",
    "max_pool2d_input",
    "unfold",
]
