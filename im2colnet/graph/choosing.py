"""The choice of parameters by patterns of their names."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import Any

from im2colnet.errors import ShapeError

#: the largest number of names that an error lists
MOST_NAMES = 8


def chosen(what: str, pattern: Any, names: Sequence[str]) -> list[str]:
    """Return the names that a pattern matches, such as ``"features.*"``; in it ``*`` stands for any text.

    Parameters
    ----------
    what : str
        The description of the pattern in error messages.
    pattern : str
        A pattern of :mod:`fnmatch`, or a name.
    names : sequence of str

    Raises
    ------
    ShapeError
        If the pattern matches no name; the message lists similar names.
    """
    if not isinstance(pattern, str):
        raise ShapeError(f'{what} must be a pattern of names such as "features.*", got {pattern!r}')
    found = [name for name in names if name == pattern or fnmatchcase(name, pattern)]
    if not found:
        raise ShapeError(f"{what} {pattern!r} matches no name; {similar(pattern, names)}")
    return found


def similar(name: str, names: Sequence[str]) -> str:
    """Return a text that lists the names most similar to ``name``, or else the existing names."""
    from difflib import get_close_matches

    near = get_close_matches(name, names, MOST_NAMES, 0.5)
    shown = near or names[:MOST_NAMES]
    more = ", ..." if not near and len(names) > len(shown) else ""
    return f"{'names like it are' if near else 'there are'}: {', '.join(shown) or 'none'}{more}"
