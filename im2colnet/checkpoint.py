"""Checkpoints: safetensors files with the network's description as JSON, written whole or not at all."""
from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import suppress
from importlib import import_module
from operator import index
from typing import Any

from im2colnet.checks import arguments
from im2colnet.errors import CheckpointError, Im2colnetError
from im2colnet.layers import Layer
from im2colnet.losses import CrossEntropyLoss
from im2colnet.network import TOO_DEEP

FORMAT = 1


def describe(value: Any) -> Any:
    """Return a layer, loss or optimiser as JSON: its class's name and its constructor's arguments."""
    try:
        return _described(value)
    except RecursionError:
        raise CheckpointError(f"a checkpoint cannot be made: {TOO_DEEP}") from None


def _described(value: Any) -> Any:
    if isinstance(value, _bases()):
        cls, names = type(value), arguments(type(value))
        if _known()[cls.__name__] is not cls:
            raise CheckpointError(f"a checkpoint cannot tell your {cls.__name__} from another: give it another name")
        missing = [name for name in names if not hasattr(value, name)]
        if missing:
            raise CheckpointError(f"{cls.__name__} must keep its arguments as attributes: {', '.join(missing)}")
        return {"type": cls.__name__, "arguments": {name: _described(getattr(value, name)) for name in names}}
    if isinstance(value, (list, tuple)):
        return [_described(v) for v in value]
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    try:
        return index(value)
    except TypeError:
        pass
    raise CheckpointError(
        f"cannot store {value!r} of type {type(value).__name__} in a checkpoint: a layer's arguments must be numbers,"
        " strings, lists, None or layers; or store net.state_dict() yourself"
    )


def rebuild(description: Any) -> Any:
    """Inverse of :func:`describe`; only classes that the library or the program has defined are made."""
    if isinstance(description, list):
        return tuple(rebuild(v) for v in description)
    if not isinstance(description, dict):
        return description
    known = _known()
    name, values = description["type"], {k: rebuild(v) for k, v in description["arguments"].items()}
    if name not in known:
        raise CheckpointError(f"the checkpoint has a {name!r}, unknown here: define or import that class first")
    try:
        return known[name](**values)
    except (TypeError, Im2colnetError) as error:
        raise CheckpointError(f"the checkpoint's {name} does not fit this version: {error}") from error


def _bases() -> tuple[type[Any], ...]:
    from im2colnet.optim import Constant, Cosine, Optimizer

    return Layer, CrossEntropyLoss, Optimizer, Constant, Cosine


def _known() -> dict[str, type[Any]]:
    """Classes that a description may name. The library's own come before a program's of the same name."""
    classes = [cls for base in _bases() for cls in (base, *_subclasses(base))]
    own = {cls.__name__: cls for cls in classes if cls.__module__.startswith("im2colnet.")}
    return {cls.__name__: cls for cls in classes} | own


def _subclasses(cls: type[Any]) -> Iterator[type[Any]]:
    for sub in cls.__subclasses__():
        yield sub
        yield from _subclasses(sub)


def encode(tensors: Mapping[str, Any], information: Mapping[str, Any]) -> bytes:
    """Return the bytes of a checkpoint."""
    content: bytes = _safetensors("safetensors.numpy").save(
        dict(tensors), {"im2colnet": json.dumps({"format": FORMAT, **information})}
    )
    return content


def _safetensors(module: str) -> Any:
    try:
        return import_module(module)
    except ImportError as error:
        raise CheckpointError("checkpoints need the package safetensors: pip install safetensors") from error


def replace_file(path: str | os.PathLike[str], content: bytes) -> None:
    """Write a file whole or not at all: to a new file beside it, then renamed.

    Raises
    ------
    CheckpointError
        If it cannot be written.
    """
    target = os.path.abspath(path)
    temporary = f"{target}.{os.getpid()}.tmp"  # in the same folder, so that renaming it is one action
    try:
        with open(temporary, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, target)
    except BaseException as error:
        with suppress(OSError):
            os.remove(temporary)
        if isinstance(error, OSError):
            raise CheckpointError(f"cannot write {os.fspath(path)}: {error.strerror or error}") from error
        raise


def read(path: str | os.PathLike[str]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Read a checkpoint: its tensors (NumPy) and its information.

    Raises
    ------
    CheckpointError
        If the file is missing, damaged, or not a checkpoint of this library.
    """
    if os.path.isdir(path):
        raise CheckpointError(f"{os.fspath(path)} is a folder: give the checkpoint.safetensors in it")
    safetensors = _safetensors("safetensors")
    try:
        with safetensors.safe_open(os.fspath(path), framework="numpy") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
    except (OSError, safetensors.SafetensorError) as error:
        missing = isinstance(error, FileNotFoundError)
        reason = "there is no such file" if missing else f"it is damaged or no checkpoint ({error})"
        raise CheckpointError(f"cannot read {os.fspath(path)}: {reason}") from error
    if "im2colnet" not in metadata:
        raise CheckpointError(
            f"{os.fspath(path)} holds tensors but no im2colnet checkpoint; for weights alone use net.load_state_dict"
        )
    try:
        information: dict[str, Any] = json.loads(metadata["im2colnet"])
        version = information["format"]
    except (ValueError, TypeError, KeyError) as error:
        raise CheckpointError(f"{os.fspath(path)} is damaged: its description is unreadable ({error})") from error
    if version != FORMAT:
        raise CheckpointError(f"{os.fspath(path)} has format {version}, this version reads {FORMAT}; update im2colnet")
    return tensors, information
