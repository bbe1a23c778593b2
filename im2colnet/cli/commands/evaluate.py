"""``im2colnet evaluate``: measure a network on the held-out images of a data set."""

from __future__ import annotations

import argparse
from dataclasses import replace
from typing import Any

from im2colnet.cli.arguments import Commands, add_checkpoint, add_command, add_data, add_machine
from im2colnet.cli.data import load_data
from im2colnet.cli.networks import check_data, outputs_of
from im2colnet.cli.report import Report
from im2colnet.cli.run_folder import RunRecord
from im2colnet.datasets.dataset import Dataset
from im2colnet.datasets.inputs import Inputs, named
from im2colnet.host import np
from im2colnet.network import Network
from im2colnet.parallel import get_num_threads
from im2colnet.show.display import metrics_text
from im2colnet.text import count, table
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
        im2colnet evaluate runs/digits-resnet20-1/checkpoint.safetensors
        im2colnet evaluate mine.safetensors --data mine.npz --json
        """,
        "CHECKPOINT",
    )
    add_checkpoint(parser)
    add_data(parser, "that of the run")
    add_machine(parser)


def run(args: argparse.Namespace) -> Report:
    """Measure a checkpoint on the held-out images of a data set."""
    trainer = Trainer.load(args.checkpoint)
    net, (_, held_out) = trainer.net, load_data(args, RunRecord.beside(args.checkpoint))
    check_data(net, held_out)
    held_out = _as_trained_on(net, held_out)
    outputs, labels, classes = outputs_of(net, held_out.images), held_out.labels, held_out.classes
    facts = {
        "checkpoint": str(args.checkpoint),
        "data": held_out.name,
        "images": len(held_out),
        **trainer.loss.measure(outputs, labels),
        "classes": by_class(labels, outputs.argmax(axis=1), classes, outputs.shape[1]) if classes else [],
        "backend": net.backend.name,
        "threads": get_num_threads(),
    }
    return Report(facts, describe)


def _as_trained_on(net: Network, data: Dataset) -> Dataset:
    """Compare a data set with the one of the training, and give it that one's names of classes if it has none."""
    if net.inputs is None:
        return data
    net.inputs.compare(data.name, Inputs.of(data))
    net.inputs.compare_classes(data.name, data.classes)
    if named(data.classes):
        return data
    known = net.inputs.classes[: len(data.classes)]
    return replace(data, classes=known + data.classes[len(known) :])


def by_class(labels: np.ndarray, guesses: np.ndarray, classes: tuple[str, ...], outputs: int) -> list[dict[str, Any]]:
    """Return for each class how many of its images are recognised, and what the others are most often taken for.

    Parameters
    ----------
    labels, guesses : (N,) int
    classes : tuple of str
        The names of the data set's classes.
    outputs : int
        How many classes the network tells apart, at least as many as the data set has.
    """
    names = classes + tuple(map(str, range(len(classes), outputs)))
    confusion = np.zeros((outputs, outputs), np.int64)  # [label, guess]
    np.add.at(confusion, (labels, guesses), 1)
    rows = []
    for label, name in enumerate(classes):
        counts = confusion[label]
        images, correct = int(counts.sum()), int(counts[label])
        counts[label] = 0
        wrong = int(counts.argmax())
        rows.append(
            {
                "class": name,
                "images": images,
                "correct": correct,
                "accuracy": correct / images if images else None,
                "mistaken_for": names[wrong] if counts[wrong] else None,
                "times": int(counts[wrong]),
            }
        )
    return rows


def describe(facts: dict[str, Any], width: int | None) -> str:
    """Return the results, and a table of the classes if there are any."""
    cells = [("class", "images", "correct", "accuracy", "most often mistaken for")]
    for row in facts["classes"]:
        accuracy = "-" if row["accuracy"] is None else f"{row['accuracy']:.2%}"
        mistaken = f"{row['mistaken_for']} ({row['times']}×)" if row["mistaken_for"] is not None else ""
        cells.append((row["class"], f"{row['images']:,}", f"{row['correct']:,}", accuracy, mistaken))
    head = f"{facts['checkpoint']} on {count(facts['images'], 'test image')} of {facts['data']}"
    names = [*facts][[*facts].index("loss") : [*facts].index("classes")]
    head += "\n" + metrics_text({name: facts[name] for name in names})
    return f"{head}\n\n{table(cells, (1, 2, 3), width=width)}" if facts["classes"] else head
