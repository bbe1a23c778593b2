"""Normalization."""

from __future__ import annotations

from math import prod
from typing import Any

from im2colnet.host import np
from im2colnet.layers import (
    BatchNorm1d,
    BatchNorm2d,
    GroupNorm,
    InstanceNorm2d,
    LayerNorm,
    LocalResponseNorm,
    Mean,
    Reciprocal,
    RMSNorm,
    Slice,
    Sqrt,
    Square,
    Sub,
    WithConstant,
)
from im2colnet.onnx.read import OnnxNode
from im2colnet.onnx.translate import Refused, Translation, importer


@importer("BatchNormalization", (6, 15), "BatchNorm1d, BatchNorm2d", "read in evaluation; its statistics are constants")
def batch_normalization(node: OnnxNode, t: Translation) -> None:
    t.only_first_output(node)
    names = "weight", "bias", "running_mean", "running_var"
    weights = {name: t.known(node, place + 1, name) for place, name in enumerate(names)}
    if not node.attributes.get("spatial", 1):
        raise Refused("spatial=0, with statistics of each pixel, is not supported")
    if node.attributes.get("training_mode", 0):
        t.note(node, "normalizes by the batch: here only training does so, and prediction uses the running statistics")
    momentum = float(str(np.float32(1 - node.attributes.get("momentum", 0.9))))
    x, sample = node.inputs[0], t.shape(node.inputs[0])[1:]
    kind = BatchNorm2d if len(sample) == 3 else BatchNorm1d
    layer = kind(len(weights["weight"]), float(node.attributes.get("epsilon", 1e-5)), momentum)
    if len(sample) > 3:  # all places of a channel are alike
        x = t.reshape(node, x, (sample[0], prod(sample[1:])))
    t.same(node, t.reshape(node, t.apply(node, layer, x, weights=weights), sample))


@importer("InstanceNormalization", (6, 22), "InstanceNorm2d, GroupNorm")
def instance_normalization(node: OnnxNode, t: Translation) -> None:
    weights = {"weight": t.known(node, 1, "scale"), "bias": t.known(node, 2, "bias")}
    channels, eps, shape = len(weights["weight"]), float(node.attributes.get("epsilon", 1e-5)), t.shape(node.inputs[0])
    images = len(shape) == 4 and prod(shape[2:]) > 1
    layer = InstanceNorm2d(channels, eps, affine=True) if images else GroupNorm(channels, channels, eps)
    t.add(node, layer, node.inputs[0], weights=weights)


@importer("GroupNormalization", (18, 21), "GroupNorm")
def group_normalization(node: OnnxNode, t: Translation) -> None:
    groups, channels = node.attributes["num_groups"], t.shape(node.inputs[0])[1]
    weights = {"weight": t.known(node, 1, "scale"), "bias": t.known(node, 2, "bias")}
    t.check_room((channels,))
    if node.opset < 21:  # they are of groups, not of channels
        weights = {key: np.repeat(array, channels // len(array)) for key, array in weights.items()}
    t.add(
        node, GroupNorm(groups, channels, float(node.attributes.get("epsilon", 1e-5))), node.inputs[0], weights=weights
    )


def over_last(node: OnnxNode, t: Translation) -> tuple[tuple[int, ...], dict[str, Any]]:
    """Return the lengths of the axes from ``axis`` on, and the parameters in their shape."""
    shape = t.shape(node.inputs[0])
    axis = node.attributes.get("axis", -1) % len(shape)
    if axis == 0:
        raise Refused("it normalizes over the batch axis, and a network keeps its samples apart")
    given = {"weight": t.known(node, 1, "scale"), "bias": t.known(node, 2, "bias")}
    sizes = tuple(shape[axis:])
    t.check_room(sizes)
    return sizes, {key: np.array(np.broadcast_to(a, sizes)) for key, a in given.items() if a is not None}


@importer("LayerNormalization", (17, 17), "LayerNorm")
def layer_normalization(node: OnnxNode, t: Translation) -> None:
    x, (sizes, weights), eps = node.inputs[0], over_last(node, t), float(node.attributes.get("epsilon", 1e-5))
    t.add(node, LayerNorm(sizes, eps, bias="bias" in weights), x, weights=weights)
    ndim = len(t.shape(x))
    dims = tuple(range(ndim - len(sizes), ndim))
    if any(map(t.is_read, node.outputs[1:])):  # the mean, and 1 / standard deviation
        mean = t.apply(node, Mean(dims, True), x)
        t.same(node, mean, 1)
        apart = t.after(node, t.apply(node, Sub(), x, mean), Square(), Mean(dims, True))
        steps = WithConstant("add", None, eps), Sqrt(), Reciprocal()
        t.same(node, t.after(node, apart, *steps), len(node.outputs) - 1)


@importer("RMSNormalization", (23, 23), "RMSNorm")
def rms_normalization(node: OnnxNode, t: Translation) -> None:
    sizes, weights = over_last(node, t)
    t.add(node, RMSNorm(sizes, float(node.attributes.get("epsilon", 1e-5))), node.inputs[0], weights=weights)


@importer("LRN", (6, 13), "LocalResponseNorm")
def lrn(node: OnnxNode, t: Translation) -> None:
    size = node.attributes["size"]
    numbers = (
        float(node.attributes.get(name, value)) for name, value in (("alpha", 1e-4), ("beta", 0.75), ("bias", 1))
    )
    layer = LocalResponseNorm(size, *numbers)
    # an even number of channels reaches one further behind in ONNX, and one further before in PyTorch
    mirror = [] if size % 2 else [Slice(1, None, None, -1)]
    t.chain(node, node.inputs[0], *mirror, layer, *([] if size % 2 else [Slice(1, None, None, -1)]))
