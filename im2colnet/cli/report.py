"""The result of a command: facts for programs, and a text with these facts for people."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple


class Report(NamedTuple):
    """The result of a command.

    Parameters
    ----------
    facts : dict
        The object that ``--json`` prints.
    describe : callable
        ``describe(facts, width)`` makes the text. ``width`` is the number of columns of the terminal, or None without a
        terminal; then lines may have any length.
    code : int
        The exit code.
    error : str
        The reason of a failure. It is printed after the report, and the exit code is 1.
    """

    facts: dict[str, Any]
    describe: Callable[[dict[str, Any], int | None], str]
    code: int = 0
    error: str = ""

    def text(self, width: int | None = None) -> str:
        """Return the facts as a text for a terminal of ``width`` columns."""
        return self.describe(self.facts, width)
