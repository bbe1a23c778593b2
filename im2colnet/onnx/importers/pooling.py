"""Pooling, and reductions along axes."""

from __future__ import annotations

from math import prod
from typing import Any

from im2colnet.layers import (
    Abs,
    AdaptiveMaxPool1d,
    AdaptiveMaxPool2d,
    Add,
    Amax,
    Amin,
    AvgPool1d,
    AvgPool2d,
    Exp,
    GlobalAvgPool2d,
    Log,
    LPPool2d,
    MaxPool1d,
    MaxPool2d,
    Mean,
    Sqrt,
    Square,
    Sub,
    Sum,
    WithConstant,
)
from im2colnet.onnx.importers.windows import around, axes, one, pads, sizes
from im2colnet.onnx.read import OnnxNode
from im2colnet.onnx.translate import Refused, Translation, importer

#: the largest number of pixels in a window
MOST_PIXELS = 1 << 20


def window(node: OnnxNode, t: Translation) -> dict[str, Any]:
    """Return the arguments that all pooling layers have."""
    n, kernel = axes(node, t), tuple(node.attributes["kernel_shape"])
    if len(kernel) != n:
        raise Refused(f"kernel_shape {kernel} does not fit an input of {n} axes besides batch and channels")
    if prod(kernel) > MOST_PIXELS:
        raise Refused(f"its windows have {prod(kernel):,} pixels, {MOST_PIXELS:,} at most are supported")
    return {
        "kernel_size": one(kernel),
        "stride": one(sizes(node, "strides", n)),
        "padding": around(pads(node, t, kernel)),
        "dilation": one(sizes(node, "dilations", n)),
        "ceil_mode": bool(node.attributes.get("ceil_mode", 0)),
    }


@importer("MaxPool", (6, 22), "MaxPool1d, MaxPool2d", "1-D and 2-D; no indices")
def max_pool(node: OnnxNode, t: Translation) -> None:
    t.only_first_output(node)
    t.add(node, (MaxPool1d if axes(node, t) == 1 else MaxPool2d)(**window(node, t)), node.inputs[0])


@importer("AveragePool", (6, 22), "AvgPool1d, AvgPool2d", "1-D and 2-D")
def average_pool(node: OnnxNode, t: Translation) -> None:
    if len(t.shape(node.inputs[0])) == 5:
        along_one_axis(node, t)
        return
    t.add(node, mean(node, t, count_include_pad=bool(node.attributes.get("count_include_pad", 0))), node.inputs[0])


def along_one_axis(node: OnnxNode, t: Translation) -> None:
    """Read the means along the first of three axes, with which PyTorch writes a local response norm."""
    x, shape, given = node.inputs[0], t.shape(node.inputs[0]), node.attributes
    kernel, sides = tuple(given["kernel_shape"]), tuple(given.get("pads", (0,) * 6))
    others = kernel[1:], sizes(node, "strides", 3)[1:], sizes(node, "dilations", 3)
    plain = given.get("auto_pad", "NOTSET") == "NOTSET" and not given.get("ceil_mode", 0) and len(sides) == 6
    if not plain or others != ((1, 1), (1, 1), (1, 1, 1)) or any((*sides[1:3], *sides[4:])):
        raise Refused("its input has 3 axes besides batch and channels, supported are 1 and 2")
    padding, stride = ((sides[0], sides[3]), (0, 0)), (sizes(node, "strides", 3)[0], 1)
    layer = AvgPool2d((kernel[0], 1), stride, padding, count_include_pad=bool(given.get("count_include_pad", 0)))
    made = t.apply(node, layer, t.reshape(node, x, (*shape[1:3], shape[3] * shape[4])))
    t.same(node, t.reshape(node, made, (*t.shape(made)[1:3], *shape[3:])))


def mean(node: OnnxNode, t: Translation, **options: Any) -> Any:
    return (AvgPool1d if axes(node, t) == 1 else AvgPool2d)(**window(node, t), **options)


@importer("LpPool", (6, 22), "LPPool2d, or Abs, power, AvgPool, power", "1-D and 2-D")
def lp_pool(node: OnnxNode, t: Translation) -> None:
    p, given = node.attributes.get("p", 2), window(node, t)
    plain = not given["padding"] and not given["ceil_mode"] and "dilations" not in node.attributes
    if plain and p % 2 == 0 and axes(node, t) == 2:
        t.add(node, LPPool2d(float(p), given["kernel_size"], given["stride"]), node.inputs[0])
        return
    t.chain(node, node.inputs[0], *powers(p), mean(node, t, divisor_override=1), *root(p))


def powers(p: float) -> list[Any]:
    """Return layers that raise absolute values to a power."""
    return [Square()] if p == 2 else [Abs(), *power(float(p))]


def root(p: float) -> list[Any]:
    """Return layers that take the p-th root of positive numbers."""
    return [Sqrt()] if p == 2 else power(1 / p)


def power(p: float) -> list[Any]:
    return [] if p == 1 else [WithConstant("pow", None, p)]


@importer("GlobalAveragePool", (6, 22), "GlobalAvgPool2d, Mean")
def global_average_pool(node: OnnxNode, t: Translation) -> None:
    t.add(node, mean_of(places(node, t), len(t.shape(node.inputs[0])), keepdim=True), node.inputs[0])


def places(node: OnnxNode, t: Translation) -> tuple[int, ...]:
    """Return the axes after the channel axis."""
    found = tuple(range(2, len(t.shape(node.inputs[0]))))
    if not found:
        raise Refused("its input has no axes besides batch and channels")
    return found


def mean_of(dims: tuple[int, ...], ndim: int, keepdim: bool) -> Any:
    """Return the layer for a mean along axes; there is a faster layer for whole images."""
    return GlobalAvgPool2d() if keepdim and ndim == 4 and dims == (2, 3) else Mean(dims, keepdim)


@importer("GlobalMaxPool", (6, 22), "AdaptiveMaxPool1d, AdaptiveMaxPool2d", "1-D and 2-D")
def global_max_pool(node: OnnxNode, t: Translation) -> None:
    t.add(node, AdaptiveMaxPool1d(1) if axes(node, t) == 1 else AdaptiveMaxPool2d(1), node.inputs[0])


@importer("GlobalLpPool", (6, 22), "Abs, power, Sum, power")
def global_lp_pool(node: OnnxNode, t: Translation) -> None:
    p = node.attributes.get("p", 2)
    t.chain(node, node.inputs[0], *powers(p), Sum(places(node, t), True), *root(p))


# ---------------------------------------------------------------------- along axes


def reduced(node: OnnxNode, t: Translation) -> tuple[tuple[int, ...], bool]:
    """Return the axes of a reduction, and whether they stay with length 1."""
    ndim, given = len(t.shape(node.inputs[0])), t.numbers(node, 1, "axes")
    if not given:
        given = [] if node.attributes.get("noop_with_empty_axes", 0) else [*range(ndim)]
    dims = tuple(sorted({dim % ndim for dim in given}))
    if 0 in dims:
        raise Refused("it reduces the batch axis, and a network keeps its samples apart")
    return dims, bool(node.attributes.get("keepdims", 1))


def reduction(operator: str, opsets: tuple[int, int], kind: Any, before: Any = None, after: Any = None) -> None:
    """Register an operator that becomes a reduction layer, with elementwise functions before and after it."""
    kinds = [each for each in (before, kind, after) if each]

    @importer(operator, opsets, ", ".join(each.__name__ for each in kinds), "not along the batch")
    def read(node: OnnxNode, t: Translation) -> None:
        (dims, keepdim), ndim = reduced(node, t), len(t.shape(node.inputs[0]))
        steps = [before()] if before else []
        single = len(dims) == ndim - 1 and not keepdim  # nothing is left of a sample but a number
        if dims:
            steps.append(mean_of(dims, ndim, keepdim or single) if kind is Mean else kind(dims, keepdim or single))
        made = t.after(node, node.inputs[0], *steps, *([after()] if after else []))
        t.same(node, t.reshape(node, made, ()) if single else made)


reduction("ReduceMean", (6, 18), Mean)
reduction("ReduceSum", (6, 13), Sum)
reduction("ReduceMax", (6, 20), Amax)
reduction("ReduceMin", (6, 20), Amin)
reduction("ReduceL1", (6, 18), Sum, before=Abs)
reduction("ReduceL2", (6, 18), Sum, before=Square, after=Sqrt)
reduction("ReduceSumSquare", (6, 18), Sum, before=Square)
reduction("ReduceLogSum", (6, 28), Sum, after=Log)


@importer("ReduceLogSumExp", (6, 28), "Amax, Sub, Exp, Sum, Log, Add", "not along the batch")
def reduce_log_sum_exp(node: OnnxNode, t: Translation) -> None:
    """``m + log Σ exp(x - m)`` with the largest number m, so that no exponential is too large."""
    (dims, keepdim), x = reduced(node, t), node.inputs[0]
    if not dims:
        t.same(node, x)
        return
    most = t.apply(node, Amax(dims, True), x)
    less = t.apply(node, Sub(), x, most)
    logs = t.after(node, less, Exp(), Sum(dims, True), Log())
    made = t.apply(node, Add(), logs, most)
    sample = [n for i, n in enumerate(t.shape(made)) if keepdim or i not in dims]
    t.same(node, t.reshape(node, made, sample[1:]))
