"""Checkpoints: safetensors files with the network's description as JSON, written completely or not at all.

The metadata hold the description under the key ``im2colnet`` and its checksum under ``im2colnet.crc32``. The
description holds the number of the format, and under ``crc32`` the checksum of the tensors. So damage is found before
the content is used. CRC-32 runs at several GB/s; it finds every error within 32 bits, and misses one in 4·10⁹ of all
other errors. It does not protect against forged files.

A later version of the library may add entries, which this version ignores. The number of the format changes when this
version could no longer read the files. Files of version 0.1, which have no checksums, can be read too.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields, is_dataclass
from math import isfinite
from operator import index
from types import NoneType
from typing import Any, NamedTuple, TypeVar, get_args, get_origin, get_type_hints
from zlib import crc32

from im2colnet.checks import arguments
from im2colnet.datasets.transforms.base import ImageTransform, Transform
from im2colnet.datasets.transforms.mixing import Mixing
from im2colnet.errors import BackendError, CheckpointError, Im2colnetError, OutOfMemoryError
from im2colnet.files import check_regular, replace_file
from im2colnet.layers import Layer
from im2colnet.losses import Loss
from im2colnet.network import Network
from im2colnet.network.network import TOO_DEEP
from im2colnet.optim import Optimizer, Schedule
from im2colnet.show.display import RECORDED
from im2colnet.training.history import History
from im2colnet.training.state import NEEDED, _check_progress, _State
from im2colnet.training.weights import beneath
from im2colnet.version import __version__
from im2colnet.weights import DESCRIPTION, reason, safetensors

FORMAT = 1
#: the format of a network that normalizes its images
NORMALIZED = 2
#: key of the description's checksum in the file's metadata
CHECKSUM = "im2colnet.crc32"
#: key of the description of a dict, which is stored as a list of pairs in the order of the dict
DICT = "dict"
#: the prefix of the names of the network's parameters and state
NETWORK = "net."
#: the prefix of the names of the arrays of callbacks
CALLBACKS = "callback."
#: element types that a tensor may have
FLOATS = ("F16", "F32", "F64")
#: the largest valid count in a description: every whole number up to it is exact as a float
LARGEST = 2**53

T = TypeVar("T")


# ---------------------------------------------------------------------- layers, losses and optimizers as JSON


def describe(value: Any) -> Any:
    """Return a layer, loss or optimizer as JSON: its class's name and its constructor's arguments."""
    try:
        return _described(value)
    except RecursionError:
        raise CheckpointError(f"a checkpoint cannot be made: {TOO_DEEP}") from None


def _described(value: Any) -> Any:
    if isinstance(value, _bases()):
        cls, names = type(value), arguments(type(value))
        given = value.config() if isinstance(value, Network) else vars(value)
        missing = [name for name in names if name not in given and not hasattr(value, name)]
        if missing:
            raise CheckpointError(f"{cls.__name__} must keep its arguments as attributes: {', '.join(missing)}")
        replaced = {name: _described(layer) for name, layer in getattr(value, "replaced", {}).items()}
        return {
            "type": _name(cls),
            **({} if _is_own(cls) else {"foreign": True}),
            "arguments": {name: _described(given.get(name, getattr(value, name, None))) for name in names},
            **({"replaced": replaced} if replaced else {}),
        }
    if isinstance(value, (list, tuple)):
        return [_described(v) for v in value]
    if isinstance(value, dict) and all(isinstance(key, str) for key in value):
        return {DICT: [[key, _described(v)] for key, v in value.items()]}
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    try:
        return index(value)
    except TypeError:
        pass
    if callable(value):
        raise CheckpointError(
            f"a checkpoint cannot hold {value!r}, which is code: for a learning rate, derive a class from ic.Schedule"
            " instead"
        )
    raise CheckpointError(
        f"cannot store {value!r} of type {type(value).__name__} in a checkpoint: a layer's arguments must be numbers,"
        " strings, lists, None or layers; or store net.state_dict() yourself"
    )


def rebuild(description: Any, place: str = "it") -> Any:
    """Make the object that a description from :func:`describe` stands for.

    Only classes that the library or the program has defined are used. Error messages name ``place``, the position of
    the description in the file.
    """
    if isinstance(description, list):
        return tuple(rebuild(v, f"{place}.{i}") for i, v in enumerate(description))
    if not isinstance(description, dict):
        return description
    if DICT in description:
        pairs = entry(DICT, description, list, place)
        if not all(isinstance(pair, list) and len(pair) == 2 and isinstance(pair[0], str) for pair in pairs):
            raise CheckpointError(f"{place}: it is damaged: {DICT} must hold pairs of a name and a value")
        return {key: rebuild(v, f"{place}.{key}") for key, v in pairs}
    entry("type", description, str, place)
    given = entry("arguments", description, dict, place)
    cls = _find(description["type"], entry("foreign", {"foreign": False} | description, bool, place), place)
    values = {k: rebuild(v, f"{place}.arguments.{k}") for k, v in given.items()}
    replaced = entry("replaced", {"replaced": {}} | description, dict, place)
    layers = {k: rebuild_as(Layer, v, f"{place}.replaced.{k}") for k, v in replaced.items()}
    try:
        made = cls(**values)
        for name, layer in layers.items():
            made.replace(name, layer)
        return made
    except RecursionError:
        raise
    except Exception as error:  # a class of the user's may raise any exception
        kind = "" if isinstance(error, (TypeError, Im2colnetError)) else f"{type(error).__name__}: "
        raise CheckpointError(
            f"{place}: the checkpoint's {cls.__name__} does not fit this version: {kind}{error}"
        ) from error


def rebuild_as(kind: type[T], description: Any, place: str) -> T:
    """Rebuild an object that must be of the given class."""
    found = rebuild(description, place)
    if not isinstance(found, kind):
        raise CheckpointError(f"{place} must describe a {kind.__name__}, it is damaged: {_short(description)}")
    return found


def _bases() -> tuple[type[Any], ...]:
    return Layer, Loss, Optimizer, Schedule, Transform


def _full(cls: type[Any]) -> str:
    return f"{cls.__module__}.{cls.__qualname__}"


def known_classes() -> dict[str, list[type[Any]]]:
    """Return the classes that a description may name, by short name and by full name with the module.

    If the library has a class of a short name, that name means only this class. If a class was defined several times,
    as by running a notebook's cell again, only the newest definition is included.
    """
    newest = _newest_classes()
    names: dict[str, list[type[Any]]] = {}
    for cls in sorted(newest.values(), key=lambda cls: not _is_own(cls)):
        if cls.__name__ not in names or not _is_own(names[cls.__name__][0]):
            names.setdefault(cls.__name__, []).append(cls)
    return names | {full: [cls] for full, cls in newest.items()}


def _newest_classes() -> dict[str, type[Any]]:
    """Return the newest definition of each class, by its full name with the module."""
    definitions: dict[str, dict[type[Any], None]] = {}
    for base in _bases():
        for cls in (base, *_subclasses(base)):
            definitions.setdefault(_full(cls), {})[cls] = None
    return {full: _newest(list(classes)) for full, classes in definitions.items()}


def _is_own(cls: type[Any]) -> bool:
    """Tell whether a class is one of the library's."""
    return cls.__module__.startswith("im2colnet.")


def _newest(classes: list[type[Any]]) -> type[Any]:
    """Return the definition that a class's name refers to now; for local classes the last definition."""
    found: Any = sys.modules.get(classes[-1].__module__)
    for part in classes[-1].__qualname__.split("."):
        found = getattr(found, part, None)
    return found if found in classes else classes[-1]


def _subclasses(cls: type[Any]) -> Iterator[type[Any]]:
    for sub in cls.__subclasses__():  # in the order of their definition
        yield sub
        yield from _subclasses(sub)


def _name(cls: type[Any]) -> str:
    """Return the name of a class in a description; it includes the module if the short name is ambiguous."""
    namesakes = known_classes()[cls.__name__]
    return cls.__name__ if [_full(other) for other in namesakes] == [_full(cls)] else _full(cls)


def _find(name: str, foreign: bool, place: str) -> type[Any]:
    """Return the class of a name.

    A foreign class is not a class of the library, even if a later version of the library has a class of this name.
    Files of version 0.1 do not say which classes are foreign.
    """
    known = known_classes()
    found = known.get(name, [])
    if foreign and found and _is_own(found[0]):
        found = [cls for cls in _newest_classes().values() if cls.__name__ == name and not _is_own(cls)]
    if len(found) > 1:
        raise CheckpointError(
            f"{place}: the checkpoint has a {name!r}, and there are several classes of this name here"
            f" ({', '.join(map(_full, found))}): define or import only the right one"
        )
    if not found:
        others = [_full(cls) for cls in known.get(name.rpartition(".")[2], [])]
        raise CheckpointError(
            f"{place}: the checkpoint has a {name!r}, unknown here: define or import that class first"
            + (f"; there is {' and '.join(others)}" if others else "")
        )
    if found[0] in _abstract():
        raise CheckpointError(f"{place}: it is damaged: {name!r} is only the base of other classes")
    return found[0]


def _abstract() -> tuple[type[Any], ...]:
    return ImageTransform, Layer, Loss, Mixing, Network, Optimizer, Schedule, Transform


# ---------------------------------------------------------------------- entries of a description


def entry(name: str, values: Mapping[str, Any], kind: Any, place: str = "") -> Any:
    """Return an entry of a description, which must be of the type ``kind`` or of one type of a union.

    A whole number must not be negative, and a float must be finite. Otherwise, or if the entry is missing, a
    CheckpointError names the entry's position.
    """
    where = f"{place}.{name}" if place else name
    if name not in values:
        raise CheckpointError(f"it is damaged: {where} is missing")
    value, kinds = values[name], get_args(kind) or (kind,)
    if float in kinds and type(value) is int and abs(value) <= LARGEST:
        value = float(value) if int not in kinds else value
    if type(value) not in kinds or (
        (type(value) is int and not 0 <= value <= LARGEST) or (type(value) is float and not isfinite(value))
    ):
        expected = " or ".join(WORDS[k] for k in kinds)
        raise CheckpointError(f"it is damaged: {where} must be {expected}, it is {_short(value)}")
    return value


WORDS = {
    int: f"a whole number from 0 to {LARGEST}",
    float: "a finite number",
    bool: "true or false",
    str: "text",
    dict: "an object",
    list: "a list",
    NoneType: "null",
}


def fill(cls: type[T], values: Mapping[str, Any], place: str, required: tuple[str, ...] = ()) -> T:
    """Make a dataclass from entries of a description; optional entries may be missing, unknown entries are ignored."""
    found, kinds = {}, get_type_hints(cls)
    for field in fields(cls):  # type: ignore[arg-type]
        kind = kinds[field.name]
        if field.name not in values and field.name not in required:
            continue  # a checkpoint of an older version has no such entry
        inside, by_name = f"{place}.{field.name}", get_origin(kind) is dict
        value = entry(field.name, values, dict if by_name or is_dataclass(kind) else kind, place)
        if is_dataclass(kind):
            value = fill(kind, value, inside)  # type: ignore[arg-type]
        elif by_name:
            value = {name: entry(name, value, get_args(kind)[1], inside) for name in value}
        found[field.name] = value
    return cls(**found)


def read_state(description: Any) -> _State:
    """Read the progress of training; checkpoints of version 0.1 have ``correct`` in place of ``metrics``."""
    partial = description.get("partial")
    if isinstance(partial, dict) and "metrics" not in partial and "correct" in partial:
        counts = {"accuracy": entry("correct", partial, float, "state.partial")}
        description = description | {"partial": partial | {"metrics": counts}}
    if "updates" not in description:  # each step was an update in older versions
        description = description | {"updates": entry("step", description, int, "state")}
    state = fill(_State, description, "state", NEEDED)
    _check_progress(state)
    return state


def read_history(records: list[Any]) -> History:
    """Read the records of the epochs; raise a CheckpointError if a value is not a number or a name is missing."""
    for i, record in enumerate(records):
        place = f"history.{i}"
        if not isinstance(record, dict):
            raise CheckpointError(f"it is damaged: {place} must be an object, it is {record!r:.60}")
        for name, value in record.items():
            if isinstance(value, bool) or not isinstance(value, (int, float)):
                raise CheckpointError(f"it is damaged: {place}.{name} must be a number, it is {value!r:.60}")
        for name in RECORDED:
            if name not in record:
                raise CheckpointError(f"it is damaged: {place}.{name} is missing")
    return History(records)


def divided(name: str, state: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Divide the state of a callback into arrays, by their names in a checkpoint, and values for JSON.

    Raises
    ------
    CheckpointError
        If the state holds any other values, or arrays of other numbers than floats.
    """
    if not isinstance(state, dict) or not all(isinstance(key, str) for key in state):
        raise CheckpointError(f"the state of the callback {name} must be a dict with names, got {state!r:.80}")
    arrays = {key: value for key, value in state.items() if hasattr(value, "dtype") and not isinstance(value, float)}
    rest = {key: value for key, value in state.items() if key not in arrays}
    wrong = [key for key, value in arrays.items() if value.dtype.name not in ("float16", "float32", "float64")]
    try:
        json.dumps(rest, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise CheckpointError(
            f"the state of the callback {name} cannot be stored: {error}; it must be a dict of numbers, strings, lists,"
            " dicts, None and NumPy arrays of floats"
        ) from error
    if wrong:
        raise CheckpointError(
            f"the state of the callback {name} cannot be stored: {wrong[0]} is an array of"
            f" {arrays[wrong[0]].dtype}, only floats can be; make it a list"
        )
    return {f"{CALLBACKS}{name}.{key}": value.copy(order="C") for key, value in arrays.items()}, rest


def read_callbacks(information: Mapping[str, Any], tensors: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Read the states of the callbacks; checkpoints of older versions have none."""
    states = entry("callbacks", {"callbacks": {}} | dict(information), dict)
    found = {}
    for name in states:
        found[name] = entry(name, states, dict, "callbacks") | beneath(f"{CALLBACKS}{name}.", tensors)
    return found


def read_transforms(descriptions: list[Any]) -> tuple[Transform, ...]:
    """Read the transforms of the training images."""
    return tuple(rebuild_as(Transform, each, f"augment.{i}") for i, each in enumerate(descriptions))


def read_names(name: str, info: Mapping[str, Any], known: Iterable[str]) -> list[str]:
    """Read a list of names of parameters or of state; it is empty in checkpoints of older versions."""
    found: list[str] = entry(name, {name: []} | dict(info), list)
    unknown = [each for each in found if each not in {*known}]
    if unknown:
        raise CheckpointError(f"it is damaged: {name} has {_short(unknown[0])}, which is not in the network")
    return found


def read_clipping(info: Mapping[str, Any]) -> tuple[float | None, float | None, int]:
    """Read clip_norm, clip_value and accumulate, which checkpoints of older versions do not have."""
    given = {"clip_norm": None, "clip_value": None, "accumulate": 1} | dict(info)
    norm, value = (entry(name, given, float | None) for name in ("clip_norm", "clip_value"))
    return norm, value, entry("accumulate", given, int)


def read_input_shape(shape: list[Any] | None) -> tuple[int, ...] | None:
    """Read the shape of a sample, such as (C, H, W), (C, L) or (features,)."""
    if not shape:
        return None
    if not all(type(n) is int and n > 0 for n in shape):
        raise CheckpointError(f"it is damaged: input_shape must be positive numbers, it is {shape}")
    return tuple(shape)


def check_shapes(shapes: dict[str, tuple[int, ...]], net: Network, vectors: Iterable[str]) -> None:
    """Raise a CheckpointError unless a checkpoint's tensors have the required shapes.

    These are the shapes of the network's parameters and state, and for each of ``vectors``, such as
    "optimizer.velocity", the shapes of all parameters.
    """
    net.check_state(beneath(NETWORK, shapes))
    for vector in vectors:
        for node in net.graph.nodes:
            for key, parameter in node.layer.parameters().items():
                name, wanted = f"{vector}.{node.name}.{key}", tuple(parameter.shape)
                if shapes.get(name) != wanted:
                    raise CheckpointError(
                        f"it is damaged: {name} must have shape {wanted}, it is {shapes.get(name, 'missing')}"
                    )


def _short(value: Any) -> str:
    try:
        text = json.dumps(value)
    except (ValueError, RecursionError):  # the number has more digits than Python prints, or the nesting is too deep
        return f"a {type(value).__name__} too large to show"
    return text if len(text) <= 60 else f"{text[:57]}..."


# ---------------------------------------------------------------------- files


def encode(tensors: Mapping[str, Any], information: Mapping[str, Any]) -> tuple[bytes, str]:
    """Return the bytes of a checkpoint, and the checksum of its description, which identifies the checkpoint."""
    sealed = {"format": format_of(information), "version": __version__, "crc32": checksum(tensors)}
    text = json.dumps({**sealed, **information})
    mark = _hexadecimal(crc32(text.encode()))
    content: bytes = safetensors("safetensors.numpy").save(dict(tensors), {DESCRIPTION: text, CHECKSUM: mark})
    return content, mark


def format_of(information: Mapping[str, Any]) -> int:
    """Return the number of the format of a description.

    Versions without the normalization of networks would ignore it and compute wrong outputs: they must not read it.
    """
    return NORMALIZED if information.get("normalization") else FORMAT


def checksum(tensors: Mapping[str, Any]) -> str:
    """Return the checksum of the arrays' names, types, shapes, and bytes as they are stored in the file."""
    total = 0
    for name in sorted(tensors):
        array = tensors[name]
        array = array.astype(array.dtype.newbyteorder("<"), order="C", copy=False)
        total = crc32(f"{name} {array.dtype.str} {array.shape}".encode(), total)
        total = crc32(array.reshape(-1).view("u1"), total)
    return _hexadecimal(total)


def _hexadecimal(number: int) -> str:
    return f"{number:08x}"


class Contents(NamedTuple):
    """An open checkpoint, before its tensors are read."""

    information: dict[str, Any]
    shapes: dict[str, tuple[int, ...]]  #: the shapes of the tensors
    mark: str  #: the checksum of the description, which identifies the file
    tensors: Callable[[], dict[str, Any]]  #: reads the tensors


@contextmanager
def opened(path: str | os.PathLike[str]) -> Iterator[Contents]:
    """Open a checkpoint within a ``with`` block; its tensors are read on request.

    Raises
    ------
    CheckpointError
        If the file is missing, damaged, or not a checkpoint of this library.
    """
    check_regular(path)
    name, package = os.fspath(path), safetensors()
    try:
        opening = package.safe_open(name, framework="numpy")
        file = opening.__enter__()
    except (OSError, ValueError, package.SafetensorError) as error:
        raise CheckpointError(f"cannot read {name}: {reason(name, error, 'checkpoint')}") from error
    with opening:
        metadata = file.metadata() or {}
        if DESCRIPTION not in metadata:
            raise CheckpointError(
                f"{name} holds tensors but no im2colnet checkpoint: load weights alone by"
                f" net.load_state_dict(ic.load_weights({name!r}))"
            )
        text = metadata[DESCRIPTION]
        mark = _hexadecimal(crc32(text.encode()))
        if metadata.get(CHECKSUM, mark) != mark:
            raise CheckpointError(f"{name} is damaged: its description has changed since it was written")
        information = _information(name, text)
        if "crc32" in information and CHECKSUM not in metadata:
            raise CheckpointError(f"{name} is damaged: its description has lost its checksum")
        slices = {key: file.get_slice(key) for key in file.keys()}  # noqa: SIM118 - not a dict

        def tensors() -> dict[str, Any]:
            try:
                found = {key: file.get_tensor(key) for key in slices}
            except (OSError, package.SafetensorError, TypeError, ValueError, AttributeError) as error:
                raise CheckpointError(f"cannot read the tensors of {name}: {error}") from error
            except MemoryError as error:
                raise OutOfMemoryError(f"there is not enough memory for the tensors of {name}") from error
            if information.get("crc32", actual := checksum(found)) != actual:
                raise CheckpointError(f"{name} is damaged: its tensors have changed since they were written")
            return found

        for key, part in slices.items():
            if part.get_dtype() not in FLOATS:
                raise CheckpointError(
                    f"{name} cannot be loaded: {key} is of type {part.get_dtype()}, expected {' or '.join(FLOATS)}"
                )
        yield Contents(information, {key: tuple(part.get_shape()) for key, part in slices.items()}, mark, tensors)


@contextmanager
def loading(path: str | os.PathLike[str]) -> Iterator[Contents]:
    """Open a checkpoint within a ``with`` block; errors within the block are changed to errors that name the file.

    Raises
    ------
    CheckpointError
        If the file cannot be opened, or in place of an error within the block.
    OutOfMemoryError
        In place of a MemoryError within the block.
    BackendError
        As it was raised within the block.
    """
    name = os.fspath(path)
    with opened(path) as file:
        try:
            yield file
        except BackendError:
            raise
        except RecursionError as error:
            raise CheckpointError(f"{name} is damaged: its description is nested too deeply") from error
        except MemoryError as error:
            raise OutOfMemoryError(f"there is not enough memory to load {name}") from error
        except Exception as error:  # a class of the user's may raise any exception
            kind = "" if isinstance(error, Im2colnetError) else f"{type(error).__name__}: "
            raise CheckpointError(f"{name}: {kind}{error}") from error


def _information(name: str, text: str) -> dict[str, Any]:
    try:
        information = json.loads(text)
        version = information["format"]
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise CheckpointError(f"{name} is damaged: its description is unreadable ({error})") from error
    if type(version) is not int or version != format_of(information):
        writer = information.get("version")
        by = f"; im2colnet {writer} has written it" if isinstance(writer, str) else ""
        raise CheckpointError(f"{name} has format {_short(version)}, this version reads {FORMAT}; update im2colnet{by}")
    found: dict[str, Any] = information
    return found


def read(path: str | os.PathLike[str]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the tensors of a checkpoint as NumPy arrays, and its description.

    Raises
    ------
    CheckpointError
        If the file is missing, damaged, or not a checkpoint of this library.
    """
    with opened(path) as file:
        return file.tensors(), file.information


def mark_of(path: str | os.PathLike[str]) -> str | None:
    """Return the checksum that identifies a checkpoint, or None if the file is not a checkpoint."""
    try:
        with opened(path) as file:
            return file.mark
    except CheckpointError:
        return None


__all__ = [
    "Contents",
    "check_shapes",
    "describe",
    "divided",
    "encode",
    "entry",
    "fill",
    "loading",
    "mark_of",
    "opened",
    "read",
    "read_callbacks",
    "read_history",
    "read_input_shape",
    "read_state",
    "read_transforms",
    "rebuild",
    "rebuild_as",
    "replace_file",
]
