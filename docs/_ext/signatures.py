"""Signatures of classes are those of their constructors, also where ``__new__`` takes anything: of networks."""

from __future__ import annotations

import inspect
from typing import Any

from sphinx.application import Sphinx
from sphinx.util.inspect import stringify_signature


def of_constructor(
    app: Sphinx, what: str, name: str, thing: Any, options: Any, signature: str | None, returns: str | None
) -> tuple[str, str] | None:
    """Return what Python says of a class, without types."""
    if what != "class" or signature != "(*args, **options)":
        return None
    return stringify_signature(inspect.signature(thing), show_annotation=False, show_return_annotation=False), ""


def setup(app: Sphinx) -> dict[str, bool]:
    """Be asked for each signature."""
    app.connect("autodoc-process-signature", of_constructor)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
