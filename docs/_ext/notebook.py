"""A page that can be downloaded as a notebook: with its outputs, its pictures in it, and plain Markdown.

The role ``{notebook}`words``` is a link to the page as a notebook. When the site is built, the notebook that the build has
executed is made readable where MyST's roles and directives are not known, and stored beside the page.
"""

from __future__ import annotations

import base64
import json
import re
from pathlib import Path
from typing import Any
from urllib.parse import quote

from beside import Beside, wanted
from explained import ENDING as EXPLAINED
from sphinx.application import Sphinx

ENDING = ".ipynb"


def plain(text: str, page: Path, site: str) -> str:
    """Return MyST as Markdown that every notebook shows: pictures as data, other pages by their address on the web."""
    folder = page.parent
    text = re.sub(r"^:::.*\n?", "", text, flags=re.MULTILINE)
    text = re.sub(r"\{explained\}`([^`]+)`", rf"[\1]({site}{quote(page.stem)}{EXPLAINED})", text)
    text = re.sub(r"\{\w+\}`([^`<]+?)(?:\s*<[^`>]*>)?`", r"\1", text)

    def target(match: re.Match[str]) -> str:
        words, link = re.sub(r"\s+", " ", match[2]), match[3]
        file, _, anchor = link.partition("#")
        if "://" in link or not file:
            return f"{match[1]}[{words}]({link})"
        if match[1]:
            data = base64.b64encode((folder / file).read_bytes()).decode("ascii")
            return f"![{words}](data:image/svg+xml;base64,{data})"
        if not file.endswith(".md"):
            return words
        address = f"{site}{quote(file.removesuffix('.md'))}.html" + (f"#{anchor}" if anchor else "")
        return f"[{words}]({address})"

    return re.sub(r"(!?)\[([^\]]+)\]\(([^)\s]+)\)", target, text)


def convert(notebook: dict[str, Any], page: Path, site: str) -> dict[str, Any]:
    """Return an executed notebook of MyST, from a page in the root of the site, as one that can be opened anywhere."""
    cells = []
    for number, cell in enumerate(notebook["cells"]):
        source = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            source = plain(source, page, site)
        caption = cell["metadata"].get("mystnb", {}).get("figure", {}).get("caption")
        cells.append({**cell, "source": source.splitlines(keepends=True), "metadata": {}})
        if caption:
            below = {"cell_type": "markdown", "id": f"caption-{number}", "metadata": {}, "source": [plain(caption, page, site)]}
            cells.append(below)
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    notebook["cells"] = cells
    notebook["metadata"] = {"kernelspec": kernel, "language_info": {"name": "python"}}
    return notebook


def write(app: Sphinx, exception: Exception | None) -> None:
    """Store the notebooks beside the pages."""
    if exception or app.builder.format != "html":
        return
    site = app.config.pages_site.rstrip("/") + "/"
    for page, target in wanted(app, ENDING).items():
        executed = Path(app.env.mystnb_config.output_folder) / f"{page}.ipynb"
        if not executed.exists():
            continue
        made = convert(json.loads(executed.read_text(encoding="utf-8")), Path(app.env.doc2path(page)), site)
        target.write_text(json.dumps(made, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def setup(app: Sphinx) -> dict[str, bool]:
    """Make the role known, and write the notebooks at the end of a build."""
    app.add_config_value("pages_site", "", "html", str)
    app.add_role("notebook", Beside(ENDING))
    app.connect("build-finished", write)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
