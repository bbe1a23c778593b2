"""Files beside a page that it links by a role, and that the end of a build writes."""

from __future__ import annotations

from pathlib import Path

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxRole


class Beside(SphinxRole):
    """A link to a file that has the page's name and another ending."""

    def __init__(self, ending: str) -> None:
        super().__init__()
        self.ending = ending

    def run(self) -> tuple[list[nodes.Node], list[nodes.system_message]]:
        """Return the link, and note that the file is wanted."""
        page = self.env.docname
        self.env.metadata[page][self.ending] = True
        link = nodes.reference("", self.text, refuri=f"{Path(page).name}{self.ending}", internal=False)
        return [link], []


def wanted(app: Sphinx, ending: str) -> dict[str, Path]:
    """Return the files with this ending that pages link: the name of each page, and where its file belongs."""
    return {page: Path(app.outdir) / f"{page}{ending}" for page, facts in app.env.metadata.items() if ending in facts}
