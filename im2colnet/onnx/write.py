"""Export of a network as an ONNX file: :mod:`im2colnet.onnx.exporters` has a function for each layer's nodes."""

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
    """Export a network, in evaluation mode, as an ONNX file for other programs.

    The model's input is called ``"input"``: a batch of any size, (N, C, H, W), of float32 (or float64, if the network
    computes in float64). Its output is called ``"output"``; several outputs have the names of their layers. Weights
    have the names of :meth:`~im2colnet.Network.state_dict`. The model does not scale images: where
    :meth:`~im2colnet.Network.predict` takes uint8, the model takes numbers from 0 to 1. It includes
    ``net.normalization``. The same network gives the same file, byte for byte.

    Parameters
    ----------
    net : Network
        A network with parameters.
    path : str or path
        The file. It is written whole or not at all; an existing file is overwritten.
    input_shape : tuple of int, optional
        The shape (C, H, W) of the images, which is fixed in the file. By default the shape that the network was made
        for, or that of its first batch.
    opset : int
        The version of ONNX's operators, 7 or more. Older programs need a lower version, which does not support all
        layers.
    external_data : bool, optional
        Whether weights go to a second file in the same folder. Its name begins with the name of the first file and
        contains a checksum, so that an interrupted save does not damage earlier files. By default only weights of more
        than 1.9 GB go to a second file.

    Raises
    ------
    ModelError
        If ONNX, or this opset, cannot express a layer; the message names all such layers. Your own layer needs a method
        ``to_onnx``.
    ShapeError
        If the shape of the images is not known.
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
    """Return the model that :func:`save` writes, as an object of the package onnx."""
    model, arrays = written(net, input_shape, opset)
    model.graph.initializer.extend(_tensor(*each) for each in arrays.items())
    return model


def written(
    net: Network, input_shape: Sequence[int] | None = None, opset: int = 22
) -> tuple[ModelProto, dict[str, Any]]:
    """Return a network as an ONNX model without its constants, and the constants by name; see :func:`save`."""
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
    """Write the normalization of the images, if there is one, and return the name of the first layer's input."""
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
    """Raise a ModelError unless the model is valid ONNX, and its outputs have the shapes that it declares.

    Large constants are replaced by inputs, so that they are not copied.
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
        raise ModelError(f"a layer's to_onnx has written invalid ONNX: {error}") from error


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
