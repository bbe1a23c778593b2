"""Ten steps of a residual network with batch norm, against PyTorch's."""

import numpy as np
import pytest
from helpers import loss_and_gradient
from numpy.testing import assert_allclose
from reference.torch_values import every_case
from small_networks import conv

import im2colnet as ic

pytestmark = pytest.mark.usefixtures("one_thread")


def torch_net():
    body = [conv(4, 4), ic.BatchNorm2d(4), ic.ReLU(), conv(4, 4), ic.BatchNorm2d(4)]
    head = [ic.ReLU(), ic.Flatten(), ic.Linear(64, 3)]
    stem = [conv(2, 4), ic.BatchNorm2d(4), ic.ReLU(), ic.MaxPool2d(2)]
    return ic.Sequential([*stem, ic.Residual(ic.Sequential(body)), *head])


def part(arrays, prefix):
    return {name.removeprefix(prefix): value for name, value in arrays.items() if name.startswith(prefix)}


@pytest.mark.parametrize("shard", [32, 2, 1])
@every_case("net")
def test_ten_steps_against_pytorch(config, arrays, shard):
    images, labels = arrays["images"], arrays["labels"]
    net = torch_net().init(0, "float64")
    net.load_state_dict(part(arrays, "initial/"))
    running = {k: v for k, v in net.state_dict().items() if "running" in k}
    loss, gradient = loss_and_gradient(net, images, labels, shard=shard)
    assert_allclose(loss, arrays["losses"][0], rtol=1e-12)
    gradients = part(arrays, "gradient/")
    for node in net.graph.nodes:
        for key, value in net.views(node, gradient).items():
            expected = gradients.pop(f"{node.name}.{key}")
            # that of a bias before a batch norm is zero but for rounding
            assert_allclose(value, expected, rtol=1e-9, atol=1e-13)
    assert not gradients
    assert any((net.state_dict()[name] != value).any() for name, value in running.items())

    net.load_state_dict(part(arrays, "initial/"))
    epoch = ic.Trainer(net, optimizer=ic.SGD(0.0), shard=shard).fit((images, labels), 1, len(images))
    assert epoch["accuracy"] == [(arrays["logits"].argmax(1) == labels).mean()]

    net.load_state_dict(part(arrays, "initial/"))
    trainer = ic.Trainer(net, optimizer=ic.SGD(**config), shard=shard)
    losses = [trainer.step(images, labels) for _ in range(10)]
    assert_allclose(losses, arrays["losses"], rtol=1e-9)
    final = {name: value for name, value in part(arrays, "final/").items() if not name.endswith("num_batches_tracked")}
    assert net.state_dict().keys() == final.keys()
    for name, value in net.state_dict().items():
        assert_allclose(value, final[name], rtol=1e-8, atol=1e-10, err_msg=name)
    assert_allclose(net.predict(images), arrays["eval_logits"], rtol=1e-8)


@every_case("net")
def test_ten_steps_in_float32_stay_near(config, arrays):
    net = torch_net().init(0, "float32")
    net.load_state_dict(part(arrays, "initial/"))
    trainer = ic.Trainer(net, optimizer=ic.SGD(**config))
    losses = [trainer.step(arrays["images"], arrays["labels"]) for _ in range(10)]
    assert_allclose(losses, arrays["losses"], rtol=1e-3)
    assert {value.dtype.name for value in net.state_dict().values()} == {"float32"}
    assert net.predict(arrays["images"]).dtype == np.float32
