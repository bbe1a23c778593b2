"""Convolution, and the transposed one."""

from __future__ import annotations

from typing import Any

from im2colnet.layers import Conv1d, Conv2d, ConvTranspose1d, ConvTranspose2d
from im2colnet.torch.trace import Refused, Trace, importer
from im2colnet.torch.values import Value


def _filters(weight: Any, axes: int) -> tuple[int, int, Any]:
    """Return the first two lengths of a weight, and the size of its kernel."""
    if not hasattr(weight, "numel"):
        raise Refused("its weight is computed from the network's input")
    first, second, *kernel = weight.shape
    return first, second, kernel[0] if axes == 1 else tuple(kernel)


def _convolution(name: str, kind: Any, axes: int) -> None:
    @importer(name)
    def add(
        t: Trace,
        input: Value,
        weight: Any,
        bias: Any = None,
        stride: Any = 1,
        padding: Any = 0,
        dilation: Any = 1,
        groups: int = 1,
    ) -> Value:
        filters, channels, kernel = _filters(weight, axes)
        window = (_one(stride, axes), _one(padding, axes), _one(dilation, axes))
        layer = kind(channels * groups, filters, kernel, *window, groups, bias is not None)
        return t.add(layer, input, weight=weight, bias=bias)


def _transposed(name: str, kind: Any, axes: int) -> None:
    @importer(name)
    def add(
        t: Trace,
        input: Value,
        weight: Any,
        bias: Any = None,
        stride: Any = 1,
        padding: Any = 0,
        output_padding: Any = 0,
        groups: int = 1,
        dilation: Any = 1,
    ) -> Value:
        channels, filters, kernel = _filters(weight, axes)
        window = (_one(stride, axes), _one(padding, axes), _one(output_padding, axes))
        layer = kind(channels, filters * groups, kernel, *window, groups, bias is not None, _one(dilation, axes))
        return t.add(layer, input, weight=weight, bias=bias)


def _one(size: Any, axes: int) -> Any:
    """Return what is given for each axis: of a sequence one number."""
    return size[0] if axes == 1 and isinstance(size, (tuple, list)) else size


for _axes, _kind, _back in ((1, Conv1d, ConvTranspose1d), (2, Conv2d, ConvTranspose2d)):
    _convolution(f"conv{_axes}d", _kind, _axes)
    _transposed(f"conv_transpose{_axes}d", _back, _axes)
