"""A network as an ONNX file: each layer writes its nodes, by the function that :mod:`im2colnet.onnx.exporters` has."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import IO, TYPE_CHECKING, Any
from zlib import crc32

from im2colnet.checks import one_of, whole
from im2colnet.errors import ModelError, ShapeError, install
from im2colnet.files import replace_file
from im2colnet.graph.nodes import locate
from im2colnet.host import np
from im2colnet.layout import internal_shape, user_shape
from im2colnet.network import Net, Network
from im2colnet.onnx.exporters import GraphWriter, NodeWriter, exporter_of
from im2colnet.types import Shape
from im2colnet.version import __version__

if TYPE_CHECKING:
    from onnx import ModelProto, TensorProto

#: the oldest version of ONNX's operators that is written
OLDEST = 7
#: bytes of weights that one file holds; protobuf's limit is 2 GiB
MOST_WITHIN = 1_900_000_000
#: bytes of an array from which on it goes to a second file, where there is one
LEAST_OUTSIDE = 1024
#: bytes to whose multiples arrays in a second file are moved, so that it can be mapped into memory
PAGE = 4096


def save(
    net: Network,
    path: str | os.PathLike[str],
    input_shape: Sequence[int] | None = None,
    *,
    opset: int = 22,
    external_data: bool | None = None,
) -> None:
    """Write a network, as it predicts, as an ONNX file for other programs.

    The file takes a batch of any size as ``"input"``, (N, C, H, W) of float32 (or the network's float64), and gives
    ``"output"``, or for several outputs the names of their layers. Weights have the names of :meth:`state_dict`. Images
    are not scaled: whoever gives uint8 to :meth:`predict` gives numbers from 0 to 1 to the file.
    ``net.normalization`` is a part of it. The same network is the same file, byte for byte.

    Parameters
    ----------
    net : Network
        With parameters.
    path : str or path
        It is written whole or not at all; a file that is there is overwritten.
    input_shape : tuple of int, optional
        (C, H, W) of the images; by default the one that the network was made for, or that of its first batch. The file
        is for this size.
    opset : int
        The version of ONNX's operators, 7 or more. A lower one is for older programs; not all layers can be written so.
    external_data : bool, optional
        Whether weights go to a second file beside the first one, whose name begins with the first one's and has a
        checksum in it, so that an interrupted save leaves the files before it as they were. By default only if there
        are more than 1.9 GB of them.

    Raises
    ------
    ModelError
        If ONNX cannot say what a layer does, or not in this opset; the message names all such layers. A layer of your
        own says how it is written by a method ``to_onnx``.
    ShapeError
        If the images' shape is not known.
    CheckpointError
        If the file cannot be written.

    Examples
    --------
    >>> ic.onnx.save(ic.models.lenet5().init(seed=0), "lenet5.onnx")
    >>> ic.onnx.inspect("lenet5.onnx")["inputs"]
    [{'name': 'input', 'shape': ['N', 1, 28, 28], 'type': 'float32'}]
    """
    one_of("external_data", external_data, None, True, False)
    model, arrays = written(net, input_shape, opset)
    size = sum(array.nbytes for array in arrays.values())
    if external_data or (external_data is None and size > MOST_WITHIN):
        _save_beside(model, arrays, path)
    else:
        model.graph.initializer.extend(_tensor(*each) for each in arrays.items())
    replace_file(path, model.SerializeToString(deterministic=True))


def model_of(net: Network, input_shape: Sequence[int] | None = None, opset: int = 22) -> ModelProto:
    """Return what :func:`save` writes, as a model of the package onnx."""
    model, arrays = written(net, input_shape, opset)
    model.graph.initializer.extend(_tensor(*each) for each in arrays.items())
    return model


def written(
    net: Network, input_shape: Sequence[int] | None = None, opset: int = 22
) -> tuple[ModelProto, dict[str, Any]]:
    """Return a network as a model of ONNX without its constants, and these by name; see :func:`save`."""
    try:
        from onnx import defs, helper
    except ImportError as error:
        raise ModelError(f"ONNX files need the package onnx: {install('onnx')}") from error
    if not isinstance(net, Network):
        raise ShapeError(f"a network is written, such as ic.Sequential([layer]), got {net!r:.80}")
    newest = defs.onnx_opset_version()
    if not OLDEST <= whole("opset", opset) <= newest:
        raise ModelError(f"opset must be from {OLDEST} to {newest}, which the installed onnx knows, got {opset}")
    sample = net.check_shape(input_shape)
    if net.normalization is not None:
        net.held.normalization.check((1, *sample))  # type: ignore[union-attr]
    state, dtype = net.state_dict(), net.dtype
    graph = net.graph
    shapes = [user_shape(shape)[1:] for shape in graph.shapes(internal_shape(sample, 1))]
    outputs = _output_names(net)
    writer = GraphWriter(opset, state, dtype, ["input", *outputs])
    _write_layers(net, writer, shapes, outputs)

    def value_of(name: str, shape: Shape) -> Any:
        return helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(np.dtype(dtype)), ["N", *shape])

    made = [value_of(name, shapes[v]) for name, v in zip(outputs, graph.outputs, strict=True)]
    whole_graph = helper.make_graph(writer.nodes, type(net).__name__, [value_of("input", sample)], made)
    opsets = [helper.make_opsetid("", opset)]
    model = helper.make_model(
        whole_graph,
        opset_imports=opsets,
        ir_version=max(4, helper.find_min_ir_version_for(opsets)),  # from 4 on, constants are no inputs
        producer_name="im2colnet",
        producer_version=__version__,
    )
    _check(model, writer.constants)
    return model, writer.constants


def _output_names(net: Network) -> list[str]:
    """Return the name of each output: those of layers, if there are several."""
    if len(net.graph.outputs) == 1:
        return ["output"]
    made = [net.graph.nodes[v - 1].name for v in net.graph.outputs]
    return [*net.outputs] if isinstance(net, Net) else made


def _write_layers(net: Network, writer: GraphWriter, shapes: Sequence[Shape], outputs: Sequence[str]) -> None:
    """Write the nodes of all layers; those that cannot be written are named in one error."""
    from onnx import helper

    graph, problems = net.graph, []
    names = dict(zip(graph.outputs, outputs, strict=True))
    values = {0: _normalized(net, writer, len(shapes[0]))}
    for layer in graph.nodes:
        inputs = [values[v] for v in layer.inputs]
        value = names.get(layer.output) or writer.unique(layer.name)
        node = NodeWriter(writer, layer, [shapes[v] for v in layer.inputs], shapes[layer.output], value)
        values[layer.output] = value
        try:
            with locate(layer):
                values[layer.output] = node.close(exporter_of(layer.layer)(layer.layer, node, inputs))
        except ModelError as error:
            problems.append(str(error))
    if problems:
        raise ModelError("\n".join(problems))
    for v, name in names.items():
        if values[v] != name:  # a layer that does nothing, or a value that is given twice
            writer.nodes.append(
                helper.make_node("Identity", [values[v]], [name], name=writer.unique(f"{name}/Identity"))
            )


def _normalized(net: Network, writer: GraphWriter, axes: int) -> str:
    """Write the normalisation of the images, if there is one, and return the name of what the first layer reads."""
    from onnx import helper

    if net.normalization is None:
        return "input"
    x = "input"
    for op, key, numbers in zip(("Sub", "Div"), ("mean", "std"), net.normalization, strict=True):
        constant, output = writer.unique(f"normalization/{key}"), writer.unique(f"normalization/{op}")
        writer.constants[constant] = np.array(numbers, writer.dtype).reshape(-1, *[1] * (axes - 1))
        writer.nodes.append(helper.make_node(op, [x, constant], [output], name=output))
        x = output
    return x


def _check(model: ModelProto, constants: Mapping[str, Any]) -> None:
    """Raise a ModelError unless the model is what ONNX knows, and gives outputs of the shapes that it says.

    Large constants stand for themselves as inputs, so that nothing is copied.
    """
    import onnx

    trial = onnx.ModelProto()
    trial.CopyFrom(model)
    for name, array in constants.items():
        if array.nbytes < LEAST_OUTSIDE:
            trial.graph.initializer.append(_tensor(name, array))
        else:
            kind = onnx.helper.np_dtype_to_tensor_dtype(array.dtype)
            trial.graph.input.append(onnx.helper.make_tensor_value_info(name, kind, array.shape))
    try:
        onnx.checker.check_model(trial, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise ModelError(f"what a layer's to_onnx has written is no ONNX: {error}") from error


def _tensor(name: str, array: Any) -> TensorProto:
    from onnx import numpy_helper

    return numpy_helper.from_array(np.ascontiguousarray(array).reshape(array.shape), name)


def _save_beside(model: ModelProto, arrays: Mapping[str, Any], path: str | os.PathLike[str]) -> None:
    """Write the large arrays to a file beside ``path``, and give them to the model as parts of it."""
    from onnx import TensorProto, helper

    outside = {name: array for name, array in arrays.items() if array.nbytes >= LEAST_OUTSIDE}
    checksum, place, entries = 0, 0, {}
    for name, array in outside.items():
        entries[name] = place
        checksum = crc32(np.ascontiguousarray(array).data, checksum)
        place += -(-array.nbytes // PAGE) * PAGE
    target = os.path.realpath(os.fsdecode(path))
    location = f"{os.path.basename(target)}.{checksum:08x}.data"

    def write(file: IO[bytes]) -> None:
        for name, array in outside.items():
            file.write(b"\0" * (entries[name] - file.tell()))
            file.write(np.ascontiguousarray(array).data)

    if outside:
        replace_file(os.path.join(os.path.dirname(target), location), write)
    for name, array in arrays.items():
        if name not in outside:
            model.graph.initializer.append(_tensor(name, array))
            continue
        tensor = TensorProto(
            name=name,
            dims=array.shape,
            data_type=helper.np_dtype_to_tensor_dtype(array.dtype),
            data_location=TensorProto.EXTERNAL,
        )
        for key, value in ("location", location), ("offset", entries[name]), ("length", array.nbytes):
            tensor.external_data.add(key=key, value=str(value))
        model.graph.initializer.append(tensor)
