"""An HTML page in one file, for any browser, also offline: no script, and no font or picture from elsewhere.

Every text is escaped here, so that names of files and classes are shown as text and never interpreted as HTML.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Collection, Iterable, Mapping, Sequence
from html import escape
from typing import Any

from im2colnet.show.pixels import png
from im2colnet.text import printable

#: the page may load only its own styles, and pictures that are embedded in it
POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'"
STYLE = """
:root { color-scheme: light dark; --back: #ffffff; --card: #f4f6f9; --text: #1b2430; --soft: #5a6675;
  --line: #d5dbe3; --accent: #1f5fa8; --wrong: #b8430f; }
@media (prefers-color-scheme: dark) { :root { --back: #12161c; --card: #1c222b; --text: #e6eaf0; --soft: #9aa7b6;
  --line: #38424f; --accent: #5b9bdf; --wrong: #f0935c; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1.2rem; max-width: 76rem; background: var(--back); color: var(--text);
  font: 15px/1.5 system-ui, sans-serif; }
h1 { font-size: 1.5rem; margin: .2rem 0; overflow-wrap: anywhere; } h2 { font-size: 1.15rem; margin: 2.2rem 0 .6rem; }
p { margin: .4rem 0; } .soft, figcaption, th { color: var(--soft); }
.cards { display: grid; gap: .7rem; grid-template-columns: repeat(auto-fill, minmax(10rem, 1fr)); margin: 1rem 0; }
.cards div { background: var(--card); border-radius: .5rem; padding: .6rem .8rem; overflow-wrap: anywhere; }
.cards b { display: block; font-size: 1.3rem; }
.curves { display: grid; gap: 1rem; grid-template-columns: repeat(auto-fit, minmax(min(20rem, 100%), 1fr)); }
.curves svg { width: 100%; height: auto; max-width: 36rem; }
svg text { fill: currentColor; font-family: inherit !important; }
.scroll { overflow-x: auto; } table { border-collapse: collapse; font-size: .9rem; }
td, th { padding: .25rem .6rem; text-align: left; white-space: nowrap; border-bottom: 1px solid var(--line); }
th { font-weight: 600; } .right { text-align: right; font-variant-numeric: tabular-nums; }
tr.last td { font-weight: 600; border-bottom: 0; }
.layers td:nth-child(2) { white-space: normal; min-width: 12rem; }
.fold td { white-space: normal; overflow-wrap: anywhere; vertical-align: top; }
.matrix td, .matrix th { padding: .2rem .35rem; border: 0; text-align: center; }
.matrix thead th { vertical-align: bottom; } .matrix .long { writing-mode: vertical-rl; text-align: right; }
.matrix tbody th { text-align: right; }
.matrix td { min-width: 2.1rem; }
.matrix tbody td { background: color-mix(in srgb, var(--accent) calc(var(--share) * 100%), var(--card)); }
.matrix td.dark { color: #ffffff; }
.gallery { display: grid; gap: .8rem; grid-template-columns: repeat(auto-fill, minmax(8.5rem, 1fr)); }
figure { margin: 0; } figcaption { font-size: .8rem; overflow-wrap: anywhere; white-space: pre-line; }
figure img { width: 100%; image-rendering: pixelated; border: 1px solid var(--line); }
pre { background: var(--card); border-radius: .5rem; padding: .7rem; overflow-x: auto; font-size: .85rem; }
.note { border-left: .25rem solid var(--wrong); padding-left: .7rem; }
summary { cursor: pointer; color: var(--accent); }
"""


def text(value: object) -> str:
    """Return a value as HTML text: markup and control characters, except line breaks, are escaped."""
    return escape(printable(str(value), keep="\n"))


def page(title: str, parts: Iterable[str]) -> str:
    """Return a whole page from parts in HTML."""
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{text(title)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n"
        f"<h1>{text(title)}</h1>\n" + "\n".join(parts) + "\n</body>\n</html>\n"
    )


def heading(title: str) -> str:
    """Return the heading of a section."""
    return f"<h2>{text(title)}</h2>"


def paragraph(words: object, kind: str = "") -> str:
    """Return a paragraph; its kind is "soft", or "note" for an important remark."""
    return f'<p class="{kind}">{text(words)}</p>' if kind else f"<p>{text(words)}</p>"


def cards(values: Mapping[str, object]) -> str:
    """Return the most important figures, each with its name."""
    inner = "".join(f"<div>{text(name)}<b>{text(value)}</b></div>" for name, value in values.items())
    return f'<div class="cards">{inner}</div>'


def table(rows: Sequence[Sequence[object]], right: Collection[int] = (), last: bool = False, kind: str = "") -> str:
    """Return a table whose first row is the header; columns in ``right`` are numbers, and the last row may be a sum."""

    def line(row: Sequence[object], tag: str, style: str = "") -> str:
        cells = (f"<{tag}{' class=right' if i in right else ''}>{text(cell)}</{tag}>" for i, cell in enumerate(row))
        return f"<tr{style}>{''.join(cells)}</tr>"

    head, *body = rows
    lines = [line(row, "td", " class=last" if last and row is body[-1] else "") for row in body]
    start = f"<table class={kind}>" if kind else "<table>"
    return f'<div class="scroll">{start}<thead>{line(head, "th")}</thead><tbody>{"".join(lines)}</tbody></table></div>'


def pairs(values: Mapping[str, object]) -> str:
    """Return names and values as lines of a table."""
    lines = (f"<tr><th>{text(name)}</th><td>{text(value)}</td></tr>" for name, value in values.items())
    return f'<table class="fold">{"".join(lines)}</table>'


def matrix(counts: Sequence[Sequence[int]], names: Sequence[str]) -> str:
    """Return a confusion matrix: a row for each class, colored by the fraction of the row."""
    start = "<th class=long>" if max(map(len, names)) > 3 else "<th>"
    top = "".join(f"{start}{text(name)}</th>" for name in names)
    lines = []
    for name, row in zip(names, counts, strict=True):
        whole = max(sum(row), 1)
        shares = (number / whole for number in row)
        colours = (f'style="--share:{share:.3f}"{" class=dark" * (share > 0.6)}' for share in shares)
        cells = (f"<td {colour}>{number or ''}</td>" for number, colour in zip(row, colours, strict=True))
        lines.append(f"<tr><th>{text(name)}</th>{''.join(cells)}</tr>")
    head = f"<thead><tr><td></td>{top}</tr></thead>"
    return f'<div class="scroll"><table class="matrix">{head}<tbody>{"".join(lines)}</tbody></table></div>'


def _source(pixels: Any) -> str:
    """Return pixels as a picture that is embedded in the page."""
    return f"data:image/png;base64,{b64encode(png(pixels)).decode()}"


def gallery(pictures: Sequence[Any], texts: Sequence[str]) -> str:
    """Return pictures, arrays of pixels, side by side, each with a text below it."""
    figures = []
    for pixels, words in zip(pictures, texts, strict=True):
        figures.append(f'<figure><img src="{_source(pixels)}" alt=""><figcaption>{text(words)}</figcaption></figure>')
    return f'<div class="gallery">{"".join(figures)}</div>'


def thumbnails(pictures: Sequence[Any], texts: Sequence[str], side: int = 64) -> str:
    """Return pictures in one size for a notebook, where the styles of a page are missing.

    Large pictures are reduced to every second pixel, every third pixel, ...
    """
    size = f"width:{side}px;height:{side}px;object-fit:contain;image-rendering:pixelated"
    line = f"width:{side}px;overflow:hidden;text-overflow:ellipsis;white-space:nowrap"
    figures = []
    for pixels, words in zip(pictures, texts, strict=True):
        step = max(1, max(pixels.shape[:2]) // (2 * side))
        caption = f'<div style="{line}" title="{text(words)}">{text(words)}</div>'
        figures.append(f'<div><img src="{_source(pixels[::step, ::step])}" alt="" style="{size}">{caption}</div>')
    row = "display:flex;flex-wrap:wrap;gap:8px;text-align:center;font-size:small"
    return f'<div style="{row}">{"".join(figures)}</div>'


def code(lines: Iterable[str]) -> str:
    """Return lines to copy."""
    return "<pre>" + text("\n".join(lines)) + "</pre>"


def folded(title: str, inner: str) -> str:
    """Return a part that is shown when its title is clicked."""
    return f"<details><summary>{text(title)}</summary>{inner}</details>"


def drawings(svgs: Iterable[str]) -> str:
    """Return drawings, each SVG that this library made, side by side."""
    return f'<div class="curves">{"".join(f"<div>{svg}</div>" for svg in svgs)}</div>'
