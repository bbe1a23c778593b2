"""Arrays as pictures side by side, drawn with Matplotlib (the extra ``viz``)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from im2colnet.host import np
from im2colnet.show.plots import new_figure
from im2colnet.text import printable

if TYPE_CHECKING:
    from matplotlib.figure import Figure

WIDTH = 6.5  #: inches
TITLE = 0.3  #: inches above a picture that has a title


def draw_arrays(
    arrays: Sequence[Any], titles: Sequence[str], columns: int, shared: bool, low: float | None, high: float | None
) -> Figure:
    """Draw pictures; see :func:`im2colnet.visualize.sheet`."""
    columns = min(columns, len(arrays))
    rows = -(-len(arrays) // columns)
    tiles = [_tile(array) for array in arrays]
    cell = min(WIDTH / columns, 2.0)
    tallest = max(tile.shape[0] / tile.shape[1] for tile in tiles)
    figure = new_figure(height=rows * (min(tallest, 2) * cell + (TITLE if any(titles) else 0.05)), width=cell * columns)
    places = figure.subplots(rows, columns, squeeze=False).ravel()
    plain = [tile for tile in tiles if tile.ndim == 2]
    every = _limits(np.concatenate([tile.ravel() for tile in plain]), low, high) if shared and plain else None
    for axes in places:
        axes.axis("off")
    for axes, tile, title in zip(places, tiles, titles, strict=False):
        if tile.ndim == 3:
            first, last = 0.0 if low is None else low, 1.0 if high is None else high
            axes.imshow(np.clip((tile - first) / (last - first), 0, 1), interpolation="nearest")
        else:
            first, last, colours = every or _limits(tile, low, high)
            axes.imshow(tile, cmap=colours, vmin=first, vmax=last, interpolation="nearest")
        axes.set_title(printable(title), fontsize=8, parse_math=False)
    return figure


def _limits(values: Any, low: float | None, high: float | None) -> tuple[float, float, str]:
    """Return the numbers at the ends of a scale, and the name of its color map."""
    known = values[np.isfinite(values)]
    least, most = (float(known.min()), float(known.max())) if known.size else (0.0, 1.0)
    if least < 0 and low is None and high is None:
        return -max(-least, most), max(-least, most), "RdBu_r"
    return 0.0 if low is None else low, (most or 1.0) if high is None else high, "gray"


def _tile(array: Any) -> Any:
    """Return an array as a picture: (H, W), or (H, W, 3) where there are three channels, or channels in a row."""
    array = np.asarray(array, dtype=np.float64) / (255 if array.dtype == np.uint8 else 1)
    if array.ndim == 2:
        return array
    if len(array) == 1:
        return array[0]
    if len(array) == 3 and array.min() >= 0:
        return np.moveaxis(array, 0, -1)
    gap = np.full((array.shape[1], 1), np.nan)
    return np.hstack([part for channel in array for part in (channel, gap)][:-1])
