"""Which network and how many epochs the command line chooses for data that nobody has tuned it to."""

import math

import numpy as np
import pytest

from im2colnet.cli.command_line import make_parser
from im2colnet.cli.commands import train
from im2colnet.models import MODELS


def start(tmp_path, shape, *arguments):
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, shape).astype("uint8")
    labels = np.arange(len(images)) % 4
    np.savez(tmp_path / "a.npz", x_train=images, y_train=labels, x_test=images[:8], y_test=labels[:8])
    args = make_parser().parse_args(["train", "--data", str(tmp_path / "a.npz"), *arguments])
    training = train.start(args)
    return training.trainer, training.record


@pytest.mark.parametrize(
    ("shape", "model"),
    [
        ((192, 3, 32, 32), "resnet20"),
        ((40, 3, 64, 64), "resnet20"),
        ((192, 1, 28, 28), "lenet5"),
        ((1438, 1, 8, 8), "resnet20"),
        ((5000, 1, 28, 28), "lenet5"),
    ],
)
def test_few_images_get_more_epochs(shape, model, tmp_path):
    """240 images in batches of 64 for 15 epochs are 60 steps, after which no network has learned much."""
    trainer, run = start(tmp_path, shape)
    recipe = MODELS[model].recipe
    steps = math.ceil(shape[0] / recipe.batch_size)
    assert (run.model, run.batch_size) == (model, recipe.batch_size)
    assert run.epochs >= recipe.epochs
    assert run.epochs * steps >= 500
    assert run.epochs == recipe.epochs or (run.epochs - 1) * steps < 500
    assert trainer.optimizer.lr.warmup == round(run.epochs / 10 * steps)


def test_what_is_asked_for_stays(tmp_path):
    _, run = start(tmp_path, (40, 3, 32, 32), "--epochs", "2", "--model", "vgg8", "--batch-size", "7")
    assert (run.model, run.epochs, run.batch_size) == ("vgg8", 2, 7)
