"""``im2colnet profile``."""

import json
import os
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

import im2colnet as ic

pytestmark = pytest.mark.usefixtures("folder")


def test_profile_tells_what_every_layer_takes(run, folder):
    report = json.loads(
        run(
            "profile", "--model", "resnet20", "--input-shape", "3,16,16", "--batch-size", "16", "--steps", "2", "--json"
        )[0]
    )
    assert report["batch"] == sum(report["shards"]) == 16
    layers = {row["name"]: row for row in report["layers"]}
    assert list(layers) == [node.name for node in ic.models.resnet20().graph.nodes]
    assert [layers[name]["algorithm"] for name in ("0", "11.body.3", "1")] == ["rows", "winograd", ""]
    taken = sum(row[kind]["seconds"] for row in report["layers"] for kind in ("forward", "backward"))
    assert 0.3 * report["seconds"] < taken + report["loss_seconds"] < 1.2 * report["seconds"]
    flops = 2 * 3 * 9 * 16 * 16 * 16 * 16
    assert layers["0"]["forward"]["flops"] == flops
    assert layers["0"]["backward"]["flops"] == flops, "images want no gradient"
    assert layers["3.body.0"]["backward"]["flops"] == 2 * layers["3.body.0"]["forward"]["flops"]
    assert layers["23"]["forward"]["bytes"] == 4 * (16 * 64 + 16 * 10 + 650)
    assert report["gemm"] > 1e8
    assert report["copy"] > 1e7
    assert os.listdir(".") == []


def test_profile_as_a_table_and_a_picture(run, folder, trained):
    before = trained.read_bytes()
    threads = ic.get_num_threads()
    drawn = ["--picture", "roofline.png"] if find_spec("matplotlib") else []
    text, _ = run("profile", "--checkpoint", trained, "--batch", "8", "--shard", "3", "--steps", "1", *drawn)
    head, names, *rows = text.splitlines()
    assert "a training step of 8 images on one core, in 3 shards of up to 3" in head
    assert names.split()[:4] == ["layer", "algorithm", "forward", "backward"]
    assert [row.split()[0] for row in rows[-4:] if set(row) != {"─"}] == ["loss", "rest", "step"]
    if drawn:
        picture = Path("roofline.png").read_bytes()
        assert picture.startswith(b"\x89PNG")
        assert len(picture) > 20_000
    assert trained.read_bytes() == before
    assert ic.get_num_threads() == threads


def test_profile_says_at_once_what_a_picture_needs(run, folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.setattr("im2colnet.reports.profile.profile", None)  # not after the work
    _, err = run("profile", "--model", "notebook", "--picture", "roofline.png", code=1)
    assert "pip install matplotlib (the extra viz" in err
    assert "Traceback" not in err
    assert os.listdir(".") == []
