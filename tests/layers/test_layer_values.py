"""Layers without a row of their own values: what they compute, in training and in evaluation."""

import numpy as np
import pytest
from helpers import Probe, assert_close, normal

import im2colnet as ic
from im2colnet.testing import oracles

pytestmark = pytest.mark.usefixtures("one_thread")


def wide(arrays, *names):
    return (arrays[name].astype("float64") for name in names)


def check(layer, arrays, state=None, gradients=(), shard=None):
    """Compare a layer's y, dx and parameter gradients in training, and its y in evaluation, with PyTorch's."""
    x, dy = wide(arrays, "x", "dy")
    probe = Probe([layer], x, dy, {f"1.{name}": value for name, value in (state or {}).items()}, shard)
    result = probe.step()
    assert_close(result.y, arrays["y"])
    assert_close(result.dx, arrays["dx"])
    assert result.gradients.keys() == {f"1.{name}" for name in gradients}
    for name, key in dict(gradients).items():
        assert_close(result.gradients[f"1.{name}"], arrays[key])
    net = ic.Sequential([layer]).init(0, "float64")
    for name, value in (state or {}).items():
        net.parameters()[f"0.{name}"][...] = value
    assert_close(net.predict(x), arrays["y"])


def test_flatten_has_pytorch_s_order():
    x = np.arange(2 * 3 * 4 * 5.0).reshape(2, 3, 4, 5)
    check(ic.Flatten(), {"x": x, "dy": -x.reshape(2, 60), "y": x.reshape(2, 60), "dx": -x})
    features = x.reshape(8, 15)
    check(ic.Flatten(), {"x": features, "dy": -features, "y": features, "dx": -features})


def test_batch_norm_without_parameters():
    x, dy = normal(4, 3, 5, 2), normal(4, 3, 5, 2, seed=1)
    y, mean, var = oracles.batch_norm(x, np.zeros(3), np.ones(3), np.ones(3), np.zeros(3), training=True)
    dx, _, _ = oracles.batch_norm_grad(x, dy, mean, var, np.ones(3), training=True)
    probe = Probe([ic.BatchNorm2d(3, affine=False)], x, dy, shard=2)
    result = probe.step()
    assert_close(result.y, y)
    assert_close(result.dx, dx)
    assert result.gradients == {}
    assert_close(probe.net.state_dict()["1.running_mean"], mean)
    assert_close(probe.net.state_dict()["1.running_var"], var)


def test_zero_pad_shortcut():
    """Option A of He et al. 2015: every second pixel, and zeros for the new channels."""
    x, dy = normal(2, 3, 5, 6), normal(2, 7, 3, 3, seed=1)
    y, dx = np.zeros(dy.shape), np.zeros(x.shape)
    for n, c, h, w in np.ndindex(2, 3, 3, 3):
        y[n, c, h, w] = x[n, c, 2 * h, 2 * w]
        dx[n, c, 2 * h, 2 * w] = dy[n, c, h, w]
    check(ic.ZeroPadShortcut(3, 7, 2), {"x": x, "dy": dy, "y": y, "dx": dx})
    check(ic.ZeroPadShortcut(3, 3), {"x": x, "dy": x, "y": x, "dx": x})
