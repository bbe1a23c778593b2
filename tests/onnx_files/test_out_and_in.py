"""Networks that are written as ONNX and loaded again: the same bits in prediction, and in three steps of training."""

import warnings

import numpy as np
import onnx
import pytest
from helpers import assert_same_bits, layer_examples, normal
from onnx_written import model_of, part, seeded, small_model  # noqa: F401 - part is a fixture

import im2colnet as ic
from im2colnet.onnx.kept import KEY
from im2colnet.testing.inputs import input_shape_of, network_of

EXAMPLES = layer_examples()


def loaded(model):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ic.InputWarning)
        return ic.onnx.load(model)


def steps(net, x):
    """The losses of three steps, and the state after them."""
    trainer = ic.Trainer(net, loss=ic.MSELoss(), optimizer=ic.SGD(1e-3, momentum=0.9), seed=1)
    target = normal(*net.predict(x).shape, seed=5, dtype="float32")
    return [trainer.step(x, target) for _ in range(3)], net.state_dict()


def assert_same_network(net, back, x):
    assert_same_bits(back.predict(x), net.predict(x))
    (losses, state), (found, state_found) = steps(net, x), steps(back, x)
    assert found == losses
    assert state_found.keys() == state.keys()
    for name, array in state.items():
        np.testing.assert_array_equal(state_found[name], array, err_msg=name)


def not_the_same(layer):
    """Why a layer does not come back as it was; None if it does."""
    name, arguments = type(layer).__name__, layer.config()
    if name.startswith("BatchNorm") and layer.momentum is None:
        return "files do not have the number of batches"
    if not arguments.get("track_running_stats", True) and name.startswith("BatchNorm"):
        return "a network that is loaded keeps its samples apart"
    if arguments.get("threshold") in (1.5, 0.1):
        return "there is no layer that chooses between two values"
    even = name == "LocalResponseNorm" and layer.size % 2 == 0
    if arguments.get("divisor_override") or even or (name == "LPPool2d" and layer.ceil_mode):
        return "ONNX says it by several operators, which add in another order"
    if name == "Mean" and arguments["dim"] == [2, 3]:
        return "it comes back as GlobalAvgPool2d, which adds in another order"
    if name == "Linear" and layer.out_features == 1:
        return "of several axes its bias is an added number, which could be anything"
    if name == "ConvTranspose2d" and layer.output_padding == (2, 1):
        return "other programs refuse this output_padding, so that it is written as padding, and its bias as a constant"
    return None


@pytest.mark.parametrize(("case", "layer", "shapes"), [each for each in EXAMPLES if not not_the_same(each.values[1])])
def test_layers(case, layer, shapes):
    shape = input_shape_of(*shapes)
    net = seeded(network_of(layer, *shapes), shape)
    x = case.domain(normal(4, *shape, dtype="float32"))
    back = loaded(model_of(net, opset=23 if isinstance(layer, ic.RMSNorm) else 22))
    if isinstance(layer, ic.WithConstant):  # a constant has all axes, or is no part of the state
        assert_same_bits(back.predict(x), net.predict(x))
    else:
        assert_same_network(net, back, x)


@pytest.mark.parametrize("name", sorted(ic.models.MODELS))
def test_ready_made_networks(name):
    net = small_model(name)
    x = normal(2, *net.input_shape, dtype="float32")
    back = loaded(model_of(net))
    assert {*back.state_dict()} == {*net.state_dict()}
    assert_same_bits(back.predict(x), net.predict(x))
    if name not in ("resnet34", "vgg16", "vgg16_bn"):  # larger ones of their families, which take long to train
        assert_same_network(net, back, x)


def test_a_shortcut_comes_back_as_one():
    net = seeded(ic.models.resnet20(input_size=16))
    back = loaded(model_of(net))
    kinds = [[type(node.layer).__name__ for node in each.graph.nodes] for each in (net, back)]
    assert kinds[0].count("ZeroPadShortcut") == kinds[1].count("ZeroPadShortcut") == 2


def test_numbers_are_the_decimals_that_they_were():
    layers = [ic.BatchNorm2d(2, eps=1e-3, momentum=0.03), ic.LeakyReLU(0.1), ic.ELU(0.3), ic.Dropout(0.1)]
    back = loaded(model_of(seeded(ic.Sequential(layers)), (2, 3, 3)))
    found = [node.layer for node in back.graph.nodes]
    assert (found[0].eps, found[0].momentum) == (1e-3, 0.03)
    assert (found[1].negative_slope, found[2].alpha, found[3].p) == (0.1, 0.3, 0.1)


# What ONNX cannot say ----------------------------------------------------------------------------------------------
def kept(layer):
    """What is kept beside the node of a layer."""
    (node,) = model_of(seeded(ic.Sequential([layer])), (4, 3, 3)).graph.node
    return [entry.value for entry in node.metadata_props if entry.key == KEY]


def test_only_what_onnx_cannot_say_is_kept_beside_a_node():
    assert kept(ic.BatchNorm2d(4)) == kept(ic.Dropout(0.1)) == kept(ic.GroupNorm(2, 4)) == []
    assert kept(ic.InstanceNorm2d(4, affine=True)) == []
    assert len(kept(ic.InstanceNorm2d(4, affine=True, track_running_stats=True))) == 1
    assert kept(ic.StochasticDepth(0.2)) == ['["StochasticDepth", {"mode": "row", "p": 0.2}]']


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[",
        "[" * 2000,
        '["Conv2d", {"in_channels": 4, "out_channels": 4, "kernel_size": 1}]',
        '["Dropout2d", {"p": 0.5}]',
        '["BatchNorm2d", {"num_features": 5}]',
        '["BatchNorm2d", {"num_features": 4, "momentum": null}]',
        '["BatchNorm2d", {"num_features": "4"}]',
        '["BatchNorm2d", {"num_features": 4, "of": 3}]',
        '["BatchNorm2d", [4]]',
        '[["BatchNorm2d"], {}]',
        "7",
    ],
)
def test_what_does_not_fit_a_node_is_not_read(text):
    model = model_of(seeded(ic.Sequential([ic.BatchNorm2d(4, eps=0.1)])), (4, 3, 3))
    model.graph.node[0].metadata_props.append(onnx.StringStringEntryProto(key=KEY, value=text))
    (node,) = loaded(model).graph.nodes
    assert node.layer.config() == ic.BatchNorm2d(4, eps=0.1).config()
