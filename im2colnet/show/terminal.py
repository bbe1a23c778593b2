"""The output streams of the commands: any encoding works, and writing to a closed stdout raises OutputError."""

from __future__ import annotations

import codecs
import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout, suppress
from typing import Any, TextIO, cast

#: replacements of characters that the library writes, for encodings that lack them
PLAIN = {
    "×": "x",
    "–": "-",
    "—": "-",
    "…": "...",
    "─": "-",
    "━": "-",
    "·": "*",
    "→": "->",
    "²": "^2",
    "°": " deg",
    "≤": "<=",
    "≥": ">=",
    "µ": "u",
    "‘": "'",
    "’": "'",
    "“": '"',
    "”": '"',
}
MIN_COLUMNS = 20  #: a terminal that claims to have fewer columns does not know its width


class OutputError(Exception):
    """Stdout cannot be written to."""


def _plain(error: UnicodeError) -> tuple[str, int]:
    assert isinstance(error, UnicodeEncodeError)
    missing = error.object[error.start : error.end]
    return "".join(PLAIN.get(c) or c.encode("ascii", "backslashreplace").decode() for c in missing), error.end


codecs.register_error("im2colnet.plain", _plain)


class Output:
    """A text stream in front of stdout or stderr.

    Parameters
    ----------
    stream : text file
    needed : bool
        Whether to raise OutputError if the stream cannot be written. An error on stderr is ignored.
    """

    def __init__(self, stream: TextIO, needed: bool) -> None:
        self.stream, self.needed = stream, needed

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)

    def write(self, text: str) -> int:
        if encoding := getattr(self.stream, "encoding", None):
            text = text.encode(encoding, "im2colnet.plain").decode(encoding)
        with self._writing():
            self.stream.write(text)
        return len(text)

    def flush(self) -> None:
        with self._writing():
            self.stream.flush()

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except (OSError, ValueError) as error:  # ValueError: the stream has been closed
            if self.needed:
                raise OutputError(getattr(error, "strerror", None) or str(error)) from error


@contextmanager
def standard_streams() -> Iterator[None]:
    """Within the block ``sys.stdout`` and ``sys.stderr`` are an :class:`Output`."""
    # Python has no stdout or stderr where it was closed, and the next file that is opened may take its place
    with (
        open(os.devnull, "w") as nowhere,
        redirect_stderr(cast(TextIO, Output(sys.stderr or nowhere, False))),
        redirect_stdout(cast(TextIO, Output(sys.stdout or nowhere, True))),
    ):
        yield


def discard() -> None:
    """Discard the buffer of stdout; otherwise Python fails to write it again when it ends."""
    with suppress(OSError, ValueError, AttributeError):  # stdout is not a file
        number = sys.stdout.fileno()
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, number)
        os.close(nowhere)


def columns(stream: TextIO) -> int | None:
    """Return how many columns a terminal has, or None if the stream is not one: then lines may have any length."""
    return max(MIN_COLUMNS, shutil.get_terminal_size().columns) if stream.isatty() else None
