"""Normalization."""

from __future__ import annotations

from typing import Any

from im2colnet.layers import (
    BatchNorm1d,
    BatchNorm2d,
    GroupNorm,
    InstanceNorm2d,
    LayerNorm,
    LocalResponseNorm,
    RMSNorm,
)
from im2colnet.torch.trace import Refused, Trace, importer
from im2colnet.torch.values import Value

STATISTICS = ("running_mean", "running_var")


@importer("batch_norm")
def batch_norm(
    t: Trace,
    input: Value,
    running_mean: Any,
    running_var: Any,
    weight: Any = None,
    bias: Any = None,
    training: Any = False,
    momentum: float | None = 0.1,
    eps: float = 1e-5,
) -> Value:
    tracked, affine = running_mean is not None, weight is not None
    if training is True and tracked:
        raise Refused("it normalizes by the batch in evaluation mode, too")
    if isinstance(t.module, t.torch.nn.modules.batchnorm._BatchNorm):
        momentum = t.module.momentum  # None where it is that of all batches, which the function does not know
    kind = BatchNorm2d if len(t.sample_shape(input)) == 3 else BatchNorm1d
    layer = kind(t.sample_shape(input)[0], eps, momentum, affine, tracked, bias=not affine or bias is not None)
    tensors = {"running_mean": running_mean, "running_var": running_var, "weight": weight, "bias": bias}
    if "num_batches_tracked" in layer.state():
        tensors["num_batches_tracked"] = t.module.num_batches_tracked
    made = t.add(layer, input, **tensors)
    if tracked and t.statistics_are_frozen():
        t.freeze(made, *layer.state())
    return made


@importer("instance_norm")
def instance_norm(
    t: Trace,
    input: Value,
    running_mean: Any = None,
    running_var: Any = None,
    weight: Any = None,
    bias: Any = None,
    use_input_stats: Any = True,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Value:
    tracked, affine = running_mean is not None, weight is not None
    if use_input_stats is True and tracked:
        raise Refused("it keeps statistics that it does not use")
    channels = t.sample_shape(input)[0]
    layer = InstanceNorm2d(channels, eps, momentum, affine, tracked, bias=not affine or bias is not None)
    tensors = {"running_mean": running_mean, "running_var": running_var, "weight": weight, "bias": bias}
    made = t.add(layer, input, **tensors)
    if tracked and t.statistics_are_frozen():
        t.freeze(made, *STATISTICS)
    return made


@importer("group_norm")
def group_norm(
    t: Trace, input: Value, num_groups: int, weight: Any = None, bias: Any = None, eps: float = 1e-5
) -> Value:
    affine = weight is not None
    layer = GroupNorm(num_groups, t.sample_shape(input)[0], eps, affine, bias=not affine or bias is not None)
    return t.add(layer, input, weight=weight, bias=bias)


@importer("layer_norm")
def layer_norm(
    t: Trace, input: Value, normalized_shape: Any, weight: Any = None, bias: Any = None, eps: float = 1e-5
) -> Value:
    affine = weight is not None
    layer = LayerNorm(tuple(normalized_shape), eps, affine, bias=not affine or bias is not None)
    return t.add(layer, input, weight=weight, bias=bias)


@importer("rms_norm")
def rms_norm(t: Trace, input: Value, normalized_shape: Any, weight: Any = None, eps: float | None = None) -> Value:
    return t.add(RMSNorm(tuple(normalized_shape), eps, weight is not None), input, weight=weight)


@importer("local_response_norm")
def local_response_norm(
    t: Trace, input: Value, size: int, alpha: float = 1e-4, beta: float = 0.75, k: float = 1.0
) -> Value:
    return t.add(LocalResponseNorm(size, alpha, beta, k), input)


@importer("normalize")
def normalize(t: Trace, input: Value, p: float = 2.0, dim: int = 1, eps: float = 1e-12) -> Any:
    return t.apply("div", input, _root_of_squares(t, input, p, dim, True, eps))


@importer("norm", "linalg_vector_norm")
def norm(
    t: Trace, input: Value, p: Any = 2, dim: Any = None, keepdim: bool = False, dtype: None = None, *, ord: Any = None
) -> Any:
    return _root_of_squares(t, input, p if ord is None else ord, dim, keepdim, 1e-19)


def _root_of_squares(t: Trace, input: Value, p: Any, dim: Any, keepdim: bool, least: float) -> Any:
    """Return the Euclidean norm along some axes, at least a small number: the root's slope at 0 is infinite."""
    if p != 2:
        raise Refused(f"only the Euclidean norm, p=2, is supported, got p={p!r}")
    squares = t.apply("sum", t.apply("mul", input, input), dim, keepdim)
    return t.apply("sqrt", t.apply("clamp", squares, min=least**2))
