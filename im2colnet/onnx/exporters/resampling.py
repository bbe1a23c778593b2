"""Layers that change the number of pixels as ONNX."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from im2colnet.errors import ModelError
from im2colnet.layers import Resize, Upsample
from im2colnet.onnx.exporters.base import NodeWriter, Value, exporter


@exporter(Upsample)
def upsample(layer: Upsample, node: NodeWriter, inputs: Sequence[Value]) -> Value:
    """Write images of another size."""
    (x,), size, out = inputs, node.input_shapes[0][1:], node.output_shape[1:]
    sizes = [*zip(range(2), size, out, strict=True)]
    even = [layer.evenly(*each) for each in sizes]
    if layer.mode == "nearest" and not (all(even) and all(big % small == 0 for _, small, big in sizes)):
        for axis, small, big in sizes:  # by a factor that is rounded it might be another pixel
            x = node("Gather", x, node.constant("pixels", layer.nearest(axis, small, big)), axis=2 + axis)
        return x
    factors = [
        big / small if is_even else layer.factors[axis] for is_even, (axis, small, big) in zip(even, sizes, strict=True)
    ]
    if layer.mode == "nearest":
        how: dict[str, Any] = {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
        return _resized(x, node, factors, how if node.opset > 10 else {})
    how = {
        "mode": layer.mode.removeprefix("bi"),
        "coordinate_transformation_mode": "align_corners" if layer.align_corners else "half_pixel",
    }
    return _resized(x, node, None if all(even) or layer.align_corners else factors, how)


@exporter(Resize)
def resize(layer: Resize, node: NodeWriter, inputs: Sequence[Value]) -> Value:
    """Write images of another size by the layer's rules, with ONNX's names for them."""
    (x,), size, out, factors = inputs, node.input_shapes[0][1:], node.output_shape[1:], layer.factors
    if factors and layer.size is not None and [int(n * f) for n, f in zip(size, factors, strict=True)] != [*out]:
        raise ModelError("ONNX's Resize has sizes or factors, and here both are given: leave one of them out")
    how = {
        "mode": layer.mode,
        "coordinate_transformation_mode": layer.coordinates,
        "nearest_mode": layer.rounding if layer.mode == "nearest" else None,
        "cubic_coeff_a": layer.cubic_coeff_a if layer.mode == "cubic" else None,
        "exclude_outside": 1 if layer.exclude_outside else None,
        "antialias": 1 if layer.antialias else None,
    }
    return _resized(x, node, factors, {key: value for key, value in how.items() if value is not None})


def _resized(x: Value, node: NodeWriter, factors: Sequence[float] | None, how: dict[str, Any]) -> Value:
    """Write images resized by the factors, or without factors to the size of the output."""
    # opsets 11 and 12 want inputs that they do not read
    unread: list[float] | None = [] if 11 <= node.opset < 13 else None
    if factors is not None:
        op = "Upsample" if node.opset < 10 and "mode" not in how else "Resize"
        return node(op, x, roi=unread, scales=[1, 1, *factors], **how)
    out = [*node.output_shape[1:]]
    if node.opset >= 18:
        return node("Resize", x, sizes=out, axes=[2, 3], **how)
    batch = node("Slice", node("Shape", x), starts=[0], ends=[2], axes=[0])
    sizes = node("Concat", batch, node.constant("size", out), axis=0)
    return node("Resize", x, roi=unread, scales=unread, sizes=sizes, **how)
