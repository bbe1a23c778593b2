"""The ready-made networks: the papers' sizes, output shapes, a step of training each, initialisation, errors."""

import math
from itertools import pairwise

import numpy as np
import pytest
from helpers import assert_same_bits, normal, quick
from reference.torch_values import every_case

import im2colnet as ic
from im2colnet import models
from im2colnet.layout import internal_shape

#: the smallest image of each
LEAST = {name: model.smallest for name, model in models.MODELS.items()}


def parameters(net):
    """The number of parameters, from the layers' shapes."""
    return sum(math.prod(p.shape) for node in net.graph.nodes for p in node.layer.parameters().values())


def layers(net, *kinds):
    return [node.layer for node in net.graph.nodes if isinstance(node.layer, kinds)]


def multiply_adds(net):
    """Of convolutions and linear layers, for one image: what papers count."""
    shapes = net.graph.shapes(internal_shape(net.input_shape, 1))
    total = 0
    for node in net.graph.nodes:
        if isinstance(node.layer, (ic.Conv2d, ic.Linear)):
            weight = node.layer.parameters()["weight"].shape
            y = shapes[node.output]
            total += math.prod(weight) * (y[0] * y[2] if len(y) == 4 else 1)
    return total


def last_maps(net):
    """Height, channels and width of what is averaged at the end."""
    shapes = net.graph.shapes(internal_shape(net.input_shape, 1))
    (node,) = [node for node in net.graph.nodes if isinstance(node.layer, ic.GlobalAvgPool2d)]
    return shapes[node.inputs[0]][:3]


# Sizes --------------------------------------------------------------------------------------------------------------
def vgg_size(in_channels, side, classes):
    widths = [in_channels, 32, 32, 64, 64, 128, 128]
    convolutions = sum(9 * a * b + b for a, b in pairwise(widths))
    return convolutions + (128 * (side // 8) ** 2 * 256 + 256) + (256 * classes + classes)


def mobilenet_size(width, classes, in_channels=3):
    """Table 1 of Howard et al. 2017: 3×3 depthwise and 1×1 convolutions, each with a batch norm."""
    c = [round(n * width) for n in (32, 64, 128, 128, 256, 256, 512, 512, 512, 512, 512, 512, 1024, 1024)]
    blocks = sum((9 * a + 2 * a) + (a * b + 2 * b) for a, b in pairwise(c))
    return (9 * in_channels * c[0] + 2 * c[0]) + blocks + (c[-1] * classes + classes)


def resnet20_size(classes, in_channels=3):
    """Section 4.2 of He et al. 2015: a convolution, 3 × 3 blocks of two, a linear layer; plain shortcuts."""
    widths = [16] * 7 + [32] * 6 + [64] * 6
    pairs = [(in_channels, 16), *pairwise(widths)]
    return sum(9 * a * b + 2 * b for a, b in pairs) + 64 * classes + classes


@pytest.mark.parametrize(
    ("net", "expected"),
    [
        (models.notebook(), 58),  # 2·9 + 2 and 18·2 + 2
        (models.notebook(classes=10, in_channels=3, input_size=12), (3 * 2 * 9 + 2) + (2 * 5 * 5 * 10 + 10)),
        (models.lenet5(), 61_706),  # 156 + 2,416 + 48,120 + 10,164 + 850
        (models.lenet5(7, 3, 32), (3 * 6 * 25 + 6) + 2_416 + (16 * 36 * 120 + 120) + 10_164 + (84 * 7 + 7)),
        (models.vgg8(), vgg_size(3, 32, 10)),
        (models.vgg8(classes=4, in_channels=1, input_size=17), vgg_size(1, 17, 4)),
        (models.resnet20(), resnet20_size(10)),
        (models.resnet20(), 269_722),
        (models.resnet20(classes=100, in_channels=1), resnet20_size(100, 1)),
        (models.resnet18(), 11_173_962),
        (models.resnet18(classes=200), 11_173_962 + 190 * 513),
        (models.mobilenet(classes=1000, input_size=224), 4_231_976),
        (models.mobilenet(classes=1000, input_size=224), mobilenet_size(1.0, 1000)),
        (models.mobilenet(classes=1000, input_size=224, width=0.5), mobilenet_size(0.5, 1000)),
        (models.mobilenet(classes=1000, input_size=224, width=0.25), mobilenet_size(0.25, 1000)),
        (models.mobilenet(classes=5, in_channels=1), mobilenet_size(1.0, 5, 1)),
    ],
)
def test_numbers_of_parameters(net, expected):
    assert parameters(net) == expected
    assert net.graph.size == expected


@pytest.mark.parametrize(
    ("net", "millions"),
    [
        (models.resnet20(), 0.27),  # He et al. 2015, table 6
        (models.mobilenet(classes=1000, input_size=224), 4.2),  # Howard et al. 2017, table 6
        (models.mobilenet(classes=1000, input_size=224, width=0.75), 2.6),
        (models.mobilenet(classes=1000, input_size=224, width=0.5), 1.3),
        (models.mobilenet(classes=1000, input_size=224, width=0.25), 0.5),
    ],
)
def test_the_papers_millions_of_parameters(net, millions):
    assert f"{parameters(net) / 1e6:.{len(str(millions)) - 2}f}" == str(millions)


@pytest.mark.parametrize(("width", "millions"), [(1.0, 569), (0.75, 325), (0.5, 149), (0.25, 41)])
def test_the_multiply_adds_of_mobilenet(width, millions):
    """Howard et al. 2017, table 6."""
    net = models.mobilenet(classes=1000, input_size=224, width=width)
    assert multiply_adds(net) / 1e6 == pytest.approx(millions, rel=0.01)


@pytest.mark.parametrize("size", [224, 192, 160, 128])
def test_mobilenet_is_the_paper_s_from_128_pixels_on(size):
    """Howard et al. 2017, table 7: 569, 418, 290 and 186 million multiply-adds."""
    net = models.mobilenet(classes=1000, input_size=size)
    assert last_maps(net) == (size // 32, 1024, size // 32)
    expected = {224: 569, 192: 418, 160: 290, 128: 186}[size]
    assert multiply_adds(net) / 1e6 == pytest.approx(expected, rel=0.01)


@pytest.mark.parametrize(("size", "side"), [(4, 4), (7, 4), (8, 4), (28, 4), (32, 4), (64, 4), (96, 6)])
def test_mobilenet_keeps_maps_of_small_images(size, side):
    assert last_maps(models.mobilenet(input_size=size))[::2] == (side, side)


def test_depths_are_those_in_the_names():
    assert len(layers(models.resnet20(), ic.Conv2d, ic.Linear)) == 20
    assert len([c for c in layers(models.resnet18(), ic.Conv2d, ic.Linear) if getattr(c, "kernel_size", 0) != 1]) == 18
    assert len(layers(models.vgg8(), ic.Conv2d, ic.Linear)) == 8
    assert len(layers(models.lenet5(), ic.Conv2d, ic.Linear)) == 5
    assert len(layers(models.mobilenet(), ic.Conv2d, ic.Linear)) == 28  # "MobileNet has 28 layers"
    assert last_maps(models.resnet20()) == (8, 64, 8)
    assert last_maps(models.resnet18()) == (8, 512, 8)
    assert layers(models.resnet20(), ic.BatchNorm2d)
    assert not layers(models.vgg8(), ic.BatchNorm2d)


# Shapes and training ------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", LEAST)
def test_output_shapes(name):
    """Of the smallest images, of odd ones, of one and of three channels; any batch."""
    for classes, channels, size, n in [(2, 1, LEAST[name], 1), (5, 3, LEAST[name] + 5, 3)]:
        net = models.make(name, classes, channels, size, **quick(name))
        assert net.input_shape == (channels, size, size)
        assert not net.initialized
        if name != "resnet18" or size == LEAST[name]:
            assert net.init(0).predict(normal(n, channels, size, size, dtype="float32")).shape == (n, classes)
        assert net.output_shape(internal_shape(net.input_shape, n)) == (classes, n)


@pytest.mark.parametrize("name", LEAST)
def test_a_step_changes_every_parameter(name):
    net = models.make(name, 3, 1, max(8, LEAST[name]), **quick(name)).init(0)
    x, labels = normal(4, *net.input_shape, dtype="float32"), [0, 1, 2, 0]
    before = net.state_dict()
    loss = ic.Trainer(net, optimizer=ic.SGD(0.1)).step(x, labels)
    assert 0.5 * math.log(3) < loss < 3 * math.log(3)
    after = net.state_dict()
    assert [name for name in after if (after[name] == before[name]).all()] == []
    assert all(np.isfinite(value).all() for value in after.values())
    assert {value.dtype.name for value in after.values()} == {"float32"}


@pytest.mark.parametrize("name", ["lenet5", "resnet20", "mobilenet"])
def test_networks_learn_by_heart(name):
    net = models.make(name, 4, 1, LEAST[name], **quick(name))
    x, labels = normal(12, *net.input_shape, dtype="float32"), np.arange(12) % 4
    trainer = ic.Trainer(net, optimizer=ic.Adam(0.003))
    losses = [trainer.step(x, labels) for _ in range(30)]
    assert losses[-1] < 0.3 * losses[0]


# Initialisation -----------------------------------------------------------------------------------------------------
@every_case("initialisation")
def test_initialisation_is_pytorch_s(config, arrays):
    """Uniform in ±1/√(fan-in), weight and bias: as 200 layers of PyTorch were."""
    made = ic.Sequential([getattr(ic, config["layer"])(*config["args"])])
    values = {"weight": [], "bias": []}
    for seed in range(config["layers_drawn"]):
        for key, value in made.init(seed).parameters().items():
            values[key.removeprefix("0.")].append(value.astype("float64").ravel())
    for key, drawn in values.items():
        drawn, expected = np.concatenate(drawn), config[key]
        assert np.abs(drawn).max() == pytest.approx(config["bound"], rel=1e-3)
        assert np.abs(drawn).max() <= config["bound"] * (1 + 1e-6)
        assert drawn.std() == pytest.approx(expected["std"], rel=0.02)
        assert abs(drawn.mean() - expected["mean"]) < 0.03 * config["bound"]
        counts, _edges = np.histogram(drawn, 10, (-config["bound"], config["bound"]))
        assert (abs(counts / counts.mean() - 1) < 6 / np.sqrt(counts.mean())).all()  # uniform


@pytest.mark.parametrize(
    ("layer", "fan_in"),
    [
        (ic.Conv2d(64, 32, (3, 5), groups=2, init="he"), 32 * 15),
        (ic.ConvTranspose2d(8, 64, 3, init="he"), 64 * 9),
        (ic.Conv1d(64, 32, 5, init="he"), 64 * 5),
        (ic.Linear(300, 100, init="he"), 300),
    ],
)
def test_he_initialisation(layer, fan_in):
    """Variance 2 / fan-in, the bias 0 (He et al. 2015, arXiv:1502.01852, equation 10)."""
    state = ic.Sequential([layer]).init(3, "float64").state_dict()
    assert (state["0.bias"] == 0).all()
    weight = state["0.weight"]
    assert weight.var() == pytest.approx(2 / fan_in, rel=0.05)
    assert 0.98 * math.sqrt(6 / fan_in) < np.abs(weight).max() <= math.sqrt(6 / fan_in)
    with pytest.raises(ic.ShapeError, match="init must be 'default' or 'he', got 'xavier'"):
        type(layer)(4, 2, *[1] * (type(layer) is not ic.Linear), init="xavier")


def test_bounds_of_every_kind_of_layer():
    net = ic.Sequential(
        [
            ic.Conv2d(4, 8, (3, 5), groups=2),
            ic.BatchNorm2d(8),
            ic.Conv2d(8, 8, 3, groups=8, bias=False),
            ic.Flatten(),
            ic.Linear(9, 50),
        ]
    )
    state = net.init(0, "float64").state_dict()
    for name, fan_in in {"0.weight": 30, "0.bias": 30, "2.weight": 9, "4.weight": 9, "4.bias": 9}.items():
        assert 0.75 / math.sqrt(fan_in) < np.abs(state.pop(name)).max() <= 1 / math.sqrt(fan_in)
    assert {name: set(value.tolist()) for name, value in state.items()} == {
        "1.weight": {1.0},
        "1.bias": {0.0},
        "1.running_mean": {0.0},
        "1.running_var": {1.0},
    }


@pytest.mark.parametrize("name", ["notebook", "lenet5", "resnet20"])
def test_the_seed_is_all_that_matters(name):
    def state(seed, dtype="float32", backend=None):
        return models.make(name, 3, 1, 16).init(seed, dtype, backend).state_dict()

    class OtherOrder(ic.Backend):
        name = "other order"
        xp = np

    assert_same_bits(state(3), state(3))
    assert_same_bits(state(3, backend=OtherOrder()), state(3))
    double = state(3, "float64")
    assert_same_bits({key: value.astype("float32") for key, value in double.items()}, state(3))
    assert {value.dtype.name for value in double.values()} == {"float64"}
    other = state(4)
    assert all((value != other[key]).mean() > 0.9 for key, value in state(3).items() if key.endswith("0.weight"))


def test_init_again_starts_anew():
    net = models.resnet20(input_size=8, in_channels=1).init(1)
    before = net.state_dict()
    ic.Trainer(net).step(normal(4, 1, 8, 8), [0, 1, 2, 3])
    assert (net.state_dict()["0.weight"] != before["0.weight"]).any()
    assert net.init(1) is net
    assert_same_bits(net.state_dict(), before)


def test_a_model_is_one_function(monkeypatch):
    monkeypatch.setitem(models.MODELS, "mine", None)  # which takes it away afterwards

    @models.model(models.Recipe(3, 16, ic.Adam()), smallest=5)
    def mine(classes=4, in_channels=2, input_size=9, depth=1):
        """Build mine."""
        head = [ic.Linear(3, classes)] * depth
        return ic.Sequential([ic.Conv2d(in_channels, 3, 3), ic.GlobalAvgPool2d(), ic.Flatten(), *head])

    made = models.MODELS["mine"]
    assert mine.__doc__ == "Build mine."
    assert (made.recipe.epochs, made.smallest, made.options) == (3, 5, ("depth",))
    assert models.make("mine", 6, 1, 7).input_shape == (1, 7, 7)
    assert mine(2).init(0).predict(normal(3, 2, 9, 9)).shape == (3, 2)
    with pytest.raises(ic.ShapeError, match="at least 5"):
        mine(input_size=4)


# Images that are not square ------------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", LEAST)
def test_images_need_not_be_square(name):
    size = LEAST[name] + 3, LEAST[name] + 14
    net = models.make(name, 3, 2, size)
    assert net.input_shape == (2, *size)
    assert ic.Trainer(net.init(0)).step(normal(4, 2, *size), [0, 1, 2, 0]) > 0
    assert net.predict(normal(4, 2, *size)).shape == (4, 3)


@pytest.mark.parametrize(
    ("net", "layer", "features"),
    [
        (models.notebook(input_size=(8, 13)), "4.weight", 2 * 3 * 5),
        (models.lenet5(input_size=(28, 41)), "7.weight", 16 * 5 * 8),  # 28 → 14 → 10 → 5 and 41 → 20 → 16 → 8
        (models.vgg8(input_size=(40, 17)), "16.weight", 128 * 5 * 2),
    ],
)
def test_a_linear_layer_reads_all_rows_and_columns(net, layer, features):
    assert net.init(0).parameters()[layer].shape[1] == features


def test_a_long_image_keeps_the_rows_of_mobilenet():
    assert last_maps(models.mobilenet(input_size=(32, 128)))[::2] == (4, 16)


# Errors -------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", LEAST)
def test_bad_arguments(name):
    for arguments, text in [
        ({"input_size": LEAST[name] - 1}, f"input_size must be at least {LEAST[name]} for this network"),
        ({"input_size": 0}, "input_size must be a positive integer, got 0"),
        ({"input_size": (99, LEAST[name] - 1)}, f"input_size must be at least {LEAST[name]} for this network"),
        ({"input_size": (99, 0)}, "input_size must be a positive integer, got 0"),
        ({"input_size": (99, 99, 3)}, "input_size must be a positive integer, or a pair (height, width), got (99, 99"),
        ({"classes": 0}, "classes must be a positive integer, got 0"),
        ({"classes": 2.5}, "classes must be a positive integer, got 2.5"),
        ({"in_channels": -3}, "in_channels must be a positive integer, got -3"),
    ]:
        with pytest.raises(ic.ShapeError) as error:
            models.MODELS[name](**arguments)
        assert text in str(error.value)


@pytest.mark.parametrize("width", [0, -1, 5, float("nan")])
def test_bad_widths(width):
    with pytest.raises(ic.ShapeError, match="width must be above 0 and at most 4"):
        models.mobilenet(width=width)


def test_unknown_models():
    with pytest.raises(ic.ShapeError, match="there is no model 'alexnet'; there are: notebook, lenet5"):
        models.make("alexnet", 10, 3, 32)


@pytest.mark.parametrize("dtype", ["float16", "int32", "double", None, np.float32])
def test_unknown_types(dtype):
    with pytest.raises(ic.DTypeError, match="dtype must be 'float32' or 'float64'"):
        models.notebook().init(0, dtype)


@pytest.mark.parametrize("seed", [-1, "a", 1.5])
def test_bad_seeds(seed):
    with pytest.raises(ic.Im2colnetError, match="seed"):
        models.notebook().init(seed)
