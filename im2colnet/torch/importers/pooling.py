"""Pooling, means and sums."""

from __future__ import annotations

from typing import Any, NamedTuple

from im2colnet.layers import (
    AdaptiveAvgPool1d,
    AdaptiveAvgPool2d,
    AdaptiveMaxPool1d,
    AdaptiveMaxPool2d,
    Amax,
    Amin,
    AvgPool1d,
    AvgPool2d,
    GlobalAvgPool2d,
    LPPool2d,
    MaxPool1d,
    MaxPool2d,
    Mean,
    Sum,
)
from im2colnet.torch.trace import Refused, Trace, importer
from im2colnet.torch.values import Value


def _length(size: Any) -> Any:
    """Return what is given for the axis of a sequence."""
    return size[0] if isinstance(size, (tuple, list)) else size


def _max_pool(name: str, kind: Any, of: Any) -> None:
    @importer(name, f"{name}_with_indices")
    def add(
        t: Trace,
        input: Value,
        kernel_size: Any,
        stride: Any = None,
        padding: Any = 0,
        dilation: Any = 1,
        ceil_mode: bool = False,
        return_indices: bool = False,
    ) -> Value:
        if return_indices or t.operation.endswith("with_indices"):
            raise Refused("return_indices=True is not supported: a network does not compute indices of maxima")
        return t.add(kind(of(kernel_size), of(stride) or None, of(padding), of(dilation), ceil_mode), input)


def _avg_pool(name: str, kind: Any, of: Any) -> None:
    @importer(name)
    def add(
        t: Trace,
        input: Value,
        kernel_size: Any,
        stride: Any = None,
        padding: Any = 0,
        ceil_mode: bool = False,
        count_include_pad: bool = True,
        divisor_override: int | None = None,
    ) -> Value:
        window = (of(kernel_size), of(stride) or None, of(padding))
        return t.add(kind(*window, ceil_mode, count_include_pad, divisor_override), input)


def _adaptive(name: str, kind: Any, of: Any) -> None:
    @importer(name, f"{name}_with_indices")
    def add(t: Trace, input: Value, output_size: Any, return_indices: bool = False) -> Value:
        if return_indices or t.operation.endswith("with_indices"):
            raise Refused("return_indices=True is not supported: a network does not compute indices of maxima")
        if kind is AdaptiveAvgPool2d and output_size in (1, (1, 1), [1, 1]):
            return t.add(GlobalAvgPool2d(), input)
        return t.add(kind(of(output_size)), input)


def _pair(size: Any) -> Any:
    return tuple(size) if isinstance(size, list) else size


for _axes, _of, _kinds in (
    (1, _length, (MaxPool1d, AvgPool1d, AdaptiveMaxPool1d, AdaptiveAvgPool1d)),
    (2, _pair, (MaxPool2d, AvgPool2d, AdaptiveMaxPool2d, AdaptiveAvgPool2d)),
):
    _max_pool(f"max_pool{_axes}d", _kinds[0], _of)
    _avg_pool(f"avg_pool{_axes}d", _kinds[1], _of)
    _adaptive(f"adaptive_max_pool{_axes}d", _kinds[2], _of)
    _adaptive(f"adaptive_avg_pool{_axes}d", _kinds[3], _of)


@importer("lp_pool2d")
def lp_pool2d(
    t: Trace, input: Value, norm_type: float, kernel_size: Any, stride: Any = None, ceil_mode: bool = False
) -> Value:
    return t.add(LPPool2d(float(norm_type), _pair(kernel_size), _pair(stride) or None, ceil_mode), input)


def _axes_of(t: Trace, input: Value, dim: Any) -> tuple[int, ...]:
    """Return the axes that ``dim`` names, as positive numbers."""
    axes = 1 + len(t.sample_shape(input))
    given = dim if isinstance(dim, (tuple, list)) else (dim,)
    if dim is None or any(each % axes == 0 for each in given) or not given:
        raise Refused(
            "it combines the samples of the batch, which must stay separate: give dim= for the axes of a sample"
        )
    return tuple(sorted(each % axes for each in given))


@importer("mean")
def mean(t: Trace, input: Value, dim: Any = None, keepdim: bool = False, *, dtype: None = None) -> Value:
    axes = _axes_of(t, input, dim)
    if axes == (2, 3) and keepdim:
        return t.add(GlobalAvgPool2d(), input)
    return t.add(Mean(axes, keepdim), input)


def _reduction(name: str, kind: Any) -> None:
    @importer(name)
    def add(t: Trace, input: Value, dim: Any = None, keepdim: bool = False, *, dtype: None = None) -> Value:
        return t.add(kind(_axes_of(t, input, dim), keepdim), input)


for _name, _kind in {"sum": Sum, "amax": Amax, "amin": Amin}.items():
    _reduction(_name, _kind)


class Extremes(NamedTuple):
    """The result of PyTorch's ``max`` and ``min`` along an axis; a network does not compute the indices."""

    values: Value
    indices: Value


def _extreme(name: str, of_two: str, along_axis: str) -> None:
    @importer(name)
    def add(t: Trace, input: Any, other: Any = None, keepdim: bool = False, *, dim: Any = None) -> Any:
        if isinstance(other, Value) or hasattr(other, "numel"):
            return t.apply(of_two, input, other)
        values = t.apply(along_axis, input, other if dim is None else dim, keepdim)
        return Extremes(values, Value(t, None))


_extreme("max", "maximum", "amax")
_extreme("min", "minimum", "amin")
