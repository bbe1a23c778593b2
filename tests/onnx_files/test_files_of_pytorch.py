"""Networks that PyTorch has exported: ``make_files.py`` says what they are."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from helpers import assert_same_bits, normal
from onnx.reference import ReferenceEvaluator

import im2colnet as ic

FILES = sorted((Path(__file__).parent / "files").glob("*.onnx"))


def path(name):
    return Path(__file__).parent / "files" / f"{name}.onnx"


def reference(file, images):
    """What onnx's own interpreter computes, a tuple for several outputs."""
    found = ReferenceEvaluator(onnx.load(file)).run(None, {"images": images})
    return found[0] if len(found) == 1 else tuple(found)


@pytest.mark.parametrize("n", [1, 3])
@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_predicts_what_the_file_says(file, n):
    net = ic.onnx.load(file)
    images = normal(n, *net.input_shape, dtype="float32")
    found, expected = net.predict(images), reference(file, images)
    for a, b in zip(found, expected, strict=True) if isinstance(found, tuple) else [(found, expected)]:
        assert a.shape == b.shape
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-5 * np.abs(b).max())


def test_parameters_have_the_names_that_they_had_in_pytorch():
    state = ic.onnx.load(path("resnet")).state_dict()
    assert {name.rpartition(".")[0] for name in state} == {
        "conv1",
        "bn1",
        *(
            f"layer1.{i}.{part}"
            for i in (0, 1)
            for part in ("conv1", "bn1", "conv2", "bn2", "downsample.0", "downsample.1")
        ),
        "fc",
    }
    assert state["layer1.0.bn1.running_mean"].shape == (6,)
    assert state["fc.weight"].shape == (5, 8)


def test_the_loss_is_given_the_scores_before_the_softmax():
    net = ic.onnx.load(path("view"))
    images = normal(4, 2, 8, 8, dtype="float32")
    scores = net.predict(images, scores=True)
    assert np.abs(scores.sum(1) - 1).min() > 0.01
    exponentials = np.exp(scores.astype("float64"))
    np.testing.assert_allclose(net.predict(images), exponentials / exponentials.sum(1, keepdims=True), rtol=1e-5)
    trainer = ic.Trainer(net, loss=ic.CrossEntropyLoss(), optimizer=ic.SGD(lr=0.1))
    labels = np.arange(4)
    loss = -np.log(exponentials[labels, labels] / exponentials.sum(1)).mean()
    np.testing.assert_allclose(trainer.step(images, labels), loss, rtol=1e-5)


def test_trains_as_the_same_network_built_by_hand():
    net = ic.onnx.load(path("lenet"))
    twin = ic.Sequential(
        [
            ic.Conv2d(1, 3, 5, padding=2),
            ic.ReLU(),
            ic.MaxPool2d(2),
            ic.Conv2d(3, 4, 3),
            ic.ReLU(),
            ic.MaxPool2d(2),
            ic.Flatten(),
            ic.Linear(16, 12),
            ic.ReLU(),
            ic.Linear(12, 5),
        ]
    )
    twin.load_state_dict(net.state_dict())
    images, labels = normal(8, 1, 12, 12, dtype="float32"), np.arange(8) % 5
    for each in net, twin:
        trainer = ic.Trainer(each, optimizer=ic.SGD(lr=0.1, momentum=0.9), seed=0)
        for _ in range(3):
            trainer.step(images, labels)
    assert_same_bits(net.state_dict(), twin.state_dict())


def test_a_checkpoint_of_it_needs_no_onnx(tmp_path):
    net = ic.onnx.load(path("resnet"))
    images, labels = normal(4, 3, 12, 12, dtype="float32"), np.arange(4)
    trainer = ic.Trainer(net, optimizer=ic.SGD(lr=0.1))
    trainer.step(images, labels)
    trainer.save(tmp_path / "net.safetensors")
    again = ic.Trainer.load(tmp_path / "net.safetensors").net
    assert_same_bits(again.predict(images), net.predict(images))
