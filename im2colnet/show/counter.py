"""A counter for work that takes long."""

from __future__ import annotations

import time
from typing import TextIO

from im2colnet.show.terminal import columns

PATIENCE = 2.0  #: seconds of work before anything is shown
INTERVAL = 0.2  #: seconds between two changes of the line on a terminal
LOG_INTERVAL = 30.0  #: seconds between two lines in a file


class Counter:
    """Shows the number of things that are done, such as files read, if the work takes more than two seconds.

    On a terminal it is one changing line, which is removed at the end; a file gets a new line every 30 seconds.

    Parameters
    ----------
    stream : text file, optional
        The output; None shows nothing.
    things : str
        The word for them, such as "files".
    total : int
        Number of things in all.
    """

    def __init__(self, stream: TextIO | None, things: str, total: int) -> None:
        self._stream, self._things, self._total = stream, things, total
        self._terminal = stream is not None and stream.isatty()
        self._begun, self._next, self._width = time.monotonic(), time.monotonic() + PATIENCE, 0

    def __enter__(self) -> Counter:
        return self

    def __exit__(self, *error: object) -> None:
        self._clear()

    def _clear(self) -> None:
        if self._width and self._terminal and self._stream is not None:
            print(f"\r{' ' * self._width}\r", end="", file=self._stream, flush=True)

    def say(self, text: str) -> None:
        """Write a line of its own."""
        self._clear()
        if self._stream is not None:
            print(text, file=self._stream, flush=True)

    def show(self, done: int) -> None:
        """Show the number of things that are done, if the last update is old enough."""
        now = time.monotonic()
        if self._stream is None or now < self._next:
            return
        self._next = now + (INTERVAL if self._terminal else LOG_INTERVAL)
        speed = done / (now - self._begun)
        text = f"{done:,} of {self._total:,} {self._things}, {speed:,.0f} a second"
        if self._terminal:
            text = text[: (columns(self._stream) or 80) - 1]
            self._width = max(self._width, len(text))
            print(f"\r{text:{self._width}}", end="", file=self._stream, flush=True)
        else:
            print(text, file=self._stream, flush=True)
