"""Inspection of an ONNX file: its operators, the unsupported operators, and the cost of the network."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from im2colnet.checks import whole
from im2colnet.errors import Im2colnetError, ModelError
from im2colnet.layers import LogSoftmax, Sigmoid
from im2colnet.network import Net
from im2colnet.network.draft import Draft
from im2colnet.onnx.fold import foldable
from im2colnet.onnx.read import Branch, OnnxModel, OnnxNode, read
from im2colnet.onnx.simplify import simplify
from im2colnet.onnx.translate import IMPORTERS, lacking_text, translate
from im2colnet.text import quoted
from im2colnet.types import ITEM_BYTES

#: convolutions from which on it is odd that a network has no batch norm
MANY = 10


def inspect(
    source: Any, input_shape: Sequence[int] | None = None, *, batch_size: int = 1, max_bytes: int = 2 << 30
) -> dict[str, Any]:
    """Inspect an ONNX file without making a network.

    Parameters
    ----------
    source : path, bytes or onnx.ModelProto
        The file, its content, or the model as the package onnx has read it.
    input_shape : (C, H, W), (C, L) or (features,), optional
        The shape of a sample, if the file does not give it.
    batch_size : int
        The batch size for which the memory is computed.
    max_bytes : int
        The largest size in bytes of the file, and of all its constants together.

    Returns
    -------
    dict
        ``operators``: a row for each operator, with the number of its nodes and the layers that it becomes, or whether
        it is unsupported. ``missing``: everything that :func:`load` would refuse, as lines of text; empty if the file
        can be loaded. ``problems``: the same for programs, as operator, node and reason. If the file can be loaded,
        also ``parameters``, ``flops`` (for a sample), and ``memory`` in bytes for a batch, in inference and in
        training, without the optimizer's state.

    Raises
    ------
    ModelError
        If the file cannot be read.

    Examples
    --------
    >>> ic.onnx.save(ic.models.lenet5().init(seed=0), "lenet5.onnx")
    >>> facts = ic.onnx.inspect("lenet5.onnx")
    >>> facts["missing"], facts["parameters"], facts["outputs"][0]["shape"]
    ([], 61706, ['N', 10])
    """
    batch_size = whole("batch_size", batch_size)
    model = read(source, max_bytes)
    facts: dict[str, Any] = {
        "model": model.name,
        "producer": model.producer,
        "opset": model.opset,
        "bytes": sum(array.nbytes for array in model.constants.values()),
        "inputs": [
            {"name": name, "shape": list(dims), "type": model.types[name]} for name, dims in model.inputs.items()
        ],
        "outputs": [{"name": name, "shape": None} for name in model.outputs],
    }
    try:
        found = translate(model, input_shape, max_bytes)
        problems, missing, notes = found.problems, found.complaints(), found.notes
    except ModelError as error:  # its input is not known, so that only operators can be looked at
        found, notes = None, model.notes
        problems = [(node, "") for node in every_node(model.nodes) if not _is_known(node)]
        missing = [str(error)]
        if problems:
            missing.append(lacking_text(model.name, _by_kind(node for node, _ in problems)))
    facts["operators"] = [*_rows(model, problems)]
    facts["missing"] = missing
    facts["problems"] = [
        {"operator": node.kind, "node": node.name or node.outputs[0], "reason": reason or "its operator is missing"}
        for node, reason in problems
    ]
    facts["notes"] = [*notes, *_folded(model)]
    if found is not None and not problems:
        draft = simplify(found.draft)
        for row, layer in zip(facts["outputs"], draft.outputs, strict=True):
            row["shape"] = ["N", *draft.shape(layer)]
        facts["notes"] += _endings(draft, model.outputs)
        try:
            facts |= _costs(draft.net(), draft.size(), batch_size)
        except Im2colnetError as error:  # images that are too large for any memory
            facts["missing"].append(str(error))
    return facts


def every_node(nodes: Iterable[OnnxNode]) -> Iterator[OnnxNode]:
    """Yield nodes, and those of their branches."""
    for node in nodes:
        yield node
        for value in node.attributes.values():
            if isinstance(value, Branch):
                yield from every_node(value.nodes)


def _rows(model: OnnxModel, problems: Sequence[tuple[OnnxNode, str]]) -> Iterator[dict[str, Any]]:
    """Yield a row for each operator: its number of nodes, and the layers that it becomes."""
    refused = Counter(node.kind for node, reason in problems if reason)
    lacking = {node.kind for node, reason in problems if not reason}
    for kind, nodes in sorted(_by_kind(every_node(model.nodes)).items(), key=lambda row: -len(row[1])):
        importer = None if nodes[0].domain else IMPORTERS.get(nodes[0].op)
        yield {
            "operator": kind,
            "nodes": len(nodes),
            "layer": importer.layer if importer else "",
            "missing": kind in lacking,
            "refused": refused[kind],
        }


def _by_kind(nodes: Iterable[OnnxNode]) -> dict[str, list[OnnxNode]]:
    found: dict[str, list[OnnxNode]] = {}
    for node in nodes:
        found.setdefault(node.kind, []).append(node)
    return found


def _is_known(node: OnnxNode) -> bool:
    return not node.domain and (node.op in IMPORTERS or node.op == "If" or foldable(node))


def _folded(model: OnnxModel) -> Iterator[str]:
    """Yield a note if the exporter has probably folded the batch norms."""
    kinds = Counter(node.op for node in every_node(model.nodes))
    norms = sum(number for kind, number in kinds.items() if kind.endswith("Normalization"))
    if kinds["Conv"] >= MANY and not norms:
        yield (
            f"it has {kinds['Conv']} convolutions and no batch norm: if the network had batch norms, the exporter has"
            " folded them into the convolutions; to train the network further, export it with them (PyTorch: training="
            "torch.onnx.TrainingMode.PRESERVE or TRAINING)"
        )


def _endings(draft: Draft, outputs: Sequence[str]) -> Iterator[str]:
    """Yield notes on the loss that suits the last layers."""
    for output, name, score in zip(outputs, draft.outputs, draft.scores(), strict=True):
        last = draft.entries[name].layer
        which = f"output {quoted(output)} is" if len(outputs) > 1 else "it returns"
        if score != name:
            yield f"{which} the probabilities of a softmax; in training the loss gets the scores before the softmax"
        elif isinstance(last, LogSoftmax):
            yield f"{which} the logarithms of a softmax: train it with NLLLoss, not with CrossEntropyLoss"
        elif isinstance(last, Sigmoid):
            yield f"{which} the output of a sigmoid, but BCEWithLogitsLoss contains a sigmoid: train without it"


def _costs(net: Net, size: int, batch_size: int) -> dict[str, Any]:
    """Return the parameters of a network, its FLOPs for a sample, and its memory for a batch.

    ``size`` is how many numbers its parameters and its state have.
    """
    shape = net.check_shape(None)
    layers = net.summary_facts(shape, 1)
    memory: dict[str, Any] = {"batch_size": batch_size}
    for purpose in ("inference", "training"):
        planned = net.plan(batch_size, shape, training=purpose == "training")
        memory[purpose] = size * ITEM_BYTES[planned.dtype] + sum(planned.memory().values())
    return {
        "input_shape": list(shape),
        "layers": len(layers["layers"]),
        "parameters": layers["parameters"],
        "flops": layers["flops"],
        "memory": memory,
    }
