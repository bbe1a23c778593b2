"""Images for a network from files: arrays and pictures."""
from __future__ import annotations

import os
from pathlib import Path

from im2colnet.errors import DataError
from im2colnet.host import np


def read_images(path: Path, shape: tuple[int, ...]) -> np.ndarray:
    """Return the images of a file as (N, C, H, W).

    Parameters
    ----------
    path : Path
        An ``.npy`` file, an ``.npz`` with the array ``images``, or a picture (which needs Pillow).
    shape : (C, H, W)
        What the network takes. Arrays must have it; pictures are scaled to it.

    Raises
    ------
    DataError
        If the file is missing or damaged, or holds something else.
    """
    if not os.path.isfile(path):    # path.is_file() fails for a name that is too long
        raise DataError(f"{path}: there is no such file")
    if path.suffix.lower() not in (".npy", ".npz"):
        return _read_picture(path, shape)
    try:
        with path.open("rb") as stream:
            loaded = np.load(stream, allow_pickle=False)
            if path.suffix.lower() == ".npz":
                if "images" not in loaded.files:
                    raise DataError(f"should have the array images, but has {', '.join(loaded.files) or 'nothing'}")
                loaded = loaded["images"]
    except Exception as error:    # zipfile, zlib and NumPy raise a dozen kinds on damaged files
        raise DataError(f"{path}: cannot be read ({error})") from error
    return _as_batch(path, np.asarray(loaded), shape)


def _as_batch(path: Path, images: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Give images of one of the shapes that can be meant the shape (N, C, H, W)."""
    meant = [("N", *shape), shape]
    if len(shape) == 3 and shape[0] == 1:
        meant += [("N", *shape[1:]), shape[1:]]
    sizes = images.shape
    if not any(len(m) == len(sizes) and all(a in ("N", b) for a, b in zip(m, sizes, strict=True)) for m in meant):
        expected = ", ".join(f"({', '.join(map(str, m))})" for m in meant)
        raise DataError(f"{path}: holds an array of the shape {sizes}; the network takes {expected}")
    if images.dtype.kind not in "fiub":
        raise DataError(f"{path}: holds {images.dtype}, which are no numbers of a picture")
    return images.reshape(-1, *shape)


def _read_picture(path: Path, shape: tuple[int, ...]) -> np.ndarray:
    """Read a PNG or JPEG file as one image of the network's shape."""
    try:
        from PIL import Image, ImageOps
    except ImportError as error:
        raise DataError(f"{path}: to read pictures, install Pillow: pip install 'im2colnet[images]'") from error
    modes = {1: "L", 3: "RGB", 4: "RGBA"}
    if len(shape) != 3 or shape[0] not in modes:
        raise DataError(f"{path}: the network takes {shape}, which no picture is; give an .npy file")
    C, H, W = shape
    try:
        with Image.open(path) as picture:
            upright = ImageOps.exif_transpose(picture)
            if upright.mode.startswith("I"):    # 16 bits, which convert() would cut off instead of scaling
                upright = Image.fromarray((np.asarray(upright) >> 8).astype(np.uint8))
            pixels = np.asarray(upright.convert(modes[C]).resize((W, H), Image.Resampling.BOX))
    except Exception as error:    # Pillow raises OSError, ValueError, SyntaxError and more on damaged files
        raise DataError(f"{path}: cannot be read as a picture ({error})") from error
    return pixels.reshape(H, W, C).transpose(2, 0, 1)[None]
