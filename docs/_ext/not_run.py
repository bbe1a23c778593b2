"""``{not-run}`` lists the programs and commands of all pages that are not run, and why."""

from __future__ import annotations

from pathlib import Path

from blocks import COMMANDS, ROOT, Block, not_run, pages
from docutils import nodes
from repository import DOCS, TOP
from sphinx.addnodes import pending_xref
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

#: a first line is cut after so many characters
WIDTH = 60


def first_line(block: Block) -> str:
    """Return what a block is known by: its first command or statement, without a comment."""
    lines = [line for line in block.text.splitlines() if line.strip() and not line.lstrip().startswith(("#", "import "))]
    line = (lines or [block.text.strip()])[0].split("  #")[0].strip()
    return line if len(line) <= WIDTH else line[: WIDTH - 1] + "…"


class NotRun(SphinxDirective):
    """A table: page, first line, reason."""

    def run(self) -> list[nodes.Node]:
        """Return the table."""
        self.env.note_reread()
        rows = [(page, block) for page in pages() for block in not_run(page)]
        group = nodes.tgroup(cols=3)
        group += [nodes.colspec(colwidth=width) for width in (20, 45, 35)]
        group += nodes.thead("", self.row(*(nodes.Text(text) for text in ("Page", "Begins with", "Not run because"))))
        body = nodes.tbody()
        for page, block in rows:
            kind = "" if block.language in COMMANDS else "program: "
            what = nodes.inline("", "", nodes.Text(kind), nodes.literal("", first_line(block)))
            body += self.row(self.link(page), what, nodes.Text(block.reason or ""))
        group += body
        return [nodes.table("", group, classes=["commands", "dense", "colwidths-given"])]

    def row(self, *cells: nodes.Node) -> nodes.row:
        """Return a row of the table."""
        return nodes.row("", *(nodes.entry("", nodes.paragraph("", "", cell)) for cell in cells))

    def link(self, page: Path) -> nodes.Node:
        """Return a link to a page, named by its file."""
        name = page.relative_to(ROOT).as_posix()
        top = next((docname for docname, file in TOP.items() if file == name), None)
        if page.is_relative_to(DOCS) or top:
            docname = top or page.relative_to(DOCS).with_suffix("").as_posix()
            words = nodes.inline("", name.removeprefix("docs/"))
            return pending_xref("", words, refdomain="std", reftype="doc", reftarget=f"/{docname}", refexplicit=True)
        return nodes.reference("", name, refuri=f"{self.config.repository}/blob/main/{name}")


def setup(app: Sphinx) -> dict[str, bool]:
    """Make the directive known."""
    app.add_directive("not-run", NotRun)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
