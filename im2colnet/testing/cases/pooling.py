"""Cases of pooling."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

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
from im2colnet.testing import oracles
from im2colnet.testing.cases.base import LayerCase
from im2colnet.types import Array

IMAGES = (4, 7, 6)
SEQUENCES = (4, 9)
#: one window, equal ones, overlapping ones, more than there are pixels, and an axis as it is
OUTPUT_SIZES = 1, (7, 3), (3, 4), (9, 2), (None, 5), (2, None)
LENGTHS = 1, 3, (4,), 11


def reduction(kind: Any, forward: Callable[..., Array], gradient: Callable[..., Array]) -> LayerCase:
    """The row of a function of the numbers along axes."""
    return LayerCase(
        kind,
        lambda layer, state, x: forward(x, **layer.config()),
        lambda layer, state, dy, x: ((gradient(x, dy, **layer.config()),), {}),
        examples=(
            (kind((2, 3)), IMAGES),
            (kind([2, 3], keepdim=True), IMAGES),
            (kind(1), IMAGES),
            (kind(-1), IMAGES),
            (kind(2), IMAGES),
            (kind(1, keepdim=True), (7,)),
            (kind(-1), (4, 6)),
            (kind((1, 2, 3), keepdim=True), IMAGES),
        ),
    )


LAYERS = [
    LayerCase(
        MaxPool2d,
        lambda layer, state, x: oracles.max_pool2d(x, **layer.config()),
        lambda layer, state, dy, x: ((oracles.max_pool2d_grad(x, dy, **layer.config()),), {}),
        examples=(
            (MaxPool2d(2), IMAGES),
            (MaxPool2d(3, 2, padding=1), IMAGES),
            (MaxPool2d(3, 1, 1, ceil_mode=True), IMAGES),
            (MaxPool2d((3, 2), 1, dilation=(1, 2), ceil_mode=True), IMAGES),
            (MaxPool2d((3, 2), padding=((1, 1), (0, 0))), IMAGES),
            (MaxPool2d(3, 1, padding=2), IMAGES),
            (MaxPool2d((2, 3), 2, padding=((1, 1), (0, 2)), ceil_mode=True), IMAGES),
        ),
    ),
    LayerCase(
        AvgPool2d,
        lambda layer, state, x: oracles.avg_pool2d(x, **layer.config()),
        lambda layer, state, dy, x: ((oracles.avg_pool2d_grad(x.shape, dy, **layer.config()),), {}),
        examples=(
            (AvgPool2d(2), IMAGES),
            (AvgPool2d(3, 2, 1), IMAGES),
            (AvgPool2d(3, 2, padding=1, ceil_mode=True, count_include_pad=False), IMAGES),
            (AvgPool2d(3, 2, 1, True, divisor_override=5), IMAGES),
            (AvgPool2d((3, 2), 1, padding=1, count_include_pad=False, dilation=(2, 3)), IMAGES),
            (AvgPool2d((2, 3), 2, padding=1, ceil_mode=True, dilation=(1, 2)), IMAGES),
            (AvgPool2d(3, 1, padding=2), IMAGES),
            (AvgPool2d((2, 3), 2, padding=((1, 1), (2, 0)), ceil_mode=True, count_include_pad=False), IMAGES),
            (AvgPool2d(2, 1, padding=1, count_include_pad=False, dilation=(8, 2)), IMAGES),
        ),
    ),
    LayerCase(
        LPPool2d,
        lambda layer, state, x: oracles.lp_pool2d(x, **layer.config()),
        lambda layer, state, dy, x: ((oracles.lp_pool2d_grad(x, dy, **layer.config()),), {}),
        examples=(
            (LPPool2d(2, 2), IMAGES),
            (LPPool2d(4.0, (3, 2), 1), IMAGES),
            (LPPool2d(2, 3, 2, ceil_mode=True), IMAGES),
            (LPPool2d(1, 2), IMAGES),
        ),
    ),
    LayerCase(
        GlobalAvgPool2d,
        lambda layer, state, x: oracles.global_avg_pool2d(x),
        lambda layer, state, dy, x: ((oracles.global_avg_pool2d_grad(x.shape, dy),), {}),
        examples=((GlobalAvgPool2d(), IMAGES),),
    ),
    LayerCase(
        AdaptiveAvgPool2d,
        lambda layer, state, x: oracles.adaptive_avg_pool2d(x, layer.output_size),
        lambda layer, state, dy, x: ((oracles.adaptive_avg_pool2d_grad(x, dy, layer.output_size),), {}),
        examples=tuple((AdaptiveAvgPool2d(size), IMAGES) for size in OUTPUT_SIZES),
    ),
    LayerCase(
        AdaptiveMaxPool2d,
        lambda layer, state, x: oracles.adaptive_max_pool2d(x, layer.output_size),
        lambda layer, state, dy, x: ((oracles.adaptive_max_pool2d_grad(x, dy, layer.output_size),), {}),
        examples=tuple((AdaptiveMaxPool2d(size), IMAGES) for size in OUTPUT_SIZES),
    ),
    reduction(Mean, oracles.mean, oracles.mean_grad),
    reduction(Sum, oracles.total, oracles.total_grad),
    reduction(Amax, oracles.amax, oracles.amax_grad),
    reduction(Amin, oracles.amin, oracles.amin_grad),
    LayerCase(
        MaxPool1d,
        lambda layer, state, x: oracles.max_pool1d(x, **layer.config()),
        lambda layer, state, dy, x: ((oracles.max_pool1d_grad(x, dy, **layer.config()),), {}),
        examples=(
            (MaxPool1d(2), SEQUENCES),
            (MaxPool1d(3, 2, padding=1), SEQUENCES),
            (MaxPool1d((3,), 1, padding=((1, 0),), dilation=2, ceil_mode=True), SEQUENCES),
        ),
    ),
    LayerCase(
        AvgPool1d,
        lambda layer, state, x: oracles.avg_pool1d(x, **layer.config()),
        lambda layer, state, dy, x: ((oracles.avg_pool1d_grad(x, dy, **layer.config()),), {}),
        examples=(
            (AvgPool1d(2), SEQUENCES),
            (AvgPool1d(4, (3,), 2), SEQUENCES),
            (AvgPool1d(3, 2, padding=1, ceil_mode=True, count_include_pad=False), SEQUENCES),
        ),
    ),
    LayerCase(
        AdaptiveAvgPool1d,
        lambda layer, state, x: oracles.adaptive_avg_pool1d(x, **layer.config()),
        lambda layer, state, dy, x: ((oracles.adaptive_avg_pool1d_grad(x, dy, **layer.config()),), {}),
        examples=tuple((AdaptiveAvgPool1d(size), SEQUENCES) for size in LENGTHS),
    ),
    LayerCase(
        AdaptiveMaxPool1d,
        lambda layer, state, x: oracles.adaptive_max_pool1d(x, **layer.config()),
        lambda layer, state, dy, x: ((oracles.adaptive_max_pool1d_grad(x, dy, **layer.config()),), {}),
        examples=tuple((AdaptiveMaxPool1d(size), SEQUENCES) for size in LENGTHS),
    ),
]
