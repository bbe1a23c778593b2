"""The arguments that several commands have, and the types of their values."""

from __future__ import annotations

import argparse
import math
import re
import textwrap
from collections.abc import Callable
from typing import TypeAlias

from im2colnet import models
from im2colnet.backend.registry import VARIABLE
from im2colnet.cli.report import Report
from im2colnet.datasets.folder import COLORS, SPLIT
from im2colnet.errors import Im2colnetError, install
from im2colnet.optim.defaults import OPTIMIZERS

MAX_INTEGER = 2**31 - 1  #: the largest whole number that an option takes

Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"


class UsageError(Exception):
    """The arguments cannot be used together; the exit code is 2."""


def add_command(
    commands: Commands,
    name: str,
    run: Callable[[argparse.Namespace], Report],
    about: str,
    examples: str,
    operands: str = "",
    more: str = "",
    collective: bool = False,
) -> argparse.ArgumentParser:
    """Add a command and return its parser, to which its arguments are added.

    Parameters
    ----------
    commands : argparse's subparsers
    name : str
    run : callable
        Does the work.
    about : str
        What the command does, for the list of commands and the head of its help.
    examples : str
        Command lines for the end of its help.
    operands : str
        The arguments that are not options, for the usage line.
    more : str
        Text that follows the examples.
    collective : bool
        Whether all ranks of an MPI job do the work together. Otherwise rank 0 alone does the work.
    """
    parser = commands.add_parser(
        name,
        usage=f"im2colnet {name} [OPTION]... {operands}".rstrip(),
        help=about,
        description=f"{about[0].upper()}{about[1:]}.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="examples:\n" + textwrap.indent(textwrap.dedent(examples).strip(), "  ") + more,
    )
    parser.set_defaults(run=run, parser=parser, collective=collective)
    return parser


# ---------------------------------------------------------------------- groups of arguments


def add_data(parser: argparse.ArgumentParser, default: str, purpose: str = "") -> None:
    """Add ``--data`` and ``--folder``, which name a data set."""
    group = parser.add_argument_group("data")
    group.add_argument(
        "--data",
        type=text,
        metavar="NAME",
        help=f"the data set{purpose}: digits, mnist, fashion-mnist, kmnist, emnist-letters, cifar-10, cifar-100; or the"
        " path of a folder with a folder of pictures for each class, of a .csv file with files and labels, or of an"
        f" .npz file (default: {default})",
    )
    group.add_argument("--folder", type=text, metavar="DIR", help="the folder that holds the data set's files")
    group.add_argument(
        "--size",
        type=image_size,
        metavar="PIXELS",
        help="the size of the images that pictures are scaled to: one number, or height,width (default: chosen from the"
        " pictures)",
    )
    group.add_argument(
        "--color", choices=COLORS, help="the colors of the images (default: grey if all pictures are grey, else rgb)"
    )
    group.add_argument(
        "--split",
        type=number(float, lambda v: 0 < v < 1, "above 0 and below 1"),
        metavar="PART",
        help=f"the fraction of the pictures that is held out as the test set (default: {SPLIT:g})",
    )


def add_checkpoint(parser: argparse.ArgumentParser) -> None:
    """Add the checkpoint that a command needs."""
    parser.add_argument(
        "checkpoint",
        metavar="CHECKPOINT",
        help="a checkpoint file, or a run folder: its best.safetensors if the run keeps the best checkpoint, else its"
        " checkpoint.safetensors",
    )


def models_with(option: str) -> list[str]:
    """Return the names of the models that have an argument which others do not have."""
    return [name for name, model in models.MODELS.items() if option in model.options]


def add_model(parser: argparse.ArgumentParser) -> None:
    """Add ``--model`` and ``--width``, which say what network to build."""
    group = parser.add_argument_group("network")
    group.add_argument(
        "--model",
        choices=models.MODELS,
        help="the model (default: lenet5 or resnet20, chosen by the size of the images)",
    )
    group.add_argument(
        "--width",
        type=number(float, lambda v: 0 < v <= 4, "above 0 and at most 4"),
        metavar="W",
        help=f"a factor for the number of filters of {' and '.join(models_with('width'))}",
    )


def add_network(parser: argparse.ArgumentParser) -> None:
    """Add the arguments that name a network to report on."""
    add_data(
        parser,
        "digits, if neither --model nor --input-shape is given",
        " that gives the image size and the number of classes",
    )
    add_model(parser)
    parser.add_argument(
        "--checkpoint",
        type=text,
        metavar="CHECKPOINT",
        help="report on the network of this checkpoint, or of this run folder, instead",
    )
    parser.add_argument(
        "--input-shape", type=image_shape, metavar="C,H,W", help="the channels, height and width of an image"
    )


def add_step(parser: argparse.ArgumentParser, optimizer: str) -> None:
    """Add the arguments that a training step depends on; ``optimizer`` is the help of ``--optimizer``."""
    parser.add_argument(
        "--batch-size",
        type=positive,
        metavar="N",
        help="batch size: number of images in a step (default: the model's batch size)",
    )
    parser.add_argument("--optimizer", choices=OPTIMIZERS, help=optimizer)
    add_shard(parser)


def add_shard(parser: argparse._ActionsContainer) -> None:
    """Add ``--shard``, the number of images that go through the network together."""
    parser.add_argument(
        "--shard",
        type=positive,
        metavar="N",
        help="shard size: the largest number of images that go through the network together. The shards of a batch are"
        " divided among the ranks and CPU cores, so smaller shards give work to more of them. The shard size changes"
        " the last digits of the result, and the dropout masks (default: half of the batch, or fewer images if these"
        " do not fit into the cache; on a GPU the whole batch)",
    )


def add_timed_steps(parser: argparse.ArgumentParser, default: int) -> None:
    """Add ``--steps``, the number of training steps that are timed."""
    parser.add_argument(
        "--steps",
        type=number(int, lambda v: 1 <= v <= 10_000, "from 1 to 10,000"),
        metavar="N",
        default=default,
        help=f"number of training steps that are timed; the table of the layers shows the medians (default: {default})",
    )


def add_machine(parser: argparse.ArgumentParser, threads: bool = True) -> None:
    """Add the arguments that choose the backend and the number of threads, and ``--json``."""
    group = parser.add_argument_group("machine")
    group.add_argument(
        "--backend",
        type=text,
        metavar="NAME",
        help=f"the backend that computes (default: the one that the environment variable {VARIABLE} names, else numpy)",
    )
    if threads:
        group.add_argument(
            "--threads", type=positive, metavar="N", help="number of CPU cores to use at most (default: all)"
        )
    group.add_argument("--json", action="store_true", help="print a JSON document and nothing else to stdout")


def need_matplotlib(option: str) -> None:
    """Raise an error if Matplotlib is missing, before the work whose result it is to draw."""
    try:
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise Im2colnetError(f"to draw {option}, install Matplotlib: {install('viz')}") from error


# ---------------------------------------------------------------------- types of values


def text(value: str) -> str:
    """Refuse an empty value: it comes from a script whose variable is not set, and must not mean the default."""
    if not value:
        raise argparse.ArgumentTypeError("must not be empty; leave the option out for the default")
    return value


def file_ending(*endings: str) -> Callable[[str], str]:
    """Return a type for argparse: the name of a file to write, whose ending says its format."""

    def check(value: str) -> str:
        if not value.lower().endswith(endings):
            several = "one of " if len(endings) > 1 else ""
            raise argparse.ArgumentTypeError(f"must end with {several}{', '.join(endings)}, got {value!r}")
        return value

    return check


def number(kind: Callable[[str], float], holds: Callable[[float], bool], range_: str) -> Callable[[str], float]:
    """Return a type for argparse: a number for which a condition holds."""

    def parse(value: str) -> float:
        try:
            found = kind(value)
        except ValueError:
            found = math.nan
        if kind is int and found > MAX_INTEGER:
            given = value if len(value) < 40 else "more"
            raise argparse.ArgumentTypeError(f"must be at most {MAX_INTEGER:,}, got {given}")
        if not holds(found):
            raise argparse.ArgumentTypeError(f"must be a {'whole ' * (kind is int)}number {range_}, got {value!r}")
        return found

    return parse


positive = number(int, lambda v: v >= 1, "of at least 1")
not_negative = number(float, lambda v: 0 <= v < math.inf, "of at least 0")


def image_shape(value: str) -> tuple[int, ...]:
    """Read the shape of an image: channels, height and width."""
    sizes = value.split(",")
    if len(sizes) != 3 or not all(
        re.fullmatch(r"\s*[0-9]{1,10}\s*", size) and 0 < int(size) <= MAX_INTEGER for size in sizes
    ):
        raise argparse.ArgumentTypeError(f"must be three sizes such as 3,32,32, got {value!r}")
    return tuple(map(int, sizes))


def image_size(value: str) -> tuple[int, int]:
    """Read the size of an image: one number, or height and width."""
    sides = re.split("[,x×]", value)
    if len(sides) > 2 or not all(re.fullmatch(r"\s*[0-9]{1,10}\s*", s) and 0 < int(s) <= MAX_INTEGER for s in sides):
        raise argparse.ArgumentTypeError(f"must be a number of pixels such as 32, or height,width, got {value!r}")
    return int(sides[0]), int(sides[-1])


# ---------------------------------------------------------------------- commands that are printed


def option(name: str, value: object) -> list[str]:
    """Return an option of a command to paste; a value that begins with a dash would be taken for another option."""
    given = str(value)
    return [f"{name}={given}"] if given.startswith("-") else [name, given]
