"""Progress of a training: one line for each epoch, and on a terminal a live bar below them."""

from __future__ import annotations

import importlib.util
import math
import os
import sys
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TextIO, cast

from im2colnet.errors import ShapeError
from im2colnet.show.display import VALIDATION, Progress, form, metrics
from im2colnet.show.terminal import Output, columns
from im2colnet.text import duration, fold

if TYPE_CHECKING:
    from rich.progress import Progress as Bar

INTERVAL = 0.1  #: seconds between two changes of the bar, at least
LOG_INTERVAL = 30.0  #: seconds between two lines of a log, at most about


def progress_display(progress: bool | str, epochs: int) -> PlainDisplay | None:
    """Return what shows the progress of a training on stderr, or None.

    Parameters
    ----------
    progress : bool or "log"
        Whether to show it; "log" chooses plain lines wherever stderr leads to.
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
    return PlainDisplay(stream, epochs) if progress == "log" else make_display(stream, epochs)


def make_display(stream: TextIO, epochs: int) -> PlainDisplay:
    """Return the display that suits ``stream``: a live one on a terminal where rich is installed, else plain lines.

    Parameters
    ----------
    stream : text file
    epochs : int
        How many epochs the training has in all.

    Returns
    -------
    PlainDisplay
        A context manager to pass to :meth:`im2colnet.Trainer.fit` within its ``with`` block.
    """
    live = stream.isatty() and os.environ.get("TERM") != "dumb" and importlib.util.find_spec("rich")
    return (LiveDisplay if live else PlainDisplay)(stream, epochs)


class PlainDisplay:
    """Writes a line for each epoch, and one after each ``interval`` within an epoch.

    Parameters
    ----------
    stream : text file
    epochs : int
        How many epochs the training has in all.
    interval : float
        Seconds after which a line is written within an epoch.
    """

    interval = LOG_INTERVAL
    _written = math.inf  #: the time of the last line

    def __init__(self, stream: TextIO, epochs: int, interval: float = LOG_INTERVAL) -> None:
        self.stream, self.epochs, self.interval = stream, epochs, interval

    def __enter__(self) -> PlainDisplay:
        return self

    def __exit__(self, *error: object) -> None:
        self.end()

    def start(self, trainer: Any) -> None:
        """When the training begins."""
        self._written = time.monotonic()

    def end(self) -> None:
        """When the training ends: do nothing."""

    def say(self, text: str) -> None:
        """Show a text of :meth:`im2colnet.Trainer.fit` about how it goes on."""
        print(text, file=self.stream, flush=True)

    def step(self, progress: Progress) -> None:
        """After each step: write a line, if the last one is old enough."""
        if time.monotonic() - self._written >= self.interval:
            width = len(str(progress.epochs))
            parts = [f"epoch {progress.epoch:{width}}/{progress.epochs}", f"batch {progress.batch}/{progress.batches}"]
            parts += [f"loss {progress.loss:.4f}"]
            parts += [f"{name.replace('_', ' ')} {value:{form(name)}}" for name, value in progress.metrics.items()]
            parts += [f"{progress.images_per_second:,.0f} images/s", f"{duration(progress.seconds_left)} left"]
            self._write(parts)

    def epoch(self, record: Mapping[str, float]) -> None:
        """After each epoch: write its line."""
        self._write(self.parts(record))

    def _write(self, parts: list[str]) -> None:
        print(fold(parts, columns(self.stream)), file=self.stream, flush=True)
        self._written = time.monotonic()

    def parts(self, record: Mapping[str, float]) -> list[str]:
        """Return the parts of an epoch's line: each quantity with its unit."""
        width = len(str(self.epochs))
        parts = [f"epoch {record['epoch']:{width}}/{self.epochs}"]
        for prefix, name in (("", ""), (VALIDATION, "test ")):
            for metric in ("loss", *metrics(record)):
                if prefix + metric in record:
                    width = 7 if form(metric).endswith("%") else 6
                    parts.append(f"{name}{metric.replace('_', ' ')} {record[prefix + metric]:{width}{form(metric)}}")
        parts += [f"{record['images_per_second']:,.0f} images/s", duration(record["seconds"])]
        return parts


class LiveDisplay(PlainDisplay):
    """Keeps a bar for the whole training below the lines, changed at most ten times a second."""

    def __init__(self, stream: TextIO, epochs: int) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, TextColumn
        from rich.progress import Progress as Bar

        super().__init__(stream, epochs)
        self._bar: Bar = Bar(
            TextColumn("epoch {task.fields[epoch]}/{task.fields[epochs]}"),
            BarColumn(bar_width=20, complete_style="cyan"),
            TextColumn("loss {task.fields[loss]:.4f}{task.fields[metrics]}  {task.fields[speed]:,.0f}/s"),
            TextColumn("{task.fields[left]} left"),
            console=Console(file=stream, highlight=False),
            auto_refresh=False,
            transient=True,
        )
        self._task: Any = None
        self._shown = -INTERVAL
        self._headed = False

    def end(self) -> None:
        """When the training ends: remove the bar."""
        self._bar.stop()

    def say(self, text: str) -> None:
        """Show a text above the bar."""
        self._bar.console.print(text, soft_wrap=True, markup=False)

    def step(self, progress: Progress) -> None:
        """After each step: move the bar, if it has been still for long enough."""
        now = time.monotonic()
        if now - self._shown < INTERVAL:
            return
        self._shown = now
        state: dict[str, Any] = {
            "total": progress.epochs * progress.batches,
            "completed": (progress.epoch - 1) * progress.batches + progress.batch,
            "epoch": progress.epoch,
            "epochs": progress.epochs,
            "loss": progress.loss,
            "metrics": "".join(f"  {value:{form(name, 1)}}" for name, value in progress.metrics.items()),
            "speed": progress.images_per_second,
            "left": duration(progress.seconds_left),
        }
        if self._task is None:
            self._task = self._bar.add_task("", **state)
            self._bar.start()
        else:
            self._bar.update(self._task, **state)
        self._bar.refresh()

    def epoch(self, record: Mapping[str, float]) -> None:
        """After each epoch: write its row above the bar, and above the first row the header."""
        cells = {
            f"{'epoch':>{2 * len(str(self.epochs)) + 3}}": f"{record['epoch']}/{self.epochs}",
        }
        for prefix, name in (("", ""), (VALIDATION, "test ")):
            for metric in ("loss", *metrics(record)):
                if prefix + metric in record:
                    title = f"{name}{metric.replace('_', ' ')}"
                    cells |= {f"{title:>8}": f"{record[prefix + metric]:{form(metric)}}"}
        cells |= {"images/s": f"{record['images_per_second']:,.0f}", "      time": duration(record["seconds"])}
        width = columns(self.stream)
        if not self._headed:
            self._bar.console.print(fold([*cells], width), style="bold", soft_wrap=True)
            self._headed = True
        row = [f"{cell:>{len(name)}}" for name, cell in cells.items()]
        self._bar.console.print(fold(row, width), soft_wrap=True)


__all__ = ["LiveDisplay", "PlainDisplay", "duration", "make_display"]
