"""Import and export of networks as ONNX files.

Only this module uses the package ``onnx``, and only when a function is called: ``pip install 'im2colnet[onnx]'``.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

from im2colnet.backend import Backend
from im2colnet.errors import InputWarning, ModelError
from im2colnet.network import Net
from im2colnet.onnx import importers  # noqa: F401 - they register themselves
from im2colnet.onnx.inspection import inspect
from im2colnet.onnx.read import read, too_large
from im2colnet.onnx.simplify import simplify
from im2colnet.onnx.translate import IMPORTERS, Importer, translate
from im2colnet.onnx.write import save

__all__ = ["inspect", "load", "save", "supported"]


def load(
    source: Any,
    input_shape: Sequence[int] | None = None,
    *,
    max_bytes: int = 2 << 30,
    backend: str | Backend | None = None,
) -> Net:
    """Convert an ONNX model to a network.

    The result is a network of this library's layers: it can be trained, saved as a checkpoint, and exported again. Its
    parameters have the same names as in the file. ``predict`` returns the outputs of the model. A loss gets the scores
    before a final softmax.

    Parameters
    ----------
    source : path, bytes or onnx.ModelProto
        The file, its content, or the model as the package onnx has read it.
    input_shape : (C, H, W), (C, L) or (features,), optional
        The shape of a sample, if the file does not give it. The channels are first, whatever the order in the file is.
    max_bytes : int
        The largest size in bytes of the file, of all its constants together, and of the parameters that are made of
        them.
    backend : str or Backend, optional
        The backend of the parameters; see :func:`im2colnet.get_backend`.

    Returns
    -------
    Net
        A network with the file's weights.

    Raises
    ------
    ModelError
        If the file cannot be read, or the network needs something unsupported; the message lists all of it.

    Warns
    -----
    InputWarning
        If the network differs from what the file says, for example for a batch norm in training mode.

    Examples
    --------
    >>> net = ic.models.lenet5(classes=3).init(seed=0)
    >>> ic.onnx.save(net, "lenet5.onnx")
    >>> again, x = ic.onnx.load("lenet5.onnx"), np.ones((2, 1, 28, 28))
    >>> bool(abs(again.predict(x) - net.predict(x)).max() < 1e-5)
    True
    """
    model = read(source, max_bytes)
    found = translate(model, input_shape, max_bytes)
    found.check()
    for note in found.notes:
        warnings.warn(f"{model.name}: {note}", InputWarning, stacklevel=2)
    draft = simplify(found.draft)
    if 4 * draft.size() > max_bytes:
        raise ModelError(f"{model.name}: {too_large(4 * draft.size(), max_bytes, 'the parameters of its layers')}")
    return draft.network(backend)


def supported() -> list[Importer]:
    """Return a row for each operator that :func:`load` supports: its opsets, the resulting layers, and limits.

    Returns
    -------
    list of Importer
        Objects with ``operator``, ``opsets``, ``becomes`` and ``limits``, sorted by the operators' names.

    Examples
    --------
    >>> rows = {row.operator: row for row in ic.onnx.supported()}
    >>> "Conv" in rows, "LSTM" in rows
    (True, False)
    """
    return sorted(IMPORTERS.values(), key=lambda row: row.operator.lower())
