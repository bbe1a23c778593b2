"""The text of an explanation, for a terminal."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Sequence
from math import prod
from typing import Any

from im2colnet.host import np
from im2colnet.text import amount, count, fields, printable, size_text, table

MOST_TERMS = 18  #: rows of a table of products
LARGEST = 12  #: products that are shown of more
MOST_ROWS = 18  #: rows of an image that are shown
MOST_SAMPLES = 9  #: numbers of a layer that is a function of each
SHADES = " .:-=+*#%@"
#: codes of a terminal: bold and orange, and back
COLORED, PLAIN = "\x1b[1;38;5;208m", "\x1b[0m"


def explanation_text(e: Any, width: int, position: tuple[int, int], channel: int, color: bool) -> str:
    """Return an explanation as a text of at most ``width`` columns, except for longer words.

    Parameters
    ----------
    e : Explanation
    width : int
    position : (row, column)
        The position of the window that is worked out.
    channel : int
        The channel of the output.
    color : bool
        Whether the window's pixels are colored, in addition to brackets.
    """
    parts = [_head(e, width)]
    if e.kind == "transposed convolution":
        parts += [_image(e.inputs[0], {position}, e, width, color, _strongest(e, position, channel))]
        parts += [_spread(e, position, channel, width)]
    elif e.window is not None:
        parts += [_windowed_image(e, position, channel, width, color)]
        parts += [
            _product(e, position, channel, width) if e.weight is not None else _pooled(e, position, channel, width)
        ]
        parts += [_way_back(e, position, channel, width)]
    elif e.kind == "linear" and e.inputs[0].ndim == 1:
        parts += [_linear(e, channel, width)]
    else:
        parts += [_values(e, width)]
    return "\n\n".join(part for part in parts if part)


def numbers(values: Iterable[float]) -> list[str]:
    """Return numbers as texts of the same form: whole if all are, else with as many digits as a reader needs."""
    array = np.array([*values], float)
    finite = array[np.isfinite(array)]
    largest = float(np.abs(finite).max()) if finite.size else 0.0
    if finite.size and np.array_equal(finite, np.rint(finite)) and largest < 100_000:
        form = "{:.0f}"
    elif 0.01 <= largest < 1000:
        form = "{:.3f}" if largest < 10 else "{:.2f}"
    else:
        form = "{:.2e}"
    return [form.format(0.0 if float(form.format(v)) == 0 else v) if np.isfinite(v) else str(v) for v in array]


def _wrapped(text: str, width: int) -> str:
    return textwrap.fill(printable(text), width, break_long_words=False, break_on_hyphens=False)


def _head(e: Any, width: int) -> str:
    facts = {"layer": f"{e.layer}: {e.title}", "formula": e.formula}
    for i, x in enumerate(e.inputs):
        facts[f"input {i}" if len(e.inputs) > 1 else "input"] = size_text(x.shape)
    if e.window is not None:
        w, transposed = e.window, e.kind == "transposed convolution"
        how = f"{size_text(w.output_size)} of {size_text(w.kernel_size)}"
        how += f", stride {_pair(w.stride)}" if w.stride is not None else ", not evenly spaced"
        how += f", padding {_padding(w.padding)}" if any(w.padding) else ""
        how += f", dilation {_pair(w.dilation)}" if w.dilation != (1, 1) else ""
        how += f", {w.groups} groups" if w.groups > 1 else ""
        facts["windows"] = how
        rows, per = len(e.sources), " for each channel"
        if e.weight is not None:
            rows, per = e.weight.shape[2], " for each group" if w.groups > 1 else ""
        made_of = "pixel of the input" if transposed else "window"
        facts["columns"] = f"{size_text((rows, e.sources.shape[1]))}{per}: one for each {made_of}"
        low, high = int(e.reads.min()), int(e.reads.max())
        what = "is added to by" if transposed else "is read by"
        many = count(low, "window") if low == high else f"{low} to {high} windows"
        facts["pixels"] = f"each {what} {many}"
    facts["output"] = size_text(e.output.shape)
    size = sum(array.size for array in e.parameters.values())
    facts["work"] = f"{amount(e.flops, 1000).strip()} FLOPs, {count(size, 'parameter')}"
    facts["score"] = f"{e.score.name} = {numbers([e.score.value])[0]}"
    return fields(facts, width)


def _pair(pair: Sequence[int]) -> str:
    return str(pair[0]) if pair[0] == pair[1] else size_text(pair)


def _padding(padding: Sequence[int]) -> str:
    top, bottom, left, right = padding
    if top == bottom == left == right:
        return str(top)
    return f"(top {top}, bottom {bottom}, left {left}, right {right})"


# ---------------------------------------------------------------------- images


def _windowed_image(e: Any, position: tuple[int, int], channel: int, width: int, color: bool) -> str:
    """Return the image that a window reads, with the window in brackets."""
    W = e.image_size[1]
    at = e.window.column(position)
    read = {divmod(int(s), W) for s in e.sources[:, at] if s >= 0}
    return _image(e.inputs[0], read, e, width, color, _strongest(e, position, channel), position)


def _strongest(e: Any, position: tuple[int, int], channel: int) -> int:
    """Return the channel of the input that contributes most to an output."""
    channels = e.channels_of(channel)
    if channels.stop - channels.start == 1:
        return int(channels.start)
    at = e.window.column(position)
    group, per = e.group_of(channel), len(e.output) // e.window.groups
    if e.kind == "transposed convolution":
        sizes = np.abs(e.as_image(e.inputs[0])[channels, position[0], position[1]])
    else:
        products = e.columns_at(channel, [at])[:, 0] * e.weight[group, channel % per]
        sizes = np.abs(products).reshape(channels.stop - channels.start, -1).sum(axis=1)
    return int(channels.start + sizes.argmax())


def _image(
    value: Any, marked: set[tuple[int, int]], e: Any, width: int, color: bool, channel: int, position: Any = None
) -> str:
    """Return a channel of an image as numbers around what is marked, and the whole of it as shades if that is more."""
    images = e.as_image(value)
    image = images[channel]
    H, W = image.shape
    several = f", channel {channel} of {len(images)}" if len(images) > 1 else ""
    shown = numbers(image.ravel())
    wide = max(map(len, shown)) + 2
    ruler = len(str(H - 1))
    columns = max(1, min(W, (width - ruler - 2) // wide))
    rows = min(H, MOST_ROWS)
    middle = sorted(marked)[len(marked) // 2] if marked else (0, 0)
    top, left = (
        min(max(at - n // 2, 0), size - n) for at, n, size in zip(middle, (rows, columns), (H, W), strict=True)
    )
    at = f": the window of output {position} in brackets" if position is not None else ": the pixel in brackets"
    title = f"the input{several}{at}"
    if (rows, columns) != (H, W):
        title += f" (rows {top} to {top + rows - 1} of {H}, columns {left} to {left + columns - 1} of {W})"
    lines = [_wrapped(title, width)]
    lines.append(
        " " * (ruler + 1) + "".join(str(w).rjust(wide - 1) + " " for w in range(left, left + columns)).rstrip()
    )
    for h in range(top, top + rows):
        cells = []
        for w in range(left, left + columns):
            text = shown[h * W + w].rjust(wide - 2)
            if (h, w) in marked:
                cell = f"[{text.strip()}]".rjust(wide)
                cells.append(f"{COLORED}{cell}{PLAIN}" if color else cell)
            else:
                cells.append(f"{text:>{wide - 1}} ")
        lines.append(f"{h:>{ruler}} " + "".join(cells).rstrip())
    if (rows, columns) != (H, W) and width >= W and H <= 2 * MOST_ROWS:
        lines = [f"the input{several}", *_shades(image), "", *lines]
    return "\n".join(lines)


def _shades(image: Any) -> list[str]:
    """Return an image as letters, the darker the larger."""
    low, high = float(image.min()), float(image.max())
    steps = np.zeros(image.shape) if low == high else (image - low) / (high - low) * (len(SHADES) - 1)
    return ["".join(SHADES[round(float(step))] for step in row).rstrip() for row in steps]


# ---------------------------------------------------------------------- tables


def _chosen(sizes: Any) -> tuple[list[int], list[int]]:
    """Return the terms that a table shows, in their order, and the others."""
    if len(sizes) <= MOST_TERMS:
        return [*range(len(sizes))], []
    order = np.argsort(-np.abs(sizes), kind="stable")
    return sorted(map(int, order[:LARGEST])), sorted(map(int, order[LARGEST:]))


def _columns_of_numbers(rows: list[list[Any]], titles: Sequence[str], first: int) -> list[list[str]]:
    """Return rows whose cells from ``first`` on are numbers, or None, as texts; each column has a form of its own."""
    found = [[str(cell) for cell in row[:first]] for row in rows]
    for column in range(first, len(titles)):
        given = [row[column] for row in rows]
        texts = iter(numbers([v for v in given if v is not None]))
        for row, value in zip(found, given, strict=True):
            row.append("" if value is None else next(texts))
    return [[*titles], *found]


def _tap(e: Any, k: int) -> str:
    return str(divmod(k % len(e.sources), e.window.kernel_size[1]))


def _pixel(e: Any, k: int, at: int, W: int) -> str:
    source = int(e.sources[k % len(e.sources), at])
    return str(divmod(source, W)) if source >= 0 else "padding"


def _product(e: Any, position: tuple[int, int], channel: int, width: int) -> str:
    """Return a table of a window's column, the filter, their products and the sum."""
    at, W = e.window.column(position), e.image_size[1]
    group, per, first = e.group_of(channel), len(e.output) // e.window.groups, e.channels_of(channel).start
    x, w = e.columns_at(channel, [at])[:, 0], e.weight[group, channel % per]
    products, several = x * w, len(x) > len(e.sources)
    shown, others = _chosen(products)
    rows: list[list[Any]] = [
        [
            k,
            *([first + k // len(e.sources)] if several else []),
            _tap(e, k),
            _pixel(e, k, at, W),
            x[k],
            w[k],
            products[k],
        ]
        for k in shown
    ]
    gap = [""] * (3 if several else 2)
    if others:
        rows.append([f"{len(others)} more", *gap, None, None, products[others].sum()])
    if e.bias is not None:
        rows.append(["bias", *gap, None, None, float(e.bias[channel])])
    y = float(e.as_image(e.output)[channel][position])
    rows.append(["sum", *gap, None, None, y])
    names = ["k", *(["channel"] if several else []), "tap (i, j)", "pixel", "x", "w", "x · w"]
    first_number = len(names) - 3
    cells = _columns_of_numbers(rows, names, first_number)
    terms = f"\n\n{_wrapped(_sum(x, w, e.bias if e.bias is None else e.bias[channel], y), width)}" * (not others)
    title = (
        f"the product: column {at} of the lowered matrix, the window, times filter {channel}, row {channel} of the"
        f" weight, is output {(channel, *position)}"
    )
    return f"{_wrapped(title, width)}\n{table(cells, range(first_number, len(names)), True, width)}{terms}"


def _sum(x: Any, w: Any, bias: float | None, y: float) -> str:
    """Return a sum of products, written out."""
    xs, ws = numbers(x), numbers(w)
    terms = [f"{a}·{f'({b})' if b.startswith('-') else b}" for a, b in zip(xs, ws, strict=True)]
    (total,) = numbers([y])
    if bias is not None:
        terms += numbers([bias])
    found = " + ".join(terms).replace("+ -", "- ")
    return f"{found} = {total}"


def _pooled(e: Any, position: tuple[int, int], channel: int, width: int) -> str:
    """Return the column of a window of a pooling, and its result."""
    at, W = e.window.column(position), e.image_size[1]
    x, share = e.columns_at(channel, [at])[:, 0], e.shares_of_windows[channel][:, at]
    y = float(e.as_image(e.output)[channel][position])
    # of pixels that are 0, those that the output depends on come before the others
    shown, others = _chosen(share * (np.where(np.isfinite(x), x, 0) + 1e-12))
    rows: list[list[Any]] = []
    for k in shown:
        pixel = _pixel(e, k, at, W)
        rows.append([k, _tap(e, k), pixel, None if pixel == "padding" else x[k], share[k]])
    if others:
        rows.append([f"{len(others)} more", "", "", None, None])
    what, how = "norm", "the norm"
    if e.takes_maximum:
        what, how = "largest", "the largest number"
    elif e.divisors is not None:
        what, how = "mean", f"the sum divided by {e.divisors[at]}"
    rows.append([what, "", "", y, None])
    cells = _columns_of_numbers(rows, ["k", "tap (i, j)", "pixel", "x", "dy/dx"], 3)
    title = f"{how} of the window, column {at} of the lowered matrix, is output {(channel, *position)}"
    return f"{_wrapped(title, width)}\n{table(cells, (3, 4), True, width)}"


def _way_back(e: Any, position: tuple[int, int], channel: int, width: int) -> str:
    """Return the gradient of a column, and the gradient of its pixels."""
    at, W = e.window.column(position), e.image_size[1]
    first, dcolumn = e.channels_of(channel).start, e.dcolumns_at(channel, [at])[:, 0]
    several, pixels = len(dcolumn) > len(e.sources), e.as_image(e.dinputs[0])
    shown, others = _chosen(dcolumn)
    rows: list[list[Any]] = []
    for k in shown:
        source, c = int(e.sources[k % len(e.sources), at]), first + k // len(e.sources)
        rows.append(
            [
                k,
                *([c] if several else []),
                _pixel(e, k, at, W),
                dcolumn[k],
                None if source < 0 else pixels[c].ravel()[source],
                None if source < 0 else int(e.reads.ravel()[source]),
            ]
        )
    if others:
        rows.append([f"{len(others)} more", *[""] * (2 if several else 1), None, None, None])
    names = ["k", *(["channel"] if several else []), "pixel", "of the column", "of the pixel", "windows"]
    first_number = len(names) - 3
    cells = _columns_of_numbers(rows, names, first_number)
    dy = numbers([float(e.as_image(e.doutput)[channel][position])])[0]
    made = (
        "wᵀ times the gradients of all filters at this position is the column's gradient"
        if e.weight is not None
        else "dy/dx distributes it over the window"
    )
    title = (
        f"the way back: the gradient of the score by output {(channel, *position)} is {dy}; {made}, and col2im adds up"
        " the gradients of all windows that read a pixel"
    )
    return f"{_wrapped(title, width)}\n{table(cells, range(first_number, len(names)), False, width)}"


def _spread(e: Any, position: tuple[int, int], channel: int, width: int) -> str:
    """Return the numbers that a pixel of a transposed convolution's input adds to the output."""
    at, W = e.window.column(position), e.output_image_size[1]
    per = len(e.output) // e.window.groups
    T, out, y = len(e.sources), channel % per, e.as_image(e.output)[channel].ravel()
    column = e.columns_at(channel, [at])[out * T : (out + 1) * T, 0]
    dcolumn = e.dcolumns_at(channel, [at])[out * T : (out + 1) * T, 0]
    shown, others = _chosen(column)
    rows: list[list[Any]] = []
    for k in shown:
        source = int(e.sources[k, at])
        pixel = str(divmod(source, W)) if source >= 0 else "cut off"
        rows.append([k, _tap(e, k), pixel, column[k], None if source < 0 else y[source], dcolumn[k]])
    if others:
        rows.append([f"{len(others)} more", "", "", None, None, None])
    names = ["k", "tap (i, j)", "output pixel", "wᵀ · x", "output", "gradient"]
    cells = _columns_of_numbers(rows, names, 3)
    bias = "" if e.bias is None else f", and the bias {numbers([float(e.bias[channel])])[0]}"
    title = (
        f"the product: wᵀ times the input's pixel {position} is column {at}. col2im adds the columns of all pixels to"
        f" output channel {channel}{bias}"
    )
    return f"{_wrapped(title, width)}\n{table(cells, range(3, 6), False, width)}"


def _linear(e: Any, channel: int, width: int) -> str:
    """Return the products of one output of a linear layer."""
    x, w = e.inputs[0], e.weight[channel]
    shown, others = _chosen(x * w)
    rows: list[list[Any]] = [[k, x[k], w[k], x[k] * w[k], e.dinputs[0][k]] for k in shown]
    if others:
        rows.append([f"{len(others)} more", None, None, (x * w)[others].sum(), None])
    if e.bias is not None:
        rows.append(["bias", None, None, float(e.bias[channel]), None])
    rows.append(["sum", None, None, float(e.output[channel]), None])
    cells = _columns_of_numbers(rows, ["feature", "x", "w", "x · w", "gradient of x"], 1)
    dy = numbers([float(e.doutput[channel])])[0]
    title = (
        f"the product: the input times row {channel} of the weight is output {channel}. The gradient of the score by it"
        f" is {dy}; Wᵀ times the gradients of all outputs is the input's gradient"
    )
    return f"{_wrapped(title, width)}\n{table(cells, range(1, 5), True, width)}"


def _values(e: Any, width: int) -> str:
    """Return some numbers of a layer that is not a matrix product, and their gradients."""
    alike = [x for x in e.inputs if x.shape == e.output.shape]
    notes = []
    if not alike or len(alike) < len(e.inputs):
        if len(e.inputs) == 1 and np.array_equal(np.sort(e.inputs[0], axis=None), np.sort(e.output, axis=None)):
            notes.append("the output has the numbers of the input at other positions")
        notes += _ranges(e)
        return "\n".join(_wrapped(note, width) for note in notes)
    order = np.argsort(e.inputs[0], axis=None, kind="stable")
    some = np.linspace(0, len(order) - 1, min(MOST_SAMPLES, len(order))).round().astype(int)
    places = [*dict.fromkeys(order[some].tolist())]
    several = len(e.inputs) > 1
    names = ["at", *([f"x{i}" for i in range(len(e.inputs))] if several else ["x"]), "y", "gradient of y"]
    names += [f"of x{i}" for i in range(len(e.inputs))] if several else ["of x"]
    rows: list[list[Any]] = []
    for place in places:
        index = np.unravel_index(place, e.output.shape)
        shown: Any = tuple(map(int, index)) if len(index) > 1 else int(index[0])
        arrays = [*e.inputs, e.output, e.doutput, *e.dinputs]
        rows.append([shown, *(float(array[index]) for array in arrays)])
    cells = _columns_of_numbers(rows, names, 1)
    size = prod(e.output.shape)
    title = (
        f"{len(rows)} of {size:,} numbers, from the smallest input to the largest; the gradients are gradients of the"
        " score"
    )
    found = f"{_wrapped(title, width)}\n{table(cells, range(1, len(names)), False, width)}"
    return "\n\n".join(part for part in (_statistics(e, width), found) if part)


def _statistics(e: Any, width: int) -> str:
    """Return the running statistics of a norm, and the line that they make of it."""
    if "running_mean" not in e.state:
        return ""
    mean, var, C = e.state["running_mean"], e.state["running_var"], min(8, len(e.state["running_mean"]))
    weight, bias = (e.parameters.get(name) for name in ("weight", "bias"))
    scale = (1 if weight is None else weight) / np.sqrt(var + e.made_by.eps)
    shift = (0 if bias is None else bias) - scale * mean
    rows: list[list[Any]] = [[c, mean[c], var[c], scale[c], shift[c]] for c in range(C)]
    cells = _columns_of_numbers(rows, ["channel", "mean", "variance", "a", "c"], 1)
    more = f" (the first {C} of {len(mean)} channels)" if len(mean) > C else ""
    title = f"with the running statistics, the layer is y = a·x + c for each channel{more}"
    return f"{_wrapped(title, width)}\n{table(cells, range(1, 5), False, width)}"


def _ranges(e: Any) -> list[str]:
    """Return between which numbers the values are."""
    found = []
    values = [(f"input {i}" if len(e.inputs) > 1 else "the input", x) for i, x in enumerate(e.inputs)]
    gradients = [(f"the gradient of {name}", dx) for (name, _), dx in zip(values, e.dinputs, strict=True)]
    for name, array in [*values, ("the output", e.output), *gradients]:
        low, high = numbers([float(array.min()), float(array.max())])
        found.append(f"{name}: {size_text(array.shape)} numbers from {low} to {high}")
    return found
