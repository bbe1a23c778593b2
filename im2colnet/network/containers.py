"""Networks of layers: one after the other, and with a shortcut around them."""

from __future__ import annotations

from collections.abc import Sequence

from im2colnet.errors import ShapeError
from im2colnet.layers import Add, Layer
from im2colnet.layers.base import GraphBuilder
from im2colnet.network.network import Network


class Sequential(Network):
    """Layers one after the other; layer ``i`` has the name ``"i"``.

    Parameters
    ----------
    layers : sequence of Layer
    """

    def __init__(self, layers: Sequence[Layer], *more: Layer) -> None:
        if isinstance(layers, Layer) or more:
            raise ShapeError("give the layers as a list: ic.Sequential([...])")
        self.layers = list(layers)
        for i, layer in enumerate(self.layers):
            if not isinstance(layer, Layer):
                raise ShapeError(f"layer {i} must be a layer such as ic.Conv2d(...), got {layer!r}")
        if not self.layers:
            raise ShapeError("a network needs at least one layer")

    def children(self) -> dict[str, Layer]:
        return {str(i): layer for i, layer in enumerate(self.layers)}

    def build(self, graph: GraphBuilder, name: str, x: int) -> int:
        for key, layer in self.children().items():
            x = layer.build(graph, f"{name}.{key}" if name else key, x)
        return x


class Residual(Network):
    """``y = body(x) + shortcut(x)`` (He et al. 2015, arXiv:1512.03385); its parts are ``body`` and ``shortcut``.

    Parameters
    ----------
    body : Layer
    shortcut : Layer, optional
        By default the input itself.
    """

    def __init__(self, body: Layer, shortcut: Layer | None = None) -> None:
        for name, part in (("body", body), ("shortcut", shortcut or body)):
            if not isinstance(part, Layer):
                raise ShapeError(f"{name} must be a layer such as ic.Sequential([...]), got {part!r}")
        self.body, self.shortcut = body, shortcut

    def children(self) -> dict[str, Layer]:
        return {"body": self.body} | ({} if self.shortcut is None else {"shortcut": self.shortcut})

    def build(self, graph: GraphBuilder, name: str, x: int) -> int:
        prefix = f"{name}." if name else ""
        y = self.body.build(graph, prefix + "body", x)
        other = x if self.shortcut is None else self.shortcut.build(graph, prefix + "shortcut", x)
        return graph.add(Add(), prefix + "add", y, other)
