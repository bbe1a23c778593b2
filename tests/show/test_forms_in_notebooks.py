"""What a notebook shows of networks, data sets and trainers."""

import base64
import io
import re
from html.parser import HTMLParser

import numpy as np
import pytest

import im2colnet as ic

TRAIN, TEST = ic.datasets.load("digits")


class Parts(HTMLParser):
    """The tags and texts of HTML, which must be balanced."""

    def __init__(self, source):
        super().__init__()
        self.open, self.tags, self.texts = [], [], []
        self.feed(source)
        assert not self.open

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        if tag != "img":
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.append(data)


def pictures(html):
    image = pytest.importorskip("PIL.Image")
    sources = re.findall(r"data:image/png;base64,([^\"]+)", html)
    return [np.asarray(image.open(io.BytesIO(base64.b64decode(source)))) for source in sources]


def test_a_data_set_shows_its_first_images():
    shown = Parts(TRAIN._repr_html_())
    assert [text for text in shown.texts if len(text) == 1] == [str(label) for label in TRAIN.labels[:20]]
    found = pictures(TRAIN._repr_html_())
    assert len(found) == 20
    assert all((pixels == image[0]).all() for pixels, image in zip(found, TRAIN.images[:20], strict=True))


def test_floating_point_images_are_scaled_to_grey():
    images = np.array([[[[-2.0, 0.0], [np.nan, 2.0]]]])
    (pixels,) = pictures(ic.Dataset(images, [0])._repr_html_())
    assert pixels.tolist() == [[0, 128], [128, 255]]


def test_colours_and_large_images():
    images = np.random.default_rng(0).integers(0, 256, (2, 3, 300, 500), dtype=np.uint8)
    html = ic.Dataset(images, [1, 0])._repr_html_()
    found = pictures(html)
    assert (found[1] == images[1].transpose(1, 2, 0)[::3, ::3]).all()
    assert len(html) < 300_000


@pytest.mark.parametrize(
    ("images", "labels"),
    [(np.zeros((3, 5)), [0, 1, 1]), (np.zeros((3, 2, 7)), [0, 1, 1]), (np.zeros((3, 1, 4, 4)), np.zeros((3, 4, 4)))],
)
def test_other_data_sets(images, labels):
    data = ic.Dataset(images, labels)
    assert repr(data) in Parts(data._repr_html_()).texts


def test_names_are_data():
    names = ("<script>alert(1)</script>", '" onload="x', "\x1b[31m")
    html = ic.Dataset(TRAIN.images[:3], [0, 1, 2], "<b>", names)._repr_html_()
    assert {*Parts(html).tags} == {"p", "div", "img"}
    assert "\x1b" not in html


def test_a_network_shows_its_table():
    net = ic.models.notebook(classes=10)
    shown = Parts(net._repr_html_())
    assert shown.tags.count("tr") == 7
    assert {"Conv2d(1, 2, 3)", "(1, 2, 6, 6)", "20", "210", "total"} <= {*shown.texts}
    assert "normalised" not in net._repr_html_()
    net.layers.append(ic.ReLU())  # to show it has not fixed its layers
    assert len(net.init().graph.nodes) == 6


@pytest.mark.parametrize("shape", [None, (3, 4)])
def test_a_network_whose_shape_is_unknown_or_wrong_shows_its_layers(shape):
    net = ic.Sequential([ic.Conv2d(3, 4, 3), ic.Flatten(), ic.Linear(5, 2)])
    net.input_shape = shape
    assert Parts(net._repr_html_()).texts == [repr(net)]


def test_a_trainer_says_what_it_trains_and_how_far_it_is():
    trainer = ic.Trainer(ic.models.notebook(classes=10), optimizer=ic.Adam(1e-2), seed=3)
    assert repr(trainer).startswith("<Trainer of Sequential: parameters 210, loss CrossEntropyLoss(")
    assert "seed 3, done 0 epochs, 0 steps>" in repr(trainer)
    trainer.fit(TRAIN[:128], 2, validation=TEST[:64], progress=False)
    assert "done 2 epochs, 4 steps, loss " in repr(trainer)
    shown = Parts(trainer._repr_html_())
    assert {"network", "Sequential", "optimizer", repr(trainer.optimizer)} <= {*shown.texts}
    assert shown.tags.count("table") == 2
