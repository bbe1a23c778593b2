"""Text for a terminal: amounts, counts, tables."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any


def amount(value: float, base: int) -> str:
    """Return a number with a prefix: ``amount(1536, 1024)`` is "1.5 Ki"."""
    prefixes = ("", "k", "M", "G", "T") if base == 1000 else ("", "Ki", "Mi", "Gi", "Ti")
    power = 0
    while value >= base - 0.5 and power < len(prefixes) - 1:
        value, power = value / base, power + 1
    digits = f"{value:.0f}" if power == 0 or 999.5 <= value < base else f"{value:.3g}"  # not 1e+03
    return f"{digits} {prefixes[power]}"


def printable(text: str, keep: str = "") -> str:
    """Return a text in which control characters, and others that a terminal would not show, are escaped as Python does.

    Names of files and classes are data: a line break or a color code in them is shown as text and has no effect.
    Characters in ``keep`` are not escaped.
    """
    return "".join(c if c.isprintable() or c in keep else ascii(c)[1:-1] for c in text)


def no_formula(text: str) -> str:
    """Return a cell of a CSV file that a spreadsheet does not run as a formula: ``'`` goes before =, +, -, @, tab.

    OWASP recommends this ("CSV injection"); names of files and classes may come from untrusted sources.
    """
    return f"'{text}" if text.startswith(("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")) else text


def csv_text(lines: Iterable[Iterable[Any]]) -> str:
    """Return lines of a CSV file; cells that are names go through :func:`no_formula` first."""
    import csv
    from types import SimpleNamespace

    written: list[str] = []  # line by line, with \r\n at the end, or names that hold \r would not be quoted
    csv.writer(SimpleNamespace(write=written.append)).writerows(lines)
    return "".join(line[:-2] + "\n" for line in written)


def count(number: int, thing: str) -> str:
    """Return a number of things: ``count(1, "image")`` is "1 image", ``count(2000, "image")`` is "2,000 images"."""
    return f"{number:,} {thing}{'s' * (number != 1)}"


def table(
    rows: Sequence[Sequence[str]], right: Sequence[int] = (), rule_before_last: bool = False, width: int | None = None
) -> str:
    """Return rows of text as aligned columns with a rule under the first.

    If a terminal of ``width`` columns is too narrow, the last columns of a row go to separate lines below it.
    """
    rows = [[printable(cell) for cell in row] for row in rows]
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines: list[list[str]] = []  # each row's
    for row in rows:
        cells = [c.rjust(w) if i in right else c.ljust(w) for i, (c, w) in enumerate(zip(row, widths, strict=True))]
        lines.append([line.rstrip() for line in fold(cells, width).split("\n")])
    rule = ["─" * max(len(line) for row in lines for line in row)]
    lines.insert(1, rule)
    if rule_before_last:
        lines.insert(-1, rule)
    return "\n".join(line for i, row in enumerate(lines) for j, line in enumerate(row) if line or not j)


def fields(rows: Mapping[str, str], width: int | None = None, whole: Collection[str] = ()) -> str:
    """Return names and values as lines, folded for a terminal of ``width`` columns.

    Values of the names in ``whole`` are not folded, so that users can copy them.
    """
    import textwrap

    lines = []
    for name, value in rows.items():
        line = f"{name:9}{printable(value)}"
        if width and name not in whole:
            line = textwrap.fill(line, width, subsequent_indent=" " * 9, break_long_words=False, break_on_hyphens=False)
        lines.append(line)
    return "\n".join(lines)


def duration(seconds: float) -> str:
    """Return a duration as text: "7.4 s", "3 min 05 s" or "2 h 10 min"."""
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02} min"


def shortened(text: str, most: int) -> str:
    """Return a text of at most ``most`` characters, which ends with "..." if it has been cut."""
    return text if len(text) <= most else f"{text[: most - 3]}..."


def quoted(name: str, most: int = 60) -> str:
    """Return a name from a file in quotes, escaped and shortened: it may contain anything, and have any length."""
    return repr(shortened(name, most))


def class_names(known: Sequence[str], classes: int) -> tuple[str, ...]:
    """Return a name for each class: the known names of the first classes, and the numbers of the other classes."""
    return (*known, *map(str, range(len(known), classes)))


def size_text(sizes: Sequence[int]) -> str:
    """Return sizes joined by a multiplication sign: (1, 8, 8) is "1×8×8"."""
    return "×".join(map(str, sizes))


def shape_text(shape: Sequence[int]) -> str:
    """Return a shape as Python writes a tuple."""
    return "(" + ", ".join(map(str, shape)) + ("," if len(shape) == 1 else "") + ")"


def fold(parts: Sequence[str], width: int | None, indent: str = "    ") -> str:
    """Join parts by two spaces, on as many lines as a terminal of ``width`` columns needs; no part is broken."""
    lines = [""]
    for part in parts:
        line = f"{lines[-1]}  {part}" if lines[-1].strip() else f"{lines[-1]}{part}"
        if width is not None and len(line) > width and lines[-1].strip():
            lines.append(f"{indent}{part}")
        else:
            lines[-1] = line
    return "\n".join(lines)
