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

from beside import Beside, wanted
from blocks import CELL, cell_source, page_blocks, run_programs
from sphinx.application import Sphinx
from sphinx.util import logging

logger = logging.getLogger(__name__)
ENDING = "-explained.html"
TAGGED = re.compile(r"^:tags:.*\bexplained\b", re.MULTILINE)


def explanation(page: Path) -> Any:
    """Return what the tagged cells of a page leave as ``seen``, or None."""
    cells = [block.text for block in page_blocks(page) if block.language == CELL and TAGGED.search(block.text)]
    with contextlib.redirect_stdout(io.StringIO()):
        return run_programs(map(cell_source, cells), page.name).get("seen")


def write(app: Sphinx, exception: Exception | None) -> None:
    """Store the interactive pages beside the pages."""
    if exception or app.builder.format != "html":
        return
    for page, target in wanted(app, ENDING).items():
        seen = explanation(Path(app.env.doc2path(page)))
        if seen is None:
            logger.warning("no cell with the tag 'explained' leaves an explanation as 'seen'", location=page)
        else:
            seen.save(target)


def setup(app: Sphinx) -> dict[str, bool]:
    """Make the role known, and write the pages at the end of a build."""
    app.add_role("explained", Beside(ENDING))
    app.connect("build-finished", write)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
