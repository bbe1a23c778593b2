"""Pictures in a folder for each class, or named in a CSV file, as data sets."""

from __future__ import annotations

import csv
import os
import sys
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any

from im2colnet.checks import sides, whole
from im2colnet.datasets.archives import check_regular
from im2colnet.datasets.dataset import Dataset
from im2colnet.datasets.images import check_pillow, picture_facts
from im2colnet.datasets.pictures import KEEPS, Keep, decode, in_threads
from im2colnet.datasets.splits import chosen
from im2colnet.errors import DataError, InputWarning, ShapeError
from im2colnet.host import np
from im2colnet.text import count, printable, shortened, size_text

#: endings of the names of pictures that are read; a file without an ending is tried too
ENDINGS = (
    *(".bmp", ".gif", ".jfif", ".jpe", ".jpeg", ".jpg", ".pbm", ".pgm", ".png", ".pnm", ".ppm"),
    *(".tif", ".tiff", ".webp"),
)
#: files that file managers create, in addition to names that begin with a dot
LITTER = ("__macosx", "@eadir", "desktop.ini", "ehthumbs.db", "icon\r", "thumbs.db")
TRAIN, TEST = ("train", "training"), ("test", "testing", "val", "valid", "validation")
COLORS = {"grey": 1, "rgb": 3, "rgba": 4}
SPELLINGS = {"gray": "grey", "grayscale": "grey", "greyscale": "grey", "color": "rgb", "colour": "rgb"}
SPLIT = 0.2  #: the default of the part that is held out as the test set
#: the largest number of pictures that are examined to choose the size and the color of the images
LOOKED_AT = 2000
#: the largest side that is chosen for pictures
LARGEST = 64
#: the largest number of files that a warning names
NAMED = 5
#: names of the columns of a CSV file
FILE_COLUMNS = ("file", "filename", "file_name", "filepath", "path", "image", "image_path", "picture", "name")
LABEL_COLUMNS = ("label", "class", "class_name", "category", "target", "y")


@dataclass
class Listing:
    """Files with their labels, of one part of a data set."""

    root: str
    names: list[str]  #: the names of the files, relative to the root
    labels: Any  #: the name of the class of each file, or its targets
    classes: tuple[str, ...] = ()  #: the names of the classes in order


@dataclass(frozen=True)
class Choice:
    """How pictures become images."""

    size: tuple[int, int]  #: height and width
    color: str
    said: str  #: the message about what was chosen from the pictures; empty if nothing was chosen

    @property
    def shape(self) -> tuple[int, int, int]:
        """The shape of an image, (C, H, W)."""
        return (COLORS[self.color], *self.size)


def from_folder(
    path: str | os.PathLike[str],
    size: int | tuple[int, int] | None = None,
    color: str | None = None,
    split: float = SPLIT,
    seed: int = 0,
    *,
    classes: Sequence[str] = (),
    keep: Keep = "auto",
    progress: bool = True,
) -> tuple[Dataset, Dataset]:
    """Read a folder that has a folder of pictures for each class.

    Parameters
    ----------
    path : str or path
        The folder. Its subfolders are the classes, in the order of their names, and contain pictures (BMP, GIF, JPEG,
        PNG, PPM, TIFF, WebP), also in further subfolders. If it holds the folders `train` (or `training`) and `test`
        (or `testing`, `val`, `valid`, `validation`) instead, the classes are in these folders. If there are both a test
        set and a validation set, the test set is read.
    size : int or (height, width), optional
        The size of the images in pixels; one number is both height and width. A picture is scaled so that its short
        side fits, and its long side is cropped equally on both sides (torchvision's `Resize` and `CenterCrop`). The
        default is a square, chosen from the pictures: the median of their short sides, at most 64, rounded to a
        multiple of 8 unless most pictures have exactly this size.
    color : {"grey", "rgb", "rgba"}, optional
        The channels of the images: one, three or four. The default is "grey" if all pictures are grey, else "rgb";
        transparent parts become white.
    split : float
        The fraction of each class that is held out as the test set, if the folder has no test set. With 0 nothing is
        held out, and the second data set is None.
    seed : int
        The seed of the split. Which pictures are held out depends on the seed, on their names, and on the number of
        pictures of each class. If a picture is added or removed, at most few others move from one set to the other.
    classes : sequence of str, optional
        The classes in the order of their labels, such as the classes of a trained network. By default the names of the
        folders, sorted.
    keep : {"auto", "memory", "disk", "none"}
        Where the decoded images are stored: in memory, in a file on disk, or nowhere, so that each picture is decoded
        whenever it is needed. "auto" uses memory for up to 1 GiB, else the disk, if they have room. The file is in the
        folder that the environment variable IM2COLNET_CACHE names, or else in `im2colnet` in XDG_CACHE_HOME or
        `~/.cache` (on macOS `~/Library/Caches`, on Windows LOCALAPPDATA). It is reused as long as the names, sizes and
        times of the pictures do not change. You may delete it at any time.
    progress : bool
        Whether to print the chosen size and color and the progress of decoding, on stderr.

    Returns
    -------
    train, test : Dataset
        The images are uint8; `files` has the names relative to `path`. Images that are not in memory are read on
        demand, so a folder may be larger than the memory.

    Raises
    ------
    DataError
        If the folder does not exist, there are fewer than two classes, or no picture of a class can be read.
    ShapeError
        If an argument is wrong.

    Warns
    -----
    InputWarning
        If files cannot be read: they are skipped, and the warning names the first of them. If folders of classes are
        empty.

    Notes
    -----
    Hidden files and files of file managers (Thumbs.db, desktop.ini) are ignored. Links are followed, but not in
    circles. Several threads decode pictures; :func:`im2colnet.set_num_threads` sets their number.

    Examples
    --------
    >>> from pathlib import Path
    >>> from PIL import Image
    >>> for name, brightness in ("dark", 60), ("light", 200):
    ...     Path("pictures", name).mkdir(parents=True)
    ...     for number in range(10):
    ...         picture = Image.new("L", (40, 30), brightness)
    ...         picture.save(f"pictures/{name}/{number}.png")
    >>> train, test = ic.datasets.from_folder("pictures", 16, progress=False)
    >>> train, test.classes
    (Dataset('pictures': 16 images 1×16×16 uint8, 2 classes), ('dark', 'light'))
    """
    root = os.path.expanduser(os.fsdecode(path))
    arguments = _Arguments(size, color, split, seed, keep, progress)
    parts = [_listing(root, part) for part in _parts(root)]
    if len(parts[0].classes) == 1 and not classes:
        inside = os.path.join(root, parts[0].names[0].split(os.sep)[0])
        deeper = f": are the classes in {inside}?" if _entries(inside)[0] else ""
        raise DataError(f"{root}: has only one class, {printable(parts[0].classes[0])}, and two are needed{deeper}")
    return _datasets(_named(root), parts, tuple(classes), arguments)


def from_csv(
    path: str | os.PathLike[str],
    size: int | tuple[int, int] | None = None,
    color: str | None = None,
    split: float = SPLIT,
    seed: int = 0,
    *,
    targets: bool = False,
    classes: Sequence[str] = (),
    keep: Keep = "auto",
    progress: bool = True,
) -> tuple[Dataset, Dataset]:
    r"""Read pictures and their labels from a CSV file.

    Parameters
    ----------
    path : str or path
        A text file in UTF-8 with a line for each picture: its file, relative to the folder of the CSV file, and its
        label, separated by commas, semicolons or tabs. If the first line is a header, the columns are found by their
        names: `file`, `filename`, `path` or `image`, and `label`, `class` or `category`; otherwise they are the first
        and the second column. Other columns are not read.
    size : int or (height, width), optional
        The size of the images in pixels, as for :func:`from_folder`.
    color : {"grey", "rgb", "rgba"}, optional
        The channels of the images, as for :func:`from_folder`.
    split : float
        The fraction of each class that is held out as the test set, as for :func:`from_folder`.
    seed : int
        The seed of the split, as for :func:`from_folder`.
    targets : bool
        Whether the labels are numbers to predict, for a loss such as :class:`im2colnet.MSELoss`: all columns except the
        file names are then read as numbers, and the labels are (N, columns) of float32. Otherwise the labels are names
        of classes, sorted as numbers if all are whole numbers, else alphabetically.
    classes : sequence of str, optional
        The classes in the order of their labels, such as the classes of a trained network.
    keep : {"auto", "memory", "disk", "none"}
        Where the decoded images are stored, as for :func:`from_folder`.
    progress : bool
        Whether to print the chosen size and color and the progress of decoding, on stderr.

    Returns
    -------
    train, test : Dataset
        The data sets, as for :func:`from_folder`.

    Raises
    ------
    DataError
        If the file cannot be read, or a line does not have all columns; the message names the line.

    Warns
    -----
    InputWarning
        If pictures cannot be read: they are skipped.

    Examples
    --------
    >>> from pathlib import Path
    >>> from PIL import Image
    >>> for number in range(10):
    ...     Image.new("L", (8, 8), 20 * number).save(f"{number}.png")
    >>> lines = [f"{number}.png,{number / 10}" for number in range(10)]
    >>> _ = Path("grey.csv").write_text("file,brightness\n" + "\n".join(lines))
    >>> ic.datasets.from_csv("grey.csv", targets=True, progress=False)[0]
    Dataset('grey': 8 images 1×8×8 uint8, targets (1,))
    """
    where = os.path.expanduser(os.fsdecode(path))
    arguments = _Arguments(size, color, split, seed, keep, progress)
    listing = _read_csv(where, targets)
    if len(listing.classes) == 1 and not classes:
        raise DataError(f"{where}: all pictures are of the class {printable(listing.classes[0])}, and two are needed")
    return _datasets(printable(Path(where).stem), [listing], tuple(classes), arguments)


class _Arguments:
    """The checked arguments that folders and CSV files have in common."""

    def __init__(
        self, size: int | tuple[int, int] | None, color: str | None, split: float, seed: int, keep: Keep, progress: bool
    ) -> None:
        if isinstance(size, (tuple, list)) and len(size) != 2:
            raise ShapeError(f"size must be a number of pixels or (height, width), got {size!r}")
        self.size = None if size is None else sides("size", size)
        color = SPELLINGS.get(color, color) if color is not None else None
        if color is not None and color not in COLORS:
            raise ShapeError(f"color must be one of {', '.join(COLORS)}, got {color!r}")
        if not isinstance(split, (int, float)) or not 0 <= split < 1:
            raise ShapeError(f"split must be the part to hold out, from 0 to below 1, got {split!r}")
        if keep not in KEEPS:
            raise ShapeError(f"keep must be one of {', '.join(KEEPS)}, got {keep!r}")
        self.color, self.split, self.seed = color, split, whole("seed", seed, least=0)
        self.keep, self.progress = keep, progress


def _datasets(name: str, parts: list[Listing], classes: tuple[str, ...], arguments: _Arguments) -> tuple[Dataset, Any]:
    """Return the data sets of a training part and, if there is one, of a test part."""
    check_pillow(parts[0].root)
    choice = _choose(parts, arguments)
    read: list[Dataset] = []
    failed: list[tuple[str, str]] = []
    for part in parts:
        decoded = decode(part.root, part.names, choice.shape, arguments.keep, arguments.progress)
        failed += [(part.names[place], reason) for place, reason in decoded.failed.items()]
        if not len(decoded.readable):
            raise DataError(f"{name}: none of {count(len(part.names), 'picture')} can be read: {_first(failed)}")
        labels = [part.labels[place] for place in decoded.readable]
        files = tuple(part.names[place] for place in decoded.readable)
        if isinstance(part.labels, np.ndarray):
            read.append(Dataset(decoded.images, np.array(labels), name, (), files))
            continue
        known = classes or parts[0].classes
        lost = sorted({*part.labels} - {*labels})
        if lost and part is parts[0]:
            raise DataError(f"{name}: no picture of the class {lost[0]!r} can be read: {_first(failed)}")
        unknown = sorted({*labels} - {*known})
        if unknown:
            where = "the classes that were given" if classes else "the classes of the training set"
            raise DataError(
                f"{name}: {files[labels.index(unknown[0])]} is of the class {unknown[0]!r}, which is none of {where}:"
                f" {shortened(', '.join(map(repr, known)), 200)}"
            )
        read.append(Dataset(decoded.images, np.array(labels, object), name, known, files))
    if failed:
        warnings.warn(
            f"{name}: {count(len(failed), 'file')} cannot be read and {'is' if len(failed) == 1 else 'are'} left out:"
            f" {_first(failed)}",
            InputWarning,
            stacklevel=3,
        )
    if arguments.progress and choice.said:
        every = sum(map(len, read))
        print(f"{name}: {count(every, 'picture')}, read {choice.said}", file=sys.stderr)
    if len(read) == 2:
        return read[0], read[1]
    if not arguments.split:
        return read[0], None
    return held_out(read[0], arguments.split, arguments.seed)


def held_out(data: Dataset, split: float, seed: int) -> tuple[Dataset, Dataset]:
    """Hold out a part of each class of a data set; which images depends on the seed and the names of their files."""
    names = (f"{seed}/{file.replace(os.sep, '/')}".encode(errors="backslashreplace") for file in data.files)
    keys = [int.from_bytes(blake2b(name, digest_size=8).digest(), "little") for name in names]
    groups = data.labels if data.classes else np.zeros(len(data), np.intp)
    train, test = chosen(groups, split, np.array(keys, np.uint64))
    if not len(test):
        raise DataError(f"{data.name}: {count(len(data), 'picture')} are too few to hold {split:.0%} of them out")
    return data[train], data[test]


def _first(failed: list[tuple[str, str]]) -> str:
    """Return the names of the first files that cannot be read, with the reasons."""
    named = [f"{printable(name)} ({shortened(_short(reason), 120)})" for name, reason in failed[:NAMED]]
    return "; ".join(named) + (f"; and {len(failed) - NAMED:,} more" if len(failed) > NAMED else "")


def _short(reason: str) -> str:
    return reason.removeprefix("cannot be read as a picture (").removesuffix(")")


def _named(root: str) -> str:
    return printable(os.path.basename(os.path.abspath(root)) or "images")


# ---------------------------------------------------------------------- folders


def _parts(root: str) -> list[str]:
    """Return the folders that contain the classes, relative to a folder: itself, or its training set and test set."""
    folders = {name.lower(): name for name in _entries(root)[0]}
    train = next((folders[name] for name in TRAIN if name in folders), None)
    tests = [folders[name] for name in TEST if name in folders]
    if train is None or not (tests or len(folders) == 1):
        return [""]
    inside, files = _entries(os.path.join(root, train))
    if not inside or any(_is_picture(name) for name in files):
        return [""]  # a class that is called train
    return [train, *tests[:1]]


def _listing(root: str, part: str) -> Listing:
    """List the pictures of a folder that has a folder for each class."""
    folder = os.path.join(root, part) if part else root
    classes, beside = _entries(folder)
    loose = [name for name in beside if _is_picture(name)]
    found = {name: [os.path.join(name, file) for file in walk(os.path.join(folder, name))] for name in classes}
    empty = [name for name, names in found.items() if not any(map(_may_be_picture, names))]
    found = {name: names for name, names in found.items() if name not in empty}
    if not found:
        hint = "put the pictures of each class into one folder" if loose else "it must have a folder for each class"
        inside = f"has {count(len(loose), 'picture')} but no folder with pictures" if loose else "has no pictures"
        raise DataError(f"{folder}: {inside}: {hint}, or name files and labels in a CSV file")
    if empty:
        warnings.warn(
            f"{folder}: {count(len(empty), 'folder')} without pictures, which {'is' if len(empty) == 1 else 'are'} no"
            f" class: {', '.join(map(printable, empty[:NAMED]))}{', ...' if len(empty) > NAMED else ''}",
            InputWarning,
            stacklevel=4,
        )
    if loose:
        warnings.warn(
            f"{folder}: {count(len(loose), 'picture')} beside the folders of the classes"
            f" {'has' if len(loose) == 1 else 'have'} no class and {'is' if len(loose) == 1 else 'are'} not read, such"
            f" as {printable(loose[0])}",
            InputWarning,
            stacklevel=4,
        )
    names = [(os.path.join(part, file), name) for name, files in found.items() for file in files]
    return Listing(root, [file for file, _ in names], [name for _, name in names], tuple(found))


def _entries(folder: str) -> tuple[list[str], list[str]]:
    """Return the folders and the files in a folder, sorted, without hidden files and files of file managers."""
    try:
        with os.scandir(folder) as entries:
            found = sorted(
                (entry.name, entry.is_dir())
                for entry in entries
                if not entry.name.startswith(".") and entry.name.lower() not in LITTER
            )
    except (OSError, ValueError) as error:
        reason = (
            "there is no such folder" if isinstance(error, FileNotFoundError) else getattr(error, "strerror", error)
        )
        hint = ": give a folder, or the name of a .csv or .npz file" if isinstance(error, NotADirectoryError) else ""
        raise DataError(f"{folder}: {reason}{hint}") from error
    return [name for name, is_folder in found if is_folder], [name for name, is_folder in found if not is_folder]


def walk(folder: str) -> Iterator[str]:
    """Yield the files within a folder and the folders in it, by their names relative to it.

    Hidden files and files of file managers are skipped; links are followed, but not in circles.
    """
    path = Path(os.path.abspath(folder))
    seen = {_identity(place) for place in path.parents}  # a link to them would make a circle
    waiting = [""]
    while waiting:
        here = waiting.pop()
        identity = _identity(os.path.join(folder, here))
        if identity in seen:
            continue
        seen.add(identity)
        folders, files = _entries(os.path.join(folder, here))
        yield from (os.path.join(here, file) for file in files)
        waiting += [os.path.join(here, inner) for inner in reversed(folders)]


def _identity(path: str | Path) -> Any:
    """Return a key that is equal for two paths to the same folder."""
    try:
        found = os.stat(path)
    except OSError:
        return os.path.realpath(path)
    return (found.st_dev, found.st_ino) if found.st_ino else os.path.realpath(path)


def _is_picture(name: str) -> bool:
    return os.path.splitext(name)[1].lower() in ENDINGS


def _may_be_picture(name: str) -> bool:
    return os.path.splitext(name)[1].lower() in (*ENDINGS, "")


# ---------------------------------------------------------------------- size and color


def _choose(parts: list[Listing], arguments: _Arguments) -> Choice:
    """Choose the size and the color if they were not given."""
    if arguments.size is not None and arguments.color is not None:
        return Choice(arguments.size, arguments.color, "")
    paths = [os.path.join(part.root, name) for part in parts for name in part.names]
    places = np.linspace(0, len(paths) - 1, min(len(paths), LOOKED_AT)).astype(np.intp)

    def facts(path: str) -> tuple[tuple[int, int], bool] | str:
        try:
            return picture_facts(path)
        except DataError as error:
            return str(error)

    found = list(in_threads(facts, [paths[place] for place in places]))
    known = [fact for fact in found if not isinstance(fact, str)]
    if not known:
        raise DataError(
            f"{_named(parts[0].root)}: none of {count(len(paths), 'file')} can be read as a picture: {found[0]}"
        )
    sizes = [size for size, _ in known]
    color = arguments.color or ("grey" if all(grey for _, grey in known) else "rgb")
    size = arguments.size
    if size is None:
        side = chosen_side([min(size) for size in sizes])
        size = side, side
    smallest, largest = min(sizes), max(sizes)
    have = f"they have {size_text(smallest)}" + (f" to {size_text(largest)}" if smallest != largest else "")
    others = " and ".join(name for name in ("size", "color") if getattr(arguments, name) is None)
    what = "grey" if color == "grey" else "color"
    return Choice(size, color, f"as {what} images of {size_text(size)} pixels ({have}); give {others} to choose others")


def chosen_side(sides: Sequence[int]) -> int:
    """Return the side of the square images that pictures with these short sides become."""
    median = int(np.sort(sides)[len(sides) // 2])
    if median > LARGEST:
        return LARGEST
    usual = 2 * sum(side == median for side in sides) > len(sides)
    return median if usual or median < 12 else round(median / 8) * 8


# ---------------------------------------------------------------------- CSV files


def _read_csv(path: str, targets: bool) -> Listing:
    root = os.path.dirname(path) or "."
    header, rows = _rows(path, root)
    width = len(rows[0][1])
    lowered = [cell.strip().lower() for cell in header]
    seems = next((column for column, cell in enumerate(rows[0][1]) if _is_file(root, cell)), 0)
    file_at = next((lowered.index(name) for name in FILE_COLUMNS if name in lowered), seems)
    others = [column for column in range(len(header) or width) if column != file_at]
    if not others:
        raise DataError(f"{path}: has only one column: a file and its label are needed")
    label_at = next((lowered.index(name) for name in LABEL_COLUMNS if name in lowered), others[0])
    names: list[str] = []
    labels: list[Any] = []
    for line, row in rows:
        if len(row) != (len(header) or width):
            raise DataError(f"{path}: line {line} has {len(row)} columns, the first line {len(header) or width}")
        name = row[file_at].strip()
        if not name or "\0" in name:
            raise DataError(f"{path}: line {line} names no file")
        names.append(_as_here(root, name))
        if targets:
            try:
                labels.append([float(row[column]) for column in others])
            except ValueError as error:
                raise DataError(f"{path}: line {line}: targets must be numbers ({error})") from error
        elif not row[label_at].strip():
            raise DataError(f"{path}: line {line} has no label")
        else:
            labels.append(row[label_at].strip())
    if targets:
        values = np.array(labels, np.float32)
        if not np.isfinite(values).all():
            line = rows[int(np.flatnonzero(~np.isfinite(values).all(axis=1))[0])][0]
            raise DataError(f"{path}: line {line}: targets must be finite numbers")
        return Listing(root, names, values)
    numbers = all(label.isascii() and label.isdigit() for label in labels)
    return Listing(root, names, labels, tuple(sorted({*labels}, key=lambda name: (int(name) if numbers else 0, name))))


def _rows(path: str, root: str) -> tuple[list[str], list[tuple[int, list[str]]]]:
    """Return the header of a CSV file, empty if it has none, and the other rows with their lines."""
    check_regular(path)
    try:
        content = Path(path).read_bytes()
        text = content.decode("utf-16" if content[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig")
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: is no text in UTF-8 ({error}): store it as CSV in UTF-8") from error
    lines = text.splitlines(keepends=True)
    reader = csv.reader(lines, delimiter=max(",;\t", key="".join(lines[:1]).count), strict=True)
    try:
        rows = [(reader.line_num, row) for row in reader if any(cell.strip() for cell in row)]
    except csv.Error as error:
        raise DataError(f"{path}: line {reader.line_num} is no line of a CSV file ({error})") from error
    if rows and not any(_is_file(root, cell) for cell in rows[0][1]):
        header, rows = rows[0][1], rows[1:]
    else:
        header = []
    if not rows:
        raise DataError(f"{path}: names no file: each line must have a file and its label")
    return header, rows


def _is_file(root: str, cell: str) -> bool:
    """Whether a cell looks like the name of a picture, or is the name of a file."""
    cell = cell.strip()
    return _is_picture(cell) or (bool(cell) and "\0" not in cell and os.path.isfile(os.path.join(root, cell)))


def _as_here(root: str, name: str) -> str:
    """Return a file's name with the separators of this system."""
    there = name.replace("\\", "/")
    return there if there != name and not os.path.exists(os.path.join(root, name)) else name
