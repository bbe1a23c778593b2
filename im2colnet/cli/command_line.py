"""From arguments to an exit code: finds the command, runs it, prints its report, and says what went wrong.

Exit codes: 0 done, 1 the work failed, 2 wrong usage, 130 interrupted by Ctrl-C, 143 by SIGTERM.
"""

from __future__ import annotations

import argparse
import errno
import json
import os
import pkgutil
import sys
import traceback
import warnings
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from importlib import import_module
from typing import Any, Protocol, cast

from im2colnet import interrupt, startup
from im2colnet.backend.registry import get_backend, use_backend
from im2colnet.cli import commands, ranks
from im2colnet.cli.arguments import Commands, UsageError
from im2colnet.cli.report import Report
from im2colnet.errors import Im2colnetError, InputWarning, TrainingWarning, WorkerWarning, agreed
from im2colnet.parallel import num_threads
from im2colnet.show import terminal
from im2colnet.show.terminal import OutputError
from im2colnet.text import printable
from im2colnet.version import __version__

EPILOG = """\
start here:
  im2colnet train                          train on the digits, which are part of the library
  im2colnet train --data PICTURES          train on your own pictures: a folder with a folder for each class
  im2colnet evaluate runs/digits-resnet20-1
  im2colnet predict runs/digits-resnet20-1 seven.png
  im2colnet COMMAND --help                 the options of a command, and more examples

exit codes: 0 done, 1 the work failed, 2 wrong usage, 130 interrupted by Ctrl-C, 143 by SIGTERM"""
DEBUG = "IM2COLNET_DEBUG"  #: environment variable: errors show the traceback
FAULT = "this is a bug in im2colnet"
SAVE_MEMORY = "take fewer images at once (--batch-size), smaller images or a smaller model"


class Command(Protocol):
    """A module of :mod:`im2colnet.cli.commands`."""

    ORDER: int  #: its place in the help: lower numbers come first

    def register(self, commands: Commands) -> None:
        """Add the command's parser, whose default ``run`` is the function below."""

    def run(self, args: argparse.Namespace) -> Report:
        """Do the work."""


def run(argv: Sequence[str] | None = None) -> int:
    """Run the command that the arguments ask for; return the exit code."""
    given = sys.argv[1:] if argv is None else argv
    parser = make_parser(given)  # it imports the command, so that Ctrl-C meanwhile is startup's business
    closed = sys.stdout is None
    with startup.as_usual(), interrupt.terminable(), terminal.standard_streams():
        try:
            if closed:
                raise OutputError(f"stdout is closed; redirect it to a file, or to {os.devnull}")
            with ranks.only_first_speaks():
                code = _run(parser, given)
                sys.stdout.flush()
                return code
        except BaseException as error:
            with ranks.only_first_speaks() if agreed(error) else nullcontext():
                return _outcome(error)


def _outcome(failure: BaseException) -> int:
    """Say why a command has failed; return the exit code."""
    try:
        raise failure
    except OutputError as error:
        terminal.discard()
        if isinstance(error.__cause__, BrokenPipeError):  # the reader, such as head, has enough
            return 1
        return _failed(f"cannot write the output: {error}")
    except KeyboardInterrupt as error:
        _say(error, "im2colnet: interrupted")
        return startup.CODE
    except interrupt.Terminated as error:
        _say(error, "im2colnet: ended by SIGTERM")
        return int(error.code or 1)
    except Im2colnetError as error:
        out_of_memory = isinstance(error, MemoryError)
        return _failed(f"out of memory: {error}; {SAVE_MEMORY}" if out_of_memory else str(error))
    except MemoryError as error:
        return _failed(f"out of memory{f' ({error})' * bool(str(error))}: {SAVE_MEMORY}")
    except OSError as error:
        what = error.strerror or str(error)
        if error.errno == errno.ENOMEM:
            return _failed(f"out of memory ({what}): {SAVE_MEMORY}")
        return _failed(what if error.filename is None else f"{error.filename}: {what}")
    except (Exception, SystemExit) as error:  # a plug-in may raise SystemExit
        what = " ".join(f"{type(error).__name__}: {error}".split())
        return _failed(f"{FAULT}: {what}. Set {DEBUG}=1 to see where, and report it")


def _run(parser: argparse.ArgumentParser, argv: Sequence[str]) -> int:
    if not argv:
        parser.print_help(sys.stderr)
        return 2
    try:
        args = parser.parse_args(argv)
        args.given = [*argv]
    except SystemExit as exit:  # argparse: 0 after --help, 2 after wrong usage
        return int(exit.code or 0)
    if not args.collective and ranks.rank():
        return 0
    try:
        with _warnings_in_one_line(), ranks.collective() if args.collective else ranks.alone(), ExitStack() as held:
            with ranks.together():
                held.enter_context(_machine(args))
            report: Report = args.run(args)
            print(json.dumps(report.facts, indent=2) if args.json else report.text(terminal.columns(sys.stdout)))
            return _failed(report.error) if report.error else report.code
    except UsageError as error:
        with suppress(SystemExit):
            args.parser.error(str(error))
        return 2


def make_parser(argv: Sequence[str] = ()) -> argparse.ArgumentParser:
    """Return the parser of the command that ``argv`` begins with, or else that of all commands."""
    parser = argparse.ArgumentParser(
        "im2colnet",
        description="Train and use small convolutional networks on NumPy or another array module.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"im2colnet {__version__}")
    subparsers = parser.add_subparsers(metavar="COMMAND", required=True)
    names = command_names()
    wanted = [name for name in names if name in argv[:1]] or names  # the others need not be imported
    for command in sorted(map(_import_command, wanted), key=lambda command: command.ORDER):
        command.register(subparsers)
    return parser


def command_names() -> list[str]:
    """Return the names of all commands, in alphabetical order."""
    return sorted(module.name.replace("_", "-") for module in pkgutil.iter_modules(commands.__path__))


def _import_command(name: str) -> Command:
    return cast(Command, import_module(f"{commands.__name__}.{name.replace('-', '_')}"))


@contextmanager
def _machine(args: argparse.Namespace) -> Iterator[None]:
    """Use the backend and the threads that the arguments ask for."""
    threads = vars(args).get("threads")
    with (
        num_threads(threads) if threads else nullcontext(),
        use_backend(get_backend(args.backend)) if "backend" in args else nullcontext(),
    ):
        yield


@contextmanager
def _warnings_in_one_line() -> Iterator[None]:
    """Print each of the library's warnings once, in one line, without the source line that raised it."""

    def show(message: Warning | str, category: type[Warning], *where: Any, **options: Any) -> None:
        print(printable(f"im2colnet: warning: {message}", keep="\n"), file=sys.stderr)

    with warnings.catch_warnings():
        for category in InputWarning, TrainingWarning, WorkerWarning:
            warnings.simplefilter("once", category)
        warnings.showwarning = show
        yield


def _say(error: BaseException, otherwise: str) -> None:
    """Print the note that a command left on an interruption, such as how to go on; ``otherwise`` if there is none."""
    print(printable("\n".join(getattr(error, "__notes__", [otherwise])), keep="\n"), file=sys.stderr)


def _failed(message: str) -> int:
    """Print why the work failed, and the traceback if it is asked for."""
    if os.environ.get(DEBUG, "0") not in ("", "0"):
        traceback.print_exc()
    print(printable(f"im2colnet: error: {message}", keep="\n"), file=sys.stderr)
    return 1
