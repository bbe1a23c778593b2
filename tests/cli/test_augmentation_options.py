"""``im2colnet train`` with ``--augment``, ``--mixup``, ``--cutmix`` and ``--normalize``."""

import json

import numpy as np
import pytest
from starting import FAST, ONE_EPOCH

from im2colnet.training.trainer import Trainer

pytestmark = pytest.mark.usefixtures("folder")


def test_all_options(run):
    out, _ = run(*FAST, "--epochs", "2", "--augment", "crop,flip,vertical-flip,affine,color,erase", "--mixup", "0.2",
                 "--cutmix", "1", "--normalize", "--json")  # fmt: skip
    report = json.loads(out)
    assert report["augment"] == [
        "RandomCrop(padding=1)", "RandomHorizontalFlip()", "RandomVerticalFlip()",
        "RandomAffine(10.0, translate=(0.1, 0.1), scale=(0.9, 1.1))", "ColorJitter(brightness=0.2, contrast=0.2)",
        "RandomErasing()", "RandomChoice((MixUp(alpha=0.2), CutMix()))",
    ]  # fmt: skip
    mean, std = report["normalization"]
    trainer = Trainer.load(report["checkpoint"])
    assert [list(each) for each in trainer.net.normalization] == [mean, std]
    assert [repr(each) for each in trainer.augment] == report["augment"]
    more, _ = run("train", "--resume", report["checkpoint"], "--epochs", "3", "--json")
    assert json.loads(more)["augment"] == report["augment"]
    evaluated = json.loads(run("evaluate", report["checkpoint"], "--json")[0])
    assert evaluated["accuracy"] == json.loads(more)["test"]["accuracy"]


@pytest.mark.parametrize("given", [["--augment"], ["--augment", "standard"], ["--augment=crop, flip"]])
def test_the_standard_is_crop_and_flip(run, given):
    out, _ = run(*ONE_EPOCH, *given)
    assert "images   RandomCrop(padding=1), RandomHorizontalFlip()\n" in out
    assert "normalised" not in out


def test_padding_is_an_eighth_of_the_shorter_side(run):
    images = np.random.default_rng(0).integers(0, 256, (20, 16, 24), dtype=np.uint8)
    np.savez("wide.npz", images=images, labels=np.arange(20) % 2)
    out, _ = run("train", "--data", "wide.npz", "--model", "notebook", "--epochs", "1", "--augment", "crop", "--json")
    assert json.loads(out)["augment"] == ["RandomCrop(padding=2)"]


def test_without_options_nothing_is_said(run):
    out, _ = run(*ONE_EPOCH)
    assert "\nimages " not in out


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["--augment", "blur"], "argument --augment: must be names of crop, flip"),
        (["--augment", "crop,,flip"], "separated by commas, got ''"),
        (["--mixup", "0"], "argument --mixup: must be a number above 0"),
        (["--cutmix", "nan"], "argument --cutmix: must be a number above 0"),
        (["--resume", "x", "--augment", "--normalize"], "the checkpoint's own settings: leave out --augment, --norm"),
    ],
)
def test_wrong_options(run, given, message):
    _, err = run("train", *given, code=2)
    assert message in err
