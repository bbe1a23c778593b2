"""Functions that change the size of images."""

from __future__ import annotations

from typing import Any

from im2colnet.layers import Upsample
from im2colnet.torch.trace import Refused, Trace, importer
from im2colnet.torch.values import Value


@importer("interpolate", "upsample")
def interpolate(
    t: Trace,
    input: Value,
    size: Any = None,
    scale_factor: Any = None,
    mode: str = "nearest",
    align_corners: bool | None = None,
    recompute_scale_factor: bool | None = None,
    antialias: bool = False,
) -> Value:
    if antialias:
        raise Refused("antialias=True is not supported")
    size, scale_factor = (tuple(each) if isinstance(each, list) else each for each in (size, scale_factor))
    return t.add(Upsample(scale_factor, size, mode, align_corners, recompute_scale_factor), input)
