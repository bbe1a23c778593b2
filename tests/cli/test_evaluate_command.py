"""``im2colnet evaluate``."""

import json

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
    assert len(out.splitlines()) == 5 + 10


def test_evaluate_other_images(run, folder, trained):
    np.savez(folder / "large.npz", images=np.zeros((20, 9, 9), np.uint8), labels=np.arange(20) % 2)
    _, err = run("evaluate", trained, "--data", "large.npz", code=1)
    assert "takes images of 1×8×8, those of large are 1×9×9" in err
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
