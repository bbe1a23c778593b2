"""``im2colnet doctor``: check that a backend works on this machine, and how fast."""

from __future__ import annotations

import argparse

from im2colnet.backend.registry import VARIABLE, get_backend, unused
from im2colnet.cli.arguments import Commands, add_command, add_machine
from im2colnet.cli.report import Report
from im2colnet.parallel import mpi
from im2colnet.reports import doctor

ORDER = 70


def register(commands: Commands) -> None:
    """Add the command."""
    parser = add_command(
        commands,
        "doctor",
        run,
        "check that a backend works on this machine, and measure its speed: run this first",
        f"""
        im2colnet doctor
        {VARIABLE}=cupy im2colnet doctor
        mpiexec -n 2 im2colnet doctor
        """,
        collective=True,
    )
    add_machine(parser)


def run(args: argparse.Namespace) -> Report:
    """Compare the backend's kernels with float64, and time it and the sums over ranks; wrong results exit with 1."""
    facts = doctor.examine(get_backend(), job=mpi.world()) | {"hint": unused(args.backend)}
    return Report(facts, lambda facts, width: doctor.text(facts), code=0 if facts["correct"] else 1)
