"""Networks as ONNX: the ready-made ones, random ones, names, what belongs to a network, the file itself."""

import re

import numpy as np
import onnx
import pytest
from helpers import normal
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx_written import assert_computes, computed, model_of, seeded, small_model
from small_networks import residual, with_both

import im2colnet as ic
from im2colnet.errors import CheckpointError, ModelError, ShapeError


def assert_written(net, shape=None, opset=22, n=2):
    """Another program computes what the network predicts, which depends on the images."""
    model = model_of(net, shape, opset)
    x = normal(n, *(shape or net.input_shape), seed=3, dtype="float32")
    expected = net.predict(x)
    for each in expected if isinstance(expected, tuple) else (expected,):
        assert np.ptp(each, axis=0).max() > 1e-3 * np.abs(each).max()
    assert_computes(model, x, expected)
    return model


# Networks -----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", sorted(ic.models.MODELS))
def test_every_ready_made_network(name):
    net = small_model(name)
    model = assert_written(net)
    assert {each.name for each in model.graph.initializer if "/" not in each.name} == {*net.state_dict()}


POOLS = ic.MaxPool2d, ic.AvgPool2d


@st.composite
def layers(draw, channels):
    """A layer that takes images of so many channels, and how many it makes."""
    number = st.integers
    pair = st.tuples(number(1, 4), number(1, 4))
    kind = draw(st.sampled_from(["conv", "transposed", "pool", "pad", "activation", "norm", "upsample", "shuffle"]))
    if kind in ("conv", "transposed"):
        groups = draw(st.sampled_from([1, channels]))
        filters = groups * draw(number(1, 3))
        kernel, stride, dilation = draw(pair), draw(number(1, 3)), draw(number(1, 2))
        if kind == "transposed":
            more = draw(number(0, max(stride, dilation) - 1))
            padding = draw(number(0, 1))
            layer = ic.ConvTranspose2d(channels, filters, kernel, stride, padding, more, groups, dilation=dilation)
        else:
            sides = st.tuples(number(0, 3), number(0, 3))
            mode = draw(st.sampled_from(["zeros", "zeros", "reflect", "replicate", "circular"]))
            padding, bias = (draw(sides), draw(sides)), draw(st.booleans())
            layer = ic.Conv2d(channels, filters, kernel, stride, padding, dilation, groups, bias, mode)
        return layer, filters
    if kind == "pool":
        kernel, stride, ceil = draw(pair), draw(st.none() | pair), draw(st.booleans())
        padding = tuple((draw(number(0, k // 2)), draw(number(0, k // 2))) for k in kernel)
        pool = draw(st.sampled_from(POOLS))
        options = {} if pool is ic.MaxPool2d else {"count_include_pad": draw(st.booleans())}
        dilation = draw(number(1, 2))
        return pool(kernel, stride, padding, dilation=dilation, ceil_mode=ceil, **options), channels
    if kind == "pad":
        pads = draw(st.tuples(*[number(-1, 3)] * 4))
        return draw(st.sampled_from([ic.ZeroPad2d, ic.ReflectionPad2d, ic.ReplicationPad2d, ic.CircularPad2d]))(
            pads
        ), channels
    if kind == "norm":
        return draw(st.sampled_from([ic.BatchNorm2d(channels), ic.GroupNorm(1, channels)])), channels
    if kind == "upsample":
        size = draw(st.tuples(number(1, 9), number(1, 9)))
        return ic.Upsample(size=size, mode=draw(st.sampled_from(["nearest", "bilinear"]))), channels
    if kind == "shuffle":
        return ic.ChannelShuffle(draw(st.sampled_from([1, channels]))), channels
    return draw(st.sampled_from([ic.ReLU(), ic.Hardswish(), ic.SiLU(), ic.Softmax(1), ic.LeakyReLU(0.3)])), channels


@st.composite
def networks(draw):
    """A network of a few random layers, each of which reads one of those before it, and the shape of its images."""
    shape = (draw(st.integers(1, 4)), draw(st.integers(4, 9)), draw(st.integers(4, 9)))
    channels, entries = {"input": shape[0]}, {}
    for i in range(draw(st.integers(1, 4))):
        read = draw(st.sampled_from(list(channels)))
        layer, made = draw(layers(channels[read]))
        entries[f"layer{i}"], channels[f"layer{i}"] = (layer, read), made
    read = {name for _, name in entries.values()}
    return ic.Net(entries, outputs=[name for name in entries if name not in read]), shape


@settings(max_examples=100, deadline=None, derandomize=True)
@given(networks(), st.sampled_from([22, 22, 13]))
def test_random_networks(drawn, opset):
    net, shape = drawn
    try:
        net.graph.shapes((shape[1], shape[0], shape[2], 1))
    except ShapeError:
        return
    seeded(net, shape)
    try:
        model = model_of(net, opset=opset)
    except ModelError:
        assert opset < 22
        return
    x = normal(2, *shape, dtype="float32")
    assert_computes(model, x, net.predict(x))


def test_sequences_and_features():
    body = [
        ic.Conv1d(2, 4, 3, padding=1),
        ic.BatchNorm1d(4),
        ic.ReLU(),
        ic.MaxPool1d(2),
        ic.Flatten(),
        ic.Linear(16, 3),
    ]
    assert_written(seeded(ic.Sequential(body)), (2, 8))
    assert_written(seeded(ic.Sequential([ic.Linear(5, 4), ic.BatchNorm1d(4), ic.Softplus()])), (5,))


def test_batch_norm_without_running_statistics_normalises_by_the_batch():
    net = seeded(ic.Sequential([ic.Conv2d(2, 3, 3), ic.BatchNorm2d(3, track_running_stats=False), ic.ReLU()]))
    assert_written(net, (2, 6, 5), n=5)


def test_numbers_of_64_bits_stay_so():
    net = seeded(
        ic.Sequential([ic.Upsample(2, mode="bilinear"), ic.Flatten(), ic.Linear(48, 3), ic.Softmax(1)]), dtype="float64"
    )
    model, x = model_of(net, (3, 2, 2)), normal(2, 3, 2, 2)
    (found,) = computed(model, x)
    np.testing.assert_allclose(found, net.predict(x), rtol=1e-13)


# Names --------------------------------------------------------------------------------------------------------------
def shapes_of(values):
    """The dims of inputs or outputs, by name."""
    return {each.name: [d.dim_param or d.dim_value for d in each.type.tensor_type.shape.dim] for each in values}


def test_the_batch_is_called_N_and_a_single_output_output():
    model = assert_written(seeded(with_both()), (3, 8, 8))
    assert shapes_of(model.graph.input) == {"input": ["N", 3, 8, 8]}
    assert shapes_of(model.graph.output) == {"output": ["N", 4]}


def test_several_outputs_have_the_names_of_their_layers():
    stem = ic.Sequential([ic.Conv2d(3, 4, 3), ic.ReLU()])
    heads = {"box": (ic.Conv2d(4, 4, 1), "stem"), "class": (ic.Sequential([ic.Conv2d(4, 2, 1), ic.Softmax(1)]), "stem")}
    net = seeded(ic.Net({"stem": stem, **heads}, outputs=["class", "stem", "box"]))
    model = assert_written(net, (3, 6, 6))
    assert shapes_of(model.graph.output) == {"class": ["N", 2, 4, 4], "stem": ["N", 4, 4, 4], "box": ["N", 4, 4, 4]}


def test_the_outputs_are_those_of_predict_and_not_the_scores():
    layers = {"flat": ic.Flatten(), "fc": ic.Linear(8, 3), "softmax": ic.Softmax(1)}
    assert_written(seeded(ic.Net(layers, scores=["fc"])), (2, 2, 2))


@pytest.mark.parametrize("layers", [[ic.Dropout(0.4)], [ic.ReLU(), ic.Dropout2d(0.1)], [ic.StochasticDepth(0.2)]])
def test_dropout_does_nothing(layers):
    assert_written(ic.Sequential(layers).init(), (2, 3, 3))


def test_layers_that_are_called_as_something_else_is():
    """Such as an attribute that is called input, and one whose name is that of another one's weight."""

    class Odd(ic.Network):
        def __init__(self):
            self.input, self.output = ic.Conv2d(3, 3, 1), ic.ReLU()
            self.a = {"weight": ic.Conv2d(3, 3, 1), "b/Add": ic.ReLU(), "b": ic.Mish()}

        def define(self, x):
            x = self.output(self.input(x))
            return self.a["b"](self.a["b/Add"](self.a["weight"](x)) + x)

    assert_written(seeded(Odd()), (3, 4, 4), opset=13)


def test_nodes_have_the_names_of_layers():
    model = model_of(seeded(with_both()), (3, 8, 8))
    assert [node.name for node in model.graph.node] == ["0", "1", "2", "3", "4", "5"]
    model = model_of(seeded(ic.Sequential([residual(ic.Conv2d(2, 2, 1)), ic.SiLU()])), (2, 3, 3))
    assert [node.name for node in model.graph.node] == ["0.body.0", "0.add", "1/Sigmoid", "1"]


# What belongs to a network -----------------------------------------------------------------------------------------
@pytest.mark.parametrize("shape", [(2, 4, 5), (2, 6), (2,)])
def test_images_are_normalised_as_the_network_does(shape):
    layers = [ic.Flatten(), ic.Linear(int(np.prod(shape)), 3)]
    net = seeded(ic.Sequential(layers))
    net.normalization = (0.3, 0.4), (0.2, 5)
    assert_written(net, shape)


def test_its_own_input_size_is_taken_unless_another_one_is_given():
    net = seeded(ic.models.resnet20(input_size=16))
    assert shapes_of(model_of(net).graph.input) == {"input": ["N", 3, 16, 16]}
    assert shapes_of(model_of(net, (3, 24, 8)).graph.input) == {"input": ["N", 3, 24, 8]}


# Refusals -----------------------------------------------------------------------------------------------------------
class Unknown(ic.layers.Layer):
    def forward(self, x, ctx):
        return 2 * x


def test_all_layers_that_cannot_be_written_are_named():
    net = ic.Sequential([Unknown(), ic.Flatten(), Unknown()]).init()
    with pytest.raises(ModelError) as raised:
        model_of(net, (2, 3, 3))
    first, second = str(raised.value).split("\n")
    assert first.startswith("layer '0', Unknown(): a Unknown cannot be written as ONNX")
    assert second.startswith("layer '2', Unknown(): ")
    assert "to_onnx(self, node, inputs)" in first


def test_what_a_lower_opset_cannot_say():
    circular = ic.Sequential([ic.Conv2d(2, 2, 3, padding=1, padding_mode="circular")]).init()
    with pytest.raises(ModelError, match="since opset 19: give opset=19 or more, not 18"):
        model_of(circular, (2, 4, 4), opset=18)
    far = ic.Sequential([ic.MaxPool2d((1, 2), (1, 6), dilation=(1, 4), ceil_mode=True)]).init()
    with pytest.raises(ModelError, match=r"reaches 3 places beyond the width.*give opset=22"):
        model_of(far, (1, 2, 8), opset=21)
    assert_written(far, (1, 2, 8))


@pytest.mark.parametrize("opset", [6, 1000])
def test_opsets_that_there_are_not(opset):
    with pytest.raises(ModelError, match="opset must be from 7 to"):
        model_of(seeded(with_both()), (3, 8, 8), opset)


def test_what_is_no_network():
    with pytest.raises(ShapeError, match=r"ic.Sequential\(\[layer\]\), got Linear\(3, 4\)"):
        model_of(ic.Linear(3, 4))


def test_the_shape_of_images_must_be_known():
    with pytest.raises(ShapeError, match="give input_shape="):
        model_of(seeded(ic.Sequential([ic.Conv2d(3, 4, 3)])))


class Wrong(ic.ReLU):
    def __init__(self, write):
        self.write = write

    def to_onnx(self, node, inputs):
        return self.write(node, inputs[0])


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (lambda node, x: node("Rellu", x), "layer '0'.*ONNX has no operator 'Rellu'"),
        (lambda node, x: node("Relu", x, slope=2), "layer '0'.*ONNX's Relu has no slope"),
        (lambda node, x: None, "layer '0'.*to_onnx must return the name of a value.*got None"),
        (lambda node, x: node("Upsample", x), "layer '0'.*opset 22 has no Upsample any more"),
        (lambda node, x: "somewhere", "invalid ONNX"),
        (lambda node, x: node("Reshape", x, shape=[0, 5]), "invalid ONNX"),
        (lambda node, x: node("Relu", node("Cast", x, to=onnx.TensorProto.INT32)), "invalid ONNX"),
    ],
)
def test_mistakes_of_a_layer_that_says_itself_how_it_is_written(write, message):
    with pytest.raises(ModelError, match=re.compile(message, re.DOTALL)):
        model_of(ic.Sequential([Wrong(write)]).init(), (2, 3, 3))


# The file -----------------------------------------------------------------------------------------------------------
def test_the_same_network_is_the_same_file(tmp_path):
    for name in "a", "b":
        ic.onnx.save(seeded(ic.models.resnet20()), tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_a_file_says_who_wrote_it_and_no_time(tmp_path):
    ic.onnx.save(seeded(ic.models.notebook()), tmp_path / "net.onnx")
    model = onnx.load(tmp_path / "net.onnx")
    assert (model.producer_name, model.producer_version) == ("im2colnet", ic.__version__)
    assert [(each.domain, each.version) for each in model.opset_import] == [("", 22)]
    assert not model.metadata_props
    assert not model.doc_string


def test_what_fails_leaves_the_file_before_it(tmp_path):
    path = tmp_path / "net.onnx"
    path.write_bytes(b"before")
    with pytest.raises(ModelError):
        ic.onnx.save(ic.Sequential([Unknown()]).init(), path, (1, 2, 2))
    assert path.read_bytes() == b"before"
    with pytest.raises(CheckpointError, match="there is no folder"):
        ic.onnx.save(seeded(ic.models.notebook()), tmp_path / "nowhere" / "net.onnx")
    assert [*tmp_path.iterdir()] == [path]


def test_there_is_no_second_file_for_a_few_numbers(tmp_path):
    ic.onnx.save(ic.Sequential([ic.ReLU()]).init(), tmp_path / "net.onnx", (2, 3, 3), external_data=True)
    assert [path.name for path in tmp_path.iterdir()] == ["net.onnx"]


def test_weights_in_a_second_file(tmp_path):
    net = seeded(ic.models.lenet5())
    ic.onnx.save(net, tmp_path / "net.onnx", external_data=True)
    ic.onnx.save(net, tmp_path / "again.onnx", external_data=True)
    (beside,) = tmp_path.glob("net.onnx.*.data")
    assert (tmp_path / "net.onnx").stat().st_size < 8000
    assert beside.read_bytes() == (tmp_path / beside.name.replace("net", "again")).read_bytes()
    onnx.checker.check_model(str(tmp_path / "net.onnx"), full_check=True)
    model = onnx.load(tmp_path / "net.onnx")  # with the weights of the second file
    x = normal(2, 1, 28, 28, dtype="float32")
    assert_computes(model, x, net.predict(x))
    found = {each.name: onnx.numpy_helper.to_array(each) for each in model.graph.initializer}
    for name, array in net.state_dict().items():
        np.testing.assert_array_equal(found[name], array)
