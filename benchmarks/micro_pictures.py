"""Pictures in a folder: what decoding takes, and reading decoded images of a file. It needs Pillow.

As a program, ``python -m benchmarks.micro_pictures --images 8000 --side 224``, it trains on a folder whose decoded
images are larger than its memory, and prints both, and the images a second.
"""

from __future__ import annotations

import argparse
import atexit
import os
import shutil
import sys
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

import im2colnet as ic
from benchmarks.common import WARM_UP, NotHere, part_of_library

BATCH = 64
THREADS = [1, 2]
SIDES = [32, 64, 224]


@cache
def folder(count: int = 2 * BATCH) -> Path:
    """Return a folder of two classes of photographs (JPEG, 500×375), which is removed at the end."""
    try:
        from PIL import Image
    except ImportError as error:
        raise NotHere("Pillow is not installed") from error
    root, rng = Path(tempfile.mkdtemp(prefix="im2colnet-bench-")), np.random.default_rng(0)
    atexit.register(shutil.rmtree, root, ignore_errors=True)
    for number in range(count):
        at = root / "pictures" / "ab"[number % 2]
        at.mkdir(parents=True, exist_ok=True)
        if number < 64:
            small = Image.fromarray(rng.integers(0, 256, (12, 16, 3), np.uint8))
            small.resize((500, 375), Image.Resampling.BICUBIC).save(at / f"{number}.jpg", quality=90)
        else:
            shutil.copy(root / "pictures" / "ab"[number % 2] / f"{number % 64}.jpg", at / f"{number}.jpg")
    os.environ["IM2COLNET_CACHE"] = str(root / "cache")
    return root / "pictures"


@cache
def images(side: int, keep: str) -> Any:
    """Return the images of the folder as they are read when they are needed."""
    read = part_of_library("im2colnet.datasets:from_folder")
    return read(folder(), size=side, color="rgb", split=0, keep=keep, progress=False)[0].images


class Pictures:
    """A batch of 64 images."""

    params = (SIDES, THREADS)
    param_names = ("side", "threads")
    version = "1"
    warmup_time, repeat = WARM_UP, (2, 10, 1.5)

    def time_decode(self, side: int, threads: int) -> None:
        ic.set_num_threads(threads)
        images(side, "none")[:BATCH]

    def time_read_decoded(self, side: int, threads: int) -> None:
        ic.set_num_threads(threads)
        images(side, "disk")[BATCH - 1 :: -1]


def main() -> None:
    """Train on a folder that is larger than the memory of the training."""
    import resource

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=8000)
    parser.add_argument("--side", type=int, default=224)
    parser.add_argument("--keep", choices=("disk", "none", "memory"), default="disk")
    args = parser.parse_args()
    root = folder(args.images)
    train, test = ic.datasets.from_folder(root, size=args.side, keep=args.keep)
    layers = [ic.Conv2d(3, 8, 7, stride=4), ic.ReLU(), ic.MaxPool2d(4), ic.GlobalAvgPool2d(), ic.Flatten()]
    trainer = ic.Trainer(ic.Sequential([*layers, ic.Linear(8, 2)]), seed=0)
    history = trainer.fit(train, 1, batch_size=BATCH, validation=test)
    unit = 1 if sys.platform == "darwin" else 1024
    peaks = [resource.getrusage(who).ru_maxrss * unit for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    print(f"decoded images   {(train.images.nbytes + test.images.nbytes) / 2**20:8,.0f} MiB")
    print(f"largest memory   {peaks[0] / 2**20:8,.0f} MiB, of a worker process {peaks[1] / 2**20:,.0f} MiB")
    print(f"training         {history[-1]['images_per_second']:8,.0f} images/s")


if __name__ == "__main__":
    main()
