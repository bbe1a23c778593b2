"""The choice of the display of a training: for a notebook, a terminal, or a log."""

from __future__ import annotations

import sys
from typing import TextIO, cast

from im2colnet.errors import ShapeError
from im2colnet.show.notebook import NotebookDisplay
from im2colnet.show.progress import PlainDisplay, kind_for
from im2colnet.show.terminal import Output


def progress_display(progress: bool | str, epochs: int) -> PlainDisplay | None:
    """Return the display for the progress of a training, in a notebook or on stderr, or None.

    Parameters
    ----------
    progress : bool or "log"
        Whether to show the progress; "log" chooses plain lines, also on a terminal.
    epochs : int
        How many epochs the training has in all.

    Raises
    ------
    ShapeError
        If ``progress`` is anything else.
    """
    if not (progress == "log" or isinstance(progress, bool)):
        raise ShapeError(f'progress must be True, False or "log", got {progress!r}')
    if not progress or sys.stderr is None:
        return None
    stream = cast(TextIO, Output(sys.stderr, False))  # a training does not end because nobody reads what it shows
    if progress is True and in_notebook():
        return NotebookDisplay(stream, epochs, held_out="val")
    kind = PlainDisplay if progress == "log" else kind_for(stream)
    return kind(stream, epochs, held_out="val")


def in_notebook() -> bool:
    """Return whether the program runs in a notebook, which can show pictures and HTML."""
    module = sys.modules.get("IPython")
    shell = module.get_ipython() if module else None
    return any(kind.__name__ == "ZMQInteractiveShell" for kind in type(shell).__mro__)
