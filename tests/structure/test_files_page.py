"""What the page of file formats says is what is written: each file is made, and its names are compared."""

import csv
import json
import re
from pathlib import Path

import numpy as np
import pytest

import im2colnet as ic
from im2colnet.cli import main
from im2colnet.cli.predictions import Maps, Numbers, Regions

safetensors = pytest.importorskip("safetensors")
PAGE = (Path(__file__).resolve().parents[2] / "docs/reference/files.md").read_text(encoding="utf-8")


def table_rows(before):
    """The names in the first column of the table that follows a text, row by row."""
    table = PAGE[PAGE.index(before) :].partition("\n|---")[2].partition("\n\n")[0]
    return [re.findall(r"`([^`]+)`", line.split(" | ")[0]) for line in table.splitlines()[1:]]


def names(before):
    """The names in the first column of the table that follows a text."""
    return [name for row in table_rows(before) for name in row]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run folder with all that a checkpoint can have."""
    folder = tmp_path_factory.mktemp("run")
    settings = "--model notebook --epochs 1 --optimizer adam --ema 0.9 --keep-best --accumulate 2 --quiet --seed 0"
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert main(["train", *settings.split()]) == 0
    return folder / "runs/digits-notebook-1"


def opened(path):
    with safetensors.safe_open(path, framework="numpy") as file:
        return file.metadata(), [*file.keys()]


def test_checkpoint(run, tmp_path):
    metadata, tensors = opened(run / "checkpoint.safetensors")
    assert set(metadata) == {"im2colnet", "im2colnet.crc32"}
    assert [*json.loads(metadata["im2colnet"])] == names("The entries of the object:")
    net = ic.Sequential([ic.Flatten(), ic.Linear(4, 2)])
    trainer = ic.Trainer(net, accumulate=2, seed=0)
    trainer.step(np.zeros((2, 1, 2, 2)), [0, 1])
    trainer.save(tmp_path / "half.safetensors")  # in the middle of an update
    found = {name.partition(".")[0] + "." for name in tensors + opened(tmp_path / "half.safetensors")[1]}
    assert found == set(names("**Tensors** are"))


def test_formats(tmp_path):
    """The number of the format with and without a normalisation."""
    said = re.search(r"`format` \| the number of the format: (\d+), or (\d+) if the network normalizes", PAGE).groups()
    for normalization, number in zip([None, ((0.5,), (0.5,))], said, strict=True):
        net = ic.Sequential([ic.Flatten(), ic.Linear(4, 2)]).init(seed=0)
        net.normalization = normalization
        trainer = ic.Trainer(net, seed=0)
        trainer.step(np.zeros((2, 1, 2, 2)), [0, 1])
        trainer.save(tmp_path / "net.safetensors")
        assert json.loads(opened(tmp_path / "net.safetensors")[0]["im2colnet"])["format"] == int(number)


def test_weights(tmp_path):
    net = ic.Sequential([ic.Flatten(), ic.Linear(4, 2)]).init(seed=0)
    ic.save_weights(net.state_dict(), tmp_path / "weights.safetensors")
    metadata, tensors = opened(tmp_path / "weights.safetensors")
    assert not metadata
    assert {*tensors} == {*net.state_dict()}


def test_run_folder(run):
    said = set(names("makes `runs/DATA-MODEL-NUMBER`"))
    found = {path.name for path in run.iterdir()}
    assert said - found <= {"curves.png"}  # which needs Matplotlib
    assert found <= said
    assert [*json.loads((run / "run.json").read_text())] == names("The entries of `run.json`:")
    record = json.loads((run / "metrics.jsonl").read_text().splitlines()[0])
    plain = {name.removeprefix("validation_") for name in record}
    assert plain == {"epoch", "loss", "lr", "seconds", "images_per_second", "accuracy"}
    assert all(f"`{name}`" in PAGE for name in plain)


def test_arrays_that_are_read(tmp_path):
    both, four, classes = table_rows("read a file of `numpy.savez`")
    images, labels = np.zeros((20, 1, 6, 6), np.uint8), np.arange(20) % 2
    np.savez(tmp_path / "one.npz", **dict(zip(both, [images, labels], strict=True)), **{classes[0]: ["a", "b"]})
    train, test = ic.datasets.load(str(tmp_path / "one.npz"))
    assert (len(train), len(test), train.classes) == (16, 4, ("a", "b"))
    np.savez(tmp_path / "two.npz", **dict(zip(four, [images, labels, images[:6], labels[:6]], strict=True)))
    assert [len(part) for part in ic.datasets.load(str(tmp_path / "two.npz"))] == [20, 6]


def test_predictions(run, tmp_path, capsys):
    np.save(tmp_path / "new.npy", np.zeros((2, 1, 8, 8), np.uint8))
    for ending in "csv", "npz", "npy", "jsonl":
        assert main(["predict", str(run), str(tmp_path / "new.npy"), "--out", str(tmp_path / f"found.{ending}")]) == 0
    with open(tmp_path / "found.csv", newline="") as file:
        header = next(csv.reader(file))
    first, classifier, vector, shares, maps = table_rows("has a line for each image:")
    assert header[:5] == [*first, *classifier]
    assert header[5:] == [f"probability_{digit}" for digit in range(10)]
    assert set(np.load(tmp_path / "found.npz")) == set(names("`.npz` has"))
    assert np.load(tmp_path / "found.npy").dtype == np.float32
    assert "probabilities" in json.loads((tmp_path / "found.jsonl").read_text().splitlines()[0])
    assert Numbers(1).columns == vector
    assert [name.replace("NAME", "cat") for name in shares] == Regions(("cat",)).columns
    assert Maps().columns == maps


def test_mistakes(run, tmp_path, capsys):
    pytest.importorskip("matplotlib")
    assert main(["evaluate", str(run), "--mistakes", str(tmp_path / "mistakes")]) == 0
    header = (tmp_path / "mistakes/mistakes.csv").read_text().splitlines()[0]
    said = re.findall(r"`([a-z_]+)`", PAGE[PAGE.index("has the columns `index`") :].partition(".\n")[0])
    assert header.split(",") == said


def test_onnx(tmp_path):
    onnx = pytest.importorskip("onnx")
    net = ic.models.notebook().init(seed=0)
    ic.onnx.save(net, tmp_path / "net.onnx", (1, 8, 8))
    model = onnx.load(tmp_path / "net.onnx")
    assert [value.name for value in model.graph.input] == ["input"]
    assert [value.name for value in model.graph.output] == ["output"]
    assert f"opset {model.opset_import[0].version} unless" in PAGE
    assert {*net.state_dict()} <= {tensor.name for tensor in model.graph.initializer}


def test_cache(tmp_path, monkeypatch):
    image = pytest.importorskip("PIL.Image")
    monkeypatch.setenv("IM2COLNET_CACHE", str(tmp_path / "cache"))
    for name in "ab":
        (tmp_path / "pictures" / name).mkdir(parents=True)
        for number in range(5):
            image.new("L", (8, 8), number).save(tmp_path / "pictures" / name / f"{number}.png")
    ic.datasets.from_folder(tmp_path / "pictures", keep="disk", progress=False)
    pattern = r"pictures-[0-9a-f]{16}(-[0-9a-f]{32}\.npy|\.json)"
    found = [path.name for path in (tmp_path / "cache").iterdir()]
    assert len(found) == 2
    assert all(re.fullmatch(pattern, name) for name in found)
