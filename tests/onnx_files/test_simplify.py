"""What an exporter has written as several operators becomes one layer; channels that are last come first."""

import numpy as np
import pytest
from helpers import normal
from onnx_files import model, node

import im2colnet as ic
from im2colnet.onnx.read import read
from im2colnet.onnx.simplify import simplify
from im2colnet.onnx.translate import translate

W = normal(4, 3, 3, 3, seed=1, dtype="float32")
V = normal(3, 4, 3, 3, seed=2, dtype="float32")


def constants(**numbers):
    """Numbers as arrays of float32."""
    return {name: np.asarray(value, "float32") for name, value in numbers.items()}


def of(*steps, out="y"):
    """Operators one after the other: each a text such as "Mul x s a", which makes a of x and s, and its attributes."""
    nodes = []
    for step in steps:
        text, attributes = step if isinstance(step, tuple) else (step, {})
        op, *names = text.split()
        nodes.append(node(op, " ".join(names[:-1]), names[-1], **attributes))
    return nodes


def nhwc(*steps):
    """Operators between a transposition to channels first, and one back."""
    return of(("Transpose x a", {"perm": [0, 3, 1, 2]}), *steps, ("Transpose b y", {"perm": [0, 2, 3, 1]}))


FIRST, LAST = {"perm": [0, 3, 1, 2]}, {"perm": [0, 2, 3, 1]}
IMAGES, NHWC = (3, 6, 6), (6, 6, 3)
SQRT2, C = float(np.sqrt(2)), normal(3, 1, 1, seed=3, dtype="float32")

#: operators, the shape of a sample in the file, constants, opset, and the layers that they become
CASES = {
    "silu": (of("Sigmoid x s", "Mul x s y"), IMAGES, {}, 17, ["SiLU"]),
    "silu, the gate first": (of("Sigmoid x s", "Mul s x y"), IMAGES, {}, 17, ["SiLU"]),
    "mish": (of("Softplus x s", "Tanh s t", "Mul x t y"), IMAGES, {}, 17, ["Mish"]),
    "gelu": (
        of("Div x r a", "Erf a b", "Add b one c", "Mul x c d", "Mul d half y"),
        IMAGES,
        constants(r=SQRT2, one=1, half=0.5),
        17,
        ["GELU"],
    ),
    "gelu of TensorFlow": (
        of("Mul x half h", "Mul x r a", "Erf a b", "Add one b c", "Mul h c y"),
        IMAGES,
        constants(r=1 / SQRT2, one=1, half=0.5),
        17,
        ["GELU"],
    ),
    "gelu by tanh": (
        of(
            "Pow x three p",
            "Mul p k q",
            "Add x q s",
            "Mul s r t",
            "Tanh t u",
            "Add u one v",
            "Mul x half h",
            "Mul h v y",
        ),
        IMAGES,
        constants(three=3, k=0.044715, r=np.sqrt(2 / np.pi), one=1, half=0.5),
        17,
        ["GELU"],
    ),
    "hardsigmoid": (
        of("Add x three a", "Clip a zero six b", "Div b six y"),
        IMAGES,
        constants(three=3, zero=0, six=6),
        17,
        ["Hardsigmoid"],
    ),
    "hardswish": (
        of("Add x three a", "Clip a zero six b", "Mul x b c", "Div c six y"),
        IMAGES,
        constants(three=3, zero=0, six=6),
        17,
        ["Hardswish"],
    ),
    "hardswish by hardsigmoid": (
        of(("HardSigmoid x s", {"alpha": 1 / 6, "beta": 0.5}), "Mul x s y"),
        IMAGES,
        {},
        17,
        ["Hardswish"],
    ),
    "no silu": (of("Sigmoid x s", "Relu x r", "Mul r s y"), IMAGES, {}, 17, ["Sigmoid", "ReLU", "Mul"]),
    "layer norm": (
        of(
            ("ReduceMean x m", {"axes": [-1]}),
            "Sub x m d",
            "Pow d two p",
            ("ReduceMean p v", {"axes": [-1]}),
            "Add v eps e",
            "Sqrt e s",
            "Div d s n",
            "Mul n w z",
            "Add z b y",
        ),
        (4, 6),
        constants(two=2, eps=0.5, w=np.arange(1, 7), b=np.arange(6)),
        16,
        ["LayerNorm"],
    ),
    "group norm": (
        of(
            "Reshape x s a",
            ("InstanceNormalization a one zero b", {"epsilon": 0.5}),
            "Reshape b t c",
            "Mul c w d",
            "Add d e y",
        ),
        (4, 3, 3),
        constants(one=[1, 1], zero=[0, 0], w=normal(4, 1, 1), e=normal(4, 1, 1))
        | {"s": np.array([0, 2, -1]), "t": np.array([-1, 4, 3, 3])},
        17,
        ["GroupNorm"],
    ),
    "local response norm": (
        of(
            "Mul x x a",
            "Unsqueeze a one b",
            "Pad b sides c",
            ("AveragePool c d", {"kernel_shape": [4, 1, 1]}),
            "Squeeze d one e",
            "Mul e alpha f",
            "Add f k g",
            "Pow g beta h",
            "Div x h y",
        ),
        (5, 3, 4),
        constants(alpha=0.5, k=2, beta=0.75)
        | {"one": np.array([1]), "sides": np.array([0, 0, 2, 0, 0, 0, 0, 1, 0, 0])},
        17,
        ["LocalResponseNorm"],
    ),
    "channel shuffle": (
        of("Reshape x s a", ("Transpose a b", {"perm": [0, 2, 1, 3, 4]}), "Reshape b t y"),
        (6, 2, 3),
        {"s": np.array([0, 2, 3, 2, 3]), "t": np.array([0, 6, 2, 3])},
        17,
        ["ChannelShuffle"],
    ),
    "prelu by columns of NHWC": (
        of(("Transpose x a", FIRST), "Conv a w b", ("Transpose b c", LAST), "PRelu c s d", ("Transpose d y", FIRST)),
        NHWC,
        {"w": W, "s": normal(1, 1, 4, dtype="float32")},
        17,
        ["Conv2d", "PReLU"],
    ),
    "linear with a bias": (
        of("MatMul x w a", "Add a b y"),
        (5,),
        constants(w=normal(5, 3), b=normal(3)),
        17,
        ["Linear"],
    ),
    "convolution with a bias": (of("Conv x w a", "Add a b y"), IMAGES, {"w": W[:3], "b": C}, 17, ["Conv2d"]),
    "padding of a convolution": (
        of("Pad x p a", ("Conv a w y", {"pads": [1, 1, 1, 1]})),
        IMAGES,
        {"w": W, "p": np.array([0, 0, 1, 0, 0, 0, 0, 2])},
        17,
        ["Conv2d"],
    ),
    "mirrored padding": (
        of(("Pad x p a", {"mode": "reflect"}), "Conv a w y"),
        IMAGES,
        {"w": W, "p": np.array([0, 0, 1, 1, 0, 0, 1, 1])},
        17,
        ["Conv2d"],
    ),
    "padding of a sequence": (
        of("Pad x p a", "Conv a w y"),
        (3, 7),
        {"w": W[:, :, 0], "p": np.array([0, 0, 1, 0, 0, 2])},
        17,
        ["Conv1d"],
    ),
    "padding of a mean": (
        of("Pad x p a", ("AveragePool a y", {"kernel_shape": [3, 3]})),
        IMAGES,
        {"p": np.array([0, 0, 1, 0, 0, 0, 1, 2])},
        17,
        ["AvgPool2d"],
    ),
    "padding of a maximum": (
        of("Pad x p a", ("MaxPool a y", {"kernel_shape": [3, 3]})),
        IMAGES,
        {"p": np.array([0, 0, 1, 1, 0, 0, 1, 1])},
        17,
        ["ZeroPad2d", "MaxPool2d"],
    ),
    "padding of NHWC": (
        of("Pad x p a", ("Transpose a b", FIRST), "Conv b w y"),
        NHWC,
        {"w": W, "p": np.array([0, 1, 2, 0, 0, 1, 0, 0])},
        17,
        ["Conv2d"],
    ),
    "shortcut": (
        of("Slice x s e d t a", "Pad a p y"),
        IMAGES,
        {"s": [0, 0], "e": [6, 6], "d": [2, 3], "t": [2, 2], "p": np.array([0, 0, 0, 0, 0, 3, 0, 0])},
        17,
        ["ZeroPadShortcut"],
    ),
    "nearest pixels along both axes": (
        of(("Gather x a b", {"axis": 2}), ("Gather b c y", {"axis": 3})),
        IMAGES,
        {"a": [0, 0, 1, 2, 2, 3, 4, 4, 5], "c": [0, 1, 3, 4]},
        17,
        ["Upsample"],
    ),
    "means along both axes": (
        of("MatMul h x a", "MatMul a w y"),
        (3, 4, 5),
        constants(
            h=np.array([[3, 3, 0, 0], [0, 3, 3, 0], [0, 0, 3, 3]]) / 6,
            w=np.array([[1, 1, 1, 0, 0], [0, 0, 1, 1, 1]]).T / 3,
        ),
        17,
        ["AdaptiveAvgPool2d"],
    ),
    "nothing": (
        of("Add x zero a", "Mul a one b", "Relu b c", "Div c one d", "Sub d zero y"),
        IMAGES,
        constants(zero=0, one=1),
        17,
        ["ReLU"],
    ),
    "reshapings": (
        of("Reshape x a b", "Reshape b c d", "Reshape d a y"),
        (4, 6),
        {"a": np.array([0, 2, 12]), "c": np.array([0, 24])},
        17,
        ["Reshape"],
    ),
    "NHWC": (nhwc("Conv a w c", "Relu c b"), NHWC, {"w": W}, 17, ["Conv2d", "ReLU", "Permute"]),
    "NHWC, normalised first": (
        of("Sub x m a", "Div a s b", ("Transpose b c", FIRST), "Conv c w y"),
        NHWC,
        {"w": W} | constants(m=[1, 2, 3], s=[2, 3, 4]),
        17,
        ["WithConstant", "WithConstant", "Conv2d"],
    ),
    "NHWC between layers": (
        of(
            ("Transpose x a", FIRST),
            ("Conv a w b", {"pads": [1, 1, 1, 1]}),
            ("Transpose b c", LAST),
            "Add c k d",
            "Relu d e",
            ("Transpose e f", FIRST),
            ("Conv f v g", {"pads": [1, 1, 1, 1]}),
            ("Transpose g h", LAST),
            "Add h x i",
            ("Concat i x j", {"axis": 3}),
            ("ReduceMean j y", {"axes": [1, 2], "keepdims": 0}),
        ),
        NHWC,
        {"w": W, "v": V, "k": normal(4, dtype="float32")},
        17,
        ["Conv2d", "ReLU", "Conv2d", "Add", "Concat", "Mean"],
    ),
    "NHWC, softmax and flatten": (
        of(
            ("Transpose x a", FIRST),
            "Conv a w b",
            "GlobalAveragePool b c",
            ("Transpose c d", LAST),
            "Flatten d e",
            ("Softmax e y", {"axis": -1}),
        ),
        NHWC,
        {"w": W},
        17,
        ["Conv2d", "GlobalAvgPool2d", "Flatten", "Softmax"],
    ),
    "sequences whose channels are last": (
        of(("Transpose x a", {"perm": [0, 2, 1]}), "Conv a w y"),
        (7, 3),
        {"w": W[:, :, 0]},
        17,
        ["Conv1d"],
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_fewer_layers_do_the_same(name):
    nodes, shape, arrays, opset, expected = CASES[name]
    made = read(model(nodes, {"x": ("N", *shape)}, arrays=arrays, opset=opset))
    plain, joined = (translate(made) for _ in range(2))
    plain.check()
    simplify(joined.draft)
    net = joined.draft.network()
    assert [type(layer).__name__ for layer in net.children().values()] == expected
    images = normal(2, *net.input_shape, dtype="float32")
    found, wanted = net.predict(images), plain.draft.network().predict(images)
    assert found.shape == wanted.shape
    np.testing.assert_allclose(found, wanted, rtol=0, atol=3e-6 * np.abs(wanted).max())


def test_images_come_with_the_channels_first_whatever_the_file_takes():
    nodes, shape, arrays, opset, _ = CASES["NHWC"]
    with pytest.warns(ic.InputWarning, match="channels last"):
        net = ic.onnx.load(model(nodes, {"x": ("N", None, None, 3)}, arrays=arrays), input_shape=(3, 6, 6))
    assert net.input_shape == (3, 6, 6)
    assert net.predict(np.zeros((2, 3, 6, 6), "float32")).shape == (2, 4, 4, 4)


def test_a_bias_has_the_name_of_its_layer():
    """PyTorch writes a linear layer of sequences as a product with a transposed constant, and a sum."""
    nodes = [node("Transpose", "fc.weight", "t"), node("MatMul", "x t", "a"), node("Add", "a fc.bias", "y")]
    arrays = constants(**{"fc.weight": normal(3, 5), "fc.bias": normal(3)})
    state = ic.onnx.load(model(nodes, {"x": ("N", 5)}, arrays=arrays)).state_dict()
    np.testing.assert_array_equal(state["fc.weight"], arrays["fc.weight"])
    np.testing.assert_array_equal(state["fc.bias"], arrays["fc.bias"])


def test_a_bias_of_zeros_is_learned_as_any_other():
    arrays = constants(**{"w": normal(5, 3), "fc.bias": np.zeros(3)})
    made = model([node("MatMul", "x w", "a"), node("Add", "a fc.bias", "y")], {"x": ("N", 5)}, arrays=arrays)
    assert [*ic.onnx.load(made).parameters()] == ["fc.weight", "fc.bias"]
