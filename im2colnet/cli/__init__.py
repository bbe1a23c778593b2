"""The command line: ``im2colnet train | evaluate | predict | plan | summary | profile | doctor | backends``.

Exit codes: 0 done, 1 the work failed, 2 wrong usage, 130 interrupted by Ctrl-C, 143 by SIGTERM.
"""

from __future__ import annotations

import argparse
import csv
import errno
import io
import itertools
import json
import math
import os
import re
import shlex
import socket
import stat
import sys
import textwrap
import time
import traceback
import warnings
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

from im2colnet import datasets, interrupt, models, startup
from im2colnet.backend.registry import VARIABLE, get_backend, list_backends, use_backend
from im2colnet.datasets.dataset import Dataset
from im2colnet.datasets.images import read_images
from im2colnet.datasets.inputs import Inputs, named
from im2colnet.errors import (
    CheckpointError,
    DataError,
    Im2colnetError,
    InputWarning,
    NonFiniteError,
    ShapeError,
    TrainingWarning,
    WorkerWarning,
    install,
)
from im2colnet.host import np
from im2colnet.layout import internal_shape
from im2colnet.network import Network
from im2colnet.optim import SGD, Adam, AdamW, Constant, Cosine, Optimizer, Schedule
from im2colnet.parallel import get_num_threads, set_num_threads
from im2colnet.show import terminal as output
from im2colnet.show.progress import duration, make_display
from im2colnet.show.terminal import OutputError
from im2colnet.training import checkpoint
from im2colnet.training.trainer import CHECKPOINT, METRICS, Trainer
from im2colnet.types import HALF
from im2colnet.version import __version__

RUN, CURVES = "run.json", "curves.png"
DEBUG = "IM2COLNET_DEBUG"  #: environment variable: errors show the traceback
FAULT = "this is a fault of im2colnet"
LESS = "take fewer images at once (--batch-size), smaller images or a smaller model"
LARGEST = 2**31 - 1  #: number that an option takes
PATIENCE = 3.0  #: seconds that the workers of a killed run may take to end
FILES = {"checkpoint": CHECKPOINT, "metrics": METRICS, "curves": CURVES}


class Recipe(NamedTuple):
    """How a model is trained unless the arguments say otherwise."""

    epochs: int
    batch_size: int
    optimizer: str
    lr: float
    weight_decay: float = 0.0


RECIPES = {
    "notebook": Recipe(20, 32, "adam", 1e-2),
    "lenet5": Recipe(15, 64, "sgd", 0.05, 5e-4),
    "vgg8": Recipe(15, 64, "adam", 2e-3),
    "resnet20": Recipe(12, 32, "sgd", 0.05, 1e-3),
    "resnet18": Recipe(12, 64, "sgd", 0.05, 5e-4),
    "mobilenet": Recipe(15, 64, "sgd", 0.05, 5e-4),
}
#: steps that a training of few images gets at least, by more epochs than the recipe's
LEAST_STEPS = 300
#: learning rate and weight decay of an optimiser that is not the recipe's
RATES = {"sgd": (0.02, 0.0), "adam": (1e-3, 0.0), "adamw": (1e-3, 1e-2)}
#: what the history of a training has of each epoch, at least
RECORDED = ("loss", "accuracy", "seconds", "images_per_second")
#: files that ``predict`` writes, by the end of their names
PREDICTIONS = (".csv", ".json", ".npy", ".npz")
#: options of a new training, which a checkpoint brings with it
FIXED = ("optimizer", "lr", "momentum", "weight_decay", "schedule", "warmup", "seed", "precision")


class UsageError(Exception):
    """The arguments do not go together."""


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
    closed = sys.stdout is None
    with startup.as_usual(), interrupt.terminable(), output.standard_streams():
        try:
            if closed:
                raise OutputError(f"stdout is closed; redirect it to a file, or to {os.devnull}")
            code = _run(argv)
            sys.stdout.flush()
            return code
        except OutputError as error:
            output.discard()
            if isinstance(error.__cause__, BrokenPipeError):  # the reader, such as head, has enough
                return 1
            return _failed(f"cannot write the output: {error}")
        except KeyboardInterrupt:
            print("im2colnet: interrupted", file=sys.stderr)
            return startup.CODE
        except interrupt.Terminated as ended:
            print("im2colnet: ended by SIGTERM", file=sys.stderr)
            return int(ended.code or 1)
        except Im2colnetError as error:
            return _failed(str(error) if not isinstance(error, MemoryError) else f"out of memory: {error}; {LESS}")
        except MemoryError as error:
            return _failed(f"out of memory{f' ({error})' * bool(str(error))}: {LESS}")
        except OSError as error:
            what = error.strerror or str(error)
            if error.errno == errno.ENOMEM:
                return _failed(f"out of memory ({what}): {LESS}")
            return _failed(what if error.filename is None else f"{error.filename}: {what}")
        except (Exception, SystemExit) as error:  # SystemExit: of a plug-in
            what = " ".join(f"{type(error).__name__}: {error}".split())
            return _failed(f"{FAULT}: {what}. Set {DEBUG}=1 to see where, and report it")


def _failed(message: str) -> int:
    """Say why the work failed, and where if that is wanted."""
    if os.environ.get(DEBUG, "0") not in ("", "0"):
        traceback.print_exc()
    print(f"im2colnet: error: {message}", file=sys.stderr)
    return 1


def _run(argv: Sequence[str] | None) -> int:
    parser, given = _parser(), sys.argv[1:] if argv is None else argv
    if not given:
        parser.print_help(sys.stderr)
        return 2
    try:
        args = parser.parse_args(given)
    except SystemExit as exit:  # argparse: 0 after --help, 2 after wrong usage
        return int(exit.code or 0)
    try:
        with _machine(args), warnings.catch_warnings():
            for category in InputWarning, TrainingWarning, WorkerWarning:
                warnings.simplefilter("once", category)
            warnings.showwarning = _show_warning
            code: int = args.command(args)
            return code
    except UsageError as error:
        with suppress(SystemExit):
            args.parser.error(str(error))
        return 2


def _show_warning(message: Warning | str, category: type[Warning], *where: Any, **options: Any) -> None:
    """Say it in one line: where in the library it was found helps nobody on the command line."""
    print(f"im2colnet: warning: {message}", file=sys.stderr)


@contextmanager
def _machine(args: argparse.Namespace) -> Iterator[None]:
    """Use the backend and the threads that the arguments ask for."""
    before = get_num_threads()
    set_num_threads(vars(args).get("threads") or before)
    try:
        with use_backend(get_backend(args.backend)) if "backend" in args else nullcontext():
            yield
    finally:
        set_num_threads(before)


# ---------------------------------------------------------------------- commands


def train(args: argparse.Namespace) -> int:
    """Train a network and leave its run folder."""
    with ExitStack() as held:
        return _train(args, held)


def _train(args: argparse.Namespace, held: ExitStack) -> int:
    from im2colnet.text import count

    trainer, run, (images, held_out) = _resume(args) if args.resume else _start(args)
    talk = sys.stderr if args.json else sys.stdout
    print(_start_text(trainer, run, images, held_out, output.columns(talk)), file=talk)
    if trainer.epoch >= run.epochs:
        out = Path(args.resume).parent
        print(f"already done: {count(trainer.epoch, 'epoch')}; to go on, ask for more with --epochs", file=talk)
    else:
        out = _run_folder(args, run, held)
    try:
        with make_display(talk, run.epochs) as display:
            dropping = {"drop_last": True} if run.drop_last else {}
            trainer.fit(images, run.epochs, run.batch_size, held_out, out, display, **dropping)
    except NonFiniteError as error:
        kept = (
            f"the last good checkpoint stays: {out / CHECKPOINT}"
            if (out / CHECKPOINT).exists()
            else "there is no checkpoint yet"
        )
        raise NonFiniteError(f"{error}; {kept}") from error
    except (KeyboardInterrupt, interrupt.Terminated) as error:
        print(_interrupted(args, run, out), file=sys.stderr)
        return startup.CODE if isinstance(error, KeyboardInterrupt) else int(error.code or 1)
    report = _train_report(trainer, run, out, held_out)
    _print(args, report, lambda: _train_text(report))
    return 0


def evaluate(args: argparse.Namespace) -> int:
    """Measure a checkpoint on the held-out images of a data set."""
    trainer = Trainer.load(args.checkpoint)
    _, held_out = _load_data(args, Run.beside(args.checkpoint))
    _check_fit(trainer.net, held_out)
    if trainer.net.inputs is not None:
        trainer.net.inputs.compare(held_out.name, Inputs.of(held_out))
        trainer.net.inputs.compare_classes(held_out.name, held_out.classes)
        if not named(held_out.classes):
            known = trainer.net.inputs.classes[: len(held_out.classes)]
            held_out = replace(held_out, classes=known + held_out.classes[len(known) :])
    scores = _log_probabilities(trainer.net, held_out.images)
    labels, guesses = held_out.labels, scores.argmax(axis=1)
    names = held_out.classes + tuple(map(str, range(len(held_out.classes), scores.shape[1])))
    confusion = np.zeros((len(names), len(names)), np.int64)
    np.add.at(confusion, (labels, guesses), 1)
    rows = []
    for label, name in enumerate(held_out.classes):
        counts = confusion[label]
        images, correct = int(counts.sum()), int(counts[label])
        counts[label] = 0
        wrong = int(counts.argmax())
        rows.append(
            {
                "class": name,
                "images": images,
                "correct": correct,
                "accuracy": correct / images if images else None,
                "mistaken_for": names[wrong] if counts[wrong] else None,
                "times": int(counts[wrong]),
            }
        )
    report = {
        "checkpoint": str(args.checkpoint),
        "data": held_out.name,
        "images": len(held_out),
        "loss": float(-scores[np.arange(len(labels)), labels].mean()),
        "accuracy": float((guesses == labels).mean()),
        "classes": rows,
        "backend": trainer.net.backend.name,
        "threads": get_num_threads(),
    }
    _print(args, report, lambda: _evaluate_text(report))
    return 0


def predict(args: argparse.Namespace) -> int:
    """Classify images from files."""
    if args.out and any(
        os.path.exists(file) and os.path.exists(args.out) and os.path.samefile(file, args.out)
        for file in (*args.files, args.checkpoint)
    ):
        _wrong_usage(f"--out {args.out} would overwrite a file that is read: give another name")
    net = Trainer.load(args.checkpoint).net
    outputs, run = _check_fit(net), Run.beside(args.checkpoint)
    if args.folder and not args.data:
        _wrong_usage("--folder is where the files of --data are: give that too")
    names = datasets.load(*_data_of(args, None))[0].classes if args.data else tuple(run.classes) if run else ()
    if not args.data and net.inputs is not None and not named(names):
        names = net.inputs.classes
    if args.data and len(names) != outputs:
        raise DataError(f"the data set {args.data} has {len(names)} classes, the network {outputs}")
    names = names if len(names) == outputs else tuple(map(str, range(outputs)))
    shape = net.check_shape(None)
    sources, found, failed = [], [], []
    for file in args.files:
        try:
            batch = read_images(Path(file), shape)
            if net.inputs is not None:
                net.inputs.compare(file, Inputs.of(batch))
            found.append(np.exp(_log_probabilities(net, batch)))
            sources += [(file, index) for index in range(len(batch))]
        except (Im2colnetError, OSError) as error:  # the others are predicted nevertheless
            failed.append({"file": file, "error": str(error) if file in str(error) else f"{file}: {error}"})
            print(f"im2colnet: error: {failed[-1]['error']}", file=sys.stderr)
    if not found:
        return 1
    probabilities = np.concatenate(found).astype(np.float32)
    rows = []
    for (file, index), row in zip(sources, probabilities, strict=True):
        top = [
            {"class": names[i], "label": int(i), "probability": float(row[i])}
            for i in np.argsort(-row, kind="stable")[:3]
        ]
        rows.append({"file": file, "index": index, **top[0], "top": top})
    report = {"checkpoint": str(args.checkpoint), "classes": list(names), "predictions": rows, "failed": failed}
    if args.out:
        _write_predictions(args.out, report, probabilities)
    _print(args, report, lambda: _predict_text(report))
    return 1 if failed else 0


def plan(args: argparse.Namespace) -> int:
    """Tell the memory that training and inference will take."""
    from im2colnet.reports import memory as report

    subject = _subject(args)
    planned = report.plan(subject.net, subject.shape, subject.batch_size, subject.optimizer, args.threads)
    _print(args, {"network": subject.name, **planned}, lambda: f"{subject.name}: {report.plan_text(planned, _width())}")
    return 0


def summary(args: argparse.Namespace) -> int:
    """Show a network's layers."""
    from im2colnet.network import summary as report

    subject, batch = _subject(args), args.batch_size or 1
    _print(
        args,
        {"network": subject.name, **report.summary(subject.net, subject.shape, batch)},
        lambda: f"{subject.name}: {report.summary_text(subject.net, subject.shape, batch, _width())}",
    )
    return 0


def profile(args: argparse.Namespace) -> int:
    """Time a training step layer by layer."""
    from im2colnet.reports import profile as profiling

    if args.picture:
        try:
            import matplotlib  # noqa: F401 - now, and not after the work
        except ImportError as error:
            raise Im2colnetError(f"to draw --picture, install Matplotlib: {install('viz')}") from error
    subject = _subject(args)
    report = profiling.profile(subject.net, subject.shape, subject.batch_size, subject.optimizer, args.steps)
    if args.picture:
        from im2colnet.show.plots import save_roofline

        save_roofline(report, args.picture)
    _print(
        args, {"network": subject.name, **report}, lambda: f"{subject.name}: {profiling.profile_text(report, _width())}"
    )
    return 0


def doctor(args: argparse.Namespace) -> int:
    """Compare the backend's kernels with float64 and time it; 1 if a result is wrong."""
    from im2colnet.reports import doctor as physician

    report = physician.examine(get_backend())
    _print(args, report, lambda: physician.text(report))
    return 0 if report["correct"] else 1


def backends(args: argparse.Namespace) -> int:
    """List the backends, and say which one is selected and by what."""
    variable = os.environ.get(VARIABLE)
    if args.selected:
        selected, by = args.selected, "argument"
    else:
        selected, by = (variable, "environment") if variable else ("numpy", "default")
    name = selected.partition(":")[0]
    rows = [{**row._asdict(), "selected": row.name == name} for row in list_backends()]
    report = {"selected": selected, "selected_by": by, "backends": rows}
    _print(args, report, lambda: _backends_text(report))
    return 0


# ---------------------------------------------------------------------- runs


@dataclass
class Run:
    """What ``run.json`` in a run folder keeps beside the checkpoint, so that the commands need not be told again."""

    data: str
    folder: str | None
    model: str
    epochs: int
    batch_size: int
    classes: list[str]
    checksum: int  #: of the training images and labels
    drop_last: bool = False
    process: str = ""  #: that trains, or did last

    @classmethod
    def beside(cls, path: str) -> Run | None:
        """Read the one that belongs to a checkpoint, if there is one."""
        file = Path(path).with_name(RUN)
        try:
            if not stat.S_ISREG(file.stat().st_mode):
                raise ValueError("it is not a file")
            return cls.read(json.loads(file.read_bytes()))
        except (FileNotFoundError, NotADirectoryError):
            return None
        except (OSError, ValueError, RecursionError) as error:
            raise CheckpointError(
                f"cannot read {file}, which belongs to the checkpoint: {error}; mend it, or remove it"
                " and give --data and what else is asked for"
            ) from error

    @classmethod
    def read(cls, values: Any) -> Run:
        """Check what the file holds; what a later version has added is left out."""
        if not isinstance(values, dict):
            raise ValueError(f"it must hold an object, not {_short(values)}")
        for name, (holds, wanted) in RUN_FIELDS.items():
            if name not in values and not hasattr(cls, name):  # it has a default
                raise ValueError(f"it lacks {name!r}")
            if name in values and not holds(values[name]):
                raise ValueError(f"{name!r} must be {wanted}, it is {_short(values[name])}")
        return cls(**{field.name: values[field.name] for field in fields(cls) if field.name in values})

    def write(self, folder: Path) -> None:
        """Write it into its folder."""
        checkpoint.replace_file(folder / RUN, self.encode())

    def encode(self) -> bytes:
        """Return the file's content, with this process as the one that trains."""
        me = {"process": f"{os.getpid()} on {socket.gethostname()}"}
        return (json.dumps(asdict(self) | me, indent=2) + "\n").encode()


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and bool(value) and "\0" not in value


def _is_number(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= LARGEST


def _is_texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) for item in value)


#: what each field of a run must be: the test, and the words for it
RUN_FIELDS: dict[str, tuple[Callable[[Any], bool], str]] = {
    "data": (_is_text, "the name of a data set"),
    "folder": (lambda value: value is None or _is_text(value), "a path or null"),
    "model": (lambda value: _is_text(value) and re.fullmatch(r"[\w.-]+", value) is not None, "the name of a model"),
    "epochs": (_is_number, "a whole number of at least 1"),
    "batch_size": (_is_number, "a whole number of at least 1"),
    "classes": (_is_texts, "a list of names"),
    "checksum": (lambda value: type(value) is int, "a whole number"),
    "drop_last": (lambda value: isinstance(value, bool), "true or false"),
    "process": (lambda value: isinstance(value, str), "a text"),
}


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _start(args: argparse.Namespace) -> tuple[Trainer, Run, tuple[Dataset, Dataset]]:
    """Return the trainer of a new network, and its data."""
    if args.folder and not args.data:
        _wrong_usage("--folder is where the files of --data are: give that too")
    args.data = args.data or "digits"
    images, held_out = _load_data(args, None)
    model = args.model or _default_model(images)
    recipe = RECIPES[model]
    batch_size = args.batch_size or recipe.batch_size
    steps = len(images) // batch_size if args.drop_last else math.ceil(len(images) / batch_size)
    epochs = args.epochs or max(recipe.epochs, math.ceil(LEAST_STEPS / max(steps, 1)))
    optimizer = _trained_with(args, recipe, epochs, steps)
    net = _make(args, model, images)
    run = Run(*_data_of(args, None), model, epochs, batch_size, list(images.classes), _checksum(images), args.drop_last)
    return Trainer(net, optimizer=optimizer, seed=args.seed or 0, precision=args.precision), run, (images, held_out)


def _resume(args: argparse.Namespace) -> tuple[Trainer, Run, tuple[Dataset, Dataset]]:
    """Return the trainer of a checkpoint, and its data."""
    fixed = FIXED if args.model else (*FIXED, "width")
    given = [f"--{name.replace('_', '-')}" for name in fixed if getattr(args, name) is not None]
    if given:
        _wrong_usage(f"--resume goes on with the checkpoint's own settings: leave out {', '.join(given)}")
    trainer, before = Trainer.load(args.resume), Run.beside(args.resume)
    history = trainer.history
    if (trainer.epoch and not history) or any(type(row) is not dict or set(RECORDED) - row.keys() for row in history):
        raise CheckpointError(f"{args.resume} is damaged: each epoch of its history must have {', '.join(RECORDED)}")
    epochs, batch_size = (
        getattr(args, name) or (getattr(before, name) if before else None) for name in ("epochs", "batch_size")
    )
    if not epochs or not batch_size:
        _wrong_usage(f"beside {args.resume} is no {RUN}: give --data, --epochs and --batch-size as they were")
    images, held_out = _load_data(args, before)
    if args.model:
        trainer = Trainer.load(args.resume, _make(args, args.model, images))
    _check_fit(trainer.net, images)
    if before and before.checksum != _checksum(images):
        raise DataError(
            f"{args.resume} was trained on other images than those of {images.name}; to go on exactly,"
            f" the data must be the same ({before.data})"
        )
    model = args.model or (before.model if before else "network")
    run = Run(
        *_data_of(args, before),
        model,
        epochs,
        batch_size,
        list(images.classes),
        _checksum(images),
        args.drop_last or (before is not None and before.drop_last),
    )
    return trainer, run, (images, held_out)


def _data_of(args: argparse.Namespace, run: Run | None) -> tuple[str, str | None]:
    """Return the data set's name or path, and its folder, as they hold in any working directory."""
    data, folder = (args.data, args.folder) if args.data or run is None else (run.data, args.folder or run.folder)
    is_file = data.lower().endswith(".npz")
    path = os.path.expanduser(data)
    if args.folder and (data == "digits" or (is_file and os.path.isabs(path))):
        where = "is a whole path" if is_file else "comes with the library"
        _wrong_usage(
            f"--folder is not used, since the data set {data} {where}: leave it out, or give --data a name"
            " that is looked for in that folder (fashion-mnist, mnist or a file.npz)"
        )
    folder = folder and os.path.expanduser(folder)
    try:
        if is_file:
            return os.path.abspath(os.path.join(folder or "", path)), None
        return data, folder and os.path.abspath(folder)
    except FileNotFoundError as error:
        raise DataError("the working directory has been removed: change to another one") from error


def _load_data(args: argparse.Namespace, run: Run | None) -> tuple[Dataset, Dataset]:
    if not args.data and run is None:
        _wrong_usage(f"which data set? There is no {RUN} beside the checkpoint: give --data")
    return datasets.load(*_data_of(args, run))


def _checksum(data: Dataset) -> int:
    images, labels = np.ascontiguousarray(data.images), np.ascontiguousarray(data.labels, np.int64)
    return zlib.crc32(labels.data, zlib.crc32(images.data))


def _run_folder(args: argparse.Namespace, run: Run, held: ExitStack) -> Path:
    """Make the run folder and take it for this run alone, until ``held`` is closed."""
    same = args.resume and Path(args.resume).name == CHECKPOINT
    try:
        if args.out or same:
            folder = Path(args.out or Path(args.resume).parent)
            folder.mkdir(parents=True, exist_ok=True)
        else:
            folder = _new_folder(Path("runs"), f"{Path(run.data).stem}-{run.model}")
    except OSError as error:
        raise CheckpointError(f"cannot make the run folder: {error.filename}: {error.strerror}") from error
    there, file = folder / CHECKPOINT, folder / RUN
    locked = _lock(folder, held)
    if locked is False:
        raise CheckpointError(
            f"{folder} is the folder of a run that is going on{_who(there)}: wait until that has"
            " ended, or give another --out"
        )
    if there.exists():
        if not (same and there.samefile(args.resume)):
            again = shlex.join(["im2colnet", "train", *_option("--resume", there)])
            raise CheckpointError(
                f"{folder} is the folder of another run: to go on with that,\n  {again}\nor give another --out"
            )
        run.write(folder)
        return folder
    try:
        with file.open("xb") as stream:  # of two that are here at the same time, one can make it
            stream.write(run.encode())
    except FileExistsError:
        if not locked:
            raise CheckpointError(
                f"{folder} has been taken by another run{_who(there)}, which has no checkpoint yet:"
                f" if that is not running any more, remove {file}, or give another --out"
            ) from None
        run.write(folder)  # of a run that died before its first checkpoint
    except OSError as error:
        raise CheckpointError(f"cannot write {file}: {error.strerror}") from error
    held.callback(_leave, folder)
    return folder


def _leave(folder: Path) -> None:
    """Let a folder without a checkpoint be taken again."""
    if not (folder / CHECKPOINT).exists():
        with suppress(OSError):
            (folder / RUN).unlink()


def _lock(folder: Path, held: ExitStack) -> bool | None:
    """Lock a folder: whether that worked, or None where a system or a file system has no locks.

    The system gives a lock back however a process ends, so that a killed run can be resumed at once.
    """
    try:
        import fcntl

        number = os.open(folder, os.O_RDONLY)
    except (ImportError, OSError):
        return None
    held.callback(os.close, number)
    until = time.monotonic() + PATIENCE
    while True:
        try:
            fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > until:
                return False
            time.sleep(0.05)
        except OSError:
            return None
        else:
            held.callback(fcntl.flock, number, fcntl.LOCK_UN)  # workers that were forked have it open too
            return True


def _who(there: Path) -> str:
    """Say which process trains in a folder, if that is known."""
    with suppress(CheckpointError):
        run = Run.beside(str(there))
        if run and run.process:
            return f" (process {run.process})"
    return ""


def _new_folder(parent: Path, name: str) -> Path:
    parent.mkdir(exist_ok=True)
    for number in itertools.count(1):
        folder = parent / f"{name}-{number}"
        try:
            folder.mkdir()
            break
        except FileExistsError:
            continue
    return folder


def _interrupted(args: argparse.Namespace, run: Run, out: Path) -> str:
    if not (out / CHECKPOINT).exists():
        return "\ninterrupted before there was a checkpoint"
    command = ["im2colnet", "train"]
    for option, value in (
        ("--resume", out / CHECKPOINT),
        ("--data", run.data),
        ("--epochs", run.epochs),
        ("--folder", run.folder),
        ("--backend", args.backend),
        ("--threads", args.threads),
    ):
        command += _option(option, value) if value else []
    return f"\ninterrupted; the checkpoint is {out / CHECKPOINT}\nto go on exactly there:\n  {shlex.join(command)}"


def _option(name: str, value: object) -> list[str]:
    """Return an option for a command that is printed; a value that begins with a dash would be taken for another."""
    text = str(value)
    return [f"{name}={text}"] if text.startswith("-") else [name, text]


# ---------------------------------------------------------------------- networks and optimisers


def _default_model(data: Dataset) -> str:
    channels, height, width = data.images.shape[1:]
    return "lenet5" if channels == 1 and min(height, width) >= 20 else "resnet20"


def _make(args: argparse.Namespace, model: str, data: Dataset) -> Network:
    """Build a model for the images of a data set."""
    channels, height, width = data.images.shape[1:]
    if height != width:
        raise DataError(f"the models take square images, those of {data.name} are {height}×{width}")
    return models.make(model, len(data.classes), channels, height, **_model_width(args, model))


def _model_width(args: argparse.Namespace, model: str) -> dict[str, float]:
    if args.width is not None and model != "mobilenet":
        _wrong_usage(f"--width is only for mobilenet, not for {model}")
    return {"width": args.width} if args.width is not None else {}


def _trained_with(args: argparse.Namespace, recipe: Recipe, epochs: int, steps: int) -> Optimizer:
    """Make the optimiser that the arguments ask for; ``steps`` are those of an epoch."""
    name = args.optimizer or recipe.optimizer
    if args.momentum is not None and name != "sgd":
        _wrong_usage(f"--momentum is only for sgd, not for {name}")
    lr, weight_decay = (recipe.lr, recipe.weight_decay) if name == recipe.optimizer else RATES[name]
    lr = _first(args.lr, lr)
    cosine = args.schedule != "constant"
    warmup = round(_first(args.warmup, epochs / 10 if cosine else 0.0) * steps)
    schedule = Cosine(lr, warmup) if cosine else Constant(lr, warmup)
    return _optimizer(name, schedule, _first(args.weight_decay, weight_decay), _first(args.momentum, 0.9))


def _first(given: float | None, otherwise: float) -> float:
    return otherwise if given is None else given


class Subject(NamedTuple):
    """A network that ``plan`` and ``summary`` report on, and how it is trained."""

    name: str
    net: Network
    shape: tuple[int, ...]
    batch_size: int
    optimizer: Optimizer


def _subject(args: argparse.Namespace) -> Subject:
    """Return the network that the arguments name."""
    shape: tuple[int, ...] | None = args.input_shape
    named = vars(args).get("optimizer")
    if args.checkpoint and (args.model or args.data or args.folder or args.width):
        _wrong_usage("--checkpoint already names the network: leave out --model, --data, --folder and --width")
    if args.folder and not args.data:
        _wrong_usage("--folder is where the files of --data are: give that too")
    if args.checkpoint:
        trainer, run = Trainer.load(args.checkpoint), Run.beside(args.checkpoint)
        name, net, optimizer = args.checkpoint, trainer.net, trainer.optimizer
        batch_size = run.batch_size if run else 64
    else:
        if args.data or not (args.model or shape):
            args.data = args.data or "digits"
            data = datasets.load(*_data_of(args, None))[0]
            name = args.model or _default_model(data)
            net = _make(args, name, data)
        else:
            name = args.model or "resnet20"
            sizes = {"in_channels": shape[0], "input_size": shape[1]} if shape else {}
            net = models.MODELS[name](**sizes, **_model_width(args, name))
        batch_size, optimizer = RECIPES[name].batch_size, _optimizer(RECIPES[name].optimizer)
    return Subject(
        name, net, net.check_shape(shape), args.batch_size or batch_size, _optimizer(named) if named else optimizer
    )


def _optimizer(name: str, lr: float | Schedule = 0.1, weight_decay: float = 0.0, momentum: float = 0.9) -> Optimizer:
    if name == "sgd":
        return SGD(lr, momentum, weight_decay)
    return (Adam if name == "adam" else AdamW)(lr, weight_decay=weight_decay)


def _check_fit(net: Network, data: Dataset | None = None) -> int:
    """Return how many classes the network tells apart; raise where a data set is not for it."""
    shape = net.check_shape(None)
    output = net.output_shape(internal_shape(shape, 1))
    if len(output) != 2:
        raise ShapeError("the network does not classify: its output is no vector of class scores")
    if data is not None:
        if data.images.shape[1:] != shape:
            found = _by(data.images.shape[1:])
            raise DataError(f"the network takes images of {_by(shape)}, those of {data.name} are {found}")
        if len(data.classes) > output[0]:
            raise DataError(f"the network tells {output[0]} classes apart, {data.name} has {len(data.classes)}")
    return output[0]


def _log_probabilities(net: Network, images: np.ndarray) -> np.ndarray:
    """Logarithms of the probabilities of the classes, (N, classes)."""
    if not len(images):
        raise DataError(f"there are no images: the array is empty, of shape {images.shape}")
    logits = np.asarray(net.predict(images), np.float64)
    if not np.isfinite(logits).all():
        raise NonFiniteError("the network's output holds NaN or infinity: its parameters are not usable")
    logits -= logits.max(axis=1, keepdims=True)
    logits -= np.log(np.exp(logits).sum(axis=1, keepdims=True))
    return logits


# ---------------------------------------------------------------------- reports


def _write_predictions(path: str, report: dict[str, Any], probabilities: np.ndarray) -> None:
    """Write the probabilities of all classes, in the format that the file's name asks for."""
    rows, names, content = report["predictions"], report["classes"], io.BytesIO()
    columns = {key: [row[key] for row in rows] for key in ("file", "index", "label", "class")}
    kind = Path(path).suffix.lower()
    if kind == ".npy":
        np.save(content, probabilities)
    elif kind == ".npz":
        np.savez(
            content,
            probabilities=probabilities,
            classes=np.array(names),
            labels=np.array(columns["label"]),
            files=np.array(columns["file"]),
            indices=np.array(columns["index"]),
        )
    elif kind == ".json":
        whole = [row | {"probabilities": found.tolist()} for row, found in zip(rows, probabilities, strict=True)]
        content.write((json.dumps(report | {"predictions": whole}, indent=2) + "\n").encode())
    else:
        text = io.StringIO()
        table = csv.writer(text, lineterminator="\n")
        table.writerow([*columns, *(f"probability_{name}" for name in names)])
        for cells, found in zip(zip(*columns.values(), strict=True), probabilities, strict=True):
            table.writerow([*cells, *(f"{p:.9g}" for p in found)])  # 9 digits are a float32, exactly
        content.write(text.getvalue().encode(errors="surrogateescape"))
    checkpoint.replace_file(path, content.getvalue())


def _print(args: argparse.Namespace, report: dict[str, Any], text: Callable[[], str]) -> None:
    print(json.dumps(report, indent=2) if args.json else text())


def _width() -> int | None:
    return output.columns(sys.stdout)


def _train_report(trainer: Trainer, run: Run, out: Path, held_out: Dataset) -> dict[str, Any]:
    """Gather the results, and draw the curves if Matplotlib is there."""
    history, seconds = trainer.history, sum(trainer.history["seconds"])
    images = sum(record["seconds"] * record["images_per_second"] for record in history)
    last = history[-1]
    if "validation_loss" not in last:  # of a training without validation, which the command only ended
        last = last | {f"validation_{key}": value for key, value in trainer.evaluate(held_out).items()}
    hint = None
    try:
        from im2colnet.show.plots import save_curves

        save_curves(history, out / CURVES)
    except ImportError:
        hint = f"for a picture of the curves: {install('viz')}"
    except Exception as error:  # of Matplotlib, which needs folders to write to; the training is done all the same
        hint = f"the curves could not be drawn: {error}"
    return {
        "data": run.data,
        "model": run.model,
        "parameters": trainer.net.graph.size,
        "epochs": trainer.epoch,
        "batch_size": run.batch_size,
        "optimizer": checkpoint.describe(trainer.optimizer),
        "seed": trainer.seed,
        "train": {"loss": last["loss"], "accuracy": last["accuracy"]},
        "test": {"loss": last["validation_loss"], "accuracy": last["validation_accuracy"]},
        "seconds": seconds,
        "images_per_second": images / seconds,
        "backend": trainer.net.backend.name,
        "threads": get_num_threads(),
        "workers": trainer.workers,
        "precision": trainer.net.precision,
        "peak_memory": trainer.net.backend.peak(),
        "folder": str(out),
        **{name: str(out / file) if (out / file).exists() else None for name, file in FILES.items()},
        "history": list(history),
        **({"hint": hint} if hint else {}),
    }


def _start_text(trainer: Trainer, run: Run, images: Dataset, held_out: Dataset, width: int | None) -> str:
    return (
        _lines(
            {
                "data": f"{images.name}, {len(images):,} training and {len(held_out):,} test images"
                f" of {_by(images.images.shape[1:])}",
                "network": f"{run.model}, {trainer.net.graph.size:,} parameters",
                "steps": f"batches of {run.batch_size}, {_describe(trainer.optimizer)}",
            },
            width,
        )
        + "\n"
    )


def _train_text(report: dict[str, Any]) -> str:
    from im2colnet.text import amount, count

    train, test = report["train"], report["test"]
    rows = {
        "test": f"loss {test['loss']:.4f}, accuracy {test['accuracy']:.2%}",
        "train": f"loss {train['loss']:.4f}, accuracy {train['accuracy']:.2%} (means over the last epoch)",
        "time": f"{duration(report['seconds'])} for {count(report['epochs'], 'epoch')},"
        f" {report['images_per_second']:,.0f} images/s",
        "network": f"{report['model']}, {report['parameters']:,} parameters",
        "backend": f"{report['backend']}, {report['precision']}, {report['workers']}",
        **({"memory": f"{amount(peak, 1024)}B at most"} if (peak := report["peak_memory"]) else {}),
        "folder": report["folder"],
        "files": ", ".join(file for name, file in FILES.items() if report[name]),
    }
    if "hint" in report:
        rows["hint"] = report["hint"]
    return "\n" + _lines(rows, _width())


def _lines(rows: dict[str, str], width: int | None = None) -> str:
    lines = []
    for name, value in rows.items():
        line = f"{name:9}{value}"
        if width and name not in ("folder", "files"):  # names that people copy
            line = textwrap.fill(line, width, subsequent_indent=" " * 9, break_long_words=False, break_on_hyphens=False)
        lines.append(line)
    return "\n".join(lines)


def _evaluate_text(report: dict[str, Any]) -> str:
    from im2colnet.text import count, table

    cells = [("class", "images", "correct", "accuracy", "most often mistaken for")]
    for row in report["classes"]:
        accuracy = "-" if row["accuracy"] is None else f"{row['accuracy']:.2%}"
        mistaken = f"{row['mistaken_for']} ({row['times']}×)" if row["mistaken_for"] is not None else ""
        cells.append((row["class"], f"{row['images']:,}", f"{row['correct']:,}", accuracy, mistaken))
    head = f"{report['checkpoint']} on {count(report['images'], 'test image')} of {report['data']}"
    head += f"\nloss {report['loss']:.4f}, accuracy {report['accuracy']:.2%}"
    return f"{head}\n\n{table(cells, (1, 2, 3), width=_width())}"


def _predict_text(report: dict[str, Any]) -> str:
    from im2colnet.text import table

    several = {row["file"] for row in report["predictions"] if row["index"]}
    cells = [("image", "class", "probability", "then")]
    for row in report["predictions"]:
        others = (f"{guess['class']} {guess['probability']:.1%}" for guess in row["top"][1:])
        name = f"{row['file']}[{row['index']}]" if row["file"] in several else row["file"]
        cells.append((name, row["class"], f"{row['probability']:.1%}", ", ".join(others)))
    return table(cells, (2,), width=_width())


def _backends_text(report: dict[str, Any]) -> str:
    from im2colnet.text import table

    rows = report["backends"]
    cells = [("backend", "source", "starts here", "why not")]
    cells += [(row["name"], row["source"], "yes" if row["available"] else "no", row["reason"]) for row in rows]
    how = {
        "argument": "the argument --backend",
        "environment": f"the environment variable {VARIABLE}",
        "default": f"default; {VARIABLE} is not set",
    }[report["selected_by"]]
    missing = "" if any(row["selected"] for row in rows) else ", but there is no such backend"
    return f"{table(cells, width=_width())}\n\nselected: {report['selected']} (by {how}){missing}"


def _describe(optimizer: Optimizer) -> str:
    """Return an optimiser with its settings in words."""
    schedule = optimizer.schedule
    settings = {key: value for key, value in vars(optimizer).items() if value and key in ("momentum", "weight_decay")}
    parts = [f"{type(optimizer).__name__}, {type(schedule).__name__.lower()} lr {schedule.lr:g}"]
    return ", ".join(parts + [f"{key.replace('_', ' ')} {value:g}" for key, value in settings.items()])


def _by(shape: Sequence[int]) -> str:
    return "×".join(map(str, shape))


# ---------------------------------------------------------------------- arguments


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "im2colnet",
        description="Train and use small convolutional networks on NumPy or another array module.",
        epilog="exit codes: 0 done, 1 the work failed, 2 wrong usage, 130 interrupted by Ctrl-C, 143 by SIGTERM",
    )
    parser.add_argument("--version", action="version", version=f"im2colnet {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)

    def add(
        command: Callable[[argparse.Namespace], int], about: str, examples: str, operands: str = "", more: str = ""
    ) -> argparse.ArgumentParser:
        name = command.__name__
        sub = commands.add_parser(
            name,
            usage=f"im2colnet {name} [OPTION]... {operands}".rstrip(),
            help=about,
            description=f"{about[0].upper()}{about[1:]}.",
            formatter_class=argparse.RawDescriptionHelpFormatter,
            epilog="examples:\n" + textwrap.indent(textwrap.dedent(examples).strip(), "  ") + more,
        )
        sub.set_defaults(command=command, parser=sub)
        return sub

    sub = add(
        train,
        "train a network and keep it in a run folder",
        """
        im2colnet train
        im2colnet train --data fashion-mnist --model lenet5 --epochs 3
        im2colnet train --data mine.npz --model vgg8 --optimizer adamw --lr 1e-3 --out runs/mine
        im2colnet train --resume runs/digits-resnet20-1/checkpoint.safetensors --epochs 20
        """,
        more="\n\nwhat suits the models:\n"
        + "\n".join(
            f"  {name:9} {r.epochs:2} epochs of batches of {r.batch_size}, {r.optimizer}, lr {r.lr:g}, weight decay"
            f" {r.weight_decay:g}"
            for name, r in RECIPES.items()
        )
        + f"\nand of few images so many epochs that there are {LEAST_STEPS} steps",
    )
    _add_data(sub, "digits; with --resume, that of the run")
    _add_model(sub)
    group = sub.add_argument_group("training", "What is not given suits the model, see below.")
    group.add_argument("--epochs", type=_positive, metavar="N", help="how often to go through the images, in all")
    group.add_argument("--batch-size", type=_positive, metavar="N", help="images of a step")
    group.add_argument(
        "--drop-last", action="store_true", help="leave out the last batch of an epoch if it is smaller than the others"
    )
    group.add_argument("--optimizer", choices=RATES, help="how to take a step")
    group.add_argument(
        "--lr",
        type=_number(float, lambda v: 0 < v < math.inf, "above 0"),
        metavar="RATE",
        help="learning rate, the highest of the schedule",
    )
    group.add_argument(
        "--momentum",
        type=_number(float, lambda v: 0 <= v < 1, "from 0 to below 1"),
        metavar="M",
        help="of sgd (default: 0.9)",
    )
    group.add_argument(
        "--weight-decay",
        type=_number(float, lambda v: 0 <= v < math.inf, "of at least 0"),
        metavar="D",
        help="how strongly the parameters are pulled to 0",
    )
    group.add_argument(
        "--schedule",
        choices=("constant", "cosine"),
        help="how the learning rate goes on after the warm-up (default: cosine, which falls to 0)",
    )
    group.add_argument(
        "--warmup",
        type=_number(float, lambda v: 0 <= v < math.inf, "of at least 0"),
        metavar="EPOCHS",
        help="in which the learning rate rises (default: a tenth of all with cosine, else 0)",
    )
    group.add_argument(
        "--seed",
        type=_number(int, lambda v: v >= 0, "of at least 0"),
        metavar="N",
        help="of initialisation, order and dropout (default: 0); the same seed gives the same network",
    )
    group.add_argument(
        "--precision", choices=("float32", "tf32", *HALF), help="how a GPU computes (default: as the backend does)"
    )
    group = sub.add_argument_group("run")
    group.add_argument("--out", type=_text, metavar="DIR", help="the run folder (default: a new one in runs/)")
    group.add_argument(
        "--resume",
        type=_text,
        metavar="CHECKPOINT",
        help="go on where this checkpoint was written: exactly, unless --epochs or --batch-size are"
        " others; other --epochs change the learning rate that is left",
    )
    _add_machine(sub)

    sub = add(
        evaluate,
        "measure a network on the held-out images of a data set",
        """
        im2colnet evaluate runs/digits-resnet20-1/checkpoint.safetensors
        im2colnet evaluate mine.safetensors --data mine.npz --json
        """,
        "CHECKPOINT",
    )
    _add_checkpoint(sub)
    _add_data(sub, "that of the run")
    _add_machine(sub)

    sub = add(
        predict,
        "classify images from files",
        """
        im2colnet predict runs/digits-resnet20-1/checkpoint.safetensors seven.png
        im2colnet predict mine.safetensors images.npy --out probabilities.csv
        """,
        "CHECKPOINT FILE...",
    )
    _add_checkpoint(sub)
    sub.add_argument(
        "files",
        metavar="FILE",
        nargs="+",
        help=".npy of the shape (N, C, H, W), or without N, or without C if that is 1; .npz with the array"
        " images; or a picture, which is scaled to the network's size (needs Pillow). uint8 becomes"
        " 0 to 1, other numbers are taken as they are. A file that cannot be read is named, the"
        " others are predicted, and the exit code is 1",
    )
    sub.add_argument(
        "--out",
        type=_predictions,
        metavar="FILE",
        help="write the probabilities of all classes: .csv"
        " with a row for each image, .json, .npy with the array (images, classes), or .npz with names",
    )
    _add_data(sub, "that of the run", "for the names of the classes: ")
    _add_machine(sub)

    sub = add(
        plan,
        "tell the memory that training and inference will take, without running them",
        """
        im2colnet plan --model resnet18 --batch-size 128
        im2colnet plan --model vgg8 --input-shape 3,64,64 --optimizer adam
        """,
    )
    _add_network(sub)
    sub.add_argument(
        "--batch-size", type=_positive, metavar="N", help="images of a step (default: what suits the model)"
    )
    sub.add_argument("--optimizer", choices=RATES, help="whose state to count (default: what suits the model)")
    _add_machine(sub)

    sub = add(
        summary,
        "show the layers of a network",
        """
        im2colnet summary --model mobilenet --width 0.5
        im2colnet summary --checkpoint runs/digits-resnet20-1/checkpoint.safetensors
        """,
    )
    _add_network(sub)
    sub.add_argument("--batch-size", type=_positive, metavar="N", help="images to count for (default: 1)")
    _add_machine(sub, threads=False)

    sub = add(
        profile,
        "time a training step layer by layer, beside what this machine can do",
        """
        im2colnet profile --model resnet20 --batch-size 64
        im2colnet profile --model vgg8 --picture roofline.png
        """,
    )
    _add_network(sub)
    sub.add_argument(
        "--batch-size", type=_positive, metavar="N", help="images of a step (default: what suits the model)"
    )
    sub.add_argument("--optimizer", choices=RATES, help="by default what suits the model")
    sub.add_argument(
        "--steps",
        type=_number(int, lambda v: 1 <= v <= 10_000, "from 1 to 10,000"),
        metavar="N",
        default=5,
        help="to take the median of (default: 5)",
    )
    sub.add_argument("--picture", type=_text, metavar="FILE.png", help="draw a roofline (needs Matplotlib)")
    _add_machine(sub, threads=False)

    sub = add(
        doctor,
        "see whether a backend works on this machine, and how fast: what to run first",
        f"""
        im2colnet doctor
        {VARIABLE}=cupy im2colnet doctor
        """,
    )
    _add_machine(sub)

    sub = add(
        backends,
        "list the backends, whether they start here, and which one is selected",
        f"""
        im2colnet backends
        {VARIABLE}=cupy im2colnet backends
        """,
    )
    sub.add_argument("--backend", type=_text, dest="selected", metavar="NAME", help="tell of this selection")
    sub.add_argument("--json", action="store_true", help="print a JSON document")
    return parser


def _add_data(parser: argparse.ArgumentParser, default: str, purpose: str = "") -> None:
    group = parser.add_argument_group("data")
    group.add_argument(
        "--data",
        type=_text,
        metavar="NAME",
        help=f"{purpose}digits, fashion-mnist, mnist, or the path of an .npz file (default: {default})",
    )
    group.add_argument("--folder", type=_text, metavar="DIR", help="where the data set's files are")


def _add_checkpoint(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("checkpoint", metavar="CHECKPOINT", help="a file that training has written")


def _add_model(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("network")
    group.add_argument("--model", choices=models.MODELS, help="default: what suits the size of the images")
    group.add_argument(
        "--width",
        type=_number(float, lambda v: 0 < v <= 4, "above 0 and at most 4"),
        metavar="W",
        help="multiplies the filters of mobilenet",
    )


def _add_network(parser: argparse.ArgumentParser) -> None:
    """Add what tells a network to report on."""
    _add_data(parser, "digits, if there is no --model either", "for the images' size and the number of classes: ")
    _add_model(parser)
    parser.add_argument("--checkpoint", type=_text, metavar="CHECKPOINT", help="the network of this file instead")
    parser.add_argument("--input-shape", type=_shape, metavar="C,H,W", help="channels, height and width of an image")


def _add_machine(parser: argparse.ArgumentParser, threads: bool = True) -> None:
    group = parser.add_argument_group("machine")
    group.add_argument(
        "--backend",
        type=_text,
        metavar="NAME",
        help=f"default: that of the environment variable {VARIABLE}, else numpy",
    )
    if threads:
        group.add_argument("--threads", type=_positive, metavar="N", help="cores to use at most (default: all)")
    group.add_argument("--json", action="store_true", help="print a JSON document and nothing else to stdout")


def _text(text: str) -> str:
    """Refuse an empty value, such as a script gives whose variable is not set, where it would mean the default."""
    if not text:
        raise argparse.ArgumentTypeError("must not be empty; leave the option out for the default")
    return text


def _predictions(text: str) -> str:
    if Path(text).suffix.lower() not in PREDICTIONS:
        raise argparse.ArgumentTypeError(f"must end with one of {', '.join(PREDICTIONS)}, got {text!r}")
    return text


def _number(kind: Callable[[str], float], holds: Callable[[float], bool], range_: str) -> Callable[[str], float]:
    """Return a type for argparse: a number for which a condition holds."""

    def parse(text: str) -> float:
        try:
            value = kind(text)
        except ValueError:
            value = math.nan
        if kind is int and value > LARGEST:
            raise argparse.ArgumentTypeError(f"must be at most {LARGEST:,}, got {text if len(text) < 40 else 'more'}")
        if not holds(value):
            raise argparse.ArgumentTypeError(f"must be a {'whole ' * (kind is int)}number {range_}, got {text!r}")
        return value

    return parse


_positive = _number(int, lambda v: v >= 1, "of at least 1")


def _shape(text: str) -> tuple[int, ...]:
    sizes = text.split(",")
    if len(sizes) != 3 or not all(
        re.fullmatch(r"\s*[0-9]{1,10}\s*", size) and 0 < int(size) <= LARGEST for size in sizes
    ):
        raise argparse.ArgumentTypeError(f"must be three sizes such as 3,32,32, got {text!r}")
    return tuple(map(int, sizes))


def _wrong_usage(message: str) -> NoReturn:
    raise UsageError(message)


__all__ = ["main"]
