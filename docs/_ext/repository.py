"""Links of a page to what is no page, such as ``../im2colnet/window.py``, lead to the repository of the project.

So the same file reads well in the repository and on the site.
"""

from __future__ import annotations

import os
from pathlib import Path

from docutils import nodes
from sphinx.addnodes import download_reference, pending_xref
from sphinx.application import Sphinx
from sphinx.transforms import SphinxTransform

ROOT = Path(__file__).resolve().parents[2]
PAGES = {".md", ".ipynb", ".rst"}


class Repository(SphinxTransform):
    """Give links that leave the pages the address of the file in the repository."""

    default_priority = 1

    def apply(self) -> None:
        """Go through the links of a page."""
        source = self.config.html_theme_options["icon_links"][0]["url"]
        here = Path(self.env.doc2path(self.env.docname)).parent
        for node in [*self.document.findall(pending_xref), *self.document.findall(download_reference)]:
            target = node.get("reftarget", "")
            name, _, anchor = target.partition("#")
            path = Path(os.path.normpath(here / name)) if name and "://" not in name else None
            if path is None or not path.exists():
                continue
            if path.is_relative_to(ROOT / "docs") and path.suffix in PAGES and path.name != "README.md":
                continue
            if not path.is_relative_to(ROOT):
                continue
            kind = "tree" if path.is_dir() else "blob"
            address = f"{source}/{kind}/main/{path.relative_to(ROOT).as_posix()}" + (f"#{anchor}" if anchor else "")
            link = nodes.reference("", "", *node.children, refuri=address, internal=False)
            node.replace_self(link)


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the transform."""
    app.add_transform(Repository)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
