"""The text of an explanation, for a terminal."""

from __future__ import annotations

from typing import Any


def explanation_text(e: Any, width: int, position: tuple[int, int], channel: int, color: bool) -> str:
    """Return the explanation as a text of at most ``width`` columns."""
    return f"layer {e.layer!r}: {e.title}\n{e.formula}"
