"""ONNX files for tests, made of operators and arrays."""

from collections.abc import Sequence

import numpy as np
from onnx import TensorProto, helper, numpy_helper

FLOAT = TensorProto.FLOAT


def node(op, inputs, outputs, **attributes):
    """An operator; its inputs and outputs as names, separated by spaces ("_" is one that is left out)."""
    names = ([("" if name == "_" else name) for name in names.split()] for names in (inputs, outputs))
    return helper.make_node(op, *names, **attributes)


def tensors(arrays):
    """Arrays by name, as initialisers; what is a TensorProto already stays."""
    return [
        value if isinstance(value, TensorProto) else numpy_helper.from_array(np.asarray(value), name)
        for name, value in arrays.items()
    ]


def values(shapes, kind=FLOAT):
    """Inputs or outputs by name; a shape of None is not said."""
    return [helper.make_tensor_value_info(name, kind, shape) for name, shape in shapes.items()]


def graph(nodes, inputs=None, outputs=("y",), arrays=None, name="g"):
    """Operators as a graph, by default of images ``x`` (N, 3, 8, 8) to ``y``."""
    inputs = {"x": ("N", 3, 8, 8)} if inputs is None else inputs
    outputs = dict.fromkeys(outputs) if isinstance(outputs, Sequence) else outputs
    return helper.make_graph(nodes, name, values(inputs), values(outputs), tensors(arrays or {}))


def model(nodes, inputs=None, outputs=("y",), arrays=None, opset=17, functions=(), domains=()):
    """A model of one graph."""
    opsets = [helper.make_opsetid("", opset), *(helper.make_opsetid(domain, 1) for domain in domains)]
    made = helper.make_model(graph(nodes, inputs, outputs, arrays), opset_imports=opsets, functions=list(functions))
    made.ir_version = 10
    return made


def external(name, location, shape=(100,), kind=FLOAT, **more):
    """A tensor whose numbers are in another file."""
    tensor = TensorProto(name=name, data_type=kind, dims=shape, data_location=TensorProto.EXTERNAL)
    for key, value in {"location": location, **more}.items():
        tensor.external_data.add(key=key, value=str(value))
    return tensor


def examples():
    """Five small files, which hold all that a file can."""
    rng = np.random.default_rng(0)
    weight = rng.standard_normal((4, 3, 3, 3)).astype("float32")
    flat = [
        node("Shape", "a", "s"),
        node("Gather", "s zero", "n", axis=0),
        node("Unsqueeze", "n axes", "n1"),
        node("Concat", "n1 rest", "to", axis=0),
        node("Reshape", "a to", "b"),
        node("Gemm", "b v w", "y", transB=1),
    ]
    whole = {"zero": np.int64(0), "axes": np.array([0]), "rest": np.array([-1])}
    dense = {"v": rng.standard_normal((5, 144)).astype("float32"), "w": np.ones(5, "float16")}
    own = node("F", "x", "y", slope=0.5)
    own.domain = "own"
    function = helper.make_function("own", "F", ["a"], ["b"], [node("Relu", "a", "b")], [helper.make_opsetid("", 17)])
    branch = node("If", "c", "y", then_branch=graph([node("Relu", "x", "y")], {}), else_branch=graph([], {}, ["x"]))
    constant = node("ConstantOfShape", "size", "filled", value=helper.make_tensor("value", 1, [1], [2.0]))
    return [
        model([node("Conv", "x k", "a"), node("Relu", "a", "y")], arrays={"k": weight}),
        model([node("Conv", "x k", "a"), *flat], arrays={"k": weight, **whole, **dense}),
        model([own], functions=[function], domains=["own"]),
        model([branch], arrays={"c": np.array(True)}),
        model([constant, node("Mul", "x filled", "y")], arrays={"size": np.array([8, 8])}),
    ]


EXAMPLES = examples()
