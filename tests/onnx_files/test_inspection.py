"""``ic.onnx.inspect``: what is in a file, what of it is missing, what the network costs."""

import json

import numpy as np
import pytest
from onnx_files import graph, model, node

import im2colnet as ic

WEIGHT = np.zeros((4, 3, 3, 3), "float32")
DENSE = np.zeros((5, 144), "float32")
NODES = [
    node("Conv", "x w", "c"),
    node("BatchNormalization", "c one zero zero one", "n"),
    node("Relu", "n", "r"),
    node("Flatten", "r", "f"),
    node("Gemm", "f v", "s", transB=1, name="fc"),
    node("Softmax", "s", "y"),
]
ARRAYS = {"w": WEIGHT, "v": DENSE, "one": np.ones(4, "float32"), "zero": np.zeros(4, "float32")}
GOOD = model(NODES, arrays=ARRAYS)


def test_a_file_that_can_be_loaded():
    GOOD.producer_name, GOOD.producer_version = "torch\x1b", "2.0"
    facts = ic.onnx.inspect(GOOD, batch_size=8)
    assert json.loads(json.dumps(facts)) == facts
    assert (facts["opset"], facts["producer"], facts["bytes"]) == (17, "torch\x1b 2.0", 4 * (108 + 720 + 8))
    assert facts["inputs"] == [{"name": "x", "shape": ["N", 3, 8, 8], "type": "float32"}]
    assert facts["outputs"] == [{"name": "y", "shape": ["N", 5]}]
    assert [(row["operator"], row["nodes"]) for row in facts["operators"]] == [(n.op_type, 1) for n in NODES]
    assert not any(row["missing"] or row["refused"] for row in facts["operators"])
    assert (facts["missing"], facts["problems"]) == ([], [])
    assert facts["parameters"] == 108 + 720 + 8
    assert facts["notes"] == [
        "it returns the probabilities of a softmax; in training the loss gets the scores before the softmax"
    ]


def test_the_costs_are_those_of_the_network():
    net = ic.onnx.load(GOOD)
    facts, layers = ic.onnx.inspect(GOOD, batch_size=8), net.summary_facts((3, 8, 8), 1)
    assert facts["input_shape"] == [3, 8, 8]
    assert (facts["flops"], facts["layers"]) == (layers["flops"], len(layers["layers"]))
    state = 8  # the running statistics
    for purpose in ("inference", "training"):
        planned = net.plan(8, training=purpose == "training").memory()
        assert facts["memory"][purpose] == 4 * (net.graph.size + state) + sum(planned.values())
    assert facts["memory"]["batch_size"] == 8
    assert "the loss gets the output of fc as scores" in net.summary()  # and so says its summary


def lacking(shape=("N", 3, 8, 8)):
    """A file with two operators that are missing, one of them twice, and a node that cannot be read."""
    own = node("FusedConv", "b", "c", name="fused")
    own.domain = "com.microsoft"
    nodes = [
        node("Conv", "x w", "a"),
        node("LSTM", "a", "b", name="rnn"),
        own,
        node("LSTM", "c", "d"),
        node("Softmax", "x", "e", axis=0),
        node("Add", "d e", "y"),
    ]
    return model(nodes, {"x": shape}, arrays={"w": WEIGHT}, domains=["com.microsoft"])


def test_all_that_is_missing_is_told_at_once():
    facts = ic.onnx.inspect(lacking())
    lacks, refused = facts["missing"]
    assert lacks.startswith("the ONNX model has 2 operators that im2colnet lacks: LSTM (2 nodes, the first 'rnn'),")
    assert "com.microsoft.FusedConv (node 'fused', reads 'b')" in lacks
    assert refused.startswith("node 'e' (Softmax): ")
    rows = {row["operator"]: (row["nodes"], row["missing"], row["refused"]) for row in facts["operators"]}
    assert rows["LSTM"] == (2, True, 0)
    assert rows["com.microsoft.FusedConv"] == (1, True, 0)
    assert rows["Softmax"] == (1, False, 1)
    assert rows["Conv"] == (1, False, 0)
    assert [problem["node"] for problem in facts["problems"]] == ["rnn", "fused", "d", "e"]
    assert "parameters" not in facts
    with pytest.raises(ic.ModelError) as caught:
        ic.onnx.load(lacking())
    assert str(caught.value) == "\n".join(facts["missing"])


def test_without_the_size_of_the_images_operators_are_looked_at():
    facts = ic.onnx.inspect(lacking(("N", 3, None, None)))
    shape, lacks = facts["missing"]
    assert shape == "input 'x' is (N, 3, ?, ?): give input_shape=(3, height, width), since shapes are fixed"
    assert "LSTM (2 nodes, the first 'rnn'), com.microsoft.FusedConv" in lacks
    assert facts["inputs"][0]["shape"] == ["N", 3, None, None]
    assert ic.onnx.inspect(lacking(("N", 3, None, None)), (3, 8, 8))["missing"][0] == lacks


def test_a_branch_that_is_not_taken_may_hold_anything():
    then, other = graph([node("Relu", "x", "y")], {}), graph([node("LSTM", "x", "y")], {})
    made = model([node("If", "c", "y", then_branch=then, else_branch=other)], arrays={"c": np.array(True)})
    facts = ic.onnx.inspect(made)
    assert facts["missing"] == []
    assert {row["operator"] for row in facts["operators"]} == {"If", "Relu", "LSTM"}


@pytest.mark.parametrize(
    ("last", "note"),
    [
        ("LogSoftmax", "it returns the logarithms of a softmax: train it with NLLLoss, not with CrossEntropyLoss"),
        (
            "Sigmoid",
            "it returns the output of a sigmoid, but BCEWithLogitsLoss contains a sigmoid: train without",
        ),
        ("Relu", None),
    ],
)
def test_what_the_last_layer_means_for_training(last, note):
    notes = ic.onnx.inspect(model([*NODES[:-1], node(last, "s", "y")], arrays=ARRAYS))["notes"]
    assert [found.startswith(note or "-") for found in notes] == [True] * (note is not None)


def test_several_outputs_are_named():
    facts = ic.onnx.inspect(model([*NODES, node("Tanh", "c", "z")], outputs=("y", "z"), arrays=ARRAYS))
    assert [row["shape"] for row in facts["outputs"]] == [["N", 5], ["N", 4, 6, 6]]
    assert "output 'y' is the probabilities of a softmax" in facts["notes"][-1]


def test_many_convolutions_without_a_batch_norm():
    weight = np.zeros((3, 3, 1, 1), "float32")
    for n in (9, 10):
        nodes = [node("Conv", f"x{i} w" if i else "x w", f"x{i + 1}") for i in range(n)]
        notes = ic.onnx.inspect(model([*nodes, node("Relu", f"x{n}", "y")], arrays={"w": weight}))["notes"]
        assert any(f"it has {n} convolutions and no batch norm" in note for note in notes) == (n == 10)


def test_notes_of_what_is_read_in_another_sense():
    halves = {name: array.astype("float16") for name, array in ARRAYS.items()}
    notes = ic.onnx.inspect(model(NODES, arrays=halves))["notes"]
    assert "4 of its tensors are in half precision: they are read as float32" in notes


def test_files_that_cannot_be_read_are_errors():
    with pytest.raises(ic.ModelError, match="the file is empty"):
        ic.onnx.inspect(b"")
    with pytest.raises(ic.ModelError, match="the limit is 1 KiB"):
        ic.onnx.inspect(GOOD, max_bytes=1024)
    with pytest.raises(ic.ShapeError, match="batch_size must be a positive integer"):
        ic.onnx.inspect(GOOD, batch_size=0)


def test_sizes_of_terabytes_are_only_counted():
    """No array is made to look at a file."""
    made = model([node("Relu", "x", "y")], {"x": ("N", 3, 10**5, 10**5)})
    assert "it makes arrays of (3, 100000, 100000)" in ic.onnx.inspect(made)["missing"][0]
    assert ic.onnx.inspect(made, max_bytes=10**15)["memory"]["training"] > 10**11
    made = model([node("Relu", "x", "y")], {"x": ("N", 3, 10**9, 10**9)})
    assert "more than can be planned" in ic.onnx.inspect(made, max_bytes=10**30)["missing"][0]
