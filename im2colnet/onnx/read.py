"""Reads an ONNX file as a checked model: nodes in order, constants as arrays, unique names.

A file may come from an untrusted source. Nothing in it is executed. No array is made before its size has been compared
with the file's contents and with ``max_bytes``. Other files are read only from the folder of the model, and links are
refused.
"""

from __future__ import annotations

import heapq
import mmap
import os
import stat
from collections import ChainMap
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from math import prod
from typing import Any

from im2colnet.errors import ModelError, install
from im2colnet.host import np
from im2colnet.onnx.kept import KEY
from im2colnet.text import amount, printable, quoted, shortened

#: nodes of a model, those of its functions and branches included
MOST_NODES = 100_000
#: functions and branches within each other
DEEPEST = 32
#: bytes of the names and attributes of all nodes, when functions have been replaced by their nodes
MOST_TEXT = 200_000_000
#: axes of an array of NumPy
MOST_AXES = 64
#: values of protobuf's wire format in a file: more would take minutes to look at
MOST_VALUES = 2_000_000
#: the largest number of problems that an error lists
MOST_TOLD = 10
#: the approximate number of bytes that a parsed protobuf message takes
MESSAGE = 200
#: the domains of ONNX's own operators
OWN_DOMAINS = ("", "ai.onnx")


@dataclass(frozen=True)
class OnnxNode:
    """A node of a model: an operator with its inputs, outputs and attributes.

    Attributes are Python values: int, float (the shortest decimal for ONNX's float32), str, a tuple of these, an array,
    or a :class:`Branch`.
    """

    op: str
    domain: str
    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: dict[str, Any]
    opset: int
    kept: str = ""  #: the text that this library has stored with the node, see :mod:`im2colnet.onnx.kept`

    def __str__(self) -> str:
        return f"node {quoted(self.name or self.outputs[0])} ({quoted(self.kind)[1:-1]})"

    @property
    def kind(self) -> str:
        """The operator with its domain, if that is not ONNX's own."""
        return f"{self.domain}.{self.op}" if self.domain else self.op


@dataclass(frozen=True)
class Branch:
    """A branch of an ``If``: its nodes in order, with names that are unique in the model, and its outputs."""

    nodes: tuple[OnnxNode, ...]
    outputs: tuple[str, ...]


@dataclass
class OnnxModel:
    """A checked model: only the nodes that an output needs, each after those it reads.

    ``inputs`` has the dims of each input as the file gives them: a number, a name, or None; ``()`` if it gives none.
    ``types`` has their element types, such as "float32". ``producer`` is the program that has written the file.
    """

    nodes: list[OnnxNode]
    constants: dict[str, np.ndarray]
    inputs: dict[str, tuple[int | str | None, ...]]
    outputs: tuple[str, ...]
    opset: int
    notes: list[str] = field(default_factory=list)
    name: str = ""
    types: dict[str, str] = field(default_factory=dict)
    producer: str = ""


def read(source: Any, max_bytes: int = 2 << 30) -> OnnxModel:
    """Read and check a model.

    Parameters
    ----------
    source : path, bytes or onnx.ModelProto
    max_bytes : int
        The largest size in bytes of the file, and of all its constants together.

    Raises
    ------
    ModelError
        If the model is invalid; the message lists all problems.
    """
    model, folder, label = _parsed(source, max_bytes)
    reader = _Reader(model, folder, max_bytes)
    try:
        found = reader.model()
    except ModelError as error:  # one after which there is nothing more to find
        reader.problems.append(str(error))
    if reader.problems:
        told = list(dict.fromkeys(reader.problems))
        if len(told) > MOST_TOLD:
            told[MOST_TOLD:] = [f"and {len(told) - MOST_TOLD:,} more"]
        raise ModelError(f"{label}: {'; '.join(told)}")
    found.name = label
    return found


# From bytes to protobuf ---------------------------------------------------------------------------------------------
def _parsed(source: Any, max_bytes: int) -> tuple[Any, str | None, str]:
    """Return the protobuf message, the folder for external data, and how errors call the file."""
    try:
        import onnx
        from google.protobuf.message import DecodeError
    except ImportError as error:
        raise ModelError(f"ONNX files need the package onnx: {install('onnx')}") from error
    if isinstance(source, onnx.ModelProto):
        return source, None, "the ONNX model"
    if isinstance(source, (bytes, bytearray, memoryview)):
        data, folder, label = bytes(source), None, "the ONNX model"
    elif isinstance(source, (str, os.PathLike)):
        path = os.fsdecode(source)
        label = printable(path)
        data, folder = _content(path, label, max_bytes), os.path.dirname(os.path.abspath(path))
    else:
        raise ModelError(f"an ONNX model is a path, bytes or a ModelProto; got {type(source).__name__}")
    try:
        check_memory(data, onnx.ModelProto.DESCRIPTOR, max_bytes)
        return onnx.ModelProto.FromString(data), folder, label
    except (DecodeError, ValueError) as error:
        reason = error if isinstance(error, ModelError) else "it is not an ONNX file, or it is damaged"
        raise ModelError(f"{label}: {reason}") from error


def _content(path: str, label: str, max_bytes: int) -> bytes:
    """Return the bytes of a file, of ``max_bytes`` at most."""
    try:
        with open(os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)), "rb") as file:
            found = os.fstat(file.fileno())
            if not stat.S_ISREG(found.st_mode):
                raise ModelError(f"{label} is a folder, a pipe or a device: a file is needed")
            if found.st_size > max_bytes:
                raise ModelError(f"{label}: {too_large(found.st_size, max_bytes)}")
            return file.read(found.st_size)
    except (OSError, ValueError) as error:
        if isinstance(error, ModelError):
            raise
        reason = getattr(error, "strerror", None) or error
        raise ModelError(f"cannot read {label}: {reason}") from error


def too_large(needed: int, limit: int, what: str = "it") -> str:
    """Return the message for something that needs more bytes than the limit."""
    return f"{what} would take {amount(needed, 1024)}B, the limit is {amount(limit, 1024)}B: max_bytes=... raises it"


#: protobuf's numbers of the types that are written as varints
VARINTS = {3, 4, 5, 8, 13, 14, 17, 18}


@cache
def _message_fields(descriptor: Any) -> dict[int, tuple[Any, int]]:
    """Return for each field of a message its message type, and the bytes that each byte of it takes when parsed."""
    return {f.number: (f.message_type, 8 if f.type in VARINTS else 1) for f in descriptor.fields}


def check_memory(data: bytes, descriptor: Any, max_bytes: int) -> None:
    """Raise a ModelError for a protobuf message that is damaged, or would take too much memory when it is parsed.

    A file of some megabytes may hold millions of empty messages, or numbers of one byte each. This is a walk over the
    bytes that allocates nothing.
    """
    needed, values, at, size = len(data), 0, 0, len(data)
    if not size:
        raise ModelError("the file is empty")
    damaged = ModelError("it is not an ONNX file, or it is damaged: its parts do not fit together")
    fields, end = _message_fields(descriptor), size
    outer: list[tuple[dict[int, tuple[Any, int]], int]] = []

    def varint(at: int) -> tuple[int, int]:
        value, shift = 0, 0
        while at < end and shift < 64:
            byte = data[at]
            value, shift, at = value | (byte & 127) << shift, shift + 7, at + 1
            if byte < 128:
                return value, at
        raise damaged

    while True:
        while at == end:
            if not outer:
                return
            fields, end = outer.pop()
        values += 1
        if values > MOST_VALUES:
            raise ModelError(f"it has more than {MOST_VALUES:,} values")
        tag = data[at]
        if tag < 128:
            at += 1
        else:
            tag, at = varint(at)
        number, wire = tag >> 3, tag & 7
        if wire == 0:
            _, at = varint(at)
            needed += 8
        elif wire == 1:
            at += 8
        elif wire == 5:
            at += 4
        elif wire == 2:
            length = data[at] if at < end else 128
            if length < 128:
                at += 1
            else:
                length, at = varint(at)
            message, factor = fields.get(number, (None, 1))
            if length > end - at:
                raise damaged
            if message is None:
                needed += 32 + (factor - 1) * length
                at += length
            else:
                needed += MESSAGE
                outer.append((fields, end))
                fields, end = _message_fields(message), at + length
                if len(outer) > 3 * DEEPEST:
                    raise ModelError("its parts are nested too deeply")
        else:
            raise damaged
        if at > end:
            raise damaged
        if needed > max_bytes:
            raise ModelError(too_large(needed, max_bytes, "reading it"))


# From protobuf to a model -------------------------------------------------------------------------------------------
def _text(value: Any) -> str:
    """Return a string of a file, which need not be UTF-8."""
    return value.decode("utf-8", "backslashreplace") if isinstance(value, bytes) else str(value)


class _Reader:
    """What is known while one model is read."""

    def __init__(self, proto: Any, folder: str | None, max_bytes: int) -> None:
        self.proto, self.folder, self.max_bytes = proto, folder, max_bytes
        self.problems: list[str] = []
        self.notes: list[str] = []
        self.visited = 0  #: nodes
        self.text = 0  #: bytes of names and attributes until now
        self.bytes = 0  #: of all constants until now
        self.halves = 0  #: constants that were float16 or bfloat16
        self.files: dict[str, memoryview] = {}
        self.tensors: dict[str, Any] = {}  #: initializers, by name
        self.functions: dict[tuple[str, str, str], Any] = {}
        self.calls = 0

    def model(self) -> OnnxModel:
        """Return the model; the problems with it are in ``problems``."""
        proto = self.proto
        if not proto.HasField("graph"):
            raise ModelError("it contains no graph, so it is not an ONNX model")
        opsets = self.opsets(proto)
        for function in proto.functions:
            key = (_domain(function.domain), _text(function.name), _text(function.overload))
            if key in self.functions:
                raise ModelError(f"function {quoted(key[1])} is defined twice")
            self.functions[key] = function
        graph = proto.graph
        names = self.defined(graph, ChainMap(), "")
        given = {_text(value.name): value for value in graph.input if _text(value.name) not in self.tensors}
        if len({_text(value.name) for value in graph.input}) != len(graph.input):
            self.problems.append("two inputs have the same name")
        names.maps[0].update((name, name) for name in given)
        nodes = self.nodes(graph.node, names, "", opsets, {}, 0)
        outputs = tuple(_text(value.name) for value in graph.output)
        if not outputs:
            raise ModelError("the graph has no output")
        nodes = self.ordered(nodes, outputs, {*given, *self.tensors})
        read = {name for node in nodes for name in reads(node)} | set(outputs)
        constants = {name: self.array(t, f"tensor {quoted(name)}") for name, t in self.tensors.items() if name in read}
        unread = [name for name in given if name not in read]
        if unread and len(unread) < len(given):
            self.notes.append(f"input {', '.join(map(quoted, unread))} is not needed for any output")
            given = {name: value for name, value in given.items() if name in read}
        inputs, types = {}, {}
        for name, value in given.items():
            inputs[name], types[name] = self.dims(name, value)
        if self.halves:
            self.notes.append(f"{self.halves} of its tensors are in half precision: they are read as float32")
        producer = shortened(f"{_text(proto.producer_name)} {_text(proto.producer_version)}".strip(), 60)
        return OnnxModel(nodes, constants, inputs, outputs, opsets.get("", 1), self.notes, "", types, producer)

    def opsets(self, owner: Any) -> dict[str, int]:
        """Return the version of each domain's operators that a model or a function uses."""
        found = {_domain(entry.domain): int(entry.version) for entry in owner.opset_import}
        if any(version < 0 for version in found.values()):
            raise ModelError(f"its opset is {min(found.values())}")
        return found

    def defined(self, graph: Any, names: ChainMap[str, str], prefix: str) -> ChainMap[str, str]:
        """Return the names that hold within a graph, after its initializers have been noted."""
        inner = names.new_child({})
        for tensor in graph.initializer:
            name = _text(tensor.name)
            if not name or name in inner.maps[0]:
                self.problems.append(f"two tensors are called {quoted(name)}" if name else "a tensor has no name")
            inner.maps[0][name] = prefix + name
            self.tensors[prefix + name] = tensor
        for sparse in graph.sparse_initializer:
            self.problems.append(f"tensor {quoted(_text(sparse.values.name))} is sparse: only dense ones are read")
        for node in graph.node:
            inner.maps[0].update((o, prefix + o) for o in map(_text, node.output) if o)
        return inner

    # Nodes ----------------------------------------------------------------------------------------------------------
    def nodes(
        self,
        protos: Any,
        names: ChainMap[str, str],
        prefix: str,
        opsets: dict[str, int],
        given: dict[str, Any],
        depth: int,
    ) -> list[OnnxNode]:
        """Return nodes with the names of the whole model; functions are replaced by their nodes.

        ``given`` are the attributes of the call of the function that the nodes are in.
        """
        if depth > DEEPEST:
            raise ModelError(f"functions or branches are nested more than {DEEPEST} deep")
        found: list[OnnxNode] = []
        self.visited += len(protos)
        if self.visited > MOST_NODES:
            raise ModelError(f"it has more than {MOST_NODES:,} nodes")
        for proto in protos:
            domain, op = _domain(proto.domain), _text(proto.op_type)
            inputs, outputs = (
                tuple(self.name(n, names, prefix) for n in listed) for listed in (proto.input, proto.output)
            )
            if not any(outputs):
                continue  # nothing can need it
            name = prefix + _text(proto.name) if proto.name else ""
            self.take(64 + len(name) + len(op))
            where = f"node {quoted(name or next(filter(None, outputs)))} ({quoted(op)[1:-1]})"
            attributes = self.attributes(proto, where, names, prefix, opsets, given, depth)
            function = self.functions.get((domain, op, _text(proto.overload)))
            if function is not None:
                found += self.inlined(function, inputs, outputs, attributes, depth)
                continue
            opset = opsets.get(domain, 1 if not domain else 0)
            kept = next((_text(entry.value) for entry in proto.metadata_props if entry.key == KEY), "")
            self.take(len(kept))
            found.append(OnnxNode(op, domain, name, inputs, outputs, attributes, opset, kept))
        return found

    def name(self, name: Any, names: ChainMap[str, str], prefix: str) -> str:
        """Return what a name of a function or a branch is called in the whole model."""
        found = _text(name)
        if found:
            found = names[found] if found in names else prefix + found
        self.take(64 + len(found))
        return found

    def take(self, size: int) -> None:
        """Count the memory for names and attributes: a small function may be called a thousand times."""
        self.text += size
        if self.text > MOST_TEXT:
            raise ModelError(f"its names and attributes take more than {amount(MOST_TEXT, 1024)}B")

    def inlined(
        self, function: Any, inputs: tuple[str, ...], outputs: tuple[str, ...], attributes: dict[str, Any], depth: int
    ) -> list[OnnxNode]:
        """Return the nodes of a function for this call."""
        self.calls += 1
        name, prefix = quoted(_text(function.name)), f"{_text(function.name)}.{self.calls}/"
        formal_inputs, formal_outputs = ([*map(_text, listed)] for listed in (function.input, function.output))
        self.take(64 * (len(formal_inputs) + len(formal_outputs)))
        if len(inputs) > len(formal_inputs) or len(outputs) > len(formal_outputs):
            raise ModelError(f"function {name} is called with more inputs or outputs than it has")
        names = {o: prefix + o for node in function.node for o in map(_text, node.output) if o}
        made = set(names)
        passed = dict(zip(formal_inputs, (*inputs, *[""] * len(formal_inputs)), strict=False))
        if made & set(passed):
            raise ModelError(f"function {name} gives a new value to one of its inputs")
        names |= passed
        through = []
        for formal, actual in zip(formal_outputs, outputs, strict=False):
            if actual and formal in made and names[formal] not in outputs:
                names[formal] = actual
            elif actual:  # an input, or what is returned twice
                through.append((names.get(formal, prefix + formal), actual))
        for default in function.attribute_proto:
            attributes.setdefault(_text(default.name), self.value(default, f"function {name}", None))
        opsets = self.opsets(function)
        nodes = self.nodes(function.node, ChainMap(names), prefix, opsets, attributes, depth + 1)
        return nodes + [OnnxNode("Identity", "", "", (one,), (other,), {}, opsets.get("", 1)) for one, other in through]

    def attributes(
        self,
        proto: Any,
        where: str,
        names: ChainMap[str, str],
        prefix: str,
        opsets: dict[str, int],
        given: dict[str, Any],
        depth: int,
    ) -> dict[str, Any]:
        """Return the attributes of a node as Python values."""
        found: dict[str, Any] = {}
        for attribute in proto.attribute:
            name = _text(attribute.name)
            if name in found:
                raise ModelError(f"{where} has the attribute {quoted(name)} twice")
            if attribute.ref_attr_name:
                reference = _text(attribute.ref_attr_name)
                if reference in given:
                    found[name] = given[reference]
            elif attribute.HasField("g") and proto.op_type == "If" and not proto.domain:
                inner = f"{prefix}{name}.{self.calls}/"
                self.calls += 1
                graph = attribute.g
                scope = self.defined(graph, names, inner)
                nodes = self.nodes(graph.node, scope, inner, opsets, given, depth + 1)
                outputs = tuple(scope.get(o, inner + o) for o in (_text(value.name) for value in graph.output))
                local = {inner + _text(tensor.name) for tensor in graph.initializer}
                outside = {n for node in nodes for n in reads(node)} | set(outputs)
                outside -= {n for node in nodes for n in node.outputs}
                nodes = self.ordered(nodes, outputs, outside | local)
                found[name] = Branch(tuple(nodes), outputs)
            else:
                found[name] = self.value(attribute, where, name)
        return found

    def value(self, attribute: Any, where: str, name: str | None) -> Any:
        """Return the value of an attribute."""
        kind = attribute.type or _kind(attribute)
        single, several = KINDS.get(kind, (None, None))
        self.take(64 + len(attribute.s))
        what = f"attribute {quoted(name or _text(attribute.name))} of {where}"
        if single == "t":
            return self.array(attribute.t, what)
        if single is not None:
            return PYTHON[single](getattr(attribute, single))
        if several is not None:
            values = getattr(attribute, several)
            self.take(40 * len(values) + (sum(map(len, values)) if several == "strings" else 0))
            return tuple(map(PYTHON[several[:-1]], values))
        return None  # graphs and types: no operator that is known has them

    def ordered(self, nodes: list[OnnxNode], outputs: Sequence[str], known: set[str]) -> list[OnnxNode]:
        """Return the nodes that the outputs need, each after those that it reads, else in the order of the file."""
        maker: dict[str, int] = {}
        for i, node in enumerate(nodes):
            for name in filter(None, node.outputs):
                if name in maker or name in known:
                    raise ModelError(f"two values are called {quoted(name)}, the second is made by {node}")
                maker[name] = i
        needed: set[int] = set()
        missing: set[str] = set()
        left = list(outputs)
        waits: dict[int, set[int]] = {}
        while left:
            name = left.pop()
            if name not in maker:
                if name not in known and name not in missing:
                    self.problems.append(f"no node computes the value {quoted(name)}, which a node or an output needs")
                    missing.add(name)
            elif (i := maker[name]) not in needed:
                needed.add(i)
                read = list(dict.fromkeys(reads(nodes[i])))
                waits[i] = {maker[n] for n in read if n in maker}
                left += read
        readers: dict[int, list[int]] = {i: [] for i in needed}
        for i, before in waits.items():
            for j in before:
                readers[j].append(i)
        ready = [i for i in needed if not waits[i]]
        heapq.heapify(ready)
        order = []
        while ready:
            i = heapq.heappop(ready)
            order.append(nodes[i])
            for j in readers[i]:
                waits[j].discard(i)
                if not waits[j]:
                    heapq.heappush(ready, j)
        if len(order) < len(needed):
            stuck = nodes[min(i for i in needed if waits[i])]
            raise ModelError(f"its nodes form a cycle: {stuck} is in the cycle or depends on it")
        return order

    # Tensors --------------------------------------------------------------------------------------------------------
    def array(self, tensor: Any, what: str) -> np.ndarray:
        """Return a tensor as an array, after its size is checked against the file; a problem is noted."""
        try:
            return self._array(tensor, what)
        except _Problem as problem:
            self.problems.append(f"{what} {problem}")
            return np.zeros(0, "float32")

    def _array(self, tensor: Any, what: str) -> np.ndarray:
        kind = int(tensor.data_type)
        if kind not in TYPES:
            raise _Problem(f"has elements of the type {_type_name(kind)}, which im2colnet does not read")
        stored, result, where = TYPES[kind]
        dims = [int(d) for d in tensor.dims]
        if len(dims) > MOST_AXES:
            raise _Problem(f"has {len(dims):,} axes, {MOST_AXES} at most are read")
        if any(d < 0 for d in dims):
            raise _Problem(f"has a negative size: {_cut(dims)}")
        if tensor.HasField("segment"):
            raise _Problem("is a segment of a tensor")
        size = np.dtype(stored).itemsize
        needed = prod(dims) * size
        if prod(max(d, 1) for d in dims) * max(size, np.dtype(result).itemsize) > self.max_bytes:
            raise _Problem(f"of shape {_cut(dims)}: {too_large(prod(dims) * size, self.max_bytes)}")
        self.bytes += prod(dims) * np.dtype(result).itemsize
        if self.bytes > self.max_bytes:
            raise ModelError(too_large(self.bytes, self.max_bytes, "its tensors"))
        if tensor.data_location == tensor.EXTERNAL:
            data: Any = self.outside(tensor, needed)
            array = np.frombuffer(data, stored, prod(dims)) if needed else np.zeros(0, stored)
        elif tensor.HasField("raw_data"):
            data = tensor.raw_data
            if len(data) != needed:
                raise _Problem(f"of shape {_cut(dims)} should hold {needed:,} bytes, it holds {len(data):,}")
            array = np.frombuffer(data, stored)
        else:
            values = getattr(tensor, where)
            if len(values) != prod(dims):
                raise _Problem(f"of shape {_cut(dims)} should hold {prod(dims):,} numbers, it holds {len(values):,}")
            wide = {"int32_data": "int32", "int64_data": "int64", "uint64_data": "uint64"}.get(where, stored)
            array = np.fromiter(values, wide, len(values))
            array = array.astype("<u2").view("<f2") if kind == FLOAT16 else array.astype(stored, copy=False)
        if kind == BFLOAT16:
            array = (array.astype("uint32") << 16).view("float32")
        self.halves += kind in (FLOAT16, BFLOAT16)
        if kind == BOOL:
            array = array != 0
        return array.astype(result, copy=False).reshape(dims)

    def outside(self, tensor: Any, needed: int) -> memoryview:
        """Return the bytes of a tensor that are kept in another file, which lies beside the model."""
        if self.folder is None:
            raise _Problem(
                "is stored in another file: give the path of the model, so that the file beside it can be found"
            )
        entries = {_text(entry.key): _text(entry.value) for entry in tensor.external_data}
        location = entries.get("location", "")
        name = location[2:] if location.startswith("./") else location
        if not name or name in (".", "..") or any(c in name for c in "/\\:\0"):
            raise _Problem(f"is kept outside of the file, at {quoted(location)}: only files beside the model are read")
        if name not in self.files:
            self.files[name] = _mapped(os.path.join(self.folder, name), quoted(name))
        data = self.files[name]
        offset, length = (_count(entries.get(key, ""), default) for key, default in (("offset", 0), ("length", needed)))
        if length != needed:
            raise _Problem(f"should hold {needed:,} bytes, but the model says that {quoted(name)} has {length:,}")
        if offset + length > len(data):
            raise _Problem(f"would end at byte {offset + length:,} of {quoted(name)}, which has {len(data):,}")
        return data[offset : offset + length]

    def dims(self, name: str, value: Any) -> tuple[tuple[int | str | None, ...], str]:
        """Return the dims of an input, and its element type."""
        if not value.type.HasField("tensor_type"):
            self.problems.append(f"input {quoted(name)} is not a tensor")
            return (), ""
        tensor = value.type.tensor_type
        if len(tensor.shape.dim) > MOST_AXES:
            self.problems.append(f"input {quoted(name)} has {len(tensor.shape.dim):,} axes")
            return (), ""
        dims: list[int | str | None] = []
        for dim in tensor.shape.dim:
            known = dim.dim_value if dim.HasField("dim_value") and dim.dim_value > 0 else None
            dims.append(known if known is not None else _text(dim.dim_param) or None)
        kind = int(tensor.elem_type)
        return tuple(dims), TYPES[kind][1] if kind in TYPES else _type_name(kind)


class _Problem(Exception):
    """Something is wrong with a tensor."""


#: elements of a tensor by ONNX's number of their type: as stored, as they are read, and the field for single numbers
TYPES = {
    1: ("<f4", "float32", "float_data"),
    2: ("<u1", "uint8", "int32_data"),
    3: ("<i1", "int8", "int32_data"),
    4: ("<u2", "uint16", "int32_data"),
    5: ("<i2", "int16", "int32_data"),
    6: ("<i4", "int32", "int32_data"),
    7: ("<i8", "int64", "int64_data"),
    9: ("<u1", "bool", "int32_data"),
    10: ("<f2", "float32", "int32_data"),
    11: ("<f8", "float64", "double_data"),
    12: ("<u4", "uint32", "uint64_data"),
    13: ("<u8", "uint64", "uint64_data"),
    16: ("<u2", "float32", "int32_data"),
}
BOOL, FLOAT16, BFLOAT16 = 9, 10, 16
#: attributes by ONNX's number of their type: the field of a single value, or that of several
KINDS: dict[int, tuple[str | None, str | None]] = {
    1: ("f", None),
    2: ("i", None),
    3: ("s", None),
    4: ("t", None),
    6: (None, "floats"),
    7: (None, "ints"),
    8: (None, "strings"),
}


def _shortest(value: float) -> float:
    """Return the shortest decimal that is this float32: 1e-05 and not 9.99999974e-06."""
    return float(str(np.float32(value)))


PYTHON: dict[str, Any] = {"f": _shortest, "i": int, "s": _text, "float": _shortest, "int": int, "string": _text}


def _kind(attribute: Any) -> int:
    """Return the type of an attribute that does not say it, as in files of before 2017."""
    for kind, (single, several) in KINDS.items():
        if attribute.HasField(single) if single else len(getattr(attribute, several or "")):
            return kind
    return 0


def _domain(name: Any) -> str:
    found = _text(name)
    return "" if found in OWN_DOMAINS else found


def reads(node: OnnxNode) -> Iterator[str]:
    """Yield the names that a node reads; an ``If`` also reads what its branches read and do not make."""
    yield from filter(None, node.inputs)
    for value in node.attributes.values():
        if isinstance(value, Branch):
            made = {name for inner in value.nodes for name in inner.outputs}
            for inner in value.nodes:
                yield from (name for name in reads(inner) if name not in made)
            yield from (name for name in value.outputs if name not in made)


def _type_name(kind: int) -> str:
    import onnx

    with suppress(ValueError):
        return str(onnx.TensorProto.DataType.Name(kind))
    return str(kind)


def _count(text: str, default: int) -> int:
    """Return an offset or a length of external data, which files have as text."""
    if not text:
        return default
    if not (text.isascii() and text.isdecimal()) or len(text) > 18:
        raise _Problem(f"has external data with {quoted(text)} where a number of bytes is expected")
    return int(text)


def _mapped(path: str, label: str) -> memoryview:
    """Return the content of a file, but not of a link, mapped into memory, so that only the parts in use are read."""
    try:
        if os.path.islink(path):  # said here too, since not every system has O_NOFOLLOW
            raise OSError("it is a link")
        flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
        file = os.open(path, flags)
        try:
            found = os.fstat(file)
            if not stat.S_ISREG(found.st_mode):
                raise OSError("it is not a regular file")
            if found.st_nlink > 1:
                raise OSError("it has another name elsewhere, a hard link")
            return memoryview(mmap.mmap(file, 0, access=mmap.ACCESS_READ) if found.st_size else b"")
        finally:
            os.close(file)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        how = ": copy the files by cp -L" if "link" in str(reason) else ""
        raise _Problem(f"is kept in {label}, which cannot be read: {reason}{how}") from error


def _cut(dims: Sequence[int]) -> str:
    return f"({', '.join(map(str, dims[:8]))}{', ...' if len(dims) > 8 else ''})"
