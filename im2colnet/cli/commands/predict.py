"""``im2colnet predict``: classify images from files."""

from __future__ import annotations

import argparse
import csv
import io
import json
import os
import sys
from pathlib import Path
from typing import Any

from im2colnet.cli.arguments import Commands, UsageError, add_checkpoint, add_command, add_data, add_machine
from im2colnet.cli.data import check_folder, load_data
from im2colnet.cli.networks import check_classifier, outputs_of
from im2colnet.cli.report import Report
from im2colnet.cli.run_folder import RunRecord
from im2colnet.datasets.images import read_images
from im2colnet.datasets.inputs import Inputs, named
from im2colnet.errors import DataError, Im2colnetError
from im2colnet.files import replace_file
from im2colnet.host import np
from im2colnet.network import Network
from im2colnet.text import table
from im2colnet.training.trainer import Trainer

ORDER = 30
#: formats of the file that ``--out`` names, by the end of its name
FORMATS = (".csv", ".json", ".npy", ".npz")
TOP = 3  #: classes of an image that are reported, the most probable ones


def register(commands: Commands) -> None:
    """Add the command."""
    parser = add_command(
        commands,
        "predict",
        run,
        "classify images from files",
        """
        im2colnet predict runs/digits-resnet20-1/checkpoint.safetensors seven.png
        im2colnet predict mine.safetensors images.npy --out probabilities.csv
        """,
        "CHECKPOINT FILE...",
    )
    add_checkpoint(parser)
    parser.add_argument(
        "files",
        metavar="FILE",
        nargs="+",
        help="a .npy file of the shape (N, C, H, W), or without N, or without C if that is 1; a .npz file with the"
        " array images; or a picture, which is scaled to the network's size (needs Pillow). uint8 becomes"
        " 0 to 1, other numbers are taken as they are. A file that cannot be read is named, the"
        " others are predicted, and the exit code is 1",
    )
    parser.add_argument(
        "--out",
        type=_format,
        metavar="FILE",
        help="write the probabilities of all classes: .csv"
        " with a row for each image, .json, .npy with the array (images, classes), or .npz with names",
    )
    add_data(parser, "that of the run", "for the names of the classes: ")
    add_machine(parser)


def _format(name: str) -> str:
    if Path(name).suffix.lower() not in FORMATS:
        raise argparse.ArgumentTypeError(f"must end with one of {', '.join(FORMATS)}, got {name!r}")
    return name


def run(args: argparse.Namespace) -> Report:
    """Classify images from files."""
    if args.out and any(
        os.path.exists(file) and os.path.exists(args.out) and os.path.samefile(file, args.out)
        for file in (*args.files, args.checkpoint)
    ):
        raise UsageError(f"--out {args.out} would overwrite a file that is read: give another name")
    trainer = Trainer.load(args.checkpoint)
    net, names = trainer.net, _class_names(args, trainer.net)
    trainer.loss.probabilities(np.zeros((1, len(names)), np.float32))  # raises if they are not its business
    sources, found, failed = [], [], []
    for file in args.files:
        try:
            images = _read(file, net)
            found.append(trainer.loss.probabilities(outputs_of(net, images)))
            sources += [(file, index) for index in range(len(images))]
        except (Im2colnetError, OSError) as error:  # the others are predicted nevertheless
            message = str(error) if file in str(error) else f"{file}: {error}"
            failed.append({"file": file, "error": message})
            if len(failed) == len(args.files):
                raise DataError(message) from error
            print(f"im2colnet: error: {message}", file=sys.stderr)
    probabilities = np.concatenate(found).astype(np.float32)
    rows = [_prediction(*source, names, row.tolist()) for source, row in zip(sources, probabilities, strict=True)]
    facts = {"checkpoint": str(args.checkpoint), "classes": list(names), "predictions": rows, "failed": failed}
    if args.out:
        replace_file(args.out, encode(Path(args.out).suffix.lower(), facts, probabilities))
    return Report(facts, describe, code=1 if failed else 0)


def _class_names(args: argparse.Namespace, net: Network) -> tuple[str, ...]:
    """Return the names of the network's classes: those of ``--data``, of the run, of the training, or else numbers."""
    outputs, record = check_classifier(net), RunRecord.beside(args.checkpoint)
    check_folder(args)
    if args.data:
        names = load_data(args)[0].classes
        if len(names) != outputs:
            raise DataError(f"the data set {args.data} has {len(names)} classes, the network {outputs}")
        return names
    names = tuple(record.classes) if record else ()
    if net.inputs is not None and not named(names):
        names = net.inputs.classes
    return names if len(names) == outputs else tuple(map(str, range(outputs)))


def _read(file: str, net: Network) -> np.ndarray:
    """Return the images of a file, (N, C, H, W), and warn if they are not like those of the training."""
    images = read_images(Path(file), net.check_shape(None))
    if net.inputs is not None:
        net.inputs.compare(file, Inputs.of(images))
    return images


def _prediction(file: str, index: int, names: tuple[str, ...], probabilities: list[float]) -> dict[str, Any]:
    """Return what is reported of one image: the most probable class, and the ones after it."""
    best = sorted(range(len(names)), key=lambda label: -probabilities[label])[:TOP]
    top = [{"class": names[label], "label": label, "probability": probabilities[label]} for label in best]
    return {"file": file, "index": index, **top[0], "top": top}


def encode(suffix: str, facts: dict[str, Any], probabilities: np.ndarray) -> bytes:
    """Return the probabilities of all classes as a file of the format that ``suffix`` stands for."""
    rows, names, content = facts["predictions"], facts["classes"], io.BytesIO()
    columns = {key: [row[key] for row in rows] for key in ("file", "index", "label", "class")}
    if suffix == ".npy":
        np.save(content, probabilities)
    elif suffix == ".npz":
        np.savez(
            content,
            probabilities=probabilities,
            classes=np.array(names),
            labels=np.array(columns["label"]),
            files=np.array(columns["file"]),
            indices=np.array(columns["index"]),
        )
    elif suffix == ".json":
        whole = [row | {"probabilities": found.tolist()} for row, found in zip(rows, probabilities, strict=True)]
        content.write((json.dumps(facts | {"predictions": whole}, indent=2) + "\n").encode())
    else:
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow([*columns, *(f"probability_{name}" for name in names)])
        for cells, found in zip(zip(*columns.values(), strict=True), probabilities, strict=True):
            writer.writerow([*cells, *(f"{p:.9g}" for p in found)])  # 9 digits are a float32, exactly
        content.write(text.getvalue().encode(errors="surrogateescape"))
    return content.getvalue()


def describe(facts: dict[str, Any], width: int | None) -> str:
    """Return the predictions as a table."""
    several = {row["file"] for row in facts["predictions"] if row["index"]}
    cells = [("image", "class", "probability", "then")]
    for row in facts["predictions"]:
        others = (f"{guess['class']} {guess['probability']:.1%}" for guess in row["top"][1:])
        name = f"{row['file']}[{row['index']}]" if row["file"] in several else row["file"]
        cells.append((name, row["class"], f"{row['probability']:.1%}", ", ".join(others)))
    return table(cells, (2,), width=width)
