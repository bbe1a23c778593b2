"""Labelled images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from im2colnet.arrays import check_image_type, host_array
from im2colnet.checks import set_frozen
from im2colnet.errors import DataError, DTypeError, Im2colnetError, ShapeError
from im2colnet.host import np
from im2colnet.lazy import LazyArray
from im2colnet.show.pixels import as_pixels

# The largest label gives the number of classes that have no names. A label beyond this bound is taken for a mistake.
_MOST_CLASSES = 1 << 16

#: the number of images of a data set that a notebook shows
_SHOWN = 20


@dataclass(frozen=True, eq=False, repr=False)
class Dataset:
    """Labelled images.

    Parameters
    ----------
    images : array, (N, C, H, W), or of sequences (N, C, L) or features (N, F)
        The images, uint8 (grey values or colors, 0 to 255) or floating point: arrays of NumPy, tensors of PyTorch,
        lists, or other objects that NumPy can read.
    labels : array, (N, ...)
        Integers (N,) are class labels, from 0. Strings (N,) and booleans (N,) are names of classes; the data set
        replaces them by class labels and keeps the names in `classes`. Other numbers, such as (N, outputs) or (N, C, H,
        W), are targets, which the loss checks.
    name : str
        The name of the data set in reports and messages.
    classes : tuple of str
        The names of the classes. The default is the different strings in `labels` in alphabetical order, or the numbers
        from 0 to the largest label. Checkpoints store the names. Targets have no classes.
    files : tuple of str
        The name of each image's file, relative to the folder that was read; empty if the images have no files.

    Raises
    ------
    ShapeError
        If the number of dimensions or the lengths are wrong, or there is no image.
    DTypeError
        If the images are neither uint8 nor floating point, if the labels are neither numbers nor strings, if they are
        not integers although classes are given, or if images or labels are a masked array.
    DataError
        If a label is negative or has no class. If no classes are given, also if a label is larger than 65,535 and
        larger than the number of images.

    Notes
    -----
    `len(dataset)` is the number of images. `dataset[:100]`, `dataset[indices]` and `dataset[mask]` are data sets again;
    a slice shares its arrays with the original data set.

    Images that do not fit into memory are read on demand. `images` is then not a NumPy array, but it can be indexed
    along its first axis like one, and `numpy.asarray` reads all images.

    Examples
    --------
    >>> images = np.zeros((4, 3, 8, 8), np.uint8)
    >>> data = ic.Dataset(images, ["cat", "dog", "dog", "cat"], "pets")
    >>> data
    Dataset('pets': 4 images 3×8×8 uint8, 2 classes)
    >>> data.classes, data[1:3].labels
    (('cat', 'dog'), array([1, 1]))
    """

    images: Any
    labels: Any
    name: str = "data"
    classes: tuple[str, ...] = ()
    files: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        try:
            images, labels = host_array("images", self.images), host_array("labels", self.labels)
        except Im2colnetError as error:
            raise type(error)(f"data set {self.name!r}: {error}") from error
        if images.ndim not in (2, 3, 4):
            raise ShapeError(
                f"data set {self.name!r}: images must have the shape (N, C, H, W), got {images.shape}, or"
                " be sequences (N, C, L) or features (N, F)"
            )
        if labels.shape[:1] != images.shape[:1] or (len(self.classes) and labels.ndim != 1):
            raise ShapeError(
                f"data set {self.name!r}: labels must have the shape (N,) with one label for each of the "
                f"{len(images)} images, got {labels.shape}"
            )
        if images.size == 0:
            raise ShapeError(f"data set {self.name!r}: there is no image in an array of the shape {images.shape}")
        check_image_type(f"data set {self.name!r}: images", images)
        classes, files = tuple(self.classes), tuple(self.files)
        if len(files) not in (0, len(images)):
            raise ShapeError(f"data set {self.name!r}: there are {len(files)} files for {len(images)} images")
        if labels.ndim == 1:
            labels, classes = self._number(labels, classes)
        if classes or (labels.ndim == 1 and labels.dtype.kind in "iu"):
            classes = self._check_classes(labels, classes)
        elif labels.dtype.kind not in "fiub":
            raise DTypeError(
                f"data set {self.name!r}: labels must be integers or strings, or targets numbers, got {labels.dtype}"
            )
        set_frozen(self, images=images, labels=labels, classes=classes, files=files)

    def _number(self, labels: np.ndarray, classes: tuple[str, ...]) -> tuple[np.ndarray, tuple[str, ...]]:
        """Return labels that are strings, or False and True, as numbers of classes, and the names of the classes."""
        if labels.dtype.kind == "b":
            return labels.astype(np.int64), classes or ("False", "True")
        if labels.dtype.kind == "S":
            labels = np.char.decode(labels, "utf-8", "replace")
        elif labels.dtype.kind == "O" and all(isinstance(label, str) for label in labels):
            labels = labels.astype(np.str_)
        if labels.dtype.kind not in "UT":
            return labels, classes
        names, numbers = np.unique(labels, return_inverse=True)
        found = tuple(map(str, names.tolist()))
        if not classes:
            return numbers.astype(np.int64), found
        place = {name: number for number, name in enumerate(classes)}
        unknown = [name for name in found if name not in place]
        if unknown:
            image = int((labels == unknown[0]).argmax())
            raise DataError(
                f"data set {self.name!r}: image {image} has the label {unknown[0]!r}, which is none of the classes"
                f" {', '.join(map(repr, classes))[:200]}"
            )
        return np.array([place[name] for name in found], np.int64)[numbers], classes

    def _check_classes(self, labels: np.ndarray, classes: tuple[str, ...]) -> tuple[str, ...]:
        """Check class labels and return the names of the classes, which are numbers where none are given."""
        if labels.dtype.kind not in "iu":
            raise DTypeError(f"data set {self.name!r}: labels must be integers, got {labels.dtype}")
        lowest, highest = int(labels.min()), int(labels.max())
        if not classes and highest >= max(len(labels), _MOST_CLASSES):
            raise DataError(
                f"data set {self.name!r}: {_largest(labels)}, which would make {highest + 1:,} classes: "
                "number the classes from 0, or give their names as classes"
            )
        classes = classes or _numbered(highest + 1)
        if lowest < 0 or highest >= len(classes):
            raise DataError(
                f"data set {self.name!r}: labels must be from 0 to {len(classes) - 1} "
                f"(there are {len(classes)} classes), got {lowest} to {highest}"
            )
        return classes

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: slice | int | Sequence[int] | np.ndarray) -> Dataset:
        if not isinstance(index, slice):
            index = np.atleast_1d(index)  # one image is a data set of one image
        images = self.images.select(index) if isinstance(self.images, LazyArray) else self.images[index]
        files = [self.files[place] for place in np.arange(len(self))[index]] if self.files else ()
        return Dataset(images, self.labels[index], self.name, self.classes, tuple(files))

    def __repr__(self) -> str:
        shape = "×".join(str(size) for size in self.images.shape[1:])
        what = f"{len(self.classes)} classes" if self.classes else f"targets {self.labels.shape[1:]}"
        return f"Dataset({self.name!r}: {len(self)} images {shape} {self.images.dtype}, {what})"

    def _repr_html_(self) -> str:
        """Return the HTML for a notebook: the first images, each with its class."""
        from im2colnet.show.html import paragraph, thumbnails

        try:
            first = np.asarray(self.images[:_SHOWN])
        except Im2colnetError:  # a file is damaged, or gone
            return paragraph(repr(self))
        if first.ndim != 4:
            return paragraph(repr(self))
        if first.dtype != np.uint8:
            first = np.nan_to_num(first.astype(np.float64), posinf=0, neginf=0)
        low, high = float(first.min()), float(first.max())
        known = self.classes and self.labels.ndim == 1
        texts = [self.classes[label] if known else "" for label in self.labels[:_SHOWN].tolist()]
        return paragraph(repr(self)) + thumbnails([as_pixels(image, low, high) for image in first], texts)


def _largest(labels: np.ndarray) -> str:
    return f"the largest label is {labels.max():,}, of image {labels.argmax():,}"


def _numbered(count: int) -> tuple[str, ...]:
    return tuple(str(number) for number in range(count))
