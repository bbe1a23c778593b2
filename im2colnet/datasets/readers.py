"""Loading data sets by name and from files."""

from __future__ import annotations

import io
import math
import os
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, Protocol

from im2colnet.datasets.archives import check_regular, check_size, read_npz
from im2colnet.datasets.cifar import CLASSES, load_cifar
from im2colnet.datasets.dataset import Dataset, _largest
from im2colnet.datasets.folder import from_csv, from_folder
from im2colnet.datasets.splits import _TEST_FRACTION, _split
from im2colnet.errors import DataError, DTypeError, Im2colnetError, ShapeError
from im2colnet.host import np

_DIGITS, _CAPITALS = tuple("0123456789"), tuple("ABCDEFGHIJKLMNOPQRSTUVWXYZ")
_MERGED = (*_DIGITS, *_CAPITALS, *"abdefghnqrt")  # the other small letters look as the capital ones
#: the class names of each named data set
_CLASSES = {
    "digits": _DIGITS,
    "fashion-mnist": (
        "T-shirt/top",
        "Trouser",
        "Pullover",
        "Dress",
        "Coat",
        "Sandal",
        "Shirt",
        "Sneaker",
        "Bag",
        "Ankle boot",
    ),
    "mnist": _DIGITS,
    "kmnist": ("o", "ki", "su", "tsu", "na", "ha", "ma", "ya", "re", "wo"),
    "emnist-balanced": _MERGED,
    "emnist-byclass": (*_DIGITS, *_CAPITALS, *map(str.lower, _CAPITALS)),
    "emnist-bymerge": _MERGED,
    "emnist-digits": _DIGITS,
    "emnist-letters": _CAPITALS,
    "emnist-mnist": _DIGITS,
    **CLASSES,
}
#: the folder of Debian's package dataset-fashion-mnist
DEBIAN = Path("/usr/share/datasets/fashion-mnist")


def load(
    name: str | os.PathLike[str], folder: str | os.PathLike[str] | None = None, **options: Any
) -> tuple[Dataset, Dataset]:
    """Return the training set and the test set of a data set.

    Parameters
    ----------
    name : str or path
        - "digits": 1,797 handwritten digits of 8×8 pixels, which are included in the library (see
          `im2colnet/datasets/data/ATTRIBUTION.md`). The original values 0 to 16 become grey values 0 to 255.
        - "cifar-10" or "cifar-100": the files `data_batch_1.bin` to `data_batch_5.bin` and `test_batch.bin`, or
          `train.bin` and `test.bin`, from `cifar-10-binary.tar.gz` and `cifar-100-binary.tar.gz`, or the files
          of the archives for Python (https://www.cs.toronto.edu/~kriz/cifar.html), unpacked. CIFAR-100 has its 100
          classes.
        - "emnist-letters", "emnist-balanced", "emnist-byclass", "emnist-bymerge", "emnist-digits" or "emnist-mnist":
          the four IDX files `emnist-letters-train-images-idx3-ubyte` and so on
          (https://www.nist.gov/itl/products-and-services/emnist-dataset). The files store the images transposed;
          `load` turns them upright. The letters, 1 to 26 in the files, have the labels 0 to 25.
        - "fashion-mnist", "mnist" or "kmnist" (http://codh.rois.ac.jp/kmnist): the four IDX files
          `train-images-idx3-ubyte`, `train-labels-idx1-ubyte`, `t10k-images-idx3-ubyte` and `t10k-labels-idx1-ubyte`.
          The names of IDX files may end in `.gz`, and may have `.` instead of `-` before `idx`.
        - the path of an `.npz` file with the arrays `x_train`, `y_train`, `x_test` and `y_test`, as in Keras, or
          `images` and `labels`. Images are (N, H, W), (N, C, H, W) or (N, H, W, C) with 1, 3 or 4 channels; training
          and test images must have the same scale (see :class:`Inputs`). An array `classes` of strings names the
          classes; without it there must not be more classes than images.
        - the path of a folder with a folder of pictures for each class: see :func:`from_folder`.
        - the path of a `.csv` file with a picture's file and its label in each line: see :func:`from_csv`.
    folder : str or path, optional
        The folder of the IDX or CIFAR files, or the base folder of a relative path. By default files are searched in
        the subfolder `name` of the folder that the environment variable IM2COLNET_DATA names, then in that folder
        itself, then, for "fashion-mnist", in the folder of Debian's package `dataset-fashion-mnist`. The files of
        "mnist", "fashion-mnist" and "kmnist" have the same names: keep them in subfolders.
    **options
        `size`, `color`, `split`, `seed` and other options of :func:`from_folder` and :func:`from_csv`.

    Returns
    -------
    train, test : Dataset
        The data sets. For "digits", and for an `.npz` file with only `images` and `labels`, `stratified_split` with the
        seed 0 puts 20% of each class into the test set, always the same images. A class with only one image stays in
        the training set.

    Raises
    ------
    DataError
        If the name is unknown, or if files are missing, damaged or too large for this machine's memory.

    Examples
    --------
    >>> train, test = ic.datasets.load("digits")
    >>> train
    Dataset('digits': 1438 images 1×8×8 uint8, 10 classes)
    >>> images, labels = np.zeros((10, 8, 8), np.uint8), [0, 1] * 5
    >>> np.savez("mine.npz", images=images, labels=labels)
    >>> train, test = ic.datasets.load("mine.npz")
    >>> len(train), len(test)
    (8, 2)
    """
    kind, path = kind_of(name, folder), os.path.join(os.path.expanduser(folder or ""), os.path.expanduser(name))
    if kind in ("folder", "csv"):
        return (from_folder if kind == "folder" else from_csv)(path, **options)
    given = [option for option, value in options.items() if value is not None]
    if given:
        raise DataError(f"{given[0]} is only for pictures in a folder or a .csv file, not for the data set {name}")
    if kind == "npz":
        return _load_npz(Path(path))
    name = str(name)
    if name not in _CLASSES:
        known = ", ".join(map(repr, _CLASSES))
        raise DataError(
            f"unknown data set {name!r}: known are {known}, and the path of a folder with a folder of pictures for each"
            " class, of a .csv file or of an .npz file works too (there is no folder of this name)"
        )
    if name == "digits":
        from importlib.resources import files as resources

        # the file is opened as a resource, because the library may be inside a zip archive
        with resources("im2colnet.datasets").joinpath("data", "digits.npz").open("rb") as stream:
            found = read_npz(io.BytesIO(stream.read()), _NPZ_ARRAYS)
        sixteenths, labels = found["images"], found["labels"]
        images = ((sixteenths.astype(np.uint16) * 255 + 8) // 16).astype(np.uint8)  # 16 becomes 255
        return _split(Dataset(images[:, None], labels, name, _CLASSES[name]))
    if name in CLASSES:
        return load_cifar(name, _folders(name, folder))
    files, parts = find_idx_files(name, folder), []
    for file, labels_file in (files[:2], files[2:]):
        pictures, numbers = read_idx(file), read_idx(labels_file)
        if name.startswith("emnist"):
            pictures = pictures.swapaxes(1, -1)  # the files store them transposed
        if name == "emnist-letters" and numbers.dtype.kind == "u" and numbers.size and numbers.min() > 0:
            numbers = numbers - 1
        parts.append(_dataset(pictures, numbers, name, _CLASSES[name], f"{file} and {labels_file.name}"))
    return parts[0], parts[1]


def kind_of(
    name: str | os.PathLike[str], folder: str | os.PathLike[str] | None = None
) -> Literal["name", "npz", "csv", "folder"]:
    """Return the kind of a data set's name: a known name, or the path of a file or of a folder.

    Parameters
    ----------
    name : str or path
        The name or path, as for :func:`load`.
    folder : str or path, optional
        The base folder of a relative path.

    Returns
    -------
    {"name", "npz", "csv", "folder"}
        The kind of data set that :func:`load` would read; a "name" may be unknown.

    Examples
    --------
    >>> [*map(ic.datasets.kind_of, ["digits", "mine.npz", "labels.csv"])]
    ['name', 'npz', 'csv']
    """
    ending = os.path.splitext(os.fspath(name))[1].lower()
    if ending in (".npz", ".csv"):
        return "npz" if ending == ".npz" else "csv"
    path = os.path.join(os.path.expanduser(folder or ""), os.path.expanduser(name))
    return "folder" if str(name) not in _CLASSES and os.path.isdir(path) else "name"


#: the element types of IDX files by their code, all big-endian: http://yann.lecun.com/exdb/mnist
_IDX_TYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}


def read_idx(path: str | os.PathLike[str]) -> np.ndarray:
    """Read an array from an IDX file, the format of MNIST; the file may be compressed with gzip.

    Parameters
    ----------
    path : str or path
        The file. Its first bytes, not its name, decide whether it is read as compressed.

    Returns
    -------
    ndarray
        The array, in the machine's byte order.

    Raises
    ------
    DataError
        If the file is missing, is not an IDX file, or is shorter or longer than its header says.

    Examples
    --------
    >>> from pathlib import Path
    >>> header = bytes([0, 0, 8, 1, 0, 0, 0, 3])  # uint8, (3,)
    >>> _ = Path("labels-idx1-ubyte").write_bytes(header + bytes([7, 2, 1]))
    >>> ic.datasets.read_idx("labels-idx1-ubyte")
    array([7, 2, 1], dtype=uint8)
    """
    import gzip
    import zlib

    stored = check_regular(path)
    try:
        with open(path, "rb") as file:
            packed = file.read(2) == b"\x1f\x8b"
            file.seek(0)
            with gzip.GzipFile(fileobj=file) if packed else file as stream:
                data = stream.read(4)
                if len(data) < 4 or data[:2] != b"\0\0" or data[2] not in _IDX_TYPES:
                    raise DataError(
                        f"{path}: not an IDX file, which begins with two zero bytes, the code of a type "
                        "(08 to 0e) and the number of dimensions; this begins with "
                        f"{data.hex(' ') or 'nothing'}"
                    )
                dtype, header = np.dtype(_IDX_TYPES[data[2]]), 4 + 4 * data[3]
                data += stream.read(header - 4)
                if len(data) < header:
                    raise DataError(f"{path}: ends within its header, after {len(data)} of {header} bytes")
                shape = tuple(int.from_bytes(data[at : at + 4], "big") for at in range(4, header, 4))
                size = header + dtype.itemsize * math.prod(shape)
                if size <= stored or packed:  # an uncompressed file that is too short is refused below
                    check_size(size, stored)
                data += _read(stream, size + 1 - header)  # one more byte shows whether the file is too long
    except DataError as error:
        raise DataError(str(error) if str(path) in str(error) else f"{path}: {error}") from error
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path}: cannot be read, or is a damaged gzip file ({error})") from error
    if len(data) != size:
        found = f"{stored}" if not packed else f"more than {size}" if len(data) > size else f"{len(data)}"
        raise DataError(
            f"{path}: has {found} bytes, but its header announces {size}, for an array of the shape "
            f"{shape} and the type {dtype.name}: the file is damaged"
        )
    try:
        return np.ndarray(shape, dtype, data, header).astype(dtype.newbyteorder("="))
    except ValueError as error:
        raise DataError(f"{path}: cannot make an array of the shape {shape} ({error})") from error


class SupportsRead(Protocol):
    """A stream of bytes."""

    def read(self, size: int, /) -> bytes:
        """Read at most ``size`` bytes."""


def _read(stream: SupportsRead, count: int) -> bytes:
    """Read ``count`` bytes, or fewer if the stream ends.

    ``stream.read(count)`` would allocate ``count`` bytes even if the stream is shorter.
    """
    parts = []
    while count and (part := stream.read(min(count, 1 << 20))):
        parts.append(part)
        count -= len(part)
    return b"".join(parts)


def _idx_stems(name: str) -> tuple[tuple[str, str], ...]:
    """Return the names of the four IDX files of a data set, without their endings."""
    begin, test = (f"{name}-", "test") if name.startswith("emnist") else ("", "t10k")
    return tuple(
        (f"{begin}{part}-{what}", f"idx{axes}-ubyte")
        for part in ("train", test)
        for what, axes in (("images", 3), ("labels", 1))
    )


def _folders(name: str, folder: str | os.PathLike[str] | None) -> list[Path]:
    """Return the folders to search for a data set: the given folder, or the folders from the environment variable."""
    if folder is not None:
        return [Path(os.path.expanduser(folder))]  # expanduser leaves "~name" as it is if there is no such user
    variable = os.environ.get("IM2COLNET_DATA")
    root = [Path(os.path.expanduser(variable))] if variable else []
    family = [path / "emnist" for path in root if name.startswith("emnist")]
    return [path / name for path in root] + family + root


def find_idx_files(name: str, folder: str | os.PathLike[str] | None, installed: Path = DEBIAN) -> list[Path]:
    """Return the four files, images and labels for training and for testing, of the first folder that has all of them.

    ``installed`` is the folder of Fashion-MNIST in the system's package.
    """
    variable, stems = os.environ.get("IM2COLNET_DATA"), _idx_stems(name)
    folders = _folders(name, folder) + [installed] * (name == "fashion-mnist" and folder is None)
    looked_in = []
    for place in folders:
        files, missing = [], []
        for stem, kind in stems:
            candidates = (place / f"{stem}{separator}{kind}{end}" for separator in "-." for end in ("", ".gz"))
            found = next((path for path in candidates if os.path.isfile(path)), None)
            if found is None:
                missing.append(f"{stem}-{kind}")
            else:
                files.append(found)
        if not missing:
            return files
        looked_in.append(f"{place} ({'lacks ' + ', '.join(missing) if os.path.isdir(place) else 'no such folder'})")
    names = ", ".join(f"{stem}-{kind}" for stem, kind in stems)
    install = "install them with `apt-get install dataset-fashion-mnist`, or " if name == "fashion-mnist" else ""
    raise DataError(
        f"the files of {name} were not found. Looked in: {'; '.join(looked_in) or 'no folder'}. "
        f"Expected: {names}, each also with .gz or with . for - before idx. "
        f"What to do: {install}pass the folder that has them as `folder` (--folder), "
        f"or set the environment variable IM2COLNET_DATA to it" + ("." if variable else " (it is not set).")
    )


_NPZ_ARRAYS = (("x_train", "y_train", "x_test", "y_test"), ("images", "labels"))


def _load_npz(path: Path) -> tuple[Dataset, Dataset]:
    from im2colnet.datasets.inputs import Inputs

    check_regular(path)
    try:
        with path.open("rb") as stream:
            found = read_npz(stream, _NPZ_ARRAYS, ("classes",))
    except Exception as error:  # for damaged files zipfile, zlib and NumPy raise many kinds of exceptions
        raise DataError(f"{path}: cannot be read as an .npz file ({error})") from error
    classes = _names(path, found.pop("classes")) if "classes" in found else ()
    arrays = list(found.values())
    if not classes and all(labels.ndim == 1 and labels.dtype.kind in "US" for labels in arrays[1::2]):
        classes = _names(path, np.unique(np.concatenate(arrays[1::2])))
    sets = [
        _dataset(images, labels, path.stem, classes, path)
        for images, labels in zip(arrays[::2], arrays[1::2], strict=True)
    ]
    largest = max(sets, key=lambda part: len(part.classes))  # one of the two sets may have no image of the last classes
    if not classes and len(largest.classes) > sum(map(len, sets)):
        raise DataError(
            f"{path}: {_largest(largest.labels)}, which would make {len(largest.classes):,} classes of "
            f"{sum(map(len, sets)):,} images: number the classes from 0, or add their names as an array "
            "classes"
        )
    if len(sets) == 1:
        if len(sets[0]) * _TEST_FRACTION < 1:
            raise DataError(f"{path}: {len(sets[0])} images are too few to hold {_TEST_FRACTION:.0%} of them out")
        if sets[0].classes and len(np.unique(sets[0].labels)) == len(sets[0]):
            raise DataError(f"{path}: every class has one image, so none can be held out: give x_test and y_test")
        return _split(sets[0])
    train, test = (replace(part, classes=largest.classes) for part in sets)
    try:
        Inputs.of(train).compare("x_test", Inputs.of(test), "x_train has")
    except DataError as error:
        raise DataError(f"{path}: {error}") from error
    return train, test


def _names(path: Path, classes: np.ndarray) -> tuple[str, ...]:
    """Return the class names in a file's array ``classes``, or raise a DataError if they are invalid."""
    if classes.ndim != 1 or classes.dtype.kind not in "USiu" or not len(classes):
        raise DataError(
            f"{path}: classes must be a list of names, got an array of the shape {classes.shape} and the "
            f"type {classes.dtype}"
        )
    names = tuple(
        name.decode("utf-8", "replace") if isinstance(name, bytes) else str(name) for name in classes.tolist()
    )
    if len(set(names)) < len(names):
        raise DataError(f"{path}: two classes have the same name: {', '.join(names)[:200]}")
    return names


def _dataset(
    images: np.ndarray, labels: np.ndarray, name: str, classes: tuple[str, ...], source: str | Path
) -> Dataset:
    """Make a data set from the arrays of files; errors name the files."""
    try:
        # Keras stores the labels of CIFAR with this shape
        if labels.ndim == 2 and labels.shape[1] == 1 and labels.dtype.kind in "iu":
            labels = labels[:, 0]
        if labels.ndim == 1 and labels.dtype.kind not in "iubUS":  # targets have the shape (N, 1)
            raise DTypeError(f"labels must be integers or strings, got {labels.dtype}")
        return Dataset(_to_nchw(images), labels, name, classes)
    except Im2colnetError as error:
        raise DataError(f"{source}: {error}") from error


def _to_nchw(images: np.ndarray) -> np.ndarray:
    if images.ndim == 3:
        return images[:, None]
    if images.ndim != 4:
        raise ShapeError(f"images must have the shape (N, H, W), (N, C, H, W) or (N, H, W, C), got {images.shape}")
    first, last = (images.shape[axis] in (1, 3, 4) for axis in (1, 3))
    if first and last:
        raise ShapeError(
            f"images of the shape {images.shape} may be (N, C, H, W) or (N, H, W, C): "
            "make a `Dataset` of the array, transposed if need be"
        )
    if not first and not last:
        raise ShapeError(
            f"images of the shape {images.shape} have no axis of 1, 3 or 4 channels in the second or last "
            "place: make a `Dataset` of the array for another number of channels"
        )
    return images if first else np.ascontiguousarray(images.transpose(0, 3, 1, 2))
