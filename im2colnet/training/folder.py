"""The folder that a training writes to: its checkpoint, and a file of metrics."""

from __future__ import annotations

import os
from collections.abc import Container

from im2colnet.errors import CheckpointError
from im2colnet.files import replace_file
from im2colnet.training.history import History

CHECKPOINT = "checkpoint.safetensors"
BEST = "best.safetensors"
METRICS = "metrics.jsonl"


def make_folder(directory: str | os.PathLike[str]) -> str:
    """Make the folder, unless it is there; return its path."""
    try:
        os.makedirs(directory, exist_ok=True)
    except OSError as error:
        raise CheckpointError(f"cannot make the folder {directory}: {error.strerror or error}") from error
    return os.fspath(directory)


def check_free(folder: str, marks: Container[str | None]) -> str:
    """Return the path of a folder's checkpoint, or raise a CheckpointError if it must not be overwritten.

    ``marks`` are the checksums of the checkpoints that the trainer has written or was loaded from.
    """
    from im2colnet.training.checkpoint import mark_of

    path = os.path.join(folder, CHECKPOINT)
    if os.path.exists(path) and mark_of(path) not in marks:
        raise CheckpointError(
            f"{path} is not overwritten: it is not a checkpoint that this trainer has written or was loaded from."
            f" Give another directory, or continue that training with Trainer.load({path!r}), or move it away."
            " What this trainer has done is not lost: trainer.save(path) writes it elsewhere"
        )
    return path


def write_metrics(folder: str, history: History) -> None:
    """Write a line of JSON for each epoch."""
    import json

    lines = "".join(json.dumps(record) + "\n" for record in history)
    replace_file(os.path.join(folder, METRICS), lines.encode())
