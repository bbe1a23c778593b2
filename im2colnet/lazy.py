"""Arrays whose rows are read when they are needed."""

from __future__ import annotations

import os
import weakref
from math import prod
from threading import Lock
from typing import Any, Protocol

from im2colnet.errors import DataError, memory_for
from im2colnet.host import np


class Source(Protocol):
    """A source that a :class:`LazyArray` reads from."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    #: the CRC-32 of each row's bytes, (N,), if they are known
    checksums: np.ndarray | None
    #: whether reading a row again may give other numbers
    varies: bool

    def read(self, places: np.ndarray, out: np.ndarray) -> None:
        """Read the rows at these places into an array; several threads may call it at the same time."""


class LazyArray:
    """An array whose rows are read when they are needed, for images that do not all fit into memory.

    Indexing along the first axis reads the rows and returns a NumPy array. :meth:`select` chooses rows without reading
    them.

    Parameters
    ----------
    source : Source
    places : array of int, optional
        The rows of the source that the array consists of, in this order; by default all rows.
    """

    def __init__(self, source: Source, places: np.ndarray | None = None) -> None:
        self.source = source
        self._places = np.arange(source.shape[0]) if places is None else places

    @property
    def shape(self) -> tuple[int, ...]:
        """The sizes, as of an array."""
        return (len(self._places), *self.source.shape[1:])

    @property
    def dtype(self) -> np.dtype[Any]:
        """The element type."""
        return self.source.dtype

    @property
    def ndim(self) -> int:
        """The number of axes."""
        return len(self.source.shape)

    @property
    def nbytes(self) -> int:
        """The bytes that the array would have in memory."""
        return self.size * self.dtype.itemsize

    @property
    def size(self) -> int:
        """The number of elements."""
        return prod(self.shape)

    def __len__(self) -> int:
        return len(self._places)

    def __repr__(self) -> str:
        return f"LazyArray(shape={self.shape}, dtype={self.dtype})"

    def select(self, index: Any) -> LazyArray:
        """Return the rows that a slice, an array of numbers or a mask chooses; nothing is read."""
        return LazyArray(self.source, np.atleast_1d(self._places[index]))

    def take(self, indices: Any, axis: int = 0, out: np.ndarray | None = None, mode: str = "raise") -> np.ndarray:
        """Read rows by their numbers, into ``out`` if it is given; ``np.take`` calls it."""
        return self._read(self._places[np.asarray(indices)], out)

    def _read(self, places: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
        """Read the rows of the source at these places."""
        if out is None:
            with memory_for((len(places), *self.shape[1:]), self.dtype.name):
                out = np.empty((len(places), *self.shape[1:]), self.dtype)
        if len(places):
            self.source.read(places, out)
        return out

    def __getitem__(self, index: Any) -> np.ndarray:
        rows, others = (index[0], index[1:]) if isinstance(index, tuple) else (index, ())
        places = self._places[rows]
        found = self._read(np.atleast_1d(places))
        result: np.ndarray = (found if places.ndim else found[0])[(slice(None),) * places.ndim + tuple(others)]
        return result

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return self[:].astype(dtype or self.dtype, copy=False)

    def crc32(self) -> int:
        """Return the CRC-32 of all bytes in order; known checksums of rows are used to compute it."""
        if self.source.checksums is None:
            import zlib

            checksum = 0
            for row in range(len(self)):
                checksum = zlib.crc32(np.ascontiguousarray(self[row]).data, checksum)
            return checksum
        return joined_crc32(self.source.checksums[self._places], self.nbytes // max(len(self), 1))


class ArrayFile:
    """Images in an ``.npy`` file, which are read by their position in the file.

    With a memory map, all pages that were read would count as memory of this process, and a signal would end the
    process if another program shortens the file.
    """

    varies = False

    def __init__(
        self,
        path: str,
        shape: tuple[int, ...],
        offset: int,
        checksums: np.ndarray | None = None,
        dtype: np.dtype[Any] | str = "uint8",
    ) -> None:
        self.path, self.shape, self.offset, self.checksums = path, shape, offset, checksums
        self.dtype = np.dtype(dtype)
        self._open()

    def _open(self) -> None:
        self._file, self._lock = open(self.path, "rb", buffering=0), Lock()  # noqa: SIM115 - as long as the object
        weakref.finalize(self, self._file.close)  # no __del__: names are gone when Python ends

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name not in ("_file", "_lock")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._open()

    def read(self, places: np.ndarray, out: np.ndarray) -> None:
        """Read the images at these places into an array."""
        whole = out if out.flags.c_contiguous else np.empty(out.shape, out.dtype)
        size = whole[0].nbytes
        bytes_of = whole.reshape(-1).view(np.uint8).data
        # places one after the other are read at once
        starts = np.flatnonzero(np.diff(places, prepend=places[0] - 2) != 1).tolist()
        for start, stop in zip(starts, [*starts[1:], len(places)], strict=True):
            self._read_at(self.offset + int(places[start]) * size, bytes_of[start * size : stop * size])
        if whole is not out:
            out[...] = whole

    def _read_at(self, position: int, into: memoryview) -> None:
        done = 0
        while done < len(into):
            if hasattr(os, "preadv"):
                count = os.preadv(self._file.fileno(), [into[done:]], position + done)
            else:
                with self._lock:
                    self._file.seek(position + done)
                    count = self._file.readinto(into[done:]) or 0
            if not count:
                raise DataError(
                    f"{self.path}: the file ends too early; it was shortened while it was in use: start again"
                )
            done += count


def joined_crc32(checksums: np.ndarray, length: int) -> int:
    """Return the CRC-32 of consecutive pieces of ``length`` bytes each, from the CRCs of the pieces.

    The CRC of A followed by B is the CRC of A, moved past the bytes of B, xor the CRC of B. Moving past a number of
    bytes is a linear map, so four tables, one for each byte of a CRC, do it (as ``crc32_combine`` of
    zlib does by matrices).
    """
    moved = [_moved(1 << bit, length) for bit in range(32)]
    tables = [[0] * 256 for _ in range(4)]
    for place, table in enumerate(tables):
        for value in range(256):
            for bit in range(8):
                if value >> bit & 1:
                    table[value] ^= moved[8 * place + bit]
    low, second, third, high = tables
    checksum = 0
    for piece in checksums.tolist():
        checksum = (
            low[checksum & 255]
            ^ second[checksum >> 8 & 255]
            ^ third[checksum >> 16 & 255]
            ^ high[checksum >> 24]
            ^ piece
        )
    return checksum


def _moved(checksum: int, length: int) -> int:
    """Return a CRC multiplied by x to the power 8·length, modulo the polynomial of CRC-32 (bits are reversed)."""

    def product(a: int, b: int) -> int:
        total = 0
        for bit in range(31, -1, -1):  # the highest bit is the power 0
            if a >> bit & 1:
                total ^= b
            b = b >> 1 ^ (0xEDB88320 if b & 1 else 0)
        return total

    power = 1 << 23  # x to the power 8: one byte
    while length:
        if length & 1:
            checksum = product(power, checksum)
        power, length = product(power, power), length >> 1
    return checksum
