"""The interactive page of an explanation: one file of HTML that shows which numbers of a layer belong together.

The page contains its own script, and the page's policy allows only this script, by its hash: no font, picture or script
comes from elsewhere. Numbers are stored in float32. For a large layer the page has only a part, and says which part.

Here ``F`` are filters, ``K = C / groups * KH * KW`` the rows of the lowered matrix, ``T = KH * KW`` the rows of one
channel, and ``P = OH * OW`` the positions of the window.
"""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from importlib.resources import files
from typing import Any, Protocol

from im2colnet.host import np
from im2colnet.show.html import text

#: the largest count of numbers of each kind in a page, so that it is smaller than 2 MB
MOST_COLUMNS = 90_000
MOST_WEIGHTS = 50_000
MOST_PIXELS = 40_000
MOST_OUTPUTS = 25_000
MOST_FILTERS = 64
MOST_ROWS = 1024  #: of a linear layer's input, as a column
MOST_SIDE = 32  #: positions of the window along an axis

FORWARD = {
    "convolution": "Each column is the window of one output, each row the numbers for one weight. The number below a"
    " column is the filter's row of the weight times the column, plus the bias.",
    "transposed convolution": "Each column is the transposed weight times the channels of the input at one pixel. Each"
    " number is added to a pixel of the output (col2im), and the bias to all of them; what belongs to the padding is"
    " dropped.",
    "linear": "The input is the only column. The number below it is the output's row of the weight times the input,"
    " plus the bias.",
    "pooling": "Each column is the window of one output, each row one place in the window. The number below a column is"
    " what the layer makes of its numbers.",
}
BACKWARD = {
    "convolution": "Each column is the transposed weight times the gradients of all filters at one output. Each number"
    " is added to the pixel that the forward pass read it from (col2im); what belongs to the padding is dropped.",
    "transposed convolution": "Each column is a window of the output's gradient (im2col). The number below a column is"
    " the input channel's row of the weight times the column: the gradient of one pixel of the input.",
    "linear": "The column is the transposed weight times the gradients of all outputs: it is the input's gradient.",
    "pooling": "Each column distributes the gradient below it over the numbers of a window. Each number of a column is"
    " added to the pixel that the forward pass read there (col2im).",
}


class Explained(Protocol):
    """The attributes of an explanation that the page uses; see :class:`im2colnet.reports.explain.Explanation`."""

    layer: str
    kind: str
    title: str
    formula: str
    inputs: Any
    output: Any
    score: Any
    doutput: Any
    dinputs: Any
    window: Any
    columns: Any
    sources: Any
    weight: Any
    bias: Any
    dcolumns: Any
    picked: Any
    divisors: Any


@dataclass(frozen=True)
class _Part:
    """The part of a layer that a page shows: ranges of groups, filters, output positions and input pixels."""

    groups: slice
    filters: slice
    rows: slice
    columns: slice
    top: int
    bottom: int
    left: int
    right: int


def explanation_page(explained: Explained, position: Sequence[int] | None = None, channel: int = 0) -> str:
    """Return the page of an explanation, a whole file of HTML.

    Parameters
    ----------
    explained : Explanation
        For a convolution, a pooling or a linear layer the page shows the lowered matrix; for another layer its input
        and output. If there are several inputs, it shows the first.
    position : (int, int), optional
        The output that is highlighted first; by default the output in the middle.
    channel : int
        The output's channel that is shown first.
    """
    facts = _facts(explained, position, channel)
    style, script = _file("css"), _file("js")
    policy = (
        f"default-src 'none'; style-src '{_digest(style)}'; script-src '{_digest(script)}';"
        " base-uri 'none'; form-action 'none'"
    )
    # the text of a JSON block is data and never markup
    data = json.dumps(facts, ensure_ascii=True, allow_nan=False).replace("<", "\\u003c").replace("&", "\\u0026")
    title = f"{explained.title} of {explained.layer!r}"
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{text(title)}</title>\n<style>{style}</style>\n</head>\n<body>\n"
        + _body(explained, facts)
        + f'<script type="application/json" id="facts">{data}</script>\n<script>{script}</script>\n</body>\n</html>\n'
    )


@cache
def _file(suffix: str) -> str:
    return files("im2colnet.show").joinpath(f"explain_page.{suffix}").read_text(encoding="utf-8")


def _digest(content: str) -> str:
    return f"sha256-{b64encode(sha256(content.encode()).digest()).decode()}"


def _array(values: Any, kind: str = "float32") -> dict[str, str]:
    """Return an array for the page: little-endian numbers in base64."""
    found = np.ascontiguousarray(values, dtype=np.dtype(kind).newbyteorder("<"))
    return {"type": kind, "data": b64encode(found.tobytes()).decode()}


def _image(values: Any) -> Any:
    """Return values as an image (C, H, W): features become rows, and an axis that is missing has length 1."""
    values = np.asarray(values, dtype=np.float64)
    if values.ndim == 1:
        wide = min(len(values), MOST_SIDE if len(values) <= MOST_ROWS else 2 * MOST_SIDE)
        padded = np.zeros(-(-len(values) // wide) * wide)
        padded[: len(values)] = values
        return padded.reshape(1, -1, wide)
    if values.ndim == 2:
        return values[:, None]
    return values.reshape(values.shape[0], values.shape[1], -1)


def _facts(e: Explained, position: Sequence[int] | None, channel: int) -> dict[str, Any]:
    """Return the data for the script: numbers, names, and their places in the whole layer."""
    if e.sources is not None and e.kind in ("convolution", "transposed convolution", "pooling"):
        return _windowed(e, position, channel)
    if e.kind == "linear" and np.shape(e.weight) == (*np.shape(e.output), *np.shape(e.inputs[0])):
        return _linear(e, channel)
    return _plain(e, position, channel)


def _common(
    e: Explained,
    image: Any,
    dimage: Any,
    output: Any,
    doutput: Any,
    first: tuple[int, int] = (0, 0),
    features: int | None = None,
) -> dict[str, Any]:
    """Return the data that all pages have; ``first`` has the first shown channels of the input and the output."""
    return {
        "kind": e.kind,
        "size": image.shape[1:],
        "out": output.shape[1:],
        "fullOut": output.shape[1:],
        "origin": (0, 0),
        "outOrigin": (0, 0),
        "kernel": (1, 1),
        "channels": [*range(first[0], first[0] + len(image))],
        "filters": [*range(first[1], first[1] + len(output))],
        "features": features or image[0].size,
        "groups": 1,
        "firstGroup": 0,
        "groupOf": [0] * len(output),
        "channelsPerGroup": len(image),
        "filtersPerGroup": len(output),
        "geometry": None,
        "toOutput": None,
        "flatInput": 0,
        "flatOutput": 0,
        "cropped": False,
        "notes": [],
        "how": [FORWARD.get(e.kind, ""), BACKWARD.get(e.kind, "")],
        "arrays": {
            "input": _array(image),
            "dinput": _array(dimage),
            "output": _array(output),
            "doutput": _array(doutput),
        },
    }


def _start(shape: Sequence[int], position: Sequence[int] | None) -> tuple[int, int]:
    """Return the output that is highlighted first, within the output's height and width."""
    if position is None:
        return shape[0] // 2, shape[1] // 2
    r, c = (position[0], position[-1]) if len(position) > 1 else (0, position[0])
    return min(max(int(r), 0), shape[0] - 1), min(max(int(c), 0), shape[1] - 1)


def _plain(e: Explained, position: Sequence[int] | None, channel: int) -> dict[str, Any]:
    """Return the facts of a layer that has no lowered matrix."""
    output, doutput = _image(e.output), _image(e.doutput)
    several = _several(e, output)
    if several is not None:
        return several
    image, dimage = _image(e.inputs[0]), _image(e.dinputs[0])
    notes = []
    if len(e.inputs) > 1:
        notes.append(f"The layer has {len(e.inputs)} inputs; the page shows the first.")
    if np.ndim(e.output) == 1:  # its features lie in rows
        position, channel = divmod(channel, output.shape[2]), 0
    inputs, outputs = (max(1, min(len(a), MOST_PIXELS // a[0].size)) for a in (image, output))
    if image.shape == output.shape:
        inputs = outputs = min(inputs, outputs)
    filters = _around(channel, outputs, len(output))
    channels = filters if image.shape == output.shape else _around(0, inputs, len(image))
    if inputs < len(image) or outputs < len(output):
        notes.append(
            f"The page shows {_span('channel', channels)} of {len(image)} of the input, and"
            f" {_span('channel', filters)} of {len(output)} of the output."
        )
    high, wide = (min(size, 2 * MOST_SIDE) for size in image.shape[1:])
    up, across = (min(size, 2 * MOST_SIDE) for size in output.shape[1:])
    if (high, wide) != image.shape[1:] or (up, across) != output.shape[1:]:
        notes.append("The page shows the upper left part of the maps.")
    features = len(e.inputs[0]) if np.ndim(e.inputs[0]) == 1 else None
    flat = {"flatInput": features or 0, "flatOutput": len(e.output) if np.ndim(e.output) == 1 else 0}
    facts = _common(
        e,
        image[channels, :high, :wide],
        dimage[channels, :high, :wide],
        output[filters, :up, :across],
        doutput[filters, :up, :across],
        (channels.start, filters.start),
        features,
    )
    r, c = _start((up, across), position)
    start = {"position": r * across + c, "filter": channel - filters.start}
    return facts | flat | {"kind": "plain", "notes": notes, "start": start}


def _several(e: Explained, output: Any) -> dict[str, Any] | None:
    """Return the facts of a small layer whose inputs have the output's size, as a sum or a concatenation has."""
    images = [_image(x) for x in e.inputs]
    sizes = {image.shape[1:] for image in images} | {output.shape[1:]}
    depths = [len(image) for image in images]
    alike = sum(depths) == len(output) or set(depths) == {len(output)}
    if len(images) == 1 or len(sizes) > 1 or np.ndim(e.output) == 1 or not alike:
        return None
    image, dimage = np.concatenate(images), np.concatenate([_image(dx) for dx in e.dinputs])
    if image.size > MOST_PIXELS:
        return None
    facts = _common(e, image, dimage, output, _image(e.doutput))
    facts["channels"] = [f"{c} of input {i}" for i, depth in enumerate(depths) for c in range(depth)]
    facts["toOutput"] = [c % len(output) for c in range(len(image))]
    r, c = _start(output.shape[1:], None)
    return facts | {"kind": "plain", "start": {"position": r * output.shape[2] + c, "filter": 0}}


def _linear(e: Explained, channel: int) -> dict[str, Any]:
    """Return the facts of a linear layer: a product with one column."""
    features, outputs = len(e.inputs[0]), len(e.output)
    shown = max(1, min(outputs, MOST_FILTERS, 4 * MOST_WEIGHTS // features))
    rows = _around(channel, shown, outputs)
    facts = _common(
        e,
        _image(e.inputs[0]),
        _image(e.dinputs[0]),
        np.asarray(e.output)[rows, None, None],
        np.asarray(e.doutput)[rows, None, None],
        (0, rows.start),
        features,
    )
    if shown < outputs:
        facts["notes"] += [f"The page shows {_span('output', rows)} of {outputs}."]
    if features > MOST_ROWS:
        facts["notes"] += [
            f"The {features} inputs are not drawn as a column, and only the largest terms of a sum are shown."
        ]
    weight = np.asarray(e.weight).reshape(outputs, features)
    facts["kernel"] = (1, features)
    facts["filtersPerGroup"] = outputs
    facts["arrays"] |= {
        "sources": _array(np.arange(features), "int32"),
        "weight": _array(weight[rows]),
        "dcolumns": _array(e.dinputs[0]),
    }
    if e.bias is not None:
        facts["arrays"]["bias"] = _array(e.bias[rows])
    return facts | {"start": {"position": 0, "filter": channel - rows.start}}


def _geometry(e: Explained, H: int, W: int, OH: int, OW: int, KH: int, KW: int) -> dict[str, Any] | None:
    """Return stride, padding before and dilation; None if they do not determine the window, as in adaptive pooling."""
    window = e.window
    if window.stride is None:
        return None
    stride, dilation, (top, _, left, _) = window.stride, window.dilation, window.padding
    i, j = np.divmod(np.arange(KH * KW)[:, None], KW)
    r, c = np.divmod(np.arange(OH * OW)[None], OW)
    h, w = r * stride[0] - top + i * dilation[0], c * stride[1] - left + j * dilation[1]
    inside = (h >= 0) & (h < H) & (w >= 0) & (w < W)
    if not np.array_equal(np.where(inside, h * W + w, -1), np.where(inside, e.sources, -1)):
        return None
    return {"stride": stride, "padding": (top, left), "dilation": dilation}


def _windowed(e: Explained, position: Sequence[int] | None, channel: int) -> dict[str, Any]:
    """Return the facts of a convolution or a pooling."""
    image, dimage, output, doutput = (_image(a) for a in (e.inputs[0], e.dinputs[0], e.output, e.doutput))
    begin = channel
    if e.kind == "transposed convolution":  # the windows read the output's gradient, and their columns make the output
        image, dimage, output, doutput = doutput, output, dimage, image
        channel = begin * e.window.groups // len(image) * (len(output) // e.window.groups)
    added = e.columns if e.kind == "transposed convolution" else e.dcolumns
    (C, H, W), (F, OH, OW) = image.shape, output.shape
    KH, KW = e.window.kernel_size
    T = KH * KW
    sources = np.asarray(e.sources).reshape(T, OH * OW)
    groups = e.window.groups if e.weight is not None else C
    r, c = _start((OH, OW), position)
    part = _part(sources.reshape(T, OH, OW), (C, H, W), F, groups, e.weight is not None, (channel, r, c))
    channels = slice(part.groups.start * C // groups, part.groups.stop * C // groups)
    P = (part.rows.stop - part.rows.start) * (part.columns.stop - part.columns.start)
    facts = _common(
        e,
        image[channels, part.top : part.bottom, part.left : part.right],
        dimage[channels, part.top : part.bottom, part.left : part.right],
        output[part.filters, part.rows, part.columns],
        doutput[part.filters, part.rows, part.columns],
        (channels.start, part.filters.start),
    )
    high, wide = part.bottom - part.top, part.right - part.left
    here = sources.reshape(T, OH, OW)[:, part.rows, part.columns].reshape(T, P)
    h, w = np.divmod(here, W)
    here = np.where(here < 0, -1, (h - part.top) * wide + w - part.left)
    arrays = {"sources": _array(here, "int32")}
    if e.weight is not None:
        per = F // groups
        weight = np.asarray(e.weight).reshape(F, -1)
        dcolumns = np.asarray(added).reshape(groups, -1, OH, OW)
        arrays["weight"] = _array(weight[part.filters])
        if e.bias is not None:
            arrays["bias"] = _array(e.bias[channels if e.kind == "transposed convolution" else part.filters])
    else:
        per = 1
        dcolumns = np.asarray(added).reshape(C, T, OH, OW)
        if e.picked is not None:
            picked = np.asarray(e.picked).reshape(C, OH, OW)
            arrays["picked"] = _array(picked[channels, part.rows, part.columns], "int32")
        elif e.divisors is not None:
            divisors = np.asarray(e.divisors).reshape(OH, OW)
            arrays["divisors"] = _array(divisors[part.rows, part.columns])
    arrays["dcolumns"] = _array(dcolumns[part.groups, :, part.rows, part.columns])
    facts["arrays"] |= arrays
    notes = []
    shown, deep = len(range(F)[part.filters]), len(range(C)[channels])
    if e.weight is None and deep < C:
        notes.append(f"The page shows {_span('channel', channels)} of {C}.")
    elif shown < F and e.kind == "transposed convolution":
        notes.append(
            f"The page shows {_span('channel', part.filters)} of {F} of the input, and {_span('channel', channels)} of"
            f" {C} of the output."
        )
    elif shown < F:
        notes.append(
            f"The page shows {_span('filter', part.filters)} of {F}, and {_span('channel', channels)} of {C}, which"
            " they read."
        )
    cropped = OH * OW != P
    if cropped:
        notes.append(
            f"The page shows a part of the layer: {_end(e, 1)} rows {part.rows.start} to {part.rows.stop - 1} of {OH},"
            f" columns {part.columns.start} to {part.columns.stop - 1} of {OW}, and the corresponding part of the"
            f" {_end(e, 0)} of {H} x {W}."
        )
    elif (high, wide) != (H, W):
        notes.append(f"No window reads rows from {part.bottom} or columns from {part.right} on; they are not shown.")
    return facts | {
        "origin": (part.top, part.left),
        "outOrigin": (part.rows.start, part.columns.start),
        "fullOut": (OH, OW),
        "kernel": (KH, KW),
        "groups": groups if e.weight is not None else 1,
        "firstGroup": part.groups.start,
        "groupOf": [f // per - part.groups.start for f in range(F)[part.filters]],
        "channelsPerGroup": C // groups,
        "filtersPerGroup": per,
        "geometry": _geometry(e, H, W, OH, OW, KH, KW),
        "cropped": cropped,
        "notes": notes,
        "start": {
            "position": (r - part.rows.start) * (part.columns.stop - part.columns.start) + c - part.columns.start,
            "filter": channel - part.filters.start,
            "channel": begin - channels.start if e.kind == "transposed convolution" else 0,
        },
    }


def _end(e: Explained, which: int) -> str:
    """Return what the windows read (0), or have one number each of (1): input or output."""
    return ("input", "output")[which != (e.kind == "transposed convolution")]


def _around(index: int, count: int, size: int) -> slice:
    """Return ``count`` of ``size`` things, with one of them near the middle."""
    start = min(max(index - count // 2, 0), size - count)
    return slice(start, start + count)


def _span(what: str, part: slice) -> str:
    """Return in words which things are shown, such as "channels 3 to 7"."""
    return f"{what} {part.start}" if part.stop == part.start + 1 else f"{what}s {part.start} to {part.stop - 1}"


def _part(
    sources: Any, image: tuple[int, int, int], F: int, groups: int, convolves: bool, at: tuple[int, int, int]
) -> _Part:
    """Return the part of a layer that a page can hold, around a channel and a position of the output."""
    T, OH, OW = sources.shape
    C, H, W = image
    K, per = C // groups * T, F // groups
    group, inside = divmod(at[0], per)
    count = max(1, min(MOST_FILTERS, MOST_WEIGHTS // K)) if convolves else F
    if count < per:  # a part of the channel's group
        shown, some = slice(group, group + 1), _around(inside, count, per)
        filters = slice(group * per + some.start, group * per + some.stop)
    else:  # there is room for a few positions at least
        shown = _around(group, min(groups, count // per, max(1, MOST_COLUMNS // (16 * K))), groups)
        filters = slice(shown.start * per, shown.stop * per)
    number, depth = len(range(F)[filters]), len(range(groups)[shown])
    deep = depth * C // groups
    high, wide = min(OH, MOST_SIDE), min(OW, MOST_SIDE)

    def cut(high: int, wide: int) -> _Part:
        top, left = (
            min(max(a - n // 2, 0), size - n) for a, n, size in zip(at[1:], (high, wide), (OH, OW), strict=True)
        )
        rows, columns = slice(top, top + high), slice(left, left + wide)
        read = sources[:, rows, columns]
        h, w = np.divmod(read[read >= 0], W)
        if not h.size:  # padding alone
            h = w = np.zeros(1, int)
        whole = (high, wide) == (OH, OW) and deep * H * W <= MOST_PIXELS
        edges = (0, H, 0, W) if whole else (int(h.min()), int(h.max()) + 1, int(w.min()), int(w.max()) + 1)
        return _Part(shown, filters, rows, columns, *edges)

    while True:
        part = cut(high, wide)
        pixels = deep * (part.bottom - part.top) * (part.right - part.left)
        fits = depth * K * high * wide <= MOST_COLUMNS and number * high * wide <= MOST_OUTPUTS
        if (fits and pixels <= MOST_PIXELS) or high == wide == 1:
            return part
        high, wide = (high - (high + 7) // 8, wide) if high >= wide else (high, wide - (wide + 7) // 8)
        high, wide = max(high, 1), max(wide, 1)


def _body(e: Explained, facts: Mapping[str, Any]) -> str:
    """Return the page's headings, choices and empty grids, which the script fills."""
    lowered, convolves = "sources" in facts["arrays"], "weight" in facts["arrays"]
    hidden = " hidden" if facts["kind"] == "linear" and facts["features"] > MOST_ROWS else ""
    names = {"linear": ("input", "row"), "transposed convolution": ("output", "input")}.get(e.kind, ("image", "kernel"))
    shapes = " x ".join(map(str, np.shape(e.inputs[0]))), " x ".join(map(str, np.shape(e.output)))
    top = [
        "<main>",
        f"<h1>{text(e.title)}</h1>",
        f'<p class="soft">Layer {text(e.layer)}: from {shapes[0]} to {shapes[1]}, for one image. The score is'
        f" {text(e.score.name)}, with the value {e.score.value:.4g}; all gradients are gradients of the score.</p>",
        f'<p class="formula">{text(e.formula)}</p>',
        '<p class="soft" id="keys">Point at a number, or move with the arrow keys: the numbers that belong to it'
        " are framed in all grids. Hatched cells are padding.</p>",
        *(f'<p class="note">{text(note)}</p>' for note in facts["notes"]),
        '<noscript><p class="note">This page draws its numbers with a script: please allow scripts.</p></noscript>',
        '<div class="choices"><fieldset><legend>pass</legend>'
        '<label><input type="radio" name="way" id="forward" autocomplete="off" checked> forward</label>'
        '<label><input type="radio" name="way" id="backward" autocomplete="off"> backward</label></fieldset>',
    ]
    if len(facts["channels"]) > 1:
        top.append(f'<label>{names[0]} <select id="channel" autocomplete="off"></select></label>')
    if convolves:
        top.append(f'<label>{names[1]} <select id="filter" autocomplete="off"></select></label>')
    top.append('</div><div class="row">')
    top.append(_grid("image"))
    if convolves and facts["kind"] != "linear":
        top.append(_grid("kernel"))
    top.append(f"{_grid('map')}</div>")
    if lowered:
        strip, corner, kind = (_cells("strip"), "<div></div>", "") if convolves else ("", "", " one")
        inner = f"{strip}{_cells('matrix')}{corner}{_cells('row')}"
        top.append(
            f'<section{hidden}>{_heading("matrix")}<p class="soft" id="how"></p>'
            f'<div class="scroll" id="scroll" tabindex="0" role="group" aria-labelledby="matrixName">'
            f'<div class="product{kind}">{inner}</div></div></section>'
        )
    top.append('<section id="sum" hidden><h2 id="sumName"></h2><table><tbody id="terms"></tbody></table></section>')
    top.append('</main>\n<div class="said"><p id="said" role="status" aria-live="polite"></p></div>\n')
    return "\n".join(top)


def _heading(name: str) -> str:
    return f'<h2><span id="{name}Name"></span><span class="unit"></span></h2>'


def _cells(name: str) -> str:
    return f'<div class="grid" id="{name}"></div>'


def _grid(name: str) -> str:
    return f"<section>{_heading(name)}{_cells(name)}</section>"
