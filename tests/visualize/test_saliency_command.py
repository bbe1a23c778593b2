"""``im2colnet explain --saliency``: the pixels that a score depends on, as a picture."""

import json

import pytest

pytestmark = pytest.mark.usefixtures("folder")


def test_a_picture_is_written(run, folder):
    pytest.importorskip("matplotlib")
    out, _ = run("explain", "--saliency", "seen.png", "--output", "3")
    assert out.startswith("seen.png shows the pixels of test image 0 of digits, of class 2 that class 3 of notebook")
    assert (folder / "seen.png").read_bytes().startswith(b"\x89PNG")


def test_beside_the_layer_s_page(run, folder):
    pytest.importorskip("matplotlib")
    out, _ = run("explain", "--saliency", "seen.png", "--out", "page.html", "--json")
    assert json.loads(out)["saliency"] == "seen.png"
    assert {path.name for path in folder.iterdir()} >= {"seen.png", "page.html"}


def test_another_ending_is_refused(run, folder):
    _, error = run("explain", "--saliency", "seen.jpg", code=2)
    assert ".png" in error
