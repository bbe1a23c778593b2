"""Pictures of a training, drawn with Matplotlib (the extra ``viz``)."""
from __future__ import annotations

import io
import os
from collections.abc import Mapping, Sequence

from im2colnet.checkpoint import replace_file
from im2colnet.errors import ShapeError

_COLOURS = {"": "#1f5fa8", "validation_": "#d9731a"}
_NAMES = {"": "training", "validation_": "validation"}


def save_curves(history: Sequence[Mapping[str, float]], path: str | os.PathLike[str]) -> None:
    """Draw loss and accuracy over the epochs as a PNG.

    Parameters
    ----------
    history : History
        Of :meth:`im2colnet.Trainer.fit`.
    path : path
        Written whole or not at all.

    Raises
    ------
    ImportError
        If Matplotlib is not installed.
    ShapeError
        If there is no epoch to draw.
    CheckpointError
        If the file cannot be written.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator, PercentFormatter

    if not history:
        raise ShapeError("there is no epoch to draw: the history is empty")
    figure = Figure(figsize=(9, 3.6), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)    # not pyplot, which would keep the figure and choose a window system
    epochs = [record["epoch"] for record in history]
    for axes, quantity, form in zip(figure.subplots(1, 2), ("loss", "accuracy"), (".4f", ".2%"), strict=True):
        drawn = []
        for prefix, name in _NAMES.items():
            values = [record[prefix + quantity] for record in history if prefix + quantity in record]
            if len(values) == len(epochs):
                drawn += values
                axes.plot(epochs, values, color=_COLOURS[prefix], linewidth=1.8, marker="o", clip_on=False, zorder=3,
                          markersize=4 if len(epochs) <= 40 else 0, label=f"{name}, {values[-1]:{form}} at the end")
        axes.set_title(quantity.capitalize(), loc="left", fontweight="bold")
        axes.set_xlabel("epoch")
        axes.set_xlim(min(epochs) - 0.5 * (len(epochs) == 1), max(epochs) + 0.5 * (len(epochs) == 1))
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        if quantity == "accuracy":
            axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=None))
        elif min(drawn) > 0 and max(drawn) > 20 * min(drawn):
            axes.set_yscale("log")
        axes.grid(color="#dddddd", linewidth=0.7)
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(frameon=False)
    picture = io.BytesIO()
    figure.savefig(picture, format="png")
    replace_file(path, picture.getvalue())


__all__ = ["save_curves"]
