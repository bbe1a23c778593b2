"""Small networks that others are made of: what they compute, by their parts; their names; checkpoints."""

import numpy as np
import pytest
from helpers import assert_close, normal

import im2colnet as ic
from im2colnet.testing import oracles


def test_squeeze_and_excitation():
    net = ic.SqueezeExcitation(6, 2, ic.SiLU(), ic.Hardsigmoid()).init(0, "float64")
    state, x = net.state_dict(), normal(3, 6, 4, 5)
    assert {name: value.shape for name, value in state.items()} == {
        "fc1.weight": (2, 6, 1, 1),
        "fc1.bias": (2,),
        "fc2.weight": (6, 2, 1, 1),
        "fc2.bias": (6,),
    }
    means = x.mean((2, 3))
    hidden = means @ state["fc1.weight"][:, :, 0, 0].T + state["fc1.bias"]
    hidden = hidden / (1 + np.exp(-hidden))
    scale = np.clip((hidden @ state["fc2.weight"][:, :, 0, 0].T + state["fc2.bias"] + 3) / 6, 0, 1)
    assert_close(net.predict(x), x * scale[:, :, None, None])
    assert repr(ic.SqueezeExcitation(6, 2).activation) == "ReLU()"
    assert repr(ic.SqueezeExcitation(6, 2).scale_activation) == "Sigmoid()"


@pytest.mark.parametrize("multiplier", [1, 2])
def test_separable_convolution(multiplier):
    net = ic.SeparableConv2d(4, 5, 3, 2, padding=1, depth_multiplier=multiplier).init(0, "float64")
    state, x = net.state_dict(), normal(2, 4, 6, 7)
    assert set(state) == {"depthwise.weight", "pointwise.weight", "pointwise.bias"}
    between = oracles.conv2d(x, state["depthwise.weight"], None, stride=2, padding=1, groups=4)
    assert_close(net.predict(x), oracles.conv2d(between, state["pointwise.weight"], state["pointwise.bias"]))


def test_they_come_back_from_a_checkpoint(tmp_path):
    blocks = [ic.SeparableConv2d(1, 6, 3, bias=False), ic.SqueezeExcitation(6, 3, ic.LeakyReLU(0.2)), ic.Flatten()]
    trainer = ic.Trainer(ic.Sequential([*blocks, ic.Linear(6 * 36, 2)]).init(0))
    x, labels = normal(4, 1, 8, 8, dtype="float32"), [0, 1, 0, 1]
    trainer.step(x, labels)
    trainer.save(tmp_path / "a.safetensors")
    again = ic.Trainer.load(tmp_path / "a.safetensors")
    assert repr(again.net) == repr(trainer.net)
    assert again.step(x, labels) == trainer.step(x, labels)
