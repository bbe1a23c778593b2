"""Lines of checks, each written as soon as it is known: with colors on a terminal where rich is installed."""

from __future__ import annotations

import textwrap
from typing import TextIO

from im2colnet.show.progress import LiveDisplay, kind_for
from im2colnet.show.terminal import columns
from im2colnet.text import printable

INDENT = " " * 8  #: of what is below the first word of a line


class CheckLines:
    """Writes a line for each check.

    Parameters
    ----------
    stream : text file
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream, self._width, self._console = stream, columns(stream), None
        if kind_for(stream) is LiveDisplay:
            from rich.console import Console

            self._console = Console(file=stream, highlight=False)

    def write(self, ok: bool, word: str, text: str, more: str = "") -> None:
        """Write a line that begins with a word, green if ``ok``, else red; ``more`` follows on the lines below."""
        first, rest = f"{word:{len(INDENT)}}", printable(text)
        if self._console is None:
            print(first + rest, file=self._stream, flush=True)
        else:
            from rich.text import Text

            self._console.print(Text.assemble((first, "green" if ok else "bold red"), rest), soft_wrap=True)
        if more:
            print(folded(printable(more), self._width), file=self._stream, flush=True)


def folded(text: str, width: int | None) -> str:
    """Return a text in lines for a terminal of ``width`` columns, indented; without a terminal in one line."""
    if width is None:
        return INDENT + text
    return textwrap.fill(text, width, initial_indent=INDENT, subsequent_indent=INDENT, break_on_hyphens=False)
