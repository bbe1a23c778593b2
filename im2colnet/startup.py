"""Ctrl-C while the command starts and ends: the command ends with exit code 130, without a traceback.

Importing NumPy takes most of the time of a short command. So the package imports this module first, and this module
imports almost nothing. It does nothing unless this process *is* the command ``im2colnet`` or ``python -m
im2colnet``: a program that imports the library keeps its KeyboardInterrupt.
"""

from __future__ import annotations

import os
import signal
import sys

CODE = 130


def end(number: int, frame: object) -> None:
    """Handle Ctrl-C while there is nothing to save or clean up."""
    os._exit(CODE)


def is_command() -> bool:
    """Whether this process was started as the command."""
    name = os.path.basename(sys.argv[0]) if sys.argv else ""
    if name == "-m":  # while Python looks for the module
        given = [*sys.orig_argv, ""]
        return "-m" in given and given[given.index("-m") + 1] == "im2colnet"
    return name.removesuffix(".exe").removesuffix("-script.py") == "im2colnet"


class as_usual:
    """Within the block Ctrl-C raises KeyboardInterrupt again, which the command handles."""

    def __enter__(self) -> None:
        self.changed = signal.getsignal(signal.SIGINT) is end
        if self.changed:
            signal.signal(signal.SIGINT, signal.default_int_handler)

    def __exit__(self, *error: object) -> None:
        if self.changed:
            signal.signal(signal.SIGINT, end)


if is_command() and signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # else it is to be ignored
    try:  # noqa: SIM105 - contextlib would take longer than the rest
        signal.signal(signal.SIGINT, end)
    except ValueError:  # in another thread than the first, which only a stranger's program would do
        pass
