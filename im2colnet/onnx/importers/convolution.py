"""Convolution, and the transposed one."""

from __future__ import annotations

from typing import Any

from im2colnet.layers import Conv1d, Conv2d, ConvTranspose1d, ConvTranspose2d, WithConstant
from im2colnet.onnx.importers.shaping import padding
from im2colnet.onnx.importers.windows import Pads, around, axes, halves, one, pads, sizes
from im2colnet.onnx.read import OnnxNode
from im2colnet.onnx.translate import Refused, Translation, importer


def filters(node: OnnxNode, t: Translation) -> tuple[tuple[int, ...], dict[str, Any]]:
    """Return the kernel's size, and the parameters of the layer."""
    weight, bias, n = t.known(node, 1, "weight"), t.known(node, 2, "bias"), axes(node, t)
    if weight.ndim != n + 2:
        raise Refused(f"its weight has {weight.ndim} axes, and its input {n + 2}")
    kernel = tuple(node.attributes.get("kernel_shape", weight.shape[2:]))
    if kernel != weight.shape[2:]:
        raise Refused(f"kernel_shape {kernel} does not fit the shape of its weight, {weight.shape}")
    return kernel, {"weight": weight} | ({} if bias is None else {"bias": bias})


@importer("Conv", (6, 22), "Conv1d, Conv2d", "1-D and 2-D; the weight is a constant")
def conv(node: OnnxNode, t: Translation) -> None:
    kernel, weights = filters(node, t)
    n, groups, weight = len(kernel), node.attributes.get("group", 1), weights["weight"]
    layer = (Conv1d if n == 1 else Conv2d)(
        weight.shape[1] * groups,
        weight.shape[0],
        one(kernel),
        stride=one(sizes(node, "strides", n)),
        padding=around(pads(node, t, kernel)),
        dilation=one(sizes(node, "dilations", n)),
        groups=groups,
        bias="bias" in weights,
    )
    t.add(node, layer, node.inputs[0], weights=weights)


@importer("ConvTranspose", (6, 22), "ConvTranspose1d, ConvTranspose2d", "1-D and 2-D; the weight is a constant")
def conv_transpose(node: OnnxNode, t: Translation) -> None:
    kernel, weights = filters(node, t)
    n, groups, weight = len(kernel), node.attributes.get("group", 1), weights["weight"]
    cut, more = borders(node, t, kernel)
    inside = tuple((max(0, before), max(0, behind)) for before, behind in cut)
    fits = tuple(min(e, max(s, d) - 1) for e, s, d in zip(more, *steps(node, n), strict=True))
    layer = (ConvTranspose1d if n == 1 else ConvTranspose2d)(
        weight.shape[0],
        weight.shape[1] * groups,
        one(kernel),
        stride=one(sizes(node, "strides", n)),
        padding=around(inside),
        output_padding=one(fits),
        groups=groups,
        bias=False,
        dilation=one(sizes(node, "dilations", n)),
    )
    # what no window reaches is there before the bias
    border = [(max(0, -a), max(0, -b) + e - f) for (a, b), e, f in zip(cut, more, fits, strict=True)]
    if any(map(any, border)):
        made = t.after(node, node.inputs[0], (layer, {"weight": weight}), padding([(0, 0), *border]))
        with_bias(node, t, made, weights)
        return
    if "bias" in weights:
        layer = type(layer)(**{**layer.config(), "bias": True})
    t.add(node, layer, node.inputs[0], weights=weights)


def steps(node: OnnxNode, n: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return strides and dilations."""
    return sizes(node, "strides", n), sizes(node, "dilations", n)


def borders(node: OnnxNode, t: Translation, kernel: tuple[int, ...]) -> tuple[Pads, tuple[int, ...]]:
    """Return the pixels to cut off the output, before and behind along each axis, and the pixels to add behind."""
    n, (strides, dilations) = len(kernel), steps(node, len(kernel))
    lengths, auto = t.shape(node.inputs[0])[2:], node.attributes.get("auto_pad", "NOTSET")
    more = tuple(node.attributes.get("output_padding", (0,) * n))
    extents = [d * (k - 1) + 1 for k, d in zip(kernel, dilations, strict=True)]
    wanted = node.attributes.get("output_shape")
    if wanted is None and auto not in ("SAME_UPPER", "SAME_LOWER"):
        return pads(node, t, kernel), more
    if wanted is None:
        wanted = [length * s for length, s in zip(lengths, strides, strict=True)]
    whole = [(length - 1) * s + e + m for length, s, e, m in zip(lengths, strides, extents, more, strict=True)]
    cut = []
    for full, size in zip(whole, wanted[-n:], strict=True):
        cut.append(halves(full - size, "SAME_UPPER" if auto == "SAME_UPPER" else "SAME_LOWER"))
    return tuple(cut), more


def with_bias(node: OnnxNode, t: Translation, tensor: str, weights: dict[str, Any]) -> None:
    """Add the bias to each channel, if there is one; the result is the node's output."""
    if "bias" not in weights:
        t.same(node, tensor)
        return
    constant = weights["bias"].reshape(-1, *(1,) * (len(t.shape(tensor)) - 2))
    t.add(node, WithConstant("add", constant.shape), tensor, weights={"constant": constant})
