"""Backends: an array module, and about twenty kernels with plain implementations in terms of the array module.

A new backend needs only ``xp``; a fast backend overrides the kernels that it computes faster. The contract has a
module for each family of kernels; :class:`Backend` joins them. Inside the library a batch of images is stored as
*rows*, ``(H, C, W, N)``, and a batch of feature vectors as ``(features, N)``: the batch axis is always last.

Legend: ``x`` input, ``y`` output, ``dx``/``dy`` gradients, ``w``/``b`` weight and bias; ``N, C, H, W`` batch,
channels, height, width; ``F`` filters; ``KH, KW``, ``OH, OW`` kernel and output sizes; ``G`` groups.

Every kernel (:mod:`im2colnet.backend.kernel`) writes to ``out``, if it is given, and returns it; ``scratch`` is the
list of scratch arrays that ``backend.name.scratch(...)`` describes. A plain call without them allocates them. Kernels
never change their inputs and give the same result every time. A plain call takes arrays of any strides. A kernel still
writes only to C-contiguous arrays: the call gives it a contiguous copy if necessary.
"""

from im2colnet.backend.activation import FORMULAS, Formula, formula
from im2colnet.backend.base import Backend
from im2colnet.backend.division import Division, shard_sizes
from im2colnet.backend.kernel import Kernel, kernel, like, one_like
from im2colnet.backend.normalization import Statistics, normalizing
from im2colnet.backend.pooling import position_type
from im2colnet.errors import memory_for
from im2colnet.types import ALIGNMENT, HALF, ITEM_BYTES, Array, Call, Choice, Shape, Spec, accumulator, run

__all__ = [
    "ALIGNMENT",
    "FORMULAS",
    "HALF",
    "ITEM_BYTES",
    "Array",
    "Backend",
    "Call",
    "Choice",
    "Division",
    "Formula",
    "Kernel",
    "Shape",
    "Spec",
    "Statistics",
    "accumulator",
    "formula",
    "kernel",
    "like",
    "memory_for",
    "normalizing",
    "one_like",
    "position_type",
    "run",
    "shard_sizes",
]
