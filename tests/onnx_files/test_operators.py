"""Every operator that is read, compared with onnx's own interpreter in float64."""

import numpy as np
import pytest
from helpers import normal
from onnx.reference import ReferenceEvaluator
from onnx_files import model, node

import im2colnet as ic
from im2colnet.onnx.translate import IMPORTERS

SHAPE = (4, 6, 6)


def array(*shape, seed=1, low=None):
    """Normal numbers, or at least ``low``."""
    found = normal(*shape, seed=seed)
    return found if low is None else np.abs(found) + low


def row(op, *arrays, shape=SHAPE, opset=22, inputs=None, outputs="y", low=None, name="", **attributes):
    """An operator that reads x and arrays (None for one that is left out), as a test's parameters."""
    names = [f"c{i}" if a is not None else "_" for i, a in enumerate(arrays)]
    nodes = [node(op, inputs or " ".join(["x", *names]), outputs, **attributes)]
    constants = {n: np.asarray(a) for n, a in zip(names, arrays, strict=True) if a is not None}
    described = "-".join([op, name or ",".join(map(str, attributes)) or str(len(arrays)), str(opset)])
    return pytest.param(nodes, shape, constants, opset, outputs.split(), low, id=described)


def ints(*numbers):
    return np.array(numbers, "int64")


W, B = array(5, 4, 3, 3), array(5)
T = array(4, 5, 3, 3)
CHANNELS = [array(4, seed=2, low=0.5), array(4, seed=3), array(4, seed=4), array(4, seed=5, low=0.5)]

ROWS = [
    row("Conv", W, B, pads=[1, 1, 1, 1]),
    row("Conv", W, B, pads=[0, 1, 2, 3], strides=[2, 1], name="asymmetric"),
    row("Conv", W, None, dilations=[2, 1], name="dilated"),
    row("Conv", W, auto_pad="SAME_UPPER", strides=[2, 2], name="upper"),
    row("Conv", array(5, 4, 2, 3), auto_pad="SAME_LOWER", name="lower"),
    row("Conv", W, auto_pad="VALID", name="valid"),
    row("Conv", array(4, 1, 3, 3), array(4), group=4, name="depthwise"),
    row("Conv", array(6, 2, 3, 3), group=2, opset=7, name="groups"),
    row("Conv", array(5, 4, 3), B, shape=(4, 9), pads=[2, 1], strides=[2], dilations=[2], name="1-D"),
    row("ConvTranspose", T, B, strides=[2, 2], pads=[1, 1, 1, 1]),
    row("ConvTranspose", T, strides=[3, 2], pads=[0, 1, 1, 0], output_padding=[2, 1], name="output_padding"),
    row("ConvTranspose", T, strides=[2, 2], output_shape=[12, 12], name="output_shape"),
    row("ConvTranspose", T, strides=[2, 2], auto_pad="SAME_UPPER", name="upper"),
    row("ConvTranspose", T, B, strides=[2, 2], auto_pad="SAME_LOWER", name="lower"),
    row("ConvTranspose", array(4, 3, 3, 3), group=2, dilations=[2, 2], name="groups"),
    row("ConvTranspose", array(4, 5, 3), B, shape=(4, 7), strides=[2], name="1-D"),
    row("MaxPool", kernel_shape=[2, 2], strides=[2, 2]),
    row("MaxPool", kernel_shape=[3, 3], strides=[2, 2], ceil_mode=1, name="ceil"),
    row("MaxPool", kernel_shape=[3, 2], pads=[0, 1, 1, 0], name="asymmetric"),
    row("MaxPool", kernel_shape=[2, 2], dilations=[2, 2], name="dilated"),
    row("MaxPool", kernel_shape=[3, 3], strides=[2, 2], auto_pad="SAME_UPPER", opset=7, name="upper"),
    row("MaxPool", kernel_shape=[3], shape=(4, 9), strides=[2], pads=[1, 1], name="1-D"),
    row("AveragePool", kernel_shape=[3, 3], pads=[1, 1, 1, 1], name="without padding"),
    row("AveragePool", kernel_shape=[3, 3], pads=[1, 0, 1, 1], count_include_pad=1, name="with padding"),
    row("AveragePool", kernel_shape=[3, 3], strides=[2, 2], auto_pad="SAME_LOWER", name="lower"),
    row("AveragePool", kernel_shape=[2, 2], dilations=[2, 2], name="dilated"),
    row("AveragePool", kernel_shape=[3, 1, 1], shape=(2, 6, 3, 4), strides=[2, 1, 1], name="along one of 3 axes"),
    row("AveragePool", kernel_shape=[3], shape=(4, 9), strides=[2], ceil_mode=1, name="1-D"),
    row("GlobalAveragePool"),
    row("GlobalAveragePool", shape=(4, 9), name="1-D"),
    row("GlobalMaxPool"),
    row("GlobalMaxPool", shape=(4, 9), name="1-D"),
    row("BatchNormalization", *CHANNELS, epsilon=0.125),
    row("BatchNormalization", *CHANNELS, shape=(4,), name="features"),
    row("BatchNormalization", *CHANNELS, shape=(4, 7), opset=7, name="1-D"),
    row("BatchNormalization", *CHANNELS, shape=(4, 2, 3, 2), name="3-D"),
    row("InstanceNormalization", *CHANNELS[:2]),
    row("InstanceNormalization", *CHANNELS[:2], shape=(4, 7), epsilon=0.5, name="1-D"),
    row("GroupNormalization", *CHANNELS[:2], num_groups=2, epsilon=0.5),
    row("GroupNormalization", CHANNELS[0][:2], CHANNELS[1][:2], num_groups=2, opset=18, name="of groups"),
    row("LayerNormalization", array(6), array(6, seed=2)),
    row("LayerNormalization", array(4, 6, 6), axis=1, epsilon=0.5),
    row("LayerNormalization", array(6, 6), axis=-2, opset=17),
    row("RMSNormalization", array(6, 6), axis=2, opset=23),
    row("LRN", size=3, alpha=0.5, beta=0.75, bias=2.0),
    row("Gemm", array(7, 3), array(3), shape=(7,)),
    row("Gemm", array(3, 7), array(1, 3), shape=(7,), transB=1, alpha=0.5, beta=0.25),
    row("Gemm", array(3, 7), np.array(2.0), shape=(7,), transB=1, opset=11, name="one bias"),
    row("Gemm", array(7, 3), shape=(7,), alpha=2.0, name="no bias"),
    row("MatMul", array(7, 3), shape=(7,)),
    row("Relu"),
    row("LeakyRelu", alpha=0.25),
    row("LeakyRelu", alpha=-0.25, name="negative"),
    row("Sigmoid"),
    row("Tanh"),
    row("Elu", alpha=0.5),
    row("Selu"),
    row("Selu", alpha=0.5, gamma=2.0),
    row("Celu", alpha=0.5),
    row("HardSigmoid"),
    row("HardSigmoid", alpha=1 / 6, beta=0.5, name="of PyTorch"),
    row("HardSwish"),
    row("Softplus"),
    row("Softsign"),
    row("Mish"),
    row("Gelu", opset=20),
    row("Gelu", approximate="tanh", opset=20),
    row("ThresholdedRelu", alpha=0.5),
    row("PRelu", array(4, 1, 1)),
    row("PRelu", array(1), opset=7),
    row("PRelu", array(6), name="by columns"),
    row("PRelu", array(4), shape=(4,), name="features"),
    row("Clip", np.array(0.0), np.array(6.0)),
    row("Clip", np.array(0.0), name="from 0"),
    row("Clip", None, np.array(0.5), name="at most"),
    row("Clip", np.array(-0.5), np.array(0.5)),
    row("Clip", np.array(0.5), np.array(-0.5), opset=13, name="wrong order"),
    row("Clip", min=-0.5, max=0.75, opset=10),
    row("Clip", opset=7),
    row("Add", array(4, 1, 1)),
    row("Add", array(1, 1, 6), name="columns"),
    row("Add", array(1, 4, 6, 6), name="whole sample"),
    row("Add", np.array(0.5)),
    row("Sub", array(4, 1, 1)),
    row("Sub", array(4, 1, 1), inputs="c0 x", name="constant first"),
    row("Mul", array(6)),
    row("Div", array(4, 1, 1, low=0.5)),
    row("Div", np.array(2.0), inputs="c0 x", low=0.5, name="constant first"),
    row("Pow", np.array(2.0)),
    row("Pow", np.array(2.0), inputs="c0 x", name="constant first"),
    row("Max", np.array(0.25)),
    row("Min", array(4, 1, 1), opset=8),
    row("Sum", array(4, 1, 1), array(6)),
    row("Mean", array(4, 1, 1), array(6)),
    row("Add", array(4, 6, 1), shape=(4, 1, 6), name="larger than its input"),
    row("Concat", inputs="x x", axis=1),
    row("Concat", inputs="x x", axis=-1),
    row("Concat", inputs="x", axis=1, name="one"),
    row("Concat", array(1, 2, 6, 6), array(1, 1, 6, 6), inputs="c0 x c1 x", axis=1, name="constants"),
    row("Gather", ints(0, 0, 1, 2, 2, 3, 4, 4, 5), axis=2, name="repeated"),
    row("Split", ints(1, 3), outputs="a b", axis=1),
    row("Split", outputs="a b c", axis=2, split=[1, 2, 3], opset=11),
    row("Split", outputs="a b c", axis=3, num_outputs=3, opset=18),
    row("Split", outputs="a b", axis=1, opset=13, name="equal parts"),
    row("Slice", ints(1, -3), ints(100, -1), ints(1, 3)),
    row("Slice", ints(-1), ints(-1000), ints(2), ints(-2), name="backwards"),
    row("Slice", ints(0, 1), ints(2**62, 5), ints(0, 2), name="the whole batch"),
    row("Slice", starts=[1], ends=[3], axes=[1], opset=9),
    row("Gather", ints(2), axis=1),
    row("Gather", np.array(2, "int64"), axis=1, name="one"),
    row("Gather", np.array(0, "int64"), axis=2, name="the first row"),
    row("Gather", ints(0, 2, 4), axis=3, name="every second"),
    row("Gather", ints(3, 1), axis=-1),
    row("Gather", np.array([[0, 1, 2], [1, 2, 3]]), axis=2, name="a matrix"),
    row("Gather", ints(0, 1, 3, 2), axis=1, name="any order"),
    row("Flatten"),
    row("Flatten", axis=-3),
    row("Flatten", axis=3, shape=(1, 1, 6), name="of axes of length 1"),
    row("Reshape", ints(0, -1)),
    row("Reshape", ints(-1, 144), name="the batch is what is left"),
    row("Reshape", ints(0, 2, 2, 6, -1), name="more axes"),
    row("Transpose", perm=[0, 2, 3, 1]),
    row("Transpose", perm=[0, 2, 1], shape=(4, 7)),
    row("Squeeze", ints(2), shape=(4, 1, 6)),
    row("Squeeze", axes=[2, 3], shape=(4, 1, 1), opset=11),
    row("Unsqueeze", ints(1, -1)),
    row("Unsqueeze", axes=[2], shape=(5,), opset=11),
    row("Expand", ints(1, 4, 6, 6), shape=(4, 1, 6)),
    row("Expand", ints(1, 1), name="nothing"),
    row("Tile", ints(1, 2, 1, 3)),
    row("Pad", ints(0, 0, 1, 2, 0, 0, 3, 0)),
    row("Pad", ints(0, 0, 1, 2, 0, 0, 3, 0), np.array(2.0), name="value"),
    row("Pad", ints(1, 2, 3, 0), None, ints(2, -1), mode="reflect"),
    row("Pad", ints(0, 0, -1, 2, 0, 0, 0, 1), mode="edge", name="edge"),
    row("Pad", ints(0, 0, 2, 2, 0, 0, 1, 0), mode="wrap"),
    row("Pad", pads=[0, 0, 1, 1, 0, 0, 1, 1], value=0.5, opset=9),
    row("Resize", None, np.array([1, 1, 2, 3], "float32")),
    row("Resize", None, None, ints(9, 7), axes=[2, 3], mode="linear"),
    row("Resize", None, None, ints(9, 7), axes=[2, 3], mode="linear", coordinate_transformation_mode="align_corners"),
    row("Resize", None, np.array([2, 2], "float32"), axes=[2, 3], mode="linear", opset=18),
    row(
        "Resize",
        None,
        np.array([1, 1, 0.5, 0.5], "float32"),
        coordinate_transformation_mode="asymmetric",
        nearest_mode="floor",
    ),
    row("Upsample", np.array([1, 1, 2, 2], "float32"), opset=9),
    row("Upsample", scales=[1.0, 1.0, 2.0, 3.0], opset=7),
    row("DepthToSpace", blocksize=2),
    row("DepthToSpace", blocksize=2, mode="CRD"),
    row("Dropout"),
    row("Dropout", np.array(0.25, "float32"), opset=13),
    row("Softmax"),
    row("Softmax", axis=1),
    row("Softmax", axis=1, opset=11, name="of all axes behind"),
    row("Softmax", axis=2, opset=11, name="of the last two axes"),
    row("Softmax", shape=(5,), opset=7, name="features"),
    row("LogSoftmax", axis=1),
    row("ReduceMean", ints(2, 3)),
    row("ReduceMean", ints(-1), keepdims=0),
    row("ReduceMean", axes=[1, 2], keepdims=0, opset=13),
    row("ReduceSum", ints(1)),
    row("ReduceSum", axes=[2], keepdims=0, opset=7),
    row("ReduceMax", ints(2, 3)),
    row("ReduceMin", axes=[-1], opset=13),
    row("ReduceL1", ints(1)),
    row("ReduceL2", ints(1, 2), keepdims=0),
    row("ReduceSumSquare", ints(3)),
    row("ReduceLogSum", ints(1), low=0.5),
    row("ReduceLogSumExp", ints(1)),
    row("ReduceLogSumExp", ints(2), keepdims=0),
    row("ReduceMean", noop_with_empty_axes=1),
    *(row(op) for op in ("Abs", "Cos", "Erf", "Exp", "Neg", "Sin")),
    *(row(op, low=0.5) for op in ("Log", "Reciprocal", "Sqrt")),
    row("LpPool", kernel_shape=[2, 2], strides=[2, 2]),
    row("LpPool", kernel_shape=[3, 3], pads=[1, 1, 1, 1], p=3),
    row("LpPool", kernel_shape=[3, 3], auto_pad="SAME_UPPER", p=1),
    row("LpPool", kernel_shape=[3], shape=(4, 9)),
    row("GlobalLpPool"),
    row("GlobalLpPool", p=3, low=0.5),
    row("LpNormalization", axis=1),
    row("LpNormalization", axis=2, p=1),
    row("SpaceToDepth", blocksize=2),
    row("SpaceToDepth", blocksize=2, mode="CRD", opset=28),
    row("MatMul", array(6, 5)),
    row("MatMul", array(6, 5), shape=(3, 6)),
    row("MatMul", array(5, 6), inputs="c0 x", name="constant first"),
    row("Swish", opset=24),
    row("Swish", alpha=0.5, opset=24),
    row("Pad", ints(0, 1, 0, 0, 0, 2, 0, 0), name="channels"),
    row("Pad", ints(0, 0, 1, 0, 0, 2), shape=(4, 7), name="1-D"),
    row("Resize", None, np.array([2.0], "float32"), axes=[2], shape=(4, 7), name="1-D"),
    row("MaxPool", kernel_shape=[3, 3], pads=[2, 2, 2, 2], name="wide padding"),
    row("AveragePool", kernel_shape=[3, 3], pads=[2, 2, 2, 2], name="wide padding"),
    row("AveragePool", kernel_shape=[3, 3], pads=[2, 0, 2, 1], count_include_pad=1, name="counted wide padding"),
    row("LRN", size=4, alpha=8.0, name="even"),
    row("Identity"),
    row("Cast", to=1),
]


def softmax_of_rows(x, axis):
    """Softmax as versions before 13 have it: of a matrix that has all axes from one on in its rows."""
    rows = x.reshape(*x.shape[:axis], -1)
    powers = np.exp(rows - rows.max(-1, keepdims=True))
    return (powers / powers.sum(-1, keepdims=True)).reshape(x.shape)


def local_response(x, size, alpha=1e-4, k=1.0):
    """ONNX's, whose even sizes reach one channel further behind."""
    before = (size - 1) // 2
    squares = np.pad(x**2, [(0, 0), (before, size - 1 - before), (0, 0), (0, 0)])
    sums = sum(squares[:, i : i + x.shape[1]] for i in range(size))
    return x / (k + alpha / size * sums) ** 0.75


def batch_norm(x, weight, bias, mean, var):
    return weight * (x - mean) / np.sqrt(var + 1e-5) + bias


def transposed(x, weight, groups=1, **attributes):
    """ConvTranspose of each group, by onnx's interpreter, which knows no groups."""
    found = []
    for part, w in zip(np.split(x, groups, 1), np.split(weight, groups), strict=True):
        made = model([node("ConvTranspose", "x w", "y", **attributes)], {"x": ("N", *part.shape[1:])}, arrays={"w": w})
        found.append(ReferenceEvaluator(made).run(None, {"x": part})[0])
    return np.concatenate(found, 1)


def cropped_and_padded(x):
    return np.pad(x, [(0, 0), (0, 0), (0, 0), (2, 1)], "edge")[:, :, 1:]


#: what onnx's interpreter gets wrong or cannot do, by hand
BY_HAND = {
    "GlobalMaxPool-1-D-22": lambda x: x.max(-1, keepdims=True),
    "BatchNormalization-1-D-7": lambda x, *of: batch_norm(x, *(each[:, None] for each in of)),
    "LRN-size,alpha,beta,bias-22": lambda x: local_response(x, 3, 0.5, 2.0),
    "LRN-even-22": lambda x: local_response(x, 4, 8.0),
    "ConvTranspose-output_shape-22": lambda x, w: transposed(x, w, strides=[2, 2], pads=[1, 1, 0, 0]),
    "ConvTranspose-groups-22": lambda x, w: transposed(x, w, 2, dilations=[2, 2]),
    "Pad-edge-22": lambda x, pads: cropped_and_padded(x),
    "GlobalLpPool-0-22": lambda x: np.sqrt((x**2).sum((2, 3), keepdims=True)),
    "GlobalLpPool-p-22": lambda x: (x**3).sum((2, 3), keepdims=True) ** (1 / 3),
    "LpNormalization-axis,p-22": lambda x: x / np.abs(x).sum(2, keepdims=True),
    "Concat-constants-22": lambda x, a, b: np.concatenate([*np.repeat([a], 2, 1), x, *np.repeat([b], 2, 1), x], 1),
    "Upsample-scales-7": lambda x: x.repeat(2, 2).repeat(3, 3),
    "Softmax-of all axes behind-11": lambda x: softmax_of_rows(x, 1),
    "Softmax-of the last two axes-11": lambda x: softmax_of_rows(x, 2),
}


def operator_model(nodes, shape, constants, opset, outputs, dtype):
    arrays = {name: a.astype(dtype) if a.dtype == "float64" else a for name, a in constants.items()}
    return model(nodes, {"x": ("N", *shape)}, outputs, arrays, opset=opset)


def double(net):
    """The network with parameters of float64."""
    state = net.state_dict()
    net.init(dtype="float64")
    net.load_state_dict(state)
    return net


@pytest.mark.parametrize(("nodes", "shape", "constants", "opset", "outputs", "low"), ROWS)
def test_an_operator(nodes, shape, constants, opset, outputs, low, request):
    images = array(2, *shape, seed=0, low=low)
    constants = {name: a.astype("float32").astype(a.dtype) for name, a in constants.items()}  # what a file can hold
    by_hand = BY_HAND.get(request.node.callspec.id)
    if by_hand:
        expected = [by_hand(images, *constants.values())]
    else:
        reference = ReferenceEvaluator(operator_model(nodes, shape, constants, opset, outputs, "float64"))
        expected = reference.run(None, {"x": images})
    net = double(ic.onnx.load(operator_model(nodes, shape, constants, opset, outputs, "float32")))
    found = net.predict(images)
    for a, b in zip(found if isinstance(found, tuple) else [found], expected, strict=True):
        assert a.shape == b.shape
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-6 * np.abs(b).max())  # attributes are float32


TWO = {
    "Add": ("x a", {}),
    "Sub": ("a x", {}),
    "Mul": ("x a", {}),
    "Div": ("x a", {}),
    "Max": ("x a", {}),
    "Min": ("a x", {}),
    "Sum": ("x a x", {}),
    "Mean": ("x a x", {}),
    "Concat": ("x a", {"axis": 1}),
}


@pytest.mark.parametrize(("op", "size"), [(op, size) for op in TWO for size in (6, 1) if (op, size) != ("Concat", 1)])
def test_two_values(op, size):
    """The second is a sigmoid, or has one pixel, which is broadcast: but for Concat, which does not do that."""
    reads, attributes = TWO[op]
    before = node("Sigmoid", "x", "a") if size == 6 else node("GlobalAveragePool", "x", "a")
    made = model([before, node(op, reads, "y", **attributes)], {"x": ("N", 4, 6, 6)})
    images = array(2, 4, 6, 6, seed=0, low=0.5)
    found = double(ic.onnx.load(made)).predict(images)
    expected = ReferenceEvaluator(made).run(None, {"x": images})[0]
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12 * np.abs(expected).max())


def test_numbers_of_samples():
    """The mean of each whole sample has no axis but the batch, until it is given some."""
    nodes = [
        node("ReduceMean", "x", "m", axes=[1, 2, 3], keepdims=0),
        node("Sqrt", "m", "s"),
        node("Add", "s one", "t"),
        node("Reshape", "t shape", "r"),
        node("Div", "x r", "y"),
    ]
    made = model(nodes, {"x": ("N", 4, 6, 6)}, arrays={"one": np.float32(1), "shape": ints(-1, 1, 1, 1)})
    images = array(2, 4, 6, 6, seed=0, low=0.5)
    found = double(ic.onnx.load(made)).predict(images)
    np.testing.assert_allclose(found, images / (np.sqrt(images.mean((1, 2, 3), keepdims=True)) + 1), rtol=1e-12)


def test_every_operator_that_is_listed_is_tested():
    tested = {n.op_type for parameters in ROWS for n in parameters.values[0]} | {*TWO}
    assert {row.operator for row in ic.onnx.supported()} == {*IMPORTERS}
    assert {*IMPORTERS} - tested == UNTESTED


UNTESTED = {"CastLike", "If"} & {*IMPORTERS}
