"""Transforms of images, each alone and the usual two together, in batches of a loader; on the host always.

``none`` is the loader without transforms: what it takes to gather the images.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np

import im2colnet as ic
from benchmarks.common import WARM_UP, NotHere

IMAGES, BATCH_SIZE = 512, 64
SIZES = {"1-28": (1, 28, 28), "3-32": (3, 32, 32), "3-96": (3, 96, 96)}
NAMES = ["none", "crop,flip", "crop", "flip", "affine", "color", "erase", "mixup", "cutmix"]


def transforms(names: str, size: int) -> list[Any]:
    """Return the transforms of these names for images of ``size`` × ``size`` pixels.

    Raises
    ------
    NotHere
        If this commit of the library has none.
    """
    if not hasattr(ic, "transforms"):
        raise NotHere("this commit of im2colnet has no transforms")
    T = ic.transforms
    known = {
        "crop": T.RandomCrop(padding=size // 8),
        "flip": T.RandomHorizontalFlip(),
        "affine": T.RandomAffine(10, translate=(0.1, 0.1), scale=(0.9, 1.1)),
        "color": T.ColorJitter(brightness=0.2, contrast=0.2),
        "erase": T.RandomErasing(),
        "mixup": T.MixUp(0.2),
        "cutmix": T.CutMix(1.0),
    }
    return [known[name] for name in names.split(",") if name != "none"]


@cache
def loader(names: str, size: str) -> ic.Loader:
    """Return uint8 images in batches."""
    shape, rng = SIZES[size], np.random.default_rng(0)
    images = rng.integers(0, 256, (IMAGES, *shape), dtype=np.uint8)
    data = ic.Dataset(images, rng.integers(0, 10, IMAGES))
    return ic.Loader(data, BATCH_SIZE, transform=transforms(names, shape[1]))


class Transforms:
    """The batches of an epoch of 512 images."""

    params = (NAMES, list(SIZES))
    param_names = ("transforms", "images")
    version = "1"
    warmup_time, repeat = WARM_UP, (2, 10, 1.5)

    def time_epoch(self, names: str, size: str) -> None:
        for _ in loader(names, size).epoch(0, reuse=True):
            pass
