"""Every layer as ONNX, by its examples: another program computes the same."""

import pytest
from helpers import layer_examples, normal
from onnx_written import assert_computes, model_of, part, seeded  # noqa: F401 - part is a fixture

import im2colnet as ic
from im2colnet.errors import ModelError
from im2colnet.onnx.exporters import EXPORTERS, exporter_of
from im2colnet.testing.inputs import input_shape_of, network_of

EXAMPLES = layer_examples()


def written(case, layer, shapes, opset=22):
    """A model of the layer, a batch for it, and what the layer gives."""
    shape = input_shape_of(*shapes)
    net = seeded(network_of(layer, *shapes), shape)
    x = case.domain(normal(3, *shape, dtype="float32"))
    return model_of(net, opset=opset), x, net.predict(x)


@pytest.mark.parametrize(("case", "layer", "shapes"), EXAMPLES)
def test_another_program_computes_the_same(case, layer, shapes):
    assert_computes(*written(case, layer, shapes))


@pytest.mark.parametrize(("opset", "most"), [(7, 20), (11, 8), (17, 6), (23, 0)])
def test_in_other_opsets_too_or_the_error_says_from_which_on(opset, most):
    refused = {}
    once = {repr(layer): (case, layer, shapes) for case, layer, shapes in (example.values for example in EXAMPLES)}
    for case, layer, shapes in once.values():
        try:
            found = written(case, layer, shapes, opset)
        except ModelError as error:
            refused[type(layer).__name__] = str(error)
        else:
            assert_computes(*found)
    assert all("give opset=" in message for message in refused.values())
    assert len(refused) <= most


def public_layers():
    classes = [getattr(ic, name) for name in ic.__all__]
    return [each for each in classes if isinstance(each, type) and issubclass(each, ic.layers.Layer)]


def test_every_public_layer_has_an_exporter():
    networks = {each for each in public_layers() if issubclass(each, ic.Network)}  # of them their layers are written
    without = {each for each in public_layers() if each not in EXPORTERS} - networks - {ic.layers.Layer}
    assert not without, "a function in im2colnet/onnx/exporters says how a layer is written"


class Doubled(ic.ReLU):
    def prepare_forward(self, x, ctx):
        yield lambda: ctx.xp.multiply(x, 2, out=ctx.y)


class Checked(ic.ReLU):
    def output_shape(self, x):
        assert len(x) == 4
        return x


class Written(Doubled):
    def to_onnx(self, node, inputs):
        return node("Mul", *inputs, 2)


class NotWritten(Written):
    forward = ic.layers.Layer.forward


def test_a_layer_derived_from_another_is_written_as_that_one_unless_it_computes_otherwise():
    assert exporter_of(Checked()) is EXPORTERS[ic.ReLU]
    for own in Doubled(), NotWritten():
        with pytest.raises(ModelError, match=f"a {type(own).__name__} cannot be written as ONNX"):
            exporter_of(own)


def test_a_layer_says_itself_how_it_is_written():
    net = seeded(ic.Sequential([ic.Conv2d(2, 3, 3), Written()]), (2, 5, 6))
    x = normal(2, 2, 5, 6, dtype="float32")
    assert_computes(model_of(net), x, net.predict(x))
