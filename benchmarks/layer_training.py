"""One layer in the smallest network that trains it: forward, both gradients, and what a step costs around them."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np

import im2colnet as ic
from benchmarks.common import BATCH, WARM_UP, start_backend

#: a layer, and channels and size of its input
LAYERS: dict[str, tuple[Callable[[], ic.Layer], int, int]] = {
    "conv3x3": (lambda: ic.Conv2d(64, 64, 3, padding=1), 64, 16),
    "conv1x1": (lambda: ic.Conv2d(128, 128, 1), 128, 8),
    "depthwise": (lambda: ic.Conv2d(128, 128, 3, padding=1, groups=128), 128, 16),
    "batch_norm": (lambda: ic.BatchNorm2d(64), 64, 16),
    "max_pool": (lambda: ic.MaxPool2d(2), 64, 16),
    "avg_pool": (lambda: ic.AvgPool2d(2), 64, 16),
    "relu": (lambda: ic.ReLU(), 64, 16),
    "dropout": (lambda: ic.Dropout(0.5), 64, 16),
    "gelu": (lambda: ic.GELU(), 64, 16),
    "hardswish": (lambda: ic.Hardswish(), 64, 16),
    "silu": (lambda: ic.SiLU(), 64, 16),
    "softplus": (lambda: ic.Softplus(), 64, 16),
    "group_norm": (lambda: ic.GroupNorm(8, 64), 64, 16),
    "instance_norm": (lambda: ic.InstanceNorm2d(64), 64, 16),
    "layer_norm": (lambda: ic.LayerNorm((64, 16, 16)), 64, 16),
    "conv_transpose": (lambda: ic.ConvTranspose2d(64, 64, 4, 2, padding=1), 64, 16),
    "upsample": (lambda: ic.Upsample(2, mode="bilinear"), 64, 16),
    "concat": (lambda: ic.Net({"a": ic.ReLU(), "b": (ic.ReLU(), "input"), "c": (ic.Concat(), "a", "b")}), 32, 16),
    "linear": (lambda: ic.Sequential([ic.Flatten(), ic.Linear(64 * 64, 256)]), 64, 8),
}


class Source(ic.Layer):
    """Has a parameter, so that the layer after it must give the gradient of its input too."""

    def parameters(self) -> dict[str, ic.Parameter]:
        """Return one number that takes no part."""
        return {"unused": ic.Parameter((1,))}

    def forward(self, x: Any, ctx: Any) -> Any:
        """Pass the input."""
        return x

    def backward(self, dy: Any, ctx: Any) -> Any:
        """Pass the gradient."""
        return dy


@cache
def step(name: str) -> Callable[[], Any]:
    """Return a training step of the layer."""
    start_backend()
    make, channels, size = LAYERS[name]
    ends: list[ic.Layer] = [] if name == "linear" else [ic.GlobalAvgPool2d(), ic.Flatten()]
    trainer = ic.Trainer(ic.Sequential([Source(), make(), *ends]), optimizer=ic.SGD(lr=0.01))
    rng = np.random.default_rng(0)
    images = rng.standard_normal((BATCH, channels, size, size), dtype=np.float32)
    labels = rng.integers(0, channels, BATCH)
    return lambda: trainer.step(images, labels)


class Layer:
    """A training step of a network of one layer."""

    params = (list(LAYERS),)
    param_names = ("layer",)
    version = "1"
    warmup_time, repeat = WARM_UP, (2, 10, 1.0)

    def time_step(self, layer: str) -> None:
        step(layer)()
