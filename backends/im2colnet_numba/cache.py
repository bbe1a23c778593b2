"""Compiled kernels on disk: one file for each kernel, types of its arguments, and processor.

Numba's own cache looks only at the file that a kernel is written in, and an error of the disk ends the computation.
Here the folder's name depends on everything that machine code depends on beside the kernel and the processor: versions,
this package's sources, Numba's settings. A file is written whole and has a checksum, so processes share a folder
without a lock, and a damaged kernel is compiled again.
"""

from __future__ import annotations

import os
import pickle
import re
import shutil
import sys
import time
import warnings
from collections.abc import Iterator
from contextlib import suppress
from functools import cache, partial
from hashlib import sha256
from importlib import resources
from inspect import getclosurevars
from pathlib import Path
from types import BuiltinFunctionType, CodeType, FunctionType, ModuleType
from typing import Any

import llvmlite
import numba
import numpy as np
from numba.core.caching import NullCache
from numba.core.compiler import CompileResult
from numba.core.serialize import dumps

from im2colnet.files import cache_folder
from im2colnet.version import __version__

NAME = re.compile(r"kernels-.+-[0-9a-f]{16}")
MONTH = 30 * 24 * 60 * 60  # seconds
CHECKSUM = sha256().digest_size


@cache
def folder() -> Path:
    """Return the folder for the kernels of this version, which may not exist.

    It is in ``NUMBA_CACHE_DIR`` if that is set, else in the library's cache folder.
    """
    settings = {name: value for name, value in os.environ.items() if name.startswith("NUMBA_")}
    given = settings.pop("NUMBA_CACHE_DIR", "")
    found = sha256()
    for part in (
        *(numba.__version__, llvmlite.__version__, sys.implementation.cache_tag, numba.config.USING_SVML),
        *sorted(settings.items()),
        *((path.name, path.read_bytes()) for path in sorted(sources(), key=lambda path: path.name)),
    ):
        found.update(repr(part).encode())
    base = Path(given, "im2colnet") if given else cache_folder()
    return base / f"kernels-{__version__}-{found.hexdigest()[:16]}"


def sources() -> Iterator[Any]:
    return (path for path in resources.files(__package__).iterdir() if path.name.endswith(".py"))


def facts() -> str:
    """Return the number of saved kernels, their folder, and their size on disk, also for other versions."""
    kept = list(folder().glob("*.bin"))
    others = [path for other in _folders(folder().parent) if other != folder() for path in other.glob("*.bin")]
    text = f"{len(kept)} kept in {folder()} ({_megabytes(kept)})"
    return f"{text}; those of other versions take {_megabytes(others)}" if others else text


def _megabytes(files: list[Path]) -> str:
    return f"{sum(path.stat().st_size for path in files) / 1e6:.1f} MB"


def _folders(parent: Path) -> list[Path]:
    try:
        return [path for path in parent.iterdir() if NAME.fullmatch(path.name)]
    except OSError:
        return []


class KernelCache(NullCache):  # type: ignore[misc]
    """The machine code of one kernel on disk, as Numba's dispatcher asks for it."""

    def __init__(self, function: FunctionType) -> None:
        self._function = function

    @property
    def cache_path(self) -> str:
        return str(folder())

    def load_overload(self, signature: Any, target: Any) -> Any:
        """Return the compiled kernel, or None if it is not there or is damaged."""
        target.refresh()
        try:
            content = self._path(signature, target).read_bytes()
            if sha256(content[CHECKSUM:]).digest() != content[:CHECKSUM]:
                return None
            return CompileResult._rebuild(target, *pickle.loads(content[CHECKSUM:]))
        except Exception:  # of many kinds, and all of them mean that it has to be compiled
            return None

    def save_overload(self, signature: Any, result: Any) -> None:
        """Save a compiled kernel; warn once if that is not possible."""
        if result.library.has_dynamic_globals:  # addresses that mean nothing to another process
            return
        content = dumps(result._reduce())
        path = self._path(signature, result.target_context)
        new = path.with_suffix(f".{os.getpid()}-{os.urandom(4).hex()}.tmp")
        try:
            if not path.parent.is_dir():
                _make(path.parent)
            new.write_bytes(sha256(content).digest() + content)
            os.replace(new, path)
        except OSError as error:
            with suppress(OSError):
                new.unlink()
            if not path.is_file():  # another process may have it open, which Windows minds
                warn(f"{path.parent} ({error.strerror})")

    def _path(self, signature: Any, target: Any) -> Path:
        key = repr((str(signature), target.codegen().magic_tuple(), described(self._function, {})))
        return folder() / f"{self._function.__name__}-{sha256(key.encode()).hexdigest()[:24]}.bin"


def _make(path: Path) -> None:
    """Make the folder of a version, and remove folders to which nothing was written for a month."""
    path.mkdir(parents=True, exist_ok=True)
    for other in _folders(path.parent):
        if time.time() - other.stat().st_mtime > MONTH:
            shutil.rmtree(other, ignore_errors=True)


@cache
def warn(where: str) -> None:
    warnings.warn(
        f"compiled kernels cannot be saved in {where}, so each start compiles them again: set IM2COLNET_CACHE to a"
        " writable folder",
        RuntimeWarning,
        stacklevel=2,
    )


def described(value: Any, seen: dict[int, Any]) -> object:
    """Return everything that machine code takes from a value that a kernel uses, as plain data.

    Kernels that one function makes have the same source, and differ in the variables of their closures. ``seen`` has
    the values that are described already, and keeps them alive.
    """
    value = getattr(value, "py_func", getattr(value, "_defn", value))  # of a compiled function, of an intrinsic
    if value is None or isinstance(value, (bool, int, float, complex, str, bytes, np.generic, np.dtype)):
        return repr(value)
    if isinstance(value, (type, ModuleType, BuiltinFunctionType, np.ufunc)):
        return getattr(value, "__module__", ""), value.__name__
    if id(value) in seen:
        return type(value).__name__
    seen[id(value)] = value
    if isinstance(value, FunctionType):
        named = getclosurevars(value)
        return (
            value.__qualname__,
            described(value.__code__, seen),
            described({**named.globals, **named.nonlocals}, seen),
        )
    if isinstance(value, CodeType):
        return value.co_code, value.co_names, described(value.co_consts, seen)
    if isinstance(value, dict):
        return sorted((repr(key), described(item, seen)) for key, item in value.items())
    if isinstance(value, (set, frozenset)):
        return sorted(map(repr, value))
    if isinstance(value, (tuple, list)):
        return [described(item, seen) for item in value]
    if isinstance(value, np.ndarray):
        return value.dtype.str, value.shape, value.tobytes()
    if isinstance(value, partial):
        return [described(part, seen) for part in (value.func, value.args, value.keywords)]
    return type(value).__qualname__, described(getattr(value, "__dict__", {}), seen)
