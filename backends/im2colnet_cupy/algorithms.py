"""The choice of a convolution's algorithm, by its shapes and its element type."""

from __future__ import annotations

from functools import lru_cache

from im2colnet.types import Shape
from im2colnet.window import Window
from im2colnet_cupy.depthwise import Depthwise
from im2colnet_cupy.rows import Rows
from im2colnet_cupy.shifted import Shifted


@lru_cache(maxsize=4096, typed=True)  # or groups=True would be what groups=1 finds
def algorithm(x: Shape, F: int, window: Window, groups: int, dtype: str) -> Rows | Depthwise:
    """Return the algorithm for images ``x`` (H, C, W, N) and F filters, made once."""
    if groups == x[1] == F and groups > 1:
        return Depthwise(x, window)
    if not window.flipped:
        return products(x, F, window, groups, dtype)
    OH, OW = window.output_size((x[0], x[2]))
    flipped = products((OH, F, OW, x[3]), x[1], window.flipped, groups, dtype)
    return products(x, F, window, groups, dtype, flipped)


def products(x: Shape, F: int, window: Window, groups: int, dtype: str, flipped: Rows | None = None) -> Rows:
    """Return the convolution as products, together with the convolution of dy that is its input's gradient."""
    kind = Shifted if Shifted.pays(x, F, window, groups, dtype) else Rows
    return kind(x, F, window, groups, dtype, flipped)
