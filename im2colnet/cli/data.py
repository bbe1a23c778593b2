"""The data set that arguments, or the record of a run, name."""

from __future__ import annotations

import argparse
import os
import zlib

from im2colnet import datasets
from im2colnet.cli.arguments import UsageError
from im2colnet.cli.run_folder import RECORD, RunRecord
from im2colnet.datasets.dataset import Dataset
from im2colnet.errors import DataError
from im2colnet.host import np


def check_folder(args: argparse.Namespace) -> None:
    """Refuse a ``--folder`` that would not be used, where no run names the data set."""
    if args.folder and not args.data:
        raise UsageError("--folder is where the files of --data are: give that too")


def data_source(args: argparse.Namespace, record: RunRecord | None = None) -> tuple[str, str | None]:
    """Return the data set's name or path, and its folder, as they hold in any working directory."""
    if args.data or record is None:
        data, folder = args.data, args.folder
    else:
        data, folder = record.data, args.folder or record.folder
    is_file = data.lower().endswith(".npz")
    path = os.path.expanduser(data)
    if args.folder and (data == "digits" or (is_file and os.path.isabs(path))):
        where = "is a whole path" if is_file else "comes with the library"
        raise UsageError(
            f"--folder is not used, since the data set {data} {where}: leave it out, or give --data a name"
            " that is looked for in that folder (fashion-mnist, mnist or a file.npz)"
        )
    folder = folder and os.path.expanduser(folder)
    try:
        if is_file:
            return os.path.abspath(os.path.join(folder or "", path)), None
        return data, folder and os.path.abspath(folder)
    except FileNotFoundError as error:
        raise DataError("the working directory has been removed: change to another one") from error


def load_data(args: argparse.Namespace, record: RunRecord | None = None) -> tuple[Dataset, Dataset]:
    """Return the images to train on and the held-out ones."""
    if not args.data and record is None:
        raise UsageError(f"which data set? There is no {RECORD} beside the checkpoint: give --data")
    return datasets.load(*data_source(args, record))


def checksum(data: Dataset) -> int:
    """Return a number that other images or labels would hardly have."""
    images, labels = data.images, data.labels.astype(np.int64) if data.classes else data.labels
    return zlib.crc32(np.ascontiguousarray(labels).data, zlib.crc32(np.ascontiguousarray(images).data))
