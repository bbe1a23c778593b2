"""What a command found: facts for programs, and a text made of these facts for people."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple


class Report(NamedTuple):
    """What a command found.

    Parameters
    ----------
    facts : dict
        What ``--json`` prints.
    describe : callable
        ``describe(facts, width)`` makes the text; ``width`` is that of the terminal in columns, None where there is no
        terminal and lines may have any length.
    code : int
        The exit code.
    error : str
        Why the work failed, if it did: it is said after the report, and the exit code is 1.
    """

    facts: dict[str, Any]
    describe: Callable[[dict[str, Any], int | None], str]
    code: int = 0
    error: str = ""

    def text(self, width: int | None = None) -> str:
        """Return the facts as a text for a terminal of ``width`` columns."""
        return self.describe(self.facts, width)
