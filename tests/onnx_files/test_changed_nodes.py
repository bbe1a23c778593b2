"""Nodes whose attributes, constants or inputs have been changed: a network or an error, never anything else."""

import random

import numpy as np
import pytest
from onnx import ModelProto, numpy_helper
from test_hostile_files import try_it
from test_operators import ROWS, operator_model

INTEGERS = (-1, 0, 1, 2, 3, 5, -100, 10**6, 2**31 - 1, -(2**31), 2**40, 2**62, 2**63 - 1, -(2**63))
FLOATS = (0.0, -1.0, float("nan"), float("inf"), 1e30, 1e-30)
TEXTS = (b"", b"SAME_UPPER", b"VALID", b"reflect", b"linear", b"cubic", b"\xff")


def change_attribute(rng, node, others):
    attribute = rng.choice(node.attribute)
    kind = rng.random()
    if kind < 0.2:
        node.attribute.remove(attribute)
    elif kind < 0.35:  # of another type
        name = attribute.name
        attribute.CopyFrom(rng.choice(others))
        attribute.name = name
    elif attribute.type == attribute.INTS and attribute.ints:
        place = rng.randrange(len(attribute.ints))
        if rng.random() < 0.7:
            attribute.ints[place] = rng.choice(INTEGERS)
        elif rng.random() < 0.5:
            del attribute.ints[place]
        else:
            attribute.ints.append(rng.choice(INTEGERS))
    else:
        attribute.i, attribute.f, attribute.s = rng.choice(INTEGERS), rng.choice(FLOATS), rng.choice(TEXTS)


def change_constant(rng, tensor):
    array = numpy_helper.to_array(tensor).copy()
    if array.size and array.dtype == "int64" and rng.random() < 0.6:
        array.flat[rng.randrange(array.size)] = rng.choice(INTEGERS)
    else:
        changes = [array.ravel(), array[..., None], array[:0] if array.ndim else array, np.ones(3, "int32")]
        array = rng.choice([*changes, np.full(array.shape, np.nan, "float32")])
    tensor.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(array), tensor.name))


def change_inputs(rng, node):
    place = rng.randrange(len(node.input))
    if rng.random() < 0.5:
        node.input[place] = ""
    else:
        del node.input[place]


def change(rng, made, others):
    node = rng.choice(made.graph.node)
    kind = rng.random()
    if kind < 0.5 and node.attribute:
        change_attribute(rng, node, others)
    elif kind < 0.75 and made.graph.initializer:
        change_constant(rng, rng.choice(made.graph.initializer))
    elif kind < 0.85 and node.input:
        change_inputs(rng, node)
    elif kind < 0.93:
        rng.choice(made.graph.input[0].type.tensor_type.shape.dim).dim_value = max(0, rng.choice(INTEGERS))
    else:
        made.opset_import[0].version = rng.choice((6, 7, 9, 11, 13, 17, 22, 30))


@pytest.fixture(scope="module")
def operators():
    """A file for each of the operators that are tested."""
    rows = [row.values[:5] for row in ROWS]
    return [operator_model(*row, "float32").SerializeToString() for row in rows]


@pytest.mark.parametrize("seed", range(6))
def test_nodes_that_have_changed(operators, seed):
    rng = random.Random(seed)
    others = [a for data in operators for node in ModelProto.FromString(data).graph.node for a in node.attribute]
    for _ in range(60):
        made = ModelProto.FromString(rng.choice(operators))
        for _ in range(rng.choice((1, 1, 2, 3))):
            change(rng, made, others)
        try_it(made.SerializeToString(), rng.choice((None, None, None, (3, 8, 8))))
