"""Write the tables and the picture of ``docs/scaling.md``: ``python docs/scaling.py``.

They follow from ``docs/scaling.json``, the figures of one machine. ``python docs/scaling.py --measure`` measures them
anew, in some minutes on two idle cores; it wants mpi4py, an MPI and PyTorch.
"""

import json
import re
import sys
from math import log2
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent), str(HERE.parent / "backends")]

from benchmarks import ranks, scaling

PAGE, FIGURES, PICTURE = HERE / "scaling.md", HERE / "scaling.json", HERE / "scaling.svg"
MOST = 512  # ranks in the picture
LEFT, TOP, WIDTH, HEIGHT = 56, 52, 560, 300  # of the picture's axes
LINE = 15  # pixels between two names at least
COLORS = {"lenet5": "#b45309", "vgg8": "#15803d", "resnet20": "#2563eb", "resnet18": "#9333ea"}
STYLE = """
text { font: 13px system-ui, sans-serif; fill: #1e293b } .page { fill: #ffffff } .title { font-weight: bold }
.axis { stroke: #64748b } .grid { stroke: #e2e8f0 } .line { fill: none; stroke-width: 2 }
@media (prefers-color-scheme: dark) {
  text { fill: #e2e8f0 } .page { fill: #0d1117 } .axis { stroke: #94a3b8 } .grid { stroke: #30363d }
  .line, .name { filter: brightness(1.5) }
}
""".strip()


def measure():
    """Measure this machine: what the model needs, and two ranks."""
    machine = scaling.measure()
    FIGURES.write_text(
        json.dumps({"machine": machine._asdict(), **ranks.measured(machine)}, indent=1, ensure_ascii=False) + "\n",
        encoding="utf-8",
    )


def page(text, figures):
    """Return the page with its tables written anew."""
    tables = scaling.tables(scaling.Machine(**figures["machine"])) | {
        name: figures[name] for name in ("steps", "joins")
    }
    return re.sub(
        r"(<!-- table: (\w+) -->\n).*?(<!-- end -->)",
        lambda found: f"{found[1]}{linked(scaling.markdown(tables[found[2]]))}\n{found[3]}",
        text,
        flags=re.DOTALL,
    )


def linked(table):
    """Return a table in which a reader can click on the addresses."""
    return re.sub(r"https://[^\s)]+", r"<\g<0>>", table)


def picture(figures):
    """Return the efficiency of each network over the number of ranks, as SVG."""
    machine = scaling.Machine(**figures["machine"])
    numbers = [1 << k for k in range(int(log2(MOST)) + 1)]
    x = {R: LEFT + WIDTH * k / (len(numbers) - 1) for k, R in enumerate(numbers)}
    parts, names = [], []
    for percent in range(0, 101, 20):
        y = TOP + HEIGHT * (1 - percent / 100)
        parts.append(f'<line class="grid" x1="{LEFT}" y1="{y:.1f}" x2="{LEFT + WIDTH}" y2="{y:.1f}"/>')
        parts.append(f'<text x="{LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{percent}%</text>')
    for R in numbers:
        parts.append(f'<text x="{x[R]:.1f}" y="{TOP + HEIGHT + 20}" text-anchor="middle">{R}</text>')
    for net in machine.image:
        name, work = scaling.short(net), scaling.work(net)
        for link, dash in zip(scaling.LINKS, ("5 4", "none"), strict=True):
            found = [scaling.step(net, work, R, scaling.SHARD, link, machine).efficiency for R in numbers]
            points = " ".join(f"{x[R]:.1f},{TOP + HEIGHT * (1 - e):.1f}" for R, e in zip(numbers, found, strict=True))
            parts.append(
                f'<polyline class="line" points="{points}" stroke="{COLORS[name]}" stroke-dasharray="{dash}"/>'
            )
        names.append((TOP + HEIGHT * (1 - found[-1]), name))
    below = 0.0
    for y, name in sorted(names):
        below = max(y + 4, below + LINE)
        place = f'x="{LEFT + WIDTH + 8}" y="{below:.1f}"'
        parts.append(f'<text class="name" {place} style="fill:{COLORS[name]}">{name}</text>')
    bottom = TOP + HEIGHT
    parts += [
        f'<path class="axis" fill="none" d="M{LEFT} {TOP}V{bottom}H{LEFT + WIDTH}"/>',
        f'<text class="title" x="{LEFT}" y="24">Efficiency, calculated: {scaling.SHARD} images per core,'
        f" {scaling.CORES} cores per rank</text>",
        f'<text x="{LEFT + WIDTH / 2}" y="{bottom + 42}" text-anchor="middle">ranks'
        f" (solid: {scaling.LINKS[1].name}; dashed: {scaling.LINKS[0].name})</text>",
    ]
    width, height = LEFT + WIDTH + 84, bottom + 58
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}">\n'
        f'<style>{STYLE}</style>\n<rect class="page" width="{width}" height="{height}"/>\n'
        + "\n".join(parts)
        + "\n</svg>\n"
    )


if __name__ == "__main__":
    if "--measure" in sys.argv[1:]:
        measure()
    known = json.loads(FIGURES.read_text(encoding="utf-8"))
    PAGE.write_text(page(PAGE.read_text(encoding="utf-8"), known), encoding="utf-8")
    PICTURE.write_text(picture(known), encoding="utf-8")
    print(PAGE)
