"""What is written as ONNX, and what another program makes of it."""

import warnings

import numpy as np
import onnx
import pytest
from onnx.reference import ReferenceEvaluator
from reference.seeded import parameter

import im2colnet as ic
from im2colnet.onnx import write
from im2colnet.testing.inputs import Part

try:
    import onnxruntime
except ImportError:  # there is none for this machine: the slow evaluator of onnx computes in its place
    onnxruntime = None

#: what onnx's own evaluator computes otherwise than ONNX says
WRONG_IN_REFERENCE = "ConvTranspose", "LRN", "MaxPool", "AveragePool", "Pad"


def seeded(net, shape=None, dtype="float32"):
    """The network with parameters by which its outputs depend on the images."""
    net.init(0, dtype)
    if shape is not None:
        net.input_shape = tuple(shape)
    state = {name: parameter(name, array.shape) for name, array in net.state_dict().items()}
    # powers of a constant are numbers only where it is positive
    net.load_state_dict({name: abs(value) if name.endswith("constant") else value for name, value in state.items()})
    return net


def small_model(name):
    """A ready-made network on small images, with small layers in the place of those with most parameters."""
    options = {"width": 0.25} if name == "mobilenet" else {}
    net = ic.models.make(name, 4, 3, max(16, ic.models.MODELS[name].smallest), **options)
    if name.startswith("vgg1"):  # on images of 224 the windows of its pooling are equal, as on these to one pixel
        net.put("avgpool", ic.AdaptiveAvgPool2d(1))
        for layer, sizes in ("0", (512, 16)), ("3", (16, 16)), ("6", (16, 4)):
            net["classifier"].put(layer, ic.Linear(*sizes))
    net = seeded(net)
    if name == "squeezenet1_1":  # its last layer is a ReLU
        net.load_state_dict({"classifier.1.bias": np.full(4, 3)}, strict=False)
    return net


def model_of(net, shape=None, opset=22):
    """A network as a model of the package onnx, which has checked it."""
    model = write.model_of(net, shape, opset)
    onnx.checker.check_model(model, full_check=True)
    return model


def computed(model, x):
    """The outputs of a model for a batch, computed by another program than im2colnet."""
    (name,) = [each.name for each in model.graph.input]
    if onnxruntime is None or model.graph.input[0].type.tensor_type.elem_type == onnx.TensorProto.DOUBLE:
        operators = {node.op_type for node in model.graph.node}
        if wrong := operators.intersection(WRONG_IN_REFERENCE):
            pytest.skip(f"without onnxruntime: onnx's own evaluator does not keep to ONNX for {sorted(wrong)}")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return ReferenceEvaluator(model).run(None, {name: x})
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # what it cannot do is an error
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return session.run(None, {name: x})


def assert_computes(model, x, expected):
    """Another program gets the same, up to 1e-5 of the largest number."""
    several = expected if isinstance(expected, tuple) else (expected,)
    for found, own in zip(computed(model, x), several, strict=True):
        assert found.shape == own.shape
        assert np.abs(found - own).max() <= 1e-5 * np.abs(own).max()


def write_part(layer, node, inputs):
    """Some of the features, as images."""
    features = node("Slice", *inputs, starts=[layer.start], ends=[layer.start + np.prod(layer.shape)], axes=[1])
    return node("Reshape", features, shape=[0, *layer.shape])


@pytest.fixture(autouse=True)
def part(monkeypatch):
    """What takes the inputs of a layer from one input can be written."""
    monkeypatch.setattr(Part, "to_onnx", write_part, raising=False)
