"""``im2colnet check-backend``: certify a backend."""

from __future__ import annotations

import argparse
import os
import sys
import textwrap
from functools import partial
from importlib import import_module
from typing import TYPE_CHECKING, Any

from im2colnet.backend.registry import VARIABLE, backend_names, get_backend
from im2colnet.cli.arguments import Commands, UsageError, add_command, number, text
from im2colnet.cli.report import Report
from im2colnet.errors import BackendError
from im2colnet.show.checks import CheckLines
from im2colnet.text import count, duration

if TYPE_CHECKING:
    from im2colnet.testing.check_backend import CheckResult, FaultResult

ORDER = 90
#: columns of a check's name, and of the element types that it is made with
NAME, DTYPES = 23, 40


def register(commands: Commands) -> None:
    """Add the command."""
    parser = add_command(
        commands,
        "check-backend",
        run,
        "check everything that a backend must do, and certify it: for authors of backends",
        """
        im2colnet check-backend numpy
        im2colnet check-backend cupy --only conv2d,matmul
        im2colnet check-backend mine --plant
        """,
        operands="[NAME]",
        more="""

What is checked: each kernel is compared with naive loops in float64, with
arguments in every memory order. A plain call, a call with out and scratch
arrays that hold NaN, and prepared calls must agree to the bit, and a kernel
must not change its inputs. Also checked: arrays, random numbers and errors;
every layer, loss and optimizer; whole trainings, which are compared with
trainings on the plain kernels of the base class, and run on one, two and
three workers.

exit codes: 0 certified, 1 something is wrong, 2 wrong usage, such as a
backend that does not exist""",
    )
    parser.add_argument(
        "name",
        type=text,
        nargs="?",
        metavar="NAME",
        help=f"the backend, such as numpy or cupy:1 (default: the one that {VARIABLE} names, else numpy)",
    )
    parser.add_argument(
        "--only",
        type=text,
        action="append",
        metavar="CHECK",
        help="make only this check, or several checks, separated by commas (an unknown name lists all names)",
    )
    parser.add_argument(
        "--seed",
        type=number(int, lambda v: v >= 0, "of at least 0"),
        default=0,
        metavar="N",
        help="random seed of the numbers and shapes of the checks (default: 0)",
    )
    parser.add_argument(
        "--plant",
        action="store_true",
        help="after the checks, plant faults in the kernels, one at a time, and test that the kernel's check finds"
        " each",
    )
    parser.add_argument("--json", action="store_true", help="print a JSON document and nothing else to stdout")


def run(args: argparse.Namespace) -> Report:
    """Make the checks; the exit code is 1 if one fails, or if a planted fault is not found."""
    certify = import_module("im2colnet.testing.check_backend")  # importing it takes longer than all commands do

    only = args.only and [name.strip() for names in args.only for name in names.split(",")]
    try:
        certify.chosen(only)
    except BackendError as error:
        raise UsageError(f"argument --only: {error}") from None
    try:
        backend = get_backend(args.name)
    except BackendError as error:
        name = args.name or os.environ.get(VARIABLE) or "numpy"
        if name.partition(":")[0] in backend_names():
            raise  # it exists, and cannot start
        raise UsageError(str(error)) from None
    if args.json:
        report = certify.check_backend(backend, args.seed, only)
        faults = certify.plant_faults(backend, args.seed, only) if args.plant and report.certified else []
    else:
        lines = CheckLines(sys.stdout)
        head = {"backend": backend.full_name, **certify.versions_of(backend), "seed": str(args.seed)}
        print(*(f"{name:{max(map(len, head)) + 2}}{value}" for name, value in head.items()), "", sep="\n", flush=True)
        report = certify.check_backend(backend, args.seed, only, partial(say_check, lines))
        for precision, why in report.left_out.items():
            lines.write(True, "without", precision, why)
        faults = []
        if args.plant and report.certified:
            print()
            faults = certify.plant_faults(backend, args.seed, only, partial(say_fault, lines))
    facts = report.facts() | {"summary": certify.summary(report)}
    if args.plant:
        facts["faults"] = [{"check": f.check, "about": f.about, "found": f.found} for f in faults]
    good = report.certified and all(fault.ok for fault in faults)
    return Report(facts, describe, 0 if good else 1)


def say_check(lines: CheckLines, result: CheckResult) -> None:
    """Write the line of a check."""
    dtypes = " ".join(result.dtypes)
    text = f"{result.name:{NAME}}{dtypes:{DTYPES}}{duration(result.seconds):>6}"
    lines.write(result.ok, "ok" if result.ok else "WRONG", text, result.error)


def say_fault(lines: CheckLines, result: FaultResult) -> None:
    """Write the line of a fault."""
    lines.write(result.ok, "found" if result.ok else "MISSED", f"{result.check:{NAME}}{result.about}")


def describe(facts: dict[str, Any], width: int | None) -> str:
    """Return the summary that follows the lines of the checks."""
    lines = [facts["summary"]]
    if facts.get("faults"):
        missed = sum(not fault["found"] for fault in facts["faults"])
        all_of_them = f"{count(len(facts['faults']), 'planted fault')}: "
        lines.append(all_of_them + (f"{missed} not found" if missed else "each found by the check of its kernel"))
    elif "faults" in facts:
        why = "there is none for these checks" if facts["certified"] else "a check has already failed"
        lines.append(f"no fault was planted: {why}")
    return "\n".join(["", *(line if width is None else textwrap.fill(line, width) for line in lines)])
