"""Networks of any graph: written by names, or as a class that is traced once; equal to PyTorch's modules."""

from pathlib import Path

import numpy as np
import pytest
from helpers import assert_same_bits, loss_and_gradient, normal
from numpy.testing import assert_allclose

import im2colnet as ic
from im2colnet.layers import Needs
from im2colnet.reports.profile import profile

pytestmark = pytest.mark.usefixtures("one_thread")

VALUES = np.load(Path(__file__).parents[1] / "reference" / "torch_networks.npz")


class Excitation(ic.Network):
    def __init__(self, channels, hidden):
        self.pool, self.relu = ic.GlobalAvgPool2d(), ic.ReLU()
        self.fc1, self.fc2 = ic.Conv2d(channels, hidden, 1), ic.Conv2d(hidden, channels, 1)

    def define(self, x):
        return x * ic.Sigmoid()(self.fc2(self.relu(self.fc1(self.pool(x)))))


class Squeezed(ic.Network):
    def __init__(self):
        self.conv, self.se, self.fc = ic.Conv2d(2, 6, 3, padding=1), Excitation(6, 2), ic.Linear(6, 3)

    def define(self, x):
        return self.fc(ic.Flatten()(ic.GlobalAvgPool2d()(self.se(self.conv(x)))))


class UNet(ic.Network):
    def __init__(self):
        self.down1, self.norm1 = ic.Conv2d(2, 4, 3, padding=1, bias=False), ic.BatchNorm2d(4)
        self.down2, self.middle = ic.Conv2d(4, 6, 3, padding=1), ic.Conv2d(6, 6, 3, padding=1)
        self.up2, self.up1 = ic.Conv2d(12, 4, 3, padding=1), ic.Conv2d(8, 4, 3, padding=1)
        self.out, self.fc = ic.Conv2d(4, 2, 1), ic.Linear(2 * 8 * 8, 3)

    def define(self, x):
        a = ic.ReLU()(self.norm1(self.down1(x)))
        b = ic.ReLU()(self.down2(ic.MaxPool2d(2)(a)))
        c = ic.ReLU()(self.middle(ic.MaxPool2d(2)(b)))
        b = ic.ReLU()(self.up2(ic.Concat()(ic.Upsample(2)(c), b)))
        a = ic.ReLU()(self.up1(ic.Concat()(ic.Upsample(2)(b), a)))
        return self.fc(ic.Flatten()(self.out(a)))


def squeezed_by_names():
    return ic.Net(
        {
            "conv": ic.Conv2d(2, 6, 3, padding=1),
            "se": ic.Net(
                {
                    "pool": ic.GlobalAvgPool2d(),
                    "fc1": ic.Conv2d(6, 2, 1),
                    "relu": ic.ReLU(),
                    "fc2": ic.Conv2d(2, 6, 1),
                    "gate": ic.Sigmoid(),
                    "scaled": (ic.Mul(), "input", "gate"),
                }
            ),
            "mean": ic.GlobalAvgPool2d(),
            "flat": ic.Flatten(),
            "fc": ic.Linear(6, 3),
        }
    )


def unet_by_names():
    relu, pool, up = ic.ReLU, lambda: ic.MaxPool2d(2), lambda: ic.Upsample(2)
    return ic.Net(
        {
            "down1": ic.Conv2d(2, 4, 3, padding=1, bias=False),
            "norm1": ic.BatchNorm2d(4),
            "a": relu(),
            "half": pool(),
            "down2": ic.Conv2d(4, 6, 3, padding=1),
            "b": relu(),
            "quarter": pool(),
            "middle": ic.Conv2d(6, 6, 3, padding=1),
            "c": relu(),
            "wider": up(),
            "join2": (ic.Concat(), "wider", "b"),
            "up2": ic.Conv2d(12, 4, 3, padding=1),
            "d": relu(),
            "whole": up(),
            "join1": (ic.Concat(), "whole", "a"),
            "up1": ic.Conv2d(8, 4, 3, padding=1),
            "e": relu(),
            "out": ic.Conv2d(4, 2, 1),
            "flat": ic.Flatten(),
            "fc": ic.Linear(128, 3),
        }
    )


NETS = {"Squeezed": (Squeezed, squeezed_by_names), "UNet": (UNet, unet_by_names)}


def values(name):
    prefix = f"{name}/"
    return {key.removeprefix(prefix): VALUES[key] for key in VALUES.files if key.startswith(prefix)}


def part(arrays, prefix):
    return {key.removeprefix(prefix): value for key, value in arrays.items() if key.startswith(prefix)}


@pytest.mark.parametrize("shard", [2, None])
@pytest.mark.parametrize("written", [0, 1], ids=["as a class", "by names"])
@pytest.mark.parametrize("name", NETS)
def test_equal_to_pytorch(name, written, shard):
    """PyTorch's parameters load by name; the step of SGD with a rate of 1 shows the gradient."""
    arrays = values(name)
    net = NETS[name][written]().init(0, "float64")
    net.load_state_dict(part(arrays, "initial/"))
    assert_allclose(net.predict(arrays["images"]) - 0, net.predict(arrays["images"][:5]), rtol=0)
    trainer = ic.Trainer(net, optimizer=ic.SGD(1.0), shard=shard)
    before = net.state_dict()
    assert trainer.step(arrays["images"], arrays["labels"]) == pytest.approx(float(arrays["loss"]), rel=1e-12)
    after, gradients = net.state_dict(), part(arrays, "gradient/")
    assert sorted(gradients) == sorted(net.parameters())
    for key, gradient in gradients.items():
        assert_allclose(before[key] - after[key], gradient, rtol=1e-9, atol=1e-12, err_msg=key)
        net.parameters()[key][...] = before[key]
    assert_allclose(net.predict(arrays["images"]), arrays["logits"], rtol=1e-10)  # with running statistics


@pytest.mark.parametrize("name", NETS)
def test_a_class_and_names_give_the_same_bits(name):
    arrays = values(name)
    trained = []
    for make in NETS[name]:
        net = make().init(3)
        trainer = ic.Trainer(net, optimizer=ic.Adam(1e-2), shard=2)
        for _ in range(3):
            trainer.step(arrays["images"], arrays["labels"])
        trained.append(net.state_dict())
    assert_same_bits(*trained)


@pytest.mark.parametrize("make", [make for pair in NETS.values() for make in pair])
def test_a_graph_is_planned_copied_and_stored(make, tmp_path):
    arrays = values("UNet")
    trainer = ic.Trainer(make(), optimizer=ic.SGD(0.1, momentum=0.9), seed=1)
    trainer.step(arrays["images"], arrays["labels"])
    trainer.save(tmp_path / "net")
    loaded = ic.Trainer.load(tmp_path / "net")
    assert repr(loaded.net) == repr(trainer.net)
    for one in (trainer, loaded):
        one.step(arrays["images"], arrays["labels"])
    assert_same_bits(trainer.net.state_dict(), loaded.net.state_dict())
    plan = trainer.net.plan(5)
    assert sum(plan.memory().values()) > 0
    ic.testing.check_layer(make(), (2, 8, 8))


@pytest.mark.parametrize("threads", [2, 3])
def test_workers_change_nothing(threads):
    arrays, found = values("UNet"), []
    for count in (1, threads):
        with ic.num_threads(count):
            net = UNet().init(0)
            trainer = ic.Trainer(net, shard=1)
            for _ in range(5):  # processes take over after a few
                trainer.step(arrays["images"], arrays["labels"])
            found.append(net.state_dict())
    assert_same_bits(*found)


# Values that are used again -----------------------------------------------------------------------------------------
class Powers(ic.Network):
    """``x·x·x + x``: a value with four readers, and one that is both inputs of a layer."""

    def define(self, x):
        return x * x * x + x


def test_a_value_may_be_read_several_times():
    x = np.random.default_rng(0).standard_normal((3, 2, 4, 4))
    net = ic.Sequential([ic.Conv2d(2, 2, 1), Powers()]).init(0, "float64")
    inner = ic.Sequential([net[0]]).init(0, "float64")
    inner.load_state_dict(net.state_dict())
    y = inner.predict(x)
    assert_allclose(net.predict(x), y**3 + y, rtol=1e-12)
    ic.testing.check_layer(net, (2, 4, 4))


class Apart(ic.Network):
    def __init__(self):
        self.rows, self.columns = ic.AvgPool2d((4, 1)), ic.AvgPool2d((1, 4))

    def define(self, x):
        return self.rows(x) + self.columns(x)


def test_both_values_may_be_broadcast():
    x = np.random.default_rng(0).standard_normal((3, 2, 4, 4))
    net = ic.Sequential([Apart()]).init(0, "float64")
    assert_allclose(net.predict(x), x.mean(2, keepdims=True) + x.mean(3, keepdims=True), rtol=1e-12)
    ic.testing.check_layer(Apart(), (2, 4, 4))


# Several outputs, and values of other ranks -------------------------------------------------------------------------
def stem():
    return ic.Conv2d(2, 3, 3, padding=1)


def two_heads(outputs=("scores", "image")):
    layers = {
        "stem": stem(),
        "tanh": ic.Tanh(),
        "image": (ic.Conv2d(3, 1, 1), "tanh"),
        "mean": (ic.GlobalAvgPool2d(), "tanh"),
        "flat": ic.Flatten(),
        "scores": ic.Linear(3, 4),
    }
    wanted = {"image": ["stem", "tanh", "image"], "scores": ["stem", "tanh", "mean", "flat", "scores"]}
    names = {name for output in outputs for name in wanted[output]}
    return ic.Net({name: layer for name, layer in layers.items() if name in names}, outputs)


@pytest.mark.parametrize("shard", [None, 2])
@pytest.mark.parametrize("threads", [1, 2])
def test_two_outputs_are_trained_together(shard, threads, tmp_path):
    """The gradient of a sum of losses is the sum of the gradients of two networks with one output each."""
    rng = np.random.default_rng(0)
    x, labels, images = rng.standard_normal((5, 2, 4, 4)), rng.integers(0, 4, 5), rng.standard_normal((5, 1, 4, 4))
    losses, weights = (ic.CrossEntropyLoss(), ic.MSELoss()), (1.0, 0.5)
    net = two_heads().init(0, "float64")
    start = net.state_dict()
    expected, values = {name: np.zeros_like(array) for name, array in start.items()}, []
    for output, loss, weight, target in zip(net.outputs, losses, weights, (labels, images), strict=True):
        one = two_heads([output]).init(0, "float64")
        one.load_state_dict({name: start[name] for name in one.state_dict()})
        value, gradient = loss_and_gradient(one, x, target, loss)
        values.append(value * weight)
        for node in one.graph.nodes:
            for key, part in one.views(node, gradient).items():
                expected[f"{node.name}.{key}"] += weight * part
    with ic.num_threads(threads):
        trainer = ic.Trainer(net, ic.SumLoss(losses, weights), ic.SGD(1.0), shard=shard)
        assert trainer.step(x, (labels, images)) == pytest.approx(sum(values), rel=1e-12)
        for name, array in net.state_dict().items():
            assert_allclose(start[name] - array, expected[name], rtol=1e-9, atol=1e-12)
        for _ in range(4):
            trainer.step(x, (labels, images))
    scores, image = net.predict(x)
    assert scores.shape == (5, 4)
    assert image.shape == (5, 1, 4, 4)
    for output, found in zip(net.outputs, (scores, image), strict=True):
        one = two_heads([output]).init(0, "float64")
        one.load_state_dict({name: net.state_dict()[name] for name in one.state_dict()})
        assert_allclose(one.predict(x), found, rtol=1e-12)
    assert [part.shape for part in net.predict(x[:0])] == [(0, 4), (0, 1, 4, 4)]
    trainer.save(tmp_path / "two")
    again = ic.Trainer.load(tmp_path / "two")
    assert repr(again.loss) == repr(trainer.loss)
    assert again.step(x, (labels, images)) == trainer.step(x, (labels, images))


def test_losses_of_the_wrong_number():
    x, labels = np.ones((2, 2, 4, 4)), np.zeros(2, int)
    with pytest.raises(ic.ShapeError, match=r"the network has 2 outputs, which CrossEntropyLoss\(\) does not take"):
        ic.Trainer(two_heads()).step(x, labels)
    with pytest.raises(ic.ShapeError, match=r"the network has 1 output, which SumLoss"):
        ic.Trainer(two_heads(["scores"]), ic.SumLoss([ic.MSELoss(), ic.MSELoss()])).step(x, (labels, labels))
    with pytest.raises(ic.ShapeError, match="labels must be a tuple of 2"):
        ic.Trainer(two_heads(), ic.SumLoss([ic.CrossEntropyLoss(), ic.MSELoss()])).step(x, labels)
    with pytest.raises(ic.ShapeError, match="two losses or more"):
        ic.SumLoss([ic.MSELoss()])
    with pytest.raises(ic.ShapeError, match="there are 0 weights for 2 losses"):
        ic.SumLoss([ic.MSELoss(), ic.MSELoss()], [])


def test_a_prediction_of_several_outputs_is_measured():
    rng = np.random.default_rng(3)
    net, x, labels, images = (
        two_heads().init(0, "float64"),
        rng.random((5, 2, 4, 4)),
        np.arange(5) % 4,
        np.ones((5, 1, 4, 4)),
    )
    losses, weights = [ic.CrossEntropyLoss(), ic.MSELoss()], np.array([0.5, 2.0])
    loss, outputs = ic.SumLoss(losses, weights), net.predict(x)
    found = loss.measure(outputs, (labels, images))
    each = [one.measure(*pair) for one, *pair in zip(losses, outputs, (labels, images), strict=True)]
    assert found["loss"] == pytest.approx(weights @ [one["loss"] for one in each], rel=1e-12)
    assert found["accuracy_0"] == each[0]["accuracy"]
    assert found["loss"] == pytest.approx(net.evaluate(x, (labels, images), loss)[0], rel=1e-12)
    with pytest.raises(ic.ShapeError, match=r"the network has 2 outputs, which CrossEntropyLoss\(\) does not take"):
        ic.CrossEntropyLoss().measure(outputs, labels)
    with pytest.raises(ic.ShapeError, match="the network has 1 output, which SumLoss"):
        loss.measure(outputs[0], (labels, images))


def test_a_profile_of_several_outputs():
    loss = ic.SumLoss([ic.CrossEntropyLoss(), ic.MSELoss()])
    report = profile(two_heads().init(0), (2, 4, 4), 6, ic.SGD(0.1), steps=1, loss=loss)
    assert report["loss_seconds"] > 0
    with pytest.raises(ic.ShapeError, match="there are 3 losses for 2 outputs"):
        profile(two_heads().init(0), (2, 4, 4), 6, ic.SGD(0.1), steps=1, loss=ic.SumLoss([ic.MSELoss()] * 3))
    with pytest.raises(ic.ShapeError, match=r"the network has 2 outputs, which CrossEntropyLoss\(\) does not take"):
        profile(two_heads().init(0), (2, 4, 4), 6, ic.SGD(0.1), steps=1)


@pytest.mark.parametrize("shape", [(5, 7), (2, 3, 4, 5)])
def test_values_of_other_ranks(shape):
    """Samples of two axes, and of four: elementwise layers and Flatten take them."""
    rng = np.random.default_rng(0)
    x, size = rng.standard_normal((6, *shape)), int(np.prod(shape))
    net = ic.Sequential([Powers(), ic.Flatten(), ic.Linear(size, 3)]).init(0, "float64")
    flat = (x**3 + x).reshape(6, size)
    state = net.state_dict()
    expected = flat @ state["2.weight"].T + state["2.bias"]
    assert_allclose(net.predict(x), expected, rtol=1e-12)
    assert ic.Trainer(net).step(x, np.arange(6) % 3) > 0
    ic.testing.check_layer(net, shape)


# Mistakes -----------------------------------------------------------------------------------------------------------
def conv():
    return ic.Conv2d(2, 2, 3, padding=1)


def network(define, **layers):
    def init(self):
        for name, layer in layers.items():
            setattr(self, name, layer)

    return type("Mine", (ic.Network,), {"__init__": init, "define": define})()


@pytest.mark.parametrize(
    ("layers", "options", "message"),
    [
        ([conv()], {}, "layers must be a dict"),
        ({}, {}, "layers must be a dict"),
        ({"": conv()}, {}, "a layer.s name must be text"),
        ({"input": conv()}, {}, 'not "input"'),
        ({"a": 3}, {}, "layer 'a' must be a layer such as"),
        ({"a": (conv(), "b")}, {}, "layer 'a' reads 'b'; before it there are: input"),
        ({"a": (conv(), "b"), "b": conv()}, {}, r"reads 'b' \(it comes later\)"),
        ({"a": conv()}, {"outputs": ["b"]}, "outputs name a layer 'b', which does not exist; there are: a"),
        ({"a": conv()}, {"outputs": []}, "outputs must name layers"),
        ({"a": conv()}, {"outputs": ["a", "a"]}, "each of them once"),
    ],
)
def test_mistakes_in_names(layers, options, message):
    with pytest.raises(ic.ShapeError, match=message):
        ic.Net(layers, **options)


def test_a_layer_that_nobody_reads():
    with pytest.raises(ic.ShapeError, match="nothing reads the output of layer 'a'"):
        ic.Net({"a": conv(), "b": (conv(), "input")}).init()


@pytest.mark.parametrize(
    ("define", "message"),
    [
        (lambda self, x: 3, "define of Mine must return symbolic values, got 3"),
        (lambda self, x: self.a(x) if x else x, "cannot branch on a symbolic value"),
        (lambda self, x: conv()(x), "make it in __init__, self.layer = Conv2d"),
        (lambda self, x: self.a(np.ones(3)), "called with symbolic values"),
        (lambda self, x: self.a(), "called without a value"),
        (lambda self, x: self.a(self.a(x)), "is already in the network"),
        (lambda self, x: self.a(x) + ic.MaxPool2d(2)(x), r"\(3, 2, 8, 8\) \+ \(3, 2, 4, 4\) do not fit"),
        (lambda self, x: ic.Concat()(self.a(x), ic.MaxPool2d(2)(x)), "all axes but the channels must be equal"),
        (lambda self, x: ic.Concat()(self.a(x)), "Concat reads two values or more"),
        (lambda self, x: ic.MatMul()(self.a(x)), r"MatMul\(\) reads two values, got 1"),
        (lambda self, x: ic.MatMul()(self.a(x), ic.MaxPool2d(2)(x)), r"\(3, 2, 8, 8\) @ \(3, 2, 4, 4\) do not fit"),
        (
            lambda self, x: ic.MatMul()(*[ic.Flatten()(v) for v in (self.a(x), x)]),
            r"\(3, 128\) @ \(3, 128\) do not fit",
        ),
        (lambda self, x: ic.Mul()(self.a(x)), r"Mul\(\) reads two values, got 1"),
    ],
)
def test_mistakes_in_define(define, message):
    with pytest.raises(ic.ShapeError, match=message):
        network(define, a=conv()).init().predict(np.ones((3, 2, 8, 8)))


@pytest.mark.parametrize(
    "formula",
    [
        lambda a, b: a - b,
        lambda a, b: a / (b * b + 1),
        lambda a, b: b - 2 * a,
        lambda a, b: -a + 3 - b,
        lambda a, b: 0.5 + np.float32(0.5) * a - np.int64(2) * b,
        lambda a, b: a / 4 + 1 / (b**2 + 1),
        lambda a, b: (a**2 + 1) ** (b / 8),
        lambda a, b: 2**a + sum([a, b, 1.5]),
        lambda a, b: a**3 * abs(b),
    ],
)
def test_formulas_in_define(formula):
    """What Python computes with arrays, ``define`` does with symbolic values; numbers are no part of the state."""
    net = network(lambda self, x: formula(self.a(x), self.b(x)), a=conv(), b=conv()).init(0, "float64")
    assert set(net.state_dict()) == {f"{layer}.{name}" for layer in "ab" for name in ("weight", "bias")}
    x = normal(3, 2, 4, 4)
    a, b = (ic.Sequential([conv()]).init(0, "float64") for _ in range(2))
    for part, name in (a, "a"), (b, "b"):
        part.load_state_dict({f"0.{key}": net.state_dict()[f"{name}.{key}"] for key in ("weight", "bias")})
    assert_allclose(net.predict(x), formula(a.predict(x), b.predict(x)), rtol=1e-12)


@pytest.mark.parametrize("other", ["1", None, True, [1]])
def test_what_is_no_number_is_no_value(other):
    with pytest.raises(TypeError, match="unsupported operand"):
        network(lambda self, x: self.a(x) + other, a=conv()).init()


@pytest.mark.parametrize("formula", [lambda x: x * np.ones(3), lambda x: np.ones((2, 1, 1)) - x])
def test_an_array_in_define_becomes_a_layer(formula):
    with pytest.raises(ic.ShapeError, match=r"got an array: make a layer for it.*ic.WithConstant\(\"mul\""):
        network(lambda self, x: formula(self.a(x)), a=conv()).init()


def test_values_of_two_networks():
    kept = []
    network(lambda self, x: kept.append(self.a(x)) or kept[0], a=conv()).init()
    with pytest.raises(ic.ShapeError, match="reads values of two networks"):
        network(lambda self, x: self.a(x) + kept[0], a=conv()).init()


def test_names_that_networks_have_are_refused():
    with pytest.raises(ic.FrozenError, match="cannot be called 'flat'"):
        network(lambda self, x: x, flat=conv())


def test_without_define():
    with pytest.raises(NotImplementedError, match=r"must have a method define\(self, x\)"):
        type("Mine", (ic.Network,), {})().init()


def test_before_init_backend_and_dtype_say_so():
    for name in ("backend", "dtype"):
        with pytest.raises(ic.ShapeError, match=r"call net.init\(seed=0\) first"):
            getattr(UNet(), name)


def test_sequences():
    net = ic.models.notebook()
    assert len(net) == 5
    assert isinstance(net[0], ic.Conv2d)
    assert [type(layer).__name__ for layer in net] == ["Conv2d", "ReLU", "MaxPool2d", "Flatten", "Linear"]
    assert [*net[:2].children()] == ["0", "1"]
    x = np.ones((1, 1, 8, 8), "float32")
    net.init(0)
    assert_same_bits(net(x), net.predict(x))


# Subclasses ----------------------------------------------------------------------------------------------------------
class MyConv(ic.Conv2d):
    pass


class Louder(ic.Conv2d):
    def forward(self, x, ctx):
        assert not ctx.relu
        return super().forward(x, ctx) * 2


class Viewed(ic.Layer):
    """Features of an image of one row: no pass is called, so it defines none."""

    def output_shape(self, x):
        return x[0] * x[1] * x[2], x[3]

    def needs(self, x, y, dtype, backend, training):
        return Needs(input=False, output=False, view=True)


def test_a_layer_that_defines_no_pass_is_not_taken_for_a_normalisation():
    x = np.random.default_rng(0).standard_normal((3, 2, 1, 5))
    nets = [ic.Sequential([ic.Conv2d(2, 4, 1), layer, ic.Linear(20, 3)]) for layer in (Viewed(), ic.Flatten())]
    found, expected = (net.init(0, "float64").predict(x) for net in nets)
    assert_same_bits(found, expected)


def test_a_subclass_is_run_as_its_layer():
    """The same nodes are joined, and its calls are prepared; one with a forward of its own is asked for that."""
    x = np.random.default_rng(0).standard_normal((4, 2, 6, 6)).astype("float32")

    def net(kind):
        return ic.Sequential([kind(2, 4, 3, padding=1), ic.BatchNorm2d(4), ic.ReLU(), kind(4, 4, 3), ic.ReLU()]).init(0)

    plans = [net(kind).plan(4, (2, 6, 6), training=False).graph.nodes for kind in (ic.Conv2d, MyConv, Louder)]
    fused = [[(type(node.layer).__name__, node.activation) for node in nodes if not node.fused] for nodes in plans]
    assert fused[0] == [("NormalizedConv2d", "relu"), ("Conv2d", "relu")]
    assert fused[1] == [("NormalizedConv2d", "relu"), ("MyConv", "relu")]
    assert fused[2] == [("Louder", None), ("BatchNorm2d", "relu"), ("Louder", None), ("ReLU", None)]
    assert_same_bits(net(ic.Conv2d).predict(x), net(MyConv).predict(x))
    assert MyConv(2, 4, 3).prepares("forward")
    assert not Louder(2, 4, 3).prepares("forward")
    assert Louder(2, 4, 3).prepares("backward")
