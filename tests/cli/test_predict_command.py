"""``im2colnet predict``."""

import csv
import json
import sys
from pathlib import Path

import numpy as np
import pytest

import im2colnet as ic
from im2colnet import datasets
from im2colnet.training.trainer import Trainer

pytestmark = pytest.mark.usefixtures("folder")


def test_predict_files_of_every_shape(run, folder, trained, digits):
    logits = Trainer.load(trained).net.predict(digits[:3]).astype(float)
    expected = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    np.save("nchw.npy", digits[:3])
    np.save("nhw.npy", digits[:3, 0])
    np.save("float.npy", digits[:3, 0] / 255)
    np.savez("images.npz", images=digits[:3])
    for file in ("nchw.npy", "nhw.npy", "float.npy", "images.npz"):
        out, _ = run("predict", trained, file, "--json", "--out", "p.npy")
        predictions = json.loads(out)["predictions"]
        assert [(row["file"], row["index"]) for row in predictions] == [(file, 0), (file, 1), (file, 2)]
        np.testing.assert_allclose(np.load("p.npy"), expected, rtol=1e-4)
        for row, probabilities in zip(predictions, expected, strict=True):
            best = np.argsort(-probabilities)[:3]
            assert [guess["label"] for guess in row["top"]] == best.tolist()
            assert (row["class"], row["label"]) == (str(best[0]), best[0])
            assert row["probability"] == pytest.approx(probabilities.max(), rel=1e-4)
    np.save("chw.npy", digits[0])
    np.save("hw.npy", digits[0, 0])
    run("predict", trained, "chw.npy", "hw.npy", "nhw.npy", "--out", "p.npy")
    np.testing.assert_allclose(np.load("p.npy"), expected[[0, 0, 0, 1, 2]], rtol=1e-4)


def test_predict_prints_a_table(run, folder, trained, digits):
    np.save("several.npy", digits[:2])
    np.save("one.npy", digits[2])
    out, _ = run("predict", trained, "several.npy", "one.npy")
    assert [line.split()[0] for line in out.splitlines()[2:]] == ["several.npy[0]", "several.npy[1]", "one.npy"]


@pytest.mark.parametrize("change", ["as it is", "colour", "16 bits", "larger", "rotated by its tag", "palette"])
def test_predict_pictures(run, folder, trained, digits, change):
    image = pytest.importorskip("PIL.Image")
    np.save("plain.npy", digits[7])
    expected = json.loads(run("predict", trained, "plain.npy", "--json")[0])["predictions"][0]
    picture = image.fromarray(digits[7, 0])
    tag = picture.getexif()
    if change == "colour":
        picture = picture.convert("RGB")
    elif change == "16 bits":
        picture = image.fromarray(digits[7, 0].astype(np.uint16) * 257)
    elif change == "larger":
        picture = picture.resize((32, 32), image.Resampling.NEAREST)
    elif change == "palette":
        picture = picture.convert("P")
    elif change == "rotated by its tag":
        picture = image.fromarray(np.rot90(digits[7, 0]).copy())
        tag[0x0112] = 6  # shown turned by 90° clockwise
    picture.save("picture.png", exif=tag)
    found = json.loads(run("predict", trained, "picture.png", "--json")[0])["predictions"][0]
    assert found["top"] == expected["top"]


def test_predict_a_photograph_in_colour(run, folder):
    image = pytest.importorskip("PIL.Image")
    net = ic.models.vgg8(classes=3)
    Trainer(net).save("vgg8.safetensors")
    rgb = np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)
    image.fromarray(rgb).save("rgb.png")
    np.save("rgb.npy", rgb.transpose(2, 0, 1))
    run("predict", "vgg8.safetensors", "rgb.png", "rgb.npy", "--out", "p.npy")
    a, b = np.load("p.npy")
    np.testing.assert_array_equal(a, b)


def test_predict_names_the_classes(run, folder, trained, digits):
    np.save("one.npy", digits[0])
    names = [f"the {number}" for number in range(10)]
    information = json.loads(trained.with_name("run.json").read_text())
    (folder / "checkpoint.safetensors").write_bytes(trained.read_bytes())
    (folder / "run.json").write_text(json.dumps(information | {"classes": names}))
    report = json.loads(run("predict", "checkpoint.safetensors", "one.npy", "--json")[0])
    assert report["classes"] == names
    assert report["predictions"][0]["class"].startswith("the ")
    np.savez("two.npz", images=digits[:20], labels=np.arange(20) % 2)
    _, err = run("predict", "checkpoint.safetensors", "one.npy", "--data", "two.npz", code=1)
    assert "two.npz has 2 classes, the network 10" in err


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("missing.npy", None, "there is no such file"),
        ("empty.npy", b"", "cannot be read"),
        ("cut.npy", b"\x93NUMPY\x01\x00v\x00{'descr'", "cannot be read"),
        ("noise.npz", b"PK\x03\x04noise", "cannot be read"),
        ("text.png", b"no picture", "cannot be read as a picture"),
        ("shape.npy", np.zeros((2, 3, 8, 8), np.uint8), "of the shape (2, 3, 8, 8); the network takes (N, 1, 8, 8)"),
        ("large.npy", np.zeros((9, 9), np.uint8), "shape (9, 9)"),
        ("text.npy", np.full((8, 8), "a"), "holds <U1"),
        ("objects.npy", np.full((8, 8), None), "cannot be read"),
        ("nan.npy", np.full((8, 8), np.nan, np.float32), "NaN"),
        ("none.npy", np.zeros((0, 1, 8, 8), np.uint8), "empty"),
    ],
)
def test_predict_bad_files(run, folder, trained, name, content, message):
    if name.endswith(".png"):
        pytest.importorskip("PIL.Image")
    if isinstance(content, bytes):
        (folder / name).write_bytes(content)
    elif content is not None:
        np.save(name, content, allow_pickle=True)
    _, err = run("predict", trained, name, "--out", "p.npy", code=1)
    assert name in err or name in ("nan.npy", "none.npy")
    assert message in err
    assert not (folder / "p.npy").exists()


def test_predict_says_which_array_an_npz_lacks(run, folder, trained):
    np.savez("mine.npz", pictures=np.zeros(3))
    assert "should have the array images, but has pictures" in run("predict", trained, "mine.npz", code=1)[1]


def test_predict_without_pillow(run, folder, trained, monkeypatch):
    monkeypatch.setitem(sys.modules, "PIL", None)
    (folder / "a.png").write_bytes(b"")
    assert "pip install Pillow (the extra images" in run("predict", trained, "a.png", code=1)[1]


def test_predictions_in_the_format_that_the_name_asks_for(run, folder, trained):
    images = datasets.load("digits")[1].images[:3]
    np.save("a,b.npy", images[:2])
    np.save("c.npy", images[2])
    logits = Trainer.load(trained).net.predict(images).astype(float)
    expected = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    best = expected.argmax(axis=1).tolist()
    for name in ("p.csv", "p.json", "p.npy", "p.npz", "P.CSV", ".csv"):
        run("predict", trained, "a,b.npy", "c.npy", "--out", name)
    assert Path(".csv").read_bytes() == Path("p.csv").read_bytes()
    with open("p.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["file", "index", "label", "class", "probability", *(f"probability_{n}" for n in range(10))]
    assert [(row["file"], row["index"]) for row in rows] == [("a,b.npy", "0"), ("a,b.npy", "1"), ("c.npy", "0")]
    assert [int(row["label"]) for row in rows] == [int(row["class"]) for row in rows] == best
    found = np.array([[float(row[f"probability_{n}"]) for n in range(10)] for row in rows], np.float32)
    np.testing.assert_array_equal(found, np.load("p.npy"))  # exactly
    np.testing.assert_allclose(found, expected, rtol=1e-4)
    assert Path("P.CSV").read_bytes() == Path("p.csv").read_bytes()
    with np.load("p.npz", allow_pickle=False) as arrays:
        np.testing.assert_array_equal(arrays["probabilities"], found)
        assert arrays["files"].tolist() == ["a,b.npy", "a,b.npy", "c.npy"]
        assert arrays["indices"].tolist() == [0, 1, 0]
        assert arrays["labels"].tolist() == best
        assert arrays["classes"].tolist() == list("0123456789")
    report = json.loads(Path("p.json").read_text())
    np.testing.assert_array_equal(np.float32([row["probabilities"] for row in report["predictions"]]), found)


def test_predict_takes_a_folder(run, folder, trained, digits):
    """All files in it, sorted, also in folders; bad ones are named and skipped."""
    image = pytest.importorskip("PIL.Image")
    pictures = folder / "new pictures"
    (pictures / "b" / "ö ä").mkdir(parents=True)
    (pictures / ".hidden").mkdir()
    good = ["a 1.png", "b/2.png", "b/ö ä/=3.png", "c.npy"]
    for name, digit in zip(good[:3], digits, strict=False):
        image.fromarray(digit[0]).save(pictures / name)
    np.save(pictures / "c.npy", digits[3:5])
    whole = (pictures / "a 1.png").read_bytes()
    (pictures / "b" / "cut.png").write_bytes(whole[: len(whole) // 2])
    (pictures / "notes.txt").write_text("a text")
    for name in ("Thumbs.db", ".DS_Store", ".hidden/x.png"):
        (pictures / name).write_bytes(b"litter")
    out, err = run("predict", trained, "new pictures", "--out", pictures / "all.csv", code=1)
    assert [line.split(": ")[2] for line in err.splitlines()] == ["new pictures/b/cut.png", "new pictures/notes.txt"]
    assert out.splitlines()[-1] == f"5 images in {pictures / 'all.csv'}"
    with open(pictures / "all.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    expected = [(f"new pictures/{name}", "0") for name in good] + [("new pictures/c.npy", "1")]
    assert [(row["file"], row["index"]) for row in rows] == expected
    assert [row["label"] for row in rows] == [str(n) for n in Trainer.load(trained).net.predict(digits[:5]).argmax(1)]
    report = json.loads(run("predict", trained, pictures, "--out", pictures / "all.csv", "--json", code=1)[0])
    assert [bad["file"] for bad in report["failed"]] == [f"{pictures}/b/cut.png", f"{pictures}/notes.txt"]
    _, err = run("predict", trained, "new pictures", "--out", pictures / "c.npy", code=2)
    assert "would overwrite a file of the folder that is read" in err
    (folder / "empty").mkdir()
    assert "there is no file in this folder" in run("predict", trained, "empty", code=1)[1]


def test_predict_many_images(run, folder, trained, digits, monkeypatch):
    """In batches: the network never gets all images at once, and the file is the same."""
    seen, predict = [], Trainer.predict
    monkeypatch.setattr(
        Trainer, "predict", lambda by, x, scores=False: (seen.append(len(x)), predict(by, x, scores))[1]
    )
    np.save("many.npy", digits[:300])
    out, _ = run("predict", trained, "many.npy", "--out", "p.npy")
    assert seen == [256, 44]
    assert out.splitlines()[-1] == "... and 280 more; 300 images in p.npy"
    assert len(out.splitlines()) == 2 + 20 + 1
    logits = Trainer.load(trained).net.predict(digits[:300]).astype(float)
    expected = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(np.load("p.npy"), expected, rtol=1e-4)
    run("predict", trained, "many.npy", "--out", "p.jsonl")
    lines = [json.loads(line) for line in Path("p.jsonl").read_text().splitlines()]
    np.testing.assert_array_equal(np.float32([line["probabilities"] for line in lines]), np.load("p.npy"))


def test_names_are_data(run, folder, trained, digits):
    """Neither a spreadsheet nor a terminal obeys the name of a file or of a class."""
    names = ["=1+1", "+1", "-1", "@SUM(A1)", "\tx", "\rx", 'a "b", c', "\x1b[31mred", "[bold]b[/bold]", "九"]
    (folder / "checkpoint.safetensors").write_bytes(trained.read_bytes())
    record = json.loads(trained.with_name("run.json").read_text())
    (folder / "run.json").write_text(json.dumps(record | {"classes": names}))
    np.save("=cmd|'C calc'!A0.npy", digits[:60])
    np.save("\x1b[31m.npy", digits[0])
    out, _ = run("predict", folder, "=cmd|'C calc'!A0.npy", "\x1b[31m.npy")
    assert "\x1b" not in out
    assert "\\x1b[31m.npy" in out
    run("predict", folder, "=cmd|'C calc'!A0.npy", "--out", "p.csv")
    with open("p.csv", newline="") as file:
        header, *rows = csv.reader(file)
    assert {row[0] for row in rows} == {"'=cmd|'C calc'!A0.npy"}
    shown = [f"'{name}" if name[0] in "=+-@\t\r" else name for name in names]
    assert {row[3] for row in rows} == {shown[int(row[2])] for row in rows}
    assert header[5:] == [f"probability_{name}" for name in names]
    _, err = run("predict", trained, "\x1b[32mno.npy", code=1)
    assert "\x1b" not in err
    assert "\\x1b[32mno.npy: there is no such file" in err


def test_a_run_folder_stands_for_its_checkpoint(run, folder, trained, digits):
    np.save("one.npy", digits[0])
    record = trained.with_name("run.json").read_text()
    (folder / "mine").mkdir()
    (folder / "mine/run.json").write_text(record)
    (folder / "mine/checkpoint.safetensors").write_bytes(trained.read_bytes())
    assert json.loads(run("predict", "mine", "one.npy", "--json")[0])["checkpoint"] == "mine/checkpoint.safetensors"
    (folder / "mine/best.safetensors").write_bytes(trained.read_bytes())
    assert json.loads(run("predict", "mine", "one.npy", "--json")[0])["checkpoint"] == "mine/best.safetensors"
    assert "is a folder" in run("predict", folder, "one.npy", code=1)[1]


def test_a_file_is_whole_or_not_written(run, folder, trained, digits, monkeypatch):
    np.save("many.npy", digits[:300])
    Path("p.csv").write_text("old")

    def predict(trainer, images, scores):
        if len(images) < 256:
            raise KeyboardInterrupt
        return np.zeros((len(images), 10), np.float32)

    monkeypatch.setattr(Trainer, "predict", predict)
    run("predict", trained, "many.npy", "--out", "p.csv", code=130)
    assert Path("p.csv").read_text() == "old"
    assert sorted(path.name for path in folder.iterdir()) == ["many.npy", "p.csv"]
