"""Pictures of a training, drawn with Matplotlib (the extra ``viz``)."""
from __future__ import annotations

import io
import os
from collections.abc import Mapping, Sequence

from im2colnet.checkpoint import replace_file
from im2colnet.errors import ShapeError

#: of the keys with that prefix: what they are, and their colour
_CURVES = {"": ("training", "#1f5fa8"), "validation_": ("validation", "#d9731a")}


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
    from matplotlib.ticker import MaxNLocator

    if not history:
        raise ShapeError("there is no epoch to draw: the history is empty")
    figure = Figure(figsize=(9, 3.6), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)    # not pyplot, which would keep the figure and choose a window system
    epochs = [record["epoch"] for record in history]
    for axes, quantity, form in zip(figure.subplots(1, 2), ("loss", "accuracy"), (".4f", ".2%"), strict=True):
        drawn: list[float] = []
        for prefix, (name, colour) in _CURVES.items():
            points = [(record["epoch"], record[prefix + quantity]) for record in history if prefix + quantity in record]
            if points:
                epochs, values = [epoch for epoch, _ in points], [value for _, value in points]
                drawn += values
                axes.plot(epochs, values, color=colour, linewidth=1.8, marker="o" if len(points) < 40 else "",
                          markersize=4, clip_on=False, zorder=3, label=f"{name}, {values[-1]:{form}} at the end")
        axes.set_title(quantity.capitalize(), loc="left", fontweight="bold")
        axes.set_xlabel("epoch")
        first, last = history[0]["epoch"], history[-1]["epoch"]
        axes.set_xlim((first, last) if last > first else (first - 0.5, last + 0.5))
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        if quantity == "loss" and max(drawn) > 20 * min(drawn) > 0:
            axes.set_yscale("log")
        axes.yaxis.set_major_formatter(_number if quantity == "loss" else _percent)
        axes.grid(color="#dddddd", linewidth=0.7)
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(frameon=False)
    picture = io.BytesIO()
    figure.savefig(picture, format="png")
    replace_file(path, picture.getvalue())


def _number(value: float, position: int) -> str:
    return f"{value:g}"


def _percent(value: float, position: int) -> str:
    return f"{100 * value:g}%"


__all__ = ["save_curves"]
