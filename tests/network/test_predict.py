"""Predictions: of features and of images, each sample's own, in arrays that are the caller's."""

import threading

import numpy as np
import pytest
from helpers import assert_same_bits, normal
from numpy.testing import assert_allclose
from small_networks import GOOD, LABELS, conv, plain, with_batch_norm

import im2colnet as ic
from im2colnet.testing import oracles

pytestmark = pytest.mark.usefixtures("one_thread")


def test_a_network_must_have_parameters():
    for call in (lambda net: net.predict(GOOD), lambda net: net.state_dict(), lambda net: net.parameters()):
        with pytest.raises(ic.ShapeError, match=r"net\.init"):
            call(plain())
    assert ic.Trainer(plain(), seed=4).net.initialized
    assert_same_bits(ic.Trainer(plain(), seed=4).net.state_dict(), plain().init(4).state_dict())


def test_a_network_that_has_none_needs_no_init():
    net = ic.Sequential([ic.ReLU(), ic.MaxPool2d(2)])
    assert_allclose(net.predict(GOOD), oracles.max_pool2d(np.maximum(GOOD, 0), kernel_size=2), rtol=0, atol=0)
    assert net.state_dict() == {}
    with pytest.raises(ic.ShapeError, match=r"net\.init"):  # a constant is none to learn, but it may be loaded
        ic.Sequential([ic.WithConstant("add")]).predict(GOOD)


def test_a_first_batch_tells_the_shape():
    net = plain().init(0)
    assert net.input_shape is None
    assert net.predict(GOOD[:0]).shape == (0, 4)
    assert net.input_shape is None  # no images are none to go by
    with pytest.raises(ic.ShapeError, match="images must have shape"):
        net.predict(np.ones(5))
    net.predict(GOOD)
    assert net.input_shape == (3, 8, 8)


def test_the_input_s_shape_stays_that_of_the_model():
    net = ic.models.resnet20(in_channels=1, input_size=8).init(0)
    net.predict(np.zeros((1, 1, 20, 20), np.float32))
    assert net.input_shape == (1, 8, 8)


def test_a_network_on_features():
    x, labels = normal(10, 6, dtype="float64"), np.arange(10) % 3
    net = ic.Sequential([ic.Linear(6, 8), ic.ReLU(), ic.Linear(8, 3)]).init(0, "float64")
    p = net.parameters()
    hidden = oracles.relu(oracles.linear(x, p["0.weight"], p["0.bias"]))
    logits = oracles.linear(hidden, p["2.weight"], p["2.bias"])
    assert_allclose(net.predict(x), logits, rtol=1e-12)
    assert ic.Trainer(net, shard=3).step(x, labels) == pytest.approx(oracles.cross_entropy(logits, labels), rel=1e-12)


def test_predictions_are_the_caller_s():
    net = plain().init(0)
    first = net.predict(GOOD)
    copy = first.copy()
    second = net.predict(2 * GOOD)
    assert_same_bits(first, copy)
    assert not np.shares_memory(first, second)


def test_predictions_of_images_are_images():
    net = ic.Sequential([conv(3, 2)]).init(0, "float64")
    x = normal(37, 3, 5, 4)
    expected = oracles.conv2d(x, net.parameters()["0.weight"], net.parameters()["0.bias"], padding=1)
    assert_allclose(net.predict(x), expected, rtol=1e-11, atol=1e-13)


def test_predictions_do_not_depend_on_the_company():
    """Each sample by itself, whatever the batch and its shards (up to rounding)."""
    net = with_batch_norm().init(0, "float64")
    ic.Trainer(net).step(GOOD, LABELS)
    x = normal(40, 3, 8, 8)
    alone = np.concatenate([net.predict(image[None]) for image in x])
    assert_allclose(net.predict(x), alone, rtol=1e-10)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.usefixtures("shards_of_32")
def test_several_threads_of_the_user_may_predict_at_once(threads):
    ic.set_num_threads(threads)
    net, wrong = plain().init(0), []
    batches = [normal(40, 3, 8, 8, seed=i, dtype="float32") for i in range(4)]
    expected = [net.predict(x) for x in batches]

    def work(x, y):
        wrong.extend(i for i in range(10) if not np.array_equal(net.predict(x), y))

    users = [threading.Thread(target=work, args=pair) for pair in zip(batches, expected, strict=True)]
    for user in users:
        user.start()
    for user in users:
        user.join(30)
        assert not user.is_alive()
    assert wrong == []
