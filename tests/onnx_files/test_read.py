"""What a file says, as it is read: names, constants, order, functions, branches."""

import ml_dtypes
import numpy as np
import pytest
from onnx import AttributeProto, TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator
from onnx_files import external, graph, model, node

import im2colnet as ic
from im2colnet.onnx.read import Branch, read

WEIGHT = np.arange(24, dtype="float32").reshape(2, 3, 2, 2)
SMALL = model([node("Conv", "x w", "c", pads=[0, 1, 0, 1]), node("Relu", "c", "y", name="act")], arrays={"w": WEIGHT})


@pytest.mark.parametrize("given", ["path", "bytes", "model"])
def test_every_kind_of_source(given, tmp_path):
    (tmp_path / "a.onnx").write_bytes(SMALL.SerializeToString())
    source = {"path": tmp_path / "a.onnx", "bytes": SMALL.SerializeToString(), "model": SMALL}[given]
    found = read(source)
    assert [(n.op, n.inputs, n.outputs, n.opset) for n in found.nodes] == [
        ("Conv", ("x", "w"), ("c",), 17),
        ("Relu", ("c",), ("y",), 17),
    ]
    assert found.nodes[0].attributes == {"pads": (0, 1, 0, 1)}
    assert found.inputs == {"x": ("N", 3, 8, 8)}
    assert found.types == {"x": "float32"}
    assert (found.outputs, found.opset, found.notes) == (("y",), 17, [])
    np.testing.assert_array_equal(found.constants["w"], WEIGHT)
    assert str(found.nodes[0]) == "node 'c' (Conv)"  # without a name it is called by what it makes
    assert str(found.nodes[1]) == "node 'act' (Relu)"


def test_another_source_is_refused():
    with pytest.raises(ic.ModelError, match="a path, bytes or a ModelProto; got int"):
        read(5)


def test_only_what_an_output_needs_is_read_in_an_order_that_works():
    nodes = [node("Relu", "b", "y"), node("Neg", "x", "unused"), node("Add", "a w", "b"), node("Exp", "x", "a")]
    found = read(model(nodes, arrays={"w": np.float32(1), "v": np.float32(2)}))
    assert [n.op for n in found.nodes] == ["Exp", "Add", "Relu"]
    assert list(found.constants) == ["w"]


def test_nodes_that_are_in_order_stay_so():
    nodes = [node("Relu", "x", "b"), node("Exp", "x", "a"), node("Add", "a b", "y")]
    assert [n.op for n in read(model(nodes)).nodes] == ["Relu", "Exp", "Add"]


def test_inputs():
    shapes = {"x": ("N", 3, None, -1), "w": (2, 3, 2, 2), "mask": None}
    found = read(model([node("Conv", "x w", "y")], shapes, arrays={"w": WEIGHT}))
    assert found.inputs == {"x": ("N", 3, None, None)}  # w has a value, so it is a constant
    assert found.notes == ["input 'mask' is not needed for any output"]
    assert read(model([node("Add", "x mask", "y")], shapes)).inputs["mask"] == ()


def test_attributes_are_the_shortest_decimals():
    """ONNX's floats are float32: 1e-05 is kept as 9.99999974e-06."""
    given = {"epsilon": 1e-5, "f": [0.1, 3.0], "s": "SAME_UPPER", "t": ["a", "b"], "i": 7, "e": [1, 2]}
    attributes = read(model([node("Odd", "x", "y", **given)])).nodes[0].attributes
    assert attributes == given | {name: tuple(given[name]) for name in "fte"}


KINDS = ["float32", "float64", "int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64", "bool"]


@pytest.mark.parametrize("kind", [*KINDS, "float16", "bfloat16"])
@pytest.mark.parametrize("raw", [True, False])
def test_tensors(kind, raw):
    array = np.array([[0, 1, 100], [3, 1, 0]]).astype(getattr(ml_dtypes, kind, kind))
    tensor = numpy_helper.from_array(array, "w")
    if not raw:
        bits = array.view("uint16") if "float16" in kind else array.astype("uint8") if kind == "bool" else array
        tensor = TensorProto(name="w", data_type=tensor.data_type, dims=array.shape)
        field = {"float32": "float_data", "float64": "double_data", "int64": "int64_data"}.get(kind, "int32_data")
        field = "uint64_data" if kind in ("uint32", "uint64") else field
        getattr(tensor, field).extend(bits.ravel().tolist())
    found = read(model([node("Add", "x w", "y")], arrays={"w": tensor}))
    expected = array.astype("float32") if "float16" in kind else array
    assert found.constants["w"].dtype == expected.dtype
    np.testing.assert_array_equal(found.constants["w"], expected)
    half = ["1 of its tensors are in half precision: they are read as float32"]
    assert found.notes == (half if "float16" in kind else [])


@pytest.mark.parametrize("kind", ["float16", "bfloat16"])
def test_half_precision_keeps_its_values(kind):
    array = np.array([1 / 3, -65504, 6e-8, np.inf], "float32").astype(getattr(ml_dtypes, kind, kind))
    found = read(model([node("Add", "x w", "y")], arrays={"w": array}))
    np.testing.assert_array_equal(found.constants["w"], array.astype("float32"))


# Functions and branches ----------------------------------------------------------------------------------------------
def function(name, inputs, outputs, nodes, attributes=(), defaults=()):
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("own", 1)]
    return helper.make_function("own", name, inputs, outputs, nodes, opsets, list(attributes), list(defaults))


def own(op, inputs, outputs, **attributes):
    made = node(op, inputs, outputs, **attributes)
    made.domain = "own"
    return made


def refer(made, attribute, reference):
    """Let an attribute of a node in a function, which is a float, be one of the function's."""
    made.attribute.add(name=attribute, ref_attr_name=reference, type=AttributeProto.FLOAT)
    return made


def computed(found, x):
    """What the nodes of a model that was read compute, by ONNX's reference."""
    nodes = [node(n.op, " ".join(n.inputs), " ".join(n.outputs), **n.attributes) for n in found.nodes]
    again = model(nodes, arrays=found.constants, outputs=found.outputs)
    return ReferenceEvaluator(again).run(None, {"x": x})


def test_functions_are_replaced_by_their_nodes():
    slope = refer(node("LeakyRelu", "a", "b"), "alpha", "slope")
    inner = function("Inner", ["a"], ["b"], [slope], ["slope"])
    twice = [own("Inner", "p", "t", slope=0.5), node("Mul", "t q", "u"), own("Inner", "u", "r", slope=0.25)]
    calls = function("Outer", ["p", "q"], ["r", "p"], twice)
    nodes = [own("Outer", "x two", "a b"), own("Outer", "a two", "c _"), node("Add", "b c", "y")]
    made = model(nodes, arrays={"two": np.float32(2)}, functions=[inner, calls], domains=["own"])
    found = read(made)
    assert {n.op for n in found.nodes} == {"LeakyRelu", "Mul", "Identity", "Add"}
    assert len({name for n in found.nodes for name in n.outputs}) == len(found.nodes)
    x = np.random.default_rng(0).standard_normal((2, 3, 8, 8)).astype("float32")

    def leaky(v, slope):
        return np.where(v < 0, np.float32(slope) * v, v)

    def outer(v):
        return leaky(leaky(v, 0.5) * 2, 0.25)

    np.testing.assert_array_equal(computed(found, x), [x + outer(outer(x))])


def test_an_attribute_of_a_function_may_have_a_default():
    slope = refer(node("LeakyRelu", "a", "b"), "alpha", "slope")
    inner = function("Inner", ["a"], ["b"], [slope], defaults=[helper.make_attribute("slope", 0.125)])
    nodes = [own("Inner", "x", "a"), own("Inner", "a", "y", slope=0.5)]
    found = read(model(nodes, functions=[inner], domains=["own"]))
    assert [n.attributes["alpha"] for n in found.nodes] == [0.125, 0.5]


def test_an_input_that_a_call_leaves_out_is_left_out():
    inner = function("Inner", ["a", "b"], ["c"], [node("Clip", "a b", "c")])
    found = read(model([own("Inner", "x", "y")], functions=[inner], domains=["own"]))
    assert found.nodes[0].inputs == ("x", "")


def test_branches():
    then = graph([node("Add", "a w", "b"), node("Exp", "b", "r")], {}, ["r"], {"w": np.float32(1)}, "then")
    other = graph([node("Exp", "a", "b")], {}, ["b"], {"w": np.float32(1)}, "else")
    nodes = [node("If", "c", "y", then_branch=then, else_branch=other), node("Relu", "x", "a")]
    found = read(model(nodes, arrays={"c": np.array(True)}))
    assert [n.op for n in found.nodes] == ["Relu", "If"]  # the branches read what Relu makes
    one, two = (found.nodes[1].attributes[name] for name in ("then_branch", "else_branch"))
    assert isinstance(one, Branch)
    assert [n.op for n in one.nodes] == ["Add", "Exp"]
    assert [n.op for n in two.nodes] == ["Exp"]
    assert one.nodes[0].inputs[0] == two.nodes[0].inputs[0] == "a"
    assert one.outputs == one.nodes[1].outputs
    assert found.constants[one.nodes[0].inputs[1]] == 1
    assert len({"a", "b", "r", *one.nodes[0].outputs, *one.outputs, *two.outputs}) == 6


def test_a_branch_may_return_what_is_outside_of_it():
    then, other = (graph([], {}, [name], {}, name) for name in ("a", "x"))
    nodes = [node("Relu", "x", "a"), node("If", "c", "y", then_branch=then, else_branch=other)]
    found = read(model(nodes, arrays={"c": np.array(True)}))
    assert [found.nodes[-1].attributes[name].outputs for name in ("then_branch", "else_branch")] == [("a",), ("x",)]


def test_loops_are_nodes_like_others():
    """Whoever translates names them as missing."""
    body = graph([node("Identity", "c", "d")], {"i": (), "c": ()}, ["d"])
    found = read(model([node("Loop", "n x", "y", body=body)], arrays={"n": np.int64(3)}))
    assert found.nodes[0].attributes == {"body": None}


# External data -------------------------------------------------------------------------------------------------------
def test_external_data_beside_the_model(tmp_path):
    data = np.random.default_rng(0).standard_normal(300).astype("float32")
    (tmp_path / "w.bin").write_bytes(b"abc" + data.tobytes())
    arrays = {
        "w": external("w", "w.bin", offset=3, length=400),
        "v": external("v", "./w.bin", (10, 20), offset=403),
        "e": external("e", "w.bin", (0, 7), offset=5),
    }
    nodes = [node("Add", "x w", "a"), node("Add", "a v", "b"), node("Add", "b e", "y")]
    (tmp_path / "a.onnx").write_bytes(model(nodes, arrays=arrays).SerializeToString())
    found = read(tmp_path / "a.onnx").constants
    np.testing.assert_array_equal(found["w"], data[:100])
    np.testing.assert_array_equal(found["v"], data[100:].reshape(10, 20))
    assert found["e"].shape == (0, 7)
    for source in (model(nodes, arrays=arrays), model(nodes, arrays=arrays).SerializeToString()):
        with pytest.raises(ic.ModelError, match="tensor 'w' is stored in another file: give the path of the model"):
            read(source)


def test_weights_of_more_than_2_gb(tmp_path):
    """External data is mapped into memory; this file has no blocks on the disk but one."""
    size = 3 << 30
    with open(tmp_path / "w.bin", "wb") as file:
        file.seek(size - 8)
        file.write(np.array([1, 2], "<f4").tobytes())
    made = model([node("Add", "x w", "y")], arrays={"w": external("w", "w.bin", (size // 4,))})
    (tmp_path / "a.onnx").write_bytes(made.SerializeToString())
    with pytest.raises(ic.ModelError, match=r"it would take 3 GiB, the limit is 2 GiB: max_bytes="):
        read(tmp_path / "a.onnx")
    np.testing.assert_array_equal(read(tmp_path / "a.onnx", max_bytes=4 << 30).constants["w"][-2:], [1, 2])
