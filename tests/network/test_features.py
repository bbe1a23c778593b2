"""Layers by name, what layers give, and gradients by name."""

import numpy as np
import pytest
from numpy.lib.stride_tricks import sliding_window_view

import im2colnet as ic

RNG = np.random.default_rng(0)
IMAGES = RNG.random((5, 3, 8, 6)) - 0.5
LABELS = np.array([0, 2, 1, 1, 0])


class Squeezed(ic.Network):
    def __init__(self):
        self.convs = [ic.Conv2d(4, 4, 3, padding=1), ic.Conv2d(4, 2, 1)]

    def define(self, x):
        y = ic.SiLU()(self.convs[0](x))
        return self.convs[1](y + x)


def network():
    layers = [ic.Conv2d(3, 4, 3, padding=1), ic.BatchNorm2d(4), ic.ReLU(), ic.MaxPool2d(2), Squeezed()]
    net = ic.Sequential([*layers, ic.Flatten(), ic.Dropout(0.3), ic.Linear(24, 3)]).init(seed=0, dtype="float64")
    state = net.state_dict()
    state["1.running_mean"], state["1.running_var"] = RNG.random(4) - 0.5, RNG.random(4) + 0.5
    net.load_state_dict(state)
    return net


def convolved(x, weight, bias):
    padding = weight.shape[-1] // 2
    windows = sliding_window_view(
        np.pad(x, ((0, 0), (0, 0), (padding, padding), (padding, padding))), weight.shape[2:], (2, 3)
    )
    return np.einsum("nchwij,fcij->nfhw", windows, weight) + bias[:, None, None]


def by_hand(p):
    """What each layer of the network gives for the images, in plain NumPy."""
    found = {"0": convolved(IMAGES, p["0.weight"], p["0.bias"])}
    mean, var, weight, bias = (
        p[f"1.{key}"][:, None, None] for key in ("running_mean", "running_var", "weight", "bias")
    )
    found["1"] = weight * (found["0"] - mean) / np.sqrt(var + 1e-5) + bias
    found["2"] = np.maximum(found["1"], 0)
    found["3"] = x = found["2"].reshape(5, 4, 4, 2, 3, 2).max((3, 5))
    found["4.convs.0"] = y = convolved(x, p["4.convs.0.weight"], p["4.convs.0.bias"])
    found["4.silu_1"] = y / (1 + np.exp(-y))
    found["4.convs.1"] = found["4"] = convolved(found["4.silu_1"] + x, p["4.convs.1.weight"], p["4.convs.1.bias"])
    found["5"] = found["6"] = found["4"].reshape(5, 24)
    found["7"] = found["5"] @ p["7.weight"].T + p["7.bias"]
    return found


def test_features_of_every_layer():
    net = network()
    expected = by_hand(net.state_dict())
    together = net.features(IMAGES, list(expected))
    assert together.keys() == expected.keys()
    for name, values in expected.items():
        np.testing.assert_allclose(together[name], values, rtol=1e-9, atol=1e-12)
        np.testing.assert_allclose(net.features(IMAGES, name), values, rtol=1e-9, atol=1e-12)
    assert (net(IMAGES) == net.predict(IMAGES)).all()
    assert net.features(IMAGES[:0], ("3", "7"))["3"].shape == (0, 4, 4, 3)


def test_features_are_those_of_the_present_parameters():
    net = network()
    net.features(IMAGES, "0")
    trainer = ic.Trainer(net, optimizer=ic.SGD(0.1))
    trainer.step(IMAGES, LABELS)
    np.testing.assert_allclose(net.features(IMAGES, "7"), net(IMAGES), rtol=1e-12)
    net.normalization = (0.5, 0.5, 0.5), (2.0, 2.0, 2.0)
    state = net.state_dict()
    expected = convolved((IMAGES - 0.5) / 2, state["0.weight"], state["0.bias"])
    np.testing.assert_allclose(net.features(IMAGES, "0"), expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", ["conv1", "layer1.0.conv1", "layer2.1", "layer3", "fc"])
def test_features_of_a_ready_made_network(name):
    """Those of the last layer are the prediction; those of layers before it are maps."""
    net = ic.models.resnet18(classes=4, input_size=32).init(seed=0)
    images = RNG.random((2, 3, 32, 32), "float32")
    found = net.features(images, name)
    if name == "fc":
        assert found.shape == (2, 4)
        np.testing.assert_allclose(found, net(images), rtol=1e-4, atol=1e-5)
    else:
        assert found.ndim == 4
    assert np.isfinite(found).all()
    assert found.std() > 0


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("4.conv", "names like it are: 4.convs"),
        ("4.convs", "has several outputs: name one of its layers, such as '4.convs.1'"),
        ("nope", "there are: 0, 1, 2"),
        (3, "layers must be"),
        ([], "layers must be"),
    ],
)
def test_unknown_features(name, message):
    with pytest.raises(ic.ShapeError, match=message):
        network().features(IMAGES, name)


def test_layers_by_name():
    net = network()
    assert net[0] is net["0"] is net.layers[0]
    assert net["4.convs.1"] is net[4].convs[1] is net[4]["convs.1"]
    assert net["4"] is net[-4]
    assert len(net) == 8
    assert [*net] == net.layers
    assert len(net[2:5]) == 3
    assert ic.Net({"a": ic.ReLU(), "b": net})["b.0"] is net[0]
    with pytest.raises(ic.ShapeError, match=r"no layer '4.conv'; names like it are"):
        net["4.conv"]
    with pytest.raises(ic.ShapeError, match=r"have names, such as 'convs.0', got 0"):
        Squeezed()[0]
    with pytest.raises(IndexError):
        net[9]


# Gradients ---------------------------------------------------------------------------------------------------------
def test_gradients_by_name():
    """Beside those of finite differences in float64; nothing changes."""
    net = network()
    net["6"].p = 0.0
    trainer = ic.Trainer(net)
    before = net.state_dict()
    found = trainer.gradients(IMAGES, LABELS)
    assert {name: g.shape for name, g in found.items()} == {name: p.shape for name, p in net.parameters().items()}
    assert all((before[name] == array).all() for name, array in net.state_dict().items())
    assert trainer.steps == 0
    for name, gradient in found.items():
        direction, losses = RNG.standard_normal(gradient.shape), []
        for h in (1e-5, -1e-5):
            moved = ic.Sequential(network().layers).init(dtype="float64")
            moved.load_state_dict(before | {name: before[name] + h * direction})
            moved["6"].p = 0.0
            losses.append(ic.Trainer(moved).step(IMAGES, LABELS))
        assert (losses[0] - losses[1]) / 2e-5 == pytest.approx((gradient * direction).sum(), rel=1e-6, abs=1e-8)


@pytest.mark.parametrize("workers", [1, 2])
def test_they_are_those_of_the_next_step(workers):
    with ic.num_threads(workers):
        trainer = ic.Trainer(network(), optimizer=ic.SGD(1.0), shard=2, seed=3)
        for _ in range(4):
            gradients, before = trainer.gradients(IMAGES, LABELS), trainer.net.state_dict()
            trainer.step(IMAGES, LABELS)
            for name, gradient in gradients.items():
                np.testing.assert_allclose(
                    before[name] - trainer.net.state_dict()[name], gradient, rtol=1e-9, atol=1e-12
                )


def test_frozen_parameters_have_none():
    net = network()
    net.freeze("4.*")
    assert [*ic.Trainer(net).gradients(IMAGES, LABELS)] == [
        "0.weight",
        "0.bias",
        "1.weight",
        "1.bias",
        "7.weight",
        "7.bias",
    ]


def test_after_an_error_nothing_has_changed():
    net = network()
    before = net.state_dict()
    with pytest.raises(ic.NonFiniteError):
        ic.Trainer(net).gradients(np.full_like(IMAGES, np.nan), LABELS)
    assert all((before[name] == array).all() for name, array in net.state_dict().items())
