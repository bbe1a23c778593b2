"""``im2colnet report``: one page of HTML that shows a run."""

from __future__ import annotations

import argparse
import os
from dataclasses import asdict
from pathlib import Path
from typing import Any

from im2colnet.cli.arguments import Commands, add_command, add_data, add_machine, add_timed_steps, file_ending
from im2colnet.cli.data import checksum, load_for
from im2colnet.cli.networks import as_trained_on, outputs_of
from im2colnet.cli.report import Report
from im2colnet.cli.run_folder import RunRecord, checkpoint_of
from im2colnet.files import replace_file
from im2colnet.reports.run import report, report_page
from im2colnet.training.folder import BEST, CHECKPOINT
from im2colnet.training.trainer import Trainer

ORDER = 35
PAGE = "report.html"
BATCH_SIZE = 64  #: of a run that does not say its own


def register(commands: Commands) -> None:
    """Add the command."""
    parser = add_command(
        commands,
        "report",
        run,
        "make an HTML page that shows a run: curves, mistakes, layers, and how to repeat the run",
        """
        im2colnet report runs/digits-resnet20-1
        im2colnet report runs/mine-resnet20-1 --out mine.html
        """,
        "RUN",
        more="\n\nthe page is one file without scripts, which any browser shows offline",
    )
    parser.add_argument("run_folder", metavar="RUN", help="the run folder, or a checkpoint")
    parser.add_argument(
        "--out", type=file_ending(".html", ".htm"), metavar="FILE", help=f"the page (default: {PAGE} in the run folder)"
    )
    add_timed_steps(parser, default=3)
    add_data(parser, "the run's data")
    add_machine(parser)


def run(args: argparse.Namespace) -> Report:
    """Make the report of a run."""
    checkpoint = checkpoint_of(args.run_folder)
    trainer, record = Trainer.load(checkpoint), RunRecord.beside(checkpoint)
    net, notes, held_out, outputs = trainer.net, [], None, None
    if record or args.data:
        train, held_out = load_for(args, record, net)
        held_out = as_trained_on(net, held_out)
        outputs = outputs_of(net, held_out.images)
        if record and checksum(train) != record.checksum:
            notes.append(
                f"The network was trained on images or labels that differ from those of {train.name}."
                if args.data
                else f"The training images or labels of {train.name} have changed since the training."
            )
    else:
        notes.append("The data of the training are not known: give --data for results on its test images.")
    known: dict[str, Any] = asdict(record) if record else {"commands": [], "versions": {}}
    about = known | {
        "checkpoint": checkpoint,
        "checksum": f"{record.checksum:08x} (CRC-32)" if record else None,
        "notes": notes,
    }
    history, last = trainer.history, os.path.join(os.path.dirname(checkpoint), CHECKPOINT)
    if os.path.basename(checkpoint) == BEST and os.path.exists(last):
        notes.append(f"The results are for the best checkpoint, {BEST}, from epoch {trainer.epoch}.")
        history = Trainer.load(last).history
    facts = report(trainer, held_out, outputs, record.batch_size if record else BATCH_SIZE, history, about, args.steps)
    out = args.out or os.path.join(os.path.dirname(checkpoint), PAGE)
    page = report_page(Path(os.path.abspath(checkpoint)).parent.name or "run", facts, trainer, held_out)
    replace_file(out, page.encode(errors="replace"))
    return Report({"page": out, "checkpoint": checkpoint, **facts}, describe)


def describe(facts: dict[str, Any], width: int | None) -> str:
    """Return where the page is, and its size."""
    return f"the report of {facts['checkpoint']} is {facts['page']}: open it in a browser"
