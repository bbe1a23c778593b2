"""Commands on a checkpoint whose loss is another than cross-entropy."""

import csv
import json

import numpy as np
import pytest

import im2colnet as ic

pytestmark = pytest.mark.usefixtures("folder")


@pytest.fixture
def regression(folder):
    """A trained network that gives two numbers for an image, and the data set that it learned from."""
    rng = np.random.default_rng(0)
    images = rng.random((40, 1, 8, 8), dtype=np.float32)
    targets = np.stack([images.mean((1, 2, 3)), images[:, 0, 0, 0]], axis=1)
    np.savez(folder / "numbers.npz", x_train=images, y_train=targets, x_test=images[:10], y_test=targets[:10])
    net = ic.Sequential([ic.Flatten(), ic.Linear(64, 2)])
    net.input_shape = (1, 8, 8)
    trainer = ic.Trainer(net, ic.MSELoss(), ic.SGD(0.01))
    trainer.fit((images, targets), 2, 8, validation=(images[:10], targets[:10]))
    trainer.save(folder / "numbers.safetensors")
    return trainer, (images[:10], targets[:10])


def test_evaluate_takes_the_loss_of_the_checkpoint(run, regression):
    trainer, held_out = regression
    report = json.loads(run("evaluate", "numbers.safetensors", "--data", "numbers.npz", "--json")[0])
    assert report["loss"] == pytest.approx(trainer.evaluate(held_out)["loss"])
    assert "accuracy" not in report
    assert report["classes"] == []
    out, _ = run("evaluate", "numbers.safetensors", "--data", "numbers.npz")
    assert out.splitlines() == [
        "numbers.safetensors on 10 test images of numbers",
        f"loss {report['loss']:.4f}, mean absolute error {report['mean_absolute_error']:.4f},"
        f" root mean squared error {report['root_mean_squared_error']:.4f}, r2 score {report['r2_score']:.4f}",
    ]
    outputs = trainer.net.predict(held_out[0])
    assert report["mean_absolute_error"] == pytest.approx(np.abs(outputs - held_out[1]).mean())


def test_evaluate_refuses_labels_that_the_loss_cannot_take(run, folder, regression):
    np.savez(folder / "classes.npz", images=regression[1][0], labels=np.arange(10) % 2)
    _, err = run("evaluate", "numbers.safetensors", "--data", "classes.npz", code=1)
    assert "targets must have the shape of the network's output" in err


def test_training_goes_on_with_the_loss_of_the_checkpoint(run, folder, regression):
    arguments = ["--data", "numbers.npz", "--epochs", "3", "--batch-size", "8", "--out", "run"]
    out, _ = run("train", "--resume", "numbers.safetensors", *arguments, "--json")
    report = json.loads(out)
    assert [*report["train"]] == [*report["test"]] == ["loss"]
    assert len(report["history"]) == 3
    again = ic.Trainer.load(folder / "run" / "checkpoint.safetensors")
    assert isinstance(again.loss, ic.MSELoss)


def test_predict_gives_the_numbers_of_a_regression(run, folder, regression):
    trainer, (images, _) = regression
    expected = trainer.net.predict(images)
    np.save(folder / "images.npy", images)
    out, _ = run("predict", "numbers.safetensors", "images.npy")
    assert f"images.npy[0]  {expected[0, 0]:.4g}, {expected[0, 1]:.4g}" in out
    for name in ("p.csv", "p.npy", "p.npz", "p.jsonl", "p.json"):
        run("predict", "numbers.safetensors", "images.npy", "--out", name)
    with open("p.csv", newline="") as file:
        header, *lines = csv.reader(file)
    assert header == ["file", "index", "output_0", "output_1"]
    np.testing.assert_array_equal(np.array(lines)[:, 2:].astype(np.float32), expected)
    np.testing.assert_array_equal(np.load("p.npy"), expected)
    with np.load("p.npz") as arrays:
        np.testing.assert_array_equal(arrays["outputs"], expected)
    lines = [json.loads(line) for line in (folder / "p.jsonl").read_text().splitlines()]
    assert lines == json.loads((folder / "p.json").read_text())["predictions"]
    np.testing.assert_array_equal(np.float32([line["output"] for line in lines]), expected)


@pytest.mark.parametrize("loss", [ic.CrossEntropyLoss(), ic.DiceLoss(), ic.BCEWithLogitsLoss(), ic.MSELoss()])
def test_predict_gives_what_there_is_of_images(run, folder, loss):
    net = ic.Sequential([ic.Conv2d(1, 3, 3, padding=1)]).init(0)
    net.input_shape = (1, 6, 5)
    ic.Trainer(net, loss).save(folder / "images.safetensors")
    images = np.random.default_rng(0).random((4, 1, 6, 5), np.float32)
    np.save(folder / "images.npy", images)
    outputs = net.predict(images)
    run("predict", "images.safetensors", "images.npy", "--out", "p.csv")
    run("predict", "images.safetensors", "images.npy", "--out", "p.npy")
    with open("p.csv", newline="") as file:
        header, *lines = csv.reader(file)
    found = np.array(lines)[:, 2:].astype(np.float32)
    if isinstance(loss, (ic.CrossEntropyLoss, ic.DiceLoss)):
        assert header == ["file", "index", "share_0", "share_1", "share_2"]
        labels = outputs.argmax(axis=1)
        np.testing.assert_array_equal(np.load("p.npy"), labels)
        np.testing.assert_allclose(found, np.stack([(labels == i).mean((1, 2)) for i in range(3)], axis=1), rtol=1e-6)
    else:
        assert header == ["file", "index", "smallest", "mean", "largest"]
        np.testing.assert_array_equal(np.load("p.npy"), outputs)
        axes = (1, 2, 3)
        expected = np.stack([outputs.min(axes), outputs.mean(axes, dtype=np.float64), outputs.max(axes)], axis=1)
        np.testing.assert_allclose(found, expected, rtol=1e-6)
    out, _ = run("predict", "images.safetensors", "images.npy", "--json")
    assert len(json.loads(out)["predictions"]) == 4


def test_profile_times_the_loss_of_the_checkpoint(run, regression):
    out, _ = run("profile", "--checkpoint", "numbers.safetensors", "--batch-size", "4", "--steps", "1", "--json")
    assert json.loads(out)["loss_seconds"] > 0


def test_a_model_is_not_trained_on_targets(run, regression):
    _, err = run("train", "--data", "numbers.npz", "--model", "notebook", code=1)
    assert "numbers has targets and no class labels" in err


@pytest.mark.parametrize("command", ["evaluate", "predict", "train"])
def test_commands_take_networks_with_one_output(run, folder, command):
    layers = {"flat": ic.Flatten(), "scores": (ic.Linear(64, 10), "flat"), "numbers": (ic.Linear(64, 2), "flat")}
    net = ic.Net(layers, ["scores", "numbers"])
    net.input_shape = (1, 8, 8)
    loss = ic.SumLoss([ic.CrossEntropyLoss(), ic.MSELoss()])
    ic.Trainer(net, loss, ic.SGD(0.01)).save(folder / "two.safetensors")
    images = np.zeros((20, 1, 8, 8), np.float32)
    np.save(folder / "images.npy", images)
    np.savez(folder / "data.npz", images=images, labels=np.arange(20) % 10)
    arguments = {
        "evaluate": ["two.safetensors", "--data", "data.npz"],
        "predict": ["two.safetensors", "images.npy"],
        "train": ["--resume", "two.safetensors", "--data", "data.npz", "--epochs", "1", "--batch-size", "4"],
    }
    _, err = run(command, *arguments[command], code=1)
    assert "the network has 2 outputs, and this command takes networks with one output" in err
    assert "net.evaluate(images, labels, loss)" in err
    assert "bug in im2colnet" not in err
    run("profile", "--checkpoint", "two.safetensors", "--steps", "1")
