"""The signature of a network's class is that of its constructor: Sphinx would show ``__new__``, which takes anything."""

from __future__ import annotations

import inspect
from typing import Any

from sphinx.application import Sphinx
from sphinx.util.inspect import stringify_signature


def of_constructor(
    app: Sphinx, what: str, name: str, thing: Any, options: Any, signature: str | None, returns: str | None
) -> tuple[str, str] | None:
    """Return the constructor's signature, without types, for a class whose ``__new__`` takes anything."""
    if what != "class" or signature != "(*args, **options)":
        return None
    return stringify_signature(inspect.signature(thing), show_annotation=False, show_return_annotation=False), ""


def setup(app: Sphinx) -> dict[str, bool]:
    """Be asked for each signature."""
    app.connect("autodoc-process-signature", of_constructor)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
