"""``im2colnet report``: a page that is whole in itself, and shows what the run's files hold."""

import json
import re
import shlex
import sys
from html.parser import HTMLParser

import numpy as np
import pytest
from starting import FAST

import im2colnet as ic
from im2colnet.cli import main

pytestmark = pytest.mark.usefixtures("folder")

#: names of classes, and so of folders
NAMES = ["<script>alert(1)", "a & b", '"quoted"', "'", "<img src=x onerror=y>", "&lt;", "九", "\x1b[31m", "<td>", "g"]


class Page(HTMLParser):
    """What a page has in it."""

    def __init__(self, source):
        super().__init__()
        self.tags, self.attributes, self.words = [], [], []
        self.feed(source)
        self.text = " ".join(self.words)

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.attributes += [(tag, *pair) for pair in attributes]

    def handle_data(self, data):
        self.words.append(data)


def page_of(path):
    source = path.read_text(encoding="utf-8")
    page = Page(source)
    # nothing is loaded from elsewhere, and nothing runs
    assert not {"script", "link", "iframe", "object", "embed", "base", "form"} & {*page.tags}
    for tag, name, value in page.attributes:
        assert not name.startswith("on"), (tag, name)
        if name in ("src", "href", "xlink:href", "action"):
            assert value.startswith(("data:image/png;base64,", "#")), (tag, name, value)
        assert "url(http" not in (value or "")
    policy = next(value for tag, name, value in page.attributes if name == "content" and "src" in value)
    assert policy.startswith("default-src 'none'; ")
    assert "\x1b" not in source
    return page


@pytest.fixture
def mine(folder, trained):
    """The run folder of a short training."""
    (folder / "mine").mkdir()
    for name in "checkpoint.safetensors", "run.json":
        (folder / "mine" / name).write_bytes(trained.with_name(name).read_bytes())
    return folder / "mine"


def test_the_page_shows_the_run(run, folder, mine):
    pytest.importorskip("matplotlib")
    out, _ = run("report", "mine", "--steps", "1")
    assert out == "the report of mine/checkpoint.safetensors is mine/report.html: open it in a browser\n"
    page = page_of(mine / "report.html")
    evaluated = json.loads(run("evaluate", "mine", "--json")[0])
    for row in evaluated["classes"]:
        assert (
            f"{row['class']} {row['images']} {row['correct']} {row['recall']:.1%} {row['precision']:.1%}" in page.text
        )
    assert f"test accuracy {evaluated['accuracy']:.2%}" in page.text
    pictures = [value for tag, name, value in page.attributes if (tag, name) == ("img", "src")]
    assert len(pictures) == len(evaluated["mistakes"])
    assert page.tags.count("svg") == 2
    record = json.loads((mine / "run.json").read_text())
    assert record["commands"][0] in page.text
    assert f"{record['checksum']:08x}" in page.text
    assert record["versions"]["numpy"] in page.text
    trainer = ic.Trainer.load(mine / "checkpoint.safetensors")
    for layer in trainer.net.layers:
        assert repr(layer) in page.text


def test_the_facts(run, folder, mine):
    report = json.loads(run("report", "mine", "--out", "page.html", "--steps", "1", "--json")[0])
    evaluated = json.loads(run("evaluate", "mine", "--json")[0])
    assert report["page"] == "page.html"
    assert report["evaluation"] == {key: evaluated[key] for key in report["evaluation"]}
    assert report["history"] == list(ic.Trainer.load(mine / "checkpoint.safetensors").history)
    assert report["training"]["seed"] == 0
    assert all(layer["forward"] >= 0 for layer in report["network"]["layers"])
    assert report["memory"]["training"]["total"] > 0


def test_names_are_text(run, folder):
    """Names of classes and files that are markup are shown as they are."""
    image = pytest.importorskip("PIL.Image")
    names = NAMES
    train, _ = ic.datasets.load("digits")
    for i, name in enumerate(names):
        (folder / "data" / name).mkdir(parents=True)
        for j in np.flatnonzero(train.labels == i)[:10]:
            image.fromarray(train.images[j, 0]).save(folder / "data" / name / f"<b>{j}.png")
    data = ["--data", "data", "--size", "8"]
    run("train", *data, "--model", "notebook", "--epochs", "1", "--out", "<i>run", "--json")
    run("report", "<i>run", "--steps", "1")
    page = page_of(folder / "<i>run" / "report.html")
    assert "<i>run" in page.text
    shown = [name.replace("\x1b", "\\x1b") for name in names]
    assert all(name in page.words for name in shown)
    assert re.search(r"<b>\d+\.png\npredicted ", page.text)
    assert "i" not in page.tags


def test_without_what_can_be_missing(run, folder, mine, monkeypatch):
    """No record of the run, so no data; no Matplotlib, so no curves: the page says so and has the rest."""
    (mine / "run.json").unlink()
    run("report", "mine", "--steps", "1")
    page = page_of(mine / "report.html")
    assert "give --data for results on its test images" in page.text
    assert "Conv2d(" in page.text
    run("report", "mine", "--data", "digits", "--steps", "1")
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    run("report", "mine", "--data", "digits", "--steps", "1")
    page = page_of(mine / "report.html")
    assert "Curves are drawn here if Matplotlib is installed" in page.text
    assert "svg" not in page.tags
    assert "The worst mistakes" in page.text


def test_of_a_run_that_keeps_the_best_checkpoint(run, folder, mine, trained):
    """The results are those of the best epoch, the curves those of all."""
    last = ic.Trainer.load(trained)
    train, test = ic.datasets.load("digits")
    best = ic.Trainer.load(trained, backend="numpy")
    best.save(mine / "best.safetensors")
    with pytest.warns(ic.TrainingWarning, match="learning rate"):
        last.fit(train, 4, 32, test, progress=False)
    last.save(mine / "checkpoint.safetensors")
    report = json.loads(run("report", "mine", "--steps", "1", "--json")[0])
    assert report["evaluation"]["loss"] == pytest.approx(best.evaluate(test)["loss"])
    assert [record["epoch"] for record in report["history"]] == [1, 2, 3, 4]
    assert "the best checkpoint, best.safetensors, from epoch 3" in page_of(mine / "report.html").text


def test_data_that_have_changed_are_told(run, folder, mine):
    record = json.loads((mine / "run.json").read_text())
    (mine / "run.json").write_text(json.dumps(record | {"checksum": 1}))
    run("report", "mine", "--steps", "1")
    assert "have changed since the training" in page_of(mine / "report.html").text


def test_of_other_data_than_those_of_the_run(run, folder, mine):
    """Pictures of any size, and only some of the classes, whose labels are those of the network."""
    image = pytest.importorskip("PIL.Image")
    train, _ = ic.datasets.load("digits")
    for name in "7", "3":
        (folder / "other" / name).mkdir(parents=True)
        for j in np.flatnonzero(train.labels == int(name))[:5]:
            image.fromarray(train.images[j, 0]).resize((20, 20)).save(folder / "other" / name / f"{j}.png")
    report = json.loads(run("report", "mine", "--data", "other", "--steps", "1", "--json")[0])
    evaluated = json.loads(run("evaluate", "mine", "--data", "other", "--json")[0])
    assert report["evaluation"] == {key: evaluated[key] for key in report["evaluation"]}
    assert [row["images"] for row in evaluated["classes"]] == [0, 0, 0, 5, 0, 0, 0, 5, 0, 0]
    text = page_of(mine / "report.html").text
    assert "trained on images or labels that differ from those of other." in text
    assert "have changed since" not in text
    assert " 0 0 0 - " in text  # a class without images has no recall


def test_the_commands_of_a_run(run, folder):
    first = [*FAST, "--epochs", "1", "--out", "my run"]
    again = ["train", "--resume", "my run/checkpoint.safetensors", "--epochs", "2"]
    run(*first)
    run(*again)
    record = json.loads((folder / "my run" / "run.json").read_text())
    assert record["commands"] == [shlex.join(["im2colnet", *arguments]) for arguments in (first, again)]
    assert record["versions"]["im2colnet"] == ic.__version__


def test_other_networks(run, folder):
    """A regression, and a network that has never been trained."""
    net = ic.Sequential([ic.Flatten(), ic.Linear(20, 2)])
    net.input_shape = (1, 4, 5)
    ic.Trainer(net, ic.MSELoss(), ic.SGD(0.01)).save(folder / "numbers.safetensors")
    images = np.random.default_rng(0).random((20, 1, 4, 5), np.float32)
    np.savez("numbers.npz", images=images, labels=images[:, 0, 0, :2])
    assert main(["report", "numbers.safetensors", "--data", "numbers.npz", "--out", "a.html", "--steps", "1"]) == 0
    page = page_of(folder / "a.html")
    assert "test r2 score" in page.text
    assert "There is no finished epoch." in page.text
    assert "Confusion matrix" not in page.text


def test_many_classes(run, folder):
    """Of a matrix that nobody could read, the page has the pairs that are most often mistaken for each other."""
    rng = np.random.default_rng(0)
    images, labels = rng.integers(0, 256, (300, 1, 4, 5), np.uint8), np.arange(300) % 70
    np.savez("many.npz", x_train=images, y_train=labels, x_test=images, y_test=labels)
    net = ic.Sequential([ic.Flatten(), ic.Linear(20, 70)])
    net.input_shape = (1, 4, 5)
    ic.Trainer(net).save(folder / "many.safetensors")
    report = json.loads(
        run("report", "many.safetensors", "--data", "many.npz", "--out", "a.html", "--steps", "1", "--json")[0]
    )
    matrix = np.array(report["evaluation"]["confusion_matrix"])
    matrix[np.diag_indices(70)] = 0
    i, j = np.unravel_index(matrix.argmax(), matrix.shape)
    page = page_of(folder / "a.html")
    assert f"class predicted as images {i} {j} {matrix.max()} " in page.text
    assert "The classes that are most often mistaken" in page.text


def test_names_of_what_was_measured_are_text(run, folder, mine):
    """A checkpoint may come from a stranger."""
    pytest.importorskip("matplotlib")
    trainer = ic.Trainer.load(mine / "checkpoint.safetensors")
    for record in trainer.history:
        record |= {"validation_<b onclick=x>$_{九": 1.0, "lr": float("inf")}
    trainer.save(mine / "checkpoint.safetensors")
    run("report", "mine", "--steps", "1")
    page = page_of(mine / "report.html")
    assert "<b onclick=x>$ {九" in page.text
