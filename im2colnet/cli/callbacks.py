"""Options of ``im2colnet train``: early stopping, the best epoch, averages of the weights, logs, and the display."""

from __future__ import annotations

import argparse
import math
from collections.abc import Mapping
from typing import Any

from im2colnet.cli.arguments import MAX_INTEGER, UsageError, number, text
from im2colnet.errors import ShapeError
from im2colnet.show.display import VALIDATION
from im2colnet.training.callbacks import EMA, SWA, Callback, EarlyStopping, KeepBest, TensorBoard
from im2colnet.training.callbacks.checkpoints import interval

#: the options that a run stores, so that resuming uses them again
KEPT = ("early_stopping", "monitor", "keep_best", "ema", "swa", "tensorboard", "save_every")


def add_callbacks(parser: argparse.ArgumentParser) -> None:
    """Add the arguments; with ``--resume`` the defaults are the run's options."""
    group = parser.add_argument_group(
        "stopping, averaging, logging", "With --resume the defaults are the options of the resumed run."
    )
    group.add_argument(
        "--early-stopping",
        type=number(int, lambda v: v >= 0, "of at least 0"),
        metavar="EPOCHS",
        help="early stopping: end the training if the test loss has not improved for this number of epochs (patience),"
        " and restore the weights of the best epoch; 0 for no early stopping",
    )
    group.add_argument(
        "--monitor",
        type=text,
        metavar="NAME",
        help="the metric of the test images that --early-stopping and --keep-best watch, such as accuracy (default:"
        " loss)",
    )
    group.add_argument(
        "--keep-best", action="store_true", default=None, help="keep the checkpoint of the best epoch: best.safetensors"
    )
    group.add_argument(
        "--ema",
        type=number(float, lambda v: 0 <= v < 1, "from 0 to below 1"),
        metavar="DECAY",
        help="test and save the exponential moving average of the weights, such as 0.999",
    )
    group.add_argument(
        "--swa",
        type=number(float, _is_start, "that is an epoch, or below 1 a fraction of the training"),
        metavar="START",
        help="test and save the mean of the weights after each epoch from START on (stochastic weight averaging), such"
        " as 0.75; best with --schedule constant",
    )
    group.add_argument(
        "--tensorboard", action="store_true", default=None, help="write logs for TensorBoard into the run folder"
    )
    group.add_argument(
        "--save-every",
        type=save_every,
        metavar="STEPS|TIME",
        help="also save the checkpoint within an epoch: each time after this number of steps, or this time, such as"
        ' "10 min"',
    )
    group.add_argument(
        "--log-interval",
        type=number(float, lambda v: 0 < v < math.inf, "above 0"),
        metavar="SECONDS",
        help="print a line of progress at this interval within an epoch, instead of a progress bar (default: 30 if the"
        " output is not a terminal)",
    )
    group.add_argument("--quiet", action="store_true", help="show no progress, only the results")


def _is_start(value: float) -> bool:
    return 0 <= value < 1 or (1 <= value <= MAX_INTEGER and value == int(value))


def save_every(value: str) -> str:
    """Check the value of ``--save-every``."""
    try:
        interval(value)
    except ShapeError as error:
        raise argparse.ArgumentTypeError(str(error).removeprefix("save_every ")) from None
    return value


def settings(args: argparse.Namespace, before: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options that a run stores: the given options, else the options of the resumed run."""
    given = {name: getattr(args, name) for name in KEPT}
    found = {name: before.get(name) if value is None else value for name, value in given.items()}
    if found["ema"] is not None and found["swa"] is not None:
        raise UsageError("--ema and --swa are two ways to average the weights: give one of them")
    if args.monitor and not (found["early_stopping"] or found["keep_best"]):
        raise UsageError("--monitor names the metric for --early-stopping or --keep-best: give one of them too")
    if args.quiet and args.log_interval:
        raise UsageError("--quiet shows no progress: leave --log-interval out")
    return {name: value for name, value in found.items() if value is not None}


def callbacks_for(settings: Mapping[str, Any]) -> list[Callback]:
    """Return the callbacks that the settings ask for."""
    monitor = f"{VALIDATION}{settings.get('monitor', 'loss')}"
    found: list[Callback] = []
    if "ema" in settings:
        found.append(EMA(settings["ema"]))
    if "swa" in settings:
        start = settings["swa"]
        found.append(SWA(int(start) if start >= 1 else float(start)))
    if patience := settings.get("early_stopping"):
        found.append(EarlyStopping(monitor, patience, restore_best=True))
    if settings.get("keep_best"):
        found.append(KeepBest(monitor))
    if settings.get("tensorboard"):
        found.append(TensorBoard())
    return found


def check_settings(values: Any) -> bool:
    """Return whether ``run.json`` holds settings that this version can use."""
    if not isinstance(values, dict):
        return False
    parser = argparse.ArgumentParser(exit_on_error=False)
    add_callbacks(parser)
    try:
        for name in KEPT:
            value = values.get(name)
            if value is not None and not (value is True and name in ("keep_best", "tensorboard")):
                if type(value) not in (int, float, str):
                    return False
                parser.parse_args([f"--{name.replace('_', '-')}={value}"])
    except (argparse.ArgumentError, SystemExit):
        return False
    return True
