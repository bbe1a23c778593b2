"""Draw the pictures of tour.md, how-it-works.md, how-it-runs.md and design.md: ``python docs/draw.py`` writes them.

The files are ``docs/pictures/*.svg``. The tour's programs compute the numbers in its pictures: this script runs them.
"""

import contextlib
import io
import re
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import numpy as np

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE / "_ext")]
from blocks import programs, run_programs  # noqa: E402

INK, GREY, LINE, GROUND, WHITE = "#0f172a", "#475569", "#94a3b8", "#f8fafc", "#ffffff"
#: outlines, and the pale colors of the same kind; they can be told apart by eyes that see few colors
STRONG = ["#0072b2", "#d55e00", "#00805e", "#a8488c"]
PALE = ["#d6eaf8", "#fde3cf", "#d2f1e6", "#f6dcec"]
MARK = "#ffe066"


class Sheet:
    """A picture in SVG: it begins empty, and each method adds something. Lengths are in pixels, from the upper left."""

    def __init__(self, width: float, height: float) -> None:
        self.width, self.height, self.parts = width, height, []

    def text(self, x: float, y: float, words: object, size: float = 15, color: str = INK, at: str = "start", bold: bool = False,
             mono: bool = False, turn: float = 0) -> None:
        """Write words: ``at`` is start, middle or end, and y the line that they stand on."""
        escaped = str(words).replace("&", "&amp;").replace("<", "&lt;").replace("-", "−" if not mono and re.fullmatch(r"-\d+", str(words)) else "-")
        more = ' font-weight="bold"' * bold + ' font-family="ui-monospace, monospace"' * mono
        more += f' transform="rotate({turn:g} {x:g} {y:g})"' if turn else ""
        self.parts.append(f'<text x="{x:g}" y="{y:g}" font-size="{size:g}" fill="{color}" text-anchor="{at}"{more}>{escaped}</text>')

    def box(self, x: float, y: float, width: float, height: float, fill: str = "none", stroke: str = LINE, thick: float = 1,
            round: float = 0, dash: str = "") -> None:
        more = f' rx="{round:g}"' * bool(round) + f' stroke-dasharray="{dash}"' * bool(dash)
        self.parts.append(f'<rect x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" fill="{fill}" stroke="{stroke}"'
                          f' stroke-width="{thick:g}"{more}/>')

    def path(self, path: str, color: str = GREY, thick: float = 1.5, arrow: bool = False, dash: str = "") -> None:
        """Draw a line along a path of SVG, with the head of an arrow at its end."""
        more = ' marker-end="url(#head)"' * arrow + f' stroke-dasharray="{dash}"' * bool(dash)
        self.parts.append(f'<path d="{path}" fill="none" stroke="{color}" stroke-width="{thick:g}"{more}/>')

    def arrow(self, x0: float, y0: float, x1: float, y1: float, color: str = GREY, thick: float = 1.5) -> None:
        self.path(f"M{x0:g} {y0:g} L{x1:g} {y1:g}", color, thick, arrow=True)

    def grid(self, x: float, y: float, numbers: np.ndarray, w: float = 32, h: float = 32, size: float = 15,
             fill: Callable[[int, int], str] = lambda r, c: WHITE, bold: Callable[[int, int], bool] = lambda r, c: False) -> None:
        """Draw a matrix: a cell for each number."""
        for r, row in enumerate(numbers):
            for c, number in enumerate(row):
                self.box(x + c * w, y + r * h, w, h, fill(r, c))
                shown = f"{number:g}" if isinstance(number, (int, float, np.number)) else number
                self.text(x + (c + 0.5) * w, y + (r + 0.5) * h + size * 0.35, shown, size, at="middle", bold=bold(r, c))

    def bracket(self, x0: float, x1: float, y: float, depth: float, color: str) -> None:
        """Draw a bracket from x0 to x1; its ends point to y, from ``depth`` below it (above it if that is negative)."""
        self.path(f"M{x0:g} {y:g} V{y + depth:g} H{x1:g} V{y:g}", color, 2)

    def __str__(self) -> str:
        head = '<marker id="head" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="7" markerHeight="7" orient="auto">'
        head = f'<defs>{head}<path d="M0 0 L10 5 L0 10 z" fill="{GREY}"/></marker></defs>\n' * any("#head" in part for part in self.parts)
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {self.width:g} {self.height:g}" width="{self.width:g}"'
            f' height="{self.height:g}" font-family="system-ui, sans-serif">\n{head}'
            f'<rect width="{self.width:g}" height="{self.height:g}" rx="10" fill="{GROUND}"/>\n' + "\n".join(self.parts) + "\n</svg>\n"
        )


def run(page: Path) -> dict:
    """Run the programs of a page, and return their names; what Matplotlib draws is left out where it is missing."""
    drawn = find_spec("matplotlib") is not None
    cells = [cell.text for cell in programs(page, cells=True) if drawn or ".plot(" not in cell.text]
    with contextlib.redirect_stdout(io.StringIO()):
        return run_programs(cells, page.name)


def signed(number: float) -> str:
    """Return a factor as it is written in a product."""
    return f"(−{-number:g})" if number < 0 else f"{number:g}"


def convolution(tour: dict) -> Sheet:
    x, w, y = tour["x"], tour["w"], tour["y"]
    s, r, c = Sheet(600, 252), 0, 1
    inside = lambda i, j: MARK if r <= i < r + 3 and c <= j < c + 3 else WHITE  # noqa: E731
    for at, title in ((90, "image"), (310, "kernel"), (510, "output")):
        s.text(at, 28, title, at="middle", bold=True)
    s.grid(26, 42, x, fill=inside)
    s.box(26 + 32 * c, 42 + 32 * r, 96, 96, stroke=STRONG[1], thick=3)
    s.grid(262, 58, w)
    s.text(208, 104, "convolved", 14, GREY, "middle")
    s.text(208, 122, "with", 14, GREY, "middle")
    s.text(408, 112, "gives", 14, GREY, "middle")
    s.grid(478, 74, y, fill=lambda i, j: MARK if (i, j) == (r, c) else WHITE)
    s.box(478 + 32 * c, 74 + 32 * r, 32, 32, stroke=STRONG[1], thick=3)
    lines = [" + ".join(f"{signed(w[i, j])}·{signed(x[r + i, c + j])}" for j in range(3)) for i in range(3)]
    s.text(300, 206, " + ".join(lines[:2]) + " +", at="middle")
    s.text(300, 232, f"{lines[2]} = {y[r, c]:g}", at="middle")
    return s


def outlines(s: Sheet, x: float, y: float, side: float) -> None:
    """Draw the outlines of the four windows of 3×3 in an image of 4×4."""
    for p in range(4):
        inset = 2 + 3 * p
        r, c = divmod(p, 2)
        s.box(x + c * side + inset, y + r * side + inset, 3 * side - 2 * inset, 3 * side - 2 * inset, stroke=STRONG[p], thick=2.5)


def im2col(tour: dict) -> Sheet:
    s = Sheet(600, 340)
    s.text(112, 56, "image", at="middle", bold=True)
    s.grid(28, 72, tour["x"], 42, 42, 17)
    outlines(s, 28, 72, 42)
    s.arrow(216, 156, 290, 156)
    s.text(253, 146, "im2col", 14, GREY, "middle")
    s.text(475, 28, "matrix of windows", at="middle", bold=True)
    for p, name in enumerate(("0, 0", "0, 1", "1, 0", "1, 1")):
        s.text(407 + 46 * p, 54, name, 14, STRONG[p], "middle", bold=True)
    for k in range(9):
        s.text(374, 82 + 28 * k, f"{k // 3}, {k % 3}", 14, GREY, "end")
    s.text(316, 192, "position in the window", 14, GREY, "middle", turn=-90)
    s.grid(384, 62, tour["columns"], 46, 28, 16, fill=lambda r, c: PALE[c])
    s.text(112, 268, "window at row, column:", 14, GREY, "middle")
    for p, name in enumerate(("0, 0", "0, 1", "1, 0", "1, 1")):
        s.text(40 + 48 * p, 292, name, 14, STRONG[p], "middle", bold=True)
    return s


def how_often(tour: dict) -> Sheet:
    s, reads = Sheet(600, 320), tour["reads"]
    often = np.bincount(reads.ravel()).reshape(4, 4)
    shade = {1: "#e6f1f8", 2: "#b3d5ea", 4: "#66acd4"}
    s.text(132, 56, "how often each pixel is read", at="middle", bold=True)
    s.grid(48, 72, often, 42, 42, 17, fill=lambda r, c: shade[int(often[r, c])])
    s.box(48 + 42, 72 + 42, 42, 42, stroke=STRONG[1], thick=3.5)
    s.text(132, 268, "marked: pixel 5, read 4 times", 14, STRONG[1], "middle", bold=True)
    s.text(440, 28, "which pixel each entry holds", at="middle", bold=True)
    s.grid(348, 46, reads, 46, 28, 16, fill=lambda r, c: MARK if reads[r, c] == 5 else WHITE)
    for k, p in np.argwhere(reads == 5):
        s.box(348 + 46 * p, 46 + 28 * k, 46, 28, stroke=STRONG[1], thick=3)
    return s


def product(tour: dict) -> Sheet:
    s, w, columns, y = Sheet(640, 320), tour["w"], tour["columns"], tour["y"]
    s.text(134, 140, "kernel", at="middle", bold=True)
    s.grid(26, 152, w.reshape(1, 9), 24, 28, fill=lambda r, c: MARK)
    s.text(258, 171, "·", 22, at="middle")
    s.text(340, 28, "matrix of windows", at="middle", bold=True)
    s.grid(272, 40, columns, 34, 28, fill=lambda r, c: MARK if c == 1 else PALE[c])
    s.text(426, 172, "=", 20, at="middle")
    s.grid(444, 152, y.reshape(1, 4), 34, 28, fill=lambda r, c: MARK if c == 1 else PALE[c])
    s.path("M512 184 V220", arrow=True)
    s.text(524, 206, "reshape", 14, GREY)
    s.grid(478, 226, y, 34, 34, fill=lambda r, c: MARK if (r, c) == (0, 1) else PALE[2 * r + c])
    s.text(512, 140, "output", at="middle", bold=True)
    return s


def pooling(tour: dict) -> Sheet:
    s, x, taps = Sheet(600, 214), tour["x"], tour["small_taps"]
    winners = taps.argmax(axis=0)
    s.text(100, 30, "image", at="middle", bold=True)
    s.grid(28, 44, x, 36, 36, 16, fill=lambda r, c: PALE[2 * (r // 2) + c // 2])
    for p in range(4):
        s.box(28 + 72 * (p % 2) + 1.5, 44 + 72 * (p // 2) + 1.5, 69, 69, stroke=STRONG[p], thick=2.5)
    s.arrow(186, 116, 246, 116)
    s.text(350, 30, "matrix of windows", at="middle", bold=True)
    s.grid(262, 44, taps, 44, 36, 16, fill=lambda r, c: MARK if winners[c] == r else PALE[c], bold=lambda r, c: bool(winners[c] == r))
    s.arrow(450, 116, 494, 116)
    s.text(472, 106, "max", 14, GREY, "middle")
    s.text(542, 30, "output", at="middle", bold=True)
    s.grid(506, 80, taps.max(axis=0).reshape(2, 2), 36, 36, 16, fill=lambda r, c: PALE[2 * r + c])
    return s


def backward(tour: dict) -> Sheet:
    s, w, dy, columns = Sheet(660, 500), tour["w"], tour["dy"], tour["columns"]
    s.text(330, 30, "the gradient of the kernel: dw = dy · columnsᵀ", 16, at="middle", bold=True)
    s.grid(20, 93, dy.reshape(1, 4), 28, 28, fill=lambda r, c: PALE[c])
    s.text(76, 84, "dy", 14, GREY, "middle")
    s.text(146, 113, "·", 22, at="middle")
    s.grid(160, 52, columns.T, 25, 28, fill=lambda r, c: PALE[r])
    s.text(272, 184, "the windows, as rows", 14, GREY, "middle")
    s.text(402, 114, "=", 20, at="middle")
    s.grid(420, 94, tour["dw"].reshape(1, 9), 25, 28, fill=lambda r, c: MARK)
    s.text(532, 84, "dw", 14, GREY, "middle")
    s.text(330, 224, "the gradient of the matrix: dcolumns = wᵀ · dy", 16, at="middle", bold=True)
    s.grid(140, 240, w.reshape(9, 1), 30, 26, fill=lambda r, c: MARK)
    s.text(155, 490, "w", 14, GREY, "middle")
    s.text(192, 364, "·", 22, at="middle")
    s.grid(212, 344, dy.reshape(1, 4), 30, 28, fill=lambda r, c: PALE[c])
    s.text(272, 336, "dy", 14, GREY, "middle")
    s.text(354, 364, "=", 20, at="middle")
    s.grid(376, 240, tour["dcolumns"], 36, 26, fill=lambda r, c: PALE[c])
    s.text(448, 490, "dcolumns", 14, GREY, "middle")
    return s


def col2im(tour: dict) -> Sheet:
    s, reads, columns, dx = Sheet(600, 320), tour["reads"], tour["dcolumns"], tour["dx"]
    entries = np.argwhere(reads == 5)[::-1]
    for k, p in entries:  # the cells are drawn over the lines, which so come out at the right of the matrix
        s.path(f"M{84 + 46 * p} {60 + 28 * k} H222 C 310 {60 + 28 * k} 310 135 394 135 H436", STRONG[p], 2.5)
    s.text(130, 30, "dcolumns", at="middle", bold=True)
    s.grid(38, 46, columns, 46, 28, 16, fill=lambda r, c: MARK if reads[r, c] == 5 else WHITE)
    s.text(478, 56, "gradient of the image", at="middle", bold=True)
    s.grid(394, 72, dx, 42, 42, 17, fill=lambda r, c: MARK if (r, c) == (1, 1) else WHITE)
    for k, p in entries:
        s.box(38 + 46 * p, 46 + 28 * k, 46, 28, stroke=STRONG[p], thick=3)
    s.box(394 + 42, 72 + 42, 42, 42, stroke=INK, thick=3)
    terms = " ".join(f"{'−' if n < 0 else '+'} {abs(n):g}" for n in (columns[k, p] for k, p in entries))
    s.text(478, 272, f"{terms.removeprefix('+ ')} = {dx[1, 1]:g}", 16, at="middle", bold=True)
    return s


def rows(tour: dict) -> Sheet:
    s, x, L = Sheet(640, 560), tour["x"], tour["L"]
    s.text(92, 28, "image", at="middle", bold=True)
    s.grid(28, 40, x, 32, 32, fill=lambda r, c: PALE[r])
    for at, words in enumerate(["Each row is copied three times:", "from column 0, from column 1, from column 2,", "two numbers each. In memory:"]):
        s.text(190, 84 + 24 * at, words)
    s.bracket(22, 468, 218, -14, INK)
    s.text(24, 196, "window of output row 0: 18 numbers", at="start", bold=True)
    s.grid(20, 222, L.reshape(1, 24), 25, 30, 14, fill=lambda r, c: PALE[c // 6])
    for h in range(4):
        s.box(20 + 150 * h, 222, 150, 30, stroke=STRONG[h], thick=2.5)
        s.text(95 + 150 * h, 272, f"row {h} of the image", 13, STRONG[h], "middle", bold=True)
    s.bracket(172, 618, 282, 14, INK)
    s.text(616, 316, "window of output row 1: begins 6 numbers later", at="end", bold=True)
    for r in range(2):
        left = 60 + 320 * r
        s.text(left + 82, 354, f"row {r} of the output", 14, GREY, "middle")
        s.text(left + 22, 460, "w  ·", 18, at="middle")
        s.grid(left + 52, 364, L[r : r + 3].reshape(9, 2), 30, 20, 13, fill=lambda k, c: PALE[r + k // 3])
        s.text(left + 132, 460, "=", 20, at="middle")
        s.grid(left + 150, 440, tour["y"][r : r + 1], 30, 28, fill=lambda k, c: MARK)
    return s


def row_layout(tour: dict) -> Sheet:
    s = Sheet(640, 484)
    s.text(320, 28, "a lowered row of the images, in memory", 16, at="middle", bold=True)
    for j in range(3):
        for c in range(3):
            x = 29 + 194 * j + 64 * c
            s.box(x, 62, 64, 34, PALE[j])
            s.text(x + 32, 84, f"c = {c}", 14, at="middle")
        s.box(29 + 194 * j, 62, 192, 34, stroke=STRONG[j], thick=2.5)
        s.text(125 + 194 * j, 52, f"j = {j}: from column {j} on", 14, STRONG[j], "middle", bold=True)
    s.bracket(31, 91, 102, 10, INK)
    s.text(29, 132, "a run: OW·N numbers", 14)
    s.text(611, 132, "KW·C runs", 14, GREY, "end")
    s.text(150, 176, "lowered rows", at="middle", bold=True)
    s.text(480, 176, "rows 0 to 2 as a matrix", at="middle", bold=True)
    for h in range(5):
        s.box(70, 192 + 46 * h, 160, 42, WHITE)
        for k in range(9):
            s.box(73 + 17.2 * k, 196 + 46 * h, 16, 34, PALE[k // 3], stroke="none")
        s.text(60, 218 + 46 * h, f"h = {h}", 14, GREY, "end")
    for r, x in ((0, 240), (1, 262)):
        top = 194 + 46 * r
        s.path(f"M{x} {top} h10 V{top + 134} h-10", STRONG[3] if r else INK, 2)
    s.text(280, 444, "output row 0 reads rows 0 to 2", 14, INK, "end", bold=True)
    s.text(280, 468, "output row 1 reads rows 1 to 3", 14, STRONG[3], "end", bold=True)
    for k in range(27):
        s.box(420, 192 + 7.4 * k, 120, 7.4, PALE[k // 3 % 3], stroke="none")
    for h in range(3):
        s.box(420, 192 + 66.6 * h, 120, 66.6, stroke=LINE)
        s.text(410, 230 + 66.6 * h, f"h = {h}", 14, GREY, "end")
    s.text(480, 412, "OW·N columns", 14, GREY, "middle")
    s.text(562, 292, "KH·KW·C rows", 14, GREY, "middle", turn=90)
    s.arrow(292, 262, 356, 262)
    return s


def winograd(tour: dict) -> Sheet:
    s = Sheet(640, 342)

    def tile(x: float, y: float, n: int, cell: float, fill: str, stroke: str) -> None:
        for r in range(n):
            for c in range(n):
                s.box(x + cell * c, y + cell * r, cell, cell, fill)
        s.box(x, y, cell * n, cell * n, stroke=stroke, thick=2.5)

    s.text(84, 28, "image", at="middle", bold=True)
    tile(24, 42, 6, 20, PALE[0], STRONG[0])
    s.box(104, 42, 120, 120, stroke=STRONG[0], thick=1.5, dash="5 4")
    s.text(164, 178, "the next tile", 13, STRONG[0], "middle")
    s.text(64, 178, "6×6", 14, GREY, "middle")
    s.text(84, 220, "kernel", at="middle", bold=True)
    tile(54, 234, 3, 20, PALE[1], STRONG[1])
    s.text(84, 312, "3×3", 14, GREY, "middle")
    s.arrow(232, 92, 296, 92)
    s.text(264, 80, "Bᵀ d B", 15, INK, "middle")
    s.arrow(126, 264, 296, 264)
    s.text(211, 252, "G w Gᵀ", 15, INK, "middle")
    tile(304, 32, 6, 20, PALE[0], STRONG[0])
    tile(304, 204, 6, 20, PALE[1], STRONG[1])
    s.path("M430 92 H448 V172", arrow=True)
    s.path("M430 264 H448 V184", arrow=True)
    s.text(364, 184, "36 multiplications", 14, INK, "middle", bold=True)
    s.text(462, 184, "⊙", 20, INK, "middle")
    s.arrow(474, 178, 536, 178)
    s.text(505, 166, "Aᵀ · A", 15, INK, "middle")
    tile(544, 138, 4, 20, PALE[2], STRONG[2])
    s.text(584, 124, "outputs", at="middle", bold=True)
    s.text(584, 240, "4×4", 14, GREY, "middle")
    return s


def depthwise(tour: dict) -> Sheet:
    s = Sheet(600, 300)
    band = [[f"k{c - r}" if 0 <= c - r < 3 else "0" for c in range(6)] for r in range(4)]
    s.text(148, 34, "the kernel along", 15, INK, "middle", bold=True)
    s.text(148, 56, "the diagonal", 15, INK, "middle", bold=True)
    s.grid(28, 72, band, 40, 44, 16, fill=lambda r, c: PALE[c - r] if 0 <= c - r < 3 else WHITE, bold=lambda r, c: 0 <= c - r < 3)
    s.text(284, 164, "·", 22, at="middle")
    s.text(362, 30, "lowered rows", at="middle", bold=True)
    s.grid(304, 44, [[f"row {h}"] for h in range(6)], 116, 38, 15)
    s.text(440, 166, "=", 20, at="middle")
    s.text(518, 56, "output", at="middle", bold=True)
    s.grid(460, 72, [[f"row {r}"] for r in range(4)], 116, 44, 15, fill=lambda r, c: MARK)
    return s


def shards(tour: dict) -> Sheet:
    s = Sheet(640, 372)
    y = {1: 270, 2: 200, 4: 130, 8: 60}

    def node(first: int, count: int) -> None:
        x = 46 + 78 * (first + (count - 1) / 2)
        whose = 0 if first + count <= 4 else 1 if first >= 4 else None
        for half in (first, first + count // 2) if count > 1 else ():
            s.path(f"M{46 + 78 * (half + (count / 2 - 1) / 2):g} {y[count // 2] - 18} L{x:g} {y[count] + 18}", GREY)
        words = f"{first}" if count == 1 else f"{first} + {first + 1}" if count == 2 else f"{first} to {first + count - 1}"
        wide = 62 if count == 1 else 84
        s.box(x - wide / 2, y[count] - 18, wide, 36, MARK if whose is None else PALE[whose], LINE if whose is None else STRONG[whose], 2, 6)
        s.text(x, y[count] + 5, words, 15, at="middle", bold=count == 8)

    for count in (8, 4, 2, 1):
        for first in range(0, 8, count):
            node(first, count)
    s.text(319, 28, "sum of the batch", at="middle", bold=True)
    for w in range(2):
        s.bracket(20 + 312 * w, 306 + 312 * w, 298, 14, STRONG[w])
        s.text(163 + 312 * w, 336, f"shards of worker {w}", 15, STRONG[w], "middle", bold=True)
    s.text(320, 360, "with one worker, or eight, the additions are the same", 14, GREY, "middle")
    return s


def stages(tour: dict) -> Sheet:
    s = Sheet(640, 250)
    for w in range(2):
        y = 72 + 66 * w
        s.text(20, y + 26, f"worker {w}", 15, STRONG[w], bold=True)
        for stage, x in enumerate((104, 312)):
            for k in range(2):
                s.box(x + 86 * k, y, 80, 42, PALE[w], STRONG[w], 1.5, 5)
                s.text(x + 40 + 86 * k, y + 26, f"shard {2 * w + k}", 14, at="middle")
        s.box(520, y, 100, 42, MARK, LINE, 1.5, 5)
        s.text(570, y + 26, f"update {w + 1}/2", 14, at="middle")
    for x, words in ((290, "sums of batch norm"), (498, "gradients")):
        s.box(x - 5, 58, 10, 136, INK, "none")
        s.text(x, 214, "add up:", 14, INK, "middle", bold=True)
        s.text(x, 234, words, 14, INK, "middle", bold=True)
    s.text(187, 46, "stage 1", at="middle", bold=True)
    s.text(395, 46, "stage 2", at="middle", bold=True)
    s.arrow(20, 24, 620, 24)
    s.text(608, 18, "time", 13, GREY, "end")
    return s


def ranks(tour: dict) -> Sheet:
    s = Sheet(660, 480)
    s.text(330, 30, "each rank adds up its own shards: its node of the tree", 15, at="middle", bold=True)
    for q in range(4):
        x = 30 + 156 * q
        s.text(x + 66, 58, f"rank {q}", 15, STRONG[q], "middle", bold=True)
        for k in range(2):
            s.box(x + 68 * k, 68, 64, 30, PALE[q], LINE, 1, 4)
            s.text(x + 32 + 68 * k, 88, f"shard {2 * q + k}", 13, at="middle")
            s.path(f"M{x + 32 + 68 * k} 98 L{x + 66} 118", GREY)
        s.box(x + 26, 118, 80, 30, PALE[q], STRONG[q], 2.5, 4)
        s.text(x + 66, 138, "node", 14, at="middle", bold=True)
    s.path("M330 168 V466", LINE, 1)
    s.text(165, 186, "a small sum", at="middle", bold=True)
    s.text(165, 208, "all nodes go to every rank;", 14, GREY, "middle")
    s.text(165, 226, "each adds them along the tree", 14, GREY, "middle")
    for q in range(4):
        y = 246 + 54 * q
        s.text(20, y + 25, f"rank {q}", 14, STRONG[q], bold=True)
        for k in range(4):
            s.box(74 + 38 * k, y, 34, 38, PALE[k], STRONG[k], 1.5, 4)
        s.text(230, y + 25, "→ sum", 14)
    s.text(495, 186, "the gradient", at="middle", bold=True)
    s.text(495, 208, "a rank gets a quarter of every node,", 14, GREY, "middle")
    s.text(495, 226, "adds these, updates its parameters", 14, GREY, "middle")
    for q in range(4):
        y = 246 + 54 * q
        s.text(345, y + 25, f"rank {q}", 14, STRONG[q], bold=True)
        for k in range(4):
            s.box(400, y + 9.5 * k, 96, 9.5, WHITE, LINE, 0.8)
            s.box(400 + 24 * q, y + 9.5 * k, 24, 9.5, PALE[k], STRONG[k], 1)
        s.text(506, y + 25, "→", 15)
        s.box(528, y + 4, 112, 30, WHITE, LINE, 1)
        s.box(528 + 28 * q, y + 4, 28, 30, MARK, INK, 1.5)
    return s


def plan(tour: dict) -> Sheet:
    import im2colnet as ic

    layers = [ic.Conv2d(1, 8, 3, padding=1), ic.ReLU(), ic.MaxPool2d(2), ic.Conv2d(8, 16, 3, padding=1), ic.ReLU(), ic.Flatten(), ic.Linear(256, 10)]
    net = ic.Sequential(layers).init(seed=0, backend="numpy")
    shard = net.plan(64, (1, 8, 8), threads=1).largest
    steps, top = len(shard.steps), max(b.offset + b.nbytes for b in shard.buffers)
    s = Sheet(640, 470)
    left, wide, base, scale = 58, 562 / steps, 372, 300 / top
    names = {0: "conv", 2: "pool", 3: "conv", 5: "flatten", 6: "linear", 1: "ReLU", 4: "ReLU"}
    for b in shard.buffers:
        kind = 3 if "scratch" in b.what else 1 if "gradient" in b.what else 0
        fill = ["#d6eaf8", "#fde3cf", "", "#e2e8f0"][kind]
        s.box(left + wide * b.start, base - scale * (b.offset + b.nbytes), wide * (b.end - b.start + 1), scale * b.nbytes, fill,
              [STRONG[0], STRONG[1], "", GREY][kind], 1.2)
        who, _, what = b.what.partition(" ")
        label = "input" if b.what == "input" else f"{names.get(int(who), '')} output" if what == "output" and names.get(int(who)) else ""
        if label and label != "flatten output" and scale * b.nbytes > 14 and b.end > b.start + 1:
            s.text(left + wide * (b.start + b.end + 1) / 2, base - scale * (b.offset + b.nbytes / 2) + 5, label, 13, at="middle")
    for t, step in enumerate(shard.steps):
        x = left + wide * (t + 0.5)
        s.text(x + 4, base + 12, "loss" if step.kind == "loss" else names[step.node] or "", 13, GREY, "end", turn=-60)
    loss = [step.kind for step in shard.steps].index("loss")
    for a, b, words in ((0, loss, "forward"), (loss + 1, steps, "backward")):
        s.bracket(left + wide * a + 2, left + wide * b - 2, base + 52, 8, INK)
        s.text(left + wide * (a + b) / 2, base + 78, words, 15, at="middle", bold=True)
    s.path(f"M{left} {base} V58", GREY, 1.5, arrow=True)
    s.text(44, 216, f"memory: {top / 1024:.0f} KiB in all", 14, GREY, "middle", turn=-90)
    for x, fill, color, words in ((70, "#d6eaf8", STRONG[0], "outputs"), (190, "#fde3cf", STRONG[1], "gradients"), (330, "#e2e8f0", GREY, "scratch")):
        s.box(x, 20, 20, 16, fill, color, 1.2)
        s.text(x + 28, 34, words, 14)
    return s


def walk(tour: dict) -> Sheet:
    s = Sheet(640, 640)
    rooms = [
        (24, "training", "Trainer.fit", "epochs, learning rate, callbacks"),
        (98, "datasets", "Loader", "batches, augmented and prefetched"),
        (172, "network", "checks of images, targets from the loss", ""),
        (246, "plan", "shards, stages, the place of arrays", "once for each batch size"),
        (320, "engine", "arrays bound to calls of kernels", "once for each batch size"),
    ]
    for k, (y, room, what, more) in enumerate(rooms):
        s.box(24, y, 592, 54, PALE[0] if k < 3 else PALE[2], STRONG[0] if k < 3 else STRONG[2], 1.5, 6)
        s.text(40, y + 33, room, 15, bold=True, mono=True)
        s.text(150, y + 33, what, 15)
        s.text(600, y + 33, more, 13, GREY, "end")
        s.arrow(320, y + 54, 320, y + 72)
    s.box(24, 394, 592, 124, PALE[1], STRONG[1], 1.5, 6)
    s.text(40, 420, "each worker, for each of its shards", 15, bold=True)
    for k, (words, more) in enumerate([("copy in", "(H, C, W, N)"), ("forward", "layers"), ("loss", "losses"), ("backward", "layers")]):
        x = 40 + 142 * k
        s.box(x, 434, 126, 44, WHITE, LINE, 1, 5)
        s.text(x + 63, 452, words, 15, at="middle", bold=True)
        s.text(x + 63, 470, more, 13, GREY, "middle", mono=True)
        if k < 3:
            s.arrow(x + 126, 456, x + 142, 456)
    s.text(320, 503, "each call runs a kernel of the backend; workers wait after each stage", 14, GREY, "middle")
    s.arrow(320, 518, 320, 536)
    for x, room, words in ((24, "parallel", "gradients are added along the tree"), (328, "optim", "each worker updates its range")):
        s.box(x, 538, 288, 54, PALE[3], STRONG[3], 1.5, 6)
        s.text(x + 14, 560, room, 15, bold=True, mono=True)
        s.text(x + 14, 580, words, 14)
    s.arrow(312, 565, 326, 565)
    s.path("M472 592 V618 H10 V125 H22", GREY, 1.5, arrow=True)
    s.text(240, 612, "the next batch", 14, GREY, "middle")
    return s


PICTURES = [convolution, im2col, how_often, product, pooling, backward, col2im, rows]  # of the tour
PICTURES += [row_layout, winograd, depthwise, shards, stages, ranks, plan, walk]  # of how it works, how it runs and the design


def pictures(tour: dict) -> dict[str, str]:
    """Return all pictures by the names of their files."""
    return {f"{draw.__name__.replace('_', '-')}.svg": str(draw(tour)) for draw in PICTURES}


if __name__ == "__main__":
    (HERE / "pictures").mkdir(exist_ok=True)
    for name, picture in pictures(run(HERE / "tour.md")).items():
        (HERE / "pictures" / name).write_text(picture, encoding="utf-8")
        print(name)
