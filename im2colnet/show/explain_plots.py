"""Pictures of an explanation, drawn with Matplotlib (the extra ``viz``).

Pictures have a white background and their own colors, so that they suit a dark page too. Marks are orange: a window,
its column, its row of the weight, its output.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from im2colnet.errors import ShapeError
from im2colnet.host import np
from im2colnet.show.plots import figure_bytes, new_figure
from im2colnet.text import printable

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure

MARK = "#d9731a"
INK = "#222222"
WIDTH = 8.4  #: of a picture, in inches
MOST_ACROSS = 16  #: cells beside each other that have their numbers
LETTERS = 4.6, 8.5  #: the smallest and the largest size of the letters of such numbers, in points
MOST_NUMBERS = 260  #: cells of a picture that have their numbers
MOST_PIXELS = 40  #: rows and columns of an image beside its lowered matrix
MOST_COLUMNS = 100  #: columns of the lowered matrix
MOST_ROWS = 64  #: rows of the lowered matrix
DARKEST = 0.7  #: the part of a map of colors that is used
MOST_BARS = 24  #: products of a linear layer

PARTS = ("input", "columns", "product", "gradient", "rows")


class Crop(NamedTuple):
    """A part of an array, and its place in the whole."""

    cells: Any
    top: int
    left: int
    whole: tuple[int, int]

    @property
    def text(self) -> str:
        """Describe the part; empty if it is the whole."""
        high, wide = self.cells.shape
        found = []
        for what, start, length, whole in (
            ("rows", self.top, high, self.whole[0]),
            ("columns", self.left, wide, self.whole[1]),
        ):
            if length < whole:
                found.append(f"{what} {start}-{start + length - 1} of {whole}")
        return ",\n".join(found)


def draw(e: Any, part: str | None, position: tuple[int, int], channel: int) -> Figure:
    """Draw parts of an explanation; see :meth:`im2colnet.reports.explain.Explanation.plot`."""
    drawn = parts_of(e)
    if part is not None and part not in PARTS:
        raise ShapeError(f"part must be one of {', '.join(PARTS)}, got {part!r}")
    if part is not None and part not in drawn:
        raise ShapeError(f"layer {e.layer!r}, {e.title}, has no part {part!r}: there are {', '.join(map(repr, drawn))}")
    chosen = [name for name in drawn if name != "rows"] if part is None else [part]
    panels = [drawn[name](e, position, channel) for name in chosen]
    heights = [panel.height for panel in panels]
    figure = new_figure(sum(heights), WIDTH, dpi=120)
    figure.set_facecolor("white")
    places: Any = figure.subfigures(len(panels), 1, height_ratios=heights, squeeze=False)
    for panel, place in zip(panels, places[:, 0], strict=True):
        panel.draw(place)
        title = printable(panel.title, keep="\n")
        place.suptitle(title, fontsize=9.5, fontweight="bold", x=0.01, ha="left", color=INK, parse_math=False)
    return figure


def rendered(figure: Figure, kind: str) -> bytes:
    """Return a figure as the bytes of a "png" or "svg" file, the same for the same figure."""
    import matplotlib

    metadata = {"Date": None} if kind == "svg" else None
    with matplotlib.rc_context({"svg.hashsalt": "im2colnet", "image.composite_image": False}):
        return figure_bytes(figure, format=kind, facecolor="white", metadata=metadata)


class Panel(NamedTuple):
    """One part of a picture: its title, its height in inches, and the function that draws it."""

    title: str
    height: float
    draw: Callable[[SubFigure], None]


def parts_of(e: Any) -> dict[str, Callable[[Any, tuple[int, int], int], Panel]]:
    """Return the names of the parts of a layer that can be drawn."""
    if e.kind == "linear" and e.inputs[0].ndim == 1:
        return {"input": both_values, "product": largest_products, "gradient": both_gradients}
    if e.window is None:
        function = {"product": function_of} if e.kind == "elementwise" else {}
        return {"input": both_values, **function, "gradient": both_gradients}
    if e.kind == "transposed convolution":
        return {"input": reads, "columns": columns, "product": spread, "gradient": way_back}
    lowering = {"rows": row_layout} if e.kind == "convolution" else {}
    return {"input": reads, "columns": columns, "product": product, "gradient": way_back, **lowering}


# ---------------------------------------------------------------------- cells


def number_text(values: Any) -> Callable[[float], str]:
    """Return how the numbers of an array are written: as whole numbers if they are, else with as many digits as fit."""
    finite = np.asarray(values)[np.isfinite(values)]
    largest = float(np.abs(finite).max()) if finite.size else 0.0
    if finite.size and np.array_equal(finite, np.rint(finite)) and largest < 10_000:
        form = "{:.0f}"
    elif 0.095 <= largest < 100:
        form = "{:.2f}" if largest < 10 else "{:.1f}"
    else:
        form = "{:.1e}" if largest else "{:.0f}"

    def write(value: float) -> str:
        if not np.isfinite(value):
            return "-∞" if value < 0 else "∞" if value > 0 else "NaN"
        text = form.format(value)
        return text.lstrip("-") if not float(text) else text

    return write


def cells(axes: Axes, crop: Crop, gradient: bool = False, like: Any = None, title: str = "", room: float = 2.0) -> None:
    """Draw an array as colored cells, with its numbers if there are few.

    Colors go from white to blue. A gradient, or another array with both signs, is blue for negative numbers, red for
    positive numbers, and white at 0. ``like`` is an array with the same color scale; ``room`` is the width of the
    drawing in inches.
    """
    values = np.where(np.isfinite(crop.cells), crop.cells, np.nan)
    of = np.asarray(values if like is None else like)
    of = of[np.isfinite(of)]
    low, high = (float(of.min()), float(of.max())) if of.size else (0.0, 1.0)
    signed = gradient or low < 0 < high
    if signed:
        high = max(abs(low), abs(high)) or 1.0
        low = -high
    if low == high:
        low, high = min(low, 0.0), max(high, 1.0)
    wider = (high - low) * (1 / DARKEST - 1)  # the darkest colors would hide black numbers
    low, high = (low - wider / 2 if signed else low), high + wider / (2 if signed else 1)
    rows, across = values.shape
    extent = (crop.left - 0.5, crop.left + across - 0.5, crop.top + rows - 0.5, crop.top - 0.5)
    axes.set_facecolor("#e4e4e4")  # of numbers that are not finite
    axes.imshow(
        values,
        cmap="RdBu_r" if signed else "Blues",
        vmin=low,
        vmax=high,
        interpolation="nearest",
        extent=extent,
        aspect="equal",
    )
    axes.tick_params(length=0, labelsize=7, colors="#666666")
    for spine in axes.spines.values():
        spine.set_color("#bbbbbb")
    write = number_text(crop.cells)
    texts = [[write(value) for value in row] for row in crop.cells] if values.size <= MOST_NUMBERS else [[""]]
    longest = max(len(text) for row in texts for text in row)
    letters = 72 * room / across / (0.68 * max(longest, 2))  # a letter is about 0.6 of its height wide
    if longest and across <= MOST_ACROSS and letters >= LETTERS[0]:
        for i, j in np.ndindex(rows, across):
            size = min(letters, LETTERS[1])
            axes.text(crop.left + j, crop.top + i, texts[i][j], ha="center", va="center", fontsize=size)
        axes.set_xticks(np.arange(crop.left - 0.5, crop.left + across), minor=True)
        axes.set_yticks(np.arange(crop.top - 0.5, crop.top + rows), minor=True)
        axes.grid(which="minor", color="white", linewidth=0.8)
        axes.tick_params(which="minor", length=0)
        axes.set_xticks(range(crop.left, crop.left + across))
        axes.set_yticks(range(crop.top, crop.top + rows))
    name = title + (f"\n({crop.text})" if crop.text else "")
    axes.set_title(name, fontsize=8.5, loc="left", color=INK, parse_math=False)


def frame(axes: Axes, top: float, left: float, high: float, wide: float, **how: Any) -> None:
    """Mark cells by an orange frame."""
    from matplotlib.patches import Rectangle

    options: dict[str, Any] = {"fill": False, "edgecolor": MARK, "linewidth": 2.2, "zorder": 5, "clip_on": False} | how
    axes.add_patch(Rectangle((left - 0.5, top - 0.5), wide, high, **options))


def whole(array: Any) -> Crop:
    """Return an array of one or two axes as cells."""
    found = np.atleast_2d(np.asarray(array, float))
    return Crop(found, 0, 0, found.shape)


def around(array: Any, place: Sequence[int], most: tuple[int, int]) -> Crop:
    """Return the part of an array around a place, with at most this number of rows and columns."""
    top, left = (
        min(max(at - limit // 2, 0), max(size - limit, 0))
        for at, limit, size in zip(place, most, array.shape, strict=True)
    )
    return Crop(np.asarray(array[top : top + most[0], left : left + most[1]], float), top, left, array.shape)


def mark_taps(axes: Axes, e: Any, at: int, crop: Crop, image: tuple[int, int]) -> None:
    """Mark the pixels that a window reads: each of them, and a frame around all, also around padding."""
    facts, W = e.window, image[1]
    read = e.sources[:, at]
    places = [divmod(int(s), W) for s in read if s >= 0]
    inside = [
        (h, w)
        for h, w in places
        if crop.top <= h < crop.top + crop.cells.shape[0] and crop.left <= w < crop.left + crop.cells.shape[1]
    ]
    border = getattr(e.made_by, "border", None) is not None
    if facts.stride is not None and not border:
        r, c = divmod(at, facts.output_size[1])
        top, left = r * facts.stride[0] - facts.padding[0], c * facts.stride[1] - facts.padding[2]
        (KH, KW), (dh, dw) = facts.kernel_size, facts.dilation
        high, wide = dh * (KH - 1) + 1, dw * (KW - 1) + 1
        frame(axes, top, left, high, wide)
        widen(axes, crop, top, left, high, wide)
        if (dh, dw) == (1, 1):
            return
    for h, w in inside:
        frame(axes, h, w, 1, 1, linewidth=1.6)


def widen(axes: Axes, crop: Crop, top: int, left: int, high: int, wide: int) -> None:
    """Let the axes reach to a window that begins or ends in the padding."""
    rows, across = crop.cells.shape
    axes.set_xlim(min(crop.left, left) - 0.5, max(crop.left + across, left + wide) - 0.5)
    axes.set_ylim(max(crop.top + rows, top + high) - 0.5, min(crop.top, top) - 0.5)


# ---------------------------------------------------------------------- layers with a window


def pixels(e: Any, channel: int, position: tuple[int, int], gradient: bool = False) -> tuple[Crop, Any, str]:
    """Return the image that windows slide over, cropped around one, its channel, and its name."""
    transposed = e.kind == "transposed convolution"
    if transposed:
        array, number, name = (e.doutput if gradient else e.output), channel, "output"
    else:
        array, number, name = (e.dinputs[0] if gradient else e.inputs[0]), e.channels_of(channel).start, "input"
    image = e.as_image(array)
    at = e.window.column(position)
    read = e.sources[:, at]
    read = read[read >= 0]
    middle = divmod(int(read[len(read) // 2]), image.shape[2]) if read.size else (0, 0)
    crop = around(image[number], middle, (MOST_PIXELS, MOST_PIXELS))
    several = f", channel {number} of {len(image)}" if len(image) > 1 else ""
    return crop, image.shape[1:], f"{'gradient of the ' * gradient}{name}{several}"


def reads(e: Any, position: tuple[int, int], channel: int) -> Panel:
    """Draw the image, and how often each pixel is read."""
    transposed = e.kind == "transposed convolution"
    number = channel if transposed else e.channels_of(channel).start
    image = e.as_image(e.output if transposed else e.inputs[0])
    several = f", channel {number} of {len(image)}" if len(image) > 1 else ""
    name = f"the output{several}" if transposed else f"the image{several}"
    count = "how many numbers are added to each pixel" if transposed else "how many windows read each pixel"

    def paint(place: SubFigure) -> None:
        left, right = place.subplots(1, 2)
        cells(left, whole(image[number]), title=name, room=3.2)
        cells(right, whole(e.reads), title=count, room=3.2)

    shape = "×".join(map(str, image.shape))
    facts = e.window
    OH, OW = facts.output_size
    title = f"{e.layer}: {e.title}\n{OH}×{OW} windows of {facts.kernel_size[0]}×{facts.kernel_size[1]} on {shape}"
    return Panel(title, height_of(image.shape[1:], 2), paint)


def height_of(shape: Sequence[int], across: float, least: float = 1.5) -> float:
    """Return the height in inches of arrays of a shape that are drawn beside each other."""
    return float(min(max(least, 0.75 + (WIDTH / across - 0.5) * shape[0] / max(shape[1], 1)), 4.2))


def some_columns(e: Any, position: tuple[int, int], channel: int, gradient: bool = False) -> tuple[Crop, int, int]:
    """Return a part of the lowered matrix around a position, the position's column, and the number of rows."""
    P = e.sources.shape[1]
    at = e.window.column(position)
    start = min(max(at - MOST_COLUMNS // 2, 0), max(P - MOST_COLUMNS, 0))
    positions = np.arange(start, min(start + MOST_COLUMNS, P))
    matrix = (e.dcolumns_at if gradient else e.columns_at)(channel, positions)
    return Crop(np.asarray(matrix[:MOST_ROWS]), 0, start, (len(matrix), P)), at, len(matrix)


def columns(e: Any, position: tuple[int, int], channel: int) -> Panel:
    """Draw the image with a window, and the lowered matrix with its column."""
    crop, image, name = pixels(e, channel, position)
    matrix, at, K = some_columns(e, position, channel)

    def paint(place: SubFigure) -> None:
        left, right = place.subplots(1, 2, width_ratios=[1, 2])
        cells(left, crop, title=f"{name}:\nthe window of position {position}", room=2.0)
        mark_taps(left, e, at, crop, image)
        cells(right, matrix, title=f"the lowered matrix, {K}×{matrix.whole[1]}: column {at} is the window", room=4.8)
        right.set_aspect("auto")
        right.set_xlabel("p: position of the window", fontsize=7.5, color=INK)
        right.set_ylabel("k = (i, j)" if e.kind == "pooling" else "k = (channel, i, j)", fontsize=7.5, color=INK)
        frame(right, 0, at, len(matrix.cells), 1)

    transposed = e.kind == "transposed convolution"
    how = "col2im: each column is added to its window" if transposed else "im2col: each window becomes a column"
    groups = e.window.groups
    which = f" (group {e.group_of(channel)} of {groups})" if groups > 1 else ""
    return Panel(f"{how}{which}", max(2.4, height_of(crop.cells.shape, 3)), paint)


def product(e: Any, position: tuple[int, int], channel: int) -> Panel:
    """Draw the product for one position: window, filter, their products, and the output."""
    if e.kind == "pooling":
        return pooled(e, position, channel)
    (KH, KW), at = e.window.kernel_size, e.window.column(position)
    group, per = e.group_of(channel), len(e.output) // e.window.groups
    column = e.columns_at(channel, [at])[:, 0].reshape(-1, KH, KW)
    weight = e.weight[group, channel % per].reshape(-1, KH, KW)
    products = column * weight
    strongest = int(np.abs(products.sum(axis=(1, 2))).argmax())
    bias = 0.0 if e.bias is None else float(e.bias[channel])
    y = float(e.as_image(e.output)[channel][position])
    of = f", channel {e.channels_of(channel).start + strongest}" if len(column) > 1 else ""
    output = around(e.as_image(e.output)[channel], position, (MOST_PIXELS, MOST_PIXELS))
    write = number_text(np.array([y, bias, products.sum()]))
    plus = "" if e.bias is None else f" + bias {write(bias)}"
    inside = f"all {products.size} products" if len(column) > 1 else f"the {products.size} products"

    def paint(place: SubFigure) -> None:
        axes = place.subplots(1, 4, width_ratios=[1, 1, 1, 1.6])
        cells(axes[0], whole(column[strongest]), title=f"window at {position}{of}", room=1.3)
        cells(axes[1], whole(weight[strongest]), title=f"filter {channel}{of}", like=weight, room=1.3)
        cells(axes[2], whole(products[strongest]), title="their products", like=products, room=1.3)
        cells(axes[3], output, title=f"output, channel {channel} of {len(e.output)}", room=1.7)
        frame(axes[3], position[0], position[1], 1, 1)
        for one, sign in zip(axes, ("×", "=", "→"), strict=False):
            one.text(1.06, 0.5, sign, transform=one.transAxes, fontsize=13, ha="left", va="center", color=INK)

    title = f"one number of the product: the sum of {inside} = {write(products.sum())}{plus} → {write(y)}"
    return Panel(title, 2.3, paint)


def pooled(e: Any, position: tuple[int, int], channel: int) -> Panel:
    """Draw a window of a pooling, and the output."""
    at = e.window.column(position)
    column = e.columns_at(channel, [at])[:, 0].reshape(e.window.kernel_size)
    share = e.shares_of_windows[channel][:, at].reshape(e.window.kernel_size)
    y = float(e.as_image(e.output)[channel][position])
    output = around(e.as_image(e.output)[channel], position, (MOST_PIXELS, MOST_PIXELS))
    write = number_text(np.array([y]))

    def paint(place: SubFigure) -> None:
        axes = place.subplots(1, 3, width_ratios=[1, 1, 1.6])
        cells(axes[0], whole(column), title=f"window at {position}")
        cells(axes[1], whole(share), title="derivative of the output by each number", gradient=True)
        cells(axes[2], output, title=f"output, channel {channel} of {len(e.output)}")
        frame(axes[2], position[0], position[1], 1, 1)
        if e.takes_maximum:
            for axis in axes[:2]:
                row, column_ = divmod(int(np.nanargmax(share)), share.shape[1])
                frame(axis, row, column_, 1, 1)

    what = "the largest" if e.takes_maximum else "the mean" if e.divisors is not None else "the norm"
    return Panel(f"one number of the output: {what} of the window, {write(y)}", 2.3, paint)


def spread(e: Any, position: tuple[int, int], channel: int) -> Panel:
    """Draw one pixel of a transposed convolution's input, the filter, and the numbers that are added to the output."""
    KH, KW = e.window.kernel_size
    at, group = e.window.column(position), e.group_of(channel)
    per, out_per = len(e.inputs[0]) // e.window.groups, len(e.output) // e.window.groups
    x = e.as_image(e.inputs[0])[:, position[0], position[1]][group * per : (group + 1) * per]
    weight = e.weight[group].reshape(per, out_per, KH, KW)[:, channel % out_per]
    strongest = int(np.abs(x[:, None, None] * weight).sum(axis=(1, 2)).argmax())
    added = e.columns_at(channel, [at])[:, 0].reshape(out_per, KH, KW)[channel % out_per]
    source = around(e.as_image(e.inputs[0])[group * per + strongest], position, (MOST_PIXELS, MOST_PIXELS))

    def paint(place: SubFigure) -> None:
        axes = place.subplots(1, 3, width_ratios=[1.6, 1, 1])
        cells(axes[0], source, title=f"input, channel {group * per + strongest} of {len(e.inputs[0])}")
        frame(axes[0], position[0], position[1], 1, 1)
        cells(axes[1], whole(weight[strongest]), title=f"its filter for channel {channel}")
        cells(axes[2], whole(added), title=f"the sum over {per} channel{'s' * (per > 1)}")

    return Panel("one pixel of the input: its multiples of the filters are added to the output's window", 2.3, paint)


def way_back(e: Any, position: tuple[int, int], channel: int) -> Panel:
    """Draw the gradients of the output, the lowered matrix, and the input."""
    transposed = e.kind == "transposed convolution"
    crop, image, name = pixels(e, channel, position, gradient=True)
    matrix, at, K = some_columns(e, position, channel, gradient=True)
    number = e.channels_of(channel).start if transposed else channel
    other = e.as_image(e.dinputs[0] if transposed else e.doutput)[number]
    there = around(other, position, (MOST_PIXELS, MOST_PIXELS))
    what = "input" if transposed else "output"
    count = len(e.inputs[0]) if transposed else len(e.output)

    def paint(place: SubFigure) -> None:
        axes = place.subplots(1, 3, width_ratios=[1, 1.6, 1])
        first, last = (axes[2], axes[0]) if transposed else (axes[0], axes[2])
        cells(first, there, gradient=True, title=f"gradient of the {what},\nchannel {number} of {count}")
        frame(first, position[0], position[1], 1, 1)
        cells(axes[1], matrix, gradient=True, title=f"of the lowered matrix, {K}×{matrix.whole[1]}", room=3.2)
        axes[1].set_aspect("auto")
        frame(axes[1], 0, at, len(matrix.cells), 1)
        cells(last, crop, gradient=True, title=name.replace(", ", ",\n"))
        mark_taps(last, e, at, crop, image)

    how = {
        "pooling": "each output's gradient goes to its window, and overlaps are added (col2im)",
        "convolution": "wᵀ · gradient of the output, then col2im adds each column to its window",
        "transposed convolution": "im2col of the output's gradient, then the product with w",
    }[e.kind]
    title = f"the way back of {e.score.name} = {e.score.value:.4g}: {how}"
    return Panel(title, max(2.4, height_of(crop.cells.shape, 3.6)), paint)


def row_layout(e: Any, position: tuple[int, int], channel: int) -> Panel:
    """Draw the lowering along the width alone, and the window of a row of outputs in it, as it lies in memory."""
    L, (top, left) = lowered_rows(e, channel)
    H, KW, C, OW = L.shape
    r = position[0]
    taps = [r * e.window.stride[0] + i * e.window.dilation[0] for i in range(e.window.kernel_size[0])]
    flat = L.reshape(H, -1)
    part = flat[:, :240]
    first = min(max(r * e.window.stride[0] - 12, 0), max(H - 30, 0))
    crop = Crop(part[first : first + 30], first, 0, flat.shape)
    window = L[taps].reshape(-1, OW)
    shown = Crop(window[:MOST_ROWS, :MOST_COLUMNS], 0, 0, window.shape)
    (_, sw), (_, dw) = e.window.stride, e.window.dilation
    down = f"h - {top}" if top else "h"
    across = f"{f'{sw}·' * (sw > 1)}ow + {f'{dw}·' * (dw > 1)}j" + (f" - {left}" if left else "")

    def paint(place: SubFigure) -> None:
        above, below = place.subplots(2, 1, height_ratios=[1.25, 1])
        cells(above, crop, title=f"L[h, j, c, ow] = x[{down}, c, {across}]", room=7.5)
        above.set_aspect("auto")
        above.set_ylabel("h", fontsize=7.5, color=INK)
        above.set_xlabel(f"(j, c, ow): {KW}·{C}·{OW} numbers, one row of memory", fontsize=7.5, color=INK)
        for j in range(1, KW):
            if j * C * OW <= part.shape[1]:
                above.axvline(j * C * OW - 0.5, color="#888888", linewidth=1)
        for tap in taps:
            frame(above, tap, 0, 1, part.shape[1], linewidth=1.5)
        text = f"the marked stretch, read as a matrix ({len(window)}, {OW})"
        cells(below, shown, title=f"{text}: w times it is row {r} of the output", room=7.5)
        below.set_aspect("auto")
        below.set_ylabel("(i, j, c)", fontsize=7.5, color=INK)
        below.set_xlabel("ow", fontsize=7.5, color=INK)

    rows = f"rows {taps[0]} to {taps[-1]}" if len(taps) > 1 else f"row {taps[0]}"
    title = f"the library's rows: lowered along the width alone; the window of output row {r} is {rows} of L"
    return Panel(title, 4.4, paint)


def lowered_rows(e: Any, channel: int) -> tuple[Any, tuple[int, int]]:
    """Return L (H with padding, KW, C, OW) of the channels that a filter reads, and the padding at the top and left."""
    facts, mode = e.window, getattr(e.made_by, "padding_mode", "zeros")
    KW, OW, (top, bottom, left, right) = facts.kernel_size[1], facts.output_size[1], facts.padding
    how: Any = {"reflect": "reflect", "replicate": "edge", "circular": "wrap"}.get(mode, "constant")
    image = np.pad(e.as_image(e.inputs[0])[e.channels_of(channel)], ((0, 0), (top, bottom), (left, right)), how)
    at = np.arange(OW) * facts.stride[1] + np.arange(KW)[:, None] * facts.dilation[1]  # (KW, OW)
    return image[:, :, at].transpose(1, 2, 0, 3), (top, left)


# ---------------------------------------------------------------------- other layers


def sheet(arrays: dict[str, Any], gradient: bool) -> tuple[float, Callable[[SubFigure], None]]:
    """Return the height and the drawing of values beside each other, images as cells and features as bars."""

    def paint(place: SubFigure) -> None:
        axes = np.atleast_1d(place.subplots(1, len(arrays)))
        for one, (name, array) in zip(axes, arrays.items(), strict=True):
            if array.ndim == 3:
                cells(one, whole(array[0]), gradient, title=name + f", channel 0 of {len(array)}" * (len(array) > 1))
            elif array.ndim == 1:
                bars(one, array, name)
            else:
                cells(one, around(array.reshape(-1, array.shape[-1]), (0, 0), (MOST_PIXELS, 200)), gradient, title=name)
                one.set_aspect("auto")

    sizes = [array.shape[1:] for array in arrays.values() if array.ndim == 3]
    return max([2.2, *(height_of(size, len(arrays)) for size in sizes)]), paint


def bars(axes: Axes, array: Any, title: str) -> None:
    """Draw features as bars."""
    from matplotlib.ticker import MaxNLocator

    axes.bar(range(len(array)), array, color="#1f5fa8", width=0.8 if len(array) <= 64 else 1.0)
    axes.axhline(0, color="#999999", linewidth=0.8)
    axes.set_title(title, fontsize=8.5, loc="left", color=INK, parse_math=False)
    axes.tick_params(labelsize=7, colors="#666666")
    axes.spines[["top", "right"]].set_visible(False)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))


def both_values(e: Any, position: tuple[int, int], channel: int) -> Panel:
    """Draw the input and the output of a layer."""
    several = len(e.inputs) > 1
    arrays = {f"input {i}" if several else "input": x for i, x in enumerate(e.inputs[:3])} | {"output": e.output}
    height, paint = sheet(arrays, False)
    shapes = ", ".join("×".join(map(str, x.shape)) for x in e.inputs)
    title = f"{e.layer}: {e.title}, {shapes} → {'×'.join(map(str, e.output.shape))}"
    return Panel(title, height, paint)


def both_gradients(e: Any, position: tuple[int, int], channel: int) -> Panel:
    """Draw the gradients of a layer's output and inputs."""
    several = len(e.inputs) > 1
    arrays = {"gradient of the output": e.doutput} | {
        f"of input {i}" if several else "of the input": x for i, x in enumerate(e.dinputs[:3])
    }
    height, paint = sheet(arrays, True)
    return Panel(f"the way back of {e.score.name} = {e.score.value:.4g}", height, paint)


def function_of(e: Any, position: tuple[int, int], channel: int) -> Panel:
    """Draw the output over the input, a point for each number."""
    x, y = e.inputs[0].ravel(), e.output.ravel()
    step = max(1, len(x) // 4000)

    def paint(place: SubFigure) -> None:
        axes = place.subplots()
        axes.scatter(x[::step], y[::step], 9, color="#1f5fa8", alpha=0.5, linewidth=0)
        axes.axhline(0, color="#cccccc", linewidth=0.8, zorder=0)
        axes.axvline(0, color="#cccccc", linewidth=0.8, zorder=0)
        axes.set_xlabel("input x", fontsize=8, color=INK)
        axes.set_ylabel("output y", fontsize=8, color=INK)
        axes.tick_params(labelsize=7, colors="#666666")
        axes.spines[["top", "right"]].set_visible(False)

    return Panel(f"{e.formula}: a point for each of {len(x):,} numbers", 2.6, paint)


def largest_products(e: Any, position: tuple[int, int], channel: int) -> Panel:
    """Draw the largest products of one output of a linear layer."""
    products = e.weight[channel] * e.inputs[0]
    order = np.argsort(-np.abs(products), kind="stable")[:MOST_BARS]
    rest, bias = float(products.sum() - products[order].sum()), 0.0 if e.bias is None else float(e.bias[channel])
    names = [f"x{i}·w{i}" for i in order]
    values = [float(v) for v in products[order]]
    if len(products) > len(order):
        names, values = [*names, f"{len(products) - len(order)} others"], [*values, rest]
    if e.bias is not None:
        names, values = [*names, "bias"], [*values, bias]

    def paint(place: SubFigure) -> None:
        axes = place.subplots()
        colors = ["#b2182b" if value > 0 else "#2166ac" for value in values]
        axes.bar(range(len(values)), values, color=colors, alpha=0.8)
        axes.axhline(0, color="#999999", linewidth=0.8)
        axes.set_xticks(range(len(names)), names, rotation=60, fontsize=7)
        axes.tick_params(labelsize=7, colors="#666666")
        axes.spines[["top", "right"]].set_visible(False)

    total = float(e.output[channel])
    return Panel(f"output {channel} = {total:.4g}: the largest of {len(products)} products, and their rest", 2.8, paint)


__all__ = ["draw", "parts_of", "rendered"]
