"""Progress of a training: one line for each epoch, and on a terminal a live bar below them."""

from __future__ import annotations

import importlib.util
import math
import os
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TextIO

from im2colnet.show.display import Progress, cells, form
from im2colnet.show.terminal import columns
from im2colnet.text import duration, fold

if TYPE_CHECKING:
    from rich.progress import Progress as Bar

INTERVAL = 0.1  #: seconds between two changes of the bar, at least
BAR = 20  #: columns that the bar has, if there is room
LOG_INTERVAL = 30.0  #: seconds between two lines of a log, at most about


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
        A display to pass to :meth:`im2colnet.Trainer.fit`, which ends it; without ``fit`` its ``with`` block does so.
    """
    return kind_for(stream)(stream, epochs)


def kind_for(stream: TextIO) -> type[PlainDisplay]:
    """Return the class of the display that suits a stream."""
    live = stream.isatty() and os.environ.get("TERM") != "dumb" and importlib.util.find_spec("rich")
    return LiveDisplay if live else PlainDisplay


def in_epoch(progress: Progress) -> list[str]:
    """Return the line within an epoch: each quantity with its name, the speed, and the remaining time."""
    measured = cells({"loss": progress.loss, **progress.metrics})
    texts = [f"{title} {text}" for title, text in measured.items()]
    return [*texts, f"{progress.images_per_second:,.0f} images/s", f"{duration(progress.seconds_left)} left"]


class PlainDisplay:
    """Writes a line for each epoch, and one after each ``interval`` within an epoch.

    Parameters
    ----------
    stream : text file
    epochs : int
        How many epochs the training has in all.
    interval : float
        The interval in seconds at which a line is written within an epoch.
    held_out : str
        The prefix of metrics on held-out data.
    """

    # defaults for a derived class whose constructor does not call this one
    interval = LOG_INTERVAL
    _written = math.inf  #: the time of the last line; infinite until a training begins

    def __init__(self, stream: TextIO, epochs: int, interval: float = LOG_INTERVAL, held_out: str = "test") -> None:
        self.stream, self.epochs, self.interval, self.held_out = stream, epochs, interval, held_out

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
        """Show a text of :meth:`im2colnet.Trainer.fit` about the training."""
        print(text, file=self.stream, flush=True)

    def step(self, progress: Progress) -> None:
        """After each step: write a line, if the last one is old enough."""
        if time.monotonic() - self._written >= self.interval:
            width = len(str(progress.epochs))
            parts = [f"epoch {progress.epoch:{width}}/{progress.epochs}", f"batch {progress.batch}/{progress.batches}"]
            self._write([*parts, *in_epoch(progress)])

    def epoch(self, record: Mapping[str, float]) -> None:
        """After each epoch: write its line."""
        self._write(self.parts(record))

    def _write(self, parts: list[str]) -> None:
        print(fold(parts, columns(self.stream)), file=self.stream, flush=True)
        self._written = time.monotonic()

    def parts(self, record: Mapping[str, float]) -> list[str]:
        """Return the parts of an epoch's line: each quantity with its unit."""
        parts = [f"epoch {record['epoch']:{len(str(self.epochs))}}/{self.epochs}"]
        for title, text in cells(record, self.held_out).items():
            parts.append(f"{title} {text:>{7 if text.endswith('%') else 6}}")
        return [*parts, f"{record['images_per_second']:,.0f} images/s", duration(record["seconds"])]


class LiveDisplay(PlainDisplay):
    """Keeps a bar for the whole training below the lines, changed at most ten times a second."""

    def __init__(self, stream: TextIO, epochs: int, interval: float = LOG_INTERVAL, held_out: str = "test") -> None:
        from rich.console import Console
        from rich.progress import BarColumn, TextColumn
        from rich.progress import Progress as Bar

        super().__init__(stream, epochs, interval, held_out)
        text = "{task.fields[%s]}"
        self._gauge = BarColumn(bar_width=BAR, complete_style="cyan")
        self._columns = TextColumn(text % "epoch"), self._gauge, TextColumn(text % "now"), TextColumn(text % "left")
        self._bar: Bar = Bar(
            *self._columns, console=Console(file=stream, highlight=False), auto_refresh=False, transient=True
        )
        self._task: Any = None
        self._shown = -INTERVAL
        self._titles: list[str] = []

    def end(self) -> None:
        """When the training ends: remove the bar."""
        self._bar.stop()

    def say(self, text: str) -> None:
        """Show a text above the bar."""
        self._bar.console.print(text, soft_wrap=True, markup=False)

    def step(self, progress: Progress) -> None:
        """After each step: update the bar, if the last update is old enough."""
        now = time.monotonic()
        if now - self._shown < INTERVAL:
            return
        self._shown = now
        measured = [f"{value:{form(name, 1)}}" for name, value in progress.metrics.items()]
        state: dict[str, Any] = {
            "total": progress.epochs * progress.batches,
            "completed": (progress.epoch - 1) * progress.batches + progress.batch,
            "epoch": f"epoch {progress.epoch}/{progress.epochs}",
            "left": f"{duration(progress.seconds_left)} left",
        }
        room = (columns(self.stream) or 80) - len(state["epoch"]) - len(state["left"]) - 2
        parts = [f"loss {progress.loss:.4f}", *measured, f"{progress.images_per_second:,.0f}/s"]
        if len(parts[0]) > room:
            state["left"], room = "", room + len(state["left"])
        while len("  ".join(parts)) > room and len(parts) > 1:  # a narrow terminal shows less
            parts.pop()
        state["now"] = "  ".join(parts)
        self._gauge.bar_width = min(BAR, room - len(state["now"]) - 1)
        self._bar.columns = tuple(c for c in self._columns if c is not self._gauge or self._gauge.bar_width > 4)
        if self._task is None:
            self._task = self._bar.add_task("", **state)
            self._bar.start()
        else:
            self._bar.update(self._task, **state)
        self._bar.refresh()

    def epoch(self, record: Mapping[str, float]) -> None:
        """After each epoch: write its row above the bar, and a header if the titles have changed."""
        row = {f"{'epoch':>{2 * len(str(self.epochs)) + 3}}": f"{record['epoch']}/{self.epochs}"}
        row |= {f"{title:>8}": text for title, text in cells(record, self.held_out).items()}
        row |= {"images/s": f"{record['images_per_second']:,.0f}", "      time": duration(record["seconds"])}
        if self._titles != [*row]:
            self._titles = [*row]
            self._print(self._titles, style="bold")
        self._print([f"{text:>{len(title)}}" for title, text in row.items()])

    def _print(self, row: list[str], style: str | None = None) -> None:
        self._bar.console.print(fold(row, columns(self.stream)), style=style, soft_wrap=True, markup=False)


__all__ = ["LiveDisplay", "PlainDisplay", "duration", "make_display"]
