"""The library on the teaching notebook's network: every intermediate and three updates, against the oracle's loops."""

from collections import defaultdict

import numpy as np
import pytest
from helpers import assert_close
from helpers import images as as_images
from numpy.testing import assert_allclose
from reference import notebook

import im2colnet as ic
import im2colnet.functional as F

RATE = 0.01
EXACT = {"dtype": "float64", "rtol": 1e-12}


class PlainConv2d(ic.Conv2d):
    """Does not apply the ReLU that follows, so that the convolution's own output can be seen."""

    fuses = False


class Recorder:
    """What passes through the layers of a trainer's network, batch last, shard after shard."""

    def __init__(self, trainer, monkeypatch):
        self.seen, self.gradient = defaultdict(list), None
        for i, layer in enumerate(trainer.net.layers):
            monkeypatch.setattr(layer, "forward", self.forward(i, layer.forward), raising=False)
            monkeypatch.setattr(layer, "backward", self.backward(i, layer.backward), raising=False)
        update = trainer.optimizer.update

        def recording(p, g, *args):
            self.gradient = g.copy()
            update(p, g, *args)

        object.__setattr__(trainer.optimizer, "update", recording)

    def forward(self, i, forward):
        def recording(x, ctx):
            y = forward(x, ctx)
            self.seen[i, "y"].append(y.copy())
            return y

        return recording

    def backward(self, i, backward):
        def recording(dy, ctx):
            self.seen[i, "dy"].append(dy.copy())
            dx = backward(dy, ctx)
            if dx is not None:
                self.seen[i, "dx"].append(dx.copy())
            return dx

        return recording

    def take(self):
        """Everything since the last call, of the whole batch and with the batch first."""
        taken = {key: as_images(np.concatenate(parts, axis=-1)) for key, parts in self.seen.items()}
        self.seen.clear()
        return taken


def library_names(parameters):
    """The oracle's parameters, or their gradients, as the library's state: Linear's weight is (out, in)."""
    filters, bias, W, b = parameters
    return {"0.weight": filters[:, None], "0.bias": bias, "4.weight": W.T, "4.bias": b}


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.mark.parametrize("fused", [True, False], ids=["fused", "unfused"])
@pytest.mark.parametrize(("count", "shard"), [(1, 32), (5, 32), (5, 2)], ids=["one image", "a batch", "in shards"])
def test_every_intermediate_through_three_updates(fused, count, shard, monkeypatch):
    rng = np.random.default_rng(count)
    images, labels = rng.standard_normal((count, 8, 8)), rng.integers(0, 2, count)
    parameters = notebook.random_parameters(rng)
    net = ic.models.notebook()
    if not fused:
        net = ic.Sequential([PlainConv2d(1, 2, 3), *net.layers[1:]])
    net.init(0, "float64")
    trainer = ic.Trainer(net, optimizer=ic.SGD(lr=RATE), shard=shard)
    net.load_state_dict(library_names(parameters.values()))
    assert (net.plan(count, (1, 8, 8)).graph.nodes[0].activation == "relu") is fused
    recorder = Recorder(trainer, monkeypatch)

    for _ in range(3):
        forward = [notebook.forward(image, label, parameters) for image, label in zip(images, labels, strict=True)]
        backward = [notebook.backward(values, parameters, ties="first") for values in forward]
        loss, gradients = notebook.batch(images, labels, parameters)

        def oracle(name, forward=forward, backward=backward):
            """Of every image; the gradients of the batch are those of the mean, so 1 / N of the images'."""
            if name.startswith("d"):
                return np.stack([values[name] for values in backward]) / len(backward)
            return np.stack([values[name] for values in forward])

        weight, bias = (net.parameters()[name].copy() for name in ("0.weight", "0.bias"))
        recorder.take()
        returned = trainer.step(images[:, None], labels)
        seen = recorder.take()

        assert_allclose(returned, loss, rtol=1e-12)
        assert_close(F.conv2d(images[:, None], weight, bias), oracle("conv"), **EXACT)
        if not fused:
            assert_close(seen[0, "y"], oracle("conv"), **EXACT)
        assert_close(seen[0 if fused else 1, "y"], oracle("relu"), **EXACT)
        assert_close(seen[2, "y"], oracle("pooled"), **EXACT)
        assert_close(seen[3, "y"], oracle("flat"), **EXACT)
        assert_close(seen[4, "y"], oracle("logits"), **EXACT)

        assert_close(seen[4, "dy"], oracle("dlogits"), **EXACT)
        assert_close(seen[4, "dx"], oracle("dflat"), **EXACT)
        assert_close(seen[3, "dx"], oracle("dpooled"), **EXACT)
        assert_close(seen[2, "dx"], oracle("drelu"), **EXACT)
        assert_close(seen[1, "dx"], oracle("dconv"), **EXACT)
        assert_close(seen[0, "dy"], oracle("dconv"), **EXACT)
        assert (0, "dx") not in seen  # nobody needs the images' gradient

        mean = library_names(gradients[name] for name in ("dfilters", "dbias", "dW", "db"))
        for node in net.graph.nodes:
            for key, gradient in net.views(node, recorder.gradient).items():
                assert_close(gradient, mean.pop(f"{node.name}.{key}"), **EXACT)
        assert not mean

        parameters = notebook.update(parameters, gradients, RATE)
        expected = library_names(parameters.values())
        assert net.parameters().keys() == expected.keys()
        for name, value in net.parameters().items():
            assert_close(value, expected[name], **EXACT)
        assert_close(
            net.predict(images[:, None]), [notebook.forward(i, 0, parameters)["logits"] for i in images], **EXACT
        )


def test_the_gradient_of_the_image():
    """Training does not need it, but there is a function for it."""
    rng = np.random.default_rng(7)
    image, parameters = rng.standard_normal((8, 8)), notebook.random_parameters(rng)
    values = notebook.forward(image, 1, parameters)
    gradients = notebook.backward(values, parameters)
    dimage = F.conv2d_input((1, 1, 8, 8), parameters["filters"][:, None], gradients["dconv"][None])
    assert_close(dimage[0, 0], gradients["dimage"], **EXACT)


def test_equal_maxima_after_relu_make_no_difference():
    """A window without a positive number ties at zero: whoever gets its gradient, ReLU stops it."""
    rng = np.random.default_rng(8)
    images, labels, parameters = rng.standard_normal((4, 8, 8)), np.array([0, 1, 1, 0]), notebook.random_parameters(rng)
    parameters["bias"] -= 1
    values = [notebook.forward(image, label, parameters) for image, label in zip(images, labels, strict=True)]
    assert sum(np.sum(v["pooled"] == 0) for v in values) > 5
    net = ic.models.notebook().init(0, "float64")
    net.load_state_dict(library_names(parameters.values()))
    ic.Trainer(net, optimizer=ic.SGD(lr=RATE)).step(images[:, None], labels)
    _, gradients = notebook.batch(images, labels, parameters, ties="all")
    expected = library_names(notebook.update(parameters, gradients, RATE).values())
    for name, value in net.parameters().items():
        assert_close(value, expected[name], **EXACT)


def test_float32_follows_the_oracle_to_its_own_precision():
    rng = np.random.default_rng(9)
    images, labels, parameters = rng.standard_normal((3, 8, 8)), np.array([1, 0, 1]), notebook.random_parameters(rng)
    net = ic.models.notebook().init(0, "float32")
    net.load_state_dict(library_names(parameters.values()))
    loss, gradients = notebook.batch(images, labels, parameters)
    assert ic.Trainer(net, optimizer=ic.SGD(lr=RATE)).step(images[:, None], labels) == pytest.approx(loss, rel=1e-5)
    expected = library_names(notebook.update(parameters, gradients, RATE).values())
    for name, value in net.state_dict().items():
        assert value.dtype == np.float32
        assert_allclose(value, expected[name], rtol=1e-5, atol=1e-6)


def test_uint8_images_are_scaled():
    images, labels = np.random.default_rng(0).integers(0, 256, (3, 1, 8, 8)).astype("uint8"), [0, 1, 1]
    nets = [ic.models.notebook().init(0, "float64") for _ in range(2)]
    first, second = (ic.Trainer(net, optimizer=ic.SGD(lr=RATE)) for net in nets)
    assert first.step(images, labels) == pytest.approx(second.step(images / 255, labels), rel=1e-12)
    assert_allclose(nets[0].flat, nets[1].flat, rtol=1e-12, atol=1e-15)
