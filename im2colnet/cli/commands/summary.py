"""``im2colnet summary``: show the layers of a network."""

from __future__ import annotations

import argparse
from typing import Any

from im2colnet.cli.arguments import Commands, add_command, add_machine, add_network, positive
from im2colnet.cli.networks import find_subject
from im2colnet.cli.report import Report
from im2colnet.network.summary import summary_text

ORDER = 50


def register(commands: Commands) -> None:
    """Add the command."""
    parser = add_command(
        commands,
        "summary",
        run,
        "show the layers of a network",
        """
        im2colnet summary --model mobilenet --width 0.5
        im2colnet summary --checkpoint runs/digits-resnet20-1/checkpoint.safetensors
        """,
    )
    add_network(parser)
    parser.add_argument("--batch-size", type=positive, metavar="N", help="the batch size to count for (default: 1)")
    add_machine(parser, threads=False)


def run(args: argparse.Namespace) -> Report:
    """Show a network's layers."""
    subject = find_subject(args)
    facts = subject.net.summary_facts(subject.shape, args.batch_size or 1)
    return Report({"network": subject.name, **facts}, describe)


def describe(facts: dict[str, Any], width: int | None) -> str:
    """Return the layers as a table."""
    return f"{facts['network']}: {summary_text(facts, width)}"
