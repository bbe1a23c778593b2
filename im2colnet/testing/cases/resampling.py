"""Cases of layers that change the number of pixels."""

from __future__ import annotations

from im2colnet.layers import Upsample
from im2colnet.testing import oracles
from im2colnet.testing.cases.base import LayerCase

LAYERS = [
    LayerCase(
        Upsample,
        lambda layer, state, x: oracles.upsample(x, **layer.config()),
        lambda layer, state, dy, x: ((oracles.upsample_grad(x, dy, **layer.config()),), {}),
        examples=(
            (Upsample(), (4, 3, 2)),
            (Upsample((1, 3)), (2, 3, 4)),
            (Upsample(size=(5, 6)), (2, 3, 4)),
            (Upsample(size=2), (2, 5, 3)),
            (Upsample(2, mode="bilinear"), (2, 3, 4)),
            (Upsample(mode="bilinear", align_corners=True), (3, 4, 2)),
            (Upsample(size=(7, 2), mode="bilinear"), (2, 3, 5)),
            (Upsample(size=(1, 6), mode="bilinear", align_corners=True), (2, 3, 4)),
            (Upsample(1.7), (2, 3, 4)),
            (Upsample((2.1, 1.2)), (2, 4, 4)),
            (Upsample((3.2, 0.6), mode="bilinear"), (2, 3, 5)),
            (Upsample(1.7, mode="bilinear", align_corners=True), (2, 3, 4)),
            (Upsample(2.4, mode="bilinear", recompute_scale_factor=True), (2, 3, 4)),
            (Upsample(2.4, recompute_scale_factor=True), (2, 3, 4)),
        ),
    ),
]
