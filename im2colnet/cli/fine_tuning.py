"""Options of ``im2colnet train`` for gradients and fine-tuning: the initial weights, and the frozen parameters."""

from __future__ import annotations

import argparse
import math
from typing import Any, NamedTuple

from im2colnet.cli.arguments import UsageError, number, positive, text
from im2colnet.cli.networks import default_model, make_model
from im2colnet.cli.run_folder import RunRecord, checkpoint_of
from im2colnet.datasets.dataset import Dataset
from im2colnet.errors import DataError
from im2colnet.graph.nodes import Node
from im2colnet.layers import Linear
from im2colnet.layout import internal_shape
from im2colnet.models import MODELS
from im2colnet.network import Network
from im2colnet.optim import decay_weights_only
from im2colnet.training.trainer import Trainer

#: options of a new training only: a checkpoint has settings of its own
FIXED = ("clip_norm", "clip_value", "accumulate", "no_decay_on_norms", "init_from", "freeze", "freeze_statistics")
_above_0 = number(float, lambda v: 0 < v < math.inf, "above 0")


class Beginning(NamedTuple):
    """A network that a training begins with."""

    net: Network
    model: str  #: the name of the model that it is, for the run's record
    recipe: str  #: the name of the model whose recipe suits it
    said: str  #: which weights were loaded


def add_update(parser: argparse.ArgumentParser) -> None:
    """Add the options for gradients: clipping, accumulation, weight decay."""
    group = parser.add_argument_group("gradients")
    group.add_argument(
        "--clip-norm", type=_above_0, metavar="NORM", help="scale the gradient down if its norm is larger than this"
    )
    group.add_argument(
        "--clip-value", type=_above_0, metavar="VALUE", help="limit each number of the gradient to this absolute value"
    )
    group.add_argument(
        "--accumulate",
        type=positive,
        metavar="N",
        help="number of batches whose gradients are added up for each update of the parameters (default: 1)",
    )
    group.add_argument(
        "--no-decay-on-norms",
        action="store_true",
        default=None,
        help="no weight decay for biases and for the parameters of normalization layers",
    )


def add_fine_tuning(parser: argparse.ArgumentParser) -> None:
    """Add the options for the initial weights, and for the parameters that are frozen."""
    group = parser.add_argument_group("fine-tuning")
    group.add_argument(
        "--init-from",
        type=text,
        metavar="CHECKPOINT",
        help="start from the weights of this checkpoint or run folder, as far as names and shapes match; if the classes"
        " differ, the last layer is a new one (default of --model: the checkpoint's network)",
    )
    group.add_argument(
        "--freeze",
        action="append",
        type=text,
        metavar="PATTERN",
        help='freeze the parameters whose names match, such as "layer1.*"; may be given several times',
    )
    group.add_argument(
        "--freeze-statistics",
        action="store_true",
        default=None,
        help="with --freeze: also freeze the running statistics of the batch norms whose names match",
    )


def settings(args: argparse.Namespace, net: Network) -> dict[str, Any]:
    """Return the arguments of a trainer for the options, and freeze parameters if they ask for it."""
    if args.freeze:
        net.freeze(*args.freeze, statistics=bool(args.freeze_statistics))
    elif args.freeze_statistics:
        raise UsageError("--freeze-statistics needs --freeze PATTERN: give both")
    return {
        "clip_norm": args.clip_norm,
        "clip_value": args.clip_value,
        "accumulate": args.accumulate or 1,
        "groups": decay_weights_only(net) if args.no_decay_on_norms else None,
    }


def settings_text(trainer: Trainer) -> str:
    """Return the gradient options in words; each part begins with a comma."""
    words = ""
    if trainer.accumulate > 1:
        words += f", an update after {trainer.accumulate:,} batches"
    if trainer.clip_norm is not None:
        words += f", gradient norm at most {trainer.clip_norm:g}"
    if trainer.clip_value is not None:
        words += f", gradient values at most {trainer.clip_value:g}"
    return words


def frozen_text(net: Network) -> str:
    """Return the number of frozen parameters in words; empty if no parameter is frozen."""
    shapes = net.parameters()
    frozen = sum(math.prod(shapes[name].shape) for name in net.frozen if name in shapes)
    statistics = "" if {*net.frozen} <= shapes.keys() else ", and running statistics"
    return f", {frozen:,} of them frozen{statistics}" if net.frozen else ""


def beginning(args: argparse.Namespace, images: Dataset) -> Beginning:
    """Return the network that a new training begins with."""
    if not args.init_from:
        model = args.model or default_model(images)
        return Beginning(make_model(args, model, images), model, model, "")
    path = checkpoint_of(args.init_from)
    before, record = Trainer.load(path, ranks="none").net, RunRecord.beside(path)
    if before.inputs is not None:
        before.inputs.compare_kind(images.name, images.images.dtype.name == "uint8")
    last, seed = _last_layer(before), args.seed or 0
    classes = before.inputs.classes if before.inputs else ()
    others = classes != images.classes if classes else _classes(last) != len(images.classes)
    state = {
        name: array
        for name, array in before.state_dict().items()
        if not (others and last is not None and name.startswith(f"{last.name}."))
    }
    if args.model:
        net, model = make_model(args, args.model, images).init(seed), args.model
        net.normalization = before.normalization
        report = net.load_state_dict(state, strict=False)
        return Beginning(net, model, model, f"{path}: {report}\n")
    if args.width is not None:
        raise UsageError("--width builds another network than the checkpoint's: give --model too")
    model = record.model if record else "network"
    if not images.classes:
        raise DataError(f"{images.name} has targets and no class labels: train on it from Python")
    said = ""
    if others:
        if last is None or not isinstance(last.layer, Linear):
            raise UsageError(
                f"the network of {path} does not end with a linear layer, so there is none to be replaced for"
                " other classes: give --model, or replace a layer from Python by net.replace(...)"
            )
        layer = Linear(last.layer.in_features, len(images.classes), last.layer.bias)
        before.replace(last.name, layer, seed)
        said = f"the last layer {last.name} is replaced, since the classes differ: {layer}\n"
    before.unfreeze()
    before.inputs, before.input_shape = None, tuple(images.images.shape[1:])
    before.graph.shapes(internal_shape(before.input_shape, 1))
    report = before.load_state_dict(state, strict=False)
    recipe = model if model in MODELS else default_model(images)
    return Beginning(before, model, recipe, f"{path}: {report}\n{said}")


def _last_layer(net: Network) -> Node | None:
    """Return the last layer with parameters, which makes the scores of the classes."""
    return next((node for node in reversed(net.graph.nodes) if node.offsets), None)


def _classes(last: Node | None) -> int | None:
    return last.layer.out_features if last is not None and isinstance(last.layer, Linear) else None
