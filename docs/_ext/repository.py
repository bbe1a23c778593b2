"""Links between the pages, the files of the repository and the site, so that a page reads well in all three.

- A link to what is no page, such as ``../im2colnet/window.py``, leads to the repository; the file must be there.
- Files at the top of the repository, such as ``CONTRIBUTING.md``, are pages of the site too: :data:`TOP`.
- A link to the published site leads to the site that is being built.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.transforms import SphinxTransform

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
#: pages whose text is that of a file at the top of the repository
TOP = {"contributing": "CONTRIBUTING.md", "changelog": "CHANGELOG.md"}
FENCED = re.compile(r"^( *)(`{3,}|~{3,})(?!\{(?:note|tip|warning|important|admonition|grid|dropdown|tab)).*?^ *\2`*~* *$", re.M | re.S)
LINK = re.compile(r"(?P<image>!?)(?P<words>\[(?:[^\[\]]|\[[^\[\]]*\])*\])\((?P<target>[^)\s]+)\)")


def outside_of_code(text: str, change: Callable[[str], str]) -> str:
    """Change a page but for its blocks of code."""
    result, end = [], 0
    for block in FENCED.finditer(text):
        result += [change(text[end : block.start()]), block.group(0)]
        end = block.end()
    return "".join([*result, change(text[end:])])


def on_the_site(target: str, source: Path, page: Path, repository: str, image: bool = False) -> str:
    """Return where a link leads on the site.

    Parameters
    ----------
    target : str
        The link as it is written, relative to the folder of ``source``.
    source, page : Path
        The file that is read, and the page that it becomes. They differ for files at the top of the repository.
    repository : str
        The address of the repository.
    image : bool
        Whether it is a picture, which is copied, and not a link.
    """
    name, _, anchor = target.partition("#")
    if not name or ":" in name:
        return target
    path = Path(os.path.normpath(source.parent / name))
    if not path.exists() or not path.is_relative_to(ROOT):
        return target  # MyST warns of it
    top = {ROOT / file: DOCS / f"{page}.md" for page, file in TOP.items()}
    path = top.get(path, path)
    if image or (path.is_relative_to(DOCS) and path.suffix == ".md"):
        return os.path.relpath(path, page.parent) + (f"#{anchor}" if anchor else "")
    kind = "tree" if path.is_dir() else "blob"
    return f"{repository}/{kind}/main/{path.relative_to(ROOT).as_posix()}" + (f"#{anchor}" if anchor else "")


def rewrite(text: str, source: Path, page: Path, repository: str) -> str:
    """Return a page's text with the links of the site."""

    def link(match: re.Match[str]) -> str:
        target = on_the_site(match["target"], source, page, repository, bool(match["image"]))
        words = LINK.sub(link, match["words"])  # a picture that is a link
        return f"{match['image']}{words}({target})"

    return outside_of_code(text, lambda prose: LINK.sub(link, prose))


def read(app: Sphinx, docname: str, content: list[str]) -> None:
    """Take the text of a page from the top of the repository where it has it there, and mend its links."""
    page = Path(app.env.doc2path(docname))
    if page.suffix != ".md":
        return
    source = page
    if docname in TOP:
        source = ROOT / TOP[docname]
        app.env.note_dependency(str(source))
        content[0] = source.read_text(encoding="utf-8")
    content[0] = rewrite(content[0], source, page, app.config.repository)


class OwnSite(SphinxTransform):
    """Links to the published site, such as that of the dashboard, lead to the same place of this one."""

    default_priority = 900

    def apply(self, **options: Any) -> None:
        """Go through the links of a page."""
        site = self.config.pages_site.rstrip("/") + "/"
        depth = self.env.docname.count("/")
        for node in self.document.findall(nodes.reference):
            address = node.get("refuri", "")
            if address.startswith(site):
                rest = address.removeprefix(site) or "index.html"
                node["refuri"] = "../" * depth + (f"{rest}index.html" if rest.endswith("/") else rest)


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the changes of links."""
    app.add_config_value("repository", "", "env", str)
    app.connect("source-read", read)
    app.add_transform(OwnSite)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
