"""Translation of a model to layers: a walk over its nodes; a function of `importers` reads each node."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

from im2colnet import layers
from im2colnet.errors import Im2colnetError, ModelError
from im2colnet.host import np
from im2colnet.layers import Layer, Permute, Reshape
from im2colnet.network.draft import INPUT, Draft
from im2colnet.onnx.fold import BATCH, Batch, Unfoldable, fold, foldable, sliced_shape
from im2colnet.onnx.kept import KINDS, fitting, restored
from im2colnet.onnx.read import OnnxModel, OnnxNode
from im2colnet.text import printable, quoted, shape_text, shortened

#: the newest version of ONNX's operators that has been compared with what is here
NEWEST = 28
#: the oldest
OLDEST = 6
#: nodes of one value, and constants, that leave its axes where they are
KEEPS_AXES = {"Add", "Cast", "Clip", "Div", "Dropout", "Identity", "Mul", "Pad", "Pow", "Relu", "Sub"}
#: nodes of images whose channels are first
OF_IMAGES = {"AveragePool", "BatchNormalization", "Conv", "ConvTranspose", "GlobalAveragePool", "MaxPool"}
#: the end of a parameter's name in the frameworks that export
PARAMETER = re.compile(r"(.+)\.(weight|bias|running_mean|running_var)")


class Refused(Exception):
    """A node cannot be read; the message says why, as a sentence without a subject's name."""


@dataclass(frozen=True)
class Importer:
    """How nodes of one operator are read."""

    operator: str
    opsets: tuple[int, int]  #: the first and the last version of the operator that it reads
    layer: str  #: the layers that it becomes
    limits: str
    read: Callable[[OnnxNode, Translation], Any]


#: operator -> how it is read; filled by the modules of :mod:`im2colnet.onnx.importers`
IMPORTERS: dict[str, Importer] = {}


def importer(
    operator: str, opsets: tuple[int, int], layer: str, limits: str = ""
) -> Callable[[Callable[[OnnxNode, Translation], Any]], Callable[[OnnxNode, Translation], Any]]:
    """Register a function that reads the nodes of an operator: it adds layers, or raises :class:`Refused`.

    Parameters
    ----------
    operator : str
    opsets : (int, int)
        The first version of ONNX's operators for which it holds, and the last one that changed the operator.
    layer : str
        The layer that the operator becomes, for the table.
    limits : str
        The limits of the support, for the table.
    """

    def register(read: Callable[[OnnxNode, Translation], Any]) -> Callable[[OnnxNode, Translation], Any]:
        IMPORTERS[operator] = Importer(operator, opsets, layer, limits, read)
        return read

    return register


class Translation:
    """The walk over a model's nodes, and what it has found.

    Parameters
    ----------
    model : OnnxModel
    input_shape : sequence of int, optional
        The shape (C, H, W) of an image, if the file does not give it.
    max_bytes : int
        The largest size of a constant that is computed from other constants.

    Attributes
    ----------
    draft : Draft
        The layers so far.
    constants : dict of str to array
        Tensors that do not depend on the network's input, by name. Arrays of objects contain the batch size.
    problems : list of (OnnxNode, str)
        The nodes that cannot be read, and why; "" if the operator is unsupported.
    notes : list of str
        Differences between the network and the file.
    """

    def __init__(self, model: OnnxModel, input_shape: Sequence[int] | None = None, max_bytes: int = 2 << 30) -> None:
        self.model, self.max_bytes, self.notes = model, max_bytes, [*model.notes]
        self.constants = dict(model.constants)
        self._room = max_bytes - sum(array.nbytes for array in self.constants.values())  # for other constants
        self.problems: list[tuple[OnnxNode, str]] = []
        self._read = {name for node in model.nodes for name in node.inputs} | {*model.outputs}
        self._values: dict[str, str] = {}  # tensor -> the layer that makes it
        self._single: set[str] = set()  # tensors whose samples are one number, without an axis: here with one
        self._unknown: set[str] = set()  # tensors that depend on a node that cannot be read
        self._origin = {name: name for name in self.constants}  # of a constant the initializer that it is made of
        self._users: dict[str, list[str]] = {}  # initializer -> the layers whose parameter it is
        self.draft = self._begin(input_shape)

    # ------------------------------------------------------------------ the input

    def _begin(self, given: Sequence[int] | None) -> Draft:
        """Return the draft with its input, whose channels are first."""
        if len(self.model.inputs) != 1:
            names = ", ".join(f"{quoted(name)}" for name in self.model.inputs)
            raise ModelError(
                f"{self.model.name} has {len(self.model.inputs)} inputs ({names}): a network has one input"
                if self.model.inputs
                else f"{self.model.name} has no input: a network has one input, the images"
            )
        ((name, dims),) = self.model.inputs.items()
        #: the batch size that the file was made for, where it is a number
        self.file_batch = dims[0] if dims and isinstance(dims[0], int) else None
        if self.model.types.get(name, "").startswith(("uint", "int", "bool")):
            self.notes.append(
                f"input {quoted(name)} is {self.model.types[name]}: give numbers of that range, as floating-point"
                " images, since images of uint8 are scaled to [0, 1]"
            )
        last = self._channels_last(name, len(dims))
        sample = (dims[-1], *dims[1:-1]) if last else dims[1:]
        draft = Draft(self._sample_shape(name, sample, given))
        try:
            self.check_room(draft.input_shape)
        except Refused as error:
            raise ModelError(f"input {quoted(name)}: {error}") from error
        self._values[name] = INPUT
        if last:
            n = len(sample)
            self._values[name] = draft.add("channels_last", Permute((0, *range(2, n + 1), 1)), [INPUT])
            self.notes.append(
                "the file takes images with the channels last: the network takes the channels first, (N, C, H, W)"
            )
        return draft

    def _sample_shape(self, name: str, dims: Sequence[Any], given: Sequence[int] | None) -> tuple[int, ...]:
        wanted = "(" + ", ".join(["N", *(str(n) if isinstance(n, int) else "?" for n in dims)]) + ")"
        if not dims and (given is None or not len(given)):
            raise ModelError(f"input {quoted(name)} is {wanted}, expected images (N, C, H, W) or features (N, F)")
        if given is None:
            if not all(isinstance(n, int) and n > 0 for n in dims):
                names = {2: ["channels", "length"], 3: ["channels", "height", "width"]}.get(len(dims), [])
                names = [str(n) if isinstance(n, int) else what for n, what in zip(dims, names, strict=False)]
                example = f"({', '.join(names)})" if names else "..."
                raise ModelError(
                    f"input {quoted(name)} is {wanted}: give input_shape={example}, since shapes are fixed"
                )
            return tuple(dims)
        shape = tuple(given)
        fits = not dims or (
            len(shape) == len(dims) and all(not isinstance(n, int) or n == m for n, m in zip(dims, shape, strict=True))
        )
        if not fits or not all(isinstance(n, int) and n > 0 for n in shape):
            raise ModelError(f"input {quoted(name)} is {wanted}, which input_shape={shape} does not fit")
        return shape

    def _channels_last(self, name: str, axes: int) -> bool:
        """Whether what reads the input brings its channels from the last place to the first one."""
        perm = {4: (0, 3, 1, 2), 3: (0, 2, 1)}.get(axes)
        readers: dict[str, list[OnnxNode]] = {}
        for node in self.model.nodes:
            for read in node.inputs:
                readers.setdefault(read, []).append(node)
        found, names, seen = False, [name], {name}
        while names:
            for node in readers.get(names.pop(), []):
                if node.op == "Transpose" and node.attributes.get("perm") == perm:
                    then = [after.op for after in readers.get(node.outputs[0], [])]
                    found |= axes == 4 or any(op in OF_IMAGES for op in then)
                elif node.op in KEEPS_AXES and node.outputs[0] not in seen:
                    seen.add(node.outputs[0])
                    names.append(node.outputs[0])
                elif node.op in OF_IMAGES:
                    return False
        return found

    # ------------------------------------------------------------------ what importers ask

    def shape(self, name: str) -> tuple[Any, ...]:
        """Return the shape of a value of the network as users see it; BATCH is first."""
        return (BATCH,) if name in self._single else (BATCH, *self.draft.shape(self._value(name)))

    def _value(self, name: str) -> str:
        """Return the layer that makes a tensor."""
        if name not in self._values:
            raise Refused(f"{quoted(name)} must be a value of the network, not a constant")
        return self._values[name]

    def constant(self, name: str) -> Any:
        """Return the array of a tensor that does not depend on the network's input, else None."""
        return self.constants.get(name)

    def known(self, node: OnnxNode, place: int, what: str) -> Any:
        """Return an input of a node that must be a constant, or None where it is left out."""
        name = node.inputs[place] if place < len(node.inputs) else ""
        if not name:
            return None
        if name not in self.constants:
            raise Refused(f"its {what} is computed by the network, and must be a constant")
        return self.constants[name]

    def numbers(self, node: OnnxNode, place: int, attribute: str, what: str = "") -> list[Any] | None:
        """Return integers that are an attribute in old files and an input in new files; None if there are none.

        One of them may be the batch size.
        """
        if attribute in node.attributes:
            return [*node.attributes[attribute]]
        found = self.known(node, place, what or attribute)
        if found is None:
            return None
        return [n if isinstance(n, Batch) else _integer(n) for n in np.asarray(found).ravel().tolist()]

    def is_read(self, name: str) -> bool:
        """Whether a node reads a tensor, or it is an output."""
        return bool(name) and name in self._read

    def only_first_output(self, node: OnnxNode) -> None:
        """Refuse a node if any output other than the first is read."""
        if any(map(self.is_read, node.outputs[1:])):
            raise Refused("only its first output is supported")

    def note(self, node: OnnxNode, what: str) -> None:
        """Note a difference between a node and the layers for it."""
        self.notes.append(f"{node} {what}")

    def check_room(self, shape: Sequence[int]) -> None:
        """Refuse an array, or a sample of a value, that is larger than the limit, before one is made."""
        if 4 * prod(max(1, n) for n in shape) > self.max_bytes:
            raise Refused(f"it makes arrays of {shape_text(shape)}: max_bytes=... raises the limit")

    # ------------------------------------------------------------------ what importers do

    def apply(self, node: OnnxNode, layer: Layer, *inputs: str, weights: Mapping[str, Any] | None = None) -> str:
        """Add a layer that reads these tensors, and return a name for the tensor that it makes."""
        layer, weights = self._as_it_was(node, layer, dict(weights or {}))
        name, own = self._layer_name(node, weights)
        made = self.draft.add(name, layer, [self._value(n) for n in inputs], weights, own)
        self.check_room(self.draft.shape(made))
        if own:
            self._note_use(node, made)
        tensor = f"\0{made}"  # no name of the file
        self._values[tensor] = made
        if self._single.issuperset(inputs):
            self._single.add(tensor)
        return tensor

    def _as_it_was(self, node: OnnxNode, layer: Layer, weights: dict[str, Any]) -> tuple[Layer, dict[str, Any]]:
        """Return the layer that a node was when this library wrote it, with its weights; by default the one given."""
        kinds: tuple[type[Layer], ...] = (layers.Dropout, *KINDS.get(node.op, ()))
        found = restored(node.kept, node.op) if node.kept and isinstance(layer, kinds) else None
        its_own = None if found is None else fitting(found, weights)
        return (layer, weights) if found is None or its_own is None else (found, its_own)

    def add(
        self,
        node: OnnxNode,
        layer: Layer,
        *inputs: str,
        weights: Mapping[str, Any] | None = None,
        output: int = 0,
    ) -> None:
        """Add a layer that reads these tensors and makes an output of the node, by default the first."""
        self.same(node, self.apply(node, layer, *inputs, weights=weights), output)

    def chain(self, node: OnnxNode, tensor: str, *steps: Layer | tuple[Layer, Mapping[str, Any]]) -> None:
        """Add layers one after the other, with their weights where they have some: the last makes the node's output."""
        self.same(node, self.after(node, tensor, *steps))

    def after(self, node: OnnxNode, tensor: str, *steps: Layer | tuple[Layer, Mapping[str, Any]]) -> str:
        """Add layers one after the other, and return a name for the tensor that the last one makes."""
        for step in steps:
            layer, weights = step if isinstance(step, tuple) else (step, {})
            tensor = self.apply(node, layer, tensor, weights=weights)
        return tensor

    def same(self, node: OnnxNode, tensor: str, output: int = 0) -> None:
        """Let an output of the node be another tensor: the node does nothing itself."""
        name = node.outputs[output]
        if tensor in self._values:
            self._values[name] = self._values[tensor]
            self._single |= {name} if tensor in self._single else set()
        else:
            self.constants[name] = self.constants[tensor]

    def reshape(self, node: OnnxNode, tensor: str, sample: Sequence[int]) -> str:
        """Give the samples another shape, and return a name for what that makes."""
        if tuple(sample) == self.shape(tensor)[1:]:
            return tensor
        layer = layers.Flatten() if len(sample) < 2 else Reshape(tuple(sample))
        made = self.apply(node, layer, tensor)
        (self._single.discard if sample else self._single.add)(made)
        return made

    def _layer_name(self, node: OnnxNode, weights: Mapping[str, Any]) -> tuple[str, bool]:
        """Return the name of a layer, and whether it is that of its weights, such as "fc" for "fc.weight"."""
        for name in node.inputs if weights else ():
            for tensor in (name, self._origin.get(name, "")):
                if name in self.constants and (found := PARAMETER.fullmatch(tensor)):
                    return found[1], True
        return node.name or str(len(self.draft.entries)), False

    def _note_use(self, node: OnnxNode, made: str) -> None:
        """Note which layers have a parameter: each of several has its own copy."""
        for name in filter(PARAMETER.fullmatch, node.inputs):
            self._users.setdefault(name, []).append(made)

    def _shared(self) -> list[str]:
        """Return a note on parameters that several layers have."""
        several = {k: layers for k, layers in self._users.items() if len(layers) > 1 and k in self.model.constants}
        for name, layers_of in several.items():
            these = ", ".join(map(quoted, layers_of[:4]))
            return [
                f"{len(several)} parameters are shared by several layers, such as {quoted(name)} by {these}: here every"
                " layer has its own copy, and training changes each copy separately"
            ]
        return []

    # ------------------------------------------------------------------ the walk

    def visit(self, node: OnnxNode) -> None:
        """Add the layers of a node, or compute its outputs if they are constants, or note why neither can be."""
        try:
            with np.errstate(all="ignore"):
                self._visit(node)
        except (Refused, Unfoldable, Im2colnetError) as error:
            self.problems.append((node, str(error)))
        except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
            what = f"no {error}" if isinstance(error, KeyError) else f"{type(error).__name__}: {error}"
            what = printable(shortened(what, 200))  # of a file that is damaged, or means harm
            self.problems.append((node, f"its inputs or attributes do not fit its operator ({what})"))
        lacking = {name for name in node.outputs if name not in self._values and name not in self.constants}
        told = self.problems and self.problems[-1][0] is node
        if not told and not self._unknown.intersection(node.inputs) and any(map(self.is_read, lacking)):
            self.problems.append((node, "it has more outputs than its operator"))
        self._unknown |= lacking

    def _visit(self, node: OnnxNode) -> None:
        names = [name for name in node.inputs if name]
        if not node.domain and node.op == "Shape" and names[0] in self._values:
            self.constants[node.outputs[0]] = sliced_shape(node, self.shape(names[0]))
        elif node.op == "If" and names[0] in self.constants:
            self._take_branch(node, self.constants[names[0]])
        elif foldable(node) and all(name in self.constants for name in names):
            made = fold(node, [self.constants.get(name) for name in node.inputs], self._room)
            self._room -= sum(array.nbytes for array in made)
            self.constants.update(zip(node.outputs, made, strict=False))
            origins = [self._origin[name] for name in names if name in self._origin]
            if len(origins) == 1:
                self._origin[node.outputs[0]] = origins[0]
        elif node.domain or node.op not in IMPORTERS:
            if not (foldable(node) and self._unknown.intersection(names)):
                self.problems.append((node, ""))
        elif not self._unknown.intersection(names):
            if not any(name in self._values for name in names):
                raise Refused("it reads nothing that depends on the network's input")
            row = IMPORTERS[node.op]
            if node.opset < row.opsets[0]:
                raise Refused(f"its opset is {node.opset}: the operator is supported from opset {row.opsets[0]} on")
            row.read(node, self)

    def _take_branch(self, node: OnnxNode, condition: Any) -> None:
        """Visit the nodes of one way of an ``If``, whose condition is known."""
        branch = node.attributes["then_branch" if np.asarray(condition).item() else "else_branch"]
        for inner in branch.nodes:
            self.visit(inner)
        for name, inside in zip(node.outputs, branch.outputs, strict=True):
            if inside in self._values or inside in self.constants:
                self.same(node, inside, node.outputs.index(name))

    def finish(self) -> None:
        """Set the outputs, after the last node."""
        for name in self.model.outputs:
            if name in self._unknown:
                continue
            if name not in self._values:
                raise ModelError(f"output {quoted(name)} does not depend on the input of {self.model.name}")
            if name in self._single:
                raise ModelError(f"output {quoted(name)} is one number of each sample, without an axis: (N)")
            made = self._values[name]
            if made == INPUT or made in self.draft.outputs:  # each output is a layer of its own
                made = self.draft.add(name, Reshape(self.draft.shape(made)), [made])
            self.draft.outputs.append(made)
        self.draft.prune()
        self.notes += self._shared()

    def check(self) -> None:
        """Raise a ModelError that names all nodes that cannot be read, and why."""
        if self.problems:
            raise ModelError("\n".join(self.complaints()))

    def complaints(self) -> list[str]:
        """Return a line for the unsupported operators, and a line for each other node that cannot be read."""
        found: list[str] = []
        lacking: dict[str, list[OnnxNode]] = {}
        for node, reason in self.problems:
            if reason:
                found.append(reason if reason.startswith(str(node)) else f"{node}: {reason}")
            else:
                lacking.setdefault(node.kind, []).append(node)
        return [lacking_text(self.model.name, lacking), *found] if lacking else found


def lacking_text(model: str, lacking: Mapping[str, Sequence[OnnxNode]]) -> str:
    """Return the message for unsupported operators, with their nodes."""
    each = ", ".join(f"{quoted(operator, 80)[1:-1]} ({_listed(nodes)})" for operator, nodes in lacking.items())
    plural = f"{len(lacking)} operators" if len(lacking) > 1 else "an operator"
    quantised = [name for name in lacking if "Quantize" in name or "Integer" in name or "QLinear" in name]
    hint = (
        "; quantized networks are not supported: export the network in float32"
        if quantised
        else "; im2colnet onnx --operators lists the supported operators"
    )
    return f"{model} has {plural} that im2colnet lacks: {each}{hint}"


def translate(model: OnnxModel, input_shape: Sequence[int] | None = None, max_bytes: int = 2 << 30) -> Translation:
    """Walk over a model's nodes; nodes that cannot be read are in the ``problems`` of the result.

    Raises
    ------
    ModelError
        If the model does not have exactly one input, or its shape is not known.
    """
    if model.opset < OLDEST:
        raise ModelError(
            f"{model.name} has opset {model.opset}, and the oldest supported opset is {OLDEST}: convert it by"
            " onnx.version_converter.convert_version(model, 22)"
        )
    found = Translation(model, input_shape, max_bytes)
    if model.opset > NEWEST:
        found.notes.append(
            f"opset {model.opset} is newer than the newest one that im2colnet knows ({NEWEST}): it is still read"
        )
    for node in model.nodes:
        found.visit(node)
    found.finish()
    return found


def _integer(n: Any) -> int:
    if n != int(n):
        raise Refused(f"{n} should be an integer")
    return int(n)


def _listed(nodes: Sequence[OnnxNode]) -> str:
    """Return where an operator is: its node, or how many there are."""
    first = quoted(nodes[0].name or nodes[0].outputs[0])
    if len(nodes) > 1:
        return f"{len(nodes)} nodes, the first {first}"
    reads = next((name for name in nodes[0].inputs if name), "")
    return f"node {first}" + (f", reads {quoted(reads)}" if reads else "")
