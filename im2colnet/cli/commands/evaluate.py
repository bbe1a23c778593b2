"""``im2colnet evaluate``: measure a network on the held-out images of a data set."""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterable
from dataclasses import fields
from typing import Any

from im2colnet.cli.arguments import (
    Commands,
    UsageError,
    add_checkpoint,
    add_command,
    add_data,
    add_machine,
    file_ending,
    need_matplotlib,
    text,
)
from im2colnet.cli.data import load_for
from im2colnet.cli.networks import as_trained_on, outputs_of
from im2colnet.cli.ranks import by_first, together
from im2colnet.cli.report import Report
from im2colnet.cli.run_folder import RunRecord, checkpoint_of
from im2colnet.datasets.dataset import Dataset
from im2colnet.files import replace_file
from im2colnet.network import Network
from im2colnet.parallel import get_num_threads
from im2colnet.reports.evaluation import MISTAKES, class_rows, evaluation, mistake_pictures, mistake_text
from im2colnet.show.display import metrics_text
from im2colnet.text import class_names, count, csv_text, no_formula, table
from im2colnet.text import fields as fields_text
from im2colnet.training.folder import make_folder
from im2colnet.training.measuring import Mistake
from im2colnet.training.trainer import Trainer

ORDER = 20


def register(commands: Commands) -> None:
    """Add the command."""
    parser = add_command(
        commands,
        "evaluate",
        run,
        "measure a network on the held-out images of a data set",
        """
        im2colnet evaluate runs/digits-resnet20-1
        im2colnet evaluate runs/mine-resnet20-1 --confusion matrix.png --mistakes mistakes
        im2colnet evaluate mine.safetensors --data mine.npz --json
        """,
        "CHECKPOINT",
        more="\n\nthe table of the classes:"
        "\n  recall     the fraction of the images of a class that are recognized"
        "\n  precision  the fraction of the images predicted as a class that belong to it; 0 if there are none"
        "\n  F1         the harmonic mean of recall and precision"
        "\nthe last row has the sums, and the means over the classes",
        collective=True,
    )
    add_checkpoint(parser)
    group = parser.add_argument_group("pictures of a classifier's mistakes (these need Matplotlib)")
    group.add_argument("--confusion", type=file_ending(".png"), metavar="FILE.png", help="draw the confusion matrix")
    group.add_argument(
        "--mistakes",
        type=text,
        metavar="DIR",
        help=f"write the {MISTAKES} worst mistakes into this folder: mistakes.csv with the files, the classes and the"
        " probabilities, and mistakes.png with the pictures",
    )
    add_data(parser, "the run's data")
    add_machine(parser)


def run(args: argparse.Namespace) -> Report:
    """Measure a checkpoint on the held-out images of a data set."""
    with together():
        if args.confusion or args.mistakes:
            need_matplotlib("--confusion and --mistakes")
        args.checkpoint = checkpoint_of(args.checkpoint)
    trainer = Trainer.load(args.checkpoint)
    with together():
        net, record = trainer.net, RunRecord.beside(args.checkpoint)
        held_out = as_trained_on(net, load_for(args, record, net)[1])
        if (args.confusion or args.mistakes) and not held_out.classes:
            raise UsageError(f"--confusion and --mistakes are for classifiers, but {held_out.name} has targets")
    facts = {
        "checkpoint": args.checkpoint,
        "data": held_out.name,
        "images": len(held_out),
        **evaluation(trainer.loss, held_out, outputs_of(trainer, held_out.images)),
        "backend": net.backend.name,
        "threads": get_num_threads(),
    }
    facts["files"] = by_first(lambda: save_pictures(args, facts, held_out, net))
    return Report(facts, describe)


def save_pictures(args: argparse.Namespace, facts: dict[str, Any], data: Dataset, net: Network) -> list[str]:
    """Draw what the arguments ask for; return the names of the files."""
    files = []
    if args.confusion:
        from im2colnet.show.plots import save_confusion

        matrix = facts["confusion_matrix"]
        save_confusion(matrix, class_names(data.classes, len(matrix)), args.confusion)
        files.append(args.confusion)
    if args.mistakes:
        files += save_mistakes(args.mistakes, facts["mistakes"], data, net)
    return files


def save_mistakes(folder: str, mistakes: list[dict[str, Any]], data: Dataset, net: Network) -> list[str]:
    """Write the worst mistakes into a folder, as a table and, if they are pictures, as a sheet of pictures."""
    from im2colnet.show.plots import save_sheet

    make_folder(folder)
    files = [os.path.join(folder, "mistakes.csv")]
    lines: list[Iterable[Any]] = [[field.name for field in fields(Mistake)]]
    lines += [[no_formula(cell) if isinstance(cell, str) else cell for cell in row.values()] for row in mistakes]
    replace_file(files[0], csv_text(lines).encode(errors="surrogateescape"))
    if pictures := mistake_pictures(mistakes, data, net):
        files.append(os.path.join(folder, "mistakes.png"))
        save_sheet(pictures, [mistake_text(row) for row in mistakes], files[1])
    return files


def describe(facts: dict[str, Any], width: int | None) -> str:
    """Return the results, and a table of the classes if there are any."""
    head = f"{facts['checkpoint']} on {count(facts['images'], 'test image')} of {facts['data']}"
    names = [*facts][[*facts].index("loss") : [*facts].index("classes")]
    parts = [head + "\n" + metrics_text({name: facts[name] for name in names})]
    if facts["classes"]:
        parts.append("\n" + table(class_rows(facts, 2), (1, 2, 3, 4, 5), True, width))
    if facts["files"]:
        parts.append("\n" + fields_text({"files": ", ".join(facts["files"])}, whole=("files",)))
    return "\n".join(parts)
