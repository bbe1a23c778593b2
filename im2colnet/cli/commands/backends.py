"""``im2colnet backends``: list the backends, and say which one is selected and by what."""

from __future__ import annotations

import argparse
import os
from typing import Any

from im2colnet.backend.registry import VARIABLE, list_backends
from im2colnet.cli.arguments import Commands, add_command, text
from im2colnet.cli.report import Report
from im2colnet.text import table

ORDER = 80


def register(commands: Commands) -> None:
    """Add the command."""
    parser = add_command(
        commands,
        "backends",
        run,
        "list the backends, whether they start here, and which one is selected",
        f"""
        im2colnet backends
        {VARIABLE}=cupy im2colnet backends
        """,
    )
    parser.add_argument(
        "--backend", type=text, dest="selected", metavar="NAME", help="report as if this backend were selected"
    )
    parser.add_argument("--json", action="store_true", help="print a JSON document")


def run(args: argparse.Namespace) -> Report:
    """List the backends, and say which one is selected and by what."""
    variable = os.environ.get(VARIABLE)
    if args.selected:
        selected, by = args.selected, "argument"
    else:
        selected, by = (variable, "environment") if variable else ("numpy", "default")
    name = selected.partition(":")[0]
    rows = [{**row._asdict(), "selected": row.name == name} for row in list_backends()]
    return Report({"selected": selected, "selected_by": by, "backends": rows}, describe)


def describe(facts: dict[str, Any], width: int | None) -> str:
    """Return the backends as a table."""
    rows = facts["backends"]
    cells = [("backend", "source", "starts here", "why not")]
    cells += [(row["name"], row["source"], "yes" if row["available"] else "no", row["reason"]) for row in rows]
    how = {
        "argument": "the argument --backend",
        "environment": f"the environment variable {VARIABLE}",
        "default": f"default; {VARIABLE} is not set",
    }[facts["selected_by"]]
    missing = "" if any(row["selected"] for row in rows) else ", but there is no such backend"
    return f"{table(cells, width=width)}\n\nselected: {facts['selected']} (by {how}){missing}"
