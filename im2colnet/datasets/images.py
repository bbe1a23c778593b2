"""Images for a network from files: arrays and pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from im2colnet.datasets.archives import check_regular, read_npy, read_npz
from im2colnet.errors import DataError, install
from im2colnet.host import np

# Pillow opens others by starting programs (EPS by Ghostscript), whatever the file's name says.
FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
MOST_PIXELS = 1 << 27
BITS, PHOTOMETRIC, LARGEST = 258, 262, 281  # tags of TIFF


def read_images(path: Path, shape: tuple[int, ...]) -> np.ndarray:
    """Return the images of a file as (N, C, H, W).

    Parameters
    ----------
    path : Path
        An ``.npy`` file, an ``.npz`` with the array ``images``, or a picture (which needs Pillow): BMP, GIF, JPEG, PNG,
        PPM, TIFF or WebP.
    shape : (C, H, W)
        What the network takes. Arrays must have it; pictures are scaled to it.

    Returns
    -------
    array
        Of a picture uint8: turned as its EXIF data say, in grey or in colours as the network takes them, transparent
        parts on white (unless the network takes four channels), of several frames the first. 16 bits are scaled to 8,
        floating-point numbers from [0, 1].

    Raises
    ------
    DataError
        If the file is missing or damaged, or holds something else. Also for a picture whose scale is not known:
        of 32-bit integers, of floating-point numbers beyond [0, 1], or of 16 bits that use no more than 12 and do not
        say so.
    """
    check_regular(path)
    if path.suffix.lower() not in (".npy", ".npz"):
        return _read_picture(path, shape)
    try:
        if path.suffix.lower() == ".npy":
            loaded = read_npy(path)
        else:
            with path.open("rb") as stream:
                loaded = read_npz(stream, [("images",)])["images"]
    except Exception as error:  # zipfile, zlib and NumPy raise a dozen kinds on damaged files
        raise DataError(f"{path}: cannot be read ({error})") from error
    return _as_batch(path, loaded, shape)


def _as_batch(path: Path, images: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Give images of one of the shapes that can be meant the shape (N, C, H, W)."""
    meant = [("N", *shape), shape]
    if len(shape) == 3 and shape[0] == 1:
        meant += [("N", *shape[1:]), shape[1:]]
    sizes = images.shape
    if not any(len(m) == len(sizes) and all(a in ("N", b) for a, b in zip(m, sizes, strict=True)) for m in meant):
        expected = ", ".join(f"({', '.join(map(str, m))})" for m in meant)
        raise DataError(f"{path}: holds an array of the shape {sizes}; the network takes {expected}")
    if images.dtype != np.uint8 and images.dtype.kind != "f":
        raise DataError(
            f"{path}: holds {images.dtype}; images are uint8, which is scaled to [0, 1], or floating point,"
            " which is taken as it is"
        )
    if not images.size:
        raise DataError(f"{path}: is empty: an array of the shape {sizes} holds no image")
    return images.reshape(-1, *shape)


def _read_picture(path: Path, shape: tuple[int, ...]) -> np.ndarray:
    """Read a picture as one image of the network's shape."""
    try:
        from PIL import Image
    except ImportError as error:
        raise DataError(f"{path}: to read pictures, install Pillow: {install('images')}") from error
    import warnings

    modes = {1: "L", 3: "RGB", 4: "RGBA"}
    if len(shape) != 3 or shape[0] not in modes:
        raise DataError(f"{path}: the network takes {shape}, which no picture is; give an .npy file")
    C, H, W = shape
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # there is a limit here
            Image.init()  # some plug-ins are missing in some builds
            with Image.open(path, formats=[name for name in FORMATS if name in Image.OPEN]) as picture:
                pixels = _pixels(picture, modes[C], (W, H))
    except Exception as error:  # Pillow raises OSError, ValueError, SyntaxError and more on damaged files
        raise DataError(f"{path}: cannot be read as a picture ({error})") from error
    return pixels.reshape(H, W, C).transpose(2, 0, 1)[None]


def _pixels(picture: Any, mode: str, size: tuple[int, int]) -> np.ndarray:
    """Return a picture's pixels as uint8."""
    from PIL import Image, ImageOps

    if picture.width * picture.height > MOST_PIXELS:
        raise DataError(f"it has {picture.width}×{picture.height} pixels, more than {MOST_PIXELS:,}: make it smaller")
    tags = dict(getattr(picture, "tag_v2", {}))
    upright = ImageOps.exif_transpose(picture)
    if upright.mode in ("F", "I") or upright.mode.startswith("I;"):
        grey = _scaled(np.asarray(upright), upright.mode, picture.format, tags)
        if "transparency" in picture.info and picture.mode != "F":
            grey[np.asarray(upright) == picture.info["transparency"]] = 1
        small = np.asarray(Image.fromarray(grey).resize(size, Image.Resampling.BOX))
        upright = Image.fromarray(np.rint(small * 255).astype(np.uint8))
    elif mode != "RGBA" and ("A" in upright.getbands() or "a" in upright.getbands() or "transparency" in upright.info):
        colours = upright if upright.mode == "RGBA" else _with_alpha(upright)
        upright = Image.alpha_composite(Image.new("RGBA", colours.size, "white"), colours)
    if mode == "RGBA" and upright.mode != "RGBA":
        upright = _with_alpha(upright)
    return np.asarray(upright.convert(mode).resize(size, Image.Resampling.BOX))


def _with_alpha(picture: Any) -> Any:
    """Convert to RGBA; Pillow knows a way from every mode, but from some only in two steps."""
    steps = {"La": "LA", "RGBa": "RGBA", "CMYK": "RGB", "YCbCr": "RGB", "HSV": "RGB", "LAB": "RGB", "PA": "RGBA"}
    if picture.mode in steps:
        picture = picture.convert(steps[picture.mode])
    return picture if picture.mode == "RGBA" else picture.convert("RGBA")


def _scaled(values: np.ndarray, mode: str, kind: str | None, tags: dict[int, Any]) -> np.ndarray:
    """Return the grey values of a picture with more than 8 bits as float32 from 0, black, to 1."""
    remedy = "bring it to 8 bits, from 0 to 255, or give an .npy file"
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
    # TIFF may store white as 0, which Pillow turns round for 8 bits only
    return 1 - scaled if kind == "TIFF" and tags.get(PHOTOMETRIC) == 0 else scaled
