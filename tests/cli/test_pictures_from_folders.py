"""Folders of pictures on the command line: trained on, gone on with, evaluated."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

Image = pytest.importorskip("PIL.Image")
pytestmark = pytest.mark.usefixtures("folder")
TRAIN = ("train", "--data", "my pictures", "--model", "notebook", "--epochs", "2", "--json", "--out", "run")


@pytest.fixture(autouse=True)
def pictures(folder, monkeypatch):
    """Two classes of pictures that differ in their brightness, with a truncated one and a text."""
    monkeypatch.setenv("IM2COLNET_CACHE", str(folder / "cache"))
    rng = np.random.default_rng(0)
    for name, low in (("bright day", 128), ("<nacht>", 0)):
        at = folder / "my pictures" / name
        at.mkdir(parents=True)
        for number in range(20):
            pixels = rng.integers(low, low + 127, (10 + number % 5, 9 + number % 7), np.uint8)
            mode = ("L", "RGB", "P", "LA", "CMYK")[number % 5]
            Image.fromarray(pixels).convert(mode).save(at / f"é {number}.{'tif' if mode == 'CMYK' else 'png'}")
    (at / "text.png").write_text("no picture")
    whole = (at / "é 1.png").read_bytes()
    (at / "cut.png").write_bytes(whole[: len(whole) // 2])
    return folder / "my pictures"


def test_train_evaluate_and_go_on(run, pictures, monkeypatch):
    out, err = run(*TRAIN)
    facts = json.loads(out)
    assert "my pictures: 2 files cannot be read and are left out: <nacht>" in err
    assert "my pictures: 40 pictures, read as color images of" in err
    record = json.loads(Path("run/run.json").read_bytes())
    assert record["data"] == str(pictures)
    assert record["classes"] == ["<nacht>", "bright day"]
    assert (record["color"], record["split"]) == ("rgb", 0.2)
    assert record["size"] == [11, 11]
    report = json.loads(run("evaluate", "run/checkpoint.safetensors", "--json")[0])
    assert report["accuracy"] == facts["test"]["accuracy"]
    assert report["images"] == 8
    # the same images, wherever the folder is and however they are kept
    shutil.copytree(pictures, "elsewhere")
    monkeypatch.setattr("im2colnet.datasets.pictures.available_memory", lambda: 0)
    run("train", "--resume", "run/checkpoint.safetensors", "--data", "elsewhere", "--epochs", "3")
    assert len(list(Path("cache").glob("*.npy"))) == 1
    for file in ("cut.png", "text.png", "é 3.png"):
        Path("elsewhere/<nacht>", file).unlink()
    err = run("train", "--resume", "run/checkpoint.safetensors", "--data", "elsewhere", "--epochs", "4", code=1)[1]
    assert "was trained on images that differ from those of elsewhere" in err


def test_options(run):
    out, err = run(*TRAIN, "--size", "8,12", "--color", "grey", "--split", "0.5")
    record = json.loads(Path("run/run.json").read_bytes())
    assert (record["size"], record["color"], record["split"]) == ([8, 12], "grey", 0.5)
    assert "give size and color" not in err
    assert "pictures, read as" not in run(*TRAIN[:-1], "quiet", "--quiet")[1]
    assert json.loads(run("evaluate", "run/checkpoint.safetensors", "--json")[0])["images"] == 20


def test_another_folder_is_evaluated_whole_and_by_the_names_of_its_classes(run, pictures):
    """Its pictures get the size that the network takes; classes that it lacks do not shift the others."""
    run(*TRAIN, "--size", "8")
    shutil.copytree(pictures / "bright day", "new/bright day")
    out, _ = run("evaluate", "run/checkpoint.safetensors", "--data", "new", "--json")
    facts = json.loads(out)
    assert facts["images"] == 20
    assert [(row["class"], row["images"]) for row in facts["classes"]] == [("<nacht>", 0), ("bright day", 20)]
    (Path("new") / "unknown").mkdir()
    shutil.copy(next((pictures / "bright day").iterdir()), "new/unknown/1.png")
    err = run("evaluate", "run/checkpoint.safetensors", "--data", "new", code=1)[1]
    assert "is of the class 'unknown', which is none of the classes that were given: '<nacht>', 'bright day'" in err


def test_reports_take_folders(run):
    for command in (("plan",), ("summary",)):
        facts = json.loads(run(*command, "--data", "my pictures", "--size", "16", "--color", "grey", "--json")[0])
        assert "1, 16, 16" in json.dumps(facts) or facts.get("input_shape") == [1, 16, 16]


def test_csv(run, pictures):
    lines = [f"{name}/é {n}.png,{name}" for name in ("bright day", "<nacht>") for n in range(20) if n % 5 != 4]
    (pictures / "l.csv").write_text("\n".join(["file,label", *lines]))
    run("train", "--data", "my pictures/l.csv", "--model", "notebook", "--epochs", "1", "--out", "run")
    assert json.loads(Path("run/run.json").read_bytes())["classes"] == ["<nacht>", "bright day"]
    run("evaluate", "run/checkpoint.safetensors")


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("--data", "nowhere"), 1, "there is no folder of this name"),
        (("--data", "cache"), 1, "has no pictures: it must have a folder for each class"),
        (("--size", "8"), 2, "--size is for pictures in a folder or a .csv file, not for digits"),
        (("--data", "my pictures", "--size", "8,8,8"), 2, "must be a number of pixels such as 32"),
        (("--data", "my pictures", "--split", "1"), 2, "above 0 and below 1"),
        (("--data", "my pictures", "--color", "blue"), 2, "invalid choice"),
    ],
)
def test_wrong_arguments(run, arguments, code, message):
    Path("cache").mkdir(exist_ok=True)
    assert message in run("train", *arguments, code=code)[1]
