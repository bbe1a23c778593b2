"""Networks whose output is an image: the U-Net finds shapes, the autoencoder gives digits back."""

import numpy as np
import pytest
from helpers import normal

import im2colnet as ic
from im2colnet import models


def shapes(n, size=32, seed=0):
    """Grey images of a disc (class 1) and a lighter square (2) on a ground (0), with noise; the class of each pixel."""
    rng = np.random.default_rng(seed)
    masks, (rows, columns) = np.zeros((n, size, size), "int64"), np.mgrid[:size, :size]
    for mask in masks:
        for kind in rng.permutation([1, 2]):
            radius = rng.integers(size // 8, size // 4)
            row, column = rng.integers(radius, size - radius, 2)
            far = abs(rows - row), abs(columns - column)
            mask[np.hypot(*far) < radius if kind == 1 else np.maximum(*far) < 0.8 * radius] = kind
    images = np.array([0, 0.5, 1])[masks] + 0.2 * rng.standard_normal(masks.shape)
    return images[:, None].astype("float32"), masks


def mean_iou(predicted, truth, classes):
    """The mean over the classes of intersection over union."""
    each = []
    for kind in range(classes):
        both = np.logical_and(predicted == kind, truth == kind).sum()
        each.append(both / np.logical_or(predicted == kind, truth == kind).sum())
    return np.mean(each)


def test_unet_segments_shapes():
    net = models.unet(classes=3, input_size=32, width=8, depth=3).init(0)
    trainer = ic.Trainer(net, loss=ic.CrossEntropyLoss(), optimizer=ic.Adam(ic.Cosine(1e-2, steps=80)), seed=0)
    for step in range(80):
        trainer.step(*shapes(16, seed=step))
    images, masks = shapes(32, seed=1000)
    assert mean_iou(net.predict(images).argmax(1), masks, 3) > 0.9


def test_unet_s_structure():
    net = models.unet(classes=4, in_channels=3, input_size=48, width=4, depth=2).init(0)
    assert net.input_shape == (3, 48, 48)
    assert net.predict(normal(2, 3, 48, 48, dtype="float32")).shape == (2, 4, 48, 48)
    assert models.unet(input_size=(32, 80)).input_shape == (1, 32, 80)
    net.input_shape = None
    assert net.predict(normal(1, 3, 20, 12, dtype="float32")).shape == (1, 4, 20, 12)
    state = {name: value.shape for name, value in net.state_dict().items()}
    assert state["bottom.0.weight"] == (16, 8, 3, 3)
    assert state["up1.weight"] == (16, 8, 2, 2)
    assert state["decoder0.0.weight"] == (4, 8, 3, 3)
    paper = models.unet(classes=2, input_size=576, width=64, depth=4)
    convolutions = [
        p.shape for n in paper.graph.nodes if isinstance(n.layer, ic.Conv2d) for p in [n.layer.parameters()["weight"]]
    ]
    assert len(convolutions) == 19  # with 4 transposed ones the 23 of section 2
    assert max(convolutions) == (1024, 1024, 3, 3)


@pytest.mark.parametrize("size", [(8, 8), (9, 9), (10, 10), (11, 11), (28, 28), (9, 20), (31, 10)])
def test_autoencoder_gives_any_size_back(size):
    net = models.autoencoder(in_channels=2, input_size=size, features=5, width=3).init(0)
    y = net.predict(normal(3, 2, *size, dtype="float32"))
    assert y.shape == (3, 2, *size)
    assert 0 <= y.min() < y.max() <= 1


def test_autoencoder_rebuilds_digits():
    train, test = ic.datasets.load("digits")
    images, others = (part.images.astype("float32") / part.images.max() for part in (train, test))
    net = models.autoencoder(input_size=8, features=16).init(0)
    trainer = ic.Trainer(net, loss=ic.MSELoss(), optimizer=ic.Adam(3e-3), seed=0)
    for epoch in range(20):
        order = np.random.default_rng(epoch).permutation(len(images))
        for batch in np.array_split(order, 23):
            trainer.step(images[batch], images[batch])
    error = ((net.predict(others) - others) ** 2).mean()
    assert error < 0.25 * others.var(axis=0).mean()  # a quarter of what the mean of all digits leaves


@pytest.mark.parametrize(
    ("build", "text"),
    [
        (lambda: models.unet(input_size=40), r"input_size must be a multiple of 2\^depth = 16, got 40"),
        (lambda: models.unet(input_size=(32, 40)), r"input_size must be a multiple of 2\^depth = 16, got \(32, 40"),
        (lambda: models.unet(classes=0), "classes must be a positive integer, got 0"),
        (lambda: models.unet(width=2.5), "width must be a positive integer, got 2.5"),
        (lambda: models.unet(depth=0), "depth must be a positive integer, got 0"),
        (lambda: models.autoencoder(features=0), "features must be a positive integer, got 0"),
        (lambda: models.wide_resnet(depth=15), r"depth must be 6·n \+ 4, such as 10, 16, 22 or 28, got 15"),
        (lambda: models.wide_resnet(widen_factor=0), "widen_factor must be a positive integer"),
        (lambda: models.vgg11(hidden=0), "out_features must be a positive integer"),
    ],
)
def test_wrong_arguments(build, text):
    with pytest.raises(ic.ShapeError, match=text):
        build()


def test_an_image_that_does_not_halve_is_refused():
    net = models.unet(input_size=32, width=2).init(0)
    net.input_shape = None
    with pytest.raises(ic.ShapeError, match="Concat"):
        net.predict(normal(1, 1, 24, 24, dtype="float32"))


@pytest.mark.parametrize("depth", [10, 16, 28])
def test_wide_resnet_s_depth(depth):
    """Zagoruyko & Komodakis 2016, table 1: WRN-28-10 has 36.5 million parameters, WRN-16-8 has 11.0."""
    net = models.wide_resnet(depth=depth, widen_factor=10 if depth == 28 else 8)
    kernels = [node.layer.kernel_size for node in net.graph.nodes if isinstance(node.layer, ic.Conv2d)]
    assert kernels.count(3) + 3 == depth  # with the 1×1 convolutions of the shortcuts, or two and the linear layer
    if depth > 10:
        assert round(net.graph.size / 1e6, 1) == {28: 36.5, 16: 11.0}[depth]
