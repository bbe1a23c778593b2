"""The data set that the arguments or the record of a run name."""

from __future__ import annotations

import argparse
import os
import zlib
from typing import Any

from im2colnet import datasets
from im2colnet.cli.arguments import UsageError
from im2colnet.cli.run_folder import RECORD, RunRecord
from im2colnet.datasets.dataset import Dataset
from im2colnet.datasets.folder import COLORS, SPLIT
from im2colnet.errors import DataError
from im2colnet.host import np
from im2colnet.lazy import LazyArray
from im2colnet.network import Network

#: options that say how pictures become images
PICTURES = ("size", "color", "split")


def check_folder(args: argparse.Namespace) -> None:
    """Refuse a ``--folder`` that would not be used, if no run names the data set."""
    if args.folder and not args.data:
        raise UsageError("--folder is the folder of the files of --data: give --data too")


def data_source(args: argparse.Namespace, record: RunRecord | None = None) -> tuple[str, str | None]:
    """Return the data set's name or path, and its folder, so that they are valid in any working directory."""
    if args.data or record is None:
        data, folder = args.data, args.folder
    else:
        data, folder = record.data, args.folder or record.folder
    kind = datasets.kind_of(data, folder)
    path = os.path.expanduser(data)
    if args.folder and (data == "digits" or (kind != "name" and os.path.isabs(path))):
        where = "comes with the library" if kind == "name" else "is a whole path"
        raise UsageError(
            f"--folder is not used, since the data set {data} {where}: leave it out, or give --data a name"
            " that is looked for in that folder (fashion-mnist, mnist or a file.npz)"
        )
    folder = folder and os.path.expanduser(folder)
    try:
        if kind != "name":
            return os.path.abspath(os.path.join(folder or "", path)), None
        return data, folder and os.path.abspath(folder)
    except FileNotFoundError as error:
        raise DataError("the working directory has been removed: change to another one") from error


def load_data(args: argparse.Namespace, record: RunRecord | None = None) -> tuple[Dataset, Dataset]:
    """Return the images to train on and the held-out ones."""
    if not args.data and record is None:
        raise UsageError(f"which data set? There is no {RECORD} beside the checkpoint: give --data")
    return datasets.load(*data_source(args, record), **data_options(args, record))


def load_for(args: argparse.Namespace, record: RunRecord | None, net: Network) -> tuple[Dataset, Dataset]:
    """Return the training images of a data set, and the images to measure a network on.

    The network is measured on the held-out images, or on all images of a folder other than the run's folder. Such
    pictures are scaled to the network's input size, and each class has the same label as in the network.
    """
    if args.data and net.inputs is not None and _are_pictures(args):
        source, shape = data_source(args), net.check_shape(None)
        if (record is None or source[0] != record.data) and len(shape) == 3 and shape[0] in COLORS.values():
            given = {"size": shape[1:], "color": _color_of(shape[0]), "classes": net.inputs.classes}
            train, test = datasets.load(*source, **given | data_options(args) | ({} if args.split else {"split": 0}))
            return train, train if test is None else test
    return load_data(args, record)


def _are_pictures(args: argparse.Namespace, record: RunRecord | None = None) -> bool:
    return datasets.kind_of(*data_source(args, record)) in ("folder", "csv")


def _color_of(channels: int) -> str:
    return next(name for name, number in COLORS.items() if number == channels)


def data_options(args: argparse.Namespace, record: RunRecord | None = None) -> dict[str, Any]:
    """Return the options for pictures: from the arguments, else from the run."""
    given = {name: getattr(args, name) for name in PICTURES if getattr(args, name) is not None}
    if not _are_pictures(args, record):
        if given:
            raise UsageError(
                f"--{next(iter(given))} is for pictures in a folder or a .csv file, not for"
                f" {data_source(args, record)[0]}"
            )
        return {}
    if getattr(args, "quiet", False):
        given["progress"] = False
    known = {name: getattr(record, name) for name in PICTURES} if record is not None else {}
    if known.get("size") is not None:
        known["size"] = tuple(known["size"])
    return {name: value for name, value in (known | given).items() if value is not None}


def pictures_record(args: argparse.Namespace, record: RunRecord | None, data: Dataset) -> dict[str, Any]:
    """Return the options for pictures for a run's record."""
    if not _are_pictures(args, record):
        return {}
    channels, *size = data.images.shape[1:]
    split = data_options(args, record).get("split", SPLIT)
    return {"size": [*map(int, size)], "color": _color_of(channels), "split": split}


def checksum(data: Dataset) -> int:
    """Return a checksum of the images and labels."""
    images, labels = data.images, data.labels.astype(np.int64) if data.classes else data.labels
    lazy = isinstance(images, LazyArray)  # which knows it without reading the images
    of_images = images.crc32() if lazy else zlib.crc32(np.ascontiguousarray(images).data)
    return zlib.crc32(np.ascontiguousarray(labels).data, of_images)
