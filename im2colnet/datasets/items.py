"""Data sets of other libraries: any object with a length whose items are pairs (image, label), such as in PyTorch."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from threading import Lock
from typing import Any

from im2colnet.arrays import check_image_type, host_array
from im2colnet.datasets.dataset import Dataset
from im2colnet.errors import DataError, Im2colnetError, ShapeError
from im2colnet.host import np
from im2colnet.lazy import LazyArray
from im2colnet.text import size_text

#: the keys of items that are mappings, as of Hugging Face's data sets
IMAGE_KEYS, LABEL_KEYS = ("image", "img", "pixel_values"), ("label", "labels", "target", "fine_label")


class Items:
    """The images of such an object, which are read from it on demand, by one thread at a time."""

    checksums: np.ndarray | None = None

    def __init__(self, items: Any, name: str, first: np.ndarray) -> None:
        self.items, self.name, self._lock = items, name, Lock()
        self.shape, self.dtype = (len(items), *first.shape), first.dtype
        self.varies = not isinstance(items, (list, tuple))  # it may change images at random

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "_lock"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state, _lock=Lock())

    def read(self, places: np.ndarray, out: np.ndarray) -> None:
        """Read the images at these places."""
        with self._lock:
            for row, place in enumerate(places.tolist()):
                image, _ = item_of(self.items, place, self.name)
                if image.shape != self.shape[1:] or image.dtype != self.dtype:
                    raise ShapeError(
                        f"{self.name}: image {place} is {size_text(image.shape)} of {image.dtype}, and image 0 is"
                        f" {size_text(self.shape[1:])} of {self.dtype}: all images must have one size and type"
                    )
                out[row] = image


def from_items(items: Any, name: str = "data") -> Dataset:
    """Make a data set from an object with a length whose items are pairs (image, label).

    Parameters
    ----------
    items : object with ``__len__`` and ``__getitem__``
        A data set of PyTorch or torchvision, a list of pairs, or a similar object. ``items[i]`` is a pair, or a mapping
        with the keys `image` and `label`. An image is an array or tensor (C, H, W), (H, W) or uint8 (H, W, C), or a
        Pillow image. A label is a class, as a number or a string, or an array of targets.
    name : str
        The name of the data set in reports and error messages.

    Returns
    -------
    Dataset
        The data set. Its images are read from `items` on demand, by one thread at a time. If `items` has an attribute
        `targets` or `labels`, and `classes`, these are the labels and the names of the classes; otherwise all items are
        read once for their labels.

    Raises
    ------
    DataError, ShapeError, DTypeError
        If an item is not such a pair, or images differ in shape or type.

    Examples
    --------
    >>> pairs = [(np.zeros((8, 8)), "left"), (np.ones((8, 8)), "right")]
    >>> ic.datasets.from_items(pairs, "arrows")
    Dataset('arrows': 2 images 1×8×8 float64, 2 classes)
    """
    if not len(items):
        raise ShapeError(f"{name}: there is no image")
    image, _ = item_of(items, 0, name)
    if image.ndim > 3:
        raise ShapeError(
            f"{name}: item 0 has an array of the shape {image.shape}, where an image is (C, H, W): if the items are"
            " batches, give a function that returns them: lambda: batches, with steps=len(batches)"
        )
    source = Items(items, name, image)
    check_image_type(name, source)
    labels = _labels(items, name)
    classes: Any = getattr(items, "classes", ())
    known = isinstance(classes, (list, tuple)) and all(isinstance(each, str) for each in classes)
    numbered = labels.ndim == 1 and labels.dtype.kind in "iu" and known and int(labels.max(initial=0)) < len(classes)
    return Dataset(LazyArray(source), labels, name, tuple(classes) if numbered else ())


def is_item(value: Any) -> bool:
    """Whether something is a pair (image, label) with one label, other than a pair of images."""
    if not isinstance(value, (tuple, list)) or len(value) != 2:
        return False
    with suppress(ValueError):  # lists of different lengths are no arrays
        return np.ndim(value[1]) == 0 and (np.ndim(value[0]) > 0 or hasattr(value[0], "getbands"))
    return False


def item_of(items: Any, place: int, name: str) -> tuple[np.ndarray, Any]:
    """Return the image and the label of an item."""
    item = items[place]
    if isinstance(item, Mapping):
        keys = [next((key for key in keys if key in item), None) for keys in (IMAGE_KEYS, LABEL_KEYS)]
        item = [item[key] for key in keys if key is not None]
    if not isinstance(item, (tuple, list)) or len(item) != 2:
        raise DataError(f"{name}: item {place} must be a pair (image, label), got {type(item).__name__}")
    try:
        return image_of(item[0]), item[1]
    except Im2colnetError as error:
        raise type(error)(f"{name}: item {place}: {error}") from error


def image_of(value: Any) -> np.ndarray:
    """Return an image as an array (C, H, W), or as it is if it has another rank."""
    if hasattr(value, "convert") and hasattr(value, "getbands"):  # a picture of Pillow
        if value.mode not in ("L", "RGB", "RGBA"):
            value = value.convert("L" if value.mode == "1" else "RGB")
        value = np.asarray(value)
    image: np.ndarray = host_array("the image", value)
    if image.ndim == 2:
        return image[None]
    by_pixels = image.ndim == 3 and image.shape[0] not in (1, 3, 4) and image.shape[2] in (1, 3, 4)
    return np.ascontiguousarray(image.transpose(2, 0, 1)) if by_pixels and image.dtype == np.uint8 else image


def _labels(items: Any, name: str) -> np.ndarray:
    """Return all labels: the object's own list, if it has one, or else those of its items."""
    for attribute in ("targets", "labels"):
        found = getattr(items, attribute, None)
        if found is not None and not callable(found) and hasattr(found, "__len__") and len(found) == len(items):
            # it must agree with the items: some objects change their labels when they return them
            labels = host_array(attribute, found)
            if all(np.array_equal(_label(item_of(items, i, name)[1]), labels[i]) for i in (0, len(items) - 1)):
                return _targets(labels)
    return _targets(host_array("labels", [_label(item_of(items, place, name)[1]) for place in range(len(items))]))


def _label(value: Any) -> Any:
    return value if isinstance(value, (str, int)) else host_array("a label", value)


def _targets(labels: np.ndarray) -> np.ndarray:
    """Return labels; if they are one number for each image and not a class, they become a column of targets."""
    return labels[:, None] if labels.ndim == 1 and labels.dtype.kind == "f" else labels
