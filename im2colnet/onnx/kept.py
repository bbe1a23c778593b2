"""Facts about a layer that ONNX cannot express: they are stored with the node, so that a file restores the network.

Other programs do not read them. Examples: a batch norm has no weight, or whole channels are dropped in training.
"""

from __future__ import annotations

import json
from typing import Any

from im2colnet.errors import Im2colnetError
from im2colnet.layers import (
    BatchNorm1d,
    BatchNorm2d,
    Dropout2d,
    GroupNorm,
    InstanceNorm2d,
    Layer,
    LayerNorm,
    RMSNorm,
    StochasticDepth,
)

#: what it is called among the metadata of a node
KEY = "im2colnet.layer"
#: characters that a file may have there
LONGEST = 1000
#: operator -> the classes that its nodes may be of
KINDS: dict[str, tuple[type[Layer], ...]] = {
    "BatchNormalization": (BatchNorm1d, BatchNorm2d, InstanceNorm2d),
    "Dropout": (Dropout2d, StochasticDepth),
    "GroupNormalization": (GroupNorm,),
    "InstanceNormalization": (InstanceNorm2d,),
    "LayerNormalization": (LayerNorm,),
    "RMSNormalization": (RMSNorm,),
}


def described(layer: Layer) -> str:
    """Return a layer's class and arguments as text; "" if ONNX expresses all of it, or for a user's class."""
    known = type(layer) in {kind for kinds in KINDS.values() for kind in kinds}
    if not known or "num_batches_tracked" in layer.state() or _is_plain(layer):
        return ""
    return json.dumps([type(layer).__name__, layer.config()], sort_keys=True)


def _is_plain(layer: Layer) -> bool:
    """Whether a layer is a norm that has what its operator has in ONNX, and nothing beside that."""
    arguments = layer.config()
    affine = all(arguments.get(name, True) for name in ("affine", "elementwise_affine", "bias"))
    as_batch_norm = isinstance(layer, InstanceNorm2d) and layer.track_running_stats
    return "p" not in arguments and affine and not as_batch_norm and arguments.get("eps") is not None


def restored(text: str, op: str) -> Layer | None:
    """Return the layer that a node's text describes; None if the text does not suit the node."""
    kinds = {kind.__name__: kind for kind in KINDS.get(op, ())}
    try:
        name, arguments = json.loads(text[:LONGEST])
        return kinds[name](**arguments)
    except (Im2colnetError, KeyError, TypeError, ValueError, RecursionError):
        return None


def fitting(layer: Layer, weights: dict[str, Any]) -> dict[str, Any] | None:
    """Return the arrays that are a layer's parameters and state; None if some are missing."""
    wanted = {**layer.parameters(), **layer.state()}
    if any(name not in weights or weights[name].shape != each.shape for name, each in wanted.items()):
        return None
    return {name: weights[name] for name in wanted}
