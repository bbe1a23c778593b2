"""Images for a network from files: arrays and pictures."""

from __future__ import annotations

import math
import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from im2colnet.datasets.archives import check_regular, check_size, npy_header, read_npy, read_npz
from im2colnet.errors import DataError, install
from im2colnet.host import np
from im2colnet.lazy import ArrayFile, LazyArray

# Pillow starts programs to open some other formats (Ghostscript for EPS), whatever the name of the file is.
FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
MOST_PIXELS = 1 << 27
IN_MEMORY = 1 << 27  #: bytes of an array up to which a file is read at once
BITS, PHOTOMETRIC, LARGEST = 258, 262, 281  # tags of TIFF
ORIENTATION = 274  # tag of EXIF
MODES = {1: "L", 3: "RGB", 4: "RGBA"}  # by the number of channels
GREY = ("1", "L", "LA", "La", "I", "F")  # modes without colors


def read_images(path: str | os.PathLike[str], shape: tuple[int, ...]) -> np.ndarray | LazyArray:
    """Return the images of a file as (N, C, H, W).

    Parameters
    ----------
    path : str or path
        An ``.npy`` file, an ``.npz`` with the array ``images``, or a picture (which needs Pillow): BMP, GIF, JPEG, PNG,
        PPM, TIFF or WebP.
    shape : (C, H, W)
        The input shape of the network. Arrays must have this shape. Pictures are scaled so that their short side fits,
        and their long side is cropped equally on both sides.

    Returns
    -------
    array, or LazyArray of an ``.npy`` file of more than 128 MiB
        The images. A picture becomes uint8: rotated according to its EXIF data, in grey or color as the network takes
        them, transparent parts on white (unless the network takes four channels), and only the first of several frames.
        16 bits are scaled to 8, and floating-point numbers from [0, 1].

    Raises
    ------
    DataError
        If the file is missing or damaged, or does not hold such images. Also for a picture with an unknown scale: with
        32-bit integers, with floating-point numbers outside [0, 1], or with 16 bits of which at most 12 are used, if
        the file does not say so.

    Examples
    --------
    >>> np.save("two.npy", np.zeros((2, 3, 8, 8), np.uint8))
    >>> ic.datasets.read_images("two.npy", (3, 8, 8)).shape
    (2, 3, 8, 8)
    """
    path = Path(path)
    check_regular(path)
    if path.suffix.lower() not in (".npy", ".npz"):
        return _read_picture(path, shape)
    try:
        if path.suffix.lower() == ".npy":
            sizes, fortran, dtype, offset = npy_header(path)
            if math.prod(sizes) * dtype.itemsize > IN_MEMORY and not fortran:
                _check_batch(path, sizes, dtype, shape)
                batch = math.prod(sizes) // math.prod(shape), *shape
                check_size(8 * batch[0], 8 * batch[0])  # a LazyArray has the place of each image in memory
                return LazyArray(ArrayFile(str(path), batch, offset, dtype=dtype))
            loaded = read_npy(path)
        else:
            with path.open("rb") as stream:
                loaded = read_npz(stream, [("images",)])["images"]
    except Exception as error:  # zipfile, zlib and NumPy raise a dozen kinds on damaged files
        told = str(error).startswith(f"{path}: ")
        raise DataError(str(error) if told else f"{path}: cannot be read ({error})") from error
    _check_batch(path, loaded.shape, loaded.dtype, shape)
    return loaded.reshape(-1, *shape)


def _check_batch(path: Path, sizes: tuple[int, ...], dtype: np.dtype[Any], shape: tuple[int, ...]) -> None:
    """Raise a DataError unless an array holds images and has a shape that can stand for (N, C, H, W)."""
    meant = [("N", *shape), shape]
    if len(shape) == 3 and shape[0] == 1:
        meant += [("N", *shape[1:]), shape[1:]]
    if not any(len(m) == len(sizes) and all(a in ("N", b) for a, b in zip(m, sizes, strict=True)) for m in meant):
        expected = ", ".join(f"({', '.join(map(str, m))})" for m in meant)
        raise DataError(f"{path}: holds an array of the shape {sizes}; the network takes {expected}")
    if dtype != np.uint8 and dtype.kind != "f":
        raise DataError(
            f"{path}: holds {dtype}; images are uint8, which is scaled to [0, 1], or floating point,"
            " which is taken as it is"
        )
    if not math.prod(sizes):
        raise DataError(f"{path}: is empty: an array of the shape {sizes} holds no image")


def _read_picture(path: Path, shape: tuple[int, ...]) -> np.ndarray:
    """Read a picture as one image of the network's shape."""
    if len(shape) != 3 or shape[0] not in MODES:
        raise DataError(f"{path}: the network takes {shape}, which no picture can be: give an .npy file")
    return read_picture(path, shape)[None]


def read_picture(path: str | Path, shape: tuple[int, ...]) -> np.ndarray:
    """Return a picture as one image, uint8, scaled and cropped to its shape; see :func:`read_images`.

    Parameters
    ----------
    path : path
    shape : (C, H, W)
        C is 1 (grey), 3 (colors) or 4 (colors and opacity).
    """
    C, H, W = shape
    with _opened(path) as picture:
        pixels = _pixels(picture, MODES[C], (W, H))
    return pixels.reshape(H, W, C).transpose(2, 0, 1)


def picture_facts(path: str | Path) -> tuple[tuple[int, int], bool]:
    """Return height and width of a picture as shown, and whether it is grey. Only a palette requires decoding."""
    with _opened(path) as picture:
        width, height = picture.size
        if picture.getexif().get(ORIENTATION, 1) in (5, 6, 7, 8):  # turned by 90 degrees
            width, height = height, width
        grey = picture.mode in GREY or picture.mode.startswith("I;")
        if picture.mode == "P":  # a palette may have colors that no pixel has
            colors = np.array(picture.getpalette("RGB")).reshape(-1, 3)[np.unique(np.asarray(picture))]
            grey = bool((colors == colors[:, :1]).all())
        return (height, width), grey


def check_pillow(path: str | Path) -> None:
    """Raise a DataError that says how to install Pillow if it is missing."""
    try:
        import PIL.Image  # noqa: F401
    except ImportError as error:
        raise DataError(f"{path}: to read pictures, install Pillow: {install('images')}") from error


@contextmanager
def _opened(path: str | Path) -> Iterator[Any]:
    """Open a picture, or raise a DataError; within the block all errors become DataErrors that name the file."""
    check_pillow(path)
    from PIL import Image

    try:
        check_regular(path)
        Image.init()  # some plug-ins are missing in some builds
        with open(path, "rb") as stream, _identified(stream, path) as picture:
            if picture.width * picture.height > MOST_PIXELS:
                raise DataError(
                    f"it has {picture.width}×{picture.height} pixels, more than {MOST_PIXELS:,}: make it smaller"
                )
            yield picture
    except Exception as error:  # Pillow raises OSError, ValueError, SyntaxError and more on damaged files
        what = str(error) if isinstance(error, DataError) and str(path) in str(error) else ""
        raise DataError(what or f"{path}: cannot be read as a picture ({error})") from error


def _identified(stream: IO[bytes], path: str | Path) -> Any:
    """Open a picture like ``Image.open``, without its warning of large pictures: threads cannot suppress it safely."""
    from PIL import Image

    prefix = stream.read(16)
    for name in FORMATS:
        if name not in Image.OPEN:
            continue
        factory, accept = Image.OPEN[name]
        accepted = not accept or accept(prefix)
        if accepted and not isinstance(accepted, str):  # a string is a message: this Pillow lacks a feature
            stream.seek(0)
            with suppress(SyntaxError, IndexError, TypeError, struct.error):  # raised for another format
                return factory(stream, os.fspath(path))
    raise DataError(f"its content is none of {', '.join(FORMATS)}" if prefix else "it is empty")


def _pixels(picture: Any, mode: str, size: tuple[int, int]) -> np.ndarray:
    """Return a picture's pixels as uint8, cropped in the middle to the aspect of ``size`` and scaled to it."""
    from PIL import Image, ImageOps

    box = Image.Resampling.BOX
    if picture.format in (
        "JPEG",
        "MPO",
    ):  # it is decoded several times as fast at a half, a quarter or an eighth of its size
        picture.draft(None, _enough(picture.size, size))
    tags = dict(getattr(picture, "tag_v2", {}))
    upright = ImageOps.exif_transpose(picture)
    middle: tuple[float, float, float, float] | None = _middle(upright.size, size)
    if upright.mode in ("F", "I") or upright.mode.startswith("I;"):
        grey = _scaled(np.asarray(upright), upright.mode, picture.format, tags)
        if "transparency" in picture.info and picture.mode != "F":
            grey[np.asarray(upright) == picture.info["transparency"]] = 1
        small = np.asarray(Image.fromarray(grey).resize(size, box, middle))
        upright, middle = Image.fromarray(np.rint(small * 255).astype(np.uint8)), None
    elif mode != "RGBA" and ("A" in upright.getbands() or "a" in upright.getbands() or "transparency" in upright.info):
        colors = upright if upright.mode == "RGBA" else _with_alpha(upright)
        upright = Image.alpha_composite(Image.new("RGBA", colors.size, "white"), colors)
    if mode == "RGBA" and upright.mode != "RGBA":
        upright = _with_alpha(upright)
    return np.asarray(upright.convert(mode).resize(size, box, middle))


def _middle(given: tuple[int, int], size: tuple[int, int]) -> tuple[float, float, float, float]:
    """Return the box (left, upper, right, lower) of the largest part in the middle that has the aspect of ``size``."""
    (w, h), (W, H) = given, size
    scale = min(w / W, h / H)  # the short side fits
    left, upper = max(0.0, (w - W * scale) / 2), max(0.0, (h - H * scale) / 2)
    return left, upper, w - left, h - upper


def _enough(given: tuple[int, int], size: tuple[int, int]) -> tuple[int, int]:
    """Return a smaller size that still has four pixels for each pixel of ``size``, even if the picture is rotated."""
    ratio = 4 * max(size) / min(given)
    return (math.ceil(given[0] * ratio), math.ceil(given[1] * ratio)) if ratio < 1 else given


def _with_alpha(picture: Any) -> Any:
    """Convert to RGBA; from some modes Pillow needs two steps."""
    steps = {"La": "LA", "RGBa": "RGBA", "CMYK": "RGB", "YCbCr": "RGB", "HSV": "RGB", "LAB": "RGB", "PA": "RGBA"}
    if picture.mode in steps:
        picture = picture.convert(steps[picture.mode])
    return picture if picture.mode == "RGBA" else picture.convert("RGBA")


def _scaled(values: np.ndarray, mode: str, kind: str | None, tags: dict[int, Any]) -> np.ndarray:
    """Return the grey values of a picture with more than 8 bits as float32 from 0, black, to 1."""
    remedy = "convert it to 8 bits, from 0 to 255, or give an .npy file"
    lowest, largest = values.min(), values.max()
    if mode == "F":
        if not 0 <= lowest <= largest <= 1:  # NaN neither
            raise DataError(
                f"its mode is F, floating-point numbers, from {lowest:g} to {largest:g}: only [0, 1] has a"
                f" known scale; {remedy}"
            )
        scaled = values.astype(np.float32)
    else:
        if mode == "I" and kind not in ("PNG", "PPM"):  # which Pillow reads so if they have 16 bits
            raise DataError(
                f"its mode is I, 32-bit integers (here {lowest} to {largest}), whose scale is not known; {remedy}"
            )
        bits = tags.get(BITS, 16)
        said = tags.get(LARGEST, (1 << (bits[0] if isinstance(bits, tuple) else bits)) - 1)
        white = int(said[0] if isinstance(said, tuple) else said)
        if white == 65535 and 0 < largest < 4096:
            raise DataError(
                f"its mode is {mode}, 16 bits, but no value is above {largest}: of 65535 that is nearly"
                f" black. If it holds 12 bits or fewer (4095 is white), {remedy}"
            )
        if largest > white > 0:
            white = 65535
        scaled = (values / (white or 65535)).astype(np.float32)
    # TIFF may store white as 0; Pillow inverts it for 8 bits only
    return 1 - scaled if kind == "TIFF" and tags.get(PHOTOMETRIC) == 0 else scaled
