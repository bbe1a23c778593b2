"""The command line. A command is a module of ``im2colnet.cli.commands``; ``command_line`` runs the one asked for."""

from __future__ import annotations

from collections.abc import Sequence


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Parameters
    ----------
    argv : sequence of str, optional
        The arguments; by default those of the process.

    Returns
    -------
    int
        The exit code: 0 done, 1 the work failed, 2 wrong usage, 130 interrupted by Ctrl-C, 143 by SIGTERM.
    """
    from im2colnet.cli.command_line import run

    return run(argv)


__all__ = ["main"]
