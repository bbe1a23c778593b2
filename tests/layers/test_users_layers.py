"""Layers of users' own among the library's: gradients, inference, checkpoints, and what is said of their mistakes."""

import numpy as np
import pytest
from helpers import Probe, assert_close, assert_same_bits, normal
from own_layers import Halve, Mirror, Silu, Through, UsersScale
from small_networks import residual

import im2colnet as ic
from im2colnet.layers import Layer
from im2colnet.testing import oracles

pytestmark = pytest.mark.usefixtures("one_thread")

OWN = {
    "without parameters": lambda: [Silu()],
    "with parameters": lambda: [UsersScale(3)],
    "returning views": lambda: [Mirror(), ic.Conv2d(3, 2, 3), Mirror()],
    "returning its arguments": lambda: [Through(), ic.ReLU(), Through(), ic.Conv2d(3, 2, 1), Through()],
    "another shape": lambda: [Halve(), Silu()],
    "in a residual": lambda: [residual(UsersScale(3), Silu(), Mirror(), shortcut=Through()), Through(), ic.ReLU()],
    "views in a residual": lambda: [residual(Mirror()), residual(Through()), residual(ic.ReLU(), shortcut=Through())],
    "among others": lambda: [
        ic.Conv2d(3, 4, 3),
        ic.BatchNorm2d(4),
        Silu(),
        UsersScale(4, 2.0),
        ic.ReLU(),
        ic.Flatten(),
        ic.Linear(80, 4),
    ],
}


@pytest.mark.parametrize("shard", [None, 2], ids=["one shard", "shards"])
@pytest.mark.parametrize("name", OWN)
def test_gradients_of_users_layers(name, shard):
    Probe(OWN[name](), normal(3, 3, 7, 6), shard=shard).check_gradients()


def users_net():
    own = [UsersScale(3, start=0.5), Mirror(), Halve(), Silu(), Through()]
    return ic.Sequential([*own, ic.Flatten(), ic.Linear(54, 3)])


def test_a_user_s_layers_in_inference():
    net, x = users_net().init(0, "float64"), normal(5, 3, 7, 6)
    scaled = x[:, :, :, ::-1] * net.parameters()["0.factor"][:, None, None]
    halved = scaled[:, :, 0:6:2] + scaled[:, :, 1:6:2]
    swished = halved / (1 + np.exp(-halved))
    expected = oracles.linear(swished.reshape(5, -1), net.parameters()["6.weight"], net.parameters()["6.bias"])
    assert_close(net.predict(x), expected)


def test_a_user_s_layers_in_a_checkpoint(tmp_path):
    x, labels = normal(5, 3, 7, 6), np.array([0, 1, 2, 1, 0])
    trainer = ic.Trainer(users_net(), optimizer=ic.SGD(lr=0.1, momentum=0.9))
    trainer.step(x, labels)
    trainer.save(tmp_path / "net.safetensors")
    again = ic.Trainer.load(tmp_path / "net.safetensors")
    assert repr(again.net.layers) == repr(trainer.net.layers)
    assert "0.factor" in again.net.state_dict()
    assert (again.net.layers[0].channels, again.net.layers[0].start) == (3, 0.5)
    assert_same_bits(again.net.state_dict(), trainer.net.state_dict())
    assert again.step(x, labels) == trainer.step(x, labels)
    assert_same_bits(again.net.state_dict(), trainer.net.state_dict())


def test_a_subclass_with_its_own_forward_is_not_asked_to_apply_a_relu():
    class Doubled(ic.Conv2d):
        def forward(self, x, ctx):
            return 2 * super().forward(x, ctx)

        def backward(self, dy, ctx):
            return super().backward(2 * dy, ctx)

    x = normal(3, 3, 7, 6)
    probe = Probe([Doubled(3, 4, 3), ic.ReLU()], x)
    weight, bias = (probe.net.parameters()[f"1.{name}"] for name in ("weight", "bias"))
    assert_close(probe.step().y, oracles.relu(2 * oracles.conv2d(x, weight, bias)))
    probe.check_gradients()


@pytest.mark.parametrize("seen_from", ["the start", "later"])
def test_a_layer_s_forward_and_backward_can_be_watched(seen_from):
    """By a function in their place, as for a look at what passes through; also once calls are prepared."""
    x, labels, seen = normal(3, 3, 7, 6), np.array([0, 1, 2]), []
    net = ic.Sequential([ic.Conv2d(3, 4, 3), ic.ReLU(), ic.Flatten(), ic.Linear(80, 3)]).init(dtype="float64")
    trainer, conv = ic.Trainer(net), net.layers[0]
    forward, backward = conv.forward, conv.backward
    if seen_from == "later":
        net.predict(x)
        trainer.step(x, labels)
    conv.forward = lambda x, ctx: seen.append("forward") or forward(x, ctx)
    conv.backward = lambda dy, ctx: seen.append("backward") or backward(dy, ctx)
    expected = net.predict(x)
    trainer.step(x, labels)
    assert seen == ["forward", "forward", "backward"]
    del conv.forward, conv.backward
    assert not np.array_equal(net.predict(x), expected)  # prepared calls see the new parameters
    assert seen == ["forward", "forward", "backward"]


X = normal(2, 3, 6, 6, dtype="float32")


class Broken(Layer):
    def __init__(self, what="forward"):
        self.what = what

    def forward(self, x, ctx):
        return {"shape": x[:1], "nothing": None}.get(self.what, x) if self.what != "forward" else 1 / 0

    def backward(self, dy, ctx):
        return {"backward shape": dy[:1], "backward nothing": None}[self.what]


@pytest.mark.parametrize(
    ("what", "text"),
    [
        ("shape", "forward returned (1, 3, 6, 2), expected an array of shape (6, 3, 6, 2)"),
        ("nothing", "forward returned None"),
        ("backward shape", "backward returned (1, 3, 6, 2)"),
        ("backward nothing", "backward returned None"),
    ],
)
def test_a_user_s_layer_that_returns_something_else(what, text):
    net = ic.Sequential([UsersScale(3), Broken(what), ic.Flatten()])
    with pytest.raises(ic.ShapeError) as error:
        ic.Trainer(net).step(X, [0, 0])
    assert text in str(error.value)
    assert "layer '1', Broken" in str(error.value)


@pytest.mark.parametrize("threads", [1, 2])
def test_an_error_in_a_user_s_layer_says_where(threads, monkeypatch):
    ic.set_num_threads(threads)
    net = ic.Sequential([ic.ReLU(), Broken(), ic.Flatten()])
    with pytest.raises(ZeroDivisionError) as error:
        ic.Trainer(net, shard=1).step(X, [0, 0])
    assert error.value.__notes__ == ["in layer '1', Broken()"]


def test_a_layer_without_forward_or_backward_says_so():
    class Empty(Layer):
        pass

    class Half(Layer):
        def forward(self, x, ctx):
            return x

    with pytest.raises(NotImplementedError, match="Empty must define forward"):
        ic.Sequential([Empty()]).init(0).predict(X)
    half = ic.Sequential([UsersScale(3), Half(), ic.Flatten()]).init(0)
    assert half.predict(X).shape == (2, 108)
    with pytest.raises(NotImplementedError, match="Half must define backward"):
        ic.Trainer(half).step(X, [0, 0])
