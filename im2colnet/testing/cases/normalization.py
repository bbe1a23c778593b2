"""Cases of normalization."""

from __future__ import annotations

from typing import Any

from im2colnet.host import np
from im2colnet.layers import BatchNorm1d, BatchNorm2d, GroupNorm, InstanceNorm2d, LayerNorm, LocalResponseNorm, RMSNorm
from im2colnet.testing import oracles
from im2colnet.testing.cases.base import LayerCase, State
from im2colnet.types import Array


def statistics(layer: BatchNorm1d | BatchNorm2d | InstanceNorm2d, state: State) -> tuple[Array, Array, Array]:
    """Running mean and variance, and the weight."""
    arrays, ones = state.arrays, np.ones(layer.num_features)
    return arrays.get("running_mean", 0 * ones), arrays.get("running_var", ones), arrays.get("weight", ones)


def forward(layer: BatchNorm1d | BatchNorm2d, state: State, x: Array) -> Array:
    """The normalized batch."""
    bias = state.arrays.get("bias", np.zeros(layer.num_features))
    of_batch = state.training or not layer.track_running_stats
    return oracles.batch_norm(x, *statistics(layer, state), bias, of_batch, eps=layer.eps)[0]


def backward(
    layer: BatchNorm1d | BatchNorm2d, state: State, dy: Array, x: Array
) -> tuple[tuple[Array, ...], dict[str, Array]]:
    """Its gradients."""
    return gradients(state, *oracles.batch_norm_grad(x, dy, *statistics(layer, state), state.training, layer.eps))


Gradients = tuple[tuple[Array, ...], dict[str, Array]]


def affine(state: State) -> tuple[Any, Any]:
    """Weight and bias, None where there is none."""
    return state.arrays.get("weight"), state.arrays.get("bias")


def gradients(state: State, dx: Array, dweight: Array, dbias: Any = None) -> Gradients:
    """Those of the input, and of the parameters that there are."""
    return (dx,), {name: g for name, g in {"weight": dweight, "bias": dbias}.items() if name in state.arrays}


def group_forward(layer: GroupNorm, state: State, x: Array) -> Array:
    """Each group of channels, normalized."""
    return oracles.group_norm(x, layer.num_groups, *affine(state), layer.eps)


def group_backward(layer: GroupNorm, state: State, dy: Array, x: Array) -> Gradients:
    """Its gradients."""
    return gradients(state, *oracles.group_norm_grad(x, dy, layer.num_groups, affine(state)[0], layer.eps))


def instance_forward(layer: InstanceNorm2d, state: State, x: Array) -> Array:
    """Each channel, normalized; in evaluation by the running statistics, if there are some."""
    if layer.track_running_stats and not state.training:
        bias = state.arrays.get("bias", np.zeros(layer.num_features))
        return oracles.batch_norm(x, *statistics(layer, state), bias, eps=layer.eps)[0]
    return oracles.instance_norm(x, *affine(state), layer.eps)


def instance_backward(layer: InstanceNorm2d, state: State, dy: Array, x: Array) -> Gradients:
    """Its gradients."""
    return gradients(state, *oracles.instance_norm_grad(x, dy, affine(state)[0], layer.eps))


def layer_forward(layer: LayerNorm, state: State, x: Array) -> Array:
    """The last axes, normalized."""
    return oracles.layer_norm(x, layer.normalized_shape, *affine(state), layer.eps)


def layer_backward(layer: LayerNorm, state: State, dy: Array, x: Array) -> Gradients:
    """Its gradients."""
    return gradients(state, *oracles.layer_norm_grad(x, dy, layer.normalized_shape, affine(state)[0], layer.eps))


def rms_eps(layer: RMSNorm) -> float:
    """What is added to the mean square: by default the distance from 1 to the next float64."""
    return 2.0**-52 if layer.eps is None else layer.eps


def rms_forward(layer: RMSNorm, state: State, x: Array) -> Array:
    """The last axes, divided by their root mean square."""
    return oracles.rms_norm(x, layer.normalized_shape, affine(state)[0], rms_eps(layer))


def rms_backward(layer: RMSNorm, state: State, dy: Array, x: Array) -> Gradients:
    """Its gradients."""
    return gradients(state, *oracles.rms_norm_grad(x, dy, layer.normalized_shape, affine(state)[0], rms_eps(layer)))


def response_forward(layer: LocalResponseNorm, state: State, x: Array) -> Array:
    """Each number, divided by those near it."""
    return oracles.local_response_norm(x, layer.size, layer.alpha, layer.beta, layer.k)


def response_backward(layer: LocalResponseNorm, state: State, dy: Array, x: Array) -> Gradients:
    """Its gradient."""
    return (oracles.local_response_norm_grad(x, dy, layer.size, layer.alpha, layer.beta, layer.k),), {}


IMAGES = (4, 6, 5)
LAYERS = [
    LayerCase(
        BatchNorm2d,
        forward,
        backward,
        examples=(
            (BatchNorm2d(4), IMAGES),
            (BatchNorm2d(4, affine=False), IMAGES),
            (BatchNorm2d(4, eps=0.1, momentum=0.3), IMAGES),
            (BatchNorm2d(4, momentum=None), IMAGES),
            (BatchNorm2d(4, track_running_stats=False), IMAGES),
            (BatchNorm2d(4, bias=False), IMAGES),
        ),
    ),
    LayerCase(
        BatchNorm1d,
        forward,
        backward,
        examples=(
            (BatchNorm1d(7), (7,)),
            (BatchNorm1d(7, eps=0.1, affine=False), (7,)),
            (BatchNorm1d(4, momentum=0.3), (4, 5)),
            (BatchNorm1d(4, affine=False, track_running_stats=False), (4, 5)),
            (BatchNorm1d(7, bias=False), (7,)),
        ),
    ),
    LayerCase(
        GroupNorm,
        group_forward,
        group_backward,
        examples=(
            (GroupNorm(2, 4), IMAGES),
            (GroupNorm(1, 4), IMAGES),
            (GroupNorm(4, 4, eps=0.1), IMAGES),
            (GroupNorm(2, 4, affine=False), IMAGES),
            (GroupNorm(3, 6), (6,)),
            (GroupNorm(2, 4), (4, 5)),
            (GroupNorm(2, 4, bias=False), IMAGES),
        ),
    ),
    LayerCase(
        InstanceNorm2d,
        instance_forward,
        instance_backward,
        examples=(
            (InstanceNorm2d(4), IMAGES),
            (InstanceNorm2d(4, affine=True), IMAGES),
            (InstanceNorm2d(4, eps=0.1, momentum=0.3), IMAGES),
            (InstanceNorm2d(4, affine=True, bias=False), IMAGES),
            (InstanceNorm2d(4, track_running_stats=True), IMAGES),
            (InstanceNorm2d(4, affine=True, track_running_stats=True, momentum=None), IMAGES),
            (InstanceNorm2d(4, affine=True, bias=False, track_running_stats=True, momentum=0.3), IMAGES),
        ),
    ),
    LayerCase(
        LayerNorm,
        layer_forward,
        layer_backward,
        examples=(
            (LayerNorm(IMAGES), IMAGES),
            (LayerNorm((6, 5)), IMAGES),
            (LayerNorm(5, eps=0.1), IMAGES),
            (LayerNorm(IMAGES, bias=False), IMAGES),
            (LayerNorm(IMAGES, elementwise_affine=False), IMAGES),
            (LayerNorm((4, 1, 1)), (4, 1, 1)),
            (LayerNorm(7), (7,)),
            (LayerNorm(5), (4, 5)),
        ),
    ),
    LayerCase(
        RMSNorm,
        rms_forward,
        rms_backward,
        examples=(
            (RMSNorm(IMAGES), IMAGES),
            (RMSNorm((6, 5), eps=0.1), IMAGES),
            (RMSNorm(5, elementwise_affine=False), IMAGES),
            (RMSNorm(7), (7,)),
        ),
    ),
    LayerCase(
        LocalResponseNorm,
        response_forward,
        response_backward,
        examples=(
            (LocalResponseNorm(3, alpha=0.5), IMAGES),
            (LocalResponseNorm(2, alpha=0.5, beta=1.5, k=2.0), IMAGES),
            (LocalResponseNorm(12, alpha=0.5), IMAGES),
            (LocalResponseNorm(5), IMAGES),
        ),
    ),
]
