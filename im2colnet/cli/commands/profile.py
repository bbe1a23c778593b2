"""``im2colnet profile``: time a training step layer by layer."""

from __future__ import annotations

import argparse
from typing import Any

from im2colnet.cli.arguments import (
    Commands,
    add_command,
    add_machine,
    add_network,
    add_step,
    add_timed_steps,
    need_matplotlib,
    text,
)
from im2colnet.cli.networks import find_subject
from im2colnet.cli.report import Report
from im2colnet.reports import profile

ORDER = 60


def register(commands: Commands) -> None:
    """Add the command."""
    parser = add_command(
        commands,
        "profile",
        run,
        "time a training step layer by layer, and compare the times with the limits of this machine",
        """
        im2colnet profile --model resnet20 --batch-size 64
        im2colnet profile --model vgg8 --picture roofline.png
        """,
    )
    add_network(parser)
    add_step(parser, optimizer="the optimizer of the step (default: the model's optimizer)")
    add_timed_steps(parser, default=5)
    parser.add_argument("--picture", type=text, metavar="FILE.png", help="draw a roofline (needs Matplotlib)")
    add_machine(parser, threads=False)


def run(args: argparse.Namespace) -> Report:
    """Time a training step layer by layer."""
    if args.picture:
        need_matplotlib("--picture")
    name, net, shape, batch_size, optimizer, loss = find_subject(args)
    facts = profile.profile(net, shape, batch_size, optimizer, args.steps, loss, args.shard)
    if args.picture:
        from im2colnet.show.plots import save_roofline

        save_roofline(facts, args.picture)
    return Report({"network": name, **facts}, describe)


def describe(facts: dict[str, Any], width: int | None) -> str:
    """Return the times as a table."""
    return f"{facts['network']}: {profile.profile_text(facts, width)}"
