"""The graphs of nine well-known networks, which come with the package onnx without their weights.

The weights are drawn here. Compared is what enters the softmax: with random weights the softmax is 0 and 1 only, and
agrees whatever was computed.
"""

from pathlib import Path

import numpy as np
import pytest

import im2colnet as ic

onnx = pytest.importorskip("onnx", reason="the graphs come with the package onnx")
runtime = pytest.importorskip("onnxruntime", reason="onnxruntime says what the graphs compute")

FOLDER = Path(onnx.__file__).parent / "backend/test/data/light"
NETS = sorted(path.stem for path in FOLDER.glob("light_*.onnx"))


def with_weights(path):
    """The model with drawn weights in place of its constants, without its softmax."""
    model = onnx.load(path)
    graph = model.graph
    shapes = {t.name: onnx.numpy_helper.to_array(t) for t in graph.initializer}
    some = np.random.default_rng(0).standard_normal(1_000_003, dtype=np.float32)  # repeated: VGG has 143 million
    means = {node.input[3] for node in graph.node if node.op_type == "BatchNormalization"}
    nodes = []
    for node in graph.node:
        if node.op_type == "ConstantOfShape":
            shape, name = tuple(int(n) for n in shapes[node.input[0]]), node.output[0]
            drawn = np.resize(some, shape)
            if len(shape) > 1:
                drawn *= np.float32(np.sqrt(2 / np.prod(shape[1:])))
            elif name not in means:  # a variance is positive
                drawn = 1 + np.float32(0.5) * np.tanh(drawn)
            graph.initializer.append(onnx.numpy_helper.from_array(drawn, name))
        elif node.op_type == "Softmax":
            graph.output[0].name = node.input[0]
            graph.output[0].type.tensor_type.ClearField("shape")
        else:
            nodes.append(node)
    del graph.node[:]
    graph.node.extend(nodes)
    return model


@pytest.mark.parametrize("name", NETS)
def test_a_graph_gives_what_onnxruntime_gives(name):
    model = with_weights(FOLDER / f"{name}.onnx")
    known = {tensor.name for tensor in model.graph.initializer}
    (given,) = (i for i in model.graph.input if i.name not in known)
    shape = [dim.dim_value for dim in given.type.tensor_type.shape.dim]
    images = np.random.default_rng(1).standard_normal(shape, dtype=np.float32)
    options = runtime.SessionOptions()
    options.log_severity_level = 4
    session = runtime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    (expected,) = session.run(None, {given.name: images})
    net = ic.onnx.load(model, input_shape=tuple(shape[1:]))
    found = net.predict(images)
    assert np.std(expected) > 1e-3 * np.abs(expected).max() > 0
    assert np.abs(found - expected).max() <= 1e-5 * np.abs(expected).max()
    if net.flat.size > 100_000_000:  # a second prediction would take as long as all other tests here
        return
    three = np.concatenate([images, images[..., ::-1], 0.5 * images])
    assert np.abs(net.predict(three)[:1] - expected).max() <= 1e-5 * np.abs(expected).max()


def test_there_are_nine():
    assert len(NETS) == 9
