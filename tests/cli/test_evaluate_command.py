"""``im2colnet evaluate``."""

import csv
import json
import sys
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest

import im2colnet as ic
from im2colnet.training.trainer import Trainer

pytestmark = pytest.mark.usefixtures("folder")


def test_evaluate(run, trained):
    trainer, (_, test) = Trainer.load(trained), ic.datasets.load("digits")
    expected = trainer.evaluate(test)
    guesses = trainer.net.predict(test.images).argmax(axis=1)
    out, err = run("evaluate", trained, "--json")
    report = json.loads(out)
    assert err == ""
    assert report["loss"] == pytest.approx(expected["loss"])
    assert report["accuracy"] == expected["accuracy"]
    for label, row in enumerate(report["classes"]):
        mine = guesses[test.labels == label]
        assert (row["images"], row["correct"]) == (len(mine), (mine == label).sum())
        wrong = mine[mine != label]
        if len(wrong):
            assert row["times"] == (wrong == int(row["mistaken_for"])).sum() == np.bincount(wrong).max()
        else:
            assert row["mistaken_for"] is None
    out, _ = run("evaluate", trained, "--data", "digits")
    assert f"accuracy {expected['accuracy']:.2%}" in out
    assert len(out.splitlines()) == 5 + 10 + 2
    matrix = np.array(report["confusion_matrix"])
    assert matrix.sum() == len(test)
    assert matrix.trace() == round(expected["accuracy"] * len(test))
    for label, row in enumerate(report["classes"]):
        assert row["recall"] == pytest.approx(matrix[label, label] / matrix[label].sum())
        assert row["precision"] == pytest.approx(matrix[label, label] / max(1, matrix[:, label].sum()))
    assert report["mean"]["recall"] == pytest.approx(np.mean([row["recall"] for row in report["classes"]]))
    assert report["mistakes"] == [asdict(mistake) for mistake in trainer.mistakes(test)]


def test_evaluate_other_images(run, folder, trained):
    np.savez(folder / "large.npz", images=np.zeros((20, 9, 9), np.uint8), labels=np.arange(20) % 2)
    _, err = run("evaluate", trained, "--data", "large.npz", code=1)
    assert "takes images of 1×8×8, the images of large are 1×9×9" in err
    np.savez(folder / "many.npz", images=np.zeros((60, 8, 8), np.uint8), labels=np.arange(60) % 12)
    _, err = run("evaluate", trained, "--data", "many.npz", code=1)
    assert "10 classes" in err
    assert "12" in err


def test_evaluate_fewer_classes(run, folder, trained):
    train, _ = ic.datasets.load("digits")
    np.savez(folder / "few.npz", images=train.images[:100], labels=np.zeros(100, int))
    report = json.loads(run("evaluate", trained, "--data", "few.npz", "--json")[0])
    assert len(report["classes"]) == 1
    assert report["classes"][0]["mistaken_for"] in set("123456789")


def test_evaluate_asks_for_the_data(run, folder, trained):
    (folder / "lone.safetensors").write_bytes(trained.read_bytes())
    assert "give --data" in run("evaluate", "lone.safetensors", code=2)[1]


def test_pictures_of_the_mistakes(run, folder, trained):
    image = pytest.importorskip("PIL.Image")
    pytest.importorskip("matplotlib")
    plain = json.loads(run("evaluate", trained, "--json")[0])
    arguments = ["--confusion", "matrix.png", "--mistakes", "wrong/digits"]
    report = json.loads(run("evaluate", trained.parent, *arguments, "--json")[0])
    assert report["files"] == ["matrix.png", "wrong/digits/mistakes.csv", "wrong/digits/mistakes.png"]
    assert report == plain | {"files": report["files"]}
    for name in report["files"][::2]:
        with image.open(name) as picture:
            assert min(picture.size) > 300
            assert picture.convert("L").getextrema()[0] < 100
    with open("wrong/digits/mistakes.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [int(row["index"]) for row in rows] == [mistake["index"] for mistake in plain["mistakes"]]
    out, _ = run("evaluate", trained, *arguments)
    assert out.splitlines()[-1] == f"files    {', '.join(report['files'])}"


def test_names_of_files_and_classes_in_the_mistakes(run, folder, trained):
    """No formula for a spreadsheet, no mathematics for Matplotlib, no control characters for a terminal."""
    image = pytest.importorskip("PIL.Image")
    pytest.importorskip("matplotlib")
    names = ["=1+1", "$x", "\x1b[31mred", "<script>", "$a_{b}$", "九", "-7", "[bold]", "a b", "é"]
    train, test = ic.datasets.load("digits")
    for i, name in enumerate(names):
        (folder / "data" / name).mkdir(parents=True)
        for j in np.flatnonzero(train.labels == i)[:5]:
            image.fromarray(train.images[j, 0]).save(folder / "data" / name / f"{j}.png")
    net = ic.Sequential([ic.Flatten(), ic.Linear(64, 10)])
    net.input_shape = (1, 8, 8)
    ic.Trainer(net).save("untrained.safetensors")
    arguments = ["--data", "data", "--confusion", "matrix.png", "--mistakes", "wrong", "--size", "8"]
    out, err = run("evaluate", "untrained.safetensors", *arguments)
    assert "\x1b" not in out + err
    with open("wrong/mistakes.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert rows
    for row in rows:
        label = Path(row["file"].removeprefix("'")).parent.name
        assert row["label_name"] == (f"'{label}" if label[0] in "=-" else label)
    assert all(cell[:1] not in "=+-@" or cell == "" for row in rows for cell in row.values())


def test_pictures_are_for_classifiers_and_need_matplotlib(run, folder, trained, monkeypatch):
    pytest.importorskip("matplotlib")
    np.savez("numbers.npz", images=np.zeros((20, 8, 8), np.uint8), labels=np.zeros((20, 10)))
    net = ic.Sequential([ic.Flatten(), ic.Linear(64, 10)])
    net.input_shape = (1, 8, 8)
    ic.Trainer(net, ic.MSELoss()).save("numbers.safetensors")
    _, err = run("evaluate", "numbers.safetensors", "--data", "numbers.npz", "--confusion", "x.png", code=2)
    assert "are for classifiers, but numbers has targets" in err
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    _, err = run("evaluate", trained, "--confusion", "x.png", code=1)
    assert "install Matplotlib: " in err
