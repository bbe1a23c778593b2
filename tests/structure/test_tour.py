"""The tour runs as plain Python, agrees with loops of its own and of this test, and its pictures show its numbers."""

import json
import re
import runpy
from importlib import import_module
from pathlib import Path

import numpy as np
import pages
import pytest

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
TEXT = (DOCS / "tour.md").read_text(encoding="utf-8")
DRAW = runpy.run_path(str(DOCS / "draw.py"), run_name="draw")
CELLS = pages.programs(DOCS / "tour.md", cells=True)
FIGURE = re.compile(r"^:::\{figure-md\}\n!\[([^\]]*)\]\(([^)\s]+)\)\n\n(.*?)\n:::$", re.DOTALL | re.MULTILINE)
PAGES = ["tour.md", "how-it-works.md", "how-it-runs.md", "design.md"]
pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def tour():
    """What the programs of the tour have made; their own assertions compare loops, products and library to 1e-12."""
    return DRAW["run"](DOCS / "tour.md")


def convolve(x, w):
    """Cross-correlate, by four loops."""
    out = np.zeros((x.shape[0] - w.shape[0] + 1, x.shape[1] - w.shape[1] + 1))
    for (r, s), (i, j) in ((p, t) for p in np.ndindex(*out.shape) for t in np.ndindex(*w.shape)):
        out[r, s] += w[i, j] * x[r + i, s + j]
    return out


def test_there_is_something_to_run():
    assert len(CELLS) > 25
    assert len(FIGURE.findall(TEXT)) >= 8


@pytest.mark.parametrize("number", range(len(CELLS)))
def test_a_cell_is_shorter_than_15_lines_and_fits_the_page(number):
    lines = CELLS[number].strip().splitlines()
    assert len(lines) < 15
    assert max(map(len, lines)) <= 72


def test_what_cells_draw_has_a_caption_and_says_in_words_what_is_to_be_seen():
    cells = [block.text for block in pages.blocks.page_blocks(DOCS / "tour.md") if ".plot(" in block.text]
    assert cells
    wanted = r"---\nmystnb:\n  image:\n    alt: (.*?)\n  figure:\n    caption: (.*?)\n---\n"
    for cell in cells:
        about = re.match(wanted, cell, re.DOTALL)
        assert about, cell
        assert all(len(words) > 40 and words.endswith(".") for words in about.groups())


@pytest.mark.parametrize("page", PAGES)
def test_each_picture_has_a_caption_and_says_in_words_what_is_to_be_seen(page):
    text = (DOCS / page).read_text(encoding="utf-8")
    found = FIGURE.findall(text)
    assert len(found) == text.count("![") == text.count("{figure-md}")
    for alternative, file, caption in found:
        assert (DOCS / file).exists(), file
        assert len(alternative) > 60, file
        assert caption.rstrip().endswith("."), file
        assert len(caption) > 40, file


def test_the_tour_agrees_with_loops(tour):
    x, w, dy, image = tour["x"], tour["w"], tour["dy"], tour["image"]
    np.testing.assert_array_equal(tour["product"].reshape(2, 2), convolve(x, w))
    for f in range(2):
        expected = convolve(image, tour["filters"][f]) + tour["bias"][f]
        np.testing.assert_allclose(tour["conv"][f].reshape(6, 6), expected, rtol=0, atol=1e-12)
    # the gradients of Σ dy·y, by differences: it is linear in each number
    for number, found in ((w, tour["dw"].reshape(3, 3)), (x, tour["dx"])):
        for place in np.ndindex(*number.shape):
            bump = np.zeros(number.shape)
            bump[place] = 1
            more = convolve(x, w + bump) if number is w else convolve(x + bump, w)
            assert ((more - convolve(x, w)) * dy).sum() == found[place]


def test_the_gradients_of_the_tour_are_those_of_its_loss(tour):
    names, h = ("filters", "bias", "W", "b"), 1e-6
    for name in names:
        values, found = {key: tour[key] for key in names}, tour[f"d{name}"]
        for place in np.ndindex(*found.shape):
            bump = np.zeros(found.shape)
            bump[place] = h
            up, down = (tour["forward"](**{**values, name: tour[name] + d})[-1] for d in (bump, -bump))
            assert (up - down) / (2 * h) == pytest.approx(found[place], abs=1e-8)


def test_the_pictures_are_those_that_the_tour_draws(tour):
    """``python docs/draw.py`` writes them anew."""
    drawn = DRAW["pictures"](tour)
    assert {path.name for path in (DOCS / "pictures").iterdir()} == drawn.keys()
    for name, picture in drawn.items():
        assert (DOCS / "pictures" / name).read_text(encoding="utf-8") == picture, name
    shown = "".join((DOCS / page).read_text(encoding="utf-8") for page in PAGES)
    assert [name for name in drawn if f"pictures/{name}" not in shown] == []


def test_nothing_in_a_picture_lies_outside_of_it(tour):
    for name, picture in DRAW["pictures"](tour).items():
        width, height = map(float, re.search(r'viewBox="0 0 (\S+) (\S+)"', picture).groups())
        found = r'<text x="(\S+)" y="(\S+)" font-size="(\S+)" fill="\S+" text-anchor="(\w+)"([^>]*)>([^<]*)<'
        for x, y, size, at, more, words in re.findall(found, picture):
            long = 0 if "rotate" in more else 0.6 * float(size) * len(words)
            left = float(x) - {"start": 0, "middle": long / 2, "end": long}[at]
            assert left >= 0, (name, words)
            assert left + long <= width, (name, words)
            assert float(size) <= float(y) + 2 <= height, (name, words)


def extension(name):
    """Import an extension of the site."""
    pytest.importorskip("sphinx")
    return import_module(name)


def test_the_page_to_point_at_shows_the_numbers_of_the_pencil(tour):
    seen = extension("explained").explanation(DOCS / "tour.md")
    np.testing.assert_array_equal(seen.output[0], tour["y"])
    np.testing.assert_array_equal(seen.columns[0], tour["columns"])
    np.testing.assert_array_equal(seen.dcolumns[0], tour["dcolumns"])
    np.testing.assert_array_equal(seen.dinputs[0][0], tour["dx"])


def test_the_notebook_to_download_is_plain_markdown_with_its_pictures():
    notebook = extension("notebook")
    cell = {"cell_type": "markdown", "metadata": {"x": 1}, "source": [TEXT.split("---\n", 2)[2]]}
    made = notebook.convert(
        {"cells": [cell], "nbformat": 4, "nbformat_minor": 5}, DOCS / "tour.md", "https://example.org/"
    )
    text = "".join(json.loads(json.dumps(made))["cells"][0]["source"])
    assert ":::" not in text
    assert re.search(r"\{\w+\}`", text) is None
    assert "](https://example.org/tour-explained.html)" in text
    assert "](pictures/" not in text
    assert text.count("](data:image/svg+xml;base64,") == len(FIGURE.findall(TEXT))
    assert "](https://example.org/how-it-works.html#" in text
    assert "(kernel)" not in text
