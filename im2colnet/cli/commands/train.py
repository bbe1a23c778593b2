"""``im2colnet train``: train a network, and leave a run folder."""

from __future__ import annotations

import argparse
import math
import os
import shlex
import sys
import warnings
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple, TextIO

from im2colnet.backend.registry import unused
from im2colnet.cli import callbacks, fine_tuning
from im2colnet.cli.arguments import (
    Commands,
    UsageError,
    add_command,
    add_data,
    add_machine,
    add_model,
    add_shard,
    not_negative,
    number,
    option,
    positive,
    text,
)
from im2colnet.cli.augmentation import OPTIONS, add_augmentation, augmentation_row, transforms_for
from im2colnet.cli.data import check_folder, checksum, data_source, load_data, pictures_record
from im2colnet.cli.networks import check_data, make_model
from im2colnet.cli.ranks import by_first, command_prefix, together
from im2colnet.cli.recipes import MIN_STEPS, make_optimizer, optimizer_name, optimizer_text
from im2colnet.cli.report import Report
from im2colnet.cli.run_folder import CURVES, FILES, RECORD, RunRecord, take_folder
from im2colnet.cli.shards import idle_text, ranks_text, shards_text
from im2colnet.datasets.dataset import Dataset
from im2colnet.datasets.transforms import Transform
from im2colnet.errors import CheckpointError, DataError, NonFiniteError, TrainingWarning, install
from im2colnet.interrupt import Terminated
from im2colnet.models import MODELS, Recipe
from im2colnet.optim import Constant, Cosine, Optimizer
from im2colnet.optim.defaults import OPTIMIZERS
from im2colnet.parallel import get_num_threads
from im2colnet.show import terminal
from im2colnet.show.display import VALIDATION, Display, metrics, metrics_text
from im2colnet.show.progress import PlainDisplay, make_display
from im2colnet.text import amount, count, duration, fields, size_text
from im2colnet.training import checkpoint
from im2colnet.training.folder import CHECKPOINT
from im2colnet.training.history import History
from im2colnet.training.trainer import Trainer
from im2colnet.types import HALF

ORDER = 10
#: quantities that a checkpoint's history must have for each epoch
RECORDED = ("loss", "seconds", "images_per_second")
#: options of a new training only: a checkpoint has settings of its own
FIXED = (
    *("optimizer", "lr", "momentum", "weight_decay", "schedule", "warmup", "seed", "shard", "precision"),
    *OPTIONS,
    *fine_tuning.FIXED,
)


class Training(NamedTuple):
    """A training that is about to start or to be resumed."""

    trainer: Trainer
    record: RunRecord
    images: Dataset
    held_out: Dataset
    augment: list[Transform] | None = None  #: transforms of the training images; None for those of the checkpoint
    normalize: bool = False
    said: str = ""  #: which weights of another checkpoint it begins with


def register(commands: Commands) -> None:
    """Add the command."""
    parser = add_command(
        commands,
        "train",
        run,
        "train a network and keep it in a run folder",
        """
        im2colnet train
        im2colnet train --data fashion-mnist --model lenet5 --epochs 3
        im2colnet train --data pictures --augment crop,flip --cutmix 1 --normalize
        im2colnet train --data pictures --epochs 100 --early-stopping 10 --ema 0.99
        im2colnet train --data mine.npz --model vgg8 --optimizer adamw --lr 1e-3 --out runs/mine
        im2colnet train --data mine.npz --init-from runs/cars-resnet18-1/checkpoint.safetensors --freeze "layer*"
        im2colnet train --resume runs/digits-resnet20-1/checkpoint.safetensors --epochs 20
        mpiexec -n 4 im2colnet train --data pictures --batch-size 256
        """,
        more="\n\ndefaults of the models (decay is the weight decay):\n"
        + "\n".join(
            f"  {name:18}  {model.recipe.epochs:2} epochs, batch size {model.recipe.batch_size},"
            f" {optimizer_name(how)}, lr {how.lr:g}, decay {getattr(how, 'weight_decay', 0.0):g}"
            for name, model in MODELS.items()
            for how in [model.recipe.optimizer]
        )
        + f"\nwith few images the number of epochs is higher: at least {MIN_STEPS} training steps in all",
        collective=True,
    )
    add_data(parser, "digits; with --resume, the run's data")
    add_model(parser)
    group = parser.add_argument_group("training", "The defaults depend on the model, see below.")
    group.add_argument(
        "--epochs",
        type=positive,
        metavar="N",
        help="number of epochs: how often training goes through all training images",
    )
    group.add_argument(
        "--batch-size", type=positive, metavar="N", help="batch size: number of images in a training step"
    )
    group.add_argument(
        "--drop-last",
        action="store_true",
        help="leave out the last batch of an epoch if it is smaller than the batch size",
    )
    group.add_argument("--optimizer", choices=OPTIMIZERS, help="the optimizer")
    group.add_argument(
        "--lr",
        type=number(float, lambda v: 0 < v < math.inf, "above 0"),
        metavar="RATE",
        help="learning rate; with a schedule, the highest learning rate",
    )
    group.add_argument(
        "--momentum",
        type=number(float, lambda v: 0 <= v < 1, "from 0 to below 1"),
        metavar="M",
        help="momentum of sgd (default: 0.9)",
    )
    group.add_argument("--weight-decay", type=not_negative, metavar="D", help="weight decay (L2 regularization)")
    group.add_argument(
        "--schedule",
        choices=("constant", "cosine"),
        help="learning rate schedule after the warm-up: constant, or falling to 0 as a cosine (default: cosine)",
    )
    group.add_argument(
        "--warmup",
        type=not_negative,
        metavar="EPOCHS",
        help="warm-up: number of epochs in which the learning rate rises to --lr (default: a tenth of the epochs with"
        " cosine, else 0)",
    )
    group.add_argument(
        "--seed",
        type=number(int, lambda v: v >= 0, "of at least 0"),
        metavar="N",
        help="random seed of initialization, shuffling and dropout (default: 0); the same seed gives the same network",
    )
    add_shard(group)
    group.add_argument(
        "--precision",
        choices=("float32", "tf32", *HALF),
        help="the precision in which a GPU computes (default: the backend's)",
    )
    add_augmentation(parser)
    fine_tuning.add_update(parser)
    fine_tuning.add_fine_tuning(parser)
    callbacks.add_callbacks(parser)
    group = parser.add_argument_group("run")
    group.add_argument("--out", type=text, metavar="DIR", help="the run folder (default: a new one in runs/)")
    group.add_argument(
        "--resume",
        type=text,
        metavar="CHECKPOINT",
        help="resume the training of this checkpoint, or of the checkpoint in this run folder, exactly as if it had not"
        " been interrupted. A different number of --epochs changes the learning rate of the remaining steps",
    )
    add_machine(parser)


def run(args: argparse.Namespace) -> Report:
    """Train a network and leave its run folder."""
    with ExitStack() as held:
        return Report(_train(args, held), describe)


def _train(args: argparse.Namespace, held: ExitStack) -> dict[str, Any]:
    training = resume(args) if args.resume else start(args)
    trainer, record, images, held_out, augment, normalize, said = training
    if warning := idle_text(trainer, min(record.batch_size, len(images)), images.images.shape[1:]):
        warnings.warn(warning, TrainingWarning, stacklevel=2)
    talk = sys.stderr if args.json else sys.stdout
    if not args.quiet:
        print(_start_text(training, unused(args.backend), terminal.columns(talk)), file=talk)
    if said:
        print(said, file=talk)
    if trainer.epoch >= record.epochs:
        out = Path(args.resume).parent
        print(f"already done: {count(trainer.epoch, 'epoch')}; to continue, ask for more with --epochs", file=talk)
    else:
        record.commands.append(shlex.join([*command_prefix(), *args.given]))
        out = by_first(lambda: take_folder(record, args.out, args.resume, held))
    try:
        trainer.fit(
            images,
            record.epochs,
            record.batch_size,
            held_out,
            out,
            display=_display(args, talk, record.epochs),
            drop_last=record.drop_last,
            augment=augment,
            normalize=normalize,
            callbacks=callbacks.callbacks_for(record.callbacks) if trainer.epoch < record.epochs else (),
            progress=False,
            save_every=record.callbacks.get("save_every"),
        )
    except NonFiniteError as error:
        kept = (
            f"the last good checkpoint stays: {out / CHECKPOINT}"
            if (out / CHECKPOINT).exists()
            else "there is no checkpoint yet"
        )
        error.args = (f"{error}; {kept}",)
        raise
    except (KeyboardInterrupt, Terminated) as error:
        error.add_note(how_to_go_on(args, record, out))
        raise
    by_first(lambda: _note_the_end(trainer, record, out))
    return _facts(trainer, record, out, held_out)


def _note_the_end(trainer: Trainer, record: RunRecord, out: Path) -> None:
    """Write into the run's record that the training is done.

    If a run was killed between its last checkpoint and this note, resuming it has no steps left, and writes the note.
    """
    before = RunRecord.beside(str(out / CHECKPOINT))
    if before is not None and not before.done and before.epochs == record.epochs:
        record.done = True
        record.write(out)


def _display(args: argparse.Namespace, stream: TextIO, epochs: int) -> Display | None:
    """Return the display for the progress."""
    if args.quiet:
        return None
    return PlainDisplay(stream, epochs, args.log_interval) if args.log_interval else make_display(stream, epochs)


# ---------------------------------------------------------------------- what to train


def start(args: argparse.Namespace) -> Training:
    """Return the training of a new network."""
    with together():
        check_folder(args)
        args.data = args.data or "digits"
        images, held_out = load_data(args)
        net, model, recipe_of, said = fine_tuning.beginning(args, images)
        recipe = MODELS[recipe_of].recipe
        batch_size = args.batch_size or recipe.batch_size
        steps = len(images) // batch_size if args.drop_last else math.ceil(len(images) / batch_size)
        epochs = args.epochs or max(recipe.epochs, math.ceil(MIN_STEPS / max(steps, 1)))
        optimizer = _optimizer(args, recipe, epochs, steps)
        record = RunRecord(
            *data_source(args),
            model,
            epochs,
            batch_size,
            list(images.classes),
            checksum(images),
            args.drop_last,
            **pictures_record(args, None, images),
            callbacks=callbacks.settings(args, {}),
        )
        settings = fine_tuning.settings(args, net)
        augment = transforms_for(args, images)
    trainer = Trainer(
        net, optimizer=optimizer, seed=args.seed or 0, shard=args.shard, precision=args.precision, **settings
    )
    return Training(trainer, record, images, held_out, augment, bool(args.normalize), said)


def resume(args: argparse.Namespace) -> Training:
    """Return the training that a checkpoint belongs to."""
    with together():
        fixed = FIXED if args.model else (*FIXED, "width")
        given = [f"--{name.replace('_', '-')}" for name in fixed if getattr(args, name) is not None]
        if given:
            raise UsageError(f"--resume uses the checkpoint's own settings: leave out {', '.join(given)}")
        if os.path.isdir(args.resume):
            args.resume = os.path.join(args.resume, CHECKPOINT)
    trainer = Trainer.load(args.resume)
    with together():
        before, history = RunRecord.beside(args.resume), trainer.history
        if (trainer.epoch and not history) or any(
            type(row) is not dict or set(RECORDED) - row.keys() for row in history
        ):
            raise CheckpointError(
                f"{args.resume} is damaged: each epoch of its history must have {', '.join(RECORDED)}"
            )
        epochs = args.epochs or (before.epochs if before else None)
        batch_size = args.batch_size or (before.batch_size if before else None)
        if not epochs or not batch_size:
            raise UsageError(
                f"there is no {RECORD} beside {args.resume}: give --data, --epochs and --batch-size as they were"
            )
        images, held_out = load_data(args, before)
        net = make_model(args, args.model, images) if args.model else None
    if net:
        trainer = Trainer.load(args.resume, net)
    with together():
        record = _record_of(args, before, trainer, images, epochs, batch_size)
    return Training(trainer, record, images, held_out)


def _record_of(
    args: argparse.Namespace, before: RunRecord | None, trainer: Trainer, images: Dataset, epochs: int, batch_size: int
) -> RunRecord:
    """Return the record of a resumed training, whose data must be the same as before."""
    check_data(trainer.net, images)
    found = checksum(images)
    if before and before.checksum != found:
        raise DataError(
            f"{args.resume} was trained on images that differ from those of {images.name}; to resume exactly,"
            f" the data must be the same ({before.data})"
        )
    model = args.model or (before.model if before else "network")
    drop_last = args.drop_last or (before is not None and before.drop_last)
    return RunRecord(
        *data_source(args, before),
        model,
        epochs,
        batch_size,
        list(images.classes),
        found,
        drop_last,
        **pictures_record(args, before, images),
        callbacks=callbacks.settings(args, before.callbacks if before else {}),
        commands=[*before.commands] if before else [],
    )


def _optimizer(args: argparse.Namespace, recipe: Recipe, epochs: int, steps: int) -> Optimizer:
    """Make the optimizer that the arguments ask for; ``steps`` are those of an epoch."""
    cosine = args.schedule != "constant"
    warmup = round(_given(args.warmup, epochs / 10 if cosine else 0.0) * steps)
    optimizer = make_optimizer(
        args.optimizer, recipe.optimizer, lr=args.lr, momentum=args.momentum, weight_decay=args.weight_decay
    )
    return replace(optimizer, lr=(Cosine if cosine else Constant)(optimizer.lr, warmup))


def _given(value: float | None, default: float) -> float:
    return default if value is None else value


# ---------------------------------------------------------------------- what it says


def _start_text(training: Training, hint: str, width: int | None) -> str:
    trainer, record, images, held_out, augment, normalize, _ = training
    rows = {
        "data": f"{images.name}, {len(images):,} training and {len(held_out):,} test images"
        f" of {size_text(images.images.shape[1:])}",
        **augmentation_row(
            trainer.augment if augment is None else augment, normalize or trainer.net.normalization is not None
        ),
        "network": f"{record.model}, {trainer.net.graph.size:,} parameters" + fine_tuning.frozen_text(trainer.net),
        "steps": f"batches of {record.batch_size}, {optimizer_text(trainer.optimizer)}"
        + fine_tuning.settings_text(trainer),
        "shards": shards_text(trainer, min(record.batch_size, len(images)), images.images.shape[1:]),
        **({"hint": hint} if hint else {}),
    }
    return fields(rows, width) + "\n"


def how_to_go_on(args: argparse.Namespace, record: RunRecord, out: Path) -> str:
    """Return the command that resumes an interrupted training."""
    if not (out / CHECKPOINT).exists():
        return "\ninterrupted before there was a checkpoint"
    command = [*command_prefix(), "train"]
    for name, value in (
        ("--resume", out / CHECKPOINT),
        ("--data", record.data),
        ("--epochs", record.epochs),
        ("--folder", record.folder),
        ("--backend", args.backend),
        ("--threads", args.threads),
    ):
        command += option(name, value) if value else []
    return f"\ninterrupted; the checkpoint is {out / CHECKPOINT}\nto resume exactly there:\n  {shlex.join(command)}"


def _facts(trainer: Trainer, record: RunRecord, out: Path, held_out: Dataset) -> dict[str, Any]:
    """Gather the results, and draw the curves if Matplotlib is there."""
    history, seconds = trainer.history, sum(trainer.history["seconds"])
    images = sum(epoch["seconds"] * epoch["images_per_second"] for epoch in history)
    last = history[-1]
    # the network was trained from Python, without validation; or it has the weights of an earlier epoch
    if "validation_loss" not in last or trainer.uses_others:
        last = last | {f"{VALIDATION}{key}": value for key, value in trainer.evaluate(held_out).items()}
    measured = [name for name in ("loss", *metrics(last)) if f"{VALIDATION}{name}" in last]
    hint = by_first(lambda: _draw_curves(history, out))
    return {
        "data": record.data,
        "model": record.model,
        "parameters": trainer.net.graph.size,
        "epochs": trainer.epoch,
        "batch_size": record.batch_size,
        "optimizer": checkpoint.describe(trainer.optimizer),
        "seed": trainer.seed,
        "shard": trainer.shard,
        "augment": [*map(repr, trainer.augment)],
        "normalization": trainer.net.normalization,
        "train": {name: last[name] for name in measured if name in last},
        "test": {name: last[f"{VALIDATION}{name}"] for name in measured},
        "seconds": seconds,
        "images_per_second": images / seconds,
        "backend": trainer.net.backend.name,
        "ranks": trainer.rank_count,
        "threads": get_num_threads(),
        "workers": trainer.workers,
        "precision": trainer.net.precision,
        "peak_memory": trainer.net.backend.peak_bytes(),
        "folder": str(out),
        **{name: str(out / file) if (out / file).exists() else None for name, file in FILES.items()},
        "history": list(history),
        **({"hint": hint} if hint else {}),
    }


def _draw_curves(history: History, out: Path) -> str | None:
    """Draw the curves; return a hint if that cannot be done."""
    try:
        from im2colnet.show.plots import save_curves

        save_curves(history, out / CURVES)
    except ImportError:
        return f"for a picture of the curves: {install('viz')}"
    except Exception as error:  # Matplotlib needs folders to write to; the training is done all the same
        return f"the curves could not be drawn: {error}"
    return None


def describe(facts: dict[str, Any], width: int | None) -> str:
    """Return the results as lines."""
    rows = {
        "test": metrics_text(facts["test"]),
        "train": f"{metrics_text(facts['train'])} (means over the last epoch)",
        "time": f"{duration(facts['seconds'])} for {count(facts['epochs'], 'epoch')},"
        f" {facts['images_per_second']:,.0f} images/s",
        "network": f"{facts['model']}, {facts['parameters']:,} parameters",
        "backend": f"{facts['backend']}, {facts['precision']}, {ranks_text(facts['ranks'])}{facts['workers']}",
        **({"memory": f"{amount(peak, 1024)}B at most"} if (peak := facts["peak_memory"]) else {}),
        "folder": facts["folder"],
        "files": ", ".join(file for name, file in FILES.items() if facts[name]),
    }
    if "hint" in facts:
        rows["hint"] = facts["hint"]
    return "\n" + fields(rows, width, whole=("folder", "files"))
