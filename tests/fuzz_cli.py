"""Try the command line with thousands of mutated arguments, files and environments: it must never show a traceback.

    PYTHONPATH=.:backends python tests/fuzz_cli.py                      # 3,000 cases of the seed 0
    PYTHONPATH=.:backends python tests/fuzz_cli.py --seed 7 --cases 500 --kind run.json
    PYTHONPATH=.:backends python tests/fuzz_cli.py --seed 7 --only 123 --kind run.json  # one again

Each case is drawn from the seed, its kind and its number alone, and runs ``im2colnet.cli.main(argv)`` in this process,
with limits of time and memory where the system has them. A case fails if anything but an exit code leaves ``main``, if
the code is none of 0, 1, 2 and 130, if an error says nothing or says that it is the library's fault, or if it takes
longer than it may. What fails is printed with the command that repeats it; the exit code is then 1.
"""

from __future__ import annotations

import argparse
import contextlib
import copy
import gzip
import io
import json
import os
import random
import signal
import string
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np

import im2colnet as ic
from im2colnet import cli
from im2colnet.cli.command_line import DEBUG, FAULT

SECONDS = 10  # that a case may take; a training that was told to go on for long is stopped, and does not fail
MEMORY = 4 << 30  # bytes beyond what this process has at the start
VARIABLES = (
    "IM2COLNET_BACKEND",
    "IM2COLNET_DATA",
    "IM2COLNET_WINOGRAD",
    "IM2COLNET_WORKERS",
    "IM2COLNET_PRECISION",
    "IM2COLNET_DEBUG",
    "COLUMNS",
    "LINES",
    "TERM",
    "NO_COLOR",
    "HOME",
    "TMPDIR",
    "LANG",
    "MPLCONFIGDIR",
)
#: values that have broken programs before
ODD = (
    "",
    " ",
    "0",
    "-1",
    "1",
    "2",
    "nan",
    "inf",
    "-inf",
    "1e400",
    "1e-400",
    "99999999999999999999",
    "1" * 5000,
    "１",
    "1_0",
    "0x10",
    "True",
    "null",
    "None",
    "a" * 5000,
    "~",
    "~nosuchuser",
    "~nosuchuser/x.npz",
    "/",
    ".",
    "..",
    "-",
    "--",
    "x\0y",
    "\udcff",
    "\udcff.npz",
    "ü",
    "×",
    "\x1b[31m",
    "a\nb",
    "%s",
    "{}",
    "*",
    "/dev/null",
    "/dev/full",
    "/proc/self/mem",
    "/nonexistent/x.npz",
    "x.npz",
    "x.npy",
    "x.png",
    "numpy",
    "numpy:0",
    "numpy:x",
    "cupy",
    ":",
    "numpy:",
    "digits",
    "mnist",
    "3,8,8",
    "1,8,8",
    "3,100000,100000",
    "0,0,0",
    "1,8,8,",
    "2147483647",
    "2147483648",
)


class Outcome(NamedTuple):
    """How a case went."""

    argv: list[str]
    failure: str  #: empty if it passed
    output: str


class TooLong(BaseException):
    """The case's time is over; no ``except Exception`` may catch it."""


# ---------------------------------------------------------------------- mutations


def mutate_value(rng: random.Random, value: Any) -> Any:
    """Return something else for a value of JSON."""
    others = [
        None,
        True,
        False,
        0,
        -1,
        1.5,
        float("nan"),
        float("inf"),
        10**30,
        "",
        "x",
        "a" * 5000,
        "\0",
        "\ud800",
        "../..",
        [],
        [[]],
        [None],
        {},
        {"a": 1},
        [1, "x"],
        value,
        [value],
        str(value),
    ]
    return copy.deepcopy(rng.choice(others))


def mutate_json(rng: random.Random, document: Any) -> Any:
    """Change, remove, add or copy something somewhere in a document of JSON."""
    document = copy.deepcopy(document)
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        holder, key = None, None
        place = document
        while isinstance(place, (dict, list)) and place and (holder is None or rng.random() < 0.7):
            holder, key = place, rng.choice(list(place) if isinstance(place, dict) else range(len(place)))
            place = holder[key]
        if holder is None:
            return mutate_value(rng, document)
        action = rng.random()
        if action < 0.15:
            del holder[key]
        elif action < 0.25 and isinstance(holder, dict):
            holder[rng.choice(ODD)] = mutate_value(rng, place)
        else:
            holder[key] = mutate_value(rng, place)
    return document


def mutate_bytes(rng: random.Random, content: bytes) -> bytes:
    """Flip, cut, insert or copy bytes, mostly near the beginning, where formats have their sizes."""
    data = bytearray(content)
    for _ in range(rng.choice((1, 1, 2, 5, 20))):
        if not data:
            break
        at = rng.randrange(min(len(data), rng.choice((8, 64, 512, len(data)))))
        action = rng.randrange(6)
        if action == 0:
            data[at] ^= 1 << rng.randrange(8)
        elif action == 1:
            data[at] = rng.choice((0, 1, 0x7F, 0x80, 0xFF))
        elif action == 2:
            del data[at : at + rng.choice((1, 4, 100, len(data)))]
        elif action == 3:
            data[at:at] = rng.randbytes(rng.choice((1, 4, 100)))
        elif action == 4:
            data[at : at + 4] = rng.choice((b"\xff\xff\xff\xff", b"\xff\xff\xff\x7f", b"\0\0\0\0", b"\0\0\0\x80"))
        else:
            data[at:at] = data[at : at + 100]
    return bytes(data)


def mutate_arguments(rng: random.Random, argv: list[str]) -> list[str]:
    """Change, remove, add or copy arguments."""
    argv = list(argv)
    for _ in range(rng.choice((1, 1, 2, 3))):
        at = rng.randrange(len(argv)) if argv else 0
        action = rng.random()
        if action < 0.15 and argv:
            del argv[at]
        elif action < 0.3:
            argv.insert(at, rng.choice(ODD))
        elif action < 0.5:
            argv[len(argv) :] = [rng.choice(OPTIONS), rng.choice(ODD)]
        elif action < 0.55 and argv:
            argv.insert(at, argv[at])
        elif action < 0.65 and argv:
            argv[at] = "".join(rng.choice((c, c, c, rng.choice(string.printable))) for c in argv[at])
        elif argv:
            argv[at] = rng.choice(ODD)
    return argv


OPTIONS = (
    "--data",
    "--folder",
    "--model",
    "--width",
    "--epochs",
    "--batch-size",
    "--drop-last",
    "--optimizer",
    "--lr",
    "--momentum",
    "--weight-decay",
    "--schedule",
    "--warmup",
    "--seed",
    "--precision",
    "--out",
    "--resume",
    "--backend",
    "--threads",
    "--json",
    "--checkpoint",
    "--input-shape",
    "--steps",
    "--picture",
    "--help",
    "--version",
)


# ---------------------------------------------------------------------- cases


class Bench:
    """A folder with a small run, a data set and files to predict from; each case gets a copy of what it changes."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        rng = np.random.default_rng(0)
        images = rng.integers(0, 256, (40, 8, 8), np.uint8)
        np.savez(folder / "mine.npz", images=images, labels=np.arange(40) % 3)
        np.savez_compressed(
            folder / "keras.npz",
            x_train=images[:30],
            y_train=np.arange(30) % 3,
            x_test=images[30:],
            y_test=np.arange(10) % 3,
        )
        np.save(folder / "one.npy", images[0])
        np.savez(folder / "several.npz", images=images[:3])
        (folder / "idx").mkdir()
        for stem, count in (("train", 30), ("t10k", 10)):
            for name, array in (
                (f"{stem}-images-idx3-ubyte", images[:count]),
                (f"{stem}-labels-idx1-ubyte", (np.arange(count) % 10).astype(np.uint8)),
            ):
                header = bytes([0, 0, 8, array.ndim]) + b"".join(n.to_bytes(4, "big") for n in array.shape)
                (folder / "idx" / name).write_bytes(header + array.tobytes())
        packed = folder / "idx" / "train-images-idx3-ubyte"
        packed.with_suffix(".gz").write_bytes(gzip.compress(packed.read_bytes(), mtime=0))
        packed.unlink()
        with contextlib.suppress(ImportError):
            from onnx_files import EXAMPLES

            self.models = [example.SerializeToString() for example in EXAMPLES]
        with contextlib.suppress(ImportError):
            from PIL import Image

            Image.fromarray(images[0]).save(folder / "picture.png")
        with working_in(folder), quiet():
            assert cli.main(self.train("run")) == 0
        self.run = folder / "run"
        self.description = json.loads((self.run / "run.json").read_text())

    def train(self, out: str) -> list[str]:
        return ["train", "--data", "mine.npz", "--model", "notebook", "--epochs", "1", "--threads", "1", "--out", out]

    def commands(self, rng: random.Random, checkpoint: str) -> list[str]:
        """Return a command that reads a checkpoint and its run."""
        return rng.choice(
            (
                ["evaluate", checkpoint],
                ["predict", checkpoint, "one.npy"],
                ["predict", checkpoint, "one.npy", "--json"],
                ["report", checkpoint, "--out", "r.html", "--steps", "1"],
                ["plan", "--checkpoint", checkpoint],
                ["summary", "--checkpoint", checkpoint],
                ["explain", checkpoint, "one.npy"],
                ["explain", checkpoint, "--layer", "0", "--out", "layer.html"],
                ["train", "--resume", checkpoint, "--epochs", "2", "--threads", "1"],
                ["train", "--resume", checkpoint],
            )
        )

    def arguments(self, rng: random.Random, place: Path) -> list[str]:
        checkpoint = str(self.run / "checkpoint.safetensors")
        base = rng.choice(
            (
                self.train("new"),
                ["backends"],
                ["onnx", "a.onnx", "--input-shape", "3,8,8", "--batch-size", "2"],
                ["onnx", "--operators"],
                ["summary", "--model", "lenet5"],
                ["plan", "--model", "resnet20", "--batch-size", "32"],
                ["plan", "--input-shape", "3,32,32"],
                ["profile", "--model", "notebook", "--batch-size", "4", "--steps", "1"],
                ["predict", checkpoint, "one.npy", "several.npz", "--out", "p.csv"],
                ["evaluate", checkpoint, "--data", "keras.npz"],
                ["evaluate", checkpoint, "--json"],
                ["evaluate", checkpoint, "--confusion", "c.png", "--mistakes", "wrong"],
                ["report", str(self.run), "--out", "r.html", "--steps", "1"],
                ["train", "--resume", checkpoint, "--out", "other", "--epochs", "2"],
                ["train", "--data", "mnist", "--folder", "idx", "--model", "notebook", "--epochs", "1", "--out", "i"],
            )
        )
        return mutate_arguments(rng, base)

    def run_json(self, rng: random.Random, place: Path) -> list[str]:
        checkpoint = place / "checkpoint.safetensors"
        checkpoint.write_bytes((self.run / "checkpoint.safetensors").read_bytes())
        content = json.dumps(mutate_json(rng, self.description)).encode()
        if rng.random() < 0.1:
            content = rng.choice((b"[" * 100_000, b"", b"\xff\xfe", b'{"data": ' + b"9" * 10_000 + b"}"))
        elif rng.random() < 0.15:
            content = mutate_bytes(rng, content)
        (place / "run.json").write_bytes(content)
        return self.commands(rng, "checkpoint.safetensors")

    def checkpoints(self, rng: random.Random, place: Path) -> list[str]:
        for name in ("checkpoint.safetensors", "run.json"):
            (place / name).write_bytes((self.run / name).read_bytes())
        changed = place / "checkpoint.safetensors"
        changed.write_bytes(mutate_bytes(rng, changed.read_bytes()))
        return self.commands(rng, "checkpoint.safetensors")

    def descriptions(self, rng: random.Random, place: Path) -> list[str]:
        """Change the JSON in a checkpoint, which stays a whole file."""
        (place / "run.json").write_bytes((self.run / "run.json").read_bytes())
        content = (self.run / "checkpoint.safetensors").read_bytes()
        size = int.from_bytes(content[:8], "little")
        header = json.loads(content[8 : 8 + size])
        metadata = header["__metadata__"]
        metadata["im2colnet"] = json.dumps(mutate_json(rng, json.loads(metadata["im2colnet"])))
        changed = json.dumps(header).encode()
        changed += b" " * (-len(changed) % 8)
        changed = len(changed).to_bytes(8, "little") + changed + content[8 + size :]
        (place / "checkpoint.safetensors").write_bytes(changed)
        return self.commands(rng, "checkpoint.safetensors")

    def data(self, rng: random.Random, place: Path) -> list[str]:
        names = ["mine.npz", "keras.npz", "one.npy", "several.npz", *os.listdir(self.folder / "idx")]
        names += ["picture.png"] * (self.folder / "picture.png").exists()
        name, checkpoint = rng.choice(names), str(self.run / "checkpoint.safetensors")
        folder = self.folder / "idx" if "idx" in name else self.folder
        (place / name).unlink(missing_ok=True)
        (place / name).write_bytes(mutate_bytes(rng, (folder / name).read_bytes()))
        if "idx" in name:
            return [
                "train",
                "--data",
                rng.choice(("mnist", "fashion-mnist")),
                "--folder",
                ".",
                "--model",
                "notebook",
                "--epochs",
                "1",
                "--threads",
                "1",
            ]
        if name in ("mine.npz", "keras.npz"):
            return rng.choice(
                (
                    ["train", "--data", name, "--model", "notebook", "--epochs", "1", "--threads", "1"],
                    ["evaluate", checkpoint, "--data", name],
                    ["summary", "--data", name],
                )
            )
        return ["predict", checkpoint, name, "--out", rng.choice(("p.npy", "p.csv", "p.npz", "p.json", "p.jsonl"))]

    def onnx(self, rng: random.Random, place: Path) -> list[str]:
        (place / "a.onnx").write_bytes(mutate_bytes(rng, rng.choice(self.models)))
        return ["onnx", "a.onnx", *rng.choice(([], ["--input-shape", "3,8,8"], ["--json", "--max-bytes", "1000000"]))]

    def environment(self, rng: random.Random, place: Path) -> list[str]:
        for name in rng.sample(VARIABLES, rng.choice((1, 2, 4))):
            value = rng.choice(ODD)
            if "\0" not in value:
                os.environ[name] = value
        checkpoint = str(self.run / "checkpoint.safetensors")
        return rng.choice(
            (
                self.train("new"),
                ["plan"],
                ["summary", "--help"],
                ["backends"],
                ["evaluate", checkpoint],
                ["train", "--data", "mnist", "--model", "notebook", "--epochs", "1"],
                ["predict", checkpoint, "one.npy"],
            )
        )

    KINDS: ClassVar[dict[str, Callable[..., list[str]]]] = {
        "arguments": arguments,
        "run.json": run_json,
        "checkpoints": checkpoints,
        "data": data,
        "environment": environment,
        "descriptions": descriptions,
        "onnx": onnx,
    }

    def case(self, kind: str, seed: int, number: int) -> Outcome:
        """Run one case in a folder of its own."""
        rng = random.Random(f"{seed} {kind} {number}")
        before = dict(os.environ)
        with tempfile.TemporaryDirectory(dir=self.folder) as name:
            place = Path(name)
            for file in self.folder.iterdir():
                if file.is_file() or file.name == "idx":
                    os.symlink(file, place / file.name)
            try:
                with working_in(place):
                    return attempt(self.KINDS[kind](self, rng, place))
            finally:
                os.environ.clear()
                os.environ.update(before)


def attempt(argv: list[str]) -> Outcome:
    """Run the command, and judge how it ends."""
    out, err, code, failure = io.StringIO(), io.StringIO(), None, ""
    began = time.monotonic()
    try:
        with limited(), contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = cli.main(argv)
    except TooLong:
        told_to = {"train", "profile", "doctor"} & set(argv[:1])
        failure = "" if told_to else f"it takes longer than {SECONDS} s"
        code = 130
    except BaseException:
        failure = traceback.format_exc()
    said = err.getvalue()
    if not failure:
        if code not in (0, 1, 2, 130):
            failure = f"exit code {code!r}"
        elif code in (1, 2) and "error: " not in said and "usage: " not in said:
            failure = f"exit code {code} without a word"
        elif FAULT in said or ("Traceback" in said and "IM2COLNET_DEBUG" not in os.environ):
            failure = "an error that nobody had thought of"
    text = f"exit code {code}, {time.monotonic() - began:.1f} s\n{said[-1500:]}{out.getvalue()[-300:]}"
    return Outcome(argv, failure, text)


@contextlib.contextmanager
def limited() -> Iterator[None]:
    """Limit time and memory within the block, where the system can."""
    if not hasattr(signal, "setitimer"):
        yield
        return
    import resource

    def over(number: int, frame: Any) -> None:
        raise TooLong

    limits = resource.getrlimit(resource.RLIMIT_AS)
    has = 0
    with contextlib.suppress(OSError):
        has = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    previous = signal.signal(signal.SIGALRM, over)
    if has and limits[0] == resource.RLIM_INFINITY:
        resource.setrlimit(resource.RLIMIT_AS, (has + MEMORY, limits[1]))
    signal.setitimer(signal.ITIMER_REAL, SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)
        resource.setrlimit(resource.RLIMIT_AS, limits)


@contextlib.contextmanager
def working_in(folder: Path) -> Iterator[None]:
    """Make a folder the working directory within the block."""
    before = os.getcwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)


def quiet() -> contextlib.AbstractContextManager[Any]:
    """Keep what a command prints from the terminal."""
    return contextlib.redirect_stdout(io.StringIO())


def fuzz(folder: Path, seed: int, numbers: range, kinds: list[str], tell: Callable[[str], None]) -> int:
    """Run the cases; return how many failed."""
    bench, failures = Bench(folder), 0
    for kind in kinds:
        for number in numbers:
            outcome = bench.case(kind, seed, number)
            if outcome.failure:
                failures += 1
                argv = " ".join(text if len(text) < 80 else f"{text[:77]}..." for text in outcome.argv)
                again = f"python tests/fuzz_cli.py --seed {seed} --only {number} --kind {kind}"
                tell(f"FAILED: {outcome.failure.strip()}\n  im2colnet {argv!a}\n  again: {again}\n{outcome.output!a}\n")
            elif len(numbers) == 1:
                tell(f"{outcome.argv!a}\n{outcome.output}")
    return failures


def main() -> int:
    """Read the arguments and run the cases."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--cases", type=int, default=3000, help="in all (default: 3000)")
    parser.add_argument("--kind", choices=Bench.KINDS, help="only these")
    parser.add_argument("--only", type=int, metavar="NUMBER", help="this case alone")
    args = parser.parse_args()
    warnings.simplefilter("error")
    ic.set_workers("threads")
    kinds = [args.kind] if args.kind else list(Bench.KINDS)
    numbers = range(args.cases // len(kinds)) if args.only is None else range(args.only, args.only + 1)
    for variable in VARIABLES:
        if variable.startswith("IM2COLNET_"):
            os.environ.pop(variable, None)
    if args.only is not None:
        os.environ[DEBUG] = "1"
    with tempfile.TemporaryDirectory() as folder:
        failures = fuzz(Path(folder), args.seed, numbers, kinds, lambda text: print(text, flush=True))
    print(f"{len(numbers) * len(kinds):,} cases of the seed {args.seed}, {failures} failed")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
