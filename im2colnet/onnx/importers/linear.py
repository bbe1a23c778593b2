"""Products with a matrix."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from im2colnet.host import np
from im2colnet.layers import AdaptiveAvgPool1d, AdaptiveAvgPool2d, Add, Linear, MatMul, Permute, WithConstant
from im2colnet.layers.pooling import shares
from im2colnet.onnx.importers.merging import sample_constant
from im2colnet.onnx.read import OnnxNode
from im2colnet.onnx.translate import Refused, Translation, importer


@importer("Gemm", (6, 13), "Linear", "the second input is a constant; the first is not transposed")
def gemm(node: OnnxNode, t: Translation) -> None:
    alpha, beta = node.attributes.get("alpha", 1.0), node.attributes.get("beta", 1.0)
    if node.attributes.get("transA", 0) or t.constant(node.inputs[0]) is not None:
        raise Refused("it transposes its first input, and the batch axis with it")
    weight = t.known(node, 1, "second input")
    weight = scaled(weight if node.attributes.get("transB", 0) else weight.T, alpha)
    outputs, features = weight.shape
    last = node.inputs[2] if len(node.inputs) > 2 else ""
    bias = t.constant(last) if last else None
    if bias is not None:
        bias = scaled(sample_constant(bias, (None, outputs)), beta)
        bias = np.array(np.broadcast_to(bias.reshape(-1), (outputs,)))
    layer = Linear(features, outputs, bias=bias is not None)
    made = t.apply(node, layer, node.inputs[0], weights={"weight": weight} | ({} if bias is None else {"bias": bias}))
    if last and bias is None:
        if beta != 1:
            last = t.after(node, last, WithConstant("mul", None, float(beta)))
        made = t.apply(node, Add(), made, last)
    t.same(node, made)


def scaled(array: Any, factor: float) -> Any:
    """Return the product with a factor; for the factor 1 it is the array itself."""
    return array if factor == 1 else (array * np.float64(factor)).astype(array.dtype)


#: the largest length of an axis for which a matrix is compared with average pooling
MOST_PIXELS = 1024


@importer("MatMul", (6, 13), "Linear, MatMul, AdaptiveAvgPool2d", "a constant is a matrix; values have 3 axes or more")
def matmul(node: OnnxNode, t: Translation) -> None:
    a, b = node.inputs
    first, second = t.constant(a), t.constant(b)
    if first is None and second is None:
        if min(len(t.shape(a)), len(t.shape(b))) < 3 or len(t.shape(a)) != len(t.shape(b)):
            raise Refused("it multiplies two values so that samples of the batch are mixed")
        t.add(node, MatMul(), a, b)
    elif first is None:
        means = means_of(matrix(second), t.shape(a), -1)
        t.same(node, t.apply(node, means, a) if means else along_last(node, t, a, matrix(second)))
    elif means := means_of(matrix(first).T, t.shape(b), -2):
        t.add(node, means, b)
    else:
        ndim = len(t.shape(b))
        if ndim < 3:
            raise Refused("it multiplies along the batch axis")
        swap = Permute((*range(ndim - 2), ndim - 1, ndim - 2))
        made = along_last(node, t, t.apply(node, swap, b), matrix(first).T)
        t.add(node, Permute(swap.dims), made)


def matrix(constant: Any) -> Any:
    """Return a constant factor as a matrix (in, out); axes of length 1 before that do not matter."""
    found = constant.reshape(constant.shape[-2:]) if constant.size == np.prod(constant.shape[-2:]) else constant
    if found.ndim != 2:
        raise Refused(f"its constant of shape {constant.shape} is not a matrix")
    return found


def means_of(factor: Any, shape: Sequence[Any], axis: int) -> Any:
    """Return the pooling that equals the product with this matrix (in, out), if its columns are means of neighbours."""
    length, count = factor.shape
    if len(shape) not in (3, 4) or (len(shape) == 3 and axis == -2) or length > MOST_PIXELS or count > MOST_PIXELS:
        return None
    means = np.zeros((length, count), factor.dtype)
    for column, pixels in enumerate(shares(length, count)):
        means[pixels, column] = 1 / (pixels.stop - pixels.start)
    if count == length or not np.array_equal(means, factor):
        return None
    if len(shape) == 3:
        return AdaptiveAvgPool1d(count)
    return AdaptiveAvgPool2d((None, count) if axis == -1 else (count, None))


def along_last(node: OnnxNode, t: Translation, tensor: str, factor: Any) -> str:
    """Multiply the last axis by a matrix (in, out); return a name for the product."""
    features, outputs = factor.shape
    return t.apply(node, Linear(features, outputs, bias=False), tensor, weights={"weight": factor.T})
