"""CIFAR-10 and CIFAR-100 (Krizhevsky 2009), from their binary files or from the files for Python.

The files for Python are pickles, which in general can run code. They are read by an unpickler that accepts only three
names, the names of NumPy's arrays, and replaces each by an object that only stores numbers and bytes. Everything else
is refused.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

from im2colnet.datasets.archives import check_regular, check_size
from im2colnet.datasets.dataset import Dataset
from im2colnet.errors import DataError
from im2colnet.host import np

PIXELS = 3 * 32 * 32
CIFAR10 = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
_NAMES = """
    apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus butterfly camel can castle
    caterpillar cattle chair chimpanzee clock cloud cockroach couch crab crocodile cup dinosaur dolphin elephant
    flatfish forest fox girl hamster house kangaroo keyboard lamp lawn_mower leopard lion lizard lobster man maple_tree
    motorcycle mountain mouse mushroom oak_tree orange orchid otter palm_tree pear pickup_truck pine_tree plain plate
    poppy porcupine possum rabbit raccoon ray road rocket rose sea seal shark shrew skunk skyscraper snail snake spider
    squirrel streetcar sunflower sweet_pepper table tank telephone television tiger tractor train trout tulip turtle
    wardrobe whale willow_tree wolf woman worm
"""
CIFAR100 = tuple(_NAMES.split())
#: for each data set the folder of the binary files and the folder of the files for Python, with the files in them
FILES: dict[str, list[tuple[str, list[str], list[str]]]] = {
    "cifar-10": [
        ("cifar-10-batches-bin", [f"data_batch_{number}.bin" for number in range(1, 6)], ["test_batch.bin"]),
        ("cifar-10-batches-py", [f"data_batch_{number}" for number in range(1, 6)], ["test_batch"]),
    ],
    "cifar-100": [
        ("cifar-100-binary", ["train.bin"], ["test.bin"]),
        ("cifar-100-python", ["train"], ["test"]),
    ],
}
CLASSES = {"cifar-10": CIFAR10, "cifar-100": CIFAR100}
Reader: TypeAlias = Callable[[Path, str], tuple[np.ndarray, np.ndarray]]
MOST_BYTES = 1 << 29  #: of a pickle; the largest of these files has 156 million
MOST_OPCODES = 1 << 20  #: of a pickle; these files have at most 200,000
#: the opcodes of the pickles in these files (protocol 2, from Python 2)
_OPCODES = """
    PROTO MARK STOP EMPTY_DICT EMPTY_LIST EMPTY_TUPLE TUPLE TUPLE1 TUPLE2 TUPLE3 APPEND APPENDS SETITEM SETITEMS BINPUT
    LONG_BINPUT BINGET LONG_BINGET BININT BININT1 BININT2 LONG1 NONE NEWTRUE NEWFALSE BINSTRING SHORT_BINSTRING
    BINUNICODE GLOBAL REDUCE BUILD
"""
OPCODES = frozenset(_OPCODES.split())


def load_cifar(name: str, folders: list[Path]) -> tuple[Dataset, Dataset]:
    """Read CIFAR-10 or CIFAR-100 from the first folder that has its files.

    Raises
    ------
    DataError
        If no folder has them, or a file is damaged.
    """
    for folder in folders:
        for inner, train, test in FILES[name]:
            for place in (folder, folder / inner):
                if all(os.path.isfile(place / file) for file in (*train, *test)):
                    read = read_binary if train[0].endswith(".bin") else read_pickled
                    return _joined(place, train, name, read), _joined(place, test, name, read)
    expected = " or ".join(f"{', '.join((*train, *test))} (of {inner})" for inner, train, test in FILES[name])
    raise DataError(
        f"the files of {name} were not found. Looked in: {', '.join(map(str, folders)) or 'no folder'}. Expected:"
        f" {expected}. What to do: unpack {name}-binary.tar.gz or {name}-python.tar.gz, and pass the folder that has"
        " the files as `folder` (--folder), or set the environment variable IM2COLNET_DATA to it."
    )


def _joined(place: Path, files: list[str], name: str, read: Reader) -> Dataset:
    images, labels = zip(*(read(place / file, name) for file in files), strict=True)
    return Dataset(np.concatenate(images), np.concatenate(labels), name, CLASSES[name])


def read_binary(path: Path, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Read a binary file: for each image its label (in CIFAR-100 after the label of its group) and its pixels."""
    labels = 1 if name == "cifar-10" else 2
    size = check_regular(path)
    if not size or size % (labels + PIXELS):
        raise DataError(f"{path}: has {size:,} bytes, which is no multiple of {labels + PIXELS}, the bytes of an image")
    check_size(size, size)
    records = np.fromfile(path, np.uint8).reshape(-1, labels + PIXELS)
    return _checked(path, name, records[:, labels:], records[:, labels - 1].astype(np.int64))


def read_pickled(path: Path, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Read a file for Python: a dictionary with the pixels and the labels."""
    found = unpickle(path)
    key = "labels" if name == "cifar-10" else "fine_labels"
    if not isinstance(found, dict) or not {b"data", key.encode()} <= found.keys():
        raise DataError(f"{path}: is no file of {name}: it must hold a dictionary with data and {key}")
    labels, kept = found[key.encode()], found[b"data"]
    state: Any = kept.state if isinstance(kept, _Kept) else None
    try:
        _, (count, pixels), dtype, by_columns, content = state
        fits = (
            dtype.arguments[0] == b"u1"
            and pixels == PIXELS
            and type(content) is bytes
            and count * pixels == len(content)
        )
        if not fits or not content or by_columns not in (0, 1) or not all(type(label) is int for label in labels):
            raise ValueError("its arrays have other shapes or types")
        numbers = np.array(labels, np.int64)
    except (TypeError, ValueError, AttributeError, IndexError, OverflowError) as error:
        raise DataError(f"{path}: is no file of {name} ({error})") from error
    values = np.frombuffer(content, np.uint8).reshape((count, pixels), order="F" if by_columns else "C")
    return _checked(path, name, values, numbers)


def _checked(path: Path, name: str, pixels: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    classes = len(CLASSES[name])
    if labels.shape != pixels.shape[:1] or labels.min() < 0 or labels.max() >= classes:
        raise DataError(f"{path}: is damaged: each image must have a label from 0 to {classes - 1}")
    return np.ascontiguousarray(pixels).reshape(-1, 3, 32, 32), labels


class _Kept:
    """A replacement for an object of NumPy: it stores the arguments and the state, which are checked afterwards."""

    __slots__ = ("arguments", "state")

    def __init__(self, *arguments: Any) -> None:
        self.arguments, self.state = arguments, None

    def __setstate__(self, state: Any) -> None:
        self.state = state


#: the names that a pickle may use, each with its replacement
ALLOWED = {
    ("numpy.core.multiarray", "_reconstruct"): _Kept,
    ("numpy._core.multiarray", "_reconstruct"): _Kept,
    ("numpy", "ndarray"): "ndarray",
    ("numpy", "dtype"): _Kept,
}


def unpickle(path: Path) -> Any:
    """Return the contents of a pickle of protocol 2; arrays are :class:`_Kept`, strings are bytes.

    Raises
    ------
    DataError
        If it is damaged, too large, or refers to anything but NumPy's arrays.
    """
    import io
    import pickle
    import pickletools

    size = check_regular(path)
    if size > MOST_BYTES:
        raise DataError(f"{path}: has {size:,} bytes, more than {MOST_BYTES:,}")
    check_size(size, size)

    class Unpickler(pickle.Unpickler):
        def find_class(self, module: str, name: str) -> Any:
            if (module, name) not in ALLOWED:
                raise DataError(f"it refers to {module}.{name}, which is refused: a pickle may run code")
            return ALLOWED[module, name]

    try:
        content = path.read_bytes()
        for number, (opcode, argument, _) in enumerate(pickletools.genops(content)):
            if opcode.name not in OPCODES or number > MOST_OPCODES:
                raise DataError(f"it has the instruction {opcode.name}, which these files do not have (protocol 2)")
            if "PUT" in opcode.name and int(argument or 0) > number:  # a table of this length would be made
                raise DataError("it has an instruction with a number that is too large")
        return Unpickler(io.BytesIO(content), encoding="bytes").load()
    except Exception as error:  # a damaged pickle raises exceptions of any kind
        raise DataError(f"{path}: cannot be read as a file of CIFAR for Python: {error}") from error
