"""The network that the arguments name, and checks of classifiers."""

from __future__ import annotations

import argparse
from typing import NamedTuple

from im2colnet import models
from im2colnet.cli.arguments import UsageError, models_with
from im2colnet.cli.data import check_folder, load_data
from im2colnet.cli.run_folder import RunRecord, checkpoint_of
from im2colnet.datasets.dataset import Dataset
from im2colnet.datasets.inputs import Inputs
from im2colnet.errors import DataError, NonFiniteError, ShapeError
from im2colnet.host import np
from im2colnet.losses import Loss
from im2colnet.network import Network
from im2colnet.optim import Optimizer
from im2colnet.optim.defaults import OPTIMIZERS
from im2colnet.text import size_text
from im2colnet.training.data import named_as_trained
from im2colnet.training.trainer import Trainer
from im2colnet.types import Shape


class Subject(NamedTuple):
    """A network to report on, and how it is trained."""

    name: str
    net: Network
    shape: tuple[int, ...]  #: of one image
    batch_size: int
    optimizer: Optimizer
    loss: Loss | None  #: of a checkpoint


def find_subject(args: argparse.Namespace) -> Subject:
    """Return the network that the arguments name: a checkpoint's, or a model for a data set or for a shape."""
    shape: tuple[int, ...] | None = args.input_shape
    asked_for, loss = vars(args).get("optimizer"), None
    if args.checkpoint and (args.model or args.data or args.folder or args.width):
        raise UsageError("--checkpoint already names the network: leave out --model, --data, --folder and --width")
    check_folder(args)
    if args.checkpoint:
        name = checkpoint_of(args.checkpoint)
        trainer, record = Trainer.load(name), RunRecord.beside(name)
        net, optimizer, loss = trainer.net, trainer.optimizer, trainer.loss
        batch_size = record.batch_size if record else 64
    else:
        if args.data or not (args.model or shape):
            args.data = args.data or "digits"
            data = load_data(args)[0]
            name = args.model or default_model(data)
            net = make_model(args, name, data)
        else:
            name = args.model or "resnet20"
            sizes = {"in_channels": shape[0], "input_size": shape[1:]} if shape else {}
            net = models.MODELS[name](**sizes, **_width(args, name))
        _, batch_size, optimizer = models.MODELS[name].recipe
    if asked_for:
        optimizer = OPTIMIZERS[asked_for]
    return Subject(name, net, net.check_shape(shape), args.batch_size or batch_size, optimizer, loss)


def default_model(data: Dataset) -> str:
    """Return the name of the model that suits the size of the images."""
    channels, height, width = data.images.shape[1:]
    return "lenet5" if channels == 1 and min(height, width) >= 20 else "resnet20"


def make_model(args: argparse.Namespace, name: str, data: Dataset) -> Network:
    """Build a model for the images of a data set."""
    if not data.classes:
        raise DataError(
            f"{data.name} has targets and no class labels: the models of --model are classifiers; use Python to train"
            " another network"
        )
    channels, height, width = data.images.shape[1:]
    size = height if height == width else (height, width)
    return models.make(name, len(data.classes), channels, size, **_width(args, name))


def _width(args: argparse.Namespace, name: str) -> dict[str, float]:
    """Return the model's argument ``width``, if it is given."""
    if args.width is None:
        return {}
    if "width" not in models.MODELS[name].options:
        raise UsageError(f"--width is only for {' and '.join(models_with('width'))}, not for {name}")
    return {"width": args.width}


def check_classifier(net: Network) -> int:
    """Return the network's number of classes; raise if it is not a classifier."""
    _, *scores = output_shape(net)
    if len(scores) != 1:
        raise ShapeError("the network does not classify: its output is not a vector of class scores")
    return int(scores[0])


def output_shape(net: Network) -> Shape:
    """Return the shape of the network's output for one image, (1, ...); raise if it has several outputs."""
    shape, *others = net.graph.output_shapes((1, *net.check_shape(None)))
    if others:
        raise ShapeError(
            f"the network has {1 + len(others)} outputs, and this command takes networks with one output: use it from"
            " Python, by net.predict(images) and net.evaluate(images, labels, loss)"
        )
    return shape


def check_data(net: Network, data: Dataset) -> None:
    """Raise if a data set's images or classes do not suit the network."""
    shape, _ = net.check_shape(None), output_shape(net)
    classes = check_classifier(net) if data.classes else 0
    if data.images.shape[1:] != shape:
        found = size_text(data.images.shape[1:])
        raise DataError(f"the network takes images of {size_text(shape)}, the images of {data.name} are {found}")
    if len(data.classes) > classes:
        raise DataError(f"the network has {classes} classes, {data.name} has {len(data.classes)}")


def as_trained_on(net: Network, data: Dataset) -> Dataset:
    """Compare a data set with the training's data set; it gets the class names of the training if it has none."""
    check_data(net, data)
    if net.inputs is not None:
        net.inputs.compare(data.name, Inputs.of(data))
        net.inputs.compare_classes(data.name, data.classes)
    return named_as_trained(net, data)


def outputs_of(by: Network | Trainer, images: np.ndarray) -> np.ndarray:
    """Return the network's outputs for images; raise if there are no images, or an output is not finite.

    All ranks together compute the outputs of a trainer; this process computes the outputs of a network.
    """
    if not len(images):
        raise DataError(f"there are no images: the array is empty, of shape {images.shape}")
    outputs = np.asarray(by.predict(images, scores=True))
    if not np.isfinite(outputs).all():
        raise NonFiniteError("the network's output holds NaN or infinity: its parameters are not usable")
    return outputs
