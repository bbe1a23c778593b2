"""What a loaded network runs in evaluation: nothing is left of what an exporter has written beside the layers."""

import numpy as np
import pytest
from helpers import normal
from onnx_files import model, node

import im2colnet as ic
from im2colnet.graph.passes import lowered


def runs(net):
    """The layers that the network runs in evaluation, and the functions that they apply too."""
    graph = lowered(net.graph, ic.get_backend("numpy"), training=False)
    return [(type(each.layer).__name__, each.activation) for each in graph.nodes if not each.fused]


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v3_small"])
def test_a_ready_model_runs_the_same_layers_after_export_and_import(name, tmp_path):
    net = getattr(ic.models, name)(input_size=32).init(seed=0)
    ic.onnx.save(net, tmp_path / "net.onnx")
    assert runs(ic.onnx.load(tmp_path / "net.onnx")) == runs(net)


def test_constants_identity_and_dropout_leave_nothing_behind():
    nodes = [
        node("Conv", "x w.weight", "a", pads=[1, 1, 1, 1]),
        node("Identity", "a", "b"),
        node("Mul", "b scale", "c"),
        node("Add", "zero c", "d"),
        node("Relu", "d", "e"),
        node("Dropout", "e", "y"),
    ]
    arrays = {"w.weight": normal(4, 3, 3, 3), "scale": normal(4, 1, 1), "zero": np.zeros(())}
    net = ic.onnx.load(model(nodes, arrays={name: a.astype("float32") for name, a in arrays.items()}))
    assert [*net.parameters()] == ["w.weight"]
    # dropout is the value that it reads
    assert runs(net) == [("NormalizedConv2d", "relu"), ("Dropout", None)]
