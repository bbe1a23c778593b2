"""An interactive page of a layer, made from the cells of a page when the site is built.

The role ``{explained}`words``` is a link to it. The cells of the page that have the tag ``explained`` are run for it, in
their order and by themselves; they leave an explanation by the name ``seen``, which is stored beside the page.
"""

from __future__ import annotations

import contextlib
import io
import re
from pathlib import Path
from typing import Any

from blocks import CELL, cell_source, page_blocks, run_programs
from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util import logging
from sphinx.util.docutils import SphinxRole

logger = logging.getLogger(__name__)
#: what the metadata of a page say if it has such a link
WANTED = "explained"
TAGGED = re.compile(r"^:tags:.*\bexplained\b", re.MULTILINE)


class Explained(SphinxRole):
    """A link to the interactive page."""

    def run(self) -> tuple[list[nodes.Node], list[nodes.system_message]]:
        """Return the link, and note that the interactive page is wanted."""
        page = self.env.docname
        self.env.metadata[page][WANTED] = True
        link = nodes.reference("", self.text, refuri=f"{Path(page).name}-explained.html", internal=False)
        return [link], []


def explanation(page: Path) -> Any:
    """Return what the tagged cells of a page leave as ``seen``, or None."""
    cells = [block.text for block in page_blocks(page) if block.language == CELL and TAGGED.search(block.text)]
    with contextlib.redirect_stdout(io.StringIO()):
        return run_programs(map(cell_source, cells), page.name).get("seen")


def write(app: Sphinx, exception: Exception | None) -> None:
    """Store the interactive pages beside the pages."""
    if exception or app.builder.format != "html":
        return
    for page in [name for name, facts in app.env.metadata.items() if WANTED in facts]:
        seen = explanation(Path(app.env.doc2path(page)))
        if seen is None:
            logger.warning("no cell with the tag 'explained' leaves an explanation as 'seen'", location=page)
        else:
            seen.save(Path(app.outdir) / f"{page}-explained.html")


def setup(app: Sphinx) -> dict[str, bool]:
    """Make the role known, and write the pages at the end of a build."""
    app.add_role("explained", Explained())
    app.connect("build-finished", write)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
