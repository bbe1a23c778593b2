"""The windows of convolution and pooling: kernel sizes, strides and padding."""

from __future__ import annotations

from typing import Any

from im2colnet.onnx.read import OnnxNode
from im2colnet.onnx.translate import Refused, Translation

Pads = tuple[tuple[int, int], ...]


def axes(node: OnnxNode, t: Translation) -> int:
    """Return the number of axes that the windows slide over: 1 for sequences, 2 for images."""
    found = len(t.shape(node.inputs[0])) - 2
    if found not in (1, 2):
        raise Refused(f"its input has {found} axes besides batch and channels, supported are 1 and 2")
    return found


def sizes(node: OnnxNode, name: str, n: int) -> tuple[int, ...]:
    """Return an attribute that is a number for each axis, by default 1."""
    found = tuple(node.attributes.get(name, (1,) * n))
    if len(found) != n:
        raise Refused(f"{name} {found} are not numbers for {n} axes")
    return found


def pads(node: OnnxNode, t: Translation, kernel: tuple[int, ...]) -> Pads:
    """Return the padding before and behind along each axis."""
    n, auto = len(kernel), node.attributes.get("auto_pad", "NOTSET")
    if auto == "NOTSET":
        given = tuple(node.attributes.get("pads", (0,) * 2 * n))
        if len(given) != 2 * n:
            raise Refused(f"pads {given} are not two numbers for each of {n} axes")
        return tuple(zip(given[:n], given[n:], strict=True))
    if auto == "VALID":
        return ((0, 0),) * n
    lengths, strides, dilations = t.shape(node.inputs[0])[2:], sizes(node, "strides", n), sizes(node, "dilations", n)
    found = []
    for length, k, s, d in zip(lengths, kernel, strides, dilations, strict=True):
        found.append(halves(max(0, (-(-length // s) - 1) * s + d * (k - 1) + 1 - length), auto))
    return tuple(found)


def halves(total: int, auto: str) -> tuple[int, int]:
    """Return the padding before and behind; if ``total`` is odd, ``auto`` says on which side there is one more."""
    if auto not in ("SAME_UPPER", "SAME_LOWER"):
        raise Refused(f"auto_pad {auto!r} is unknown")
    less = total // 2
    return (less, total - less) if auto == "SAME_UPPER" else (total - less, less)


def one(values: tuple[Any, ...]) -> Any:
    """Return the argument of a layer that is a number for each axis: a single number, if they are equal."""
    return values[0] if len(set(values)) == 1 else values


def around(sides: Pads) -> Any:
    """Return padding as an argument of a layer, in the simplest form."""
    if any(before != behind for before, behind in sides):
        return sides
    return one(tuple(before for before, _ in sides))
