"""``im2colnet explain``: show what a layer does with an image."""

from __future__ import annotations

import argparse
import os
import sys
import textwrap
from pathlib import Path
from typing import Any, NamedTuple

from im2colnet.cli.arguments import (
    Commands,
    UsageError,
    add_command,
    add_machine,
    add_network,
    file_ending,
    need_matplotlib,
    number,
    text,
)
from im2colnet.cli.data import check_folder, load_data, load_for
from im2colnet.cli.networks import default_model, find_subject, make_model
from im2colnet.cli.report import Report
from im2colnet.cli.run_folder import RunRecord, checkpoint_of
from im2colnet.datasets.dataset import Dataset
from im2colnet.datasets.images import read_images
from im2colnet.errors import DataError
from im2colnet.host import np
from im2colnet.layers import Conv2d, ConvTranspose2d
from im2colnet.network import Network
from im2colnet.reports.explain import ENDINGS, Score, explain
from im2colnet.show.plots import save
from im2colnet.text import printable
from im2colnet.training.trainer import Trainer
from im2colnet.visualize import overlay, saliency, sheet

ORDER = 52
PICTURES = (".svg", ".png")
WIDTH = 100  #: of the text where there is no terminal


class Shown(NamedTuple):
    """An image, and where it is from."""

    image: Any
    source: str


def register(commands: Commands) -> None:
    """Add the command."""
    parser = add_command(
        commands,
        "explain",
        run,
        "show what a layer does with an image: the lowered matrix, the product, and how the gradient goes back",
        """
        im2colnet explain
        im2colnet explain runs/digits-resnet20-1 --layer 3.body.0
        im2colnet explain runs/mine-resnet20-1 cat.png --layer 5.body.3 --output cat --out layer.html
        im2colnet explain --model notebook --data digits --layer 0 --position 3,4
        """,
        "[RUN] [IMAGE]",
        more="\n\n  RUN     a run folder or a checkpoint; by default the model notebook, or that of --model, with new"
        " parameters"
        "\n  IMAGE   a picture or a file of images; by default a test image of the run's data, or of the digits",
    )
    parser.add_argument("operands", nargs="*", metavar="[RUN] [IMAGE]", help=argparse.SUPPRESS)
    group = parser.add_argument_group("what is shown")
    group.add_argument(
        "--layer",
        type=text,
        metavar="NAME",
        help="the layer's name, as in the first column of `im2colnet summary` (default: the first convolution)",
    )
    group.add_argument(
        "--output",
        type=text,
        metavar="CLASS",
        help="the class whose score is differentiated, by its name or number (default: the class with the largest"
        " score)",
    )
    group.add_argument(
        "--position",
        type=position,
        metavar="ROW,COLUMN",
        help="the position of the window that is worked out (default: the one that the score depends on most)",
    )
    group.add_argument(
        "--channel",
        type=number(int, lambda v: v >= 0, "of at least 0"),
        metavar="N",
        help="the channel of the output (default: the one that the score depends on most)",
    )
    group.add_argument(
        "--index",
        type=number(int, lambda v: v >= 0, "of at least 0"),
        metavar="N",
        help="the number of the image among the test images, or in the file IMAGE (default: 0)",
    )
    group.add_argument(
        "--out",
        type=file_ending(*ENDINGS),
        metavar="FILE",
        help="write the explanation to a file: .html is an interactive page, .svg and .png are pictures (they need"
        " Matplotlib), .json has all numbers, .txt is the text",
    )
    group.add_argument(
        "--saliency",
        type=file_ending(".png"),
        metavar="FILE",
        help="write a picture of the pixels that the class's score depends on, by the gradient and by covering patches"
        " (needs Matplotlib)",
    )
    add_network(parser)
    add_machine(parser, threads=False)


def position(value: str) -> tuple[int, ...]:
    """Read a position: row and column, or of a sequence its place."""
    parts = value.split(",")
    if len(parts) > 2 or not all(part.strip().isdecimal() and len(part) < 10 for part in parts):
        raise argparse.ArgumentTypeError(f"must be a row and a column such as 3,4, got {value!r}")
    return tuple(map(int, parts))


def run(args: argparse.Namespace) -> Report:
    """Explain a layer."""
    file = _operands(args)
    if args.out and args.out.lower().endswith(PICTURES):
        need_matplotlib("a layer (--out)")
    if args.saliency:
        need_matplotlib("the saliency (--saliency)")
    name, net, shown = _from_run(args, file) if args.checkpoint else _new(args, file)
    layer = args.layer or _first_layer(net)
    found = explain(net, layer, shown.image, output=args.output)
    place = found.channel(args.channel)
    at = found.position(args.position, place)
    if args.out:
        found.save(args.out, position=at, channel=place)
    if args.saliency:
        _draw_saliency(net, shown.image, found.score, args.saliency)
    facts = {"network": name, "image": shown.source, "out": args.out, "position": list(at), "channel": place}
    if args.saliency:
        facts["saliency"] = args.saliency
    if args.json:
        facts |= found.facts()

    def describe(facts: dict[str, Any], width: int | None) -> str:
        if args.saliency and not args.out:
            return f"{args.saliency} shows the pixels of {shown.source} that {found.score.name} of {name} depends on"
        if args.out:
            open_it = ": open it in a browser" if args.out.lower().endswith((".html", ".svg")) else ""
            return f"layer {layer} of {name} with {shown.source} is in {args.out}{open_it}"
        head = textwrap.fill(printable(f"{name}, {shown.source}"), width or WIDTH, break_long_words=False) + "\n\n"
        return head + found.text(width or WIDTH, at, place, color=width is not None and colored())

    return Report(facts, describe)


def _draw_saliency(net: Network, image: Any, score: Score, path: str) -> None:
    """Draw an image, the gradient of a class's score, and by how much the score falls where patches are covered."""
    target = score.place[0]
    falls = saliency(net, image, target, "occlusion")
    pictures = [image, saliency(net, image, target), falls, overlay(image, falls)]
    save(sheet(pictures, [score.name, "gradient", "occlusion", "occlusion, on the image"], columns=4), path)


def colored() -> bool:
    """Return whether to send color codes to a terminal: see https://no-color.org."""
    return not os.environ.get("NO_COLOR") and os.environ.get("TERM", "") not in ("", "dumb") and sys.stdout.isatty()


def _operands(args: argparse.Namespace) -> str | None:
    """Note the run that the operands name; return the file of the image, if one is named."""
    given = list(args.operands)
    if given and (len(given) > 1 or os.path.isdir(given[0]) or given[0].lower().endswith(".safetensors")):
        if args.checkpoint:
            raise UsageError("the network is named twice, by RUN and by --checkpoint: leave one of them out")
        args.checkpoint = given.pop(0)
    if len(given) > 1:
        raise UsageError(f"give a run and one image, got {len(given) + 1} operands")
    if args.checkpoint:
        args.checkpoint = checkpoint_of(args.checkpoint)
    return given[0] if given else None


def _from_run(args: argparse.Namespace, file: str | None) -> tuple[str, Network, Shown]:
    """Return the name of a checkpoint, its network, and the image."""
    if args.model or args.width or args.input_shape:
        raise UsageError("the checkpoint already names the network: leave out --model, --width and --input-shape")
    trainer, record = Trainer.load(args.checkpoint), RunRecord.beside(args.checkpoint)
    net = trainer.net
    if file is not None:
        return args.checkpoint, net, _of_file(args, file, net)
    if not args.data and record is None:
        raise UsageError("which image? There is no record of the data beside the checkpoint: give an image, or --data")
    return args.checkpoint, net, _of_data(args, load_for(args, record, net)[1])


def _new(args: argparse.Namespace, file: str | None) -> tuple[str, Network, Shown]:
    """Return the name of a model, a network with new parameters, and the image."""
    if not (args.model or args.data or args.input_shape):
        args.model = "notebook"
    if file is None and not args.input_shape:
        args.data = args.data or "digits"
    if args.data:
        check_folder(args)
        train, test = load_data(args)
        name = args.model or default_model(train)
        net = make_model(args, name, train).init(seed=0)
        shown = _of_data(args, test) if file is None else _of_file(args, file, net)
        return f"{name} with new parameters", net, shown
    if file is None:
        raise UsageError("which image? Give the file of one, or --data")
    args.batch_size = None
    subject = find_subject(args)
    net = subject.net.init(seed=0)
    return f"{subject.name} with new parameters", net, _of_file(args, file, net)


def _of_file(args: argparse.Namespace, file: str, net: Network) -> Shown:
    if args.data and args.checkpoint:
        raise UsageError(f"two images are named, {file} and an image of --data: leave one of them out")
    images = read_images(Path(file), net.check_shape(None))
    return Shown(
        _one(images, args.index or 0, file), file if len(images) == 1 else f"image {args.index or 0} of {file}"
    )


def _of_data(args: argparse.Namespace, data: Dataset) -> Shown:
    index = args.index or 0
    image = _one(data.images, index, f"the test images of {data.name}")
    label = f", of class {data.classes[int(data.labels[index])]}" if data.classes else ""
    return Shown(image, f"test image {index} of {data.name}{label}")


def _one(images: Any, index: int, where: str) -> Any:
    if index >= len(images):
        raise DataError(f"there is no image {index}: {where} has the images 0 to {len(images) - 1}")
    return np.asarray(images[index : index + 1])[0]


def _first_layer(net: Network) -> str:
    """Return the name of the first convolution, or else of the first layer."""
    nodes = net.graph.nodes
    return next((node.name for node in nodes if isinstance(node.layer, (Conv2d, ConvTranspose2d))), nodes[0].name)
