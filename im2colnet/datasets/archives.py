"""Files of NumPy and gzip, read with bounds: the size that a header gives is checked against the file before reading.

Nothing in a file is executed: arrays of Python objects, which are pickled, are refused.
"""

from __future__ import annotations

import errno
import math
import os
import stat
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import IO, Any

from im2colnet.errors import DataError
from im2colnet.host import np

#: an array that is compressed by more than this factor is refused if it is also large: photographs are compressed by 2
#: to 20, drawings and masks by up to a few hundred
MOST_EXPANSION = 100
#: bytes of an array up to which any factor is accepted
HARMLESS = 1 << 28


def check_regular(path: str | os.PathLike[str]) -> int:
    """Return the size of a file; raise a DataError if it is missing or not a regular file (a pipe never ends)."""
    try:
        found = os.stat(path)
    except (OSError, ValueError) as error:
        # a name that no file can have, too long or with a null character, is one of those
        missing = isinstance(error, (FileNotFoundError, ValueError)) or error.errno == errno.ENAMETOOLONG
        raise DataError(f"{path}: {'there is no such file' if missing else f'cannot be read ({error})'}") from error
    if not stat.S_ISREG(found.st_mode):
        kind = "a folder" if stat.S_ISDIR(found.st_mode) else "a pipe, a device or a socket"
        raise DataError(f"{path}: is {kind}: give a regular file")
    return found.st_size


def check_size(size: int, stored: int) -> None:
    """Raise a DataError for an array that does not fit into memory, or that only a decompression bomb holds."""
    if size > HARMLESS and size > MOST_EXPANSION * stored:
        raise DataError(
            f"{stored:,} compressed bytes announce {size:,}, {size // max(stored, 1):,} times as many, which is refused"
            " as a likely decompression bomb; if the file is right, store it uncompressed (numpy.savez)"
        )
    room = available_memory()
    if room is not None and size > room:
        raise DataError(f"an array of {size:,} bytes has no room: {room:,} bytes of memory are available")


def available_memory() -> int | None:
    """Bytes of memory that are available without swapping, or None if the system does not report them."""
    try:
        with open("/proc/meminfo", "rb") as file:
            return next(int(line.split()[1]) * 1024 for line in file if line.startswith(b"MemAvailable:"))
    except (OSError, ValueError, IndexError, StopIteration):
        return None


def read_npy(path: Path) -> np.ndarray:
    """Read an ``.npy`` file; for a damaged file, NumPy's errors are raised."""
    size = check_regular(path)
    with path.open("rb") as stream:
        _check_header(stream, size, size)
        stream.seek(0)
        return np.lib.format.read_array(stream, allow_pickle=False)


def npy_header(path: Path) -> tuple[tuple[int, ...], bool, np.dtype[Any], int]:
    """Return the shape of an ``.npy`` file's array, whether it is in Fortran's order, its type, and its position."""
    size = check_regular(path)
    with path.open("rb") as stream:
        return (*_check_header(stream, size, None), stream.tell())


def read_npz(
    stream: IO[bytes], choose: Iterable[tuple[str, ...]], optional: tuple[str, ...] = ()
) -> dict[str, np.ndarray]:
    """Read the first of the sets of arrays in ``choose`` that an ``.npz`` file has, and the optional ones.

    Raises
    ------
    DataError
        If no set is complete, an array holds Python objects, or its size differs from the size in the archive.
    """
    if not zipfile.is_zipfile(stream):
        raise DataError("it is not a zip archive")
    choose = tuple(choose)
    with zipfile.ZipFile(stream) as archive:
        entries = {entry.filename.removesuffix(".npy"): entry for entry in archive.infolist()}
        for names in choose:
            if set(names) <= set(entries):
                wanted = [entries[name] for name in (*names, *(name for name in optional if name in entries))]
                for entry in wanted:
                    with archive.open(entry) as file:
                        _check_header(file, entry.file_size, entry.compress_size)
                check_size(sum(e.file_size for e in wanted), sum(e.compress_size for e in wanted))
                found = {}
                for entry in wanted:
                    with archive.open(entry) as file:
                        name = entry.filename.removesuffix(".npy")
                        found[name] = np.lib.format.read_array(file, allow_pickle=False)
                        file.read(1)  # to the end, where the checksum is compared
                return found
    expected = " or ".join(", ".join(names) for names in choose)
    what = "arrays" if max(map(len, choose)) > 1 else "array"
    raise DataError(f"should have the {what} {expected}, but has {', '.join(entries) or 'nothing'}")


def _check_header(stream: IO[bytes], size: int, stored: int | None) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Return the contents of an ``.npy`` header; raise a DataError if the sizes of array and data differ.

    ``stored`` is the size in the file of an array that is read into memory, or None if it is not read into memory.
    """
    version = np.lib.format.read_magic(stream)
    if version not in ((1, 0), (2, 0)):
        raise DataError(f"it has the .npy format {version}, which no array of numbers has")
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, fortran, dtype = read(stream)
    if dtype.hasobject:
        raise DataError(
            "it holds Python objects, which are pickled and could run code: store an array of numbers, or"
            " of strings as numpy.array(list_of_strings)"
        )
    announced = stream.tell() + math.prod(shape) * dtype.itemsize
    if announced != size or min(shape, default=0) < 0:
        raise DataError(
            f"it has {size:,} bytes, but its header announces {announced:,}, for an array of the shape"
            f" {shape} and the type {dtype}: the file is damaged"
        )
    if stored is not None:
        check_size(size, stored)
    return shape, fortran, dtype
