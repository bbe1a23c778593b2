"""Dropout, and operators that do not change a value."""

from __future__ import annotations

from im2colnet.host import np
from im2colnet.layers import Dropout
from im2colnet.onnx.read import OnnxNode
from im2colnet.onnx.translate import Refused, Translation, importer

#: ONNX's floating-point types
FLOATS = {1: "float32", 10: "float16", 11: "float64", 16: "bfloat16"}


@importer("Dropout", (6, 22), "Dropout", "its mask is not returned")
def dropout(node: OnnxNode, t: Translation) -> None:
    t.only_first_output(node)
    if node.opset >= 12 and np.any(t.known(node, 2, "training mode") or 0):
        t.note(node, "is in training mode: here only training drops values")
    given = node.attributes.get("ratio", t.known(node, 1, "ratio"))
    ratio = 0.5 if given is None else float(np.asarray(given).item())
    if 0 < ratio < 1:
        t.add(node, Dropout(float(str(np.float32(ratio)))), node.inputs[0])
    else:
        t.same(node, node.inputs[0])


@importer("Identity", (6, 25), "nothing")
def identity(node: OnnxNode, t: Translation) -> None:
    t.same(node, node.inputs[0])


@importer("Cast", (6, 28), "nothing", "to numbers with a fraction")
def cast(node: OnnxNode, t: Translation) -> None:
    if node.attributes.get("to") not in FLOATS:
        raise Refused("it converts values of the network to integers or booleans")
    t.same(node, node.inputs[0])


@importer("CastLike", (15, 25), "nothing", "to numbers with a fraction")
def cast_like(node: OnnxNode, t: Translation) -> None:
    like = t.constant(node.inputs[1])
    if like is not None and like.dtype.kind != "f":
        raise Refused("it converts values of the network to integers or booleans")
    t.same(node, node.inputs[0])
