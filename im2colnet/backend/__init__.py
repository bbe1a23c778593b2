"""What a backend is: an array module and about twenty kernels, each with a textbook implementation in its terms.

A new backend needs only ``xp``; a fast one overrides what it does better. Inside the library a batch of images is
stored as *rows*, ``(H, C, W, N)``, and a batch of feature vectors as ``(features, N)``: the batch is always last.

Legend: ``x`` input, ``y`` output, ``dx``/``dy`` gradients, ``w``/``b`` weight and bias; ``N, C, H, W`` batch,
channels, height, width; ``F`` filters; ``KH, KW``, ``OH, OW`` kernel and output sizes; ``G`` groups.

Every kernel writes to ``out`` where it is given (C-contiguous) and returns it. ``work`` are arrays as
:meth:`Backend.workspace` lists them; without it the kernel allocates them. Kernels never change their inputs, give the
same result every time, and take arrays of any strides.
"""

from im2colnet.backend.base import Backend, Statistics, normalizing
from im2colnet.errors import memory_for
from im2colnet.types import ALIGNMENT, HALF, ITEM_BYTES, Array, Call, Choice, Shape, Spec, accumulator, run

__all__ = [
    "ALIGNMENT",
    "HALF",
    "ITEM_BYTES",
    "Array",
    "Backend",
    "Call",
    "Choice",
    "Shape",
    "Spec",
    "Statistics",
    "accumulator",
    "memory_for",
    "normalizing",
    "run",
]
