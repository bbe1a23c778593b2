"""The data of a training: checks before the first step, and what a network knows of the images that it has seen."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, TypeAlias

from im2colnet.errors import NonFiniteError, ShapeError
from im2colnet.graph.nodes import locate
from im2colnet.layout import internal_shape
from im2colnet.losses import Loss
from im2colnet.losses.base import output_shape_for
from im2colnet.network import Network

if TYPE_CHECKING:
    from im2colnet.datasets.dataset import Dataset
    from im2colnet.datasets.inputs import Inputs
    from im2colnet.datasets.loader import Loader

#: the largest number that an array of this type can hold
LARGEST = {"float16": 65504.0, "float32": 3.4028234e38, "bfloat16": 3.3895313e38}
#: training data: a data set, or a pair (images, labels)
Data: TypeAlias = "Dataset | tuple[Any, Any]"


def as_dataset(name: str, data: Any) -> Dataset:
    """Return a data set; a pair (images, labels) is made into one."""
    from im2colnet.datasets.dataset import Dataset

    if isinstance(data, (tuple, list)) and len(data) == 2:
        return Dataset(data[0], data[1], name)
    if not isinstance(data, Dataset):
        raise ShapeError(f"{name} must be a data set or a pair (images, labels), got {type(data).__name__}")
    return data


def check_fit(net: Network, loss: Loss, data: Dataset) -> None:
    """Raise before the first step if a network or its loss cannot take these images or labels."""
    net.check_images(data.images[:1])
    loss.targets(data.labels, output_shape_for(loss, net.graph.output_shapes(data.images.shape)))


def check_batches(net: Network, data: Dataset, loader: Loader) -> None:
    """Raise before the first step if a network cannot be trained on the last batch of an epoch."""

    def check(n: int) -> None:
        shapes = net.graph.shapes(internal_shape(data.images.shape[1:], n))
        for node in net.graph.nodes:
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


def know_inputs(net: Network, dtype: str, train: Dataset, validation: Dataset | None) -> None:
    """Store the kind of a network's training images, or compare it with the kind that was stored before."""
    from im2colnet.datasets.inputs import check_training

    if net.inputs is None:
        net.inputs = measure("train", train, dtype)
        net.inputs.warn_unscaled()
    else:
        compare(net, dtype, "train", train)
    check_training(train)
    if validation is not None:
        compare(net, dtype, "validation", validation)


def compare(net: Network, dtype: str, what: str, data: Dataset) -> None:
    """Compare a data set with the images that a network was trained on, if these are known."""
    if net.inputs is not None:
        net.inputs.compare(what, measure(what, data, dtype))
        net.inputs.compare_classes(what, data.classes)


def measure(what: str, data: Dataset, dtype: str) -> Inputs:
    """Return kind and range of a data set's images, which must be finite as ``dtype`` too."""
    from im2colnet.datasets.inputs import Inputs, first_beyond

    try:
        found = Inputs.of(data)
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
