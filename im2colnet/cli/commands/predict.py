"""``im2colnet predict``: apply a network to images from files and folders."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator
from itertools import groupby
from math import prod
from pathlib import Path
from typing import Any, NamedTuple

from im2colnet.cli.arguments import (
    Commands,
    UsageError,
    add_checkpoint,
    add_command,
    add_data,
    add_machine,
    file_ending,
)
from im2colnet.cli.data import check_folder, load_data
from im2colnet.cli.networks import output_shape, outputs_of
from im2colnet.cli.predictions import FORMATS, Meaning, Writer, meaning, writer_for
from im2colnet.cli.ranks import together
from im2colnet.cli.report import Report
from im2colnet.cli.run_folder import RunRecord, checkpoint_of
from im2colnet.datasets.folder import walk
from im2colnet.datasets.images import read_images
from im2colnet.datasets.inputs import Inputs, named
from im2colnet.datasets.pictures import in_threads
from im2colnet.errors import DataError, Im2colnetError
from im2colnet.files import replace_file
from im2colnet.host import np
from im2colnet.lazy import LazyArray
from im2colnet.network import Network
from im2colnet.show.counter import Counter
from im2colnet.text import class_names, count, printable, table
from im2colnet.training.trainer import Trainer

ORDER = 30
BATCH = 256  #: images that are predicted at once, at most
NUMBERS = 1 << 23  #: numbers in these images, at most
SHOWN = 20  #: images in the table, where --out has all of them
ARRAYS = (".npy", ".npz")  #: endings of files that hold arrays


class Batch(NamedTuple):
    """Images that are predicted at once, and where each comes from."""

    sources: list[tuple[str, int]]  #: the file, and the image's number in it
    images: np.ndarray
    done: int  #: how many files have been read


def register(commands: Commands) -> None:
    """Add the command."""
    parser = add_command(
        commands,
        "predict",
        run,
        "classify images from files, or folders of files",
        """
        im2colnet predict runs/digits-resnet20-1 seven.png
        im2colnet predict runs/mine-resnet20-1 "new pictures" --out classes.csv
        im2colnet predict mine.safetensors images.npy --out probabilities.npy
        """,
        "CHECKPOINT FILE...",
        more="\n\nthe columns of a .csv file:"
        "\n  file, index               the file, and the image's number in it, from 0"
        "\n  label, class              the most probable class: its number and its name"
        "\n  probability               the probability of that class"
        "\n  probability_NAME          the probability of the class NAME; the columns are sorted by class number"
        "\nthe columns after the index, if the network does not classify:"
        "\n  output_0, ...             the output is a vector: its numbers"
        "\n  share_NAME                the output is a segmentation: the fraction of the pixels of the class NAME"
        "\n  smallest, mean, largest   the output is an image: statistics of its numbers"
        "\nA name that begins with =, +, -, @ or a tab has an apostrophe before it: a spreadsheet would run it as a"
        " formula.",
        collective=True,
    )
    add_checkpoint(parser)
    parser.add_argument(
        "files",
        metavar="FILE",
        nargs="+",
        help="a picture, which is scaled to the network's input size (needs Pillow); a .npy file of the shape"
        " (N, C, H, W), or without N, or without C if that is 1; a .npz file with the array images; or a folder with"
        " such files, also in its subfolders. uint8 numbers are scaled to the range from 0 to 1, other numbers are used"
        " unchanged. A file that cannot be read is named and skipped, and the exit code is 1",
    )
    parser.add_argument(
        "--out",
        type=file_ending(*FORMATS),
        metavar="FILE",
        help="write all predictions: .csv with a row for each image, see below; .jsonl with a JSON object for each"
        " image, or .json with one for all; .npy with the array (images, classes) of probabilities, or else the array"
        " (images, ...) of the network's outputs, which for a segmentation has the class of each pixel; .npz with that"
        " array and the names of the files and classes",
    )
    add_data(parser, "the run's data", " that gives the class names")
    add_machine(parser)


def run(args: argparse.Namespace) -> Report:
    """Apply a network to images from files."""
    with together():
        args.checkpoint = checkpoint_of(args.checkpoint)
        if args.out and any(_same(file, args.out) for file in (*args.files, args.checkpoint)):
            raise UsageError(f"--out {args.out} would overwrite a file that is read: give another name")
    trainer = Trainer.load(args.checkpoint)
    with together():
        net, names = trainer.net, _class_names(args, trainer.net)
        means = meaning(net, trainer.loss, names)
        files = [file for given in args.files for file in _files(given, args.out)]
    failed: list[dict[str, str]] = []
    rows: list[dict[str, Any]] = []
    facts: dict[str, Any] = {
        "checkpoint": args.checkpoint,
        "classes": list(names),
        "images": 0,
        "predictions": rows,
        "failed": failed,
        "out": args.out,
    }
    most = SHOWN if args.out and not args.json else None

    def predict(writer: Writer | None = None) -> None:
        with Counter(sys.stderr, "files", len(files)) as counter:
            batches = _batches(files, net, failed, counter)
            while True:
                with together():
                    batch = next(batches, None)
                if batch is None:
                    break
                numbers = means.numbers(outputs_of(trainer, batch.images))
                found = [
                    {"file": file, "index": index, **row}
                    for (file, index), row in zip(batch.sources, means.rows(numbers), strict=True)
                ]
                facts["images"] += len(found)
                rows.extend(found[: most and most - len(rows)])
                if writer:
                    writer.add(found, numbers)
                counter.show(batch.done)

    def write(file: Any) -> None:
        writer = writer_for(args.out, file, means)
        predict(writer)
        writer.end(facts)

    if args.out and not trainer.rank:
        replace_file(args.out, write)
    else:
        predict()
    return Report(facts, lambda facts, width: describe(facts, width, means), code=1 if failed else 0)


def _same(file: str, other: str) -> bool:
    return os.path.exists(file) and os.path.exists(other) and os.path.samefile(file, other)


def _class_names(args: argparse.Namespace, net: Network) -> tuple[str, ...]:
    """Return the class names: from ``--data``, from the run, from the training, or else numbers.

    A network whose output is not (classes, ...) has no class names.
    """
    classes, record = output_shape(net)[1], RunRecord.beside(args.checkpoint)
    check_folder(args)
    if args.data:
        names = load_data(args)[0].classes
        if len(names) != classes:
            raise DataError(f"the data set {args.data} has {len(names)} classes, the network {classes}")
        return names
    names = tuple(record.classes) if record else ()
    if net.inputs is not None and not named(names):
        names = net.inputs.classes
    return names if len(names) == classes else class_names((), classes)


# ---------------------------------------------------------------------- reading


def _files(given: str, out: str | None) -> list[str]:
    """Return the files that an argument names: itself, or all files in a folder and the folders in it, sorted."""
    if not os.path.isdir(given):
        return [given]
    files = sorted(os.path.join(given, name) for name in walk(given))
    written = next((file for file in files if out and _same(out, file)), None)
    if written is not None:  # of a prediction before this one, unless it may hold images
        if written.lower().endswith(ARRAYS):
            raise UsageError(f"--out {out} would overwrite a file of the folder that is read: give another name")
        files.remove(written)
    if not files:
        raise DataError(f"{given}: there is no file in this folder")
    return files


def _batches(files: list[str], net: Network, failed: list[dict[str, str]], counter: Counter) -> Iterator[Batch]:
    """Yield the images of files in batches; a file that cannot be read is reported and noted in ``failed``.

    Raises
    ------
    DataError
        If no file can be read.
    """
    most = max(1, min(BATCH, NUMBERS // prod(net.check_shape(None))))
    pictures: list[np.ndarray] = []
    sources: list[tuple[str, int]] = []

    def together(done: int) -> Iterator[Batch]:
        if pictures:
            yield Batch([*sources], np.concatenate(pictures), done)
        pictures.clear()
        sources.clear()

    for done, (file, images) in enumerate(_read(files, net)):
        if isinstance(images, Exception):  # the others are predicted nevertheless
            message = str(images) if file in str(images) else f"{file}: {images}"
            failed.append({"file": file, "error": message})
            if len(failed) == len(files):
                raise DataError(message) from images
            counter.say(printable(f"im2colnet: error: {message}"))
        elif len(images) == 1 and images.dtype == np.uint8:
            pictures.append(np.asarray(images))
            sources.append((file, 0))
            if len(pictures) == most:
                yield from together(done + 1)
        else:
            yield from together(done)
            for start in range(0, len(images), most):
                part = images[start : start + most]
                yield Batch([(file, start + i) for i in range(len(part))], part, done)
    yield from together(len(files))


def _read(files: list[str], net: Network) -> Iterator[tuple[str, np.ndarray | LazyArray | Exception]]:
    """Yield the images (N, C, H, W) of each file, or the error; several pictures are decoded at the same time.

    A warning says if images differ in kind from the training images.
    """
    shape = net.check_shape(None)

    def attempt(file: str) -> np.ndarray | LazyArray | Exception:
        try:
            images = read_images(Path(file), shape)
            found = Inputs.of(images)  # raises if a number is not finite
            if net.inputs is not None:
                net.inputs.compare(file, found)
        except (Im2colnetError, OSError) as error:
            return error
        return images

    for arrays, group in groupby(files, lambda file: file.lower().endswith(ARRAYS)):
        several = [*group]
        size = 1 if arrays else BATCH  # arrays may be large
        for start in range(0, len(several), size):
            block = several[start : start + size]
            yield from zip(block, in_threads(attempt, block), strict=True)


# ---------------------------------------------------------------------- what it says


def describe(facts: dict[str, Any], width: int | None, means: Meaning) -> str:
    """Return the predictions as a table: with ``--out`` the first ones, and the name of the file that has all."""
    rows = facts["predictions"][: SHOWN if facts["out"] else None]
    several = {row["file"] for row in rows if row["index"]}
    cells = [("image", *means.titles)]
    for row in rows:
        name = f"{row['file']}[{row['index']}]" if row["file"] in several else row["file"]
        cells.append((name, *means.texts(row)))
    text = table(cells, (2,), width=width)
    if facts["out"]:
        rest = facts["images"] - len(rows)
        text += f"\n{f'... and {rest:,} more; ' if rest else ''}{count(facts['images'], 'image')} in {facts['out']}"
    return text
