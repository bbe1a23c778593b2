"""The blocks of code of a page, and which of them are marked as not run: what the build and the tests read pages with.

A mark is the comment ``<!-- not run: REASON -->`` before a block. In a block of commands a single line may be marked by
``# not run: REASON`` at its end.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
FENCE = re.compile(r"^(?P<indent> *)(?P<fence>`{3,}|~{3,}|:{3,}) *(?P<info>[^`]*)$")
MARK = re.compile(r"<!-- not run: (?P<reason>(?:(?!-->).)*?) -->\s*\Z", re.DOTALL)
LINE_MARK = re.compile(r"\s#(?:[^#]*[;,])?\s*not run: (?P<reason>.*)$")
#: the languages by which pages name commands
COMMANDS = {"console", "sh", "bash", "shell"}
#: what a notebook page calls a program
CELL = "{code-cell}"
#: blocks whose content is no Markdown
LITERAL = {CELL, "{eval-rst}", "{code-block}", "{math}", "{raw}", "{mermaid}", "{parsed-literal}", "{toctree}"}


@dataclass(frozen=True)
class Block:
    """A block of a page: its language, its text, the number of its first line, and the reason why it is not run."""

    language: str
    text: str
    line: int
    reason: str | None = None


def blocks(text: str, first: int = 1) -> Iterator[Block]:
    """Go through the fenced blocks of a page, also of those within a box such as ``{note}``."""
    lines, start = text.splitlines(), 0
    while start < len(lines):
        opened = FENCE.match(lines[start])
        if not opened:
            start += 1
            continue
        fence, indent = opened["fence"], len(opened["indent"])
        end = start + 1
        while end < len(lines) and not (lines[end].strip().startswith(fence) and not lines[end].strip().strip(fence[0])):
            end += 1
        content = [line[min(indent, len(line) - len(line.lstrip())) :] for line in lines[start + 1 : end]]
        language = (opened["info"].split() or [""])[0]
        if language.startswith("{") and language not in LITERAL:
            yield from blocks("\n".join(content), first + start + 1)
        else:
            before = MARK.search("\n".join(lines[:start]))
            yield Block(language, "\n".join(content) + "\n", first + start + 1, before and " ".join(before["reason"].split()))
        start = end + 1


def page_blocks(page: Path) -> list[Block]:
    """Return the blocks of a page."""
    return [*blocks(page.read_text(encoding="utf-8"))]


def cell_source(text: str) -> str:
    """Return the program of a code cell, without the options at its head."""
    if text.startswith("---\n"):
        text = text[4:].partition("\n---\n")[2]
    return re.sub(r"\A(?::[\w-]+:.*\n)+\n?", "", text)


def programs(page: Path, *, cells: bool = False) -> list[Block]:
    """Return the programs of a page that are to run: its ``python`` blocks, or the cells of a notebook page."""
    wanted = [block for block in page_blocks(page) if block.language in ({CELL} if cells else {"python"})]
    return [replace(block, text=cell_source(block.text)) for block in wanted if block.reason is None]


def run_programs(sources: Iterable[str], page: str) -> dict[str, Any]:
    """Run the programs of a page one after the other, in one namespace, and return it."""
    names: dict[str, Any] = {"__name__": "documentation"}
    for source in sources:
        exec(compile(source, f"<{page}>", "exec"), names)
    return names


def statements(block: Block) -> list[Block]:
    """Return the commands of a block, one each: a line, or several that a backslash or the shell's grammar joins."""
    found, held, begin = [], "", block.line
    for number, line in enumerate(block.text.splitlines(), block.line):
        if not held and (not line.strip() or line.lstrip().startswith("#")):
            continue
        begin = begin if held else number
        held += line + "\n"
        if line.endswith("\\") or opens(held):
            continue
        mark = LINE_MARK.search(line)
        text = LINE_MARK.sub("", held.rstrip("\n")) if mark else held.rstrip("\n")
        found.append(Block(block.language, text, begin, block.reason or (mark and mark["reason"])))
        held = ""
    if held:
        raise ValueError(f"line {begin}: a command has no end: {held}")
    return found


def opens(text: str) -> bool:
    """Tell whether a command goes on in the next line: a loop, a condition, a document, or a quotation."""
    words = re.findall(r"(?:^|[;&|(]|\b(?:do|then|else)\b)\s*(for|while|until|if|case|done|fi|esac)\b", text, re.MULTILINE)
    depth = sum(-1 if word in {"done", "fi", "esac"} else 1 for word in words)
    document = re.search(r"<<-?\s*['\"]?(\w+)['\"]?", text)
    unended = document is not None and not re.search(rf"^\s*{document[1]}$", text, re.MULTILINE)
    code = re.sub(r"(?:^|\s)#.*$", "", text, flags=re.MULTILINE)
    quotes = re.sub(r"'[^']*'|\"[^\"]*\"", "", code)
    return depth > 0 or unended or "'" in quotes or '"' in quotes


def commands(page: Path) -> list[Block]:
    """Return the commands of a page, with the reason why one is not run."""
    return [command for block in page_blocks(page) if block.language in COMMANDS for command in statements(block)]


def not_run(page: Path) -> list[Block]:
    """Return the marked blocks of a page, and the marked commands of blocks that are run otherwise."""
    marked = []
    for block in page_blocks(page):
        if block.reason:
            marked.append(replace(block, text=cell_source(block.text) if block.language == CELL else block.text))
        elif block.language in COMMANDS:
            marked += [command for command in statements(block) if command.reason]
    return marked


def pages() -> list[Path]:
    """Return the pages with programs and commands: those of the site, README and CONTRIBUTING."""
    built = ROOT / "docs" / "_build"
    found = (page for page in (ROOT / "docs").rglob("*.md") if not page.is_relative_to(built))
    return [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(found)]
