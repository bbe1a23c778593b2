"""Cases of layers that change the number of pixels."""

from __future__ import annotations

from im2colnet.layers import Resize, Upsample
from im2colnet.layers.resampling import COORDINATES, ROUNDINGS
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
            (Upsample(2, mode="bicubic"), (2, 3, 4)),
            (Upsample(size=(7, 2), mode="bicubic", align_corners=True), (2, 3, 5)),
            (Upsample((3.2, 0.6), mode="bicubic"), (2, 1, 5)),
        ),
    ),
    LayerCase(
        Resize,
        lambda layer, state, x: oracles.resize(x, **layer.config()),
        lambda layer, state, dy, x: ((oracles.resize_grad(x, dy, **layer.config()),), {}),
        examples=(
            *(
                (Resize((5, 3), mode=mode, coordinates=coordinates), (2, 3, 4))
                for mode in ("nearest", "linear", "cubic")
                for coordinates in COORDINATES
            ),
            *((Resize(scale_factor=(1.7, 0.6), rounding=rounding), (2, 3, 5)) for rounding in ROUNDINGS),
            (Resize((1, 7), mode="cubic", coordinates="pytorch_half_pixel"), (2, 3, 4)),
            (Resize((1, 2), mode="linear", coordinates="align_corners"), (2, 3, 4)),
            (Resize((4, 4), scale_factor=(1.4, 1.1), mode="linear", coordinates="half_pixel_symmetric"), (2, 3, 4)),
            (Resize(scale_factor=2.2, mode="cubic", cubic_coeff_a=-0.5, exclude_outside=True), (2, 3, 2)),
            (Resize((2, 5), mode="linear", antialias=True), (2, 7, 4)),
            (Resize(scale_factor=0.4, mode="cubic", antialias=True, exclude_outside=True), (2, 7, 6)),
        ),
    ),
]
