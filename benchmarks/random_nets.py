"""Networks that nothing is tuned for: two from outside the suite, and twelve that a rule draws, the same for everybody.

The rule (:func:`draw`), with chances where there is a choice:

- images of 16, 24, 32, 48 or 64 pixels a side and 3 channels, a batch of 8, 16, 32 or 64; 10 classes;
- batch norm after every convolution of a network or of none, 1/2 each;
- 3 to 8 blocks of a convolution, batch norm if there is, and ReLU;
- kernels of 1 to 7 taps along an axis, each as likely; 2/3 square, 1/6 each 1×K and K×1; as much padding as K // 2;
- 8 to 256 filters, a multiple of 8, their logarithm uniform; stride 2 with 1/4 where 8 pixels or more a side are left
  (not for a first convolution of 1×1: in channels_last PyTorch 2.13.0 crashes);
- from the second block on depthwise with 1/8, in 2, 4 or 8 groups that divide channels and filters with 1/8;
- with 1/4 a block whose output has its input's shape is the body of a residual;
- max pooling of 2×2 or, overlapping, of 3×3 at stride 2, with 1/4 where 8 pixels or more are left;
- at the end global average pooling, but with 1/2 where 2048 numbers of an image or fewer are left; Linear.

What needs fewer than 0.02 or more than 4 GFLOP for a batch's forward pass is drawn again, so that all can be measured.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from functools import partial
from math import log2, prod

import im2colnet as ic
from benchmarks.common import Case

COUNT = 12
FLOPS = 2e7, 4e9  # of a batch's forward pass, at least and at most
LEAST = 8  # pixels a side from which on an image is made smaller
MOST_FEATURES = 2048  # numbers of an image that may be flattened

Shape = tuple[int, int, int]  # channels, height, width


def draw(seed: int) -> tuple[int, Shape, ic.Sequential]:
    """Return the batch size, the shape of an image and the network that the seed draws."""
    rng = random.Random(seed)  # its numbers are the same with every version of Python
    while True:
        batch, side = rng.choice((8, 16, 32, 64)), rng.choice((16, 24, 32, 48, 64))
        shape = (3, side, side)
        net, flops = _network(rng, shape)
        if FLOPS[0] <= batch * flops <= FLOPS[1]:
            return batch, shape, net


def _network(rng: random.Random, shape: Shape) -> tuple[ic.Sequential, int]:
    """Return a network and the FLOPs of its convolutions for one image."""
    layers: list[ic.Layer] = []
    norm, flops, (C, *size) = rng.random() < 1 / 2, 0, shape
    for block in range(rng.randint(3, 8)):
        conv = _convolution(rng, C, size, first=block == 0)
        F, after = conv.out_channels, list(conv.window.output_size(size))
        flops += 2 * prod(conv.window.kernel) * C // conv.groups * F * prod(after)
        body = [conv, ic.BatchNorm2d(F)] if norm else [conv]
        residual = (F, after) == (C, size) and rng.random() < 1 / 4
        layers += [*([ic.Residual(ic.Sequential(body))] if residual else body), ic.ReLU()]
        C, size = F, after
        if min(size) >= LEAST and rng.random() < 1 / 4:
            pool = rng.choice((ic.MaxPool2d(2), ic.MaxPool2d(3, 2, 1)))
            layers.append(pool)
            size = [n // 2 if pool.padding == 0 else -(-n // 2) for n in size]
    flat = C * prod(size) <= MOST_FEATURES and rng.random() < 1 / 2
    layers += [] if flat else [ic.GlobalAvgPool2d()]
    return ic.Sequential([*layers, ic.Flatten(), ic.Linear(C * prod(size) if flat else C, 10)]), flops


def _convolution(rng: random.Random, C: int, size: Sequence[int], first: bool) -> ic.Conv2d:
    K = rng.randint(1, 7)
    kernel = rng.choice(((K, K), (K, K), (K, K), (K, K), (1, K), (K, 1)))
    filters = 8 * round(2 ** rng.uniform(0, log2(256 / 8)))
    stride = 2 if min(size) >= LEAST and rng.random() < 1 / 4 else 1
    if first and K == 1:  # there PyTorch 2.13.0 crashes with stride 2 and channels_last
        stride = 1
    groups, chance = 1, rng.random()
    if not first and chance < 1 / 8:
        filters = groups = C
    elif not first and chance < 1 / 4:
        groups = rng.choice((2, 4, 8))  # channels are multiples of 8
    return ic.Conv2d(C, filters, kernel, stride, (kernel[0] // 2, kernel[1] // 2), groups=groups)


def _make(seed: int) -> ic.Sequential:
    return draw(seed)[2]


def _net5x5() -> ic.Sequential:
    """5×5 convolutions and overlapping pools."""
    layers: list[ic.Layer] = []
    for C, F in (3, 32), (32, 32), (32, 64):
        layers += [ic.Conv2d(C, F, 5, padding=2), ic.ReLU(), ic.MaxPool2d(3, 2, 1)]
    return ic.Sequential([*layers, ic.Flatten(), ic.Linear(64 * 4 * 4, 10)])


def _stem() -> ic.Sequential:
    """A stem of 7×7 at stride 2, and convolutions of 1×5 and 5×1."""
    layers: list[ic.Layer] = [ic.Conv2d(3, 32, 7, stride=2, padding=3), ic.ReLU()]
    for _ in range(2):
        for kernel, padding in ((1, 5), (0, 2)), ((5, 1), (2, 0)):
            layers += [ic.Conv2d(32, 32, kernel, padding=padding), ic.ReLU()]
        layers.append(ic.MaxPool2d(2))
    return ic.Sequential([*layers, ic.Flatten(), ic.Linear(32 * 8 * 8, 10)])


#: networks of sizes that the suite has not
OUTSIDE = {
    "net5x5-b128": Case("net5x5", 128, (3, 32, 32), build=_net5x5),
    "stem-b64": Case("stem", 64, (3, 64, 64), build=_stem),
}
#: networks that the rule draws, by their names
RANDOM = {
    f"random{seed}-b{batch}": Case(f"random{seed}", batch, shape, build=partial(_make, seed))
    for seed in range(COUNT)
    for batch, shape, _ in [draw(seed)]
}
