"""Which algorithm a convolution takes, chosen by its shapes and by the processor's vectors alone."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from im2colnet_numpy import algorithms
from im2colnet_numpy.depthwise import Depthwise
from im2colnet_numpy.tuning import Tuning
from im2colnet_numpy.winograd import Winograd

from im2colnet.types import Shape
from im2colnet.window import Window
from im2colnet_numba.direct import Direct

Algorithm = algorithms.Algorithm | Direct


@lru_cache(maxsize=4096, typed=True)
def algorithm(x: Shape, F: int, window: Window, groups: int, dtype: np.dtype, tuning: Tuning) -> Algorithm:
    """Return the algorithm for images ``x`` (H, C, W, N) and F filters, made once."""
    theirs = algorithms.algorithm(x, F, window, groups, dtype, tuning)
    if dtype != "float32" or isinstance(theirs, Winograd | Depthwise):
        return theirs
    direct = Direct(x, F, window, groups, tuning)
    return direct if direct.exists else theirs
