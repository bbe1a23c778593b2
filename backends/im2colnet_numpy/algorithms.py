"""The choice of a convolution's algorithm, by its shapes only: the same on every machine."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from im2colnet.types import Shape
from im2colnet.window import Window
from im2colnet_numpy.depthwise import Depthwise
from im2colnet_numpy.im2col import Im2col
from im2colnet_numpy.rows import Rows
from im2colnet_numpy.tuning import DEFAULT, Tuning
from im2colnet_numpy.winograd import Winograd

Algorithm = Rows | Im2col | Winograd | Depthwise


@lru_cache(maxsize=4096, typed=True)  # or groups=True would be what groups=1 finds
def algorithm(x: Shape, F: int, window: Window, groups: int, dtype: np.dtype, tuning: Tuning = DEFAULT) -> Algorithm:
    """Return the algorithm for images ``x`` (H, C, W, N) and F filters, made once."""
    if groups == x[1] == F and groups > 1 and window.kernel != (1, 1):
        return Depthwise(x, window, dtype.name, tuning)
    if Winograd.pays(x, F, window, groups, dtype.name, tuning):
        return Winograd(x, F, window, tuning)
    if Im2col.pays(x, F, window, groups, tuning):
        return Im2col(x, F, window, groups, dtype.name, tuning)
    return Rows(x, F, window, groups, dtype.name, tuning)
