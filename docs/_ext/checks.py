"""What the build warns of, besides broken links: with ``-W`` a warning is an error.

- A picture without an alternative text, on a page or in the output of a program.
- A first paragraph that uses a word of the glossary without a link to it.
- A public name that no page of the reference describes.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from html.parser import HTMLParser
from importlib import import_module
from inspect import ismodule
from types import ModuleType
from typing import Any

from docutils import nodes
from sphinx.addnodes import glossary, pending_xref
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.util import logging

logger = logging.getLogger(__name__)
#: pages whose first paragraph is not looked at: others write it (a program, a file of the repository's top), or it is the
#: glossary's own
MADE = {"changelog", "conformance", "not-run", "reference/glossary", "tables"}
#: modules whose public names the reference must describe
MODULES = (
    "im2colnet",
    "im2colnet.backend",
    "im2colnet.datasets",
    "im2colnet.datasets.transforms",
    "im2colnet.functional",
    "im2colnet.metrics",
    "im2colnet.models",
    "im2colnet.onnx",
    "im2colnet.sklearn",
    "im2colnet.testing",
    "im2colnet.torch",
    "im2colnet.training.callbacks",
    "im2colnet.visualize",
)


# Pictures -----------------------------------------------------------------------------------------------------------
class Pictures(HTMLParser):
    """Finds the pictures in a piece of HTML that have no text for those who do not see them."""

    def __init__(self) -> None:
        super().__init__()
        self.mute: list[str] = []
        self.waiting = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Look at the attributes of pictures, and wait for the title of a drawing."""
        given = dict(attrs)
        if tag == "title":
            self.waiting = False
        if tag == "svg" and "aria-hidden" not in given and not (given.get("aria-label") or given.get("aria-labelledby")):
            self.waiting = True
        if tag in {"img", "canvas"} and "alt" not in given and not given.get("aria-label"):
            self.mute.append(tag)

    def handle_endtag(self, tag: str) -> None:
        """A drawing that has ended without a title is mute."""
        if tag == "svg" and self.waiting:
            self.mute.append(tag)
            self.waiting = False


def mute_pictures(document: nodes.document) -> Iterator[tuple[nodes.Node, str]]:
    """Go through the pictures of a page that have no alternative text: where, and what they are."""
    for image in document.findall(nodes.image):
        if not image.get("alt", "").strip():
            yield image, image.get("uri", "")
    for raw in document.findall(nodes.raw):
        if "html" in raw.get("format", "").split():
            parser = Pictures()
            parser.feed(raw.astext())
            parser.close()
            yield from ((raw, f"<{tag}>") for tag in parser.mute)


# The first paragraph ------------------------------------------------------------------------------------------------
def first_paragraph(document: nodes.document) -> nodes.paragraph | None:
    """Return the first paragraph of a page below its title."""
    sections = [child for child in document.children if isinstance(child, nodes.section)]
    children = sections[0].children if sections else []
    return next((child for child in children if isinstance(child, nodes.paragraph)), None)


def words_and_terms(paragraph: nodes.paragraph) -> tuple[str, set[str]]:
    """Return the words of a paragraph that are neither links nor code, and the terms that it links."""
    terms = {
        node["reftarget"].lower()
        for node in paragraph.findall(pending_xref)
        if node.get("reftype") == "term"
    }

    def text(node: nodes.Node) -> str:
        if isinstance(node, nodes.Text):
            return node.astext()
        if isinstance(node, (pending_xref, nodes.reference, nodes.literal, nodes.math, nodes.image, nodes.raw)):
            return "\0"  # no word goes across it
        return "".join(text(child) for child in node.children)

    return re.sub(r"\s+", " ", text(paragraph)), terms


def unlinked(text: str, linked: set[str], terms: set[str]) -> list[str]:
    """Return the terms that a text uses without a link; a term of several words counts as these alone."""
    found = []
    for term in sorted(terms, key=len, reverse=True):
        pattern = re.compile(rf"(?<![\w-]){re.escape(term)}(?:s|es)?(?![\w-])", re.IGNORECASE)
        if pattern.search(text):
            text = pattern.sub("\0", text)
            if term.lower() not in linked:
                found.append(term)
    return sorted(found)


# Public names -------------------------------------------------------------------------------------------------------
def public_names() -> dict[str, Any]:
    """Return all public names of the library that are no modules, and what they stand for."""
    names: dict[str, Any] = {}
    for module in MODULES:
        found = import_module(module)
        for name in found.__all__:
            value = getattr(found, name)
            if not ismodule(value):
                names[f"{module}.{name}"] = value
    return names


def look_up(name: str) -> Any:
    """Return what a full name of Python stands for, or None."""
    parts = name.split(".")
    for end in range(len(parts), 0, -1):
        try:
            found: Any = import_module(".".join(parts[:end]))
        except ImportError:
            continue
        for part in parts[end:]:
            found = getattr(found, part, None)
        return None if isinstance(found, ModuleType) else found
    return None


def undocumented(described: set[str], names: dict[str, Any]) -> list[str]:
    """Return the names that are not described, by themselves or as another name of the same thing."""
    things = {id(thing) for thing in map(look_up, described) if thing is not None and not isinstance(thing, (str, int, float))}
    return sorted(name for name, value in names.items() if name not in described and id(value) not in things)


# The build ----------------------------------------------------------------------------------------------------------
def read(app: Sphinx, document: nodes.document) -> None:
    """Warn of pictures; note the first paragraph, and the terms of a glossary, until all pages are read."""
    page = app.env.docname
    for node, what in mute_pictures(document):
        logger.warning("a picture without an alternative text: %s", what, location=node, type="checks", subtype="alt")
    notes = notes_of(app.env)
    notes["terms"][page] = {
        term.astext() for made in document.findall(glossary) for term in made.findall(nodes.term)
    }
    paragraph = None if page in MADE else first_paragraph(document)
    notes["first"][page] = (paragraph.line, *words_and_terms(paragraph)) if paragraph is not None else None


def notes_of(env: BuildEnvironment) -> dict[str, dict[str, Any]]:
    """Return what has been noted of pages; it is kept from one build to the next."""
    return env.domaindata.setdefault("checks", {"version": 0, "terms": {}, "first": {}})


def forget(app: Sphinx, env: BuildEnvironment, page: str) -> None:
    """Forget a page that is read anew."""
    for notes in ("terms", "first"):
        notes_of(env)[notes].pop(page, None)


def check(app: Sphinx, env: BuildEnvironment) -> None:
    """Warn of words of the glossary that are not linked, and of names that are not described."""
    notes = notes_of(env)
    terms = {term for page in notes["terms"].values() for term in page}
    for page, first in sorted(notes["first"].items()):
        if first is None:
            continue
        line, text, linked = first
        for term in unlinked(text, linked, terms):
            logger.warning(
                "the first paragraph uses a word of the glossary without a link: write {term}`%s`",
                term,
                location=(page, line),
                type="checks",
                subtype="term",
            )
    described = {name for name, *_ in env.domains["py"].get_objects()}
    for name in undocumented(described, public_names()):
        logger.warning("no page of the reference describes %s", name, type="checks", subtype="name")


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the checks."""
    app.connect("doctree-read", read)
    app.connect("env-purge-doc", forget)
    app.connect("env-check-consistency", check)
    return {"parallel_read_safe": False, "parallel_write_safe": True}
