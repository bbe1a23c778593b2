"""Progress of a training in a notebook: a bar and the table of the epochs, in one place of the cell's output."""

from __future__ import annotations

import time
from collections.abc import Mapping
from html import escape
from typing import Any, TextIO

from im2colnet.show.display import Progress, cells
from im2colnet.show.progress import LOG_INTERVAL, PlainDisplay, in_epoch
from im2colnet.text import duration

INTERVAL = 0.25  #: seconds between two changes of what is shown, at least
MOST_ROWS = 10  #: how many epochs, the last ones, are shown


class NotebookDisplay(PlainDisplay):
    """Shows a bar and a table of the last epochs as HTML, which replaces the previous HTML."""

    def __init__(self, stream: TextIO, epochs: int, interval: float = LOG_INTERVAL, held_out: str = "val") -> None:
        super().__init__(stream, epochs, interval, held_out)
        self._rows: list[dict[str, str]] = []
        self._texts: list[str] = []
        self._bar, self._shown = "", -INTERVAL
        self._handle: Any = None

    def end(self) -> None:
        """When the training ends: remove the bar."""
        self._bar = ""
        self._show()

    def say(self, text: str) -> None:
        """Show a text below the table."""
        self._texts.append(text)
        self._show()

    def step(self, progress: Progress) -> None:
        """After each step: update the bar, if the last update is old enough."""
        now = time.monotonic()
        if now - self._shown < INTERVAL:
            return
        done = (progress.epoch - 1) * progress.batches + progress.batch
        texts = [f"epoch {progress.epoch}/{progress.epochs}", *in_epoch(progress)]
        bar = f'<progress value="{done}" max="{progress.epochs * progress.batches}"></progress>'
        self._bar = f"<div>{bar} {escape(' · '.join(texts))}</div>"
        self._show()

    def epoch(self, record: Mapping[str, float]) -> None:
        """After each epoch: add its row to the table."""
        row = {"epoch": f"{record['epoch']}/{self.epochs}", **cells(record, self.held_out)}
        row |= {"images/s": f"{record['images_per_second']:,.0f}", "time": duration(record["seconds"])}
        self._rows.append(row)
        self._show()

    def html(self) -> str:
        """Return the HTML that is shown."""
        rows, texts = self._rows[-MOST_ROWS:], "".join(f"<div>{escape(text)}</div>" for text in self._texts)
        return f"{table(rows) if rows else ''}{texts}{self._bar}"

    def _show(self) -> None:
        from IPython.display import HTML, display

        self._shown = time.monotonic()
        if self._handle is None:
            self._handle = display(HTML(self.html()), display_id=True)
        else:
            self._handle.update(HTML(self.html()))


def table(rows: list[dict[str, str]]) -> str:
    """Return rows, dicts of texts by title, as an HTML table; a missing text is an empty cell."""
    titles = list(dict.fromkeys(title for row in rows for title in row))
    head = "".join(f"<th>{escape(title)}</th>" for title in titles)
    body = "".join(
        "<tr>" + "".join(f"<td>{escape(row.get(title, ''))}</td>" for title in titles) + "</tr>" for row in rows
    )
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
