"""Pictures of results: pixels, the PNG of them, the confusion matrix, and the sheet of mistakes."""

import io

import numpy as np
import pytest

from im2colnet.show.pixels import as_pixels, png

image = pytest.importorskip("PIL.Image")


@pytest.mark.parametrize("shape", [(5, 3), (1, 1), (4, 7, 3), (300, 2, 4)])
def test_png_as_pillow_reads_it(shape):
    pixels = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    with image.open(io.BytesIO(png(pixels))) as picture:
        picture.load()
        assert picture.mode == {2: "L", 3: "RGB", 4: "RGBA"}[len(shape) + (shape[-1] == 4 and len(shape) == 3)]
        np.testing.assert_array_equal(np.asarray(picture), pixels)
    np.testing.assert_array_equal(np.asarray(image.open(io.BytesIO(png(pixels[::-1])))), pixels[::-1])


def test_images_as_pixels():
    grey = np.arange(12, dtype=np.uint8).reshape(1, 3, 4)
    np.testing.assert_array_equal(as_pixels(grey), grey[0])
    colour = np.concatenate([grey, 2 * grey, 3 * grey])
    np.testing.assert_array_equal(as_pixels(colour), colour.transpose(1, 2, 0))
    np.testing.assert_array_equal(as_pixels(np.concatenate([grey, 2 * grey]))[0], [0, 2, 3, 4])  # of halves the even
    scaled = as_pixels(np.float32([[[-3, -1, 0, 1, 5]]]), -1, 1)
    np.testing.assert_array_equal(scaled, [[0, 0, 128, 255, 255]])
    np.testing.assert_array_equal(as_pixels(np.ones((1, 2, 2), np.float32), 1, 1), np.zeros((2, 2)))
    assert as_pixels(np.zeros((3, 9), np.float32)) is None


@pytest.mark.parametrize("classes", [1, 2, 30, 200])
def test_confusion_matrices_of_any_size(tmp_path, classes):
    pytest.importorskip("matplotlib")
    from im2colnet.show.plots import save_confusion

    matrix = np.random.default_rng(0).integers(0, 9, (classes, classes))
    names = [f"$\\frac{{{i}}} _^ a very long name of a class 九 \n\x1b" for i in range(classes)]
    save_confusion(matrix, names, tmp_path / "a.png")
    with image.open(tmp_path / "a.png") as picture:
        assert 300 < min(picture.size) <= max(picture.size) < 3000


@pytest.mark.parametrize("count", [1, 6])
def test_a_sheet_of_pictures(tmp_path, count):
    pytest.importorskip("matplotlib")
    from im2colnet.show.plots import save_sheet

    pictures = [np.zeros((4, 5), np.uint8), np.full((40, 3, 3), 90, np.uint8), np.zeros((2, 2, 4), np.uint8)] * 2
    save_sheet(pictures[:count], ["$x^$ \x07\n" + 90 * "long/"] * count, tmp_path / "a.png")
    with image.open(tmp_path / "a.png") as picture:
        assert picture.convert("L").getextrema()[0] == 0
