"""Pictures of a training, drawn with Matplotlib (the extra ``viz``)."""

from __future__ import annotations

import io
import os
import re
import warnings
from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from im2colnet.errors import ShapeError, install
from im2colnet.files import replace_file
from im2colnet.show.display import VALIDATION, form, quantities
from im2colnet.text import printable, shortened

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.transforms import Bbox

#: the curves of a quantity, by the prefix of its key in a history: their name and color
CURVES = {"": ("training", "#1f5fa8"), VALIDATION: ("validation", "#d9731a")}
MOST_ACROSS = 3  #: how many curves are beside each other
MIN_SHARE = 0.002  #: a pass is drawn if it takes at least this part of the time of all passes
COLUMNS = 5  #: pictures side by side in a sheet
MOST_COUNTS = 25  #: classes up to which a confusion matrix has its counts
MOST_TICKS = 50  #: names beside a confusion matrix
MAX_NAMES = 6  #: how many passes, the longest first, have the name of their layer beside them


def save_curves(history: Sequence[Mapping[str, float]], path: str | os.PathLike[str]) -> None:
    """Draw the loss and the metrics, such as the accuracy, over the epochs as a PNG.

    Parameters
    ----------
    history : History
        The result of :meth:`im2colnet.Trainer.fit`.
    path : path
        The file; it is written whole or not at all.

    Raises
    ------
    ImportError
        If Matplotlib is not installed.
    ShapeError
        If the history is empty.
    CheckpointError
        If the file cannot be written.
    """
    save(draw_curves(history), path)


def draw_curves(history: Sequence[Mapping[str, float]]) -> Figure:
    """Draw the picture of :func:`save_curves` and return it; a notebook shows it."""
    if not history:
        raise ShapeError("there is no epoch to draw: the history is empty")
    drawn = quantities(history)
    across = min(MOST_ACROSS, len(drawn))
    down = -(-len(drawn) // across)
    figure = new_figure(height=3.6 * down)
    places = figure.subplots(down, across, squeeze=False).ravel()
    for axes, quantity in zip(places, drawn, strict=False):
        _draw_curves(axes, history, quantity)
    for axes in places[len(drawn) :]:
        axes.remove()
    return figure


def curves_svg(history: Sequence[Mapping[str, float]]) -> list[str]:
    """Return the curves of :func:`save_curves` as SVG for a page, a drawing for each quantity.

    They use the page's text color, ``--line`` and ``--accent``, so that they suit a dark page too.
    """
    import matplotlib

    drawings = []
    for quantity in quantities(history):
        figure = new_figure(height=3.2, width=4.8)
        _draw_curves(figure.subplots(), history, quantity)
        with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": quantity}):
            drawing = figure_bytes(figure, format="svg", transparent=True, metadata={"Date": None}).decode()
        svg = re.sub(r'<metadata>.*?</metadata>| id="[a-z0-9.]+_[0-9]+"', "", drawing, flags=re.DOTALL)
        svg = svg[svg.index("<svg") :]
        for colour, named in (("#000000", "currentColor"), ("#dddddd", "var(--line)"), ("#1f5fa8", "var(--accent)")):
            svg = svg.replace(colour, named)
        drawings.append(svg)
    return drawings


def _draw_curves(axes: Axes, history: Sequence[Mapping[str, float]], quantity: str) -> None:
    """Draw a quantity over the epochs, in training and on held-out data."""
    from matplotlib.ticker import MaxNLocator

    drawn: list[float] = []
    for prefix, (name, colour) in CURVES.items():
        points = [(record["epoch"], record[prefix + quantity]) for record in history if prefix + quantity in record]
        if points:
            epochs, values = [epoch for epoch, _ in points], [value for _, value in points]
            drawn += values
            axes.plot(
                epochs,
                values,
                color=colour,
                linewidth=1.8,
                marker="o" if len(points) < 40 else "",
                markersize=4,
                clip_on=False,
                zorder=3,
                label=f"{name}, {values[-1]:{form(quantity)}} at the end",
            )
    title = printable(quantity.replace("_", " ").capitalize())
    axes.set_title(title, loc="left", fontweight="bold", parse_math=False)
    axes.set_xlabel("epoch")
    first, last = history[0]["epoch"], history[-1]["epoch"]
    axes.set_xlim((first, last) if last > first else (first - 0.5, last + 0.5))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    if quantity == "loss" and max(drawn) > 20 * min(drawn) > 0:
        axes.set_yscale("log")
    axes.yaxis.set_major_formatter(_as_percent if form(quantity).endswith("%") else _as_number)
    axes.legend(frameon=False)
    _style(axes)


def save_roofline(report: Mapping[str, Any], path: str | os.PathLike[str]) -> None:
    """Draw a roofline plot as a PNG: the speed of each layer's passes, and the limits of this machine.

    A circle's area is a pass's share of the step's time, and the longest passes have names. The roof is the lesser of
    the peak of a matrix product and the bandwidth times the FLOPs for each byte (Williams, Waterman, Patterson 2009,
    doi:10.1145/1498765.1498785). Winograd's algorithm can rise above it, since it needs fewer FLOPs than are counted,
    and so can a pass that finds its operands in the cache.

    Parameters
    ----------
    report : dict
        The result of :func:`im2colnet.reports.profile.profile`.
    path : path
        The file; it is written whole or not at all.

    Raises
    ------
    ImportError
        If Matplotlib is not installed.
    CheckpointError
        If the file cannot be written.
    """
    figure = new_figure(height=5.2)
    axes, gemm, copy = figure.subplots(), report["gemm"] / 1e9, report["copy"] / 1e9
    kinds = ("forward", "backward")
    shortest = MIN_SHARE * sum(layer[kind]["seconds"] for layer in report["layers"] for kind in kinds)
    passes = [
        (kind, layer, layer[kind]["flops"] / layer[kind]["bytes"], layer[kind]["flops"] / layer[kind]["seconds"] / 1e9)
        for kind in kinds
        for layer in report["layers"]
        if layer[kind]["seconds"] > shortest and layer[kind]["flops"]
    ]
    for kind, colour in (("forward", "#1f5fa8"), ("backward", "#d9731a")):
        mine = [one for one in passes if one[0] == kind]
        areas = [max(8.0, 4000 * layer[kind]["seconds"] / report["seconds"]) for _, layer, _, _ in mine]
        xs, ys = [x for _, _, x, _ in mine], [y for *_, y in mine]
        axes.scatter(xs, ys, areas, color=colour, alpha=0.55, linewidth=0, zorder=3)
        axes.scatter([], [], 40, color=colour, alpha=0.55, linewidth=0, label=kind)  # circles of one size in the legend
    ridge = gemm / copy
    intensities = [x for _, _, x, _ in passes] or [ridge]
    ends = min(intensities) / 2, max(*intensities, 2 * ridge) * 2
    roof = [ends[0], ridge, ends[1]]
    axes.plot(roof, [min(gemm, copy * x) for x in roof], color="#444444", linewidth=1.5, label="roof")
    axes.set(xscale="log", yscale="log", xlabel="FLOPs per byte that must be moved", xlim=ends)
    axes.set_title("GFLOP/s", loc="left", fontweight="bold")
    for axis in axes.xaxis, axes.yaxis:
        axis.set_major_formatter(_as_number)
    axes.legend(frameon=False, loc="lower right")
    _style(axes)
    figure.draw_without_rendering()  # it lays out the axes, so that texts know where they are
    named: list[Bbox] = []
    for kind, layer, x, y in sorted(passes, key=lambda one: -one[1][one[0]]["seconds"]):
        if len(named) == MAX_NAMES:
            break
        name = axes.annotate(f"{layer['name']} {kind}", (x, y), (9, -12), textcoords="offset points", fontsize=8)
        box = name.get_window_extent()
        if any(box.overlaps(other) for other in named):
            name.remove()
        else:
            named.append(box)
    save(figure, path)


def save_confusion(matrix: Any, names: Sequence[str], path: str | os.PathLike[str]) -> None:
    """Draw a confusion matrix as a PNG: a row for each true class, a column for each predicted class.

    The color is the fraction of the row, and the numbers are counts.

    Parameters
    ----------
    matrix : (C, C) array_like
        The result of :func:`im2colnet.metrics.confusion_matrix`.
    names : sequence of str
        The names of the classes.
    path : path
        Written whole or not at all.

    Raises
    ------
    ImportError
        If Matplotlib is not installed.
    CheckpointError
        If the file cannot be written.
    """
    from im2colnet.host import np

    counts = np.asarray(matrix)
    size = len(counts)
    share = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    side = min(16.0, 3.2 + 0.42 * size)
    figure = new_figure(height=side, width=side + 1)
    axes = figure.subplots()
    axes.imshow(share, cmap="Blues", vmin=0, vmax=1)
    step = -(-size // MOST_TICKS)  # of very many classes not each has its name
    shown = [shortened(printable(name), 24) for name in names][::step]
    axes.set_xticks(range(0, size, step), shown, rotation=90, parse_math=False)
    axes.set_yticks(range(0, size, step), shown, parse_math=False)
    axes.set(xlabel="predicted class", ylabel="true class")
    if size <= MOST_COUNTS:
        for i, j in np.argwhere(counts).tolist():
            colour = "white" if share[i, j] > 0.5 else "black"
            axes.text(j, i, f"{counts[i, j]:,}", ha="center", va="center", color=colour, fontsize=8)
    save(figure, path)


def save_sheet(pictures: Sequence[Any], texts: Sequence[str], path: str | os.PathLike[str]) -> None:
    """Draw pictures side by side, each with a text above it, as a PNG.

    Parameters
    ----------
    pictures : sequence of (H, W), (H, W, 3) or (H, W, 4) arrays of uint8
    texts : sequence of str
        Lines that are too long are shortened.
    path : path
        Written whole or not at all.

    Raises
    ------
    ImportError
        If Matplotlib is not installed.
    CheckpointError
        If the file cannot be written.
    """
    rows = -(-len(pictures) // COLUMNS)
    figure = new_figure(height=2.5 * rows)
    cells = [*figure.subplots(rows, COLUMNS, squeeze=False).flat]
    for axes in cells:
        axes.axis("off")
    for axes, picture, text in zip(cells, pictures, texts, strict=False):
        axes.imshow(picture, cmap="gray", vmin=0, vmax=255, interpolation="nearest")
        lines = (_ending(printable(line), 28) for line in text.split("\n"))
        axes.set_title("\n".join(lines), fontsize=7, loc="left", parse_math=False)
    save(figure, path)


def _ending(text: str, most: int) -> str:
    """Return the end of a text; for a path it is the file name."""
    return text if len(text) <= most else f"...{text[3 - most :]}"


def new_figure(height: float, width: float = 9, dpi: int = 150) -> Figure:
    """Return a figure with nothing in it, its height and width in inches; a notebook shows it."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError(f"to draw a picture, install Matplotlib: {install('viz')}") from error
    figure = Figure(figsize=(width, height), dpi=dpi, layout="constrained")
    FigureCanvasAgg(figure)  # pyplot would keep the figure and choose a window system
    # a notebook that has not imported pyplot does not know by itself how to show a figure
    figure._repr_png_ = partial(_png, figure)  # type: ignore[attr-defined]
    return figure


def _style(axes: Axes) -> None:
    axes.grid(color="#dddddd", linewidth=0.7)
    axes.spines[["top", "right"]].set_visible(False)


def save(figure: Figure, path: str | os.PathLike[str]) -> None:
    """Write a picture as a PNG, whole or not at all."""
    replace_file(path, _png(figure))


def _png(figure: Figure) -> bytes:
    return figure_bytes(figure, format="png")


def figure_bytes(figure: Figure, **how: Any) -> bytes:
    """Return a figure as the bytes of a file, by arguments of its ``savefig``."""
    picture = io.BytesIO()
    with warnings.catch_warnings():  # a name may have letters that the font lacks: boxes stand for them
        warnings.filterwarnings("ignore", "Glyph .* missing from")
        figure.savefig(picture, **how)
    return picture.getvalue()


def _as_number(value: float, position: float) -> str:
    return f"{value:g}"


def _as_percent(value: float, position: float) -> str:
    return f"{100 * value:g}%"


__all__ = ["curves_svg", "save_confusion", "save_curves", "save_roofline", "save_sheet"]
