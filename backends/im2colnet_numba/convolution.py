"""Convolution, by the algorithm that its shapes ask for (see :mod:`im2colnet_numba.algorithms`)."""

from __future__ import annotations

import numpy as np
from im2colnet_numpy.convolution import NumpyConvolution

from im2colnet.types import Shape
from im2colnet.window import Window
from im2colnet_numba.algorithms import Algorithm, algorithm


class NumbaConvolution(NumpyConvolution):
    """Convolution on the CPU, compiled."""

    def _chosen(self, x: Shape, F: int, window: Window, groups: int, dtype: str | np.dtype) -> Algorithm:
        return algorithm(x, F, window, groups, np.dtype(dtype), self.tuning)
