"""Many pictures as one array: decoded by several threads, stored in memory or in a file, or decoded on demand.

`N, C, H, W`: images, channels, height, width.
"""

from __future__ import annotations

import json
import math
import os
import shutil
import sys
import time
import warnings
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from hashlib import blake2b
from typing import IO, Any, Literal, NamedTuple, TypeAlias, TypeVar

from im2colnet.datasets.archives import available_memory
from im2colnet.datasets.images import read_picture
from im2colnet.errors import CheckpointError, DataError, InputWarning, memory_for
from im2colnet.files import CACHE, DAY, cache_folder, replace_file
from im2colnet.host import np
from im2colnet.interrupt import thread_pool
from im2colnet.lazy import ArrayFile, LazyArray
from im2colnet.settings import get_num_threads
from im2colnet.show.counter import Counter
from im2colnet.text import amount

#: where the decoded images are kept
Keep: TypeAlias = Literal["auto", "memory", "disk", "none"]
KEEPS = ("auto", "memory", "disk", "none")
#: the most bytes of decoded images that are kept in memory, unless the user asks for memory
MOST_IN_MEMORY = 1 << 30
#: the most pictures that the threads get at a time, and the most bytes of their images
BLOCK, BLOCK_BYTES = 256, 1 << 23
FORMAT = 1  #: the format of the files in the cache; it changes when decoding gives other results

T = TypeVar("T")


class Decoded(NamedTuple):
    """The images of a list of files."""

    images: Any  #: (N, C, H, W) of uint8, of the files that can be read: an array or a LazyArray
    readable: np.ndarray  #: the numbers of the files that can be read, (N,) integers
    failed: dict[int, str]  #: the reasons why the other files cannot be read


# ---------------------------------------------------------------------- sources of lazy arrays


class Pictures:
    """Pictures that are decoded on demand, by as many threads as there are cores."""

    varies = False

    def __init__(self, paths: Sequence[str], shape: tuple[int, ...], checksums: np.ndarray | None = None) -> None:
        self.paths, self.shape, self.dtype = paths, (len(paths), *shape), np.dtype(np.uint8)
        self.checksums = checksums

    def read(self, places: np.ndarray, out: np.ndarray) -> None:
        """Decode the pictures at these places into an array."""

        def decode(row: int) -> None:
            out[row] = read_picture(self.paths[places[row]], self.shape[1:])

        for _ in in_threads(decode, range(len(places))):
            pass


def in_threads(function: Callable[[Any], T], items: Sequence[Any]) -> Iterator[T]:
    """Yield the results of a function for all items, in their order; a thread for each core computes them."""
    size = min(get_num_threads(), len(items))
    if size < 2:
        yield from map(function, items)
        return
    pool = thread_pool(size, thread_name_prefix="im2colnet-decode")
    try:
        yield from pool.map(function, items)
    finally:
        pool.shutdown(cancel_futures=True)


# ---------------------------------------------------------------------- decoding


def decode(
    root: str, names: Sequence[str], shape: tuple[int, ...], keep: Keep = "auto", progress: bool = True
) -> Decoded:
    """Decode pictures once, and store the images.

    Parameters
    ----------
    root : str
        The folder of the pictures, whose name is used in the cache.
    names : sequence of str
        The files, relative to the folder.
    shape : (C, H, W)
        The shape of each image.
    keep : {"auto", "memory", "disk", "none"}
        Where the images are stored: in memory, in a file of the cache, or nowhere, so that each picture is decoded
        whenever it is needed. "auto" is the first of these that has enough room.
    progress : bool
        Whether to show the progress on stderr, if decoding takes long.
    """
    total = len(names) * math.prod(shape)
    room = available_memory()
    if keep == "memory" or (keep == "auto" and total <= min(MOST_IN_MEMORY, total if room is None else room // 4)):
        return _in_memory([os.path.join(root, name) for name in names], shape, progress)
    cache = Cache(root, names, shape)
    if keep == "auto":
        keep = "disk" if total <= cache.room() or cache.is_whole() else "none"
        if keep == "none":
            warnings.warn(
                f"{amount(total, 1024)}B of decoded images do not fit into memory or into {cache.folder}, so pictures"
                f" are decoded whenever they are needed, which is slower: set {CACHE} to a folder that has room",
                InputWarning,
                stacklevel=4,
            )
    return cache.decoded(keep == "disk", progress)


def _in_memory(paths: Sequence[str], shape: tuple[int, ...], progress: bool) -> Decoded:
    with memory_for((len(paths), *shape), "uint8"):
        images = np.empty((len(paths), *shape), np.uint8)
    failed = {}
    for place, found in enumerate(_decoded(paths, shape, progress)):
        if isinstance(found, str):
            failed[place] = found
        else:
            images[place] = found
    readable = _without(len(paths), failed)
    return Decoded(images[readable] if failed else images, readable, failed)


def _decoded(paths: Sequence[str], shape: tuple[int, ...], progress: bool) -> Iterator[np.ndarray | str]:
    """Yield each picture as an image, or the reason why it cannot be read."""

    def attempt(path: str) -> np.ndarray | str:
        try:
            return read_picture(path, shape)
        except DataError as error:
            return str(error).removeprefix(f"{path}: ")

    size = min(BLOCK, max(8, BLOCK_BYTES // math.prod(shape)))
    with Counter(sys.stderr if progress else None, "pictures", len(paths)) as counter:
        for start in range(0, len(paths), size):
            yield from in_threads(attempt, paths[start : start + size])
            counter.show(min(start + size, len(paths)))


def _without(count: int, failed: dict[int, str]) -> np.ndarray:
    return np.setdiff1d(np.arange(count), np.array([*failed], np.intp))


# ---------------------------------------------------------------------- the cache


class Cache:
    """The decoded images of one folder at one size, in a file.

    The cache has two files. The ``.npy`` file contains the images; its name contains a digest of the pictures' names,
    sizes and times, so it never holds images of other pictures. The ``.json`` file is written after it, in one piece,
    and lists the pictures that could not be read; without it the ``.npy`` file is not used.
    """

    def __init__(self, root: str, names: Sequence[str], shape: tuple[int, ...]) -> None:
        self.paths, self.shape = [os.path.join(root, name) for name in names], shape
        kind = json.dumps([os.path.abspath(root), shape], ensure_ascii=True)
        name = "".join(c if c.isalnum() and c.isascii() else "_" for c in os.path.basename(os.path.abspath(root)))[:40]
        self.stem = f"{name}-{blake2b(kind.encode(), digest_size=8).hexdigest()}"
        self.digest = self._digest(names)
        self.folder = cache_folder()
        self.index = self.folder / f"{self.stem}.json"
        self.array = self.folder / f"{self.stem}-{self.digest}.npy"

    def _digest(self, names: Sequence[str]) -> str:
        found = blake2b(f"{FORMAT} {self.shape}".encode(), digest_size=16)
        for name, path in zip(names, self.paths, strict=True):
            try:
                facts = os.stat(path)
                state = f"{facts.st_size} {facts.st_mtime_ns}"
            except (OSError, ValueError) as error:
                state = type(error).__name__
            found.update(f"{name}\0{state}\0".encode(errors="backslashreplace"))
        return found.hexdigest()

    def room(self) -> int:
        """Return the number of bytes that can be written into the folder, which may not exist yet; 0 if none can."""
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            return int(shutil.disk_usage(self.folder).free * 0.8) if os.access(self.folder, os.W_OK) else 0
        except OSError:
            return 0

    def is_whole(self) -> bool:
        """Whether all images are in the cache already."""
        known = self._known()
        return known is not None and self._array(known) is not None

    def decoded(self, store: bool, progress: bool) -> Decoded:
        """Return the images: from the cache, or decoded and, with ``store``, written to the cache if possible."""
        known = self._known()
        images = self._array(known) if known and store else None
        if known is None or (store and images is None):
            known = self._decode(store, progress)
            images = self._array(known) if store else None
        failed, checksums = known
        readable = _without(len(self.paths), failed)
        if images is None:
            paths = [self.paths[place] for place in readable]
            images = LazyArray(Pictures(paths, self.shape, checksums))
        return Decoded(images, readable, failed)

    def _header(self, count: int) -> bytes:
        import io

        stream = io.BytesIO()
        description = {"descr": "|u1", "fortran_order": False, "shape": (count, *self.shape)}
        np.lib.format.write_array_header_1_0(stream, description)
        return stream.getvalue()

    def _array(self, known: tuple[dict[int, str], np.ndarray]) -> LazyArray | None:
        """Return the images of the array file, or None if it is missing or incomplete."""
        shape, header = (len(known[1]), *self.shape), self._header(len(known[1]))
        try:
            with open(self.array, "rb") as file:
                whole = file.read(len(header)) == header
                if not whole or os.fstat(file.fileno()).st_size != len(header) + math.prod(shape):
                    return None
            return LazyArray(ArrayFile(str(self.array), shape, len(header), known[1]))
        except OSError:
            return None

    def _known(self) -> tuple[dict[int, str], np.ndarray] | None:
        """Return the entries of the index for these pictures: the failed pictures, and the checksums of the others."""
        try:
            found = json.loads(self.index.read_bytes())
            if found["digest"] != self.digest:
                return None
            failed = {int(place): str(reason) for place, reason in found["failed"].items()}
            checksums = np.array(found["checksums"], np.uint32)
        except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError, OverflowError):
            return None
        inside = all(0 <= place < len(self.paths) for place in failed)
        return (failed, checksums) if inside and len(checksums) + len(failed) == len(self.paths) else None

    def _decode(self, store: bool, progress: bool) -> tuple[dict[int, str], np.ndarray]:
        failed: dict[int, str] = {}
        checksums: list[int] = []

        def images(file: IO[bytes] | None) -> None:
            for place, image in enumerate(_decoded(self.paths, self.shape, progress)):
                if isinstance(image, str):
                    failed[place] = image
                    continue
                content = np.ascontiguousarray(image).data
                checksums.append(zlib.crc32(content))
                if file is not None:
                    file.write(content)

        def write(file: IO[bytes]) -> None:
            file.write(self._header(len(self.paths)))
            images(file)
            if failed:  # the header has the same length for fewer images
                file.seek(0)
                file.write(self._header(len(checksums)))

        try:
            if store:
                self._make_folder()
                replace_file(self.array, write)
        except CheckpointError as error:  # the disk is full, or the folder is write-protected
            warnings.warn(f"{error}: pictures are decoded whenever they are needed", InputWarning, stacklevel=2)
            store = False
        if not store:
            failed.clear()
            checksums.clear()
            images(None)
        index = {"digest": self.digest, "failed": failed, "checksums": checksums}
        with suppress(CheckpointError):
            self._make_folder()
            replace_file(self.index, json.dumps(index).encode())
        with suppress(OSError):
            for old in self.folder.glob(f"{self.stem}-*.npy"):  # the cache of an earlier state of the same folder
                if old != self.array:
                    old.unlink()
            for left in self.folder.glob(".im2colnet-*.tmp"):  # by a process that was killed
                if time.time() - left.stat().st_mtime > DAY:
                    left.unlink()
        return failed, np.array(checksums, np.uint32)

    def _make_folder(self) -> None:
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise CheckpointError(f"cannot make the folder {self.folder}: {error.strerror}") from error
