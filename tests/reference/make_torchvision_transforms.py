"""Writes ``torchvision_transforms.npz``: what torchvision's transforms make of images, by the numbers that are drawn.

    python tests/reference/make_torchvision_transforms.py      # with torchvision 0.28.0

The images are small, and uint8 or numbers from 0 to 1.
"""

from pathlib import Path

import numpy as np
import torch
import torchvision
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2 import functional as F

assert torchvision.__version__.split("+")[0] == "0.28.0", "made with another version of torchvision"

#: angle and shear in degrees, pixels to the right and down, factor
AFFINE = [(0, 0, 0, 0, 1.0), (30, 0, 0, 0, 1.0), (-75, 15, 2, -1, 0.7), (200, -20, -3, 2, 1.4)]


def affine(image, angle, shear, right, down, factor):
    """An image, warped; outside of it are zeros."""
    return F.affine(image, angle, [right, down], factor, [shear, 0.0], InterpolationMode.BILINEAR, None)


if __name__ == "__main__":
    images = np.random.default_rng(0).integers(0, 256, (4, 3, 6, 7), dtype=np.uint8)
    found = {"images": images, "affine_arguments": np.array(AFFINE)}
    for name, given in (("uint8", torch.tensor(images)), ("float", torch.tensor(images).double() / 255)):
        found[f"affine_{name}"] = np.stack(
            [affine(each[0], *each[1]).numpy() for each in zip(given, AFFINE, strict=True)]
        )
        for jitter in ("brightness", "contrast", "saturation"):
            for factor in (0.4, 1.7):
                found[f"{jitter}_{factor}_{name}"] = getattr(F, f"adjust_{jitter}")(given, factor).numpy()
    mean, std = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
    found["normalized"] = F.normalize(torch.tensor(images).double() / 255, mean, std).numpy()
    small = {k: v.astype("f4") if v.dtype == "f8" else v for k, v in found.items()}
    np.savez_compressed(Path(__file__).with_name("torchvision_transforms.npz"), **small)
