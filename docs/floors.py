"""Draw the floors of the house: ``python docs/floors.py`` writes ``docs/floors.svg``, the picture of design.md."""

from pathlib import Path

#: rooms of a floor, and what they are for, from the top down
FLOORS = [
    (["cli"], "what a terminal sees: a module for each command"),
    (["reports", "visualize", "onnx", "torch", "sklearn"], "facts, then their text; pictures of a network; ONNX; PyTorch; scikit-learn"),
    (["testing"], "what is promised, as tests: oracles, cases, checks"),
    (["training", "models"], "steps, epochs, checkpoints; ready-made networks"),
    (["network"], "what users hold: Sequential, Residual, Net, classes"),
    (["engine"], "binds a plan to memory and runs it on workers"),
    (["plan"], "steps, buffers, shards: no array is touched"),
    (["graph", "functional"], "nodes, parameters, passes; functions of plain arrays"),
    (["layers", "losses", "optim", "metrics", "parallel"], "what computes, in words of the contract"),
    (["backend", "datasets"], "the contract and its textbook kernels; data"),
    (["show"], "tables, progress, plots of plain data"),
    (["ground"], "window, layout, checks, files, errors, types, memory, ..."),
]
BESIDE = {"layers": ["im2colnet_numpy", "im2colnet_cupy"], "graph": ["im2colnet_numba"]}    # backends; the last stands on NumPy's
COLORS = ["#dbeafe", "#e0e7ff", "#ede9fe", "#fae8ff", "#fce7f3", "#ffe4e6", "#ffedd5", "#fef3c7", "#ecfccb",
          "#dcfce7", "#ccfbf1", "#e2e8f0"]
WIDTH, ROW, HIGH, TOP, LEFT, LETTER = 670, 58, 28, 46, 44, 7.8

parts = []


def text(x: float, y: float, words: str, **how: str) -> None:
    attributes = "".join(f' {key.replace("_", "-")}="{value}"' for key, value in how.items())
    parts.append(f'<text x="{x:.0f}" y="{y:.0f}"{attributes}>{words}</text>')


def box(x: float, y: float, name: str, fill: str) -> float:
    """Draw a room, and return where the next one may begin."""
    width = len(name) * LETTER + 12
    parts.append(f'<rect x="{x:.0f}" y="{y:.0f}" width="{width:.0f}" height="{HIGH}" rx="5" fill="{fill}" stroke="#475569"/>')
    text(x + width / 2, y + HIGH / 2 + 4.5, name, text_anchor="middle", font_family="monospace", font_size="13", fill="#0f172a")
    return x + width + 6


height = TOP + ROW * len(FLOORS) + 16
text(LEFT, 28, "A room imports only from floors below it", font_size="16", font_weight="bold", fill="#0f172a")
for floor, ((rooms, meaning), color) in enumerate(zip(FLOORS, COLORS)):
    y, x = TOP + ROW * floor, float(LEFT)
    for room in rooms:
        x = box(x, y, room, color)
    if beside := BESIDE.get(rooms[0], []):
        parts.append(f'<line x1="{x + 4:.0f}" y1="{y - 3}" x2="{x + 4:.0f}" y2="{y + HIGH + 3}" stroke="#475569" stroke-dasharray="3 3"/>')
        x += 14
        for room in beside:
            x = box(x, y, room, "#ffffff")
    text(LEFT, y + HIGH + 17, meaning, font_size="13.5", fill="#1e293b")
middle = TOP + ROW * len(FLOORS) - 14
parts.append(f'<path d="M28 {TOP + 4} V{middle} m-6 -10 l6 10 l6 -10" fill="none" stroke="#475569" stroke-width="2"/>')
svg = (
    f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}"'
    f' font-family="system-ui, sans-serif">\n<rect width="{WIDTH}" height="{height}" rx="10" fill="#f8fafc"/>\n'
    + "\n".join(parts)
    + "\n</svg>\n"
)
(Path(__file__).parent / "floors.svg").write_text(svg, encoding="utf-8")
