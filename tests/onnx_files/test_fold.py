"""What is computed of constants and shapes: the values of ONNX's reference, and the batch size as a symbol."""

from math import prod

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import helper
from onnx.reference import ReferenceEvaluator

import im2colnet as ic
from im2colnet.onnx.fold import BATCH, Batch, Unfoldable, fold, foldable, reshaped, shape_value
from im2colnet.onnx.read import OnnxNode

MB = 2**20


def operator(op, *values, outputs=1, opset=17, **attributes):
    """A node with as many inputs as there are values."""
    inputs = tuple("" if value is None else f"i{k}" for k, value in enumerate(values))
    return OnnxNode(op, "", "n", inputs, tuple(f"o{k}" for k in range(outputs)), attributes, opset)


def folded(op, *values, max_bytes=MB, **more):
    """The result, or the results, of one operator."""
    node = operator(op, *values, **more)
    assert foldable(node)
    found = fold(node, [None if value is None else np.asarray(value) for value in values], max_bytes)
    return found[0] if len(found) == 1 else found


def reference(op, *values, outputs=1, opset=17, **attributes):
    """The results by ONNX's reference."""
    node = operator(op, *values, outputs=outputs)
    made = helper.make_node(op, node.inputs, node.outputs, **attributes)
    feeds = {f"i{k}": np.asarray(value) for k, value in enumerate(values) if value is not None}
    found = ReferenceEvaluator(
        helper.make_model(
            helper.make_graph(
                [made],
                "g",
                [
                    helper.make_tensor_value_info(k, helper.np_dtype_to_tensor_dtype(v.dtype), v.shape)
                    for k, v in feeds.items()
                ],
                [helper.make_empty_tensor_value_info(name) for name in node.outputs],
            ),
            opset_imports=[helper.make_opsetid("", opset)],
            ir_version=9,
        )
    ).run(None, feeds)
    return found[0] if len(found) == 1 else found


def same(op, *values, **more):
    """The values, shapes and element types are those of the reference."""
    with np.errstate(all="ignore"):
        expected = reference(op, *values, **more)
    found = folded(op, *values, **more)
    for one, other in zip(*(v if isinstance(v, list) else [v] for v in (found, expected)), strict=True):
        assert (one.dtype, one.shape) == (np.asarray(other).dtype, np.shape(other))
        np.testing.assert_array_equal(one, other)


# Beside the reference ------------------------------------------------------------------------------------------------
SHAPES = st.lists(st.integers(1, 3), max_size=3).map(tuple)


@st.composite
def arrays(draw, kinds=("float32", "int64", "int32"), shape=None):
    shape = draw(SHAPES) if shape is None else shape
    kind = draw(st.sampled_from(kinds))
    numbers = draw(st.lists(st.integers(-6, 6), min_size=prod(shape), max_size=prod(shape)))
    return (np.array(numbers, kind) / (2 if kind == "float32" else 1)).astype(kind).reshape(shape)


@st.composite
def pairs(draw, kinds=("float32", "int64", "int32")):
    """Two arrays of one type that can be broadcast."""
    one = draw(arrays(kinds))
    shape = tuple(draw(st.sampled_from((1, n))) for n in one.shape[draw(st.integers(0, one.ndim)) :])
    other = draw(arrays((one.dtype.name,), shape))
    return (one, other) if draw(st.booleans()) else (other, one)


TWO = ["Add", "Sub", "Mul", "Min", "Max", "Equal", "Less", "Greater", "LessOrEqual", "GreaterOrEqual"]


@pytest.mark.parametrize("op", TWO)
@given(pairs())
@settings(max_examples=25)
def test_two_values(op, pair):
    same(op, *pair)


@given(pairs())
def test_division_and_remainder(pair):
    a, b = pair
    b = np.where(b == 0, b.dtype.type(2), b)
    if a.dtype.kind == "i":  # the reference rounds down, ONNX says towards 0
        np.testing.assert_array_equal(folded("Div", a, b), np.trunc(a / b).astype(a.dtype))
        same("Mod", a, b)
    else:
        same("Div", a, b)
    same("Mod", a, b, fmod=1)


@pytest.mark.parametrize("op", ["Neg", "Abs", "Sign", "Floor", "Ceil", "Round", "Sqrt", "Exp", "Reciprocal", "Log"])
@given(x=arrays(("float32",)))
@settings(max_examples=15)
def test_one_value(op, x):
    same(op, np.abs(x) + np.float32(1) if op in ("Sqrt", "Log", "Reciprocal") else x)


@given(st.data())
def test_logic(data):
    a, b = data.draw(pairs(("int32",)))
    for op in ("And", "Or", "Xor"):
        same(op, a > 0, b > 0)
    same("Not", a > 0)
    same("Where", a > b, a, b)
    same("Where", a[..., None] > 0, np.float32(1), np.float32(2))


@pytest.mark.parametrize("op", ["ReduceProd", "ReduceSum", "ReduceMin", "ReduceMax", "ReduceMean", "ReduceL2"])
@given(st.data())
@settings(max_examples=25)
def test_reductions(op, data):
    x = data.draw(arrays(("float32",) if op in ("ReduceMean", "ReduceL2") else ("float32", "int64")))
    axes = data.draw(st.lists(st.integers(0, x.ndim - 1), unique=True, max_size=x.ndim)) if x.ndim else []
    axes = [a - x.ndim if data.draw(st.booleans()) else a for a in axes]
    keep = {"keepdims": data.draw(st.integers(0, 1))}
    if op == "ReduceSum":
        same(op, x, np.array(axes, "int64"), **keep, noop_with_empty_axes=data.draw(st.integers(0, 1)))
    elif axes:
        same(op, x, axes=axes, **keep)
    else:
        same(op, x, **keep)


@given(st.data())
@settings(max_examples=30)
def test_shapes(data):
    x = data.draw(arrays())
    axes = list(range(x.ndim))
    same("Shape", x)
    same("Size", x)
    same("Identity", x)
    same("Flatten", x, axis=data.draw(st.integers(0, x.ndim)))
    if axes:
        same("Transpose", x, perm=data.draw(st.permutations(axes)))
    same("Transpose", x)
    target = list(data.draw(st.permutations(x.shape)))
    same("Reshape", x, np.array(target, "int64"))
    if target:
        target[data.draw(st.integers(0, len(target) - 1))] = -1
        same("Reshape", x, np.array(target, "int64"))
        same("Reshape", x, np.array([0, -1]))
    more = data.draw(st.lists(st.integers(0, x.ndim), unique=True, max_size=2))
    more = [a for a in more if a < x.ndim + len(more)]
    same("Unsqueeze", x, np.array(more, "int64"))
    single = [a for a in axes if x.shape[a] == 1]
    if single:
        same("Squeeze", x, np.array(single))
    same("Squeeze", x)
    same("Expand", x, np.array([2, *x.shape], "int64"))
    same("Tile", x, np.array(data.draw(st.lists(st.integers(0, 3), min_size=x.ndim, max_size=x.ndim)), "int64"))
    same("NonZero", np.atleast_1d(x))


@given(st.data())
def test_parts(data):
    x = data.draw(arrays(shape=data.draw(st.lists(st.integers(1, 4), min_size=1, max_size=3))))
    axis = data.draw(st.integers(-x.ndim, x.ndim - 1))
    n = x.shape[axis]
    bound = st.integers(-2 * n, 2 * n) | st.sampled_from([2**63 - 1, -(2**63)])
    start, end, step = data.draw(bound), data.draw(bound), data.draw(st.sampled_from([-2, -1, 1, 2, 2**31]))
    same("Slice", x, *(np.array([v]) for v in (start, end, axis, step)))
    index = data.draw(st.lists(st.integers(-n, n - 1), max_size=3))
    same("Gather", x, np.array(index, "int64"), axis=axis)
    same("Gather", x, np.int64(n - 1), axis=axis)
    same("Concat", x, x[::-1].copy(), axis=axis)
    cut = data.draw(st.integers(0, n))
    same("Split", x, np.array([cut, n - cut]), axis=axis, outputs=2)


@pytest.mark.parametrize("to", range(1, 14))
@given(x=arrays())
@settings(max_examples=10)
def test_casts(to, x):
    if to == 8:
        with pytest.raises(ic.ModelError, match="it makes elements of the type 8"):
            folded("Cast", x, to=to)
        return
    found, expected = folded("Cast", np.abs(x), to=to), reference("Cast", np.abs(x), to=to)
    np.testing.assert_array_equal(found, expected)
    assert found.dtype == ("float32" if to == 10 else expected.dtype)


def test_casts_to_half_precision_round():
    x = np.array([1 / 3, 1e6, -0.1, np.inf, np.nan, 3.3895e38], "float32")
    for to in (10, 16):
        with np.errstate(over="ignore"):
            expected = reference("Cast", x, to=to).astype("float32")
        np.testing.assert_array_equal(folded("Cast", x, to=to), expected)


@pytest.mark.parametrize("given", [(0, 10, 3), (10, 0, -3), (0, -1, 1), (2, 2, 1), (0.0, 1.0, 0.25), (5.0, 1.0, -1.5)])
def test_ranges(given):
    kind = "float32" if isinstance(given[0], float) else "int64"
    same("Range", *(np.array(v, kind) for v in given))


def test_constants():
    same("ConstantOfShape", np.array([2, 3]))
    found = folded("ConstantOfShape", np.array([2, 3]), value=np.array([5]))
    np.testing.assert_array_equal(found, [[5, 5, 5], [5, 5, 5]])
    assert folded("ConstantOfShape", np.array([], "int64")) == 0
    assert folded("Constant", value=np.float32(3)) == 3
    assert folded("Constant", value_int=3).dtype == "int64"
    assert folded("Constant", value_floats=(0.1, 0.2)).dtype == "float32"
    np.testing.assert_array_equal(folded("Constant", value_ints=(1, 2)), [1, 2])
    with pytest.raises(ic.ModelError, match="it holds no number"):
        folded("Constant", value_string="a")


def test_powers():
    same("Pow", np.array([1, 2, 3], "float32"), np.array([0.5, 2, -1], "float32"))
    same("Pow", np.array([1, 2, 3]), np.array([2.0, 0.5, 1.0], "float32"))


def test_split_in_parts_of_one_size():
    for x, n in ((np.arange(6), 3), (np.arange(7), 3)):
        parts, expected = folded("Split", x, outputs=n), reference("Split", x, outputs=n, opset=18, num_outputs=n)
        np.testing.assert_array_equal(np.concatenate(parts), x)
        assert [len(part) for part in parts] == [len(part) for part in expected]


# The batch size ------------------------------------------------------------------------------------------------------
def test_flatten_as_exporters_write_it():
    """Shape, Gather, Unsqueeze, Concat: (N, -1)."""
    shape = shape_value((BATCH, 4, 6, 6))
    batch = folded("Gather", shape, np.int64(0), axis=0)
    both = folded("Concat", folded("Unsqueeze", batch, np.array([0])), np.array([-1]), axis=0)
    assert reshaped((BATCH, 4, 6, 6), list(both)) == (BATCH, 144)
    rest = folded("ReduceProd", folded("Slice", shape, np.array([1]), np.array([2**63 - 1])))
    assert rest.dtype == "int64"
    assert rest == 144
    assert folded("ReduceProd", shape, keepdims=0) == Batch(144)


def test_sizes_of_an_enlarged_image():
    """Shape, Cast, Mul by the scales, Floor, Cast: as PyTorch writes interpolate."""
    shape = folded("Cast", shape_value((BATCH, 4, 6, 6)), to=1)
    scaled = folded("Floor", folded("Mul", shape, np.array([1, 1, 2, 1.5], "float32")))
    np.testing.assert_array_equal(folded("Cast", scaled, to=7), np.array([BATCH, 4, 12, 9], object))
    ratio = folded("Div", scaled, shape)
    assert ratio.dtype == "float32"
    np.testing.assert_array_equal(ratio, [1, 1, 2, 1.5])


def test_expand_as_pytorch_writes_it():
    """Where(shape == -1, ones, shape)."""
    shape = shape_value((BATCH, -1, 4))
    asked = folded("Equal", shape, np.array([-1, -1, -1]))
    assert asked.dtype == "bool"
    found = folded("Where", asked, np.array([1, 1, 1]), shape)
    assert list(found) == [BATCH, 1, 4]


def value(of, n):
    """A result with a batch size in its place."""
    return np.array([v.times * n if isinstance(v, Batch) else v for v in np.asarray(of, object).ravel()])


@pytest.mark.parametrize("op", [*TWO, "Div", "Mod"])
@given(one=st.integers(-12, 12), two=st.integers(-12, 12), which=st.sampled_from(["a", "b", "ab"]))
@settings(max_examples=60)
def test_what_the_batch_size_gives_is_so_for_every_one(op, one, two, which):
    """The result is that of numbers for each batch size, or it is refused since it would be another one."""

    def operand(name, number):
        return shape_value((BATCH * number,)) if name in which else np.array([number])

    operands = operand("a", one), operand("b", two)
    sizes = range(1, 40)
    numbers = [
        (np.array([one * (n if "a" in which else 1)]), np.array([two * (n if "b" in which else 1)])) for n in sizes
    ]
    try:
        found = folded(op, *operands)
    except ic.ModelError:
        if op == "Mul" or (one and two and op in ("Add", "Sub")):
            return
        with np.errstate(all="ignore"):
            results = {int(folded(op, *pair)[0]) for pair in numbers if op not in ("Div", "Mod") or pair[1].all()}
        assert len(results) != 1 or op in ("Div", "Mod")
        return
    for n, pair in zip(sizes, numbers, strict=True):
        if op not in ("Div", "Mod") or pair[1].all():
            np.testing.assert_array_equal(value(found, n), folded(op, *pair))


@pytest.mark.parametrize(
    ("op", "values", "text"),
    [
        ("Mul", (shape_value((BATCH,)), shape_value((BATCH,))), "it needs the square of the batch size"),
        ("Add", (shape_value((BATCH,)), np.array([1])), "it adds a number to the batch size"),
        ("Div", (shape_value((BATCH,)), np.array([2])), "it divides N by 2"),
        ("Div", (shape_value((BATCH,)), np.array([0])), "it divides by 0"),
        ("Equal", (shape_value((BATCH,)), np.array([4])), "it compares the batch size with 4"),
        ("Less", (shape_value((BATCH * 3,)), np.array([4])), r"it compares 3\*N with 4"),
        ("Sqrt", (shape_value((BATCH,)),), "it depends on the batch size"),
        ("ReduceMax", (shape_value((BATCH, 3)),), "it depends on the batch size"),
        ("ConstantOfShape", (shape_value((BATCH, 3)),), "its shape depends on the batch size"),
        ("Expand", (np.float32(1), shape_value((BATCH, 3))), "its shape depends on the batch size"),
        ("Slice", (np.arange(3), shape_value((BATCH,)), np.array([9])), "its starts depend on the batch size"),
    ],
)
def test_what_another_batch_size_would_change(op, values, text):
    with pytest.raises(ic.ModelError, match=rf"node 'n' \({op}\) cannot be computed: {text}"):
        folded(op, *values)


@pytest.mark.parametrize(
    ("shape", "target", "expected"),
    [
        ((BATCH, 4, 6), (-1, 24), (BATCH, 24)),
        ((BATCH, 4, 6), (0, -1), (BATCH, 24)),
        ((BATCH, 4, 6), (BATCH, 2, 2, -1), (BATCH, 2, 2, 6)),
        ((BATCH, 4, 6), (BATCH * 4, 6), (BATCH * 4, 6)),
        ((BATCH * 4, 6), (-1, 4, 6), (BATCH, 4, 6)),
        ((2, 3), (3, 2), (3, 2)),
        ((BATCH, 4, 6), (1, 24), None),
        ((BATCH, 4, 6), (-1, 25), None),
        ((BATCH, 4, 6), (-1, -1), None),
        ((BATCH, 4, 6), (24, -1), (24, BATCH)),
        ((BATCH, 4, 6), (-2, 24), None),
        ((BATCH,), (1, 0), None),
        ((0, 3), (0, -1), None),
    ],
)
def test_reshaped(shape, target, expected):
    if expected is None:
        with pytest.raises(Unfoldable):
            reshaped(shape, target)
    else:
        assert reshaped(shape, target) == expected


def test_zero_may_mean_zero():
    assert reshaped((0, 3), (3, 0), allowzero=True) == (3, 0)


# Limits --------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("op", "values", "size"),
    [
        ("ConstantOfShape", [np.array([4 * 10**9])], "14.9 Gi"),
        ("ConstantOfShape", [np.array([2**62, 2**62, 0])], "0 "),
        ("Tile", [np.zeros(1000, "float32"), np.array([10**7])], "37.3 Gi"),
        ("Range", [np.int64(0), np.int64(3 * 10**9), np.int64(1)], "22.4 Gi"),
        ("Range", [np.float32(0), np.float32(3e38), np.float32(1e-38)], None),
        ("Expand", [np.float32(1), np.array([10**5, 10**5])], "37.3 Gi"),
        ("Add", [np.zeros((1000, 1)), np.zeros((1, 1000))], "7.63 Mi"),
        ("Where", [np.zeros((1000, 1), bool), np.zeros((1, 1000)), np.zeros(1)], "7.63 Mi"),
        ("Gather", [np.zeros((10, 1000)), np.zeros(1000, "int64")], "7.63 Mi"),
        ("Concat", [np.zeros(100_000)] * 2, "1.53 Mi"),
        ("NonZero", [np.zeros((300, 1000), bool)], "4.58 Mi"),
        ("Cast", [np.zeros(300_000, bool)], "2.29 Mi"),
    ],
)
def test_sizes_are_checked_before(op, values, size):
    axis = {"axis": 0} if op == "Concat" else {"to": 7} if op == "Cast" else {}
    with pytest.raises(ic.ModelError, match=rf"\({op}\) cannot be computed: ") as caught:
        folded(op, *values, **axis)
    if size is not None:
        assert f"its result would take {size}B, the limit is 1 MiB" in str(caught.value)


@pytest.mark.parametrize(
    ("op", "values", "attributes"),
    [
        ("Add", [np.zeros(3)], {}),
        ("Add", [np.zeros(3), None], {}),
        ("Add", [np.zeros(3), np.zeros(2)], {}),
        ("Add", [np.zeros(3), np.zeros(3, "float32")], {}),
        ("Concat", [np.zeros(3), np.zeros((2, 2))], {"axis": 0}),
        ("Concat", [np.zeros(3)], {}),
        ("Concat", [np.zeros(3), np.zeros(3)], {"axis": 1}),
        ("Concat", [np.zeros(3), np.zeros(3)], {"axis": "a"}),
        ("Gather", [np.zeros(3), np.int64(3)], {}),
        ("Gather", [np.zeros(3), np.float32(1)], {}),
        ("Gather", [np.zeros(3)], {}),
        ("Gather", [np.zeros(3), np.int64(0)], {"axis": 5}),
        ("Slice", [np.zeros(3), np.array([0]), np.array([1, 2])], {}),
        ("Slice", [np.zeros(3), np.array([0]), np.array([1]), np.array([0]), np.array([0])], {}),
        ("Slice", [np.zeros(3), np.array([0]), np.array([1]), np.array([7])], {}),
        ("Slice", [np.zeros(3)], {}),
        ("Transpose", [np.zeros((2, 3))], {"perm": (0, 0)}),
        ("Transpose", [np.zeros((2, 3))], {"perm": 5}),
        ("Squeeze", [np.zeros((2, 3)), np.array([0])], {}),
        ("Unsqueeze", [np.zeros(2), np.arange(80)], {}),
        ("Unsqueeze", [np.zeros(2)], {}),
        ("Reshape", [np.zeros(3), np.array([0.5])], {}),
        ("Reshape", [np.zeros(3), np.array([2])], {}),
        ("Reshape", [np.zeros(3), np.ones(80, "int64")], {}),
        ("ReduceSum", [np.zeros(3), np.array([1])], {}),
        ("ReduceMin", [np.zeros(0)], {}),
        ("ReduceMean", [np.zeros(0, "float32")], {}),
        ("Div", [np.arange(3), np.arange(3)], {}),
        ("Mod", [np.arange(3), np.arange(3)], {}),
        ("Pow", [np.arange(3), np.array([-1])], {}),
        ("Range", [np.int64(0), np.int64(1), np.int64(0)], {}),
        ("Range", [np.float32(0), np.float32(np.nan), np.float32(1)], {}),
        ("Range", [np.arange(2), np.arange(2), np.arange(2)], {}),
        ("ConstantOfShape", [np.array([-3])], {}),
        ("ConstantOfShape", [np.array([3])], {"value": np.zeros(2)}),
        ("Tile", [np.zeros(3), np.array([1, 2])], {}),
        ("Tile", [np.zeros(3), np.array([-1])], {}),
        ("Split", [np.zeros(3), np.array([1])], {}),
        ("Cast", [np.zeros(3)], {"to": "float"}),
        ("Cast", [np.zeros(3)], {"to": (1, 2)}),
        ("Not", [], {}),
        ("Shape", [None], {}),
        ("Where", [np.zeros(3, bool), np.zeros(3)], {}),
    ],
)
def test_nodes_that_are_wrong(op, values, attributes):
    with pytest.raises(ic.ModelError, match=rf"node 'n' \({op}\) cannot be computed: ") as caught:
        folded(op, *values, **attributes)
    assert len(str(caught.value)) < 300
    assert str(caught.value).isprintable()


def test_nothing_else_is_computed():
    for node in (operator("Conv"), operator("Loop"), operator("Relu"), OnnxNode("Add", "own", "n", (), (), {}, 1)):
        assert not foldable(node)
