"""Train on a folder of pictures and draw the terminal: ``python docs/run.py`` writes ``docs/run.svg``, for the README."""

import os
import re
import subprocess
import sys
import tempfile
from io import StringIO
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw
from rich.console import Console
from rich.text import Text

COLUMNS = 110
HERE = Path(__file__).parent


def draw(kind: str, rng: np.random.Generator) -> Image.Image:
    """Return a picture of a leaf, a sun or a house, of any size and colour."""
    side = int(rng.integers(40, 80))
    picture = Image.new("RGB", (side, side), tuple(rng.integers(0, 110, 3).tolist()))
    pen, ink = ImageDraw.Draw(picture), tuple(rng.integers(140, 256, 3).tolist())
    r = side * rng.uniform(0.2, 0.35)
    x, y = rng.uniform(r, side - r, 2)
    if kind == "leaf":
        pen.chord([x - r, y - r, x + r, y + r], 200, 20, fill=ink)
    elif kind == "sun":
        pen.ellipse([x - r, y - r, x + r, y + r], fill=ink)
    else:
        pen.polygon([(x - r, y), (x, y - r), (x + r, y), (x + r, y + r), (x - r, y + r)], fill=ink)
    return picture


def run(folder: str, *arguments: str) -> str:
    """Return a command and what it prints."""
    environment = {**os.environ, "COLUMNS": str(COLUMNS), "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-m", "im2colnet", *arguments]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=True)
    return f"$ im2colnet {' '.join(arguments)}\n{done.stderr}{done.stdout.strip()}\n"


def main() -> None:
    """Draw the pictures, run the commands, write the picture of the terminal."""
    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as folder:
        for place, count in (("pictures", 100), ("new", 1)):
            for kind in ("house", "leaf", "sun"):
                target = Path(folder, place, kind) if place == "pictures" else Path(folder, place)
                target.mkdir(parents=True, exist_ok=True)
                for number in range(count):
                    draw(kind, rng).save(target / f"{kind if place == 'new' else 'image'}-{number + 1}.png")
        trained = run(folder, "train", "--data", "pictures", "--epochs", "8")
        out = re.search(r"^folder +(\S+)", trained, re.M)[1]
        shown = trained + "\n" + run(folder, "predict", out, "new")
    console = Console(record=True, width=COLUMNS, file=StringIO(), force_terminal=True)
    for line in [*shown.splitlines(), ""]:
        console.print(Text(line, style="bold green" if line.startswith("$") else ""))
    drawn = console.export_svg(title="im2colnet", clear=True)
    drawn = re.sub(r"@font-face \{.*?\}\s*", "", drawn, flags=re.S)  # fonts would be fetched from the network
    drawn = re.sub(r"[ \t]+$", "", drawn, flags=re.M)
    (HERE / "run.svg").write_text(drawn, encoding="utf-8")
    print(shown)


if __name__ == "__main__":
    main()
