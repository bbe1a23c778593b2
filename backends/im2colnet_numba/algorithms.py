"""The choice of a convolution's algorithm, by its shapes and by the size of the processor's vectors."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from im2colnet_numpy import algorithms, depthwise, winograd
from im2colnet_numpy.tuning import Tuning

from im2colnet.types import Shape
from im2colnet.window import Window
from im2colnet_numba.depthwise import Depthwise
from im2colnet_numba.direct import Direct, Few
from im2colnet_numba.winograd import Winograd

Algorithm = algorithms.Algorithm | Direct | Few | Depthwise | Winograd


@lru_cache(maxsize=4096, typed=True)
def algorithm(x: Shape, F: int, window: Window, groups: int, dtype: np.dtype, tuning: Tuning) -> Algorithm:
    """Return the algorithm for images ``x`` (H, C, W, N) and F filters, made once."""
    theirs = algorithms.algorithm(x, F, window, groups, dtype, tuning)
    if dtype != "float32":
        return theirs
    if isinstance(theirs, winograd.Winograd):
        tiles = Winograd(x, F, window, tuning)
        if tiles.exists:
            return tiles
    ours: Depthwise | Direct | Few
    if isinstance(theirs, depthwise.Depthwise):
        ours = Depthwise(x, window)
    else:
        ours = Direct(x, F, window, groups, tuning)
    if not ours.exists:
        ours = Few(x, F, window, groups, theirs)
    return ours if ours.exists else theirs
