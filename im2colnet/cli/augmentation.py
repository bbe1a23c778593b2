"""Options that change the training images at random, and normalize images."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from typing import Any

from im2colnet.cli.arguments import number
from im2colnet.datasets import transforms as T
from im2colnet.datasets.dataset import Dataset
from im2colnet.datasets.transforms import Transform

#: by its name the transform for images of H × W pixels, where the shorter side is given
TRANSFORMS: dict[str, Callable[[int], Transform]] = {
    "crop": lambda side: T.RandomCrop(padding=max(1, round(side / 8))),
    "flip": lambda side: T.RandomHorizontalFlip(),
    "vertical-flip": lambda side: T.RandomVerticalFlip(),
    "affine": lambda side: T.RandomAffine(10, translate=(0.1, 0.1), scale=(0.9, 1.1)),
    "color": lambda side: T.ColorJitter(brightness=0.2, contrast=0.2),
    "erase": lambda side: T.RandomErasing(),
}
STANDARD = ("crop", "flip")
#: the options, as argparse stores them
OPTIONS = ("augment", "mixup", "cutmix", "normalize")


def add_augmentation(parser: argparse.ArgumentParser) -> None:
    """Add ``--augment``, ``--mixup``, ``--cutmix`` and ``--normalize``."""
    group = parser.add_argument_group("augmentation", "Random changes of the training images; --resume keeps them.")
    group.add_argument(
        "--augment",
        nargs="?",
        const=STANDARD,
        type=names,
        metavar="LIST",
        help=f"data augmentation: names of {', '.join(TRANSFORMS)}, separated by commas, which are applied in this"
        f" order; 'standard', or --augment without a LIST, stands for {','.join(STANDARD)}. crop moves an image by up"
        " to an eighth of its size, flip mirrors it left to right, affine rotates, moves and scales it a little, color"
        " changes brightness and contrast, erase (cut-out) overwrites a rectangle",
    )
    alpha = number(float, lambda v: 0 < v < math.inf, "above 0")
    group.add_argument(
        "--mixup",
        type=alpha,
        metavar="ALPHA",
        help="mixup: mix each image and its label with another image and label; usual values are 0.2 and 1",
    )
    group.add_argument(
        "--cutmix",
        type=alpha,
        metavar="ALPHA",
        help="cutmix: put a rectangle of another image into each image, and mix the labels by area; the usual value is"
        " 1; with --mixup each image gets one of the two",
    )
    group.add_argument(
        "--normalize",
        action="store_true",
        default=None,
        help="subtract the channel means of the training images from all images, and divide by the standard deviations"
        " of the channels",
    )


def names(value: str) -> tuple[str, ...]:
    """Read a list of names of transforms."""
    found: list[str] = []
    for name in value.split(","):
        name = name.strip()
        if name != "standard" and name not in TRANSFORMS:
            raise argparse.ArgumentTypeError(
                f"must be names of {', '.join(TRANSFORMS)} or standard, separated by commas, got {name!r}"
            )
        found += STANDARD if name == "standard" else [name]
    return tuple(found)


def transforms_for(args: argparse.Namespace, images: Dataset) -> list[Transform]:
    """Return the transforms that the arguments ask for."""
    side = min(images.images.shape[2:])
    found = [TRANSFORMS[name](side) for name in args.augment or ()]
    mixing: list[Transform] = [
        kind(alpha) for kind, alpha in ((T.MixUp, args.mixup), (T.CutMix, args.cutmix)) if alpha is not None
    ]
    return [*found, *(mixing if len(mixing) < 2 else [T.RandomChoice(mixing)])]


def augmentation_row(transforms: Any, normalized: bool) -> dict[str, str]:
    """Return the row that says how the images are changed; none if they are not."""
    said = [*map(repr, transforms), *["normalized by the mean and deviation of each channel"] * normalized]
    return {"images": ", ".join(said)} if said else {}
