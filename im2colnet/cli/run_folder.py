"""The folder of a run: its record ``run.json``, and how one run takes a folder for itself."""

from __future__ import annotations

import itertools
import json
import os
import platform
import re
import shlex
import socket
import stat
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import MISSING, asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from im2colnet.cli.arguments import MAX_INTEGER, option
from im2colnet.cli.callbacks import check_settings
from im2colnet.errors import CheckpointError
from im2colnet.files import replace_file
from im2colnet.host import np
from im2colnet.text import shortened
from im2colnet.training.folder import BEST, CHECKPOINT, METRICS
from im2colnet.version import __version__

RECORD = "run.json"
CURVES = "curves.png"
#: the files of a run that a report names, by what they hold
FILES = {"checkpoint": CHECKPOINT, "best": BEST, "metrics": METRICS, "curves": CURVES}
LOCK_PATIENCE = 3.0  #: seconds to wait for a folder's lock, which the workers of a killed run hold until they end


@dataclass
class RunRecord:
    """The contents of ``run.json``, which lies beside the checkpoint: commands take their defaults from it."""

    data: str
    folder: str | None
    model: str
    epochs: int
    batch_size: int
    classes: list[str]
    checksum: int  #: of the training images and labels
    drop_last: bool = False
    size: list[int] | None = None  #: height and width of images that were made of pictures
    color: str | None = None
    split: float | None = None  #: the part of the pictures that was held out
    callbacks: dict[str, Any] = field(default_factory=dict)  #: the options of :mod:`im2colnet.cli.callbacks`
    process: str = ""  #: the process that trains, or was the last to train
    commands: list[str] = field(default_factory=list)  #: the commands that started and resumed the training
    versions: dict[str, str] = field(default_factory=dict)  #: the versions of the software that trained last
    done: bool = False  #: whether the training has come to its end

    @classmethod
    def beside(cls, path: str) -> RunRecord | None:
        """Read the record that belongs to a checkpoint, if there is one."""
        file = Path(path).with_name(RECORD)
        try:
            if not stat.S_ISREG(file.stat().st_mode):
                raise ValueError("it is not a file")
            return cls.read(json.loads(file.read_bytes()))
        except (FileNotFoundError, NotADirectoryError):
            return None
        except (OSError, ValueError, RecursionError) as error:
            raise CheckpointError(
                f"cannot read {file}, which belongs to the checkpoint: {error}; correct the file, or remove it"
                " and give --data and the other options that are then needed"
            ) from error

    @classmethod
    def read(cls, values: Any) -> RunRecord:
        """Check the file's contents; entries that a later version has added are left out."""
        if not isinstance(values, dict):
            raise ValueError(f"it must hold an object, not {_short(values)}")
        for name, (holds, wanted) in RECORD_FIELDS.items():
            if name not in values and name in REQUIRED:
                raise ValueError(f"it lacks {name!r}")
            if name in values and not holds(values[name]):
                raise ValueError(f"{name!r} must be {wanted}, it is {_short(values[name])}")
        return cls(**{field.name: values[field.name] for field in fields(cls) if field.name in values})

    def write(self, folder: Path) -> None:
        """Write the record into the run's folder."""
        replace_file(folder / RECORD, self.encode())

    def encode(self) -> bytes:
        """Return the file's content, with this process as the one that trains."""
        me = {"process": f"{os.getpid()} on {socket.gethostname()}", "versions": versions()}
        return (json.dumps(asdict(self) | me, indent=2) + "\n").encode()


def versions() -> dict[str, str]:
    """Return the versions of the software that computes here."""
    return {
        "im2colnet": __version__,
        "numpy": np.__version__,
        "python": platform.python_version(),
        "system": _system(),
    }


def _system() -> str:
    """Return the operating system and the kind of processor; without starting a program, as ``platform`` may."""
    return " ".join((os.uname().sysname, os.uname().machine)) if hasattr(os, "uname") else sys.platform


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and bool(value) and "\0" not in value


def _is_positive(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= MAX_INTEGER


def _is_texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) for item in value)


def _is_size(value: Any) -> bool:
    return value is None or (isinstance(value, list) and len(value) == 2 and all(map(_is_positive, value)))


#: the fields of a record that have no default, so that they must not be missing
REQUIRED = {f.name for f in fields(RunRecord) if f.default is MISSING and f.default_factory is MISSING}
#: what each field of a record must be: the test, and the words for it
RECORD_FIELDS: dict[str, tuple[Callable[[Any], bool], str]] = {
    "data": (_is_text, "the name of a data set"),
    "folder": (lambda value: value is None or _is_text(value), "a path or null"),
    "model": (lambda value: _is_text(value) and re.fullmatch(r"[\w.-]+", value) is not None, "the name of a model"),
    "epochs": (_is_positive, "a whole number of at least 1"),
    "batch_size": (_is_positive, "a whole number of at least 1"),
    "classes": (_is_texts, "a list of names"),
    "checksum": (lambda value: type(value) is int, "a whole number"),
    "drop_last": (lambda value: isinstance(value, bool), "true or false"),
    "callbacks": (check_settings, "options of im2colnet train by name"),
    "size": (_is_size, "two whole numbers of at least 1, or null"),
    "color": (lambda value: value is None or _is_text(value), "the name of a color, or null"),
    "split": (lambda value: value is None or (type(value) in (int, float) and 0 <= value < 1), "a part, or null"),
    "process": (lambda value: isinstance(value, str), "a text"),
    "commands": (_is_texts, "a list of texts"),
    "done": (lambda value: isinstance(value, bool), "true or false"),
    "versions": (lambda value: isinstance(value, dict) and _is_texts([*value.values()]), "an object of texts"),
}


def _short(value: Any) -> str:
    return shortened(json.dumps(value), 60)


def checkpoint_of(path: str) -> str:
    """Return the checkpoint that a path names: the file itself, or that of a run's folder.

    It is the best checkpoint if the run keeps it, otherwise the last one.
    """
    if os.path.isdir(path):
        for name in BEST, CHECKPOINT:
            if os.path.exists(os.path.join(path, name)):
                return os.path.join(path, name)
    return path


def take_folder(
    record: RunRecord, out: str | None, resumed: str | None, held: ExitStack, patience: float = LOCK_PATIENCE
) -> Path:
    """Make the folder of a run and take it for this run alone, until ``held`` is closed.

    Parameters
    ----------
    record : RunRecord
        Written into the folder.
    out : str, optional
        The requested folder; by default the folder of the checkpoint that is resumed, or else a new folder.
    resumed : str, optional
        The checkpoint that is resumed.
    held : ExitStack
        Gives the folder back when it is closed.
    patience : float
        How many seconds to wait for another run that is about to end.
    """
    same = resumed is not None and Path(resumed).name == CHECKPOINT
    try:
        if out or (resumed and same):
            folder = Path(out or Path(resumed or "").parent)
            folder.mkdir(parents=True, exist_ok=True)
        else:
            folder = _new_folder(Path("runs"), f"{Path(record.data).stem}-{record.model}")
    except OSError as error:
        raise CheckpointError(f"cannot make the run folder: {error.filename}: {error.strerror}") from error
    there, file = folder / CHECKPOINT, folder / RECORD
    locked = _lock(folder, held, patience)
    if locked is False:
        raise CheckpointError(
            f"{folder} is the folder of a run that is still training{_who(there)}: wait until it has"
            " ended, or give another --out"
        )
    if there.exists():
        if not (resumed and same and there.samefile(resumed)):
            again = shlex.join(["im2colnet", "train", *option("--resume", there)])
            raise CheckpointError(
                f"{folder} is the folder of another run: to resume that run,\n  {again}\nor give another --out"
            )
        record.write(folder)
        return folder
    try:
        with file.open("xb") as stream:  # of two runs that are here at the same time, only one can make the file
            stream.write(record.encode())
    except FileExistsError:
        if not locked:
            raise CheckpointError(
                f"{folder} has been taken by another run{_who(there)}, which has no checkpoint yet:"
                f" if that run has ended, remove {file}, or give another --out"
            ) from None
        record.write(folder)  # the run that made the file died before its first checkpoint
    except OSError as error:
        raise CheckpointError(f"cannot write {file}: {error.strerror}") from error
    held.callback(_leave, folder)
    return folder


def _leave(folder: Path) -> None:
    """Let a folder without a checkpoint be taken again."""
    if not (folder / CHECKPOINT).exists():
        with suppress(OSError):
            (folder / RECORD).unlink()


def _lock(folder: Path, held: ExitStack, patience: float) -> bool | None:
    """Lock a folder: whether that worked, or None where a system or a file system has no locks.

    The system gives a lock back however a process ends, so that a killed run can be resumed at once.
    """
    try:
        import fcntl

        number = os.open(folder, os.O_RDONLY)
    except (ImportError, OSError):
        return None
    held.callback(os.close, number)
    until = time.monotonic() + patience
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
            held.callback(fcntl.flock, number, fcntl.LOCK_UN)  # workers that were forked have the folder open too
            return True


def _who(there: Path) -> str:
    """Say which process trains in a folder, if that is known."""
    with suppress(CheckpointError):
        record = RunRecord.beside(str(there))
        if record and record.process:
            return f" (process {record.process})"
    return ""


def _new_folder(parent: Path, name: str) -> Path:
    """Make the folder ``name-1``, or the first of ``name-2``, ``name-3``, … that does not exist."""
    parent.mkdir(exist_ok=True)
    for number in itertools.count(1):
        folder = parent / f"{name}-{number}"
        try:
            folder.mkdir()
            break
        except FileExistsError:
            continue
    return folder
