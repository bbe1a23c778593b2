"""torchvision's networks: their names, shapes and outputs are torchvision's, by values that it has written once."""

import json
from pathlib import Path

import numpy as np
import pytest
from helpers import normal
from reference.seeded import images, parameter

import im2colnet as ic
from im2colnet import models
from im2colnet.graph.parameters import state_shapes

REFERENCE = json.loads((Path(__file__).parents[1] / "reference/torchvision_models.json").read_text())
HIDDEN = 32  # of VGG, as the reference was made


def build(name, classes, **options):
    options |= {"stem": "large"} if name.startswith("resnet") else {}
    return models.make(name, classes, 3, 224, **options)


def assert_output(net, x, expected, part):
    """Compare what a network computes; ``part`` is the error that is allowed, as a part of the largest number."""
    net.input_shape = None  # it is asked for smaller images than it was made for
    np.testing.assert_allclose(net.predict(x), expected, rtol=0, atol=part * np.abs(expected).max())


@pytest.mark.parametrize("name", REFERENCE)
def test_names_and_shapes(name):
    net, reference = build(name, 1000), REFERENCE[name]
    assert state_shapes(net.graph) == {key: tuple(shape) for key, shape in reference["shapes"].items()}
    assert list(state_shapes(net.graph)) == list(reference["shapes"])
    assert net.graph.size == reference["parameters"]


@pytest.mark.parametrize("name", REFERENCE)
def test_outputs(name):
    net = build(name, 10, **({"hidden": HIDDEN} if name.startswith("vgg") else {}))
    state = {key: parameter(key, shape) for key, shape in state_shapes(net.graph).items()}
    net.load_state_dict(state | {"bn1.num_batches_tracked": np.array(7)})
    x = images(64)
    assert_output(net, x, REFERENCE[name]["output"], 1e-5)


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v3_small", "densenet121"])
def test_outputs_in_float64(name):
    net = build(name, 10).init(0, "float64")
    net.load_state_dict({key: parameter(key, shape) for key, shape in state_shapes(net.graph).items()})
    assert_output(net, images(64).astype("float64"), REFERENCE[name]["output"], 1e-11)


@pytest.mark.parametrize("name", ["resnet18", "resnet34", "resnet50"])
def test_the_small_stem_differs_in_the_first_convolution_alone(name):
    small, large = (state_shapes(models.MODELS[name](stem=stem).graph) for stem in ("small", "large"))
    assert small.pop("conv1.weight") == (64, 3, 3, 3)
    assert large.pop("conv1.weight") == (64, 3, 7, 7)
    assert small == large
    assert models.MODELS[name](stem="small").graph.shapes((64, 3, 64, 1))[-1] == (10, 1)
    assert "maxpool" not in models.MODELS[name]().layers
    with pytest.raises(ic.ShapeError, match="stem must be 'small' or 'large', got 'tiny'"):
        models.MODELS[name](stem="tiny")


def test_a_state_of_the_earlier_resnet18_is_refused_with_the_reason():
    """It was a Sequential, whose names are numbers."""
    state = {"0.weight": np.zeros((64, 3, 3, 3)), "3.body.0.weight": np.zeros((64, 64, 3, 3))}
    with pytest.raises(ic.CheckpointError) as error:
        models.resnet18().load_state_dict(state)
    assert "conv1.weight is missing" in str(error.value)
    assert "names of an ic.Sequential" in str(error.value)
    assert "Until models.resnet18 had torchvision's names" in str(error.value)


@pytest.mark.parametrize("name", [name for name in REFERENCE if name not in ("resnet34", "vgg16", "vgg16_bn")])
def test_a_few_steps_of_training(name):
    """The others have the same blocks, only more of them."""
    vgg = {"hidden": 64, "dropout": 0} if name.startswith("vgg") else {}
    net, labels = build(name, 3, **vgg), np.arange(12) % 3
    net.input_shape = None
    x = np.random.default_rng(1).standard_normal((3, 3, 32, 32))[labels] + normal(12, 3, 32, 32)
    trainer = ic.Trainer(net.init(0), optimizer=ic.Adam(3e-5 if vgg else 5e-4))
    losses = [trainer.step(x.astype("float32"), labels) for _ in range(10)]
    assert np.mean(losses[-3:]) < 0.8 * losses[0], losses
