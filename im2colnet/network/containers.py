"""Networks from given layers: layers in a sequence, layers with a skip connection, or any graph by names."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from im2colnet.errors import ShapeError
from im2colnet.layers import Add, Layer
from im2colnet.layers.base import GraphBuilder
from im2colnet.layout import user_shape
from im2colnet.network.network import Network
from im2colnet.types import Shape


class Sequential(Network):
    """A sequence of layers, applied one after the other; layer ``i`` has the name ``"i"``.

    ``net[i]`` is a layer, ``net[a:b]`` a new network of some of the layers, without parameters, and ``len(net)`` the
    number of layers. ``net["3.conv"]`` is a layer by its name, here a layer of a network in this network.

    Parameters
    ----------
    layers : sequence of Layer
        The layers, which may be networks.
    *more : Layer
        Not accepted: give the layers as a list.

    Raises
    ------
    ShapeError
        If the list is empty, or an element is not a layer.

    Examples
    --------
    >>> layers = [ic.Conv2d(1, 4, 3), ic.ReLU(), ic.MaxPool2d(2)]
    >>> net = ic.Sequential(layers).init(seed=0)
    >>> net.predict(np.zeros((5, 1, 8, 8))).shape
    (5, 4, 3, 3)
    >>> net[0]
    Conv2d(1, 4, 3)
    """

    def __init__(self, layers: Sequence[Layer], *more: Layer) -> None:
        if isinstance(layers, Layer) or more:
            raise ShapeError("give the layers as a list: ic.Sequential([...])")
        self.layers = list(layers)
        for i, layer in enumerate(self.layers):
            _check_layer(f"layer {i}", layer, "ic.Conv2d(...)")
        if not self.layers:
            raise ShapeError("a network needs at least one layer")

    def __len__(self) -> int:
        return len(self.layers)

    def __iter__(self) -> Iterator[Layer]:
        return iter(self.layers)

    def __getitem__(self, place: Any) -> Any:
        if isinstance(place, str):
            return super().__getitem__(place)
        found = self.layers[place]
        return Sequential(found) if isinstance(found, list) else found

    def children(self) -> dict[str, Layer]:
        return {str(i): layer for i, layer in enumerate(self.layers)}

    def put(self, key: str, layer: Layer) -> None:
        self.layers[int(key)] = layer

    def build(self, graph: GraphBuilder, name: str, *inputs: int) -> Any:
        made: Any = inputs
        for key, layer in self.children().items():
            made = layer.build(graph, f"{name}.{key}" if name else key, *(made if isinstance(made, tuple) else (made,)))
        return made


class Residual(Network):
    """Residual block with a skip connection, ``y = body(x) + shortcut(x)``; its parts are ``body`` and ``shortcut``.

    Both branches give the same shape.

    Parameters
    ----------
    body : Layer
        The main branch: a layer, or a :class:`Sequential` of several layers.
    shortcut : Layer, optional
        The skip connection; by default the input itself.

    Raises
    ------
    ShapeError
        If a part is not a layer; or, when the network is used, if the branches give different shapes.

    Notes
    -----
    He et al. 2015 (arXiv:1512.03385, equation 1).

    Examples
    --------
    >>> body = ic.Conv2d(8, 8, 3, padding=1)
    >>> net = ic.Sequential([ic.Residual(body), ic.ReLU()]).init()
    >>> [*net.parameters()]
    ['0.body.weight', '0.body.bias']
    """

    def __init__(self, body: Layer, shortcut: Layer | None = None) -> None:
        for name, part in (("body", body), ("shortcut", shortcut or body)):
            _check_layer(name, part, "ic.Sequential([...])")
        self.body, self.shortcut = body, shortcut

    def children(self) -> dict[str, Layer]:
        return {"body": self.body} | ({} if self.shortcut is None else {"shortcut": self.shortcut})

    def build(self, graph: GraphBuilder, name: str, *inputs: int) -> Any:
        prefix = f"{name}." if name else ""
        y = self.body.build(graph, prefix + "body", *inputs)
        other = inputs[0] if self.shortcut is None else self.shortcut.build(graph, prefix + "shortcut", *inputs)
        return graph.add(ResidualAdd(), prefix + "add", y, other)


class ResidualAdd(Add):
    """The sum of a residual block, whose branches must have equal shapes."""

    def __repr__(self) -> str:
        return "Add()"

    def output_shape(self, *x: Shape) -> Shape:
        body, shortcut = x
        if body != shortcut:
            raise ShapeError(
                f"the branches of a residual block must agree: the body gives {user_shape(body)}, the shortcut"
                f" {user_shape(shortcut)}; give a shortcut that changes the shape as the body does"
            )
        return body


class Net(Network):
    """A network of any graph of layers, which refer to each other by names.

    Parameters
    ----------
    layers : dict of str to Layer or (Layer, str, ...)
        The layers by name, each after the layers whose outputs it reads. A layer without a tuple reads the output of
        the layer before it; the first layer reads the network's input. A tuple names the inputs of its layer: layers of
        the dict, or "input".
    outputs : sequence of str, optional
        The layers that give the network's outputs; by default the last layer. With several outputs
        :meth:`~im2colnet.Network.predict` returns a tuple.
    scores : sequence of str, optional
        The layers whose outputs the loss gets in place of the network's outputs, one for each output: for example the
        layer before a :class:`Softmax`, for a :class:`CrossEntropyLoss`. By default the loss gets the outputs. Training
        and evaluation skip the layers after the scores; these layers must have no parameters.

    Raises
    ------
    ShapeError
        If a name is unknown, or no layer and no output reads the output of a layer.

    Examples
    --------
    >>> net = ic.Net(
    ...     {
    ...         "stem": ic.Conv2d(3, 8, 3, padding=1),
    ...         "left": (ic.Conv2d(8, 8, 3, padding=1), "stem"),
    ...         "right": (ic.Conv2d(8, 8, 1), "stem"),
    ...         "join": (ic.Concat(), "left", "right"),
    ...     }
    ... )
    >>> net.init().predict(np.zeros((1, 3, 8, 8))).shape
    (1, 16, 8, 8)
    """

    def __init__(
        self, layers: Mapping[str, Any], outputs: Sequence[str] | None = None, scores: Sequence[str] | None = None
    ) -> None:
        if not isinstance(layers, Mapping) or not layers:
            raise ShapeError(f'layers must be a dict such as {{"conv": ic.Conv2d(...)}}, got {layers!r:.80}')
        self.layers: dict[str, Any] = {}
        for name, entry in layers.items():
            if not isinstance(name, str) or not name or name == "input":
                raise ShapeError(f"a layer's name must be text, and not \"input\" (the network's input), got {name!r}")
            layer, *reads = entry if isinstance(entry, (tuple, list)) and entry else [entry]
            _check_layer(f"layer {name!r}", layer, "ic.Conv2d(...), or a tuple of one and the names that it reads")
            for read in reads:
                if read != "input" and read not in self.layers:
                    known = ["input", *self.layers]
                    later = " (it comes later)" if read in layers else ""
                    raise ShapeError(f"layer {name!r} reads {read!r}{later}; before it there are: {', '.join(known)}")
            self.layers[name] = (layer, *reads) if reads else layer
        for name in self.layers:
            parts = name.split(".")
            for i in range(1, len(parts)):
                if (outer := ".".join(parts[:i])) in self.layers:
                    raise ShapeError(f"the names {outer!r} and {name!r} cannot both be names of layers: rename one")
        self.outputs = [next(reversed(self.layers))] if outputs is None else self._check_names("outputs", outputs)
        self.scores = None if scores is None else self._check_names("scores", scores)

    def _check_names(self, what: str, names: Sequence[str]) -> list[str]:
        names = [names] if isinstance(names, str) else [*names]
        for name in names:
            if name not in self.layers:
                raise ShapeError(
                    f"{what} name a layer {name!r}, which does not exist; there are: {', '.join(self.layers)}"
                )
        if not names or len({*names}) < len(names):
            raise ShapeError(f"{what} must name layers, each of them once, got {names}")
        return names

    def __len__(self) -> int:
        return len(self.layers)

    def score_names(self) -> Sequence[str]:
        return self.scores or ()

    def children(self) -> dict[str, Layer]:
        return {name: entry[0] if isinstance(entry, tuple) else entry for name, entry in self.layers.items()}

    def put(self, key: str, layer: Layer) -> None:
        entry = self.layers[key]
        self.layers[key] = (layer, *entry[1:]) if isinstance(entry, tuple) else layer

    def build(self, graph: GraphBuilder, name: str, *inputs: int) -> Any:
        values: dict[str, Any] = {"input": inputs[0]}
        for key, entry in self.layers.items():
            layer, *reads = entry if isinstance(entry, tuple) else (entry, next(reversed(values)))
            values[key] = layer.build(graph, f"{name}.{key}" if name else key, *(values[read] for read in reads))
        made = tuple(values[key] for key in self.outputs)
        return made if len(made) > 1 else made[0]


def _check_layer(name: str, layer: Any, example: str) -> None:
    if not isinstance(layer, Layer):
        raise ShapeError(f"{name} must be a layer such as {example}, got {layer!r}")
