"""``im2colnet plan``: show the memory that training and inference will take."""

from __future__ import annotations

import argparse
from typing import Any

from im2colnet.cli.arguments import Commands, add_command, add_machine, add_network, add_step
from im2colnet.cli.networks import find_subject
from im2colnet.cli.report import Report
from im2colnet.reports import memory

ORDER = 40


def register(commands: Commands) -> None:
    """Add the command."""
    parser = add_command(
        commands,
        "plan",
        run,
        "show the memory that training and inference will take, without running them",
        """
        im2colnet plan --model resnet18 --batch-size 128
        im2colnet plan --model vgg8 --input-shape 3,64,64 --optimizer adam
        im2colnet plan --checkpoint runs/digits-resnet20-1/checkpoint.safetensors --batch-size 256 --shard 32
        """,
    )
    add_network(parser)
    add_step(parser, optimizer="the optimizer whose state is counted (default: the model's optimizer)")
    add_machine(parser)


def run(args: argparse.Namespace) -> Report:
    """Compute the memory that training and inference will take."""
    name, net, shape, batch_size, optimizer, _ = find_subject(args)
    planned = memory.plan(net, shape, batch_size, optimizer, args.threads, args.shard)
    return Report({"network": name, **planned}, describe)


def describe(facts: dict[str, Any], width: int | None) -> str:
    """Return the memory as a table."""
    return f"{facts['network']}: {memory.plan_text(facts, width)}"
