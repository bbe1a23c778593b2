"""Images as pictures: arrays of a data set as pixels, and pixels as PNG."""

from __future__ import annotations

import struct
import zlib

from im2colnet.host import np


def as_pixels(image: np.ndarray, low: float = 0.0, high: float = 1.0) -> np.ndarray | None:
    """Return an image as the pixels of a picture, or None if it is not a picture.

    Parameters
    ----------
    image : (C, H, W) array
        uint8 is used unchanged. One channel is grey, three are RGB, four are RGBA; else the channels' mean is grey.
    low, high : float
        The numbers that are black and white in floating-point images.

    Returns
    -------
    (H, W), (H, W, 3) or (H, W, 4) array of uint8, or None
    """
    if image.ndim != 3:
        return None
    if image.dtype != np.uint8:
        scaled = (image.astype(np.float64) - low) / ((high - low) or 1.0)
        image = np.rint(255 * np.clip(scaled, 0, 1)).astype(np.uint8)
    grey = len(image) not in (3, 4)
    return np.rint(image.mean(axis=0)).astype(np.uint8) if grey else np.moveaxis(image, 0, -1)


def png(pixels: np.ndarray) -> bytes:
    """Return pixels, (H, W), (H, W, 3) or (H, W, 4) of uint8, as a PNG file (W3C's recommendation, 2003)."""
    height, width, *channels = pixels.shape
    kind = {(): 0, (3,): 2, (4,): 6}[tuple(channels)]

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    rows = np.zeros((height, 1 + pixels[0].size), np.uint8)  # a row begins with its filter, 0: none
    rows[:, 1:] = pixels.reshape(height, -1)
    header = struct.pack(">IIBBBBB", width, height, 8, kind, 0, 0, 0)
    chunks = chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(rows.tobytes(), 9)), chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)
