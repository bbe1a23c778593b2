"""Pictures of every mode: scaled by what the mode means, or refused; never black where the picture is not."""

import struct
import warnings

import numpy as np
import pytest

import im2colnet as ic
from im2colnet.datasets.images import read_images
from im2colnet.errors import DataError
from im2colnet.lazy import LazyArray

Image = pytest.importorskip("PIL.Image")
GREY = (np.arange(64).reshape(8, 8) * 4).astype(np.uint8)  # 0 to 252
DARK = GREY < 128


def image(array):
    return Image.fromarray(array)


def black(alpha, mode):
    """Return a black sheet with this alpha channel."""
    return Image.merge(mode, [Image.new("L", (8, 8), 0)] * (len(mode) - 1) + [image(alpha)])


def palette():
    picture = image((~DARK).astype(np.uint8)).convert("P")
    picture.putpalette([0] * 768)
    return picture


GOOD = {
    "bit.png": (image(~DARK), ~DARK * 255, {}),
    "grey.png": (image(GREY), GREY, {}),
    "grey.bmp": (image(GREY), GREY, {}),
    "float.tif": (image(GREY.astype(np.float32) / 255), GREY, {}),
    "16.png": (image(GREY.astype(np.uint16) * 257), GREY, {}),
    "16.tif": (image(GREY.astype(np.uint16) * 257), GREY, {}),
    "12.tif": (image(np.rint(GREY / 255 * 4095).astype(np.uint16)), GREY, {"tiffinfo": {281: 4095}}),
    "cmyk.tif": (image(GREY).convert("CMYK"), GREY, {}),
    "palette.png": (image(GREY).convert("P"), GREY, {}),
    # on white: black with the opacity a is 255 - a
    "la.png": (black(255 - GREY, "LA"), GREY, {}),
    "rgba.png": (black(255 - GREY, "RGBA"), GREY, {}),
    "transparent.png": (palette(), DARK * 255, {"transparency": 0}),
    "transparent-rgb.png": (
        image(np.where(DARK, 10, 20).astype(np.uint8)).convert("RGB"),
        np.where(DARK, 255, 20),
        {"transparency": (10, 10, 10)},
    ),
    "transparent-grey.png": (
        image(np.where(DARK, 10, 20).astype(np.uint8)),
        np.where(DARK, 255, 20),
        {"transparency": 10},
    ),
}


@pytest.mark.parametrize("name", GOOD)
@pytest.mark.parametrize("channels", [1, 3])
def test_modes(tmp_path, name, channels):
    picture, expected, options = GOOD[name]
    picture.save(tmp_path / name, **options)
    found = read_images(tmp_path / name, (channels, 8, 8))
    assert found.dtype == np.uint8
    assert found.shape == (1, channels, 8, 8)
    np.testing.assert_array_equal(found[0], np.broadcast_to(expected, (channels, 8, 8)))


def test_alpha_is_kept_for_four_channels(tmp_path):
    black(GREY, "RGBA").save(tmp_path / "a.png")
    np.testing.assert_array_equal(read_images(tmp_path / "a.png", (4, 8, 8))[0], [GREY * 0] * 3 + [GREY])


def png_16_bits_in_colour(values):
    import zlib

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in np.repeat(values[..., None], 3, axis=2))
    header = struct.pack(">IIBBBBB", *values.shape[::-1], 16, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def tiff(values, order, photometric, kind=1):
    """Return a TIFF file, by its description."""
    data = values.tobytes()
    entries = [
        (256, 3, 8),
        (257, 3, 8),
        (258, 3, values.itemsize * 8),
        (259, 3, 1),
        (262, 3, photometric),
        (273, 4, 8),
        (277, 3, 1),
        (278, 3, 8),
        (279, 4, len(data)),
        (339, 3, kind),
    ]
    out = (b"MM\0*" if order == ">" else b"II*\0") + struct.pack(order + "I", 8 + len(data)) + data
    out += struct.pack(order + "H", len(entries))
    for tag, size, value in entries:
        out += struct.pack(order + "HHI", tag, size, 1) + struct.pack(
            order + ("I" if size == 4 else "HH"), *([value] if size == 4 else [value, 0])
        )
    return out + struct.pack(order + "I", 0)


WIDE = GREY.astype(np.uint16) * 257


@pytest.mark.parametrize(
    "content",
    [
        png_16_bits_in_colour(WIDE),
        tiff(WIDE.astype("<u2"), "<", 1),
        tiff(WIDE.astype(">u2"), ">", 1),
        tiff((65535 - WIDE).astype("<u2"), "<", 0),
        b"P5 8 8 65535\n" + WIDE.astype(">u2").tobytes(),
    ],
    ids=["png in colour", "little-endian", "big-endian", "white is 0", "pgm"],
)
def test_sixteen_bits(tmp_path, content):
    (tmp_path / "picture").write_bytes(content)
    np.testing.assert_array_equal(read_images(tmp_path / "picture", (1, 8, 8))[0, 0], GREY)


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (GREY * np.float32(257), "mode is F.* 0 to 64764.*only .0, 1.*npy"),
        (GREY / np.float32(-255), "mode is F"),
        (np.full((8, 8), np.nan, np.float32), "mode is F"),
        (GREY.astype(np.int32), "mode is I.*0 to 252.*not known"),
        (GREY.astype(np.uint16) * 16, "mode is I;16.*above 4032.*12 bits"),
    ],
)
def test_unknown_scales_are_refused(tmp_path, array, message):
    image(array.astype(array.dtype)).save(tmp_path / "strange.tif")
    with pytest.raises(DataError, match=f"strange.tif: .*{message}"):
        read_images(tmp_path / "strange.tif", (1, 8, 8))


def test_no_program_is_started_by_a_picture(tmp_path, monkeypatch):
    import subprocess

    image(GREY).convert("RGB").save(tmp_path / "a.eps")
    (tmp_path / "a.eps").rename(tmp_path / "photo.png")
    monkeypatch.setattr(subprocess, "Popen", lambda *a, **k: pytest.fail("a program was started"))
    monkeypatch.setattr("os.system", lambda *a: pytest.fail("a program was started"))
    with pytest.raises(DataError, match=r"photo.png: cannot be read as a picture"):
        read_images(tmp_path / "photo.png", (1, 8, 8))


def test_a_bomb_and_a_cut_picture(tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Image.new("1", (20_000, 8_000)).save(tmp_path / "bomb.png")
        with pytest.raises(DataError, match=r"bomb.png: .*20000×8000 pixels"):
            read_images(tmp_path / "bomb.png", (1, 8, 8))
    noise = np.random.default_rng(0).integers(0, 256, (64, 64), np.uint8)
    image(noise).save(tmp_path / "cut.png")
    (tmp_path / "cut.png").write_bytes((tmp_path / "cut.png").read_bytes()[:2000])
    with pytest.raises(DataError, match=r"cut.png: cannot be read as a picture"):
        read_images(tmp_path / "cut.png", (1, 8, 8))


@pytest.mark.parametrize("dtype", ["uint8", "float32", ">f8"])
def test_a_large_array_is_read_when_it_is_needed(tmp_path, dtype):
    """An .npy file of more than 128 MiB, as a sparse file; the images of a grey network may lack their channel."""
    image = 500 * 500 * np.dtype(dtype).itemsize
    whole = np.lib.format.open_memmap(tmp_path / "a.npy", "w+", dtype, ((1 << 27) // image + 10, 500, 500))
    whole[[0, 7, -1], 3, 4] = 1, 2, 3
    whole.flush()
    found = read_images(tmp_path / "a.npy", (1, 500, 500))
    assert isinstance(found, LazyArray)
    assert (found.shape, found.dtype) == ((len(whole), 1, 500, 500), np.dtype(dtype))
    for rows in (slice(5, 9), slice(-2, None), [0, 7, 3]):
        np.testing.assert_array_equal(found[rows][:, 0], whole[rows])
    with pytest.raises(DataError, match=r"a\.npy: holds an array of the shape .* the network takes"):
        read_images(tmp_path / "a.npy", (1, 50, 50))
    with (tmp_path / "a.npy").open("r+b") as file:
        file.truncate(1 << 20)
    with pytest.raises(DataError, match=r"a\.npy: cannot be read \(it has .* but its header announces"):
        read_images(tmp_path / "a.npy", (1, 500, 500))


def test_read_images_is_public_and_takes_a_path_as_text(tmp_path):
    """So a program of one's own reads new pictures as training has read its own."""
    black(GREY, "L").save(tmp_path / "a.png")
    found = ic.datasets.read_images(str(tmp_path / "a.png"), (3, 8, 8))
    np.testing.assert_array_equal(found, np.broadcast_to(GREY, (1, 3, 8, 8)))
