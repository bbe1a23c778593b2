"""What cannot be read is said in one message: which nodes, and why."""

import numpy as np
import pytest
from helpers import normal
from onnx_files import FLOAT, model, node

import im2colnet as ic

W = {"w": normal(4, 3, 3, 3, dtype="float32")}


def refused(nodes, *texts, arrays=None, inputs=None, **options):
    """Assert that a file is refused by a message with these texts."""
    with pytest.raises(ic.ModelError) as caught:
        ic.onnx.load(model(nodes, inputs, arrays=W if arrays is None else arrays, **options))
    for text in texts:
        assert text in str(caught.value)
    return str(caught.value)


def test_all_operators_that_are_missing_are_named_at_once():
    nodes = [
        node("Conv", "x w", "conv5"),
        node("LSTM", "conv5", "a", name="rnn"),
        node("NonMaxSuppression", "a", "b", name="nms"),
        node("FusedConv", "conv5", "c", name="c1", domain="com.microsoft"),
        node("FusedConv", "c", "d", name="c2", domain="com.microsoft"),
        node("Relu", "b", "e"),
        node("Add", "e d", "y"),
    ]
    refused(
        nodes,
        "has 3 operators that im2colnet lacks: LSTM (node 'rnn', reads 'conv5'), NonMaxSuppression (node 'nms'",
        "com.microsoft.FusedConv (2 nodes, the first 'c1')",
        "im2colnet onnx --operators",
        domains=["com.microsoft"],
    )


def test_operators_that_are_missing_and_nodes_that_are_refused_come_together():
    nodes = [
        node("Resize", "x _ s", "a", name="resize1", mode="area"),
        node("Transpose", "x", "b", name="p", perm=[1, 0, 2, 3]),
        node("Det", "b", "c", name="det"),
        node("Add", "a c", "y"),
    ]
    message = refused(
        nodes,
        "node 'resize1' (Resize): mode 'area' is not supported, nearest, linear, cubic are",
        "node 'p' (Transpose): perm [1, 0, 2, 3] moves the batch axis; a network keeps it first",
        "an operator that im2colnet lacks: Det (node 'det', reads 'b')",
        arrays={"s": np.array([1, 1, 2, 2], "float32")},
    )
    assert len(message.splitlines()) == 3


def test_a_quantised_network_is_refused_as_one():
    nodes = [node("DequantizeLinear", "x s", "a"), node("QLinearConv", "a s z w s z s z", "y")]
    refused(
        nodes,
        "DequantizeLinear",
        "QLinearConv",
        "quantized networks are not supported: export the network in float32",
        arrays=W | {"s": np.float32(1), "z": np.uint8(0)},
    )


def test_a_size_that_is_not_known_is_asked_for():
    nodes = [node("Conv", "x w", "y")]
    refused(
        nodes,
        "input 'x' is (N, 3, ?, ?): give input_shape=(3, height, width), since shapes are fixed",
        inputs={"x": ("N", 3, "h", "w")},
    )
    made = model(nodes, {"x": ("N", 3, None, None)}, arrays=W)
    assert ic.onnx.load(made, input_shape=(3, 5, 7)).input_shape == (3, 5, 7)
    with pytest.raises(ic.ModelError, match=r"input_shape=\(4, 5, 7\) does not fit"):
        ic.onnx.load(made, input_shape=(4, 5, 7))


def test_a_network_has_one_input():
    inputs = {"image": ("N", 3, 8, 8), "mask": ("N", 3, 8, 8)}
    refused([node("Add", "image mask", "y")], "has 2 inputs ('image', 'mask'): a network has one input", inputs=inputs)


def test_samples_have_an_axis():
    refused([node("Relu", "x", "y")], "input 'x' is (N), expected images (N, C, H, W)", inputs={"x": (3,)}, arrays={})


def test_an_output_has_an_axis():
    one = node("ReduceMean", "x", "y", axes=[1, 2, 3], keepdims=0)
    refused([one], "output 'y' is one number of each sample, without an axis")


def test_an_opset_may_be_too_old():
    refused([node("Conv", "x w", "y")], "opset 5", "convert_version", opset=5)


REASONS = {
    "weight": (node("Conv", "x x", "y"), {}, "its weight is computed by the network, and must be a constant"),
    "three axes": (node("Softmax", "x", "y", axis=0), {}, "along the batch axis"),
    "indices": (node("MaxPool", "x", "y z", kernel_shape=[2, 2]), {}, "only its first output is supported"),
    "samples": (node("Add", "x c", "y"), {"c": normal(2, 3, 8, 8)}, "differs from sample to sample"),
    "axes": (node("Add", "x c", "y"), {"c": normal(1, 1, 3, 8, 8)}, "has more axes than its input"),
    "cast": (node("Cast", "x", "y", to=7), {}, "converts values of the network to integers or booleans"),
    "reduce": (node("ReduceMean", "x", "y"), {}, "reduces the batch axis"),
    "flatten": (node("Flatten", "x", "y", axis=2), {}, "joins the batch axis with others"),
    "reshape": (
        node("Reshape", "x c", "y"),
        {"c": np.array([-1, 64])},
        "it reshapes (N, 3, 8, 8) to (-1, 64): it moves the batch axis",
    ),
    "slice": (node("Slice", "x c d", "y"), {"c": np.array([1]), "d": np.array([2])}, "takes a part of the batch"),
    "gather": (node("Gather", "x c", "y"), {"c": np.array([0])}, "takes samples out of the batch"),
    "squeeze": (node("Squeeze", "x c", "y"), {"c": np.array([1])}, "whose length is not 1"),
    "shape": (node("Conv", "x c", "y"), {"c": normal(4, 2, 3, 3)}, "expected"),
    "coordinates": (
        node("Resize", "x _ c", "y", mode="linear", coordinate_transformation_mode="tf_crop_and_resize"),
        {"c": np.array([1, 1, 2, 2], "float32")},
        "'tf_crop_and_resize' is not supported",
    ),
}


@pytest.mark.parametrize("name", REASONS)
def test_a_node_is_refused_with_a_reason(name):
    one, arrays, reason = REASONS[name]
    arrays = {k: a.astype("float32") if a.dtype == "float64" else a for k, a in arrays.items()}
    outputs = ("y", "z") if "z" in one.output else ("y",)
    refused([one], f"node 'y' ({one.op_type}): ", reason, arrays=arrays, outputs=outputs)


def test_what_follows_a_refused_node_is_not_refused_too():
    nodes = [node("Transpose", "x", "a", perm=[1, 0, 2, 3]), node("Shape", "a", "s"), node("Reshape", "a s", "y")]
    assert len(refused(nodes, "Transpose").splitlines()) == 1


def test_an_output_is_of_the_input():
    refused(
        [node("Identity", "w", "y"), node("Relu", "x", "z")], "'y' does not depend on the input", outputs=("y", "z")
    )


def test_a_message_says_names_that_are_no_names():
    refused([node("Det", "x", "y", name="\x1b[31m" + "n" * 500)], r"node '\x1b[31mnnn", "...")


# ---------------------------------------------------------------------- what is read in another sense


def test_training_mode_is_said():
    arrays = {name: np.ones(3, "float32") for name in "sbmv"}
    made = model([node("BatchNormalization", "x s b m v", "y", name="bn", training_mode=1)], arrays=arrays)
    with pytest.warns(ic.InputWarning, match=r"node 'bn' \(BatchNormalization\) normalizes by the batch"):
        ic.onnx.load(made)


def test_a_shared_weight_is_said():
    nodes = [node("Conv", "x w.weight", "a", pads=[1] * 4), node("Conv", "a w.weight", "y")]
    made = model(nodes, arrays={"w.weight": normal(3, 3, 3, 3, dtype="float32")})
    with pytest.warns(
        ic.InputWarning, match=r"1 parameters are shared by several layers, such as 'w.weight' by 'w', 'w_2'"
    ):
        net = ic.onnx.load(made)
    assert [*net.state_dict()] == ["w.weight", "w_2.weight"]


def test_a_newer_opset_is_said():
    made = model([node("Relu", "x", "y")], opset=99)
    with pytest.warns(ic.InputWarning, match="opset 99 is newer"):
        ic.onnx.load(made)


def test_images_of_integers_are_said():
    made = model([node("Cast", "x", "a", to=FLOAT), node("Relu", "a", "y")])
    made.graph.input[0].type.tensor_type.elem_type = 2
    with pytest.warns(ic.InputWarning, match="input 'x' is uint8"):
        ic.onnx.load(made)
