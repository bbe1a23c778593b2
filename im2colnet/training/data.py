"""The data of a training: checks before the first step, and what a network knows about its training images."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias
from weakref import WeakKeyDictionary

from im2colnet.errors import DTypeError, NonFiniteError, ShapeError
from im2colnet.graph.nodes import locate
from im2colnet.graph.passes import settled
from im2colnet.layout import internal_shape
from im2colnet.lazy import LazyArray
from im2colnet.losses import Loss
from im2colnet.losses.base import output_shape_for
from im2colnet.network import Network
from im2colnet.types import Shape

if TYPE_CHECKING:
    from im2colnet.datasets.dataset import Dataset
    from im2colnet.datasets.inputs import Inputs
    from im2colnet.datasets.loader import Loader
    from im2colnet.datasets.stream import Stream
    from im2colnet.datasets.transforms import Transform

#: the largest number that an array of this type can hold
LARGEST = {"float16": 65504.0, "float32": 3.4028234e38, "bfloat16": 3.3895313e38}
#: a data set, a pair (images, labels), or an object whose items are pairs (image, label), such as a PyTorch data set;
#: for training also batches: an iterable, or a function that returns one
Data: TypeAlias = Any


def as_dataset(name: str, data: Any) -> Dataset:
    """Return a data set made from a pair (images, labels), or from an object whose items are pairs (image, label)."""
    from im2colnet.datasets.dataset import Dataset
    from im2colnet.datasets.items import from_items, is_item
    from im2colnet.datasets.stream import joined

    if isinstance(data, Dataset):
        return data
    if isinstance(data, (tuple, list)) and len(data) == 2 and not is_item(data[0]):
        return Dataset(data[0], data[1], name)
    if hasattr(data, "__len__") and not isinstance(data, (str, bytes, Mapping)) and not hasattr(data, "ndim"):
        return from_items(data, name) if hasattr(data, "__getitem__") else joined(data, name)
    raise ShapeError(
        f"{name} must be a data set or a pair (images, labels), or have a length and items (image, label), got"
        f" {type(data).__name__}"
    )


def training_data(
    net: Network,
    data: Any,
    batch_size: int,
    seed: int,
    drop_last: bool,
    transforms: tuple[Transform, ...],
    steps: int | None,
    parts: Callable[[tuple[int, ...], int], slice] | None = None,
) -> tuple[Dataset, Loader | Stream]:
    """Return the data set to train on and its batches; if ``data`` is batches, the first batch is the data set.

    ``parts`` is a function of an image's shape and a batch size: it returns the slice of a batch that this rank reads.
    """
    from im2colnet.datasets.stream import Stream

    def part(n: int) -> slice:
        assert parts is not None
        return parts(batches.example[0].shape[1:], n)

    batches: Loader | Stream
    wanted = None if parts is None else part
    given = callable(data) or (hasattr(data, "__iter__") and not hasattr(data, "__getitem__"))
    if given and transforms:
        raise ShapeError("augment is for a data set, not for batches: transform your batches yourself, with augment=[]")
    if given:
        batches = Stream(data, steps, part=wanted)
        return batches.first, batches
    if steps is not None:
        raise ShapeError("steps is for batches, such as from a generator: an epoch of a data set has all its images")
    dataset = as_dataset("train", data)
    batches = make_loader(net, dataset, batch_size, seed, drop_last, transforms, wanted)
    return dataset, batches


def make_loader(
    net: Network,
    data: Dataset,
    batch_size: int,
    seed: int,
    drop_last: bool,
    transforms: tuple[Transform, ...],
    part: Callable[[int], slice] | None = None,
) -> Loader:
    """Return the batches of a training; mixed labels get a column for each output of the network."""
    from im2colnet.datasets.loader import Loader

    make: Callable[..., Loader] = partial(
        Loader, data, batch_size, seed, drop_last=drop_last, transform=transforms, part=part
    )
    loader = make()
    images, labels = loader.example
    shapes = net.graph.for_loss().output_shapes(images.shape) if labels.ndim > data.labels.ndim else []
    if len(shapes) == 1 and len(shapes[0]) == 2 and shapes[0][1] > labels.shape[1]:
        return make(classes=shapes[0][1])
    return loader


def check_fit(net: Network, loss: Loss, data: Dataset, loader: Loader | Stream | None = None) -> None:
    """Raise before the first step if a network or its loss cannot take these images or labels.

    If the loader has transforms, the transformed images are checked.
    """
    images = data.images[:1] if loader is None else loader.example[0]
    net.check_images(images)
    loss.targets(data.labels, _output_shape(net, loss, (len(data), *images.shape[1:])))
    if loader is not None and loader.mixing is not None:
        images, labels = loader.example
        try:
            loss.targets(labels, _output_shape(net, loss, images.shape))
        except (ShapeError, DTypeError) as error:
            raise type(error)(
                f"{type(loader.mixing).__name__} makes shares of several classes in each label, which {loss!r} does not"
                f" take ({error}): ic.CrossEntropyLoss() does"
            ) from error


def _output_shape(net: Network, loss: Loss, images: Shape) -> Any:
    return output_shape_for(loss, net.graph.for_loss().output_shapes(images))


def check_batches(net: Network, data: Dataset, loader: Loader | Stream) -> None:
    """Raise before the first step if a network cannot be trained on the last batch of an epoch."""

    def check(n: int) -> None:
        shapes = net.graph.shapes(internal_shape(loader.example[0].shape[1:], n))
        for node in settled(net.graph).nodes:
            with locate(node):
                node.layer.check_batch(node.input_shape(shapes))

    count, size = len(data), loader.batch_size
    last = size if loader.drop_last else count % size or size
    try:
        check(min(size, count))
    except ShapeError as error:
        raise ShapeError(f"a batch of {counted(min(size, count), 'image')} is too small: {error}") from error
    try:
        check(last)
    except ShapeError as error:
        fits = (n for n in (*range(size - 1, 1, -1), *range(size + 1, count + 1)) if count % n != 1)
        other = f", or another batch size, such as {n}" if last == 1 and (n := next(fits, 0)) else ""
        raise ShapeError(
            f"the last batch of an epoch, of {counted(last, 'image')}, is too small: {count} images make"
            f" {counted(count // size, 'batch', 'es')} of {size}, and {last} more. Give"
            f" drop_last=True{other}. ({error})"
        ) from error


def know_inputs(
    net: Network,
    dtype: str,
    train: Dataset,
    loader: Loader | Stream,
    validation: Dataset | None,
    normalized: bool = False,
) -> None:
    """Store the kind of a network's training images, or compare it with the kind that was stored before.

    ``normalized`` says whether the network normalizes its images, so that their scale does not matter.
    """
    from im2colnet.datasets.inputs import check_training
    from im2colnet.datasets.loader import Loader

    if net.inputs is None:
        net.inputs = measure("train", train, dtype)
        if not normalized:
            net.inputs.warn_unscaled()
    else:
        compare(net, dtype, "train", train)
        if not net.inputs.classes:  # the network has a new last layer
            net.inputs = replace(net.inputs, classes=tuple(train.classes))
    if isinstance(loader, Loader):  # of batches only the first one is known, which need not have all classes
        check_training(train)
    if validation is not None:
        compare(net, dtype, "validation", validation)


def statistics_of(train: Dataset, loader: Loader | Stream) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return mean and standard deviation of each channel of a data set's images.

    Raises
    ------
    ShapeError
        If the training data are batches, so that only the first batch is known.
    """
    from im2colnet.datasets.inputs import channel_statistics
    from im2colnet.datasets.loader import Loader

    if not isinstance(loader, Loader):
        raise ShapeError(
            "normalize=True measures the images of a data set, and cannot measure batches: assign net.normalization ="
            " (mean of each channel, standard deviation of each channel)"
        )
    return channel_statistics(train)


def compare(net: Network, dtype: str, what: str, data: Dataset) -> None:
    """Compare a data set with the images that a network was trained on, if these are known."""
    if net.inputs is not None:
        net.inputs.compare(what, measure(what, data, dtype))
        net.inputs.compare_classes(what, data.classes)


def named_as_trained(net: Network, data: Dataset) -> Dataset:
    """Return a data set with the class names of the network's training data, if its own classes are numbers."""
    from im2colnet.datasets.inputs import named

    if net.inputs is None or named(data.classes):
        return data
    known = net.inputs.classes[: len(data.classes)]
    return replace(data, classes=known + data.classes[len(known) :])


#: the measurements of images that are read on demand: the validation of each epoch compares them
_measured: WeakKeyDictionary[Dataset, Inputs] = WeakKeyDictionary()


def measure(what: str, data: Dataset, dtype: str) -> Inputs:
    """Return the kind and range of a data set's images, which must be finite in ``dtype`` too."""
    from im2colnet.datasets.inputs import Inputs, first_beyond

    try:
        found = _measured.get(data) or Inputs.of(data)
        if isinstance(data.images, LazyArray):
            _measured[data] = found
    except NonFiniteError as error:
        raise NonFiniteError(f"{what}: {error}") from error
    limit = LARGEST.get(dtype, math.inf)
    if data.images.dtype.kind == "f" and max(-found.low, found.high) > limit:
        raise NonFiniteError(
            f"{what}: image {first_beyond(data.images, limit)} of the data holds numbers too large for {dtype}"
        )
    return found


def counted(number: int, thing: str, plural: str = "s") -> str:
    """Return a number of things in words: ``counted(2, "batch", "es")`` is "2 batches"."""
    return f"{number} {thing}{plural if number != 1 else ''}"
